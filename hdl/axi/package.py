"""What other tools need of an AXI block besides its Verilog: register map, FuseSoC core, Vivado script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from ternac.hdl.axi.export import c_header, svd, to_json
from ternac.hdl.axi.registers import RegisterMap

__all__ = ["NAME", "TEXT", "Packaged", "axi_files", "fusesoc_core", "vivado_script"]

NAME = "ternac_axi"
TEXT = "Ternary language model engine: AXI4-Lite registers, AXI4-Stream frames"


def fusesoc_core(
    name: str, version: str, files: list[str], headers: list[str], waivers: str, text: str = TEXT
) -> str:
    """A CAPI2 core file for a top module ``name`` in Verilog ``files``, with C ``headers`` for software.

    YAML 1.2 contains JSON, so the content is written as JSON and needs no YAML writer.
    """
    content = {
        "name": f"::{name}:{version}",
        "description": text,
        "filesets": {
            "rtl": {"files": files, "file_type": "verilogSource-2005"},
            "waivers": {"files": [waivers], "file_type": "vlt"},
            "software": {
                "files": [{each: {"is_include_file": True}} for each in headers],
                "file_type": "user",
            },
        },
        "targets": {
            "default": {"filesets": ["rtl"], "toplevel": name},
            "lint": {
                "default_tool": "verilator",
                "filesets": ["waivers", "rtl"],
                "toplevel": name,
                "tools": {"verilator": {"mode": "lint-only", "verilator_options": ["-Wall"]}},
            },
        },
    }
    return "CAPI=2:\n" + json.dumps(content, indent=2) + "\n"


def vivado_script(name: str, version: str, files: list[str], buses: Mapping[str, str], map_bytes: int) -> str:
    """Tcl that packages the top module ``name`` as IP-XACT in the folder ``ip`` next to it.

    ``buses``: kinds of its AXI ports, ``aximm`` or ``axis``, by prefix; ``map_bytes`` of its registers.
    Run it as ``vivado -mode batch -source package_ip.tcl``.
    """
    sources = " ".join(f"[file join $here {file}]" for file in files)
    lines = [
        f"# Packages {name} as IP: vivado -mode batch -source package_ip.tcl",
        "set here [file dirname [file normalize [info script]]]",
        f"create_project -in_memory {name}",
        f"add_files -norecurse [list {sources}]",
        f"set_property top {name} [current_fileset]",
        "update_compile_order -fileset sources_1",
        f"ipx::package_project -root_dir [file join $here ip] -vendor ternac -library user -name {name} "
        "-taxonomy /UserIP -import_files -set_current true",
        "set core [ipx::current_core]",
        f"set_property version {version} $core",
        f"set_property display_name {{Ternac engine {name}}} $core",
        "ipx::infer_bus_interface clk xilinx.com:signal:clock_rtl:1.0 $core",
        "ipx::infer_bus_interface rst xilinx.com:signal:reset_rtl:1.0 $core",
        "set reset [ipx::get_bus_interfaces rst -of_objects $core]",
        "set polarity [ipx::add_bus_parameter POLARITY $reset]",
        "set_property value ACTIVE_HIGH $polarity",
        "ipx::infer_bus_interface irq xilinx.com:signal:interrupt_rtl:1.0 $core",
    ]
    for bus, kind in buses.items():
        lines += [
            f"if {{[llength [ipx::get_bus_interfaces {bus} -of_objects $core]] == 0}} {{",
            f"  ipx::infer_bus_interfaces xilinx.com:interface:{kind}_rtl:1.0 $core",
            "}",
            f"ipx::associate_bus_interfaces -busif {bus} -clock clk $core",
        ]
    lines += [
        "set map [ipx::get_memory_maps s_axi -of_objects $core]",
        "set block [lindex [ipx::get_address_blocks -of_objects $map] 0]",
        f"set_property range {max(4096, map_bytes)} $block",
        "ipx::create_xgui_files $core",
        "ipx::update_checksums $core",
        "ipx::save_core $core",
        "close_project",
    ]
    return "\n".join(lines) + "\n"


class Packaged(Protocol):
    """A top level that is packaged: its map, and its AXI ports, by prefix and vendor's kind."""

    @property
    def register_map(self) -> RegisterMap: ...

    @property
    def buses(self) -> Mapping[str, str]: ...


def axi_files(
    top: Packaged, source: str, waivers: str, *, name: str = NAME, text: str = TEXT
) -> dict[str, tuple[str, str]]:
    """Return the files that other tools need besides the Verilog ``source`` of module ``name``.

    By name, what each is and its text; ``waivers`` is the name of Verilator's control file, ``text`` says
    what the block is.
    """
    table = top.register_map
    header, version = "ternac_regs.h", f"{table.version}.0"
    return {
        "registers.json": ("register map", to_json(table)),
        "registers.svd": ("register map, CMSIS-SVD", svd(table)),
        header: ("register map, C header", c_header(table)),
        f"{name}.core": ("FuseSoC core", fusesoc_core(name, version, [source], [header], waivers, text)),
        "package_ip.tcl": (
            "Vivado: packages the IP",
            vivado_script(name, version, [source], top.buses, 4 * table.words),
        ),
    }
