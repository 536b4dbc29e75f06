"""The KAN models: splines while they are trained, int8 table rows in the forward and in the program.

A table is the cubic B-splines of its inputs at the points of their codes, rounded to int8: coefficients are
trained straight through the rounding, and what is trained is what is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, mse_loss

from ternac.model.export.export import integers
from ternac.model.memory.kan import (
    AHEAD,
    CLASSES,
    CODES,
    HIDDEN,
    HIDDEN_BITS,
    HIGH,
    LAG,
    LAGS,
    LOW,
    NODES,
    PIXEL_BITS,
    PIXELS,
    SPAN,
    TRAINING_IMAGES,
    TRAINING_VALUES,
    error,
    forward_digest,
    images,
    series,
    series_case,
    to_codes,
)
from ternac.model.memory.parts import fit
from ternac.model.memory.system import Report
from ternac.model.net import functional as fn
from ternac.model.net.memory import TableRows
from ternac.program.builder import ProgramBuilder
from ternac.program.program import Program

SERIES_BITS = 8
DEGREE = 3
BATCH = 128
TOKENS = 1 << PIXEL_BITS
"""Vocabulary of the digits: pixels; the first ten are also the answers."""


def spline_basis(points: int, pieces: int) -> Tensor:
    """Return the values [points, pieces + 3] of the cubic B-splines on ``pieces`` equal parts of a range.

    Cox and de Boor's recursion; the points are spread evenly from one end to the other.
    """
    x = np.linspace(0, pieces, points).clip(max=pieces - 1e-9)[:, None]
    knots = np.arange(-DEGREE, pieces + DEGREE + 1, dtype=np.float64)
    basis = ((x >= knots[:-1]) & (x < knots[1:])).astype(np.float64)
    for k in range(1, DEGREE + 1):  # knots are 1 apart
        basis = (x - knots[: -k - 1]) / k * basis[:, :-1] + (knots[k + 1 :] - x) / k * basis[:, 1:]
    return torch.from_numpy(basis).float()


class Tables(nn.Module):
    """One layer: codes [.., I], of ``bits`` bits, to accumulators [.., D].

    ``signed``: codes are two's complement; else they begin at 0.
    """

    basis: Tensor

    def __init__(self, inputs: int, width: int, bits: int, pieces: int, signed: bool) -> None:
        super().__init__()
        basis = spline_basis(1 << bits, pieces)
        self.register_buffer("basis", basis.roll(1 << (bits - 1), 0) if signed else basis)
        self.coefficients = nn.Parameter(torch.randn(inputs, pieces + DEGREE, width) * 20 / math.sqrt(inputs))

    def rows(self) -> Tensor:
        """Return the int8 rows [I, 2**bits, D]."""
        return fn.Requant.apply(torch.einsum("qg,igo->iqo", self.basis, self.coefficients), 1.0, *fn.I8)

    def forward(self, codes: Tensor) -> Tensor:
        return TableRows.apply(codes, self.rows())

    def numpy(self) -> npt.NDArray[np.int8]:
        """Return the rows of all inputs, [I * 2**bits, D]."""
        return integers(self.rows().flatten(0, 1), np.int8)


class Digits(nn.Module):
    """64 pixels to 16 nodes of 4 bits to logits of all tokens; the last six never are an answer."""

    shift = 5
    fine = 1
    """Of ``shift``, bits that a node loses behind the saturation to int8, by a table."""
    scale = 2.0**-5

    def __init__(self) -> None:
        super().__init__()
        self.first = Tables(PIXELS, HIDDEN, PIXEL_BITS, 5, signed=False)
        self.second = Tables(HIDDEN, TOKENS, HIDDEN_BITS, 5, signed=True)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 64] to logits in codes [B, V]."""
        code = fn.Requant.apply(self.first(pixels), 2.0 ** (self.fine - self.shift), *fn.I8)
        half = float(1 << HIDDEN_BITS - 1)
        return self.second(fn.Requant.apply(code, 2.0**-self.fine, -half, half - 1.0))

    @torch.no_grad()
    def to_program(self, meta: dict[str, Any]) -> Program:
        """Return the program: a pixel a token, the answer behind each 64th."""
        b = ProgramBuilder()
        b.states |= {"place": 1, "sum": HIDDEN}
        place = b.op("LOAD", "place.now", "place")
        # Places that follow, and 0 where an image begins and the last one's sum ends.
        b.const("next", np.roll(np.arange(PIXELS), -1)[:, None], np.int8)
        b.const("keep", np.arange(PIXELS)[:, None] > 0, np.int8)
        after = b.op("MEM_READ", "place.acc", place, rows="next", bits=6, shared=0)
        b.op("STORE", "place", b.op("REQUANT", "place.next", after, shift=0, dtype="i16"))
        keep = b.op("MEM_READ", "keep.acc", place, rows="keep", bits=6, shared=0)
        keep = b.op("REQUANT", "keep.one", keep, shift=0, dtype="i8")
        keep = b.linear("keep.all", "keep.all.acc", keep, "spread", np.ones((HIDDEN, 1)), 0, "i8")
        b.const("embed", np.arange(TOKENS)[:, None], np.int8)
        pixel = b.op("GATHER", "pixel", embed="embed", shift=8)
        first = b.op("REQUANT", "region", place, shift=0, dtype="i16", multiplier=TOKENS)
        b.const("first", self.first.numpy(), np.int8)
        row = b.op("ADD", "row", first, pixel, dtype="i16")
        acc = b.op("MEM_READ", "first.acc", row, rows="first", bits=6 + PIXEL_BITS, shared=0)
        acc = b.op("REQUANT", "first.out", acc, shift=0, dtype="i16")
        old = b.op("MUL", "sum.old", b.op("LOAD", "sum.now", "sum"), keep, shift=0, dtype="i16")
        total = b.op("ADD", "sum.new", old, acc, dtype="i16")
        b.op("STORE", "sum", total)
        code = b.op("REQUANT", "node", total, shift=self.shift - self.fine, dtype="i8")
        half = 1 << HIDDEN_BITS - 1
        codes = np.arange(-128, 128)
        b.const("narrow", np.clip((codes + (1 << self.fine >> 1)) >> self.fine, -half, half - 1), np.int16)
        code = b.op("TABLE", "node.code", code, table="narrow")
        b.const("second", self.second.numpy(), np.int8)
        acc = b.op("MEM_READ", "second.acc", code, rows="second", bits=HIDDEN_BITS, shared=0)
        logits = b.op("REQUANT", "logits", acc, shift=0, dtype="i16")
        return b.build("memory-kan-digits", logits, 5, meta)


