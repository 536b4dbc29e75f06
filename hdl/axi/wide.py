"""The AXI top level of an engine for whole imported models: registers, logits as a stream, a read master."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.axi.lite import AxiLiteSlave, lite_port
from ternac.hdl.axi.registers import ID, Access, Field, Register, RegisterMap
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.stream.axi import read_port
from ternac.hdl.wide.engine import WideEngine
from ternac.hdl.wide.sequencer import INSTRUCTION_BITS

__all__ = ["MAP", "WideTop", "wide_register"]

_WORDS = 32
_ADDRESS_BITS = (4 * _WORDS - 1).bit_length()
_FETCH = BlockRam.LATENCY + 1
"""Cycles from an element's address to its value."""

_REGISTERS = (
    Register("ID", 0x00, Access.READ, "Always 0x54524E43, TRNC."),
    Register("VERSION", 0x04, Access.READ, "Which map this is.", (
        Field("MAP", 0, 8, "version of this register map"),
        Field("LANES", 8, 8, "elements of a word"),
        Field("PORT_BYTES", 24, 8, "bytes of the data port"),
    )),
    Register("STATUS", 0x08, Access.READ, "The engine, now.", (
        Field("READY", 0, 1, "TOKEN is taken: no token runs"),
        Field("ENDED", 1, 1, "a token has ended since TOKEN was written last"),
    )),
    Register("FAULTS", 0x0C, Access.CLEAR, "What went wrong since it was cleared.", (
        Field("WEIGHTS", 0, 3, "an error response, RLAST out of place, a length that does not fit"),
        Field("ROWS", 3, 2, "of rows of the embedding: an error response, RLAST out of place"),
        Field("CONSTANTS", 5, 2, "of constants, likewise"),
        Field("OVERRUN", 7, 1, "TOKEN was written while it was not READY; it was ignored"),
    )),
    Register("CONTROL", 0x10, Access.BOTH, "How the engine runs.", (
        Field("ENABLE", 0, 1, "1: all is loaded. Stays 1 until a reset"),
        Field("INTERRUPT", 1, 1, "1: irq is high while ENDED is"),
    )),
    Register("CODE_ADDRESS", 0x14, Access.WRITE, "Number of the instruction that CODE_DATA writes."),
    Register("CODE_DATA", 0x18, Access.WRITE, "Words of instructions, six each, the low one first."),
    Register("MATRIX_ADDRESS", 0x1C, Access.WRITE, "Number of the descriptor that MATRIX_DATA writes."),
    Register("MATRIX_DATA", 0x20, Access.WRITE, "Words of descriptors, MATRIX_WORDS each, low one first."),
    Register("MATRIX_WORDS", 0x24, Access.READ, "Words of a descriptor."),
    Register("LAST_MATRIX", 0x28, Access.BOTH, "Number of a token's last descriptor."),
    Register("CONSTANTS_BASE", 0x2C, Access.BOTH, "Byte address of the constants."),
    Register("CONSTANTS_WORDS", 0x30, Access.BOTH, "Words of LANES constants of a token."),
    Register("ROWS_BASE", 0x34, Access.BOTH, "Byte address of the embedding."),
    Register("ROWS_WORDS", 0x38, Access.BOTH, "Words of LANES elements of a row."),
    Register("TOKEN", 0x3C, Access.WRITE, "Runs a token; its logits leave by the stream.", (
        Field("TOKEN", 0, 16, "row of the embedding"),
    )),
    Register("CYCLES", 0x40, Access.READ, "Cycles of the last token, or of the one that runs."),
    Register("VECTOR_ADDRESS", 0x44, Access.WRITE, "Element that VECTOR_DATA accesses, while READY; states "
             "from 0 on. Behind it after each access."),
    Register("VECTOR_DATA", 0x48, Access.MOVE, "An element of vector memory.", (
        Field("VALUE", 0, 16, "the element, signed"),
        Field("VALID", 16, 1, "reading: it is there; else read again"),
    )),
)  # fmt: skip
MAP = RegisterMap("TERNAC", "Engine for whole MatMul-free models behind AXI4-Lite", 1, _WORDS, _REGISTERS)
"""Version 1 of the map of this block, another than the small engine's."""


