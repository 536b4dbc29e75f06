"""A phase as the tuples and numbers that a kernel reads: structure apart from parameters.

The tuples are compile-time constants of a kernel, so layers of one shape share one compiled kernel; shifts,
multipliers and addresses are numbers in memory. ``host/gpu/kernels.py`` and ``host/gpu/plain.py`` read both.
"""

from __future__ import annotations

from dataclasses import dataclass

from ternac.host.gpu.constants import Constants
from ternac.host.gpu.plan import SCALAR, Phase, Plan
from ternac.host.gpu.weights import Weights
from ternac.program.ops import Op, Value
from ternac.program.program import Program

CODES = (
    "FETCH", "FETCH1", "STATE", "MOVE", "GATHER", "GATHER16", "NORM", "RMSNORM", "PEAK", "REQUANT",
    "REQUANTM", "TABLE", "MUL", "ADD", "LERP", "SCALE", "QUANT", "RESCALE", "INTERP", "MUL16", "BLEND",
)  # fmt: skip
"""What a micro-op does, by its number. FETCH: a value from memory, FETCH1: its first element."""
CODE = {name: number for number, name in enumerate(CODES)}
STATE_AREA = 0
AREA = {"i8": 8, "i16": 16, "acc": 32}
PARAMS = 4
"""Numbers of a micro-op."""
LEAST = 16

Micro = tuple[int, int, int, int, int, int, int]
"""code, length, block, three inputs by index, bits of the result: saturated to (8, 16) or fetched from."""


def block_of(length: int) -> int:
    """Elements that a kernel holds for a vector: a power of two."""
    return max(LEAST, 1 << (length - 1).bit_length())


@dataclass(frozen=True)
class Code:
    """One phase. Values are numbered: ``whole``, products, ``own``.

    ``products``: (index of x or -1 if it is in memory, words of a group, words held). Stores: (value, area,
    length, block). ``params``: PARAMS numbers for each of ``whole`` and ``own``, two for each product (place
    of its weights, place of x), one for each store; in the order whole, products, own, stores of whole, of
    own.
    """

    whole: tuple[Micro, ...]
    products: tuple[tuple[int, int, int], ...]
    own: tuple[Micro, ...]
    whole_stores: tuple[tuple[int, int, int, int], ...]
    own_stores: tuple[tuple[int, int, int, int], ...]
    params: tuple[int, ...]
    rows: int
    weights: tuple[str, ...]
    names: dict[str, int]
    """Values that the phase makes, by number."""


