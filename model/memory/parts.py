"""Small QAT models of parts: each part computes the integers of its ops, and emits these ops.

Tensors are those of :mod:`ternac.model.net.layers`: float32 [T, B, width] of integer codes with the
fraction bits of ``Scales``. A `Stack` is embedding, parts over the residual, norm and ternary head; what it
computes and what its program computes are equal bit for bit.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from ternac.errors import UsageError
from ternac.model.export.export import (
    glu_params,
    integers,
    memory_params,
    mlgru_params,
    norm_params,
    trits,
)
from ternac.model.net import functional as fn
from ternac.model.net import tables
from ternac.model.net.config import MemoryConfig, Scales
from ternac.model.net.layers import GLU, MLGRU, BitLinear, Norm
from ternac.model.net.memory import PickRows, Recall
from ternac.program.builder import ProgramBuilder
from ternac.program.language_model import add_glu, add_memory, add_mlgru
from ternac.program.program import Program

State = Any
"""What a part hands from one window to the next: tensors, or None."""


class Part(nn.Module):
    """One step over the residual: r i16 [T, B, d] and its state to both after it."""

    def start(self, batch: int) -> State:
        """Return the state of ``batch`` new sessions."""
        return None

    @abstractmethod
    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        """Return the residual and the (detached) state after the window; tokens i64 [T, B]."""

    @abstractmethod
    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        """Append its ops, whose names begin with ``name``; returns the name of the new residual."""


class Recurrence(Part):
    """r += MLGRU(NORM(r))."""

    def __init__(self, d: int, s: Scales) -> None:
        super().__init__()
        self.norm, self.mlgru, self.d, self.scales = Norm(d, s), MLGRU(d, s), d, s

    def start(self, batch: int) -> State:
        return torch.zeros(batch, self.d)

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        acc, h = self.mlgru(self.norm(r), state)
        return fn.AddRequant.apply(r, acc, 2.0**-self.mlgru.wo.shift, None), h[-1].detach()

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        return add_mlgru(b, name, norm_params(self.norm), *mlgru_params(self.mlgru, self.scales), r)


class Gated(Part):
    """r += GLU(NORM(r)), of inner width m."""

    def __init__(self, d: int, m: int, s: Scales) -> None:
        super().__init__()
        self.norm, self.glu, self.scales = Norm(d, s), GLU(d, m, s), s

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        acc = self.glu(self.norm(r))
        return fn.AddRequant.apply(r, acc, 2.0**-self.glu.wdown.shift, None), state

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        return add_glu(b, name, norm_params(self.norm), *glu_params(self.glu, self.scales), r)


class Remember(Part):
    """r += FwPKM(NORM(r)): the layer of the language model, see :class:`ternac.model.net.memory.Recall`."""

    def __init__(self, config: MemoryConfig, d: int, s: Scales) -> None:
        super().__init__()
        self.norm, self.recall, self.scales = Norm(d, s), Recall(config, d, s), s

    def start(self, batch: int) -> State:
        return self.recall.initial_state(batch)

    def forward(self, r: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        acc, state = self.recall(self.norm(r), state)
        return fn.AddRequant.apply(r, acc, 2.0**-self.recall.wo.shift, None), state

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        return add_memory(b, name, memory_params(self.recall, self.norm, self.scales), r)


class ProductRows(nn.Module):
    """Constant rows int8 [heads * slots**2, width], two winners a head: a product key of learnt maps.

    The digits are the winners of a map of each of two inputs, i8 of ``bits_in`` fraction bits. The sum over
    the heads, an accumulator, has `fraction` fraction bits if it is to be a mean. ``spread``: of the first
    rows, in codes; ``unit``: log2 of the codes that 1 in ``rows`` is, and so how fast they learn.
    """

    def __init__(
        self,
        heads: int,
        slots: int,
        width: int,
        n_in: int,
        bits_in: tuple[int, int],
        s: Scales,
        spread: float = 64.0,
        unit: int = 10,
    ) -> None:
        super().__init__()
        self.unit = unit
        self.heads, self.bits = heads, slots.bit_length() - 1
        self.maps = nn.ModuleList(BitLinear(n_in, heads * slots, bits, s.pre) for bits in bits_in)
        self.rows = nn.Parameter(torch.randn(heads, slots, slots, width) * spread * 2.0**-unit)
        self.fraction = s.row + heads.bit_length() - 1
        self.score_bits = s.pre

    def every_map(self) -> list[BitLinear]:
        """Return the two maps."""
        return [each for each in self.maps if isinstance(each, BitLinear)]

    def codes(self) -> Tensor:
        """Return the rows, i8 [heads, slots, slots, width]."""
        return fn.Requant.apply(self.rows, 2.0**self.unit, *fn.I8)

    def scores(self, which: int, x: Tensor) -> Tensor:
        """Return the scores i16 [.., heads * slots] of map ``which``, 0 or 1, whose winners are digits."""
        return fn.Requant.apply(self.every_map()[which].acc(x), 1.0, *fn.I16)

    def read(self, *scores: Tensor) -> Tensor:
        """Return the sum of the rows at the winners of two scores."""
        gains = tuple(2.0 ** -(each.shift + self.score_bits) for each in self.every_map())
        total: Tensor = PickRows.apply(self.codes(), gains, *scores)
        return total

    def emit_digits(self, b: ProgramBuilder, name: str, which: int, x: str) -> str:
        """Append the ops of map ``which``; returns the name of the digits."""
        at = f"{name}.{'ab'[which]}"
        weights = trits(self.every_map()[which])
        scores = b.linear(f"{at}.s", f"{at}.acc", x, f"{at}.W", weights, 0, "i16")
        return b.op("WINNERS", at, scores, groups=self.heads)

    def emit_read(self, b: ProgramBuilder, name: str, *digits: str) -> str:
        """Append the read at two digits; returns the name of the accumulator."""
        b.consts[f"{name}.rows"] = integers(self.codes().flatten(0, 2), np.int8)
        return b.op("MEM_READ", f"{name}.acc", *digits, rows=f"{name}.rows", bits=self.bits, shared=0)


class Stack(nn.Module):
    """Embedding, parts, norm and head: tokens i64 [T, B] to logits codes [T, B, V]."""

    def __init__(self, vocab: int, d: int, parts: Sequence[Part], s: Scales | None = None) -> None:
        super().__init__()
        self.scales = s = s or Scales()
        self.embed = nn.Parameter(torch.randn(vocab, d) * 0.5)
        self.parts = nn.ModuleList(parts)
        self.norm = Norm(d, s)
        self.head = BitLinear(d, vocab, s.norm, s.logits)

    def codes(self) -> Tensor:
        """Return the i8 embedding [V, d]."""
        return fn.Requant.apply(self.embed, 2.0**self.scales.embed, *fn.I8)

    def every_part(self) -> Iterable[Part]:
        """Return the parts in order."""
        return (part for part in self.parts if isinstance(part, Part))

    def start(self, batch: int) -> list[State]:
        """Return the states of the parts for ``batch`` new sessions."""
        return [part.start(batch) for part in self.every_part()]

    def forward(self, tokens: Tensor, states: Sequence[State] | None = None) -> tuple[Tensor, list[State]]:
        """Return logits in codes of 2**-scales.logits, and the states after the window."""
        s = self.scales
        states = self.start(tokens.shape[1]) if states is None else states
        r = embedding(tokens, self.codes() * 2.0 ** (s.residual - s.embed))
        after = []
        for part, state in zip(self.every_part(), states, strict=True):
            r, state = part(r, state, tokens)
            after.append(state)
        acc = self.head.acc(self.norm(r))
        return fn.Requant.apply(acc, 2.0**-self.head.shift, *fn.I16), after

    def nats(self, logits: Tensor) -> Tensor:
        """Return logits as real numbers, for a loss."""
        return logits * 2.0**-self.scales.logits

    @torch.no_grad()
    def take(self, program: Program) -> None:
        """Take the weights of a program that such a model was exported to; call it in ``eval`` mode.

        Masters become trits times their scale, in the middle between the thresholds of rounding; what
        training had added to them is not in a program. Raises UsageError if another model made it.
        """
        now = self.to_program(program.name, dict(program.meta))
        refused = UsageError(
            f"{program.name} is no program of this model: its parts or their sizes differ",
            "take the program that the model was exported to",
        )
        if _sizes(now) != _sizes(program):
            raise refused
        names = {array.tobytes(): name for name, array in now.consts.items()}  # random trits: no two equal
        before, after = _shifts(now), _shifts(program)
        linears = [module for module in self.modules() if isinstance(module, BitLinear)]
        for linear, name in [(linear, names[trits(linear).tobytes()]) for linear in linears]:
            exponent = linear.quant.scaling_impl.exponent
            exponent += before[name] - after[name]
            linear.weight.copy_(torch.tensor(program.consts[name]) * 2.0 ** int(exponent))
        self.embed.copy_(torch.tensor(program.consts["embed"]) * 2.0**-self.scales.embed)
        if self.to_program(program.name, dict(program.meta)).hash != program.hash:
            raise refused

    @torch.no_grad()
    def to_program(self, name: str, meta: dict[str, Any]) -> Program:
        """Return the program; call it in ``eval`` mode. Raises IllegalProgram if it breaks a rule."""
        s, b = self.scales, ProgramBuilder()
        b.consts["embed"] = integers(self.codes(), np.int8)
        b.consts["sigmoid"] = tables.sigmoid_table(s.pre)
        b.consts["silu"] = tables.silu_table(s.pre, s.state)
        r = b.op("GATHER", "r.e", embed="embed", shift=8 - (s.residual - s.embed))
        for index, part in enumerate(self.every_part()):
            r = part.emit(b, str(index), r)
        n = b.norm("n", r, norm_params(self.norm))
        logits = b.linear("logits", "logits.acc", n, "head", trits(self.head), self.head.shift, "i16")
        used = {value for op in b.ops for value in op.attrs.values() if isinstance(value, str)}
        b.consts = {key: value for key, value in b.consts.items() if key in used}
        return b.build(name, logits, s.logits, meta)


def _sizes(program: Program) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in program.consts.items()}


def _shifts(program: Program) -> dict[str, int]:
    """Return for each ternary matrix the shift of the requantization behind its product."""
    weights = {op.out: str(op.attrs["weights"]) for op in program.ops if op.kind == "TMATVEC"}
    return {
        weights[op.ins[0]]: int(op.attrs["shift"])
        for op in program.ops
        if op.kind == "REQUANT" and op.ins[0] in weights
    }


def add_token_digit(b: ProgramBuilder, name: str) -> str:
    """Append ops that make a digit of the token's low byte, i16[1], for addresses; returns its name."""
    table = np.zeros((512, 1), np.int8)
    table[256:, 0] = np.arange(256).astype(np.uint8).view(np.int8)  # a digit counts modulo its bits
    b.consts["digit"] = table
    token = b.op("TOKEN", f"{name}.digits")
    acc = b.op("MEM_READ", f"{name}.acc", token, rows="digit", bits=8, shared=0)
    return b.op("REQUANT", name, acc, shift=0, dtype="i16")


