"""Programs of wide ops (docs/wide.md) as instructions: issues of the lanes, scalars, matrices.

The order of instructions is the order in which the unit begins them; what a matrix makes comes later, while
the next ones run. Places are those of vector memory, in elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ternac.errors import UnsupportedOp
from ternac.program.allocate import Lifetimes
from ternac.program.legality import shapes
from ternac.program.ops import IMPORT_KINDS, Op
from ternac.program.program import Program

__all__ = [
    "Curve",
    "Gain",
    "Group",
    "Inverse",
    "Issue",
    "Matrix",
    "Number",
    "Row",
    "Scalar",
    "Vector",
    "WideImage",
    "has_wide_ops",
    "lower",
]

LOGITS = -1
"""Place of a matrix's results that leave the unit."""


@dataclass(frozen=True)
class Vector:
    """Operand: elements of vector memory from ``at`` on."""

    at: int


@dataclass(frozen=True)
class Gain:
    """Operand: elements of a constant."""

    name: str


@dataclass(frozen=True)
class Scalar:
    """Operand: the inverse that an `Inverse` found, for every element."""

    at: int


@dataclass(frozen=True)
class Number:
    """Operand: an integer, for every element."""

    value: int


Operand = Vector | Gain | Scalar | Number


@dataclass(frozen=True)
class Issue:
    """``sat(rshift_round(a * (b - minus), shift) + c)`` of ``length`` elements, or the ``curve`` at a.

    ``op`` is a name for people. ``out`` is None where only ``squares`` are wanted: the register that gets the
    sum of all ``a * b`` and ``eps``. ``peak`` is the register that gets the largest magnitude. ``narrow``: to
    i8, into activation memory. ``slot`` holds the curve.
    """

    op: str
    length: int
    a: Operand
    b: Operand = Number(1)
    c: Operand = Number(0)
    minus: Operand | None = None
    curve: str = ""
    slot: int = 0
    shift: int = 0
    narrow: bool = False
    out: int | None = None
    squares: int | None = None
    eps: int = 0
    peak: int | None = None


@dataclass(frozen=True)
class Group:
    """Issues that run one after the other on strips of ``strip`` elements; 0: on all at once."""

    issues: tuple[Issue, ...]
    strip: int = 0

    @property
    def length(self) -> int:
        """Elements of each of its vectors."""
        return self.issues[0].length


@dataclass(frozen=True)
class Inverse:
    """The inverse root (``root``) or the inverse of register ``at``, beside it in the same register."""

    at: int
    root: bool


@dataclass(frozen=True)
class Matrix:
    """Products of the activations at ``x`` with a matrix, each sum times a factor, rounded, into ``out``.

    The factor is ``multiplier``, times register ``scale`` where there is one.
    """

    name: str
    rows: int
    columns: int
    x: int
    out: int
    multiplier: int
    shift: int
    scale: int | None = None


@dataclass(frozen=True)
class Curve:
    """Points of a curve, from the constants into a slot, once no issue reads any more."""

    name: str
    slot: int


@dataclass(frozen=True)
class Row:
    """The token's row of an embedding, into vector memory."""

    name: str
    length: int
    out: int


Instruction = Curve | Group | Inverse | Matrix | Row


@dataclass(frozen=True)
class WideImage:
    """Instructions of a token, and how much memory they take, in elements.

    ``states``: where each state lies for good. ``scalars``: registers. ``slots``: curves that are held.
    """

    program: Program
    code: tuple[Instruction, ...]
    states: Mapping[str, int]
    vectors: int
    activations: int
    scalars: int
    slots: int


def has_wide_ops(program: Program) -> bool:
    """Return whether a program has ops of imported models: only `lower` compiles them for an engine."""
    return any(op.kind in IMPORT_KINDS for op in program.ops)


def lower(program: Program, strip: int = 64, word: int = 64, slots: int = 2) -> WideImage:
    """Lower a program of wide ops; every vector begins at a multiple of ``word`` elements.

    Raises UnsupportedOp if an op, or a use of it, is none that the unit has.
    """
    lengths = {name: length for name, (_, length) in shapes(program).items()}
    return _Lowering(program, lengths, strip, word, slots).run()


