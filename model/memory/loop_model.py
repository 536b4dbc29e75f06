"""The model of the latent loop: one write of a link a token, and a block of reads that LOOP runs again.

Rows are added, none is weighted: a key's winners are where the value of the next token goes, all with 1.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ternac.model.export.export import glu_params, norm_params, trits
from ternac.model.memory.loop import (
    BATCH,
    GROUP,
    HEADS,
    INNER,
    LOOPED,
    MAPPED,
    MOST,
    ROW,
    STEPS,
    SYMBOLS,
    TRAINED_HOPS,
    VOCAB,
    WIDTH,
    chains,
    follow,
    links_of,
    permutation,
    told,
)
from ternac.model.memory.parts import Part, Stack, State, fit
from ternac.model.memory.system import Report
from ternac.model.net import functional as fn
from ternac.model.net.config import Scales
from ternac.model.net.layers import GLU, BitLinear, Norm
from ternac.model.net.memory import Active, loop
from ternac.program.builder import ProgramBuilder
from ternac.program.language_model import add_glu
from ternac.program.ops import Memory
from ternac.program.program import Program

BITS = GROUP.bit_length() - 1
TOKEN_BITS = 8
ROW_SHIFT = 4
"""Of the int8 value on its way to the rows: what is written is -8..8, so 15 of them fit an int8 row."""
GAIN = 2.0**-5
"""Of the gradient to the score of a winner, in codes of ``pre``: only the speed of training depends on it."""


class Follow(Part):
    """r' = x + GLU(NORM(x)), x = Wo NORM(o), ``runs`` times: o is read at the winners of Wq NORM(r).

    Before that token t writes if it is an IS: its value Wv n is subtracted from the rows that the winners of
    Wk n of token t - 1 address (the weights learn the sign). Rows are int8; saturation is not computed here,
    and cannot happen in the first 15 writes of a session. The program runs the block ``runs`` times unless a
    request asks for up to ``most`` runs. ``last``: the block runs for so many tokens at the end of a window
    only, where no others are asked for (0: for all).
    """

    last = 0

    def __init__(self, d: int, s: Scales, runs: int = 1, most: int = 1) -> None:
        super().__init__()
        self.scales, self.d, self.runs, self.most = s, d, runs, most
        self.norm = Norm(d, s)
        self.norm_row = Norm(ROW, replace(s, residual=s.row - ROW_SHIFT + HEADS.bit_length() - 1))
        self.wk = BitLinear(d, HEADS * GROUP, s.norm, s.pre)
        self.wv = BitLinear(d, ROW, s.norm, s.row)
        self.wq = BitLinear(d, HEADS * GROUP, s.norm, s.pre)
        self.wo = BitLinear(ROW, d, s.norm, s.residual)
        self.glu = GLU(d, INNER, s)

    def start(self, batch: int) -> State:
        zero = torch.zeros(batch, HEADS * GROUP)
        zero[:, ::GROUP] = 1.0
        return zero, torch.zeros(batch, HEADS * GROUP, ROW)

    def active(self, scores: BitLinear, n: Tensor) -> Tensor:
        """Return 1 at the winners of the scores of n, 0 elsewhere."""
        codes = fn.Requant.apply(scores.acc(n), 1.0, *fn.I16)
        return Active.apply(codes, HEADS, GAIN * 2.0**-scores.shift)

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        last, rows = state
        n = self.norm(r)
        keys = self.active(self.wk, n)
        at = torch.cat((last.unsqueeze(0), keys[:-1])).transpose(0, 1)  # [B, T, N]
        gate = (tokens // SYMBOLS == 1).unsqueeze(-1).to(r.dtype)
        v = fn.Requant.apply(self.wv.acc(n), 2.0**-self.wv.shift, *fn.I8)
        e = fn.Requant.apply(v * gate, 2.0**-ROW_SHIFT, *fn.I8).transpose(0, 1)
        first = max(0, len(r) - self.last) if self.last else 0

        def run(r: Tensor, _: int) -> Tensor:
            q = self.active(self.wq, self.norm(r)).transpose(0, 1)
            acc = q @ rows - (q @ at.transpose(1, 2)).tril(first) @ e
            o = fn.Requant.apply(acc.transpose(0, 1), 1.0, *fn.I16)
            x = fn.Requant.apply(self.wo.acc(self.norm_row(o)), 2.0**-self.wo.shift, *fn.I16)
            return fn.AddRequant.apply(x, self.glu(self.norm(x)), 2.0**-self.glu.wdown.shift, None)

        after = (rows - at.transpose(1, 2) @ e).detach()
        r = torch.cat((r[:first], loop(run, r[first:], self.runs)))
        return r, (keys[-1].detach(), after)

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        rows = f"{name}.rows"
        b.states[f"{name}.key"] = HEADS
        b.memories[rows] = Memory(HEADS * GROUP, ROW, "i8")
        norm = norm_params(self.norm)

        def linear(out: str, x: str, layer: BitLinear, dtype: str, shift: int | None = None) -> str:
            weights = trits(layer)  # before the shift is read
            names = (f"{name}.{out}", f"{name}.{out}.acc", x, f"{name}.W{out}")
            return b.linear(*names, weights, layer.shift if shift is None else shift, dtype)

        def winners(out: str, x: str, layer: BitLinear) -> str:
            return b.op("WINNERS", f"{name}.{out}.w", linear(out, x, layer, "i16", 0), groups=HEADS)

        n = b.norm(f"{name}.n", r, norm)
        v = linear("v", n, self.wv, "i8")
        e = b.op("MUL", f"{name}.e", v, self._gate(b, name), shift=ROW_SHIFT, dtype="i8")
        key = b.op("LOAD", f"{name}.key.prev", f"{name}.key")
        b.op("MEM_UPDATE", f"{name}.write", key, e, memory=rows, bits=BITS, keep=0)
        b.op("STORE", f"{name}.key", winners("k", n, self.wk))
        first = len(b.ops)
        q = winners("q", b.norm(f"{name}.nr", r, norm), self.wq)
        acc = b.op("MEM_READ", f"{name}.o.acc", q, rows=rows, bits=BITS, shared=0)
        o = b.op("REQUANT", f"{name}.o", acc, shift=0, dtype="i16")
        x = linear("x", b.norm(f"{name}.no", o, norm_params(self.norm_row)), self.wo, "i16")
        after = add_glu(b, name, norm, *glu_params(self.glu, self.scales), x)
        if self.most > 1:
            shape = {"first": first, "length": len(b.ops) - first, "times": self.runs, "most": self.most}
            b.op("LOOP", f"{name}.loop", r, after, **shape, levels=0)
        return after

    def _gate(self, b: ProgramBuilder, name: str) -> str:
        """Append what is 1 for an IS and 0 for other tokens, i8 [ROW]: constant rows of one, repeated."""
        table = np.zeros((2, 1 << TOKEN_BITS, 1), np.int8)
        table[1, SYMBOLS : 2 * SYMBOLS] = 1  # the second digit is the token's low byte
        b.consts["is"] = table.reshape(-1, 1)
        token = b.op("TOKEN", f"{name}.token")
        acc = b.op("MEM_READ", f"{name}.is.acc", token, rows="is", bits=TOKEN_BITS, shared=0)
        is_one = b.op("REQUANT", f"{name}.is", acc, shift=0, dtype="i8")
        names = (f"{name}.gate", f"{name}.gate.acc", is_one, "repeat")
        return b.linear(*names, np.ones((ROW, 1), np.int8), 0, "i8")


def make_model(part: str) -> Stack:
    """Return the untrained model ``part``."""
    s = Scales()
    follow_links = Follow(WIDTH, s, most=MOST if part == LOOPED else 1)
    return Stack(VOCAB, WIDTH, [follow_links], s)


def train(part: str, seed: int, report: Report) -> Program:
    """Train on permutations and chains of all lengths, and return the program.

    The loop runs as often as a text's symbols have links to follow, one pass is told how many.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = make_model(part)
    steps = STEPS[part]
    (block,) = model.parts
    assert isinstance(block, Follow)
    block.last = MAPPED  # those asked for

    def loss_of(step: int) -> Tensor:
        hops = rng.randint(1, min(TRAINED_HOPS, 1 + 4 * TRAINED_HOPS * step // steps))
        texts, answers = [], []
        for _ in range(BATCH):
            links = permutation(rng)
            if rng.random() < 0.5:
                links = links_of(chains(rng.randrange(MAPPED - 1), rng))
            asked = list(links)
            texts.append(told(links, asked, rng, 1 if part == LOOPED else hops))
            answers.append([SYMBOLS + follow(links, symbol, hops) for symbol in asked])
        if part == LOOPED:
            block.runs = hops
        logits, _ = model(torch.tensor(texts).T)
        return cross_entropy(model.nats(logits[-MAPPED:]).flatten(0, 1), torch.tensor(answers).T.flatten())

    fit(model, steps, 4e-3, loss_of, report)
    block.runs, block.last = 1, 0
    return model.to_program(f"memory-{part}", {"system": "loop", "seed": seed, "steps": steps})
