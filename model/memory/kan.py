"""KAN: layers that are sums of table rows, one row of each input; digits and a chaotic series.

A layer is MEM_READ of constant rows: input i has 2**bits rows of its own and adds the one that its code
names, without a product. Inputs are tokens. A digit is 64 of them, pixels of 4 bits, whose rows are summed in
a state; a series is a code of 8 bits a token, and its lags lie in a state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from ternac.model.memory.system import SHIPPED, Case, Curves, Figure, Found, Ints, System, share_right
from ternac.program.program import Program

PIXELS, PIXEL_BITS, HIDDEN, HIDDEN_BITS, CLASSES = 64, 4, 16, 4, 10
TRAINING_IMAGES = 1347
IMAGES_A_SESSION = 10
TABLE_BYTES = 22_000

LAGS, LAG, AHEAD, NODES, CODES = 6, 3, 6, 4, 256
SPAN = LAG * (LAGS - 1) + 1
"""Values from the oldest lag to the newest."""
VALUES, TRAINING_VALUES = 6000, 4200
LOW, HIGH = 0.4, 1.36
"""What the codes of the series span."""
DELAY, STEPS_A_VALUE, FORGOTTEN = 170, 10, 1000
"""Of the series, in steps of 0.1: its delay, steps from value to value, and those before the first."""

DRAWN_VALUES = 300
"""Of the test values, in the picture."""

Floats = npt.NDArray[np.float64]


@cache
def images() -> tuple[Ints, Ints]:
    """Return pixels [N, 64] of 0..15 and classes [N]: the training images first, in an order drawn once."""
    with np.load(SHIPPED / "kan" / "digits.npz") as data:
        packed, labels = data["codes"], data["labels"].astype(np.int64)
    pixels = np.stack((packed & 15, packed >> 4), -1).reshape(len(packed), PIXELS).astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels[order], labels[order]


@cache
def series() -> Floats:
    """Return the Mackey-Glass series: x' = 0.2 x(t-17) / (1 + x(t-17)**10) - 0.1 x, Euler steps of 0.1.

    Sums and products only, so that chaos gives every machine the same values.
    """
    x = [1.2] * (DELAY + 1)
    for _ in range(FORGOTTEN + VALUES * STEPS_A_VALUE):
        late = x[-DELAY]
        fourth = late * late * late * late
        x.append(x[-1] + 0.1 * (0.2 * late / (1.0 + fourth * fourth * late * late) - 0.1 * x[-1]))
    return np.array(x[-VALUES * STEPS_A_VALUE :: STEPS_A_VALUE])


def to_codes(values: Floats) -> Ints:
    """Return the tokens 0..255 of values."""
    codes = np.floor((values - LOW) / (HIGH - LOW) * CODES).astype(np.int64)
    return np.clip(codes, 0, CODES - 1)


def to_values(codes: npt.NDArray[np.generic]) -> Floats:
    """Return what tokens stand for: the middle of their step."""
    return (np.asarray(codes, np.float64) + 0.5) * ((HIGH - LOW) / CODES) + LOW


def series_case() -> Case:
    """Return the test values of the series, in one session."""
    tokens = to_codes(series()[TRAINING_VALUES:])
    asked = np.arange(SPAN - 1, len(tokens) - AHEAD)
    return Case(tokens, asked, tokens[asked + AHEAD], ["value"] * len(asked))


def error(predicted: Floats, values: Floats) -> float:
    """Return the root of the mean squared error, as a share of the standard deviation of ``values``."""
    return float(np.sqrt(np.mean((predicted - values) ** 2)) / np.std(values))


def forward_digest(logits: Sequence[npt.NDArray[np.generic]]) -> str:
    """Return the hash of all logits of cases, [asked, V] each: what ``meta["forward"]`` of a program says."""
    return hashlib.sha256(np.concatenate(logits).astype(np.int32).tobytes()).hexdigest()


class Kan(System):
    """Digits and a series by sums of table rows, see the module."""

    name = "kan"
    title = "layers that are sums of table rows: digits, and a chaotic series"
    parts = ("digits", "series")
    draws = True

    def cases(self, part: str, program: Program) -> list[Case]:
        """Sessions of ten test images, or the test values of the series in one."""
        if part == "digits":
            pixels, labels = (each[TRAINING_IMAGES:] for each in images())
            asked = np.arange(1, IMAGES_A_SESSION + 1) * PIXELS - 1
            return [
                Case(
                    pixels[first : first + IMAGES_A_SESSION].reshape(-1),
                    asked,
                    labels[first : first + IMAGES_A_SESSION],
                    ["image"] * IMAGES_A_SESSION,
                )
                for first in range(0, len(labels), IMAGES_A_SESSION)
            ]
        return [series_case()]

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        (one,) = found["series"]
        values = series()[TRAINING_VALUES:][one.case.asked + AHEAD]
        mine = error(to_values(one.chosen), values)
        sizes = {part: _table_bytes(program) for part, program in programs.items()}
        beside = {part: dict(program.meta["beside"]) for part, program in programs.items()}
        few = beside["series"]["ternary MLP, as many parameters"]
        return [
            Figure("digits right, 450 images", share_right(found["digits"]), 0.97),
            Figure("digits: bytes of tables", sizes["digits"], TABLE_BYTES, most=True),
            *_told("digits right", beside["digits"]),
            Figure("series: NRMSE 6 steps ahead", mine, 0.02, most=True),
            Figure(
                "series: NRMSE as a share of the ternary MLP's", mine / few, 1 / 3, True, "same parameters"
            ),
            Figure("series: bytes of tables", sizes["series"]),
            *_told("series NRMSE", beside["series"]),
            *(
                Figure(
                    f"{part}: all outputs equal the training forward's",
                    float(forward_digest([each.logits for each in found[part]]) == program.meta["forward"]),
                    1.0,
                )
                for part, program in programs.items()
            ),
        ]

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Images right by digit; the first test values of the series, and what was said six steps before."""
        labels = np.concatenate([one.case.answers for one in found["digits"]])
        right = np.concatenate([one.right for one in found["digits"]])
        digits = [int(digit) for digit in np.unique(labels)]
        shares = [float(right[labels == digit].mean()) for digit in digits]
        (one,) = found["series"]
        at = (one.case.asked + AHEAD)[:DRAWN_VALUES]
        lines = {
            "series": series()[TRAINING_VALUES:][at].tolist(),
            f"said {AHEAD} steps before": to_values(one.chosen[:DRAWN_VALUES]).tolist(),
        }
        return [
            Curves("digit", "share of images right", {"digits": (digits, shares)}),
            Curves("value", "series", {name: (at.tolist(), line) for name, line in lines.items()}),
        ]


def _told(what: str, others: Mapping[str, float]) -> list[Figure]:
    return [Figure(f"{what}: {name}", value, note="in training") for name, value in others.items()]


def _table_bytes(program: Program) -> int:
    """Bytes of every constant but trits."""
    roles = program.roles()
    return sum(int(each.nbytes) for name, each in program.consts.items() if roles[name] != "trits")


SYSTEM = Kan()
