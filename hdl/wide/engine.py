"""A whole token from external memory: the wide unit, the products and an AXI4 port for all that they read."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.stream_layout import Encoding
from ternac.compile.wide_code import WideCode
from ternac.compile.wide_memory import MemoryMap
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.tech import Technology
from ternac.hdl.stream.arbiter import ReadArbiter
from ternac.hdl.stream.axi import read_port
from ternac.hdl.stream.matvec import StreamMatVec
from ternac.hdl.wide.core import WideCore
from ternac.hdl.wide.fetch import TOKEN_BITS, ConstantReader, RowReader

__all__ = ["DescriptorLoop", "WideEngine"]


class DescriptorLoop(wiring.Component):
    """Hands out the descriptors of a token's matrices again and again, so that weights are read far ahead.

    :param layout: of a descriptor; ``depth``: descriptors that are held.

    Members
    -------
    wr_en : In(1)
        Write a descriptor.
    wr_addr : In(range(depth))
        Its number.
    wr_data : In(layout)
        The descriptor.
    last : In(range(depth))
        Number of a token's last descriptor.
    enable : In(1)
        Begin; all is written.
    desc : Out(stream.Signature(layout))
        The descriptors.
    """

    def __init__(self, layout: data.Layout, depth: int, *, tech: Technology = Technology.PORTABLE) -> None:
        self.layout = layout
        self.memory = BlockRam(layout.size, depth, tech=tech, memory="matrices")
        super().__init__(
            {
                "wr_en": In(1),
                "wr_addr": In(range(depth)),
                "wr_data": In(layout),
                "last": In(range(depth)),
                "enable": In(1),
                "desc": Out(stream.Signature(layout)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = self.memory
        at = Signal(memory.rd_addr.shape(), name="at")
        age = Signal(range(BlockRam.LATENCY + 1), name="age")
        m.d.comb += [
            memory.wr_en.eq(self.wr_en), memory.wr_addr.eq(self.wr_addr), memory.wr_data.eq(self.wr_data),
            memory.rd_addr.eq(at),
            self.desc.payload.eq(memory.rd_data), self.desc.valid.eq(age == BlockRam.LATENCY),
        ]  # fmt: skip
        with m.If(self.desc.valid & self.desc.ready):
            m.d.sync += [at.eq(Mux(at == self.last, 0, at + 1)), age.eq(0)]
        with m.Elif(self.enable & ~self.desc.valid):
            m.d.sync += age.eq(age + 1)
        return m


class WideEngine(wiring.Component):
    """Tokens in, logits out: weights, gains, curves and embedding rows come from memory, states are on chip.

    Everything is read ahead: weights and constants of the next token while one ends. Its cycles are those
    of `WideMachine` where memory never lets it wait.

    ``settings``: the parameters by name.

    :param port_bits: width of the AXI4 port; ``encoding`` of the weights.
    :param lanes: elements a cycle of the wide unit; a divisor of ``port_bits / 8``.
    :param depth: words of vector memory, of ``lanes`` elements.
    :param x_depth: words of activation memory, of ``port_bits / 8``.
    :param code_depth: instructions; ``matrices``: descriptors that are held.
    :param fifo: beats of weights that are read ahead; ``constants``: of gains and curves.

    Members
    -------
    code_en, code_addr, code_data : In
        Write an instruction, as `WideCore`.
    matrix_en, matrix_addr, matrix_data : In
        Write the descriptor of a matrix, with its address in memory; all with ``fence``.
    last_matrix : In(range(matrices))
        Number of the last one.
    constants_base, constants_words : In
        Where constants are, and how many words.
    rows_base, rows_words : In
        Where row 0 of the embedding is, and words of a row.
    enable : In(1)
        All is loaded. Stays until a reset.
    tokens : In(stream.Signature(16))
        The next token; taken when the one before has ended.
    logits : Out(stream.Signature(logit_layout))
        ``y`` of each row of the vocabulary, ``last`` with the last.
    idle, done, wr_en, wr, peek, peeked
        As of `WideCore`.
    fault : Out(7)
        Sticky until ``clear``: `Fault` of the products, then of rows and of constants, as of `AxiReader`.
    clear : In(1)
        Pulse: forget the faults.
    m_axi_* : read_port
        AXI4 read master.
    """

    def __init__(
        self,
        *,
        port_bits: int = 128,
        lanes: int = 8,
        depth: int,
        x_depth: int,
        code_depth: int = 2048,
        matrices: int = 256,
        encoding: Encoding = Encoding.FIVE,
        slots: int = 2,
        digits: int = 2,
        chain: int = 4,
        address_bits: int = 32,
        fifo: int = 512,
        constants: int = 512,
        tech: Technology = Technology.PORTABLE,
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if lanes < 1 or port_bits // 8 % lanes:
            raise ValueError(f"lanes must divide {port_bits // 8}, the bytes of a word, not be {lanes}")
        self.port_bits, self.lanes, self.encoding = port_bits, lanes, encoding
        self.core = WideCore(lanes, depth, code_depth=code_depth, slots=slots, digits=digits, tech=tech)
        self.products = StreamMatVec(
            port_bits=port_bits, encoding=encoding, x_depth=x_depth, chain=chain, address_bits=address_bits,
            depth=fifo, tech=tech,
        )  # fmt: skip
        self.loop = DescriptorLoop(self.products.desc_layout, matrices, tech=tech)
        self.rows = RowReader(port_bits, lanes, address_bits=address_bits)
        self.constants = ConstantReader(port_bits, lanes, address_bits=address_bits, depth=constants)
        self.arbiter = ReadArbiter(self.products.reader, 2)
        core = self.core.signature.members
        own = {name: core[name] for name in (
            "code_en", "code_addr", "code_data", "logits", "idle", "done", "wr_en", "wr", "peek", "peeked"
        )}  # fmt: skip
        super().__init__({
            **own,
            "matrix_en": In(1), "matrix_addr": In(range(matrices)),
            "matrix_data": In(self.products.desc_layout), "last_matrix": In(range(matrices)),
            "constants_base": In(address_bits), "constants_words": In(ConstantReader.WORDS_BITS),
            "rows_base": In(address_bits), "rows_words": In(RowReader.WORDS_BITS),
            "enable": In(1),
            "tokens": In(stream.Signature(TOKEN_BITS)),
            "fault": Out(7), "clear": In(1),
            **read_port("m_axi", address_bits=address_bits, data_bits=port_bits),
        })  # fmt: skip

    def descriptors(self, code: WideCode, memory: MemoryMap) -> list[int]:
        """Return the words of a code's matrices as `products` takes them; ``memory`` says where they lie."""
        layout = self.products.desc_layout
        fields = (
            {
                "address": memory.weights + each.address, "beats": each.beats(code.encoding),
                "rows": each.rows, "words": each.words, "x_base": each.x_base, "fence": each.fence,
            }
            for each in code.matrices
        )  # fmt: skip
        return [layout.const(each).as_value().value for each in fields]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.products = products = self.products
        m.submodules.loop = loop = self.loop
        m.submodules.rows = rows = self.rows
        m.submodules.constants = constants = self.constants
        m.submodules.arbiter = self.arbiter
        for name in ("code_en", "code_addr", "code_data", "wr_en", "wr", "peek"):
            m.d.comb += getattr(core, name).eq(getattr(self, name))
        for name in ("idle", "done", "peeked"):
            m.d.comb += getattr(self, name).eq(getattr(core, name))
        wiring.connect(m, core.logits, wiring.flipped(self.logits))
        wiring.connect(m, rows.row, core.row)
        wiring.connect(m, constants.constants, core.constants)
        wiring.connect(m, loop.desc, products.desc)
        m.d.comb += [
            loop.wr_en.eq(self.matrix_en), loop.wr_addr.eq(self.matrix_addr),
            loop.wr_data.eq(self.matrix_data),
            loop.last.eq(self.last_matrix), loop.enable.eq(self.enable),
            constants.base.eq(self.constants_base), constants.words.eq(self.constants_words),
            constants.enable.eq(self.enable),
            rows.base.eq(self.rows_base), rows.words.eq(self.rows_words),
            rows.tokens.payload.eq(self.tokens.payload),
            rows.tokens.valid.eq(self.tokens.valid & core.idle),
            core.start.eq(rows.tokens.valid & rows.tokens.ready),
            self.tokens.ready.eq(core.start),
            core.sums.valid.eq(products.sums.valid), products.sums.ready.eq(core.sums.ready),
            core.sums.payload.sum.eq(products.sums.payload.sum),
            core.sums.payload.last.eq(products.sums.payload.last),
            products.x_ready.eq(core.begin),
        ]  # fmt: skip
        faults = []
        for each in (products, rows, constants):
            m.d.comb += each.clear.eq(self.clear)
            faults.append(each.fault)
        m.d.comb += self.fault.eq(Cat(*faults))
        self._activations(m)
        self._port(m)
        return m

    def _activations(self, m: Module) -> None:
        """Words of ``lanes`` activations into words of the port, the last one of a vector as far as it is."""
        core, products = self.core, self.products
        size = self.port_bits // 8 // self.lanes
        shift = size.bit_length() - 1
        place = core.x_addr[:shift]
        word = Signal(self.port_bits, name="activations")
        m.d.comb += products.x_wr_data.eq(word)
        m.d.sync += [
            products.x_wr_en.eq(core.x_valid & ((place == size - 1) | core.x_last)),
            products.x_wr_addr.eq(core.x_addr >> shift),
        ]
        for i in range(size):
            with m.If(core.x_valid & (place == i)):
                m.d.sync += word.word_select(i, 8 * self.lanes).eq(core.x_data)

    def _port(self, m: Module) -> None:
        """All readers' ports through the arbiter."""
        members = read_port("m_axi", address_bits=13, data_bits=self.port_bits)
        for i, reader in enumerate((self.products, self.rows, self.constants)):
            for name, member in members.items():
                inner, outer = getattr(reader, name), getattr(self.arbiter, name.replace("m_axi", f"c{i}"))
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        for name, member in members.items():
            inner, outer = getattr(self.arbiter, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