def wide_register(name: str) -> Register:
    """The register of that name; KeyError if there is none."""
    return {each.name: each for each in _REGISTERS}[name]


class WideTop(wiring.Component):
    """A `WideEngine` for a system on chip: loaded and run through registers, its memory behind AXI4.

    :param engine: its addresses are of 32 bits at most, its lanes a power of two.

    Members
    -------
    s_axi_* : lite_port
        AXI4-Lite slave: the registers of `MAP`.
    m_axis_* : AXI4-Stream of 16 bits
        Logits, signed, row by row, TLAST with a token's last.
    irq : Out(1)
        Interrupt.
    m_axi_* : read_port
        AXI4 read master.
    """

    def __init__(self, engine: WideEngine) -> None:
        self.engine = engine
        super().__init__({
            **lite_port("s_axi", _ADDRESS_BITS),
            "m_axis_tdata": Out(16), "m_axis_tvalid": Out(1), "m_axis_tready": In(1), "m_axis_tlast": Out(1),
            "irq": Out(1),
            **read_port(
                "m_axi", address_bits=engine.products.reader.address_bits, data_bits=engine.port_bits
            ),
        })  # fmt: skip

    @property
    def register_map(self) -> RegisterMap:
        """Its registers."""
        return MAP

    @property
    def buses(self) -> dict[str, str]:
        """Kinds of its AXI ports, by prefix."""
        return {"s_axi": "aximm", "m_axis": "axis", "m_axi": "aximm"}

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.lite = lite = AxiLiteSlave(_ADDRESS_BITS)
        for name, member in lite_port("s_axi", _ADDRESS_BITS).items():
            inner, outer = getattr(lite, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        for name, member in read_port("m_axi", address_bits=13, data_bits=engine.port_bits).items():
            inner, outer = getattr(engine, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        m.d.comb += [
            self.m_axis_tdata.eq(engine.logits.payload.y), self.m_axis_tlast.eq(engine.logits.payload.last),
            self.m_axis_tvalid.eq(engine.logits.valid), engine.logits.ready.eq(self.m_axis_tready),
        ]  # fmt: skip
        version = Cat(
            Const(MAP.version, 8), Const(engine.lanes, 8), Const(0, 8), Const(engine.port_bits // 8, 8)
        )
        self._values: dict[str, Value] = {"ID": Const(ID, 32), "VERSION": version}
        self._writes = {each.name: lite.wr_en & (lite.wr_word == each.offset // 4) for each in _REGISTERS}
        self._loader(m, lite.wr_data)
        self._vectors(m, lite)
        self._token(m, lite.wr_data)
        self._decode(m, lite)
        return m

    def _decode(self, m: Module, lite: AxiLiteSlave) -> None:
        """Return the value at each address that has a register."""
        m.d.comb += [lite.rd_error.eq(1), lite.wr_error.eq(1)]
        with m.Switch(lite.rd_word):
            for each in _REGISTERS:
                if each.access.readable:
                    with m.Case(each.offset // 4):
                        m.d.comb += [lite.rd_data.eq(self._values[each.name]), lite.rd_error.eq(0)]
        with m.Switch(lite.wr_word):
            for each in _REGISTERS:
                if each.access.writable:
                    with m.Case(each.offset // 4):
                        m.d.comb += lite.wr_error.eq(0)

    def _held(self, m: Module, name: str, bits: int, data: Value) -> Signal:
        """A register that reads what was written."""
        held = Signal(bits, name=name.lower())
        with m.If(self._writes[name]):
            m.d.sync += held.eq(data)
        self._values[name] = held
        return held

    def _loader(self, m: Module, data: Value) -> None:
        """Instructions and descriptors, word by word; where everything lies."""
        engine = self.engine
        layout = engine.products.desc_layout
        described = -(-layout.size // 32)
        for name, words, enable, address, target in (
            ("CODE", -(-INSTRUCTION_BITS // 32), engine.code_en, engine.code_addr, engine.code_data),
            ("MATRIX", described, engine.matrix_en, engine.matrix_addr, engine.matrix_data.as_value()),
        ):
            low = name.lower()
            at, whole = Signal(len(address), name=f"{low}_at"), Signal(32 * words, name=f"{low}_whole")
            count, full = Signal(range(words + 1), name=f"{low}_count"), Signal(name=f"{low}_full")
            m.d.comb += [full.eq(count == words), enable.eq(full), address.eq(at), target.eq(whole)]
            with m.If(full):
                m.d.sync += [at.eq(at + 1), count.eq(0)]
            with m.If(self._writes[f"{name}_ADDRESS"]):
                m.d.sync += [at.eq(data), count.eq(0)]
            with m.If(self._writes[f"{name}_DATA"]):
                m.d.sync += [whole.eq(Cat(whole[32:], data)), count.eq(Mux(full, 1, count + 1))]
        self._values["MATRIX_WORDS"] = Const(described, 32)
        for name in ("LAST_MATRIX", "CONSTANTS_BASE", "CONSTANTS_WORDS", "ROWS_BASE", "ROWS_WORDS"):
            port = getattr(engine, name.lower())
            m.d.comb += port.eq(self._held(m, name, len(port), data))

    def _vectors(self, m: Module, lite: AxiLiteSlave) -> None:
        """Elements of vector memory, one after the other."""
        engine, lanes = self.engine, self.engine.lanes
        shift = (lanes - 1).bit_length()
        at = Signal(len(engine.peek) + shift, name="element")
        waits = Signal(range(_FETCH + 1), init=_FETCH, name="waits")
        word, write = Signal(16, name="word"), Signal(name="write")
        valid = waits == 0
        offset = lite.rd_en & (lite.rd_word == wide_register("VECTOR_DATA").offset // 4)
        m.d.sync += write.eq(self._writes["VECTOR_DATA"])
        lane = at[:shift] if shift else Const(0, 1)
        m.d.comb += [
            engine.peek.eq(at[shift:]), engine.wr.address.eq(at[shift:]),
            engine.wr_en.eq(write), engine.wr.keep.eq(Array(1 << i for i in range(lanes))[lane]),
            *(engine.wr.data[i].eq(word.as_signed()) for i in range(lanes)),
        ]  # fmt: skip
        with m.If(waits.any()):
            m.d.sync += waits.eq(waits - 1)
        with m.If(self._writes["VECTOR_DATA"]):
            m.d.sync += word.eq(lite.wr_data)
        with m.If(write | (offset & valid)):
            m.d.sync += [at.eq(at + 1), waits.eq(_FETCH)]
        with m.If(self._writes["VECTOR_ADDRESS"]):
            m.d.sync += [at.eq(lite.wr_data), waits.eq(_FETCH)]
        value = Array(engine.peeked[i].as_unsigned() for i in range(lanes))[lane]
        self._values["VECTOR_DATA"] = Cat(value, valid)

    def _token(self, m: Module, data: Value) -> None:
        """A token, its end, its cycles and what went wrong."""
        engine = self.engine
        control = self._held(m, "CONTROL", 2, data)
        waiting, running, ended = Signal(name="waiting"), Signal(name="running"), Signal(name="ended")
        token, cycles = Signal(16, name="token"), Signal(32, name="cycles")
        overrun, written = Signal(name="overrun"), self._writes["TOKEN"]
        m.d.comb += [
            engine.enable.eq(control[0]),
            engine.tokens.payload.eq(token), engine.tokens.valid.eq(waiting),
            engine.clear.eq(self._writes["FAULTS"] & data[:7].any()),
            self.irq.eq(control[1] & ended),
        ]  # fmt: skip
        with m.If(waiting & engine.tokens.ready):
            m.d.sync += waiting.eq(0)
        with m.If(running):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(engine.done):
            m.d.sync += [running.eq(0), ended.eq(1)]
        with m.If(self._writes["FAULTS"] & data[7]):
            m.d.sync += overrun.eq(0)
        with m.If(written & running):
            m.d.sync += overrun.eq(1)
        with m.Elif(written):
            m.d.sync += [token.eq(data), waiting.eq(1), running.eq(1), ended.eq(0), cycles.eq(0)]
        self._values |= {
            "STATUS": Cat(~running, ended), "CYCLES": cycles, "FAULTS": Cat(engine.fault, overrun)
        }  # fmt: skip
