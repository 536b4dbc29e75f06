"""The model of the session cache: one recurrence, rows addressed by tokens, two GLUs."""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ternac.model.export.export import norm_params, trits
from ternac.model.memory.cache import (
    BATCH,
    ENTITIES,
    INNER,
    ROW,
    STEPS,
    VOCAB,
    WIDTH,
    WINDOW,
    text,
)
from ternac.model.memory.parts import Gated, Part, Recurrence, Stack, State, add_token_digit, fit
from ternac.model.memory.system import Report
from ternac.model.net import functional as fn
from ternac.model.net.config import Scales
from ternac.model.net.layers import BitLinear, Norm, silu
from ternac.model.net.memory import delta_scan
from ternac.program.builder import ProgramBuilder
from ternac.program.ops import Memory
from ternac.program.program import Program

BITS = 8
RATE = 0


class TokenRows(Part):
    """r += Wo(o * SiLU(Wg n)): o is the row of the token before this one.

    Token t's value Wv n replaces the row of token t - 2, which was read behind token t - 1: what follows a
    token and the next is kept under the first of them ("E is C": C under E).
    """

    def __init__(self, d: int, s: Scales) -> None:
        super().__init__()
        self.scales = s
        self.norm = Norm(d, s)
        self.wv = BitLinear(d, ROW, s.norm, s.row)
        self.wg = BitLinear(d, ROW, s.norm, s.pre)
        self.wo = BitLinear(ROW, d, s.mixed, s.residual)
        self.silu = silu(s, s.gate)
        self.mul_shift = s.row + s.gate - s.mixed

    def start(self, batch: int) -> State:
        zero = torch.zeros(batch, 1, dtype=torch.int64)
        return zero, zero, torch.zeros(batch, ROW), torch.zeros(batch, 1 << BITS, ROW, dtype=torch.int8)

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        last_token, last_row, before, memory = state
        n = self.norm(r)
        rows = torch.cat((last_token.unsqueeze(0), tokens[:-1].unsqueeze(-1)))
        v = fn.Requant.apply(self.wv.acc(n), 2.0**-self.wv.shift, *fn.I8)
        o, memory = delta_scan(v, rows, last_row, before, memory, RATE)
        z = fn.Mul.apply(o, self.silu(self.wg.acc(n), self.wg.shift), 2.0**-self.mul_shift)
        r = fn.AddRequant.apply(r, self.wo.acc(z), 2.0**-self.wo.shift, None)
        return r, (tokens[-1].unsqueeze(-1), rows[-1], o[-1].detach(), memory)

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        s = self.scales
        b.states |= {f"{name}.t1": 1, f"{name}.t2": 1, f"{name}.o.state": ROW}
        b.memories[f"{name}.rows"] = Memory(1 << BITS, ROW, "i8")

        def linear(out: str, x: str, layer: BitLinear, dtype: str = "i8") -> str:
            return b.linear(
                f"{name}.{out}", f"{name}.{out}.acc", x, f"{name}.W{out}", trits(layer), layer.shift, dtype
            )

        token = add_token_digit(b, f"{name}.token")
        n = b.norm(f"{name}.n", r, norm_params(self.norm))
        v = linear("v", n, self.wv)
        t1, t2 = (b.op("LOAD", f"{name}.{t}.prev", f"{name}.{t}") for t in ("t1", "t2"))
        before = b.op("LOAD", f"{name}.o.prev", f"{name}.o.state")
        e = b.op(
            "REQUANT", f"{name}.e", b.op("SUB", f"{name}.d", before, v, dtype="i16"), shift=RATE, dtype="i16"
        )
        b.op("MEM_UPDATE", f"{name}.write", t2, e, memory=f"{name}.rows", bits=BITS, keep=0)
        acc = b.op("MEM_READ", f"{name}.o.acc", t1, rows=f"{name}.rows", bits=BITS, shared=0)
        o = b.op("REQUANT", f"{name}.o", acc, shift=0, dtype="i16")
        for state, value in (("t2", t1), ("t1", token), ("o.state", o)):
            b.op("STORE", f"{name}.{state}", value)
        act = b.op("TABLE", f"{name}.g.act", linear("g.pre", n, self.wg), table="silu")
        g = b.op("REQUANT", f"{name}.g", act, shift=s.state - s.gate, dtype="i8")
        z = b.op("MUL", f"{name}.z", o, g, shift=self.mul_shift, dtype="i8")
        return b.op("ADD", f"{name}.r", r, linear("res", z, self.wo, "i16"), dtype="i16")


def make_model(part: str) -> Stack:
    """Return the untrained model ``part``, the only one."""
    s = Scales()
    parts = [Recurrence(WIDTH, s), TokenRows(WIDTH, s), Gated(WIDTH, INNER, s), Gated(WIDTH, INNER, s)]
    return Stack(VOCAB, WIDTH, parts, s)


def train(part: str, seed: int, report: Report) -> Program:
    """Train on short texts of few entities and return the program."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = make_model(part)

    def loss_of(step: int) -> Tensor:
        tokens, weight = torch.zeros(WINDOW + 1, BATCH, dtype=torch.int64), torch.full((WINDOW, BATCH), 0.2)
        for stream in range(BATCH):
            corrections, entities = rng.choice((0.1, 0.3)), rng.choice((4, 12, 24, ENTITIES))
            words, asked, _ = text(WINDOW + 1, corrections, entities, rng)
            tokens[:, stream] = torch.tensor(words[: WINDOW + 1])
            weight[[place for place in asked if place < WINDOW], stream] = 1.2
        logits, _ = model(tokens[:-1])
        nats = cross_entropy(model.nats(logits).flatten(0, 1), tokens[1:].flatten(), reduction="none")
        return (nats * weight.flatten()).mean()

    fit(model, STEPS, 5e-3, loss_of, report)
    return model.to_program("memory-cache", {"system": "cache", "seed": seed, "steps": STEPS})
