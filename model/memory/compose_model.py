"""The models of compositions: a gated layer over two tokens, and a reader of facts from constant rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ternac.model.export.export import glu_params, integers, norm_params, trits
from ternac.model.memory.compose import (
    APART,
    ATOMS,
    HELD,
    LOOPED,
    LOOSE,
    MODULUS,
    ONCE,
    OUTSIDE,
    SUM,
    TRAINED,
    VOCAB,
    pairs,
    questions,
)
from ternac.model.memory.parts import Part, ProductRows, Stack, State, add_token_digit, fit
from ternac.model.memory.system import Report
from ternac.model.net import functional as fn
from ternac.model.net.config import Scales
from ternac.model.net.layers import GLU, BitLinear, Norm
from ternac.model.net.memory import PickRows, loop
from ternac.program.builder import ProgramBuilder
from ternac.program.language_model import add_glu_value
from ternac.program.program import Program

SUM_WIDTH, SUM_INNER, SUM_STEPS, SUM_LR, SUM_DECAY = 128, 192, 2000, 2e-3, 2.0
WIDTH, HEADS, SLOTS, WORD_BITS = 64, 8, 16, 7
BATCH, LR = 512, 4e-3
STEPS = {LOOPED: 600, LOOSE: 600, ONCE: 1200, APART: 2400}
"""Where there is no LOOP, the more."""
ATOMS_FIRST = 0.2
"""Share of the steps in which facts alone are asked for."""
SUM_FLAT = 0.4
"""Share of the steps before the rate of learning begins to fall."""
EVERY = 50
"""Steps from a point of the curve to the next."""


class Both(Part):
    """r' = GLU(NORM(r + r of the token before)): what two tokens say together."""

    last = False
    """Return only the last token of a window."""

    def __init__(self, d: int, inner: int, s: Scales) -> None:
        super().__init__()
        self.norm, self.glu, self.d, self.scales = Norm(d, s), GLU(d, inner, s), d, s

    def start(self, batch: int) -> State:
        return torch.zeros(batch, self.d)

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        both = (r + torch.cat((state.unsqueeze(0), r[:-1]))).clamp(*fn.I16)
        acc = self.glu(self.norm(both[-1:] if self.last else both))
        return fn.Requant.apply(acc, 2.0**-self.glu.wdown.shift, *fn.I16), r[-1].detach()

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        b.states[f"{name}.state"] = self.d
        before = b.op("LOAD", f"{name}.before", f"{name}.state")
        b.op("STORE", f"{name}.state", r)
        both = b.op("ADD", f"{name}.both", r, before, dtype="i16")
        return add_glu_value(b, name, norm_params(self.norm), *glu_params(self.glu, self.scales), both)