class _Lowering:
    def __init__(self, phase: Phase, plan: Plan, program: Program, constants: Constants) -> None:
        self.phase, self.plan, self.program, self.constants = phase, plan, program, constants
        self.states = {name: part.start for name, part in program.state_slices().items()}
        self.number: dict[tuple[str, str], int] = {}  # (part or "scalar", name) -> value
        self.whole: list[Micro] = []
        self.own: list[Micro] = []
        self.params: dict[str, list[int]] = {"whole": [], "own": []}
        self.products = 0

    def length(self, name: str) -> int:
        return self.plan.values[name].length

    def emit(self, part: str, micro: Micro, params: tuple[int, ...]) -> int:
        into = self.whole if part == "whole" else self.own
        into.append(micro)
        self.params[part] += [*params, *[0] * (PARAMS - len(params))]
        return len(self.whole) - 1 if part == "whole" else len(self.whole) + self.products + len(self.own) - 1

    def source(self, part: str, name: str) -> int:
        """The number of a vector in a part, fetched from memory if the phase does not make it."""
        found = self.phase.part.get(name)
        assert found in (None, part), (name, found, part)
        if (part, name) not in self.number:
            value: Value = self.plan.values[name]
            micro = (CODE["FETCH"], value.length, block_of(value.length), 0, 0, 0, AREA[value.dtype])
            self.number[part, name] = self.emit(part, micro, (self.plan.places.offset[name],))
        return self.number[part, name]

    def scalar(self, part: str, name: str) -> int:
        """The number of a value of one element, made by ``whole`` or in memory."""
        if self.phase.part.get(name) == "whole":
            return self.number["whole", name]
        if (f"{part} scalar", name) not in self.number:
            area = AREA[self.plan.values[name].dtype]
            micro = (CODE["FETCH1"], 1, LEAST, 0, 0, 0, area)
            self.number[f"{part} scalar", name] = self.emit(part, micro, (self.plan.places.offset[name],))
        return self.number[f"{part} scalar", name]

    def op(self, part: str, op: Op) -> None:
        """Emit an op of ``whole`` or ``own``."""
        length = self.length(op.out)
        if op.kind == "LOAD":
            micro = (CODE["STATE"], length, block_of(length), 0, 0, 0, 16)
            self.number[part, op.out] = self.emit(part, micro, (self.states[op.ins[0]],))
            return
        ins = [
            self.scalar(part, name) if i == SCALAR.get(op.kind) else self.source(part, name)
            for i, name in enumerate(op.ins)
        ]
        a, b, c = (*ins, 0, 0, 0)[:3]
        kind, params = self.parameters(op)
        size = self.length(op.ins[0]) if op.kind == "PEAK" else length
        sat = {"i8": 8, "i16": 16}.get(str(op.attrs.get("dtype")), 0)
        self.number[part, op.out] = self.emit(part, (CODE[kind], size, block_of(size), a, b, c, sat), params)

    def parameters(self, op: Op) -> tuple[str, tuple[int, ...]]:
        """Code and numbers of an op."""
        at = self.constants.offset
        match op.kind:
            case "GATHER":
                embed = op.text("embed")
                return op.kind, (at[embed], self.length(op.out), 8 - op.integer("shift"))
            case "GATHER16":
                return op.kind, (at[op.text("embed")], self.length(op.out))
            case "NORM":
                return op.kind, (op.integer("pre"), op.integer("post"), at[op.text("table")])
            case "RMSNORM":
                return op.kind, (op.integer("eps"), op.integer("shift"))
            case "REQUANT":
                multiplier = op.integer("multiplier", 1)
                return ("REQUANT" if multiplier == 1 else "REQUANTM"), (op.integer("shift"), multiplier)
            case "TABLE":
                return op.kind, (at[op.text("table")],)
            case "INTERP":
                return op.kind, (at[op.text("curve")],)
            case "SCALE":
                return op.kind, (at[op.text("gain")], op.integer("shift"))
            case "RESCALE":
                return op.kind, (op.integer("multiplier"), op.integer("shift"))
            case "MUL" | "MUL16":
                return op.kind, (op.integer("shift"),)
        return op.kind, ()


def lower(phase: Phase, plan: Plan, program: Program, weights: Weights, constants: Constants) -> Code:
    """The phase for the kernels."""
    low = _Lowering(phase, plan, program, constants)
    low.products = len(phase.products)
    for op in phase.whole:
        low.op("whole", op)
    whole_stored = [(s, v) for s, (v, part) in phase.stores.items() if part == "whole"]
    for _, name in whole_stored:
        low.source("whole", name)
    products, product_params = [], []
    for op in phase.products:
        place = weights.places[op.text("weights")]
        x = low.number.get(("whole", op.ins[0]), -1) if phase.part.get(op.ins[0]) else -1
        products.append((x, place.words, block_of(place.columns) // 4))
        product_params += [place.start, plan.places.offset[op.ins[0]] if x < 0 else 0]
    for index, op in enumerate(phase.products):
        low.number["own", op.out] = len(low.whole) + index
    for op in phase.own:
        low.op("own", op)
    own_stored = [(s, v) for s, (v, part) in phase.stores.items() if part == "own"]
    for _, name in own_stored:
        low.source("own", name)

    stores: dict[str, list[tuple[int, int, int, int]]] = {"whole": [], "own": []}
    places: dict[str, list[int]] = {"whole": [], "own": []}
    for part, stored in (("whole", whole_stored), ("own", own_stored)):
        for state, name in stored:
            length = program.states[state]
            stores[part].append((low.number[part, name], STATE_AREA, length, block_of(length)))
            places[part].append(low.states[state])
    for name in phase.outs:
        part, value = phase.part[name], plan.values[name]
        length = value.length
        stores[part].append((low.number[part, name], AREA[value.dtype], length, block_of(length)))
        places[part].append(plan.places.offset[name])
    params = [*low.params["whole"], *product_params, *low.params["own"], *places["whole"], *places["own"]]
    return Code(
        tuple(low.whole), tuple(products), tuple(low.own), tuple(stores["whole"]), tuple(stores["own"]),
        tuple(params), phase.rows, tuple(op.text("weights") for op in phase.products),
        {name: number for (part, name), number in low.number.items() if name in phase.part},
    )  # fmt: skip
