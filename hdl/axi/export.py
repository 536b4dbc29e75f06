"""A register map for software and tools: JSON, CMSIS-SVD, C header."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

from ternac.hdl.axi.registers import RegisterMap

__all__ = ["c_header", "svd", "to_json"]


def to_json(table: RegisterMap) -> str:
    """The map as one JSON object."""
    registers = [
        {
            "name": each.name,
            "offset": each.offset,
            "access": each.access.value[0],
            "description": each.text,
            "fields": [
                {"name": part.name, "low": part.low, "bits": part.bits, "description": part.text}
                for part in each.fields
            ],
        }
        for each in table.registers
    ]
    content = {
        "block": table.block,
        "version": table.version,
        "bytes": 4 * table.words,
        "registers": registers,
    }
    return json.dumps(content, indent=2) + "\n"


def svd(table: RegisterMap) -> str:
    """A CMSIS-SVD device with one peripheral at address 0."""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<device schemaVersion="1.3">',
        f"<vendor>ternac</vendor><name>{table.block}</name><version>{table.version}</version>",
        f"<description>{table.text}</description>",
        "<addressUnitBits>8</addressUnitBits><width>32</width><size>32</size>",
        "<peripherals><peripheral>",
        f"<name>{table.block}</name><baseAddress>0</baseAddress>",
        f"<addressBlock><offset>0</offset><size>{4 * table.words}</size><usage>registers</usage>",
        "</addressBlock>",
        "<registers>",
    ]
    for each in table.registers:
        access, effect = each.access.value
        lines += [
            f"<register><name>{each.name}</name><description>{escape(each.text)}</description>",
            f"<addressOffset>{each.offset:#x}</addressOffset><access>{access}</access>{effect}",
        ]
        if each.fields:
            lines.append("<fields>")
            lines += [
                f"<field><name>{part.name}</name><description>{escape(part.text)}</description>"
                f"<bitOffset>{part.low}</bitOffset><bitWidth>{part.bits}</bitWidth></field>"
                for part in each.fields
            ]
            lines.append("</fields>")
        lines.append("</register>")
    lines += ["</registers>", "</peripheral></peripherals>", "</device>"]
    return "\n".join(lines) + "\n"


def c_header(table: RegisterMap) -> str:
    """Offsets, shifts and masks as macros."""
    lines = [
        f"/* Registers of the {table.block} block, version {table.version}. Generated; byte offsets. */",
        f"#ifndef {table.block}_REGS_H",
        f"#define {table.block}_REGS_H",
        "",
        f"#define {table.block}_MAP_VERSION {table.version}u",
        f"#define {table.block}_MAP_BYTES {4 * table.words:#x}u",
    ]
    for each in table.registers:
        name = f"{table.block}_{each.name}"
        lines += ["", f"/* {each.text} ({each.access.value[0]}) */", f"#define {name} {each.offset:#04x}u"]
        for part in each.fields:
            mask = ((1 << part.bits) - 1) << part.low
            lines += [
                f"#define {name}_{part.name}_SHIFT {part.low}",
                f"#define {name}_{part.name}_MASK {mask:#x}u  /* {part.text} */",
            ]
    return "\n".join([*lines, "", f"#endif /* {table.block}_REGS_H */"]) + "\n"
