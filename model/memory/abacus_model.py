"""The model of the abacus: rows addressed by a counter of places, and two GLUs; no recurrence."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ternac.model.export.export import norm_params, trits
from ternac.model.memory.abacus import (
    BATCH,
    END,
    INCREASES,
    INNER,
    KEEPS,
    LONGEST,
    PLACE_BITS,
    ROW,
    STEPS,
    VOCAB,
    WIDTH,
    number,
    text,
)
from ternac.model.memory.parts import Gated, Part, Stack, State, fit
from ternac.model.memory.system import Report
from ternac.model.net import functional as fn
from ternac.model.net.config import Scales
from ternac.model.net.layers import BitLinear, Norm
from ternac.program.builder import ProgramBuilder
from ternac.program.ops import Memory
from ternac.program.program import Program

TOKEN_BITS = 4
PLACES = 1 << PLACE_BITS


class Places(Part):
    """r += Wa o; r += GLU(NORM(r)); v = Wv NORM(r) replaces o; r += Wb p.

    o is the row of the token's place, p that of the next. A window is a whole session: it begins with empty
    rows and hands no state on.
    """

    def __init__(self, d: int, inner: int, s: Scales) -> None:
        super().__init__()
        self.scales = s
        self.wa = BitLinear(ROW, d, s.row, s.residual)
        self.wb = BitLinear(ROW, d, s.row, s.residual)
        self.gated = Gated(d, inner, s)
        self.norm = Norm(d, s)
        self.wv = BitLinear(d, ROW, s.norm, s.row)

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        mine, following, visits = (each.flatten() for each in last_writers(tokens))
        r, flat = r.flatten(0, 1), tokens.flatten()
        place = torch.zeros(len(flat) + 1, dtype=torch.int64)  # of each token's value among those so far
        values, inner, order = [r.new_zeros(1, ROW)], [], []
        for visit in range(int(visits.max()) + 1):
            now = (visits == visit).nonzero()[:, 0]
            o = torch.cat(values)[place[mine[now]]]  # 0, zeros, is the place of the token -1
            r1 = fn.AddRequant.apply(r[now], self.wa.acc(o), 2.0**-self.wa.shift, None)
            r1, _ = self.gated(r1, None, flat[now])
            place[now] = torch.arange(len(now)) + sum(map(len, values))
            values.append(fn.Requant.apply(self.wv.acc(self.norm(r1)), 2.0**-self.wv.shift, *fn.I8))
            inner.append(r1)
            order.append(now)
        p = torch.cat(values)[place[following]]
        r1 = torch.cat(inner)[torch.cat(order).argsort()]
        r = fn.AddRequant.apply(r1, self.wb.acc(p), 2.0**-self.wb.shift, None)
        return r.view(*tokens.shape, -1), None

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        b.states[f"{name}.place"] = 1
        b.memories[f"{name}.rows"] = Memory(PLACES, ROW, "i8")

        def linear(out: str, x: str, layer: BitLinear, dtype: str) -> str:
            return b.linear(
                f"{name}.{out}", f"{name}.{out}.acc", x, f"{name}.W{out}", trits(layer), layer.shift, dtype
            )

        def of_token(out: str, values: list[int]) -> str:
            """A number for each token: i8[1]; the high digit is 0 and adds 0."""
            rows = np.zeros((2 << TOKEN_BITS, 1), np.int8)
            rows[1 << TOKEN_BITS :][: len(values), 0] = values
            b.consts[f"{name}.{out}.rows"] = rows
            acc = b.op(
                "MEM_READ",
                f"{name}.{out}.acc",
                token,
                rows=f"{name}.{out}.rows",
                bits=TOKEN_BITS,
                shared=0,
            )
            return b.op("REQUANT", f"{name}.{out}", acc, shift=0, dtype="i8")

        def read(out: str, place: str) -> str:
            acc = b.op("MEM_READ", f"{name}.{out}.acc", place, rows=f"{name}.rows", bits=PLACE_BITS, shared=0)
            return b.op("REQUANT", f"{name}.{out}", acc, shift=0, dtype="i8")

        token = b.op("TOKEN", f"{name}.token")
        increase, keep = of_token("increase", INCREASES), of_token("keep", KEEPS)
        place = b.op("LOAD", f"{name}.place.prev", f"{name}.place")
        place = b.op("ADD", f"{name}.place.sum", place, increase, dtype="i16")
        place = b.op("MUL", f"{name}.place.now", place, keep, shift=0, dtype="i16")
        b.op("STORE", f"{name}.place", place)
        following = b.op("ADD", f"{name}.place.next", place, of_token("one", [1] * VOCAB), dtype="i16")
        o = read("o", place)
        r = b.op("ADD", f"{name}.ra", r, linear("a", o, self.wa, "i16"), dtype="i16")
        r = self.gated.emit(b, f"{name}.gated", r)
        v = linear("v", b.norm(f"{name}.n", r, norm_params(self.norm)), self.wv, "i8")
        e = b.op("SUB", f"{name}.e", o, v, dtype="i16")
        b.op("MEM_UPDATE", f"{name}.write", place, e, memory=f"{name}.rows", bits=PLACE_BITS, keep=0)
        p = read("p", following)
        return b.op("ADD", f"{name}.rb", r, linear("b", p, self.wb, "i16"), dtype="i16")


def last_writers(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each token [T, B] which one wrote its row last, which the next place's, and how often its
    row was written.

    Tokens are counted as ``tokens`` is flattened; -1: none did.
    """
    increases, keeps = torch.tensor(INCREASES), torch.tensor(KEEPS)
    count, streams = tokens.shape
    last = torch.full((streams, PLACES), -1)
    writes = torch.zeros(streams, PLACES, dtype=torch.int64)
    mine, following, before = (torch.empty_like(tokens) for _ in range(3))
    place, every = torch.zeros(streams, dtype=torch.int64), torch.arange(streams)
    for t in range(count):
        place = (place + increases[tokens[t]]) * keeps[tokens[t]]
        low, after = place & PLACES - 1, place + 1 & PLACES - 1
        mine[t], following[t], before[t] = last[every, low], last[every, after], writes[every, low]
        last[every, low] = t * streams + every
        writes[every, low] += 1
    return mine, following, before


def make_model(part: str) -> Stack:
    """Return the untrained model ``part``, the only one."""
    s = Scales()
    return Stack(VOCAB, WIDTH, [Places(WIDTH, INNER, s), Gated(WIDTH, INNER, s)], s)


def train(part: str, seed: int, report: Report) -> Program:
    """Train on sums of numbers of at most ``LONGEST`` digits and return the program."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = make_model(part)

    def loss_of(step: int) -> Tensor:
        texts = [text(*(number(rng.randint(1, LONGEST), rng) for _ in range(2))) for _ in range(BATCH)]
        length = max(len(words) for words, _ in texts)
        tokens = torch.full((length, BATCH), END)
        weight = torch.zeros(length - 1, BATCH)
        for stream, (words, asked) in enumerate(texts):
            tokens[: len(words), stream] = torch.tensor(words)
            weight[asked, stream] = 1.0
        logits, _ = model(tokens[:-1])
        nats = cross_entropy(model.nats(logits).flatten(0, 1), tokens[1:].flatten(), reduction="none")
        return (nats * weight.flatten()).sum() / weight.sum()

    fit(model, STEPS, 5e-3, loss_of, report)
    return model.to_program("memory-abacus", {"system": "abacus", "seed": seed, "steps": STEPS})
