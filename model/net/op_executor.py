"""Any program, op by op, in torch: same interface as :class:`ternac.run.numpy_executor.NumpyExecutor`, on
any device.

For programs that came from no model of this kit (imports), where
:class:`ternac.model.net.executor.TorchExecutor` has nothing to run.  Vectors are int64 tensors, written
from docs/numerics.md apart from the NumPy functions,
so that the two check each other; ternary products are float32, exact below 2**24.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ternac.program.legality import check
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase, State

LIMITS = {"i8": (-128, 127), "i16": (-32768, 32767)}


def _round(x: Tensor, shift: int | Tensor) -> Tensor:
    """rshift_round."""
    half = (torch.ones_like(shift) << shift if isinstance(shift, Tensor) else 1 << shift) >> 1
    return (x + half) >> shift


def _sat(x: Tensor, dtype: str) -> Tensor:
    return x.clamp(*LIMITS[dtype])


def _norm(x: Tensor, pre: int, post: int, table: Tensor) -> Tensor:
    squares = _sat(_round(x, pre), "i8").square().sum(-1)
    found = []
    for ss in squares.tolist():
        exponent = (ss.bit_length() - 1) // 2 if ss else 0
        found.append((exponent, (ss << 6) >> (2 * exponent)))
    pairs = torch.tensor(found, device=x.device)
    return _sat(_round(x * table[pairs[:, 1]][:, None], post + pairs[:, :1]), "i8")


def _rmsnorm(x: Tensor, eps: int, shift: int) -> Tensor:
    sums = [ss + eps for ss in x.square().sum(-1).tolist()]
    inverse = [(1 << 47) // math.isqrt(ss << 16) if ss else 0 for ss in sums]
    return _sat(_round(x * torch.tensor(inverse, device=x.device)[:, None], shift), "i16")


def _quant(x: Tensor, m: Tensor) -> Tensor:
    inverse = torch.where(m > 0, (127 << 24) // m.clamp(min=1), 0)
    return _sat(_round(x * inverse, 24), "i8")


def _interp(x: Tensor, curve: Tensor) -> Tensor:
    place = x + 32768
    low, high = curve[place >> 6], curve[(place >> 6) + 1]
    return low + _round((high - low) * (place & 63), 6)


class TorchOpExecutor(ExecutorBase):
    """Runs one program for any number of sessions; raises IllegalProgram for one that breaks a rule."""

    name = "torch"

    def __init__(self, program: Program, device: str = "cpu") -> None:
        check(program)
        self.program = program
        self._device = torch.device(device)
        self._slices = program.state_slices()
        roles = program.roles()
        self._consts = {name: self._const(roles[name], array) for name, array in program.consts.items()}
        self._functions = {op.out: self._bind(op) for op in program.ops if op.kind not in ("LOAD", "STORE")}

    def _const(self, role: str, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.array(array)).to(self._device)
        if role.startswith("embed"):
            return tensor  # widened row by row
        return tensor.float() if role == "trits" else tensor.long()

    @torch.no_grad()
    def step(
        self,
        state: State,
        tokens: Iterable[int] | npt.NDArray[Any],
        trace: MutableMapping[str, npt.NDArray[np.int32]] | None = None,
    ) -> npt.NDArray[np.int32]:
        """Feed one token to each session: changes ``state`` in place, returns logits int32 [B, vocab].

        ``trace`` gets every value by name.  A bad token or state raises UsageError.
        """
        ids = self.check_tokens(tokens).astype(np.int64)
        self.check_state(state, len(ids))
        values: dict[str, Tensor] = {}
        rows = torch.from_numpy(ids).to(self._device)
        for op in self.program.ops:
            if op.kind == "LOAD":
                part = state[:, self._slices[op.ins[0]]].astype(np.int64)
                values[op.out] = torch.from_numpy(part).to(self._device)
            elif op.kind == "STORE":
                state[:, self._slices[op.out]] = values[op.ins[0]].cpu().numpy()
            else:
                ins = [values[name] for name in op.ins] or [rows]
                values[op.out] = self._functions[op.out](*ins)
        if trace is not None:
            trace.update({name: value.cpu().numpy().astype(np.int32) for name, value in values.items()})
        return values[self.program.logits].cpu().numpy().astype(np.int32)

    def _bind(self, op: Op) -> Callable[..., Tensor]:
        """The op as a function of its inputs (GATHER: of the token ids)."""
        a: dict[str, Any] = {key: self._consts.get(str(value), value) for key, value in op.attrs.items()}
        match op.kind:
            case "GATHER":
                return lambda ids: a["embed"][ids].long() << (8 - a["shift"])
            case "GATHER16":
                return lambda ids: a["embed"][ids].long()
            case "NORM":
                return lambda x: _norm(x, a["pre"], a["post"], a["table"])
            case "RMSNORM":
                return lambda x: _rmsnorm(x, a["eps"], a["shift"])
            case "TMATVEC":
                return lambda x: (x.float() @ a["weights"].T).long()
            case "REQUANT":
                return lambda x: _sat(_round(x * a.get("multiplier", 1), a["shift"]), a["dtype"])
            case "RESCALE":
                return lambda x, m: _sat(_round(x * m * a["multiplier"], a["shift"]), a["dtype"])
            case "TABLE":
                return lambda x: a["table"][x + 128]
            case "INTERP":
                return lambda x: _interp(x, a["curve"])
            case "SCALE":
                return lambda x: _sat(_round(x * a["gain"], a["shift"]), "i16")
            case "PEAK":
                return lambda x: x.abs().amax(-1, keepdim=True).clamp(max=32767)
            case "QUANT":
                return _quant
            case "MUL" | "MUL16":
                return lambda x, y: _sat(_round(x * y, a["shift"]), a["dtype"])
            case "ADD":
                return lambda x, y: _sat(x + y, a["dtype"])
            case "LERP":
                return lambda h, c, f: c + _round(f * (h - c), 8)
            case "BLEND":
                return lambda h, c, e: h + _round(e * (c - h), 15)
        raise AssertionError(f"no rule for {op.kind}")  # check() refuses every other kind
