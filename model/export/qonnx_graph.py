"""One step of a program as a torch module made of Brevitas layers, for export to QONNX.

Every value is the integer code of docs/numerics.md, held in float32, with scale 1: the graph says what its
bits are, not what they are worth.  Brevitas says how weights, embedding and every saturating result are
quantized; what it has no layer for (tables, the norm's exponent, the recurrence) are plain tensor ops that
stay exact: below 2**24 in float32, above in int64.

Rounding half up is ``Quant(x * 2**-s + 1/2)`` with rounding mode FLOOR; QONNX's own HALF_UP rounds halves
away from zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from brevitas.core.function_wrapper import FloorSte
from brevitas.core.scaling import ConstScaling
from brevitas.nn import QuantEmbedding, QuantIdentity, QuantLinear
from torch import Tensor, nn

from ternac.model.net.quantizers import PowerOfTwoActQuant, TernaryWeightQuant
from ternac.program.ops import Op
from ternac.program.program import Program

BITS = {"i8": 8, "i16": 16}
I16 = (-32768, 32767)


class CodeQuant(PowerOfTwoActQuant):
    """Brevitas activation quantizer of scale 1 that cuts the fraction off (FLOOR) and saturates."""

    float_to_int_impl = FloorSte
    float_to_int_impl_type = "FLOOR"
    scaling_init = 1.0


class TritQuant(TernaryWeightQuant):
    """Brevitas weight quantizer of values that are trits: 2 bits, narrow range, scale 1."""

    scaling_impl = ConstScaling
    scaling_init = 1.0


class EmbeddingQuant(TritQuant):
    """Brevitas weight quantizer of an int8 embedding, scale 1."""

    bit_width = 8
    narrow_range = False


def _quant(dtype: str) -> nn.Module:
    return QuantIdentity(act_quant=CodeQuant.let(bit_width=BITS[dtype]), return_quant_tensor=False)


def _buffer(values: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(np.array(values)).to(dtype)


class Stage(nn.Module):
    """Part of an op whose result has a name in the graph: that of the attribute that holds it."""

    def __init__(self, rule: Callable[..., Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.rule(*inputs)


def _halfway(scale: float) -> Stage:
    """x * scale + 1/2, whose floor is rshift_round(x, s) for scale = 2**-s."""
    return Stage(lambda x: x * scale + 0.5)


class Gather(nn.Module):
    """GATHER: embedding row * 2**(8 - shift)."""

    def __init__(self, op: Op, program: Program) -> None:
        super().__init__()
        codes = program.consts[op.text("embed")]
        self.row = QuantEmbedding(*codes.shape, weight_quant=EmbeddingQuant, return_quant_tensor=False)
        self.row.weight.data = _buffer(codes)
        self.gain = 2.0 ** (8 - op.integer("shift"))

    def forward(self, token: Tensor) -> Tensor:
        return self.row(token) * self.gain


class Product(nn.Module):
    """TMATVEC."""

    def __init__(self, op: Op, program: Program) -> None:
        super().__init__()
        trits = program.consts[op.text("weights")]
        self.product = QuantLinear(
            trits.shape[1], trits.shape[0], bias=False, weight_quant=TritQuant, return_quant_tensor=False
        )
        self.product.weight.data = _buffer(trits)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x)


class Requant(nn.Module):
    """REQUANT; with a multiplier the product takes up to 54 bits, so it and its shift are in int64."""

    BIAS = 1 << 60  # makes every product positive, so that Div, which cuts towards zero, is a floor

    def __init__(self, op: Op, program: Program) -> None:
        super().__init__()
        shift, multiplier = op.integer("shift"), op.integer("multiplier", 1)
        half, step = (1 << shift) >> 1, 1 << shift
        self.quant = _quant(op.text("dtype"))
        if multiplier == 1:
            self.halfway = _halfway(2.0**-shift)
        else:
            self.multiplied = Stage(lambda x: x.long() * multiplier)
            self.halfway = Stage(lambda x: x + (self.BIAS + half))
            self.floor = Stage(
                lambda x: (torch.div(x, step, rounding_mode="trunc") - self.BIAS // step).clamp(*I16).float()
            )
        self.wide = multiplier != 1

    def forward(self, x: Tensor) -> Tensor:
        return self.quant(self.floor(self.halfway(self.multiplied(x))) if self.wide else self.halfway(x))


class Table(nn.Module):
    """TABLE: entry of an i8 code."""

    table: Tensor

    def __init__(self, op: Op, program: Program) -> None:
        super().__init__()
        self.register_buffer("table", _buffer(program.consts[op.text("table")]))
        self.index = Stage(lambda x: (x + 128.0).long())

    def forward(self, x: Tensor) -> Tensor:
        return self.table[self.index(x)]


class Norm(nn.Module):
    """NORM: the sum of squares and its exponent in int64, the products in float32 (below 2**23)."""

    table: Tensor
    thresholds: Tensor
    powers: Tensor
    scales: Tensor

    def __init__(self, op: Op, program: Program) -> None:
        super().__init__()
        post = op.integer("post")
        self.register_buffer("table", _buffer(program.consts[op.text("table")]))
        self.register_buffer("thresholds", _buffer([4**k for k in range(1, 16)], torch.int64))
        self.register_buffer("powers", _buffer([4**k for k in range(16)], torch.int64))
        self.register_buffer("scales", _buffer([2.0 ** -(post + k) for k in range(16)]))
        self.halfway_pre = _halfway(2.0 ** -op.integer("pre"))
        self.q = _quant("i8")
        self.squares = Stage(lambda q: q.long() * q.long())
        self.sum_of_squares = Stage(lambda squares: squares.sum(-1, keepdim=True))
        self.exponent = Stage(lambda ss: (ss >= self.thresholds).long().sum(-1, keepdim=True))
        self.power = Stage(lambda e: self.powers[e])
        self.index = Stage(lambda ss, power: torch.div(ss * 64, power, rounding_mode="trunc"))
        self.mantissa = Stage(lambda index: self.table[index])
        self.scale = Stage(lambda e: self.scales[e])
        self.halfway = Stage(lambda x, mantissa, scale: x * mantissa * scale + 0.5)
        self.quant = _quant("i8")

    def forward(self, x: Tensor) -> Tensor:
        ss = self.sum_of_squares(self.squares(self.q(self.halfway_pre(x))))
        exponent = self.exponent(ss)
        mantissa = self.mantissa(self.index(ss, self.power(exponent)))
        return self.quant(self.halfway(x, mantissa, self.scale(exponent)))


class Mul(nn.Module):
    """MUL."""

    def __init__(self, op: Op, program: Program) -> None:
        super().__init__()
        self.product = Stage(lambda a, b: a * b)
        self.halfway = _halfway(2.0 ** -op.integer("shift"))
        self.quant = _quant(op.text("dtype"))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.quant(self.halfway(self.product(a, b)))


class Add(nn.Module):
    """ADD."""

    def __init__(self, op: Op, program: Program) -> None:
        super().__init__()
        self.sum = Stage(lambda a, b: a + b)
        self.quant = _quant(op.text("dtype"))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.quant(self.sum(a, b))


class Lerp(nn.Module):
    """LERP: the result lies between c and h, so nothing saturates."""

    def __init__(self, op: Op, program: Program) -> None:
        super().__init__()
        self.gated = Stage(lambda h, c, f: f * (h - c))
        self.halfway = _halfway(1.0 / 256.0)
        self.rounded = Stage(torch.floor)

    def forward(self, h: Tensor, c: Tensor, f: Tensor) -> Tensor:
        return self.rounded(self.halfway(self.gated(h, c, f))) + c


class _Copy(torch.autograd.Function):
    """Identity, an ONNX node of its own, so that the value has a name."""

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        copy = g.op("Identity", x)
        copy.setType(x.type())
        return copy

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()


class Copy(nn.Module):
    """LOAD and STORE, and states that no op stores."""

    def __init__(self, *rule: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return _Copy.apply(x)


MODULES: dict[str, type[nn.Module]] = {
    "GATHER": Gather,
    "NORM": Norm,
    "TMATVEC": Product,
    "REQUANT": Requant,
    "TABLE": Table,
    "MUL": Mul,
    "ADD": Add,
    "LERP": Lerp,
    "LOAD": Copy,
    "STORE": Copy,
}


class StepGraph(nn.Module):
    """forward(token i64 [1], one float32 [1, n] per state) -> (logits [1, vocab], the new states).

    Op i of the program is the submodule ``op<i>``, which is how the exporter's names lead back to it.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        for index, op in enumerate(program.ops):
            self.add_module(f"op{index}", MODULES[op.kind](op, program))
        stored = {op.out for op in program.ops if op.kind == "STORE"}
        self.kept = nn.ModuleDict(
            {str(i): Copy() for i, name in enumerate(program.states) if name not in stored}
        )

    def forward(self, token: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        rows = dict(zip(self.program.states, states, strict=True))
        values: dict[str, Tensor] = {}
        for index, op in enumerate(self.program.ops):
            module = self.get_submodule(f"op{index}")
            if op.kind == "GATHER":
                values[op.out] = module(token)
            elif op.kind == "LOAD":
                values[op.out] = module(rows[op.ins[0]])
            elif op.kind == "STORE":
                rows[op.out] = module(values[op.ins[0]])
            else:
                values[op.out] = module(*(values[name] for name in op.ins))
        for index, (name, row) in enumerate(rows.items()):
            if str(index) in self.kept:
                rows[name] = self.kept[str(index)](row)
        return values[self.program.logits], *rows.values()
