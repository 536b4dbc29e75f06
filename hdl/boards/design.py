"""The designs of bitstreams: engine core, link controller, UART, flash loader where the board has one."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, ResetInserter, Signal

from ternac.compile.geometry import Geometry
from ternac.compile.sdram import SdramChip
from ternac.hdl.boards.board import Board
from ternac.hdl.engine.core import EngineCore
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine, UartEngine, word_bytes
from ternac.hdl.wide.link_core import WideLinkCore, linked_wide
from ternac.hdl.wide.shapes import WideShape


class EngineDesign(Elaboratable):
    """The payload of a ``BoardShell``: a ``UartEngine`` whose boot loader is held until ``start``."""

    def __init__(self, board: Board, geometry: Geometry, clock_hz: int, bitstream_id: bytes) -> None:
        controller = LinkController(
            clock_hz,
            bitstream_id,
            geometry.hash,
            word_bytes=word_bytes(geometry),
            contexts=geometry.contexts,
            window=board.window,
        )
        core = EngineCore(geometry, tech=board.tech, clock_hz=clock_hz)
        self.engine = engine = UartEngine(
            LinkedEngine(core, controller, registered=geometry.pipelined_broadcast),
            board.baud,
            board.flash_offset,
        )
        self.start = Signal(name="start")
        self.sdram = engine.sdram if geometry.has_sdram else None
        self.rx, self.tx, self.loaded, self.busy = engine.rx, engine.tx, engine.loaded, engine.busy
        self.flash_cs, self.flash_clk = Signal(name="flash_cs"), Signal(name="flash_clk")
        self.flash_copi, self.flash_cipo = Signal(name="flash_copi"), Signal(name="flash_cipo")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        if engine.boot is not None:
            engine.boot = ResetInserter(~self.start)(engine.boot)
            m.d.comb += [
                self.flash_cs.eq(engine.flash_cs),
                self.flash_clk.eq(engine.flash_clk),
                self.flash_copi.eq(engine.flash_copi),
                engine.flash_cipo.eq(self.flash_cipo),
            ]
        return m


class WideDesign(Elaboratable):
    """The payload of a ``BoardShell``: an engine for whole imported models on the board's SDRAM."""

    def __init__(
        self, board: Board, shape: WideShape, chip: SdramChip, clock_hz: int, bitstream_id: bytes
    ) -> None:
        core = WideLinkCore(shape, chip, clock_hz, tech=board.tech)
        self.engine = engine = UartEngine(
            linked_wide(core, bitstream_id, clock_hz, window=board.window), board.baud
        )
        names = ("start", "flash_cs", "flash_clk", "flash_copi", "flash_cipo")
        self.start, self.flash_cs, self.flash_clk, self.flash_copi, self.flash_cipo = (
            Signal(name=name) for name in names
        )
        self.sdram = engine.sdram
        self.rx, self.tx, self.loaded, self.busy = engine.rx, engine.tx, engine.loaded, engine.busy

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = self.engine
        return m
