"""The whole engine on its SDRAM as a core that the byte link drives: loaded and run as every other board."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ternac.compile.geometry import Mem
from ternac.compile.sdram import SdramChip
from ternac.compile.wide_code import WideCode
from ternac.compile.wide_memory import lay_out
from ternac.errors import require
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.ports import ENGINE_MEMBERS
from ternac.hdl.link.top import LinkedEngine
from ternac.hdl.sdram.controller import SdramPins
from ternac.hdl.wide.sampler import VocabularySampler
from ternac.hdl.wide.sdram import SdramWideEngine
from ternac.hdl.wide.sequencer import INSTRUCTION_BITS
from ternac.hdl.wide.shapes import WideShape
from ternac.link import MAX_WRITE_BYTES, WINDOW, WriteRequest, encode_words

__all__ = ["FAULT_BLOCK", "REGISTERS", "WideLinkCore", "linked_wide"]

PIECE = 16
"""Bits of a word of the link."""
PIECES = 16
"""Places of the link's memories for an instruction or a descriptor, the last ones unused."""
REGISTERS = {
    "constants_base": 2, "constants_words": 2, "rows_base": 2, "rows_words": 1, "last_matrix": 1, "enable": 1,
}  # fmt: skip
"""Words of the registers, one behind the other, the low one first."""
FAULT_BLOCK = 255
"""Block of a READ that answers the engine's faults."""
_BLOCK_WORDS = 1 << 16


