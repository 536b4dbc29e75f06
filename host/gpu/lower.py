"""Lower a phase to what a kernel reads: structure in tuples, parameters in numbers.

The tuples are compile-time constants of a kernel, so layers of one shape share one compiled kernel; shifts,
multipliers and addresses are numbers in memory. ``host/gpu/kernels.py`` and ``host/gpu/torch_ops.py`` read
both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from ternac.host.gpu.memory import Constants
from ternac.host.gpu.plan import GATHERS, MOVE, Phase, Plan, scalar_input
from ternac.host.gpu.weights import Weights
from ternac.program.ops import BYTES, KINDS, Constant, Integer, Op, memory_of

CODES = ("FETCH", "FETCH1", "STATE", MOVE, "REQUANTM", *KINDS)
"""Micro-ops by number: FETCH a value from memory, FETCH1 its first element, STATE a LOAD,
REQUANTM a REQUANT with a multiplier, else an op kind."""
CODE = {name: number for number, name in enumerate(CODES)}
STATE_AREA = 0
PARAMS = 5
"""Numbers of a micro-op: the attributes of its kind as declared, constants by their offset. Of an op that
gathers: the places of its first two vectors; of one with rows then their first byte (of a constant) or word
(of a session), ``bits``, and ``shared`` or ``keep``.
"""
LEAST = 16
NONE = -1
"""An input that a micro-op does not have."""


class Micro(NamedTuple):
    """One micro-op. Inputs are values of the phase by number, or `NONE`.

    ``length``: elements that it works on, held in ``block``. ``bits``: of a result that saturates, or of the
    area fetched from. Of an op that gathers, ``bits`` and ``second``: of the areas that its first two vectors
    lie in (0: it has no second), ``span``: digits of an address, or elements of a group; ``rows``: bits of an
    element of a memory, 0 for rows of a constant.
    """

    code: int
    length: int
    block: int
    bits: int = 0
    a: int = NONE
    b: int = NONE
    c: int = NONE
    second: int = 0
    span: int = 0
    rows: int = 0


class Product(NamedTuple):
    """One ternary product: the number of x, or -1 if it is in memory; words of a group, words held."""

    x: int
    words: int
    block: int


class Store(NamedTuple):
    """A value that goes to memory: to a state (`STATE_AREA`) or to the area of as many bits."""

    value: int
    area: int
    length: int
    block: int


class Offsets(NamedTuple):
    """Start of each section of ``params``."""

    whole: int
    products: int
    own: int
    whole_stores: int
    own_stores: int


@dataclass(frozen=True)
class Code:
    """One phase. Values are numbered: ``whole``, products, ``own``.

    ``params``: PARAMS numbers for each of ``whole`` and ``own``, two for each product (place of its weights,
    place of x), one for each store (its place).
    """

    whole: tuple[Micro, ...]
    products: tuple[Product, ...]
    own: tuple[Micro, ...]
    whole_stores: tuple[Store, ...]
    own_stores: tuple[Store, ...]
    params: tuple[int, ...]
    rows: int
    weights: tuple[str, ...]
    names: dict[str, int]
    """Values that the phase makes, by number."""

    @property
    def at(self) -> Offsets:
        """Start of each section of ``params``."""
        sizes = (
            PARAMS * len(self.whole),
            2 * len(self.products),
            PARAMS * len(self.own),
            len(self.whole_stores),
        )
        return Offsets(*accumulate(sizes, initial=0))


def block_of(length: int) -> int:
    """Elements that a kernel holds for a vector: a power of two."""
    return max(LEAST, 1 << (length - 1).bit_length())


def bits_of(dtype: str) -> int:
    """Width of an element in memory."""
    return 8 * BYTES[dtype]


class _Part:
    """The micro-ops of ``whole`` or ``own``, and their parameters; its values begin at number ``first``."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.micros: list[Micro] = []
        self.params: list[int] = []
        self.number: dict[str, int] = {}
        self.scalars: dict[str, int] = {}
        self.stores: list[Store] = []
        self.places: list[int] = []

    @property
    def end(self) -> int:
        """Number of the value after its last."""
        return self.first + len(self.micros)

    def emit(self, micro: Micro, params: list[int]) -> int:
        """Append a micro-op; returns the number of its result."""
        assert len(params) <= PARAMS, micro
        self.micros.append(micro)
        self.params += [*params, *[0] * (PARAMS - len(params))]
        return self.end - 1


