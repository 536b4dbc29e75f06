"""The designs that are emitted as Verilog, by name: what each is, its module and its component."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ternac.compile.geometry import Geometry
from ternac.compile.stream_layout import Encoding
from ternac.errors import UsageError
from ternac.hdl.axi.registers import MAP_VERSION
from ternac.hdl.axi.rows import RowShape
from ternac.hdl.axi.top import AxiTop
from ternac.hdl.axi.wide import WideTop
from ternac.hdl.engine.core import EngineCore
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine, linked_engine, word_bytes
from ternac.hdl.stream.matvec import StreamMatVec
from ternac.hdl.wide.shapes import WideShape

__all__ = ["TOPS", "Port", "Top", "axi_design", "design", "ports_of", "stream_unit"]


@dataclass(frozen=True)
class Top:
    """A design: the name of its module, and what it is in a few words."""

    name: str
    module: str
    text: str


TOPS = {
    top.name: top
    for top in (
        Top("core", "ternac_core", "the bare engine: loader, start and done, bank reader"),
        Top("link", "ternac_link", "the engine behind its byte link: frames in and out as bytes"),
        Top(
            "axi", "ternac_axi", "the engine behind AXI4-Lite and AXI4-Stream, with a streaming unit on AXI4"
        ),
        Top(
            "wide",
            "ternac_wide",
            "an engine for whole MatMul-free models: AXI4-Lite, memory on AXI4",
        ),
        Top("stream", "ternac_stream", "the streaming matrix-vector unit alone, weights from an AXI4 port"),
    )
}
"""The byte link behind a UART is missing on purpose: the line's rate is the board's business."""


@dataclass(frozen=True)
class Port:
    """A port of the emitted module; ``output`` as the module sees it."""

    name: str
    bits: int
    output: bool


def stream_unit(port_bits: int) -> StreamMatVec:
    """Return the streaming unit on an AXI4 port of that width, five trits a byte."""
    return StreamMatVec(port_bits=port_bits, encoding=Encoding.FIVE)


def axi_design(shape: Geometry, port_bits: int, clock_hz: int) -> AxiTop:
    """Build the AXI block with an engine, and a streaming unit unless ``port_bits`` is 0."""
    identity = _identity(f"ternac_axi {MAP_VERSION} {port_bits} ", shape)
    link = LinkController(clock_hz, identity, shape.hash, word_bytes=word_bytes(shape))
    rows = RowShape.of(shape)
    engine = LinkedEngine(
        EngineCore(shape), link, registered=shape.pipelined_broadcast, shared=rows is not None
    )
    return AxiTop(engine, stream_unit(port_bits) if port_bits else None, rows=rows)


def design(top: Top, shape: Geometry | WideShape, *, port_bits: int = 0, clock_hz: int = 0) -> Any:
    """Return the component of a top; ``wide`` takes a WideShape, the others a Geometry.

    ``port_bits``: of the streaming unit, 0 for none. ``clock_hz`` is what the link's HELLO answers. Raises
    UsageError if the geometry has an SDRAM on pins of its own, or if a port is asked for that the top lacks.
    """
    if isinstance(shape, WideShape):
        return WideTop(shape.engine())
    if shape.has_sdram and top.name != "stream":
        raise UsageError(
            f"{shape.name} has its {'weights' if shape.streams else 'rows'} in an SDRAM on its own pins,"
            " and no testbench has a model of one",
            "take another geometry",
        )
    if top.name in ("core", "link") and port_bits:
        raise UsageError(
            f"--port-bits has no effect with --top {top.name}", "it works with --top axi or stream"
        )
    if top.name == "core":
        return EngineCore(shape)
    if top.name == "link":
        return linked_engine(shape, _identity("ternac_link ", shape), clock_hz)
    if top.name == "axi":
        return axi_design(shape, port_bits, clock_hz)
    if not port_bits:
        raise UsageError("the streaming unit needs an AXI4 port", "give --port-bits, 32 to 512")
    return stream_unit(port_bits)


def ports_of(component: wiring.Component) -> dict[str, tuple[Any, None]]:
    """Return what `amaranth.back.rtlil.convert` takes: the members by flat name, parts joined by ``_``."""
    return {"_".join(map(str, path)): (Value.cast(value), None) for path, _, value in _members(component)}


def port_table(component: wiring.Component) -> list[Port]:
    """Return the ports of the emitted module, clock and reset first."""
    found = [Port("clk", 1, False), Port("rst", 1, False)]
    for path, member, value in _members(component):
        found.append(Port("_".join(map(str, path)), len(Value.cast(value)), member.flow is Out))
    return found


def _members(component: wiring.Component) -> Iterator[tuple[Any, Any, Any]]:
    yield from component.signature.flatten(component)


def _identity(text: str, shape: Geometry) -> bytes:
    """Return the ID that HELLO answers: it depends on top and geometry alone."""
    return hashlib.sha256(text.encode() + shape.hash).digest()[:16]
