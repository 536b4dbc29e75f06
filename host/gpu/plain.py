"""Phases in torch's integer operations, without Triton: same plan, same packed weights, same memory.

Slow, and exact on any device torch has; what the Triton kernels are compared with besides NumPy. Written from
docs/numerics.md. A value is int64 [rows, elements].
"""

from __future__ import annotations

import torch
from torch import Tensor

from ternac.host.gpu.constants import Constants
from ternac.host.gpu.lower import CODES, PARAMS, STATE_AREA, Code, Micro
from ternac.host.gpu.memory import Rows, Values
from ternac.host.gpu.weights import Weights
from ternac.run.sampling import GREEDY, Sampling, choose

_DTYPE = {8: torch.int8, 16: torch.int16, 32: torch.int32}


def rounded(x: Tensor, shift: int | Tensor) -> Tensor:
    """rshift_round."""
    half = (torch.ones_like(shift) << shift if isinstance(shift, Tensor) else 1 << shift) >> 1
    return (x + half) >> shift


def saturated(x: Tensor, bits: int) -> Tensor:
    """Clamp to 8 or 16 bits."""
    return x.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


class Plain:
    """Runs lowered phases."""

    def __init__(self, weights: Weights, constants: Constants, rows: Rows) -> None:
        self.weights, self.constants, self.rows = weights, constants, rows
        self._wide: dict[str, Tensor] = {}

    def phase(self, code: Code, values: Values, first: int, count: int) -> None:
        """All parts of a phase for ``count`` rows of different sessions."""
        part = slice(first, first + count)
        found: list[Tensor] = []
        at = 0
        for micro in code.whole:
            found.append(self._micro(micro, found, code.params[at : at + PARAMS], values, part))
            at += PARAMS
        for (x, _, _), name in zip(code.products, code.weights, strict=True):
            place, columns = code.params[at + 1], self.weights.places[name].columns
            vector = found[x] if x >= 0 else values.small[part, place : place + columns].long()
            found.append((vector.float() @ self._matrix(name)).long())
            at += 2
        for micro in code.own:
            found.append(self._micro(micro, found, code.params[at : at + PARAMS], values, part))
            at += PARAMS
        for value, area, length, _ in (*code.whole_stores, *code.own_stores):
            into, place = self._area(area, values, part), code.params[at]
            if area == STATE_AREA:
                slots = self.rows.slots[part].long()
                into[slots, place : place + length] = found[value].to(torch.int16)
            else:
                into[part, place : place + length] = found[value].to(into.dtype)
            at += 1

    def many(self, code: Code, values: Values, first: int, steps: int, batch: int, scan: bool) -> None:
        """A phase of a split plan for ``steps`` tokens of ``batch`` sessions."""
        if scan:
            for step in range(steps):
                self.phase(code, values, first + step * batch, batch)
        else:
            self.phase(code, values, first, steps * batch)

    def choose(self, values: Values, place: int, vocab: int, count: int, greedy: bool, some: bool) -> None:
        """The next token of ``count`` rows from their logits, which lie at ``place``."""
        rows = self.rows
        m, s, top_k = rows.settings.tolist()
        sampling = Sampling(greedy, m, s, top_k) if not greedy else GREEDY
        for row in range(count):
            logits = values.middle[row, place : place + vocab].cpu().numpy()
            token, rng = choose(logits, sampling, int(rows.rngs[row]))
            rows.tokens[row], rows.rngs[row] = token, rng
            rows.chosen[row, rows.at[row]] = token
            rows.at[row] += 1

    def prepare(self, code: Code) -> None:
        """Nothing to prepare."""

    def _area(self, area: int, values: Values, part: slice) -> Tensor:
        if area == STATE_AREA:
            return self.rows.states
        return {8: values.small, 16: values.middle, 32: values.large}[area]

    def _matrix(self, name: str) -> Tensor:
        """The matrix as float32 [columns, rows], unpacked once: sums stay below 2**24, where it is exact."""
        if name not in self._wide:
            self._wide[name] = self.weights.get(name).t().float()
        return self._wide[name]

    def _micro(
        self, micro: Micro, found: list[Tensor], p: tuple[int, ...], values: Values, part: slice
    ) -> Tensor:
        code, length, _, *indices, bits = micro
        words = self.constants.words
        match CODES[code]:
            case "FETCH" | "FETCH1":
                return self._area(bits, values, part)[part, p[0] : p[0] + length].long()
            case "STATE":
                return self.rows.states[self.rows.slots[part].long(), p[0] : p[0] + length].long()
            case "GATHER" | "GATHER16" as kind:
                piece = self.constants.bytes if kind == "GATHER" else words
                places = p[0] + self.rows.tokens[part].long()[:, None] * p[1]
                row = piece[places + torch.arange(length, device=piece.device)].long()
                return row << p[2] if kind == "GATHER" else row
        a, b, c = (found[i] if i < len(found) else found[0] for i in indices)
        match CODES[code]:
            case "MOVE":
                return a
            case "NORM":
                ss = saturated(rounded(a, p[0]), 8).square().sum(-1, keepdim=True)
                exponent = sum((ss >= 4**e).long() for e in range(1, 16))
                index = torch.where(ss > 0, (ss << 6) >> 2 * exponent, 0)
                return saturated(rounded(a * words[p[2] + index].long(), p[1] + exponent), 8)
            case "RMSNORM":
                return saturated(
                    rounded(a * _inverse_root(a.square().sum(-1, keepdim=True) + p[0]), p[1]), 16
                )
            case "PEAK":
                return a.abs().amax(-1, keepdim=True).clamp(max=32767)
            case "REQUANT":
                return saturated(rounded(a, p[0]), bits)
            case "REQUANTM":
                return saturated(rounded(a * p[1], p[0]), bits)
            case "TABLE":
                return words[p[0] + a + 128].long()
            case "INTERP":
                place = a + 32768
                low, high = words[p[0] + (place >> 6)].long(), words[p[0] + (place >> 6) + 1].long()
                return low + rounded((high - low) * (place & 63), 6)
            case "MUL" | "MUL16":
                return saturated(rounded(a * b, p[0]), bits)
            case "ADD":
                return saturated(a + b, bits)
            case "SCALE":
                return saturated(rounded(a * words[p[0] : p[0] + length].long(), p[1]), 16)
            case "LERP":
                return b + rounded(c * (a - b), 8)
            case "BLEND":
                return a + rounded(c * (b - a), 15)
            case "QUANT":
                inverse = torch.where(b > 0, (127 << 24) // b.clamp(min=1), 0)
                return saturated(rounded(a * inverse, 24), 8)
            case "RESCALE":
                return saturated(rounded(a * (b * p[0]), p[1]), bits)
        raise AssertionError(micro)


def _inverse_root(ss: Tensor) -> Tensor:
    """``2**47 // isqrt(ss << 16)``, 0 for 0: the root in float64, put right in integers."""
    square = ss << 16
    root = square.double().sqrt().long()
    root -= (square - root * root < 0).long()
    root += (square - root * root > 2 * root).long()
    return torch.where(root > 0, (1 << 47) // root.clamp(min=1), 0)
