"""Run phases in torch's integer operations, without Triton: same plan, same packed weights, same memory.

Slow, and exact on any device torch has; the second reference, after NumPy, for the Triton kernels. Written
from docs/numerics.md. A value is int64 [rows, elements].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ternac.host.gpu.lower import CODES, NONE, PARAMS, STATE_AREA, Code, Micro
from ternac.host.gpu.memory import Constants, Rows, Values, piece_of
from ternac.host.gpu.plan import GATHERS, MOVE
from ternac.host.gpu.weights import Weights
from ternac.program.ops import KINDS, Constant, Dtype
from ternac.run.sampling import GREEDY, Sampling, choose


def rounded(x: Tensor, shift: int | Tensor) -> Tensor:
    """rshift_round."""
    half = (torch.ones_like(shift) << shift if isinstance(shift, Tensor) else 1 << shift) >> 1
    return (x + half) >> shift


def saturated(x: Tensor, bits: int) -> Tensor:
    """Clamp to 8 or 16 bits."""
    return x.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


# ---- kernels: of the inputs and the attributes by name; the result before saturation -----------------------


def _norm(x: Tensor, pre: int, post: int, table: Tensor) -> Tensor:
    ss = saturated(rounded(x, pre), 8).square().sum(-1, keepdim=True)
    exponent = torch.zeros_like(ss)
    for e in range(1, 16):
        exponent += ss >= 4**e
    index = torch.where(ss > 0, (ss << 6) >> 2 * exponent, 0)
    return rounded(x * table[index].long(), post + exponent)


def _rmsnorm(x: Tensor, eps: int, shift: int) -> Tensor:
    """``R = 2**47 // isqrt(ss << 16)``, 0 for 0: the root in float64, corrected in integers."""
    square = x.square().sum(-1, keepdim=True) + eps << 16
    root = square.double().sqrt().long()
    root -= (square - root * root < 0).long()
    root += (square - root * root > 2 * root).long()
    return rounded(x * torch.where(root > 0, (1 << 47) // root.clamp(min=1), 0), shift)


def _interp(x: Tensor, curve: Tensor) -> Tensor:
    place = x + 32768
    low, high = curve[place >> 6].long(), curve[(place >> 6) + 1].long()
    return low + rounded((high - low) * (place & 63), 6)


def _quant(x: Tensor, m: Tensor) -> Tensor:
    return rounded(x * torch.where(m > 0, (127 << 24) // m.clamp(min=1), 0), 24)


def _winners(x: Tensor, size: int) -> Tensor:
    """The lowest of equals: what is lower counts for more."""
    place = torch.arange(size, device=x.device)
    return (x.unflatten(-1, (-1, size)) * size + (size - 1 - place)).argmax(-1)


def _mask(x: Tensor, w: Tensor, size: int) -> Tensor:
    kept = torch.arange(size, device=x.device) == (w % size)[..., None]
    return torch.where(kept, x.unflatten(-1, (-1, size)), 0).flatten(-2)


def _row_numbers(a: Tensor, b: Tensor | None, bits: int, shared: int = 0) -> Tensor:
    """Rows [..., H] of an address."""
    low, size = (1 << bits) - 1, 1 << bits
    rows = a & low
    if b is not None:
        rows, size = rows << bits | b & low, size << bits
    return rows if shared else rows + torch.arange(rows.shape[-1], device=a.device) * size


KERNELS: dict[str, Callable[..., Tensor]] = {
    "GATHER": lambda row, shift: row << (8 - shift),
    "GATHER16": lambda row: row,
    "NORM": _norm,
    "RMSNORM": _rmsnorm,
    "PEAK": lambda x: x.abs().amax(-1, keepdim=True).clamp(max=32767),
    "REQUANT": lambda x, shift, multiplier: rounded(x * multiplier, shift),
    "TABLE": lambda x, table: table[x + 128].long(),
    "INTERP": _interp,
    "MUL": lambda a, b, shift: rounded(a * b, shift),
    "MUL16": lambda a, b, shift: rounded(a * b, shift),
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "TOKEN": lambda tokens: torch.stack((tokens >> 8, tokens & 255), -1),
    "SCALE": lambda x, gain, shift: rounded(x * gain[: x.shape[-1]].long(), shift),
    "LERP": lambda h, c, f: c + rounded(f * (h - c), 8),
    "BLEND": lambda h, c, e: h + rounded(e * (c - h), 15),
    "QUANT": _quant,
    "RESCALE": lambda x, m, multiplier, shift: rounded(x * (m * multiplier), shift),
}
"""By op kind. A kind that reads the token gets the token's row of its constant, or without one the token."""


class TorchOps:
    """Runs lowered phases."""

    kinds = (*KERNELS, *GATHERS, "TMATVEC", "LOAD", "STORE")

    def __init__(self, weights: Weights, constants: Constants, rows: Rows) -> None:
        self.weights, self.constants, self.rows = weights, constants, rows
        self._wide: dict[str, Tensor] = {}

    def phase(self, code: Code, values: Values, first: int, count: int) -> None:
        """All parts of a phase for ``count`` rows of different sessions."""
        part, at = slice(first, first + count), code.at
        found: list[Tensor] = []
        for index, micro in enumerate(code.whole):
            start = at.whole + PARAMS * index
            found.append(self._micro(micro, found, code.params[start : start + PARAMS], values, part))
        for index, (product, name) in enumerate(zip(code.products, code.weights, strict=True)):
            place, columns = code.params[at.products + 2 * index + 1], self.weights.places[name].columns
            area = values.area("i8")
            x = found[product.x] if product.x >= 0 else area[part, place : place + columns].long()
            found.append((x.float() @ self._matrix(name)).long())
        for index, micro in enumerate(code.own):
            start = at.own + PARAMS * index
            found.append(self._micro(micro, found, code.params[start : start + PARAMS], values, part))
        for index, store in enumerate((*code.whole_stores, *code.own_stores)):
            place = code.params[at.whole_stores + index]
            if store.area == STATE_AREA:
                into, which = self.rows.states, self.rows.slots[part].long()
                into[which, place : place + store.length] = found[store.value].to(into.dtype)
            else:
                into = values.of_bits(store.area)
                into[part, place : place + store.length] = found[store.value].to(into.dtype)

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
            logits = values.area("i16")[row, place : place + vocab].cpu().numpy()
            token, rng = choose(logits, sampling, int(rows.rngs[row]))
            rows.tokens[row], rows.rngs[row] = token, rng
            rows.chosen[row, rows.at[row]] = token
            rows.at[row] += 1

    def prepare(self, code: Code) -> None:
        """Nothing to prepare."""

    def forget(self, code: Code) -> None:
        """Nothing to forget."""

    def _matrix(self, name: str) -> Tensor:
        """The matrix as float32 [columns, rows], unpacked once: sums stay below 2**24, where it is exact."""
        if name not in self._wide:
            self._wide[name] = self.weights.get(name).t().float()
        return self._wide[name]

    def _micro(
        self, micro: Micro, found: list[Tensor], p: tuple[int, ...], values: Values, part: slice
    ) -> Tensor:
        match CODES[micro.code]:
            case "FETCH" | "FETCH1":
                return _fetched(values, part, micro.bits, p[0], micro.length)
            case "STATE":
                return self.rows.states[self.rows.slots[part].long(), p[0] : p[0] + micro.length].long()
            case name if name == MOVE:
                return found[micro.a]
            case "WINNERS":
                return _winners(
                    _fetched(values, part, micro.bits, p[0], micro.length * micro.span), micro.span
                )
            case "MASK":
                x = _fetched(values, part, 8, p[0], micro.length)
                w = _fetched(values, part, 16, p[1], micro.length // micro.span)
                return _mask(x, w, micro.span)
            case "MEM_READ" | "MEM_UPDATE" as name:
                a = _fetched(values, part, micro.bits, p[0], micro.span)
                b = _fetched(values, part, micro.second, p[1], micro.span) if micro.second else None
                if name == "MEM_UPDATE":
                    return self._update(micro, found[micro.a], _row_numbers(a, b, p[3]), p, part)
                return self._read(micro, _row_numbers(a, b, p[3], p[4]), p, part)
            case name:
                return self._op("REQUANT" if name == "REQUANTM" else name, micro, found, p, part)

    def _read(self, micro: Micro, at: Tensor, p: tuple[int, ...], part: slice) -> Tensor:
        """MEM_READ of rows ``at`` [rows in flight, H]."""
        if micro.rows:
            return self._memory(micro, p[2])[self.rows.slots[part].long()[:, None], at].sum(
                -2, dtype=torch.int64
            )
        piece = self.constants.bytes[p[2] :]
        places = (at * micro.length)[..., None] + torch.arange(micro.length, device=at.device)
        return piece[places].sum(-2, dtype=torch.int64)

    def _update(self, micro: Micro, e: Tensor, at: Tensor, p: tuple[int, ...], part: slice) -> Tensor:
        """MEM_UPDATE of rows ``at``, where they lie."""
        memory, slots, keep = self._memory(micro, p[2]), self.rows.slots[part].long()[:, None], p[4]
        old = memory[slots, at].long()
        new = old - (rounded(old, keep) if keep else 0) - e[:, None]
        memory[slots, at] = saturated(new, micro.rows).to(memory.dtype)
        return e

    def _memory(self, micro: Micro, start: int) -> Tensor:
        """The rows of a memory in every slot: a view [slots, rows, width]."""
        words = self.rows.states[:, start:]
        if micro.rows == 8:
            words = words.view(torch.int8)
        rows = words.shape[1] // micro.length
        return words[:, : rows * micro.length].unflatten(1, (rows, micro.length))

    def _op(self, name: str, micro: Micro, found: list[Tensor], p: tuple[int, ...], part: slice) -> Tensor:
        """The result of an op, by its kernel."""
        kind = KINDS[name]
        declared = {attr: it for attr, it in kind.attrs.items() if not isinstance(it, Dtype)}
        attrs: dict[str, int | Tensor] = {}
        ins = [found[number] for number in (micro.a, micro.b, micro.c) if number != NONE]
        if kind.reads_token and not kind.constants:
            ins.append(self.rows.tokens[part].long())
        for (attr, it), number in zip(declared.items(), p, strict=False):
            if not isinstance(it, Constant):
                attrs[attr] = number
                continue
            piece = self.constants.piece(piece_of(it.role))[number:]
            if kind.reads_token:
                starts = self.rows.tokens[part].long()[:, None] * micro.length
                ins.append(piece[starts + torch.arange(micro.length, device=piece.device)].long())
            else:
                attrs[attr] = piece
        result = KERNELS[name](*ins, **attrs)
        return saturated(result, micro.bits) if kind.saturates else result


def _fetched(values: Values, part: slice, bits: int, place: int, count: int) -> Tensor:
    """A vector that lies in memory."""
    return values.of_bits(bits)[part, place : place + count].long()