class Hop(nn.Module):
    """One fact: rows at the winners of the plan p (first digits) and of the word u (second digits).

    The sum of the rows is what the head and the next hop get, so that a product key is all that is shared by
    a fact asked for alone and the same fact within a composition. p' = Wp NORM(p).
    """

    def __init__(self, d: int, s: Scales) -> None:
        super().__init__()
        self.norm = Norm(d, s)
        self.rows = ProductRows(HEADS, SLOTS, d, d, (s.norm, s.embed), s)
        self.wp = BitLinear(d, d, s.norm, s.residual)

    def forward(self, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """u i8 [.., d], p i16 [.., d] -> (sum of rows i16 [.., d], p')."""
        n = self.norm(p)
        o = fn.Requant.apply(self.rows.read(self.rows.scores(0, n), self.rows.scores(1, u)), 1.0, *fn.I16)
        return o, fn.Requant.apply(self.wp.acc(n), 2.0**-self.wp.shift, *fn.I16)

    def emit(self, b: ProgramBuilder, name: str, u: str, p: str) -> tuple[str, str]:
        """Append its ops; returns the names of both results."""
        n = b.norm(f"{name}.n", p, norm_params(self.norm))
        digits = (self.rows.emit_digits(b, name, which, x) for which, x in enumerate((n, u)))
        o = b.op("REQUANT", f"{name}.o", self.rows.emit_read(b, name, *digits), shift=0, dtype="i16")
        weights = trits(self.wp)
        return o, b.linear(f"{name}.p", f"{name}.p.acc", n, f"{name}.Wp", weights, self.wp.shift, "i16")


class Reader(nn.Module):
    """Answers questions of facts: tokens i64 [N, 3] to logits [N, VOCAB].

    The word u is the token's row of ``words``, the plan p a ternary map of those of the two tokens before.
    Between two hops the reader says a word to itself: u' is the row of the winner of the logits, or, if
    ``says`` is false, the rows that were read. ``blocks``: 1, which LOOP runs again, or more in its place.
    """

    def __init__(self, blocks: int, looped: bool, says: bool = True, s: Scales | None = None) -> None:
        super().__init__()
        self.scales = s = s or Scales()
        self.looped, self.says = looped, says
        self.words = nn.Parameter(torch.randn(VOCAB, WIDTH))
        self.w1 = BitLinear(WIDTH, WIDTH, s.embed, s.residual)
        self.w2 = BitLinear(WIDTH, WIDTH, s.embed, s.residual)
        self.hops = nn.ModuleList(Hop(WIDTH, s) for _ in range(blocks))
        self.norm = Norm(WIDTH, s)
        self.head = BitLinear(WIDTH, VOCAB, s.norm, s.logits)

    def every_hop(self) -> list[Hop]:
        """Return the blocks."""
        return [hop for hop in self.hops if isinstance(hop, Hop)]

    def codes(self) -> Tensor:
        """Return the words, i8 [VOCAB, WIDTH]."""
        return fn.Requant.apply(self.words, 2.0**self.scales.embed, *fn.I8)

    def forward(self, asked: Tensor, runs: int = 1) -> Tensor:
        """Return the logits of ``asked`` [N, 3] after ``runs`` runs of the loop, or behind all blocks."""
        codes, hops = self.codes(), self.every_hop()
        second, first, u = (codes[asked[:, at]] for at in range(3))
        p1, p2 = (
            fn.Requant.apply(w.acc(x), 2.0**-w.shift, *fn.I16)
            for w, x in ((self.w1, first), (self.w2, second))
        )

        def hop(carried: tuple[Tensor, Tensor, Tensor], run: int) -> tuple[Tensor, Tensor, Tensor]:
            u, p, _ = carried
            o, p = hops[0 if self.looped else run](u, p)
            logits = fn.Requant.apply(self.head.acc(self.norm(o)), 2.0**-self.head.shift, *fn.I16)
            if self.says:
                u = PickRows.apply(codes.unsqueeze(0), (2.0**-self.scales.logits,), logits)
            else:
                u = fn.Requant.apply(o, 2.0 ** (self.scales.embed - self.scales.residual), *fn.I8)
            return u, p, logits

        start = (u, (p1 + p2).clamp(*fn.I16), u)
        return loop(hop, start, runs if self.looped else len(hops))[2]

    def nats(self, logits: Tensor) -> Tensor:
        """Return logits as real numbers, for a loss."""
        return logits * 2.0**-self.scales.logits

    @torch.no_grad()
    def to_program(self, name: str, meta: Mapping[str, Any]) -> Program:
        """Return the program; call it in ``eval`` mode. Raises IllegalProgram if it breaks a rule."""
        s, b = self.scales, ProgramBuilder()
        words = np.zeros((1 << WORD_BITS, WIDTH), np.int8)
        words[:VOCAB] = integers(self.codes(), np.int8)
        b.consts["words"] = words

        def said(out: str, digit: str) -> str:
            acc = b.op("MEM_READ", f"{out}.acc", digit, rows="words", bits=WORD_BITS, shared=1)
            return b.op("REQUANT", out, acc, shift=0, dtype="i8")

        def planned(out: str, x: str, layer: BitLinear) -> str:
            weights = trits(layer)
            return b.linear(out, f"{out}.acc", x, f"{out}.W", weights, layer.shift, "i16")

        u = said("u", add_token_digit(b, "token"))
        b.states |= {"t1": 1, "t2": 1}
        t1, t2 = (b.op("LOAD", f"{t}.prev", t) for t in ("t1", "t2"))
        b.op("STORE", "t2", t1)
        b.op("STORE", "t1", "token")
        plans = planned("p1", said("u1", t1), self.w1), planned("p2", said("u2", t2), self.w2)
        p = b.op("ADD", "p", *plans, dtype="i16")
        head = trits(self.head)
        logits = ""
        for index, hop in enumerate(self.every_hop()):
            at, first = str(index), len(b.ops)
            o, new_p = hop.emit(b, at, u, p)
            n = b.norm(f"{at}.no", o, norm_params(self.norm))
            logits = b.linear(f"{at}.logits", f"{at}.logits.acc", n, "head", head, self.head.shift, "i16")
            if not self.looped and index + 1 == len(self.hops):
                break
            if self.says:
                new_u = said(f"{at}.u", b.op("WINNERS", f"{at}.said", logits, groups=1))
            else:
                new_u = b.op("REQUANT", f"{at}.u", o, shift=s.residual - s.embed, dtype="i8")
            if self.looped:
                shape = {"first": first, "length": len(b.ops) - first, "times": 1, "most": 2, "levels": 0}
                b.op("LOOP", f"{at}.loop", u, new_u, p, new_p, **shape)
            u, p = new_u, new_p
        return b.build(name, logits, s.logits, dict(meta), vocab=VOCAB)


def make_reader(part: str) -> Reader:
    """Return the untrained model ``part`` of facts."""
    looped = part in (LOOPED, LOOSE)
    return Reader(2 if part == APART else 1, looped, part != LOOSE)


def train(part: str, seed: int, report: Report) -> Program:
    """Train the model ``part`` and return the program, with the curve of its training in ``meta``."""
    torch.manual_seed(seed)
    return _train_sum(seed, report) if part == SUM else _train_reader(part, seed, report)


def _train_sum(seed: int, report: Report) -> Program:
    """Train with weight decay, long after all training pairs are known."""
    s = Scales()
    block = Both(SUM_WIDTH, SUM_INNER, s)
    model = Stack(MODULUS, SUM_WIDTH, [block], s)
    known, held = (torch.from_numpy(some).T for some in pairs())
    curve: list[list[float]] = []

    def right(logits: Tensor, some: Tensor) -> float:
        return float((logits.argmax(-1) == some.sum(0) % MODULUS).double().mean())

    def loss_of(step: int) -> Tensor:
        if step % EVERY == 0:
            with torch.no_grad():
                curve.append([step, *(right(model(some)[0][-1], some) for some in (known, held))])
        return cross_entropy(model.nats(model(known)[0][-1]), known.sum(0) % MODULUS)

    block.last = True
    fit(model, SUM_STEPS, SUM_LR, loss_of, report, decay=SUM_DECAY, flat=SUM_FLAT)
    block.last = False
    return model.to_program(
        "memory-sum", {"system": "compose", "seed": seed, "steps": SUM_STEPS, "curve": curve}
    )


def _train_reader(part: str, seed: int, report: Report) -> Program:
    """Train on facts, then on facts and compositions of a part of them at even odds."""
    model, steps = make_reader(part), STEPS[part]
    groups = {group: torch.from_numpy(some) for group, some in questions().items()}
    curve: list[list[float]] = []

    def runs(group: str) -> int:
        return 1 if group == ATOMS else 2

    @torch.no_grad()
    def right(group: str) -> float:
        some = groups[group][:1000]
        return float((model(some[:, :3], runs(group)).argmax(-1) == some[:, 3]).double().mean())

    def loss_of(step: int) -> Tensor:
        if step % EVERY == 0:
            curve.append([step, *(right(group) for group in (ATOMS, HELD, OUTSIDE))])
        loss = torch.zeros(())
        for group in (ATOMS, TRAINED) if step >= ATOMS_FIRST * steps else (ATOMS,):
            some = groups[group][torch.randint(len(groups[group]), (BATCH,))]
            loss = loss + cross_entropy(model.nats(model(some[:, :3], runs(group))), some[:, 3])
        return loss

    fit(model, steps, LR, loss_of, report)
    meta = {"system": "compose", "seed": seed, "steps": steps, "curve": curve}
    return model.to_program(f"memory-{part}", meta)
