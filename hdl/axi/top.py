"""The AXI top level: the engine's link behind AXI4-Lite and AXI4-Stream, the streaming unit behind AXI4."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ternac.hdl.axi.lite import AxiLiteSlave, lite_port
from ternac.hdl.axi.registers import ID, MAP_VERSION, MAP_WORDS, REGISTERS, RegisterMap, engine_map
from ternac.hdl.axi.rows import Job, RowAccess, RowShape
from ternac.hdl.link.top import LinkedEngine
from ternac.hdl.stream.axi import read_port
from ternac.hdl.stream.matvec import StreamMatVec
from ternac.link import END, VERSION

__all__ = ["AxiTop"]

ADDRESS_BITS = (4 * MAP_WORDS - 1).bit_length()


class AxiTop(wiring.Component):
    """The engine, and optionally a streaming matrix-vector unit, for a system on chip.

    :param engine: the engine behind its byte link.
    :param stream: a streaming unit, or None: then its registers answer with an error. Its sums must fit 32
        bits, its activation memory 2**16 words.
    :param rows: of an engine with rows, whose link is ``shared``: their shape; or None, likewise.
    :param fifo: bytes in each of the two FIFOs, one either way.

    The link has one byte stream, and CONTROL says whose it is; the other side then sees neither ready
    nor valid.

    Members
    -------
    s_axi_* : lite_port
        AXI4-Lite slave: the registers of `ternac.hdl.axi.registers`.
    s_axis_* : AXI4-Stream of bytes
        Requests, the frames of docs/link.md as on a UART.
    m_axis_* : AXI4-Stream of bytes
        Answers, TLAST on each one's last byte.
    irq : Out(1)
        Interrupt.
    m_axi_* : read_port
        With ``stream``: AXI4 read master.
    """

    def __init__(
        self,
        engine: LinkedEngine,
        stream: StreamMatVec | None = None,
        *,
        rows: RowShape | None = None,
        fifo: int = 1024,
    ) -> None:
        if fifo < 2:
            raise ValueError(f"fifo must be at least 2, not {fifo}")
        if stream is not None and (stream.lanes.sum_bits > 32 or stream.x_depth > 1 << 16):
            raise ValueError("sums of more than 32 bits or over 65536 words of activations have no register")
        if (rows is not None) != engine.shared:
            raise ValueError("rows need an engine whose memories are shared, and are what it is shared for")
        self.engine, self.stream, self.rows, self.fifo = engine, stream, rows, fifo
        members = {
            **lite_port("s_axi", ADDRESS_BITS),
            "s_axis_tdata": In(8), "s_axis_tvalid": In(1), "s_axis_tready": Out(1), "s_axis_tlast": In(1),
            "m_axis_tdata": Out(8), "m_axis_tvalid": Out(1), "m_axis_tready": In(1), "m_axis_tlast": Out(1),
            "irq": Out(1),
        }  # fmt: skip
        if stream is not None:
            address_bits = stream.reader.address_bits
            members |= read_port("m_axi", address_bits=address_bits, data_bits=stream.port_bits)
        super().__init__(members)

    @property
    def register_map(self) -> RegisterMap:
        """Its registers."""
        return engine_map(stream=self.stream is not None, rows=self.rows is not None)

    @property
    def buses(self) -> dict[str, str]:
        """Kinds of its AXI ports, by prefix."""
        master = {"m_axi": "aximm"} if self.stream is not None else {}
        return {"s_axi": "aximm", "s_axis": "axis", "m_axis": "axis", **master}

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.engine = self.engine
        m.submodules.lite = lite = AxiLiteSlave(ADDRESS_BITS)
        for name, member in lite_port("s_axi", ADDRESS_BITS).items():
            inner, outer = getattr(lite, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        identity = self.engine.controller.identity
        port_bytes = 0 if self.stream is None else self.stream.port_bits // 8
        parts = (self.stream is not None) | (self.rows is not None) << 1
        version = Cat(Const(MAP_VERSION, 8), Const(VERSION, 8), Const(parts, 8), Const(port_bytes, 8))
        self._values: dict[str, Value] = {"ID": Const(ID, 32), "VERSION": version}
        for name, content in (("BITSTREAM_ID", identity.bitstream_id), ("GEOMETRY", identity.geometry_hash)):
            for i in range(len(content) // 4):
                word = int.from_bytes(content[4 * i : 4 * i + 4], "little")
                self._values[f"{name}_{i}"] = Const(word, 32)
        self._access = {
            each.name: (lite.wr_en & (lite.wr_word == each.offset // 4),
                        lite.rd_en & (lite.rd_word == each.offset // 4))
            for each in REGISTERS
        }  # fmt: skip
        overrun, underrun = Signal(name="overrun"), Signal(name="underrun")
        bad, empty = self._link(m, lite.wr_data), Value.cast(0)
        wanted = self._values["STATUS"][3]
        stream_fault: Value = Const(0, 3)
        if self.stream is not None:
            more, less, stream_fault, sum_valid = self._stream(m, self.stream, lite.wr_data)
            bad, empty, wanted = bad | more, less, wanted | sum_valid
        row_fault = () if self.rows is None else (self._rows(m, self.rows, lite.wr_data),)
        m.d.comb += [overrun.eq(bad), underrun.eq(empty)]
        raised = Cat(self.engine.fault, overrun, underrun, stream_fault, *row_fault)
        faults, cleared = Signal(len(raised), name="faults"), Signal(len(raised), name="cleared")
        m.d.comb += cleared.eq(Mux(self._access["FAULTS"][0], lite.wr_data, 0))
        m.d.sync += faults.eq((faults & ~cleared) | raised)
        m.d.comb += self.irq.eq(self._values["CONTROL"][1] & wanted)
        self._values["FAULTS"] = faults
        self._decode(m, lite)
        return m

    def _decode(self, m: Module, lite: AxiLiteSlave) -> None:
        """Return the value at each address that has a register."""
        m.d.comb += [lite.rd_error.eq(1), lite.wr_error.eq(1)]
        for word, answer, error in (
            (lite.rd_word, lite.rd_data, lite.rd_error), (lite.wr_word, None, lite.wr_error)
        ):  # fmt: skip
            with m.Switch(word):
                for each in self.register_map.registers:
                    if answer is not None and each.access.readable:
                        with m.Case(each.offset // 4):
                            m.d.comb += [answer.eq(self._values[each.name]), error.eq(0)]
                    if answer is None and each.access.writable:
                        with m.Case(each.offset // 4):
                            m.d.comb += error.eq(0)

    def _held(self, m: Module, name: str, bits: int, data: Value) -> Signal:
        """A register that reads what was written."""
        held = Signal(bits, name=name.lower())
        with m.If(self._access[name][0]):
            m.d.sync += held.eq(data)
        self._values[name] = held
        return held

    def _link(self, m: Module, data: Value) -> Value:
        """IN, OUT and the streams of bytes; returns: a byte was written for which there is no room."""
        link, control = self.engine, self._held(m, "CONTROL", 2, data)
        m.submodules.inward = inward = SyncFIFO(width=8, depth=self.fifo)
        m.submodules.outward = outward = SyncFIFO(width=8, depth=self.fifo)
        write, take = self._access["IN"][0], self._access["OUT"][1]
        streamed, out_byte = control[0], outward.r_data
        inside = Signal(name="inside")  # of a frame that is being sent
        m.d.comb += [
            inward.w_data.eq(Mux(streamed, self.s_axis_tdata, data)),
            inward.w_en.eq(Mux(streamed, self.s_axis_tvalid, write)),
            self.s_axis_tready.eq(streamed & inward.w_rdy),
            link.rx.payload.eq(inward.r_data), link.rx.valid.eq(inward.r_rdy), inward.r_en.eq(link.rx.ready),
            outward.w_data.eq(link.tx.payload), outward.w_en.eq(link.tx.valid),
            link.tx.ready.eq(outward.w_rdy),
            self.m_axis_tdata.eq(out_byte), self.m_axis_tvalid.eq(streamed & outward.r_rdy),
            self.m_axis_tlast.eq(inside & (out_byte == END)),
            outward.r_en.eq(Mux(streamed, self.m_axis_tready, take)),
        ]  # fmt: skip
        with m.If(outward.r_en & outward.r_rdy):
            m.d.sync += inside.eq(out_byte != END)
        self._values["STATUS"] = Cat(
            link.idle & ~inward.r_rdy, link.loaded, inward.w_rdy & ~streamed, outward.r_rdy & ~streamed
        )
        there = outward.r_rdy & ~streamed
        self._values["OUT"] = Cat(Mux(there, out_byte, 0), there)
        return write & (streamed | ~inward.w_rdy)

    def _stream(self, m: Module, unit: StreamMatVec, data: Value) -> tuple[Value, Value, Value, Value]:
        """The streaming unit's registers; returns (overrun, underrun, faults, a sum is there)."""
        m.submodules.stream = unit
        for name, member in read_port("m_axi", address_bits=13, data_bits=unit.port_bits).items():
            inner, outer = getattr(unit, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        shape = self._held(m, "MV_SHAPE", 32, data)
        desc, sums = unit.desc, unit.sums
        start, take = self._access["MV_START"][0], self._access["SUM"][1]
        x_data, x_address = self._access["X_DATA"][0], Signal(16, name="x_address")
        parts = unit.port_bits // 32
        part, held = Signal(range(max(parts, 2)), name="part"), Signal(unit.port_bits, name="held")
        m.d.comb += [
            desc.payload.address.eq(self._held(m, "MV_ADDRESS", 32, data)),
            desc.payload.beats.eq(self._held(m, "MV_BEATS", 32, data)),
            desc.payload.rows.eq(self._held(m, "MV_ROWS", 32, data)),
            desc.payload.words.eq(shape[:16]), desc.payload.x_base.eq(shape[16:]),
            desc.payload.fence.eq(data[0]), desc.valid.eq(start),
            sums.ready.eq(take), unit.x_ready.eq(self._access["X_READY"][0]),
            unit.x_wr_addr.eq(x_address), unit.x_wr_data.eq(Cat(held[32:], data)),
            unit.x_wr_en.eq(x_data & (part == parts - 1)), unit.clear.eq(self._access["FAULTS"][0]),
        ]  # fmt: skip
        with m.If(self._access["X_ADDRESS"][0]):
            m.d.sync += [x_address.eq(data), part.eq(0)]
        with m.Elif(x_data):
            m.d.sync += [held.eq(Cat(held[32:], data)), part.eq(part + 1)]
            with m.If(part == parts - 1):
                m.d.sync += [part.eq(0), x_address.eq(x_address + 1)]
        signed_sum = Signal(32, name="signed_sum")
        m.d.comb += signed_sum.eq(sums.payload.sum)
        self._values |= {
            "MV_STATUS": Cat(desc.ready, sums.valid, sums.payload.last & sums.valid),
            "X_ADDRESS": x_address,
            "SUM": Mux(sums.valid, signed_sum, 0),
        }
        return start & ~desc.ready, take & ~sums.valid, unit.fault, sums.valid

    def _rows(self, m: Module, shape: RowShape, data: Value) -> Value:
        """The registers of rows; returns: one was accessed while the access before it was not over."""
        m.submodules.row_access = unit = RowAccess()
        wiring.connect(m, unit.master, self.engine.master)
        point, begin = self._access["ROW_ADDRESS"][0], self._access["ROW_START"][0]
        store, take = self._access["ROW_DATA"]
        m.d.comb += [
            unit.start.eq((begin | store | take) & ~unit.busy),
            unit.job.eq(Mux(store, Job.STORE, Mux(begin & data[0], Job.CLEAR, Job.FETCH))),
            unit.data.eq(Mux(store, data, data[8:16])),
            unit.point.eq(point & ~unit.busy),
            unit.point_word.eq(data[:16]),
            unit.point_column.eq(data[16:24]),
        ]
        self._values |= {
            "ROW_SHAPE": Cat(Const(shape.words, 24), Const(shape.columns, 8)),
            "ROW_ADDRESS": Cat(unit.word, unit.column),
            "ROW_DATA": unit.words,
            "ROW_STATUS": unit.busy,
        }
        return (point | begin | store | take) & unit.busy
