"""The language models with and without constant rows, and their training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ternac.model.export.export import norm_params, trits
from ternac.model.memory.parts import Gated, Part, ProductRows, Recurrence, Stack, State, fit
from ternac.model.memory.pkm import ROWS, texts
from ternac.model.memory.system import Report
from ternac.model.net import functional as fn
from ternac.model.net.config import Scales
from ternac.model.net.layers import BitLinear, Norm
from ternac.model.training.data import Streams
from ternac.program.builder import ProgramBuilder
from ternac.program.program import Program

VOCAB, WIDTH, INNER, LAYERS = 128, 96, 192, 2
HEADS, SLOTS, ROW, SMALL = 8, 4, 32, 88
"""The rows, and the inner width that is left of the first gated layer: as many bytes as the other model."""
SPREAD, UNIT = 8.0, 8
"""Of the first rows, see `ProductRows`: large ones, and fast ones, cost 0.013 nats after 500 steps."""
BATCH, WINDOW, STEPS, LR = 16, 64, 1200, 5e-3
EVERY = 50
"""Steps from a point of the curve to the next."""


class Rows(Part):
    """r += Wo o: o is the mean of one row a head, at product keys.

    The first digits are winners of a learnt map of NORM(r), the second ones those of another map of the token
    before: so a row stands for a pair of tokens.
    """

    def __init__(self, d: int, s: Scales) -> None:
        super().__init__()
        self.scales, self.norm = s, Norm(d, s)
        self.rows = ProductRows(HEADS, SLOTS, ROW, d, (s.norm, s.norm), s, SPREAD, UNIT)
        self.wo = BitLinear(ROW, d, s.row, s.residual)

    def start(self, batch: int) -> State:
        return torch.zeros(batch, HEADS * SLOTS)

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        n = self.norm(r)
        mine, second = (self.rows.scores(which, n) for which in (0, 1))
        acc = self.rows.read(mine, torch.cat((state.unsqueeze(0), second[:-1])))
        o = fn.Requant.apply(acc, 2.0 ** (self.scales.row - self.rows.fraction), *fn.I8)
        return fn.AddRequant.apply(r, self.wo.acc(o), 2.0**-self.wo.shift, None), second[-1].detach()

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        n = b.norm(f"{name}.n", r, norm_params(self.norm))
        mine, second = (self.rows.emit_digits(b, name, which, n) for which in (0, 1))
        b.states[f"{name}.state"] = HEADS
        before = b.op("LOAD", f"{name}.before", f"{name}.state")
        b.op("STORE", f"{name}.state", second)
        acc = self.rows.emit_read(b, name, mine, before)
        o = b.op("REQUANT", f"{name}.o", acc, shift=self.rows.fraction - self.scales.row, dtype="i8")
        weights = trits(self.wo)
        res = b.linear(f"{name}.res", f"{name}.res.acc", o, f"{name}.Wo", weights, self.wo.shift, "i16")
        return b.op("ADD", f"{name}.r", r, res, dtype="i16")


def make_model(part: str) -> Stack:
    """Return the untrained model ``part``."""
    s = Scales()
    parts: list[Part] = []
    for layer in range(LAYERS):
        smaller = part == ROWS and not layer
        if smaller:
            parts.append(Rows(WIDTH, s))
        parts += [Recurrence(WIDTH, s), Gated(WIDTH, SMALL if smaller else INNER, s)]
    return Stack(VOCAB, WIDTH, parts, s)


def train(part: str, seed: int, report: Report) -> Program:
    """Train on Tiny Shakespeare and return the program, with the loss by step in ``meta["curve"]``."""
    torch.manual_seed(seed)
    model = make_model(part)
    streams = Streams(texts()[0], BATCH, WINDOW, seed)
    states: list[State] = []
    curve: list[list[float]] = []
    recent: list[float] = []

    def loss_of(step: int) -> Tensor:
        nonlocal states
        inputs, targets = (torch.from_numpy(each) for each in streams.window_at(step))
        if streams.fresh(step).any():
            states = model.start(BATCH)
        logits, states = model(inputs, states)
        loss = cross_entropy(model.nats(logits).flatten(0, 1), targets.flatten())
        recent.append(float(loss.detach()))
        if len(recent) == EVERY:
            curve.append([step + 1, sum(recent) / EVERY])
            recent.clear()
        return loss

    for linear in model.modules():
        if isinstance(linear, BitLinear):
            linear.bf16_backward = True
    fit(model, STEPS, LR, loss_of, report)
    meta = {"system": "pkm", "seed": seed, "steps": STEPS, "curve": curve}
    return model.to_program(f"memory-pkm-{part}", meta)