class _Lowering:
    def __init__(self, phase: Phase, plan: Plan, constants: Constants) -> None:
        self.phase, self.plan, self.constants = phase, plan, constants
        self.states = {name: part.start for name, part in plan.states.items()}

    def source(self, part: _Part, name: str) -> int:
        """The number of a vector in a part, fetched from memory if the phase does not make it."""
        if name not in part.number:
            value = self.plan.values[name]
            micro = Micro(CODE["FETCH"], value.length, block_of(value.length), bits_of(value.dtype))
            part.number[name] = part.emit(micro, [self.plan.places.offset[name]])
        return part.number[name]

    def scalar(self, part: _Part, whole: _Part, name: str) -> int:
        """The number of a value of one element, made by ``whole`` or in memory."""
        if self.phase.part.get(name) == "whole":
            return whole.number[name]
        if name not in part.scalars:
            micro = Micro(CODE["FETCH1"], 1, LEAST, bits_of(self.plan.values[name].dtype))
            part.scalars[name] = part.emit(micro, [self.plan.places.offset[name]])
        return part.scalars[name]

    def op(self, part: _Part, whole: _Part, op: Op) -> None:
        """Emit an op of ``whole`` or ``own``."""
        if op.kind in GATHERS:
            self.gather(part, op)
            return
        length = self.plan.values[op.out].length
        if op.kind != MOVE and KINDS[op.kind].state:
            micro = Micro(CODE["STATE"], length, block_of(length), 16)
            part.number[op.out] = part.emit(micro, [self.states[op.ins[0]]])
            return
        scalar = scalar_input(op)
        ins = [
            self.scalar(part, whole, name) if index == scalar else self.source(part, name)
            for index, name in enumerate(op.ins)
        ]
        if op.kind == MOVE:
            micro = Micro(CODE[MOVE], length, block_of(length), 0, *ins)
            part.number[op.out] = part.emit(micro, [])
            return
        kind = KINDS[op.kind]
        size = length if kind.elementwise else self.plan.values[op.ins[0]].length
        bits = bits_of(kind.dtype_of(op)) if kind.saturates else 0
        code = "REQUANTM" if op.kind == "REQUANT" and op.integer("multiplier", 1) != 1 else op.kind
        micro = Micro(CODE[code], size, block_of(size), bits, *ins)
        part.number[op.out] = part.emit(micro, self.parameters(op))

    def gather(self, part: _Part, op: Op) -> None:
        """Emit an op that gathers: its vectors lie in memory, but for what MEM_UPDATE takes away."""
        values, kind = self.plan.values, KINDS[op.kind]
        declared = zip(op.ins, kind.inputs_of(op), strict=True)
        named = [name for name, one in declared if one.whole]
        first, second = (*(bits_of(values[name].dtype) for name in named), 0)[:2]
        params = [*(self.plan.places.offset[name] for name in named), 0][:2]
        count, length, rows, a = values[named[0]].length, values[op.ins[-1]].length, 0, NONE
        if not kind.memories:
            length = values[op.out].length
            count //= values[named[-1] if op.kind == "MASK" else op.out].length
        else:
            name = memory_of(op) or ""
            memory = self.plan.memories.get(name)
            if memory is not None:
                rows = bits_of(memory.memory.dtype)
            params += [self.constants.offset[name] if memory is None else memory.start, op.integer("bits")]
            if op.kind == "MEM_READ":
                length = values[op.out].length
                params.append(op.integer("shared"))
            else:
                a = self.source(part, op.ins[-1])
                params.append(op.integer("keep"))
        micro = Micro(CODE[op.kind], length, block_of(length), first, a, second=second, span=count, rows=rows)
        number = part.emit(micro, params)
        if kind.result:
            part.number[op.out] = number

    def parameters(self, op: Op) -> list[int]:
        """The attributes of an op as numbers."""
        found = []
        for name, attr in KINDS[op.kind].attrs.items():
            if isinstance(attr, Constant):
                found.append(self.constants.offset[op.text(name)])
            elif isinstance(attr, Integer):
                found.append(op.integer(name, attr.default))
        return found

    def store(self, part: _Part, name: str, area: int, place: int) -> None:
        """Emit the store of a value that ``part`` has."""
        length = self.plan.values[name].length
        part.stores.append(Store(part.number[name], area, length, block_of(length)))
        part.places.append(place)


def lower(phase: Phase, plan: Plan, weights: Weights, constants: Constants) -> Code:
    """Lower the phase for the kernels."""
    low, offset = _Lowering(phase, plan, constants), plan.places.offset
    whole = _Part(0)
    stored = {part: [(s, v) for s, (v, p) in phase.stores.items() if p == part] for part in ("whole", "own")}
    for op in phase.whole:
        low.op(whole, whole, op)
    for _, name in stored["whole"]:
        low.source(whole, name)

    own = _Part(whole.end + len(phase.products))
    products, product_params = [], []
    for index, op in enumerate(phase.products):
        place, (x,) = weights.places[op.text("weights")], op.ins
        made = phase.part.get(x) == "whole"
        products.append(Product(whole.number[x] if made else -1, place.words, block_of(place.columns) // 4))
        product_params += [place.start, 0 if made else offset[x]]
        own.number[op.out] = whole.end + index
    for op in phase.own:
        low.op(own, whole, op)
    for _, name in stored["own"]:
        low.source(own, name)

    parts = {"whole": whole, "own": own}
    for which, part in parts.items():
        for state, name in stored[which]:
            low.store(part, name, STATE_AREA, low.states[state])
    for name in phase.outs:
        low.store(parts[phase.part[name]], name, bits_of(plan.values[name].dtype), offset[name])
    return Code(
        whole=tuple(whole.micros),
        products=tuple(products),
        own=tuple(own.micros),
        whole_stores=tuple(whole.stores),
        own_stores=tuple(own.stores),
        params=(*whole.params, *product_params, *own.params, *whole.places, *own.places),
        rows=phase.rows,
        weights=tuple(op.text("weights") for op in phase.products),
        names={name: parts[part].number[name] for name, part in phase.part.items()},
    )