def _refuse(op: Op, why: str) -> UnsupportedOp:
    return UnsupportedOp(
        f"{op.kind} {op.out}: the wide unit {why}", "run the program on an executor in software (ternac run)"
    )


@dataclass
class _Node:
    """An op, or a product and what rescales it: ``op`` makes ``out``; ``product`` is the TMATVEC."""

    op: Op
    product: Op | None = None
    ins: tuple[str, ...] = ()
    level: int = 0
    before: int = -1  # latest matrix that it needs
    until: int = 1 << 30  # first matrix that needs it
    tail: int = 0
    rank: int = -1


_WEIGHTS = {"RMSNORM": 10, "PEAK": 10}
"""Ops that wait for a whole vector, in ops of a strip."""


def order(program: Program) -> list[_Node]:
    """Return the ops in the order in which they begin: behind the matrix that they need, and of those first
    what the next matrix needs.

    Matrices that need nothing of each other stand in the order of what follows them, longest first.
    Raises UnsupportedOp if a product has no op of its own that rescales it.
    """
    uses: dict[str, list[Op]] = {}
    for op in program.ops:
        for name in op.ins:
            uses.setdefault(name, []).append(op)
    nodes: list[_Node] = []
    made: dict[str, _Node] = {}
    products = {op.out: op for op in program.ops if op.kind == "TMATVEC"}
    for op in program.ops:
        if op.kind == "TMATVEC":
            after = uses.get(op.out, [])
            if len(after) != 1 or after[0].kind not in ("RESCALE", "REQUANT") or op.out == program.logits:
                raise _refuse(op, "needs one RESCALE or REQUANT behind a product")
            continue
        product = products.get(op.ins[0]) if op.ins else None
        node = _Node(op, product, (*(product.ins if product else op.ins[:1]), *op.ins[1:]))
        nodes.append(node)
        made[op.out] = node
    return _ranked(nodes, made)


def _ranked(nodes: list[_Node], made: Mapping[str, _Node]) -> list[_Node]:
    """Rank the matrices, then sort all nodes by the matrices before and behind them."""
    states: dict[str, _Node] = {}
    above: dict[int, list[_Node]] = {}
    for node in nodes:  # LOAD and STORE are tied by their state; a value is made once
        above[id(node)] = [made[name] for name in node.ins if name in made and made[name] is not node]
        if node.op.kind == "STORE" and node.op.out in states:
            above[id(node)].append(states[node.op.out])
        if node.op.kind == "LOAD":
            states[node.op.ins[0]] = node
    for node in nodes:
        node.level = max((up.level + (up.product is not None) for up in above[id(node)]), default=0)
    for node in reversed(nodes):
        own = node.tail + _WEIGHTS.get(node.op.kind, 1)
        for up in above[id(node)]:
            up.tail = max(up.tail, 1 if node.product else own)
    matrices = [node for node in nodes if node.product]
    matrices.sort(key=lambda node: (node.level, -node.tail))
    for rank, node in enumerate(matrices):
        node.rank = rank
    for node in nodes:
        ups = above[id(node)]
        node.before = max((up.rank if up.product else up.before for up in ups), default=-1)
    for node in reversed(nodes):
        for up in above[id(node)]:
            up.until = min(up.until, node.rank if node.product else node.until)
    place = {id(node): at for at, node in enumerate(nodes)}

    def key(node: _Node) -> tuple[int, int, int]:
        return node.before, node.rank if node.product else node.until, place[id(node)]

    return sorted(nodes, key=key)


def _operands(issue: Issue) -> tuple[Operand, ...]:
    """The operands of an issue."""
    return tuple(x for x in (issue.a, issue.b, issue.c, issue.minus) if x is not None)


