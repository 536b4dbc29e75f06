"""The design of a bitstream: engine core, link controller, UART and, where models come from flash, the
boot loader.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, ResetInserter, Signal

from ternac.geometry import Geometry, Mem
from ternac.hdl.boards import Board
from ternac.hdl.engine import EngineCore
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.spiflash import FlashBoot
from ternac.hdl.link.top import LinkedEngine
from ternac.hdl.link.uart import UartRx, UartTx

SETTLE_CYCLES = 63
"""Idle cycles of the controller after which the boot loader hands the link to the UART."""


class EngineDesign(Elaboratable):
    """Everything inside ``BoardShell``: single-bit ports ``rx``, ``tx``, ``link``, ``busy`` and the flash
    pins.

    While a model comes from flash the UART is deaf and the answers to its frames are dropped.
    """

    def __init__(self, board: Board, geometry: Geometry, clock_hz: int, bitstream_id: bytes) -> None:
        self.board = board
        self.clock_hz = clock_hz
        self.core = EngineCore(geometry, tech=board.tech)
        self.controller = LinkController(
            clock_hz,
            bitstream_id,
            geometry.hash,
            word_bytes=tuple(geometry.memory(memory).bytes_per_word for memory in Mem),
        )
        self.rx, self.tx = Signal(init=1), Signal()
        self.link, self.busy, self.start = Signal(), Signal(), Signal()
        self.flash_cs, self.flash_clk, self.flash_copi, self.flash_cipo = (
            Signal(),
            Signal(),
            Signal(),
            Signal(),
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.engine = engine = LinkedEngine(self.core, self.controller)
        m.submodules.uart_rx = uart_rx = UartRx(self.clock_hz, self.board.baud)
        m.submodules.uart_tx = uart_tx = UartTx(self.clock_hz, self.board.baud)
        m.d.comb += [
            uart_rx.rx.eq(self.rx),
            self.tx.eq(uart_tx.tx),
            self.link.eq(~engine.idle),
            self.busy.eq(self.core.busy),
            uart_tx.i.payload.eq(engine.tx.payload),
        ]
        if self.board.flash_offset is None:
            m.d.comb += [
                engine.rx.payload.eq(uart_rx.o.payload),
                engine.rx.valid.eq(uart_rx.o.valid),
                uart_rx.o.ready.eq(engine.rx.ready),
                uart_tx.i.valid.eq(engine.tx.valid),
                engine.tx.ready.eq(uart_tx.i.ready),
            ]
            return m
        boot = FlashBoot(self.clock_hz, self.board.flash_offset)
        m.submodules.boot = ResetInserter(~self.start)(boot)
        settle = Signal(range(SETTLE_CYCLES + 1))
        booting = Signal(init=1)
        with m.If(~boot.done | ~engine.idle | engine.tx.valid):
            m.d.sync += settle.eq(0)
        with m.Elif(settle == SETTLE_CYCLES):
            m.d.sync += booting.eq(0)
        with m.Else():
            m.d.sync += settle.eq(settle + 1)
        m.d.comb += [
            self.flash_cs.eq(boot.cs),
            self.flash_clk.eq(boot.clk),
            self.flash_copi.eq(boot.copi),
            boot.cipo.eq(self.flash_cipo),
            boot.abort.eq(engine.fault),
        ]
        with m.If(booting):
            m.d.comb += [
                engine.rx.payload.eq(boot.o.payload),
                engine.rx.valid.eq(boot.o.valid),
                boot.o.ready.eq(engine.rx.ready),
                uart_rx.o.ready.eq(1),
                engine.tx.ready.eq(1),
            ]
        with m.Else():
            m.d.comb += [
                engine.rx.payload.eq(uart_rx.o.payload),
                engine.rx.valid.eq(uart_rx.o.valid),
                uart_rx.o.ready.eq(engine.rx.ready),
                uart_tx.i.valid.eq(engine.tx.valid),
                engine.tx.ready.eq(uart_tx.i.ready),
            ]
        return m
