"""The model of the needles: a window over four tokens, a product-key memory, a GLU."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ternac.model.export.export import norm_params, trits
from ternac.model.memory.fwpkm import (
    KEY,
    LENGTH,
    SETTINGS,
    TOLD,
    VOCAB,
    document,
)
from ternac.model.memory.parts import Gated, Part, Remember, Stack, State, fit
from ternac.model.memory.system import Report
from ternac.model.net import functional as fn
from ternac.model.net.config import MemoryConfig, Scales
from ternac.model.net.layers import BitLinear, Norm
from ternac.program.builder import ProgramBuilder
from ternac.program.program import Program

WIDTH, ROW, INNER = 64, 32, 128
LAGS = 3
BATCH, WINDOW, STEPS = 16, 256, 2000
SESSION = 16
"""Windows of a session in training, over which its memory is kept."""
RATE = 1
MAPS = 1
"""Seed of the address maps."""


class Window(Part):
    """r += C1 n1 + C2 n2 + ..: n1 is NORM(r) of the token before, n2 of the one before that.

    So what a token is known by is that token and ``lags`` before it, and nothing else. State k holds what is
    added k tokens later, i16 [d].
    """

    def __init__(self, d: int, lags: int, s: Scales) -> None:
        super().__init__()
        self.norm, self.d = Norm(d, s), d
        self.lags = torch.nn.ModuleList(BitLinear(d, d, s.norm, s.residual) for _ in range(lags))

    def start(self, batch: int) -> State:
        return [torch.zeros(batch, self.d) for _ in self.lags]

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        n = self.norm(r)
        after = []
        later = None  # what the lags behind this one add, one token later
        for lag, before in zip(reversed(list(self.lags)), reversed(state), strict=True):
            assert isinstance(lag, BitLinear)
            acc = lag.acc(n)
            now = fn.Requant.apply(acc, 2.0**-lag.shift, *fn.I16)
            if later is not None:
                now = fn.AddRequant.apply(now, later, 1.0, None)
            after.append(now[-1].detach())
            later = torch.cat((before.unsqueeze(0), now[:-1]))
        return fn.AddRequant.apply(r, later, 1.0, None), after[::-1]

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        n = b.norm(f"{name}.n", r, norm_params(self.norm))
        count = len(self.lags)
        states = [f"{name}.s{k}" for k in range(1, count + 1)]
        b.states |= dict.fromkeys(states, self.d)
        before = [b.op("LOAD", f"{state}.prev", state) for state in states]
        for k, (state, lag) in enumerate(zip(states, self.lags, strict=True)):
            assert isinstance(lag, BitLinear)
            weights = trits(lag)
            names = (f"{state}.c", f"{state}.acc", n, f"{name}.C{k + 1}")
            now = b.linear(*names, weights, lag.shift, "i16")
            if k + 1 < count:
                now = b.op("ADD", f"{state}.now", now, before[k + 1], dtype="i16")
            b.op("STORE", state, now)
        return b.op("ADD", f"{name}.r", r, before[0], dtype="i16")


@dataclass
class Stream:
    """A session of training: windows of a text, and needles of it that can still be asked for."""

    windows: int = 0
    known: list[list[int]] = field(default_factory=list)

    def window(self, length: int, rng: random.Random) -> tuple[list[int], list[int]]:
        """Return the next ``length`` + 1 tokens and the positions behind which a digit is asked for."""
        asked = rng.randint(2, 8)
        count = rng.randint(1, 4)
        tokens, told, _ = document(length - asked * TOLD, count, rng)
        self.known += told
        chosen = [*told, *rng.sample(self.known, min(len(self.known), asked))]
        rng.shuffle(chosen)
        places = []
        while len(chosen) < asked:
            chosen.append(rng.choice(self.known))
        for each in chosen[:asked]:
            places += [len(tokens) + 3 + k for k in range(LENGTH)]
            tokens += each
        self.windows += 1
        return [*tokens, KEY], places


def make_model(heads: int = 8, slots: int = 16) -> Stack:
    """Return the untrained model."""
    s = Scales()
    config = MemoryConfig(heads=heads, slots=slots, width=ROW, rate=RATE, seed=MAPS)
    return Stack(
        VOCAB,
        WIDTH,
        [Window(WIDTH, LAGS, s), Remember(config, WIDTH, s), Gated(WIDTH, INNER, s)],
        s,
    )


_kept: dict[int, Stack] = {}
"""What the last seed gave, for all parts."""


def trained(seed: int, report: Report) -> Stack:
    """Train the weights that all parts share."""
    if seed in _kept:
        return _kept[seed]
    _kept.clear()
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = make_model()
    streams = [Stream(windows=i * SESSION // BATCH) for i in range(BATCH)]
    states = model.start(BATCH)

    def loss_of(step: int) -> Tensor:
        nonlocal states
        tokens, weight = torch.zeros(WINDOW + 1, BATCH, dtype=torch.int64), torch.zeros(WINDOW, BATCH)
        fresh = model.start(BATCH)
        for at, stream in enumerate(streams):
            if stream.windows >= SESSION:
                stream.windows, stream.known = 0, []
                clear(states, fresh, at)
            words, asked = stream.window(WINDOW, rng)
            tokens[:, at] = torch.tensor(words)
            weight[asked, at] = 1.0
        logits, states = model(tokens[:-1], states)
        nats = cross_entropy(model.nats(logits).flatten(0, 1), tokens[1:].flatten(), reduction="none")
        return (nats * weight.flatten()).sum() / weight.sum()

    fit(model, STEPS, 5e-3, loss_of, report)
    _kept[seed] = model
    return model


def clear(states: object, fresh: object, stream: int) -> None:
    """Copy the state of one stream, in place, through lists and tuples of tensors [batch, ..]."""
    if isinstance(states, torch.Tensor):
        assert isinstance(fresh, torch.Tensor)
        states[stream] = fresh[stream]
    elif isinstance(states, list | tuple):
        assert isinstance(fresh, list | tuple)
        for one, other in zip(states, fresh, strict=True):
            clear(one, other, stream)


def train(part: str, seed: int, report: Report) -> Program:
    """Train, choose the rows of ``part``, and return the program."""
    model = trained(seed, report)
    setting = SETTINGS[part]
    (recall,) = (each.recall for each in model.every_part() if isinstance(each, Remember))
    recall.take(replace(recall.config, heads=setting.heads, slots=setting.slots))
    return model.to_program(f"memory-fwpkm-{part}", {"system": "fwpkm", "seed": seed, "steps": STEPS})