def fit(
    model: nn.Module,
    steps: int,
    lr: float,
    loss_of: Callable[[int], Tensor],
    report: Callable[[int, int, str], None],
    *,
    warmup: int = 40,
    weight_limit: float = 1.5,
    decay: float = 0.01,
    flat: float = 0.0,
) -> None:
    """Train: AdamW, warm-up, a cosine to 2% of ``lr``, gradients clipped at norm 1, masters kept near trits.

    ``decay``: weight decay of the masters. The cosine begins after the share ``flat`` of the steps.

    ``loss_of(step)`` returns the loss of a fresh batch. Raises whatever it raises.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    linears = [m for m in model.modules() if isinstance(m, BitLinear)]
    masters = {linear.weight for linear in linears}
    groups = [
        {"params": [p for p in parameters if p in masters], "weight_decay": decay},
        {"params": [p for p in parameters if p not in masters], "weight_decay": 0.01},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    for linear in linears:
        linear.quant.scaling_impl.hold = True
    model.train()
    for step in range(steps):
        turn = max(0.0, step / steps - flat) / (1.0 - flat)
        shape = 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * turn))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / warmup) * shape
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        for linear in linears:
            linear.clamp(weight_limit)
        if step % 20 == 0 or step + 1 == steps:
            report(step + 1, steps, f"loss {loss.item():.3f}")
    model.eval()