class WideLinkCore(wiring.Component):
    """A `SdramWideEngine` and a `VocabularySampler` with the ports of an engine core.

    Memories of a WRITE, words of 16 bits: PROGRAM, instructions in 12 pieces of 16 places, EMBED, descriptors
    likewise, both taken with their last piece; WEIGHT, the SDRAM; BIAS, `REGISTERS`; BANK, vector memory,
    element by element, states from 0 on. BANK is written, and READ, while ``enable`` is 1; it holds the
    states of one session, whatever base a RUN names.

    :param shape: of the engine.   :param chip: its memory's timing.   :param clock_hz: of ``sync``.

    Members
    -------
    sdram : Out(SdramPins)
        The chip.
    ready : Out(1)
        The chip has been initialised; the link waits for it.

    The others are those of `ENGINE_MEMBERS`, flipped.
    """

    WORD_BYTES = (2, 2, 2, 2, 2, 2, 2)
    """Bytes of a word of each memory, as LinkController takes them."""

    def __init__(
        self, shape: WideShape, chip: SdramChip, clock_hz: int, *, tech: Technology = Technology.PORTABLE
    ) -> None:
        self.shape = shape
        self.engine = SdramWideEngine(shape.engine(tech), chip, clock_hz)
        self.sampler = VocabularySampler(shape.vocab, tech=tech)
        super().__init__(
            {
                **{name: member.flip() for name, member in ENGINE_MEMBERS.items()},
                "sdram": Out(SdramPins),
                "ready": Out(1),
            }
        )

    def load(self, code: WideCode) -> Iterator[WriteRequest]:
        """What the host writes to load a program, the states of its session zeros.

        Raises DoesNotFit if the engine cannot hold it.
        """
        memory = lay_out(code.weights, code.constants, code.embedding, code.port_bytes)
        chip = self.engine.memory.controller.chip
        vocab, words = code.image.program.vocab, 1 << chip.word_bits
        require(
            "bytes of memory", memory.image.size, 2 * words, f"the program needs {memory.image.size:,} bytes"
        )
        require("logits", vocab, self.shape.vocab, f"the program has {vocab:,} tokens")
        engine = self.engine.engine
        yield from self._words(Mem.BIAS, self._register("enable"), [0])
        yield from self._words(Mem.WEIGHT, 0, memory.image.view("<u2").tolist())
        for at, word in enumerate(code.words):
            yield from self._words(Mem.PROGRAM, PIECES * at, _pieces(word, INSTRUCTION_BITS))
        for at, word in enumerate(engine.descriptors(code, memory)):
            yield from self._words(Mem.EMBED, PIECES * at, _pieces(word, engine.products.desc_layout.size))
        values = {
            "constants_base": memory.constants, "constants_words": memory.constant_words,
            "rows_base": memory.rows, "rows_words": memory.row_words, "last_matrix": len(code.matrices) - 1,
            "enable": 1,
        }  # fmt: skip
        for name, value in values.items():
            yield from self._words(Mem.BIAS, self._register(name), _pieces(value, PIECE * REGISTERS[name]))
        lengths = code.image.program.states
        states = max(at + lengths[name] for name, at in code.image.states.items())
        yield from self._words(Mem.BANK, 0, [0] * states)

    @staticmethod
    def _register(name: str) -> int:
        names = list(REGISTERS)
        return sum(REGISTERS[each] for each in names[: names.index(name)])

    @staticmethod
    def _words(memory: Mem, address: int, words: list[int]) -> Iterator[WriteRequest]:
        most, done = MAX_WRITE_BYTES // 2, 0
        while done < len(words):
            block, place = divmod(address + done, _BLOCK_WORDS)
            some = words[done : done + min(most, _BLOCK_WORDS - place)]
            yield WriteRequest(memory, block, place, encode_words(some))
            done += len(some)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.sampler = sampler = self.sampler
        wiring.connect(m, engine.sdram, wiring.flipped(self.sdram))
        wiring.connect(m, engine.logits, sampler.logits)
        m.d.comb += self.ready.eq(engine.ready)
        self._loader(m)
        self._vectors(m)
        self._token(m)
        return m

    def _loader(self, m: Module) -> None:
        """Words of the link into the SDRAM, instructions, descriptors and registers."""
        engine = self.engine
        layout = engine.engine.products.desc_layout
        count = -(-INSTRUCTION_BITS // PIECE)
        described = -(-layout.size // PIECE)
        pieces = Signal(PIECE * count, name="pieces")
        here = {mem: self.wr_en & (self.wr_mem == mem) for mem in Mem}
        with m.If(here[Mem.PROGRAM] | here[Mem.EMBED]):
            m.d.sync += pieces.eq(Cat(pieces[PIECE:], self.wr_data[:PIECE]))
        piece, number = self.wr_addr[:4], Cat(self.wr_addr[4:], self.wr_block)
        at = Signal(len(number), name="at")
        m.d.sync += [
            at.eq(number),
            engine.code_en.eq(here[Mem.PROGRAM] & (piece == count - 1)),
            engine.matrix_en.eq(here[Mem.EMBED] & (piece == described - 1)),
        ]
        m.d.comb += [
            engine.code_addr.eq(at), engine.code_data.eq(pieces),
            engine.matrix_addr.eq(at), engine.matrix_data.eq(pieces[-PIECE * described :][: layout.size]),
            engine.write.valid.eq(here[Mem.WEIGHT]),
            engine.write.payload.address.eq(Cat(self.wr_addr, self.wr_block)),
            engine.write.payload.word.eq(self.wr_data),
        ]  # fmt: skip
        place = 0
        for name, words in REGISTERS.items():
            held = Signal(PIECE * words, name=name)
            for i in range(words):
                with m.If(here[Mem.BIAS] & (self.wr_addr == place + i)):
                    m.d.sync += held.word_select(i, PIECE).eq(self.wr_data[:PIECE])
            m.d.comb += getattr(engine, name).eq(held)
            place += words

    def _vectors(self, m: Module) -> None:
        """Vector memory, element by element, while no token runs."""
        engine, lanes = self.engine, self.shape.lanes
        shift = lanes.bit_length() - 1

        def split(block: Signal, address: Signal) -> tuple[Any, Any]:
            element = Cat(address, block)
            return element[shift:], Array(1 << i for i in range(lanes))[element[:shift]] if shift else 1

        word, keep = split(self.wr_block, self.wr_addr)
        m.d.comb += [
            engine.wr_en.eq(self.wr_en & (self.wr_mem == Mem.BANK)),
            engine.wr.address.eq(word), engine.wr.keep.eq(keep),
            *(engine.wr.data[i].eq(self.wr_data[:PIECE].as_signed()) for i in range(lanes)),
        ]  # fmt: skip
        asked = Signal(24, name="asked")
        faults = Signal(name="faults")
        with m.If(self.rd_en):
            m.d.sync += [asked.eq(Cat(self.rd_addr, self.rd_block)), faults.eq(self.rd_block == FAULT_BLOCK)]
        lane = Array(engine.peeked[i] for i in range(lanes))[asked[:shift]] if shift else engine.peeked[0]
        m.d.comb += engine.peek.eq(asked[shift:])
        m.d.sync += self.rd_data.eq(Mux(faults, engine.fault, lane))
        m.d.sync += self.rd_valid.eq(delay(m, self.rd_en, BlockRam.LATENCY + 1, name="read"))

    def _token(self, m: Module) -> None:
        """A token, and where it is wanted a choice of the next one."""
        engine, sampler = self.engine, self.sampler
        token, emit, ended = Signal(16, name="token_"), Signal(name="emit_"), Signal(name="ended")
        m.d.comb += [
            engine.tokens.payload.eq(token),
            sampler.choose.payload.greedy.eq(self.greedy), sampler.choose.payload.m.eq(self.inv_m),
            sampler.choose.payload.s.eq(self.inv_s), sampler.choose.payload.top_k.eq(self.top_k),
            sampler.choose.payload.rng.eq(self.rng_out),
        ]  # fmt: skip
        with m.If(engine.done):
            m.d.sync += ended.eq(1)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [
                        token.eq(self.token), emit.eq(self.emit), self.rng_out.eq(self.rng_in), ended.eq(0),
                    ]  # fmt: skip
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += engine.tokens.valid.eq(1)
                with m.If(engine.tokens.ready):
                    m.next = "RUN"
            with m.State("RUN"):
                with m.If(ended):
                    m.next = "DONE"
                    with m.If(emit):
                        m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.comb += sampler.choose.valid.eq(1)
                with m.If(sampler.choose.ready):
                    m.next = "TELL"
            with m.State("TELL"):
                m.d.comb += sampler.chosen.ready.eq(1)
                with m.If(sampler.chosen.valid):
                    m.d.sync += [
                        self.next_token.eq(sampler.chosen.payload.token),
                        self.rng_out.eq(sampler.chosen.payload.rng),
                    ]
                    m.next = "DONE"
            with m.State("DONE"):
                with m.If(~self.hold_done):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        with m.If(self.clear):
            m.d.sync += self.cycles.eq(0)
        with m.Elif(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)


def linked_wide(
    core: WideLinkCore, bitstream_id: bytes, clock_hz: int = 0, *, window: int = WINDOW
) -> LinkedEngine:
    """Return a core behind its byte link, wires registered between them: an engine is in no hurry."""
    link = LinkController(
        clock_hz, bitstream_id, core.shape.hash, word_bytes=WideLinkCore.WORD_BYTES, window=window
    )
    return LinkedEngine(core, link, registered=True)


def _pieces(word: int, bits: int) -> list[int]:
    """Words of 16 bits, the low one first."""
    return [word >> at & (1 << PIECE) - 1 for at in range(0, bits, PIECE)]
