"""``ternac integrate``: the engine as a block for a design made with other tools."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from amaranth.back import verilog

from ternac.cli.verb import Outcome, Say, Verb
from ternac.compile.geometry import PRESETS, preset
from ternac.compile.stream_layout import Encoding
from ternac.errors import UsageError
from ternac.files import write_text
from ternac.hdl.axi.export import c_header, svd, to_json
from ternac.hdl.axi.package import fusesoc_core, vivado_script
from ternac.hdl.axi.registers import MAP_VERSION
from ternac.hdl.axi.resources import PARTS, resources
from ternac.hdl.axi.top import AxiTop
from ternac.hdl.engine.core import EngineCore
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine, word_bytes
from ternac.hdl.stream.axi import PORT_BITS
from ternac.hdl.stream.matvec import StreamMatVec

NAME = "ternac_axi"
VERSION = f"{MAP_VERSION}.0"


def axi_design(geometry: str, port_bits: int, clock_hz: int) -> AxiTop:
    """The top level with an engine of a preset, and a streaming unit where ``port_bits`` is not 0."""
    shape = preset(geometry)
    identity = hashlib.sha256(f"{NAME} {MAP_VERSION} {port_bits} ".encode() + shape.hash).digest()[:16]
    link = LinkController(clock_hz, identity, shape.hash, word_bytes=word_bytes(shape))
    unit = StreamMatVec(port_bits=port_bits, encoding=Encoding.FIVE) if port_bits else None
    return AxiTop(LinkedEngine(EngineCore(shape), link, registered=shape.wide), unit)


def write_files(top: AxiTop, folder: Path) -> dict[str, str]:
    """Everything that another tool needs, in ``folder``; returns what each file is."""
    stream = top.stream is not None
    source, header = f"{NAME}.v", "ternac_regs.h"
    files = {
        source: ("Verilog of the top level", str(verilog.convert(top, name=NAME, emit_src=False))),
        "registers.json": ("register map", to_json(stream)),
        "registers.svd": ("register map, CMSIS-SVD", svd(stream)),
        header: ("register map, C header", c_header(stream)),
        f"{NAME}.core": ("FuseSoC core", fusesoc_core(NAME, VERSION, [source], [header])),
        "package_ip.tcl": ("Vivado: packages the IP", vivado_script(NAME, VERSION, [source], stream=stream)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, text) in files.items():
        write_text(folder / name, text)
    return {name: what for name, (what, _) in files.items()}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=PARTS, help="take geometry and port for this device")
    parser.add_argument("--geometry", choices=PRESETS, help="engine preset (default: the part's, or tiny)")
    parser.add_argument(
        "--port-bits",
        type=int,
        choices=(0, *PORT_BITS),
        help="with a streaming unit on an AXI4 port of that width; 0: without (default: the part's, or 0)",
    )
    parser.add_argument(
        "--resources", action="store_true", help="synthesize for the part and estimate what the block takes"
    )
    parser.add_argument(
        "--clock", type=float, default=100.0, metavar="MHZ", help="of the block, for HELLO (default: 100)"
    )
    parser.add_argument("--out", type=Path, default=Path("build/axi"), help="folder (default: build/axi)")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    if not 0 < args.clock < 4000:
        raise UsageError(f"--clock is {args.clock:g}, needs 0 to 4000")
    if args.resources and args.part is None:
        raise UsageError("--resources needs --part", f"parts: {', '.join(PARTS)}")
    part = PARTS.get(args.part)
    geometry = args.geometry or (part.geometry if part else "tiny")
    port_bits = args.port_bits if args.port_bits is not None else part.port_bits if part else 0
    if preset(geometry).streams:
        raise UsageError(f"{geometry} has its weights in an SDRAM on its own pins", "take another geometry")
    top = axi_design(geometry, port_bits, round(args.clock * 1e6))
    files = write_files(top, args.out)
    for name, what in files.items():
        say(f"{args.out / name}: {what}")
    data: dict[str, Any] = {
        "folder": str(args.out), "top": NAME, "geometry": geometry, "port_bits": port_bits,
        "files": files, "origin": "generated from the RTL and one register table",
    }  # fmt: skip
    if args.resources and part is not None:
        found = data["resources"] = resources(axi_design(geometry, port_bits, 0), part)
        say(
            f"{found['part']}: {found['lut']:,} LUT ({found['lut_share']:.1%}), {found['ff']:,} FF, "
            f"{found['bram36']:g} block RAMs, no DSP; {found['origin']}"
        )
    return Outcome(data)


VERBS = {
    "integrate": Verb(
        help="Write the engine as an AXI block: Verilog, register map, FuseSoC core, Vivado script.",
        example="ternac integrate --part kv260 --out build/axi",
        add_arguments=_arguments,
        run=_run,
    )
}