@dataclass
class _Lowering:
    """Turns ordered ops into instructions on named values, then names into places."""

    program: Program
    lengths: Mapping[str, int]
    strip: int
    word: int
    slots: int
    code: list[Instruction] = field(default_factory=list)
    scalars: dict[str, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    """Value to its number; places are given to numbers in the end."""
    states: dict[str, int] = field(default_factory=dict)
    fresh: set[int] = field(default_factory=set)
    """Results of matrices that no group has read yet; `read` are those that the last group reads."""
    read: set[int] = field(default_factory=set)
    count: int = 0

    def run(self) -> WideImage:
        """Lower and place everything."""
        nodes = order(self.program)
        peaks = {node.ins[0]: node.op.out for node in nodes if node.op.kind == "PEAK"}
        last = {name: at for at, node in enumerate(nodes) for name in node.ins}
        loads = {node.op.ins[0]: node.op.out for node in nodes if node.op.kind == "LOAD"}
        stored = {node.op.ins[0]: node.op.out for node in nodes if node.op.kind == "STORE"}
        for state in self.program.states:
            self.states[state] = self._number(f"state {state}")
        for at, node in enumerate(nodes):
            out = node.op.out
            state = stored.get(out, "")
            # A new state takes the place of the old where nothing behind reads that.
            if state and node.op.kind not in ("STORE", "LOAD") and not node.product:
                old = loads.get(state, "")
                if not old or last.get(old, -1) <= at:
                    self.names[out] = self.states[state]
            self._node(node, peaks.get(out))
        self._curves()
        return self._place()

    def _number(self, name: str) -> int:
        if name not in self.names:
            self.names[name] = self.count
            self.count += 1
        return self.names[name]

    def _scalar(self, name: str) -> int:
        return self.scalars.setdefault(name, len(self.scalars))

    def _vector(self, name: str) -> Vector:
        return Vector(self.names[name])

    def _issue(self, issue: Issue) -> None:
        """Add an issue to the group before it, if that runs on as many elements and waits for as much."""
        new = {x.at for x in _operands(issue) if isinstance(x, Vector)} & self.fresh
        before = self.code[-1] if self.code else None
        if isinstance(before, Group) and before.length == issue.length and new <= self.read:
            self.code[-1] = Group((*before.issues, issue), before.strip)
        else:
            self.append(Group((issue,), self.strip if new - self.read else 0))
            self.read = new

    def append(self, instruction: Instruction) -> None:
        """Append an instruction; what the group before it has read is there whole."""
        self.fresh -= self.read
        self.read = set()
        self.code.append(instruction)

    def _node(self, node: _Node, peak: str | None) -> None:
        """Append the instructions of one op."""
        op, (x, *rest) = node.op, node.ins if node.ins else ("",)
        n = self.lengths.get(op.out, 0)
        register = None if peak is None else self._scalar(peak)
        if register is not None and op.kind == "LOAD":
            raise _refuse(op, "finds the PEAK of what it has made itself")
        if node.product is not None:
            self._matrix(node, x, rest)
            if register is not None:
                self._issue(Issue("PEAK", n, self._vector(op.out), out=self.names[op.out], peak=register))
            return
        match op.kind:
            case "GATHER16":
                self.append(Row(op.text("embed"), n, self._number(op.out)))
                self.fresh.add(self.names[op.out])
                if register is not None:
                    self._issue(Issue("PEAK", n, self._vector(op.out), out=self.names[op.out], peak=register))
            case "LOAD":
                self.names[op.out] = self.states[x]
            case "STORE":
                if self.names[x] != self.states[op.out]:
                    length = self.program.states[op.out]
                    self._issue(Issue("STORE", length, self._vector(x), out=self.states[op.out]))
            case "PEAK":
                pass  # found as its vector is written
            case "RMSNORM":
                at = self._scalar(f"{op.out} ss")
                v = self._vector(x)
                self._issue(Issue("SUMSQ", n, v, v, squares=at, eps=op.integer("eps")))
                self.append(Inverse(at, root=True))
                self._lanes(op, n, v, Scalar(at), register, shift=op.integer("shift"))
            case "QUANT":
                if rest[0] not in self.scalars:
                    raise _refuse(op, "takes the scale of a PEAK")
                at = self._scalar(rest[0])
                self.append(Inverse(at, root=False))
                self._lanes(op, n, self._vector(x), Scalar(at), None, shift=24)
            case "SCALE":
                gain = Gain(op.text("gain"))
                self._lanes(op, n, self._vector(x), gain, register, shift=op.integer("shift"))
            case "MUL16":
                b = self._vector(rest[0])
                self._lanes(op, n, self._vector(x), b, register, shift=op.integer("shift"))
            case "REQUANT":
                by = Number(op.integer("multiplier", 1))
                self._lanes(op, n, self._vector(x), by, register, shift=op.integer("shift"))
            case "ADD":
                c = self._vector(rest[0])
                self._lanes(op, n, self._vector(x), Number(1), register, c=c)
            case "INTERP":
                self._lanes(op, n, self._vector(x), Number(1), register, curve=op.text("curve"), shift=6)
            case "BLEND":
                h, c, e = (self._vector(name) for name in (x, *rest))
                self._lanes(op, n, e, c, register, c=h, minus=h, shift=15)
            case _:
                raise _refuse(op, "has no such op")

    def _lanes(
        self,
        op: Op,
        n: int,
        a: Operand,
        b: Operand,
        peak: int | None,
        *,
        c: Operand = Number(0),
        minus: Operand | None = None,
        curve: str = "",
        shift: int = 0,
    ) -> None:
        narrow = op.kind == "QUANT" or op.attrs.get("dtype") == "i8"
        out = self._number(op.out)
        self._issue(Issue(op.kind, n, a, b, c, minus, curve, shift=shift, narrow=narrow, out=out, peak=peak))

    def _matrix(self, node: _Node, x: str, rest: list[str]) -> None:
        op, product = node.op, node.product
        assert product is not None
        if op.attrs.get("dtype") != "i16":
            raise _refuse(op, "makes 16 bits of a product")
        rows, columns = self.program.consts[product.text("weights")].shape
        logits = op.out == self.program.logits
        out = LOGITS if logits else self._number(op.out)
        scale = self._scalar(rest[0]) if op.kind == "RESCALE" else None
        by = {"multiplier": op.integer("multiplier", 1), "shift": op.integer("shift")}
        self.append(Matrix(product.text("weights"), rows, columns, self.names[x], out, scale=scale, **by))
        self.fresh.add(out)

    def _curves(self) -> None:
        """Load each curve before the group that needs it, instead of the one that is needed last."""
        needs = [
            {issue.curve for issue in each.issues if issue.curve} if isinstance(each, Group) else set()
            for each in self.code
        ]
        code: list[Instruction] = []
        held: list[str] = []  # by slot
        for at, (each, wanted) in enumerate(zip(self.code, needs, strict=True)):
            if len(wanted) > self.slots:
                raise UnsupportedOp(
                    f"{len(wanted)} curves are read on one strip, the wide unit holds {self.slots}",
                    f"give it {len(wanted)} slots",
                )
            for name in sorted(wanted - set(held)):
                slot = len(held)
                if slot == self.slots:
                    free = [i for i, other in enumerate(held) if other not in wanted]
                    slot = max(free, key=lambda i: _next_use(needs, held[i], at))
                held[slot : slot + 1] = [name]
                code.append(Curve(name, slot))
            if wanted and isinstance(each, Group):
                issues = (replace(i, slot=held.index(i.curve)) if i.curve else i for i in each.issues)
                each = Group(tuple(issues), each.strip)
            code.append(each)
        self.code = code

    def _registers(self) -> tuple[dict[int, int], int]:
        """Give each scalar a register from the instruction that finds it to the last that reads it."""
        spans: dict[int, tuple[int, int]] = {}
        for at, each in enumerate(self.code):
            for scalar in _scalars(each):
                spans[scalar] = (spans.get(scalar, (at, at))[0], at)
        registers = Lifetimes()
        found = {
            scalar: registers.place(1, begin, end)
            for scalar, (begin, end) in sorted(spans.items(), key=lambda item: item[1][0])
        }
        return found, registers.top

    def _place(self) -> WideImage:
        """Give numbers places, each from the instruction that writes it to the last that needs it."""
        begin: dict[int, tuple[int, int]] = {}  # number to (instruction, elements)
        end: dict[int, int] = {}
        narrow: set[int] = set()
        made_by: dict[int, list[int]] = {}  # result of a matrix to the numbers that it takes
        for at, each in enumerate(self.code):
            reads, writes = _uses(each)
            for number in reads:
                end[number] = at
                for x in made_by.pop(number, []):  # the matrix has ended when this instruction has
                    end[x] = max(end.get(x, 0), at)
            for number, length, is_narrow in writes:
                begin.setdefault(number, (at, length))
                end[number] = max(end.get(number, 0), at)
                if is_narrow:
                    narrow.add(number)
            if isinstance(each, Matrix):
                made_by[each.out] = [each.x]
        for taken in made_by.values():  # results that nobody reads
            end.update(dict.fromkeys(taken, len(self.code)))
        vectors, activations = Lifetimes(), Lifetimes()
        places = {LOGITS: LOGITS}
        for state, number in self.states.items():
            length = -(-self.program.states[state] // self.word) * self.word
            places[number] = vectors.place(length, 0, len(self.code) + 1)
        for number, (at, length) in sorted(begin.items(), key=lambda item: item[1][0]):
            if number not in places:
                memory = activations if number in narrow else vectors
                places[number] = memory.place(-(-length // self.word) * self.word, at, end[number])
        registers, scalars = self._registers()
        return WideImage(
            program=self.program,
            code=tuple(_placed(each, places, registers) for each in self.code),
            states={state: places[number] for state, number in self.states.items()},
            vectors=vectors.top,
            activations=activations.top,
            scalars=scalars,
            slots=self.slots,
        )


def _next_use(needs: Sequence[set[str]], name: str, at: int) -> int:
    """The next instruction from ``at`` on that needs a curve."""
    return next((i for i in range(at, len(needs)) if name in needs[i]), len(needs))


def _scalars(each: Instruction) -> list[int]:
    """The scalars that an instruction finds or reads."""
    match each:
        case Group(issues=issues):
            found = [x.at for issue in issues for x in _operands(issue) if isinstance(x, Scalar)]
            return found + [x for i in issues for x in (i.squares, i.peak) if x is not None]
        case Inverse(at=at):
            return [at]
        case Matrix(scale=scale):
            return [] if scale is None else [scale]
        case _:
            return []


def _uses(each: Instruction) -> tuple[list[int], list[tuple[int, int, bool]]]:
    """The numbers that an instruction reads, and (number, elements, narrow) of what it writes."""
    match each:
        case Group(issues=issues):
            reads = [x.at for issue in issues for x in _operands(issue) if isinstance(x, Vector)]
            return reads, [(i.out, i.length, i.narrow) for i in issues if i.out is not None]
        case Matrix(x=x, out=out, rows=rows):
            return [x], [(out, rows, False)] if out != LOGITS else []
        case Row(out=out, length=length):
            return [], [(out, length, False)]
        case Inverse() | Curve():
            return [], []


def _placed(each: Instruction, places: Mapping[int, int], registers: Mapping[int, int]) -> Instruction:
    """The instruction with places instead of numbers, and registers instead of scalars."""

    def operand(x: Operand) -> Operand:
        match x:
            case Vector(at=at):
                return Vector(places[at])
            case Scalar(at=at):
                return Scalar(registers[at])
            case _:
                return x

    def issue(i: Issue) -> Issue:
        minus = None if i.minus is None else operand(i.minus)
        out = None if i.out is None else places[i.out]
        squares = None if i.squares is None else registers[i.squares]
        peak = None if i.peak is None else registers[i.peak]
        a, b, c = operand(i.a), operand(i.b), operand(i.c)
        return replace(i, a=a, b=b, c=c, minus=minus, out=out, squares=squares, peak=peak)

    match each:
        case Group(issues=issues, strip=strip):
            return Group(tuple(issue(i) for i in issues), strip)
        case Matrix(x=x, out=out, scale=scale):
            register = None if scale is None else registers[scale]
            return replace(each, x=places[x], out=places[out], scale=register)
        case Row(out=out):
            return replace(each, out=places[out])
        case Inverse(at=at):
            return replace(each, at=registers[at])
        case Curve():
            return each
