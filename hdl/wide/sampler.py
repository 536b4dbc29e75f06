"""Next token of a large vocabulary: argmax as the logits pass, or the seeded draw from stored logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.hdl.cells.memory import BlockRam, MemoryBank
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.draw import xorshift32_of
from ternac.hdl.engine.exponential import Exponential
from ternac.hdl.wide.rank import ByteRank
from ternac.run import sampling

__all__ = ["BlockDraw", "VocabularySampler"]

BLOCK = 256
"""Tokens whose weights are summed together."""
_TOKEN_BITS = 16
_IN_BLOCK = ceil_log2(BLOCK)
_BLOCK_BITS = _TOKEN_BITS - _IN_BLOCK
_SCALING = 32
"""Cycles of r = rng * total >> 32: one for each bit of rng."""


class BlockDraw(wiring.Component):
    """``r = xorshift32(rng) * total >> 32``, and the first token with w[0] + .. + w[token] > r.

    ``load``; then the weights of all tokens in order, ``last`` with the last; ``find``, and ``FIND`` cycles
    and one for each block later ``found``: the weights of ``block`` are to come again, in order. From the
    cycle behind the last of them ``token`` is the choice, until the next ``load``.

    Members
    -------
    load : In(1)
        Pulse: begin; the generator makes a step from ``rng_in``.
    rng_in : In(32)
        State of the generator.
    valid : In(1)
        There is a weight.
    weight : In(16)
        The weight.
    index : In(16)
        Its token.
    last : In(1)
        Of all tokens, the first time.
    find : In(1)
        Pulse, the cycle behind the last weight or later: find the block.
    found : Out(1)
        Pulse: ``block`` is there.
    block : Out(8)
        Tokens 256 * block and up to 255 more.
    token : Out(16)
        The token.
    rng_out : Out(32)
        New state of the generator.
    """

    FIND = _SCALING + BlockRam.LATENCY + 3

    def __init__(self, *, tech: Technology = Technology.PORTABLE) -> None:
        self.tech = tech
        super().__init__(
            {
                "load": In(1),
                "rng_in": In(32),
                "valid": In(1),
                "weight": In(16),
                "index": In(_TOKEN_BITS),
                "last": In(1),
                "find": In(1),
                "found": Out(1),
                "block": Out(_BLOCK_BITS),
                "token": Out(_TOKEN_BITS),
                "rng_out": Out(32),
            }
        )

    @staticmethod
    def model(weights: Sequence[int], rng: int) -> tuple[int, int]:
        """``token`` and ``rng_out``."""
        rng = sampling.xorshift32(rng)
        rest = rng * sum(weights) >> 32
        for token, weight in enumerate(weights):
            if rest < weight:
                return token, rng
            rest -= weight
        raise ValueError("all weights are 0")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sum_bits = 16 + _IN_BLOCK
        sums = BlockRam(sum_bits, 1 << _BLOCK_BITS, tech=self.tech, memory="block_sums")
        m.submodules.sums = sums
        total, rest = Signal(32, name="total"), Signal(32, name="rest")
        in_block = self.index[:_IN_BLOCK]

        # The first time: sums of blocks, and of all.
        part = Signal(sum_bits, name="part")
        block, whole = Signal(_BLOCK_BITS, name="block_written"), Signal(name="whole")
        picking, hit = Signal(name="picking"), Signal(name="hit")
        m.d.sync += whole.eq(self.valid & ~picking & (self.last | in_block.all()))
        with m.If(self.valid & ~picking):
            m.d.sync += [
                part.eq(Mux(in_block.any(), part, 0) + self.weight),
                total.eq(total + self.weight),
                block.eq(self.index[_IN_BLOCK:]),
            ]
        m.d.comb += [sums.wr_en.eq(whole), sums.wr_addr.eq(block), sums.wr_data.eq(part)]

        # 32 cycles of rng * total: what leaves below is of the low half. Then the walk over the blocks.
        count, at = Signal(range(_SCALING + 1), name="count"), Signal(_BLOCK_BITS, name="at")
        ready, walking = Signal(name="ready"), Signal(name="walking")
        m.d.comb += sums.rd_addr.eq(at)
        m.d.sync += ready.eq(0)
        with m.If(self.find):
            m.d.sync += [count.eq(_SCALING), rest.eq(0)]
        with m.If(count.any()):
            m.d.sync += [
                count.eq(count - 1),
                rest.eq((rest + Mux(self.rng_out[0], total, 0)) >> 1),
                self.rng_out.eq(self.rng_out.rotate_right(1)),  # after all its bits it is as before
                ready.eq(count == 1),
            ]
        with m.If(ready):
            m.d.sync += [walking.eq(1), at.eq(0)]
        with m.If(walking):
            m.d.sync += [at.eq(at + 1), walking.eq(at != block)]
        read = delay(m, walking, BlockRam.LATENCY, name="read")
        number = delay(m, at, BlockRam.LATENCY, name="number", reset_less=True)

        # One subtraction for both: a block's sum, then a token's weight, until the rest is smaller.
        piece, over = Signal(sum_bits, name="piece"), Signal(name="over")
        left = Signal(signed(34), name="left")
        m.d.comb += [
            piece.eq(Mux(picking, self.weight, sums.rd_data)),
            left.eq(rest - piece),
            over.eq(left < 0),
        ]
        with m.If((read | (picking & self.valid)) & ~hit):
            m.d.sync += [hit.eq(over), rest.eq(Mux(over, rest, left))]
            with m.If(picking):
                m.d.sync += self.token.eq(self.index)
            with m.Else():
                m.d.sync += self.block.eq(number)
        m.d.sync += self.found.eq(delay(m, read, name="walked") & ~read)
        with m.If(self.found):
            m.d.sync += [picking.eq(1), hit.eq(0)]
        with m.If(self.load):
            m.d.sync += [
                self.rng_out.eq(xorshift32_of(self.rng_in)),
                total.eq(0), picking.eq(0), hit.eq(0),
            ]  # fmt: skip
        return m


class VocabularySampler(wiring.Component):
    """Chooses the next token of up to 65,536 logits as ``ternac.run.sampling.choose`` does.

    The logits of a step come in the order of their tokens, and are kept: 16 bits each, the one memory that
    grows with the vocabulary. The largest is found as they pass. A draw walks over the kept ones once for the
    sum of all weights and once over 256 of them for the token; ``top_k`` takes a walk for each byte of the
    k-th smallest distance from the largest (`ByteRank`).

    :param vocab: logits of a step at most, 2 to 65536.
    :param peeks: kept logits can be read from outside.

    Members
    -------
    logits : In(stream.Signature(logit_layout))
        Logit ``y``, and ``last`` with the last of a step; taken whenever no choice runs. A step's first logit
        makes those before it be forgotten.
    choose : In(stream.Signature(choice_layout))
        ``greedy``, ``m``, ``s``, ``top_k`` of ``Sampling`` and the generator's state ``rng``; taken when a
        whole step is there. Another choice of the same step may follow.
    chosen : Out(stream.Signature(token_layout))
        ``token`` and the new ``rng``, `latency` cycles later.
    peek : In(range(vocab))
        With ``peeks``: while no choice runs, a token.
    peeked : Out(signed(16))
        With ``peeks``: its logit, BlockRam.LATENCY cycles later.
    """

    def __init__(self, vocab: int, *, peeks: bool = False, tech: Technology = Technology.PORTABLE) -> None:
        if not 2 <= vocab <= 1 << _TOKEN_BITS:
            raise ValueError(f"vocab must be 2..{1 << _TOKEN_BITS}, not {vocab}")
        self.vocab, self.peeks, self.tech = vocab, peeks, tech
        self.logit_layout = data.StructLayout({"y": signed(16), "last": 1})
        self.choice_layout = data.StructLayout({"greedy": 1, "m": 8, "s": 5, "top_k": 16, "rng": 32})
        self.token_layout = data.StructLayout({"token": _TOKEN_BITS, "rng": 32})
        super().__init__(
            {
                "logits": In(stream.Signature(self.logit_layout)),
                "choose": In(stream.Signature(self.choice_layout)),
                "chosen": Out(stream.Signature(self.token_layout)),
                **({"peek": In(range(vocab)), "peeked": Out(signed(16))} if peeks else {}),
            }
        )

    @staticmethod
    def model(logits: Sequence[int], rule: sampling.Sampling, rng: int) -> tuple[int, int]:
        """``token`` and ``rng`` of one choice."""
        return sampling.choose(logits, rule, rng)

    @staticmethod
    def latency(count: int, rule: sampling.Sampling) -> int:
        """Cycles from a choice that is taken to ``chosen``, for ``count`` logits."""
        if rule.greedy:
            return 2
        cycles = 2 + count + _WEIGHED + 1 + BlockDraw.FIND + -(-count // BLOCK) + BLOCK + _WEIGHED + 1
        if 0 < rule.top_k < count:
            cycles += 2 * (count + _DISTANCE + 1 + ByteRank.CYCLES)
        return cycles

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.kept = kept = MemoryBank(16, self.vocab, tech=self.tech, memory="logits")
        m.submodules.rank = rank = ByteRank(tech=self.tech)
        m.submodules.draw = draw = BlockDraw(tech=self.tech)
        m.submodules.exponential = exponential = Exponential()

        # Way in. Keys are logits with the sign bit inverted: unsigned order is the logits' order.
        place, final = Signal(_TOKEN_BITS, name="place"), Signal(_TOKEN_BITS, name="final")
        best, best_token = Signal(16, name="best"), Signal(_TOKEN_BITS, name="best_token")
        key, take, there = Signal(16, name="key"), Signal(name="take"), Signal(name="there")
        logit = self.logits.payload.y
        m.d.comb += [
            key.eq(Cat(logit[:-1], ~logit[-1])),
            take.eq(self.logits.valid & self.logits.ready),
            kept.wr_en.eq(take),
            kept.wr_addr.eq(place),
            kept.wr_data.eq(key),
        ]
        with m.If(take):
            m.d.sync += [there.eq(self.logits.payload.last), final.eq(place)]
            m.d.sync += place.eq(Mux(self.logits.payload.last, 0, place + 1))
            with m.If((place == 0) | (key > best)):
                m.d.sync += [best.eq(key), best_token.eq(place)]

        # A walk from ``at`` to ``until``. Cycles 2 and 3: the key. 4: its distance from the largest.
        walking, picking = Signal(name="walking"), Signal(name="picking")
        at, until = Signal(_TOKEN_BITS, name="at"), Signal(_TOKEN_BITS, name="until")
        m.d.comb += kept.rd_addr.eq(Mux(walking, at, self.peek) if self.peeks else at)
        if self.peeks:
            m.d.comb += self.peeked.eq(Cat(kept.rd_data[:-1], ~kept.rd_data[-1]))
        with m.If(walking):
            m.d.sync += [at.eq(at + 1), walking.eq(at != until)]
        found_key, distance = Signal(16, name="found_key"), Signal(16, name="distance")
        m.d.sync += [found_key.eq(kept.rd_data), distance.eq(best - found_key)]
        here = delay(m, walking, _DISTANCE, name="here")
        token = delay(m, at, _DISTANCE, name="token", reset_less=True)
        ended = delay(m, here, name="were_here") & ~here

        # Top-k: the k-th smallest distance, its high byte first; ``need`` is how many of it are still wanted.
        everything, low_byte = Signal(name="everything"), Signal(name="low_byte")
        high, low, need = Signal(8, name="high"), Signal(8, name="low"), Signal(17, name="need")
        ranking = Signal(name="ranking")
        m.d.comb += [
            rank.valid.eq(here & ranking & (~low_byte | (distance[8:] == high))),
            rank.byte.eq(Mux(low_byte, distance[:8], distance[8:])),
            rank.need.eq(need),
        ]

        # Cycle 5: on which side of it; of equal ones the first ``need`` are kept. 13: the weight.
        equal, nearer = Signal(name="equal"), Signal(name="nearer")
        last_tie, tie = Signal(_TOKEN_BITS, name="last_tie"), Signal(name="tie")
        away = Signal(16, name="away")
        m.d.sync += [
            away.eq(distance),
            equal.eq(distance == Cat(low, high)),
            nearer.eq(distance < Cat(low, high)),
        ]
        weighing = delay(m, here & ~ranking & (token <= final), name="weighing")
        token = delay(m, token, name="weighed", reset_less=True)
        m.d.comb += tie.eq(equal & Mux(picking, token <= last_tie, need.any()))
        with m.If(weighing & equal & ~picking & need.any()):
            m.d.sync += [need.eq(need - 1), last_tie.eq(token)]
        rule = Signal(self.choice_layout, name="rule")
        m.d.comb += [
            exponential.distance.eq(away),
            exponential.strobe.eq(1),
            exponential.keep.eq(weighing & (everything | nearer | tie)),
            exponential.m.eq(rule.m),
            exponential.s.eq(rule.s),
            draw.valid.eq(delay(m, weighing, exponential.latency, name="weighed_late")),
            draw.weight.eq(exponential.weight),
            draw.index.eq(delay(m, token, exponential.latency, name="index", reset_less=True)),
            draw.last.eq(draw.index == final),
            draw.rng_in.eq(rule.rng),
        ]
        was_here = delay(m, here, _WEIGHED - _DISTANCE, name="weighing_late")
        weighed = delay(m, was_here, name="were_weighed") & ~was_here

        def walk(first: Any, to: Any) -> list[Any]:
            """Begin a walk in the next cycle."""
            return [walking.eq(1), at.eq(first), until.eq(to)]

        with m.FSM(init="RESET") as fsm:
            with m.State("RESET"):
                m.d.comb += rank.walk.eq(1)
                m.next = "CLEAR"
            with m.State("CLEAR"):
                with m.If(rank.done):
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.comb += [
                    self.choose.ready.eq(there),
                    self.logits.ready.eq(~(there & self.choose.valid)),
                ]
                m.d.sync += [rule.eq(self.choose.payload), need.eq(self.choose.payload.top_k)]
                m.d.sync += low_byte.eq(0)
                with m.If(there & self.choose.valid):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += draw.load.eq(1)
                m.d.sync += everything.eq((rule.top_k == 0) | (rule.top_k > final))
                m.d.sync += walk(0, final)
                m.next = "SUM"
                with m.If(rule.greedy):
                    m.d.sync += walking.eq(0)
                    m.next = "TELL"
                with m.Elif((rule.top_k != 0) & (rule.top_k <= final)):
                    m.next = "COUNT"
            with m.State("COUNT"):
                m.d.comb += [ranking.eq(1), rank.walk.eq(ended)]
                with m.If(ended):
                    m.next = "RANK"
            with m.State("RANK"):
                with m.If(rank.done):
                    m.d.sync += [need.eq(need - rank.below), low_byte.eq(1), low.eq(rank.found)]
                    m.d.sync += walk(0, final)
                    m.next = "SUM"
                    with m.If(~low_byte):
                        m.d.sync += high.eq(rank.found)
                        m.next = "COUNT"
            with m.State("SUM"):
                with m.If(weighed):
                    m.d.comb += draw.find.eq(1)
                    m.next = "FIND"
            with m.State("FIND"):
                with m.If(draw.found):
                    m.d.sync += walk(
                        Cat(Const(0, _IN_BLOCK), draw.block), Cat(Const(-1, _IN_BLOCK), draw.block)
                    )
                    m.next = "PICK"
            with m.State("PICK"):
                with m.If(weighed):
                    m.next = "TELL"
            with m.State("TELL"):
                m.d.comb += [
                    self.chosen.valid.eq(1),
                    self.chosen.payload.token.eq(Mux(rule.greedy, best_token, draw.token)),
                    self.chosen.payload.rng.eq(Mux(rule.greedy, rule.rng, draw.rng_out)),
                ]
                with m.If(self.chosen.ready):
                    m.next = "IDLE"
        m.d.comb += picking.eq(fsm.ongoing("PICK"))
        return m


_DISTANCE = BlockRam.LATENCY + 2
"""Cycles from an address to the distance."""
_WEIGHED = _DISTANCE + 1 + Exponential.latency
"""Cycles from an address to the weight."""