class Series(nn.Module):
    """Six lags of 8 bits to four nodes of 8 bits to the code of the value ahead."""

    shift = 1
    fine = 1
    """Fraction bits of the sum in front of the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Tables(LAGS, NODES, SERIES_BITS, 16, signed=True)
        self.second = Tables(NODES, 1, SERIES_BITS, 16, signed=True)

    def forward(self, lags: Tensor) -> Tensor:
        """Codes -128..127 [B, 6], the newest first, to the answer's code with ``fine`` fraction bits [B]."""
        codes = fn.Requant.apply(self.first(lags), 2.0**-self.shift, *fn.I8)
        return self.second(codes).squeeze(-1)

    @torch.no_grad()
    def answer(self, lags: Tensor) -> npt.NDArray[np.int64]:
        """Return the tokens [B] that are answered."""
        code = fn.Requant.apply(self(lags), 2.0**-self.fine, *fn.I8)
        return (code.numpy() + CODES // 2).astype(np.int64)

    @torch.no_grad()
    def to_program(self, meta: dict[str, Any]) -> Program:
        """Return the program: a value's code a token; the answer is the token of the value ahead."""
        b = ProgramBuilder()
        b.states["window"] = SPAN
        b.const("embed", np.arange(CODES)[:, None] - CODES // 2, np.int8)
        new = b.op("REQUANT", "new", b.op("GATHER", "token", embed="embed", shift=8), shift=0, dtype="i8")
        new = b.linear("new.placed", "new.acc", new, "place", np.eye(SPAN, 1), 0, "i16")
        old = b.op("REQUANT", "old", b.op("LOAD", "window.now", "window"), shift=0, dtype="i8")
        old = b.linear("old.moved", "old.acc", old, "move", np.eye(SPAN, k=-1), 0, "i16")
        window = b.op("ADD", "window.new", new, old, dtype="i16")
        b.op("STORE", "window", window)
        window = b.op("REQUANT", "window.codes", window, shift=0, dtype="i8")
        lags = b.linear("lags", "lags.acc", window, "pick", np.eye(SPAN)[::LAG], 0, "i16")
        b.const("first", self.first.numpy(), np.int8)
        acc = b.op("MEM_READ", "first.acc", lags, rows="first", bits=SERIES_BITS, shared=0)
        nodes = b.op("REQUANT", "nodes", acc, shift=self.shift, dtype="i8")
        b.const("second", self.second.numpy(), np.int8)
        acc = b.op("MEM_READ", "second.acc", nodes, rows="second", bits=SERIES_BITS, shared=0)
        code = b.op("REQUANT", "answer", acc, shift=self.fine, dtype="i8")
        signs = token_signs()
        b.const("signs", np.roll(signs, CODES // 2, 0), np.int8)  # rows by the code's low bits
        acc = b.op("MEM_READ", "signs.acc", code, rows="signs", bits=SERIES_BITS, shared=0)
        found = b.op("REQUANT", "found", acc, shift=0, dtype="i8")
        logits = b.linear("logits", "logits.acc", found, "tokens", signs, 0, "i16")
        return b.build("memory-kan-series", logits, 0, meta)


def token_signs() -> npt.NDArray[np.int8]:
    """Return the bits [256, 8] of all tokens as -1 and 1: each has its largest product with itself."""
    return (np.arange(CODES)[:, None] >> np.arange(SERIES_BITS) & 1).astype(np.int8) * 2 - 1


class MLP(nn.Module):
    """What a KAN is measured beside: layers with biases and ReLU between them, float32 or ternary.

    Ternary: trits times the mean magnitude of the layer, inputs rounded to 8 bits, both straight through.
    """

    def __init__(self, sizes: tuple[int, ...], ternary: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.ternary = ternary
        for layer in self.linears():
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    def linears(self) -> list[nn.Linear]:
        """Return the layers in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        for index, layer in enumerate(self.linears()):
            x, w = torch.relu(x) if index else x, layer.weight
            if self.ternary:
                step = x.detach().abs().amax(-1, keepdim=True).clamp_min(1e-5) / 127
                mean = w.detach().abs().mean()
                x = x + ((x / step).round() * step - x).detach()
                w = w + ((w / mean).round().clamp(-1, 1) * mean - w).detach()
            x = linear(x, w, layer.bias)
        return x


def fit_batches(
    model: nn.Module, steps: int, lr: float, loss_of: Callable[[Tensor], Tensor], count: int, report: Report
) -> None:
    """Train on batches drawn from ``count`` examples; ``loss_of`` gets their numbers."""
    fit(model, steps, lr, lambda step: loss_of(torch.randint(0, count, (BATCH,))), report)


def lag_windows(codes: npt.NDArray[np.int64], asked: npt.NDArray[np.int64]) -> Tensor:
    """Return the lags [N, 6] at ``asked``, as codes of -128..127, the newest first."""
    return torch.from_numpy(codes[asked[:, None] - LAG * np.arange(LAGS)] - CODES // 2).float()


def train(part: str, seed: int, report: Report) -> Program:
    """Train the model, and beside it MLPs of as many parameters and of as many bits (meta ``beside``)."""
    return _train_digits(seed, report) if part == "digits" else _train_series(seed, report)


def _train_digits(seed: int, report: Report) -> Program:
    pixels, labels = (torch.from_numpy(each) for each in images())
    x, tests = pixels.float(), slice(TRAINING_IMAGES, None)

    def scored(model: nn.Module, scale: float, inputs: Tensor, lr: float, steps: int) -> Tensor:
        def loss_of(chosen: Tensor) -> Tensor:
            return cross_entropy(model(inputs[chosen]) * scale, labels[chosen])

        fit_batches(model, steps, lr, loss_of, TRAINING_IMAGES, report)
        with torch.no_grad():
            return model(inputs[tests])

    torch.manual_seed(seed)
    model, steps = Digits(), 1200
    logits = scored(model, model.scale, x, 1.0, steps)
    beside = {}
    for name, width, ternary in (
        ("ternary MLP, as many parameters", 136, True),
        ("ternary MLP, as many bits", 1360, True),
        ("float MLP, as many parameters", 136, False),
        ("float MLP, as many bits", 68, False),
    ):
        found = scored(MLP((PIXELS, width, CLASSES), ternary), 1.0, x / 8 - 1, 5e-3, steps)
        beside[name] = float((found.argmax(-1) == labels[tests]).double().mean())
    meta = {"system": "kan", "seed": seed, "steps": steps, "beside": beside}
    return model.to_program(meta | {"forward": forward_digest([logits.numpy()])})


def _train_series(seed: int, report: Report) -> Program:
    values, codes = series(), to_codes(series())
    asked = np.arange(SPAN - 1, TRAINING_VALUES - AHEAD)
    case = series_case()
    lags, test_lags = lag_windows(codes, asked), lag_windows(case.tokens, case.asked)
    ahead, test_ahead = values[asked + AHEAD], values[TRAINING_VALUES:][case.asked + AHEAD]
    torch.manual_seed(seed)
    model, steps = Series(), 1500
    unit = 2.0**model.fine
    step = (HIGH - LOW) / CODES
    wanted = torch.from_numpy((ahead - LOW) / step - 0.5 - CODES // 2).float()

    def loss_of(chosen: Tensor) -> Tensor:
        return mse_loss(model(lags[chosen]) / (32.0 * unit), wanted[chosen] / 32.0)

    fit_batches(model, steps, 1.0, loss_of, len(asked), report)
    beside = {}
    centre, spread = values[:TRAINING_VALUES].mean(), values[:TRAINING_VALUES].std()

    def normed(windows: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy((windows - centre) / spread).float()

    x, y = normed(values[asked[:, None] - LAG * np.arange(LAGS)]), normed(ahead)
    tests = normed(values[TRAINING_VALUES:][case.asked[:, None] - LAG * np.arange(LAGS)])
    for name, inner, ternary in (
        ("ternary MLP, as many parameters", (66,), True),
        ("ternary MLP, as many bits", (185, 185), True),
        ("float MLP, as many parameters", (66,), False),
        ("float MLP, as many bits", (38, 38), False),
    ):
        other = MLP((LAGS, *inner, 1), ternary)

        def loss_of_other(chosen: Tensor, other: MLP = other) -> Tensor:
            return mse_loss(other(x[chosen])[:, 0], y[chosen])

        fit_batches(other, steps, 5e-3, loss_of_other, len(asked), report)
        with torch.no_grad():
            found = other(tests)[:, 0].numpy()
        beside[name] = error(found * spread + centre, test_ahead)
    answers = model.answer(test_lags)
    signs = token_signs().astype(np.int32)
    meta = {"system": "kan", "seed": seed, "steps": steps, "beside": beside}
    return model.to_program(meta | {"forward": forward_digest([signs[answers] @ signs.T])})
