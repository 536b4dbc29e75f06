"""First half of the compiler: group ops into passes along the column pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ternac.compile.geometry import Geometry
from ternac.compile.isa import LAYOUT, TOKEN_DIGITS, Addend, Instruction, Lane, MulBy, Opcode, Source
from ternac.compile.lower import Lowered, digits_only
from ternac.errors import IllegalProgram, require
from ternac.program.legality import infer
from ternac.program.loops import loops_of
from ternac.program.numerics import rshift_round
from ternac.program.ops import RANGES, Op


@dataclass
class Pass:
    """One instruction being assembled, with the names of the values that it touches."""

    name: str
    inst: Instruction
    result: str
    """The value that goes to the banks; empty if none does."""
    reads: dict[str, str] = field(default_factory=dict)
    """Operand a, b or c: the value that it reads from the banks."""
    x_in: str | None = None
    """The value that the dot units read from the x buffer."""
    x_out: str | None = None
    """What the side lane makes of the result; it goes to the x buffer only."""
    side_in: str | None = None
    """The side lane's multiplicand."""
    trits: str | None = None
    refill: str | None = None
    """The value that is copied into the x buffer again."""
    list_out: str | None = None
    """The value whose digits go to the address list."""
    list_in: tuple[str, ...] = ()
    """The values that it reads from the list."""
    rows: str | None = None
    """The memory, or the constant, whose rows it reads or changes."""
    bits: int = 0
    """Bits of a digit that count in the address of these rows."""
    shared: bool = False
    """All heads have these rows in common."""
    begins_loop: bool = False
    """It is the first pass of a body; the LOOP that follows goes back to it."""


@dataclass(frozen=True)
class Fused:
    """A program's passes in order, and the tables that they refer to by number."""

    passes: tuple[Pass, ...]
    tables: tuple[bytes, ...]
    norms: tuple[bytes, ...]


def fuse(lowered: Lowered, geometry: Geometry, *, side: bool, hold: bool = True) -> Fused:
    """Group the ops of a lowered program into passes; without ``side`` no gate goes to the side lane.

    Without ``hold`` digits stay in the address list no longer than they must, which takes longer.

    Raises IllegalProgram if an op has no place on the pipeline, DoesNotFit if a vector or the tables exceed
    the engine's memories.
    """
    return _Fuser(lowered, geometry, side=side, hold=hold).run()


class _Fuser:
    def __init__(self, lowered: Lowered, geometry: Geometry, *, side: bool, hold: bool) -> None:
        program = self.p = lowered.program
        self.lowered, self.g, self.side, self.hold = lowered, geometry, side, hold
        self.values = infer(program)
        self.shape = {name: (value.dtype, value.length) for name, value in self.values.items()}
        self.users: Counter[str] = Counter(v for op in program.ops for v in op.ins)
        self.users[program.logits] += 1
        self.produced: set[str] = {op.out for op in program.ops if op.kind == "LOAD"}
        self.done: set[int] = set()
        self.tables: dict[bytes, int] = {}
        self.norms: dict[bytes, int] = {}
        self.listed: set[str] = set()
        """Digits that a pass has put into the address list."""
        self.stores: list[Op] = []
        """STOREs of digits that are still to be done."""
        self.late: dict[str, Op] = {}
        """Requantizations that the MEM_UPDATE of their result does."""
        self.loops = {loop.first: loop for loop in loops_of(program.ops)}
        self.carried = {old for loop in self.loops.values() for old, _ in loop.carry}
        """Values that a LOOP changes from run to run."""
        self.made = {op.out: index for index, op in enumerate(program.ops)}
        self.loaded = {op.out: op.ins[0] for op in program.ops if op.kind == "LOAD"}
        self.stored = {op.ins[0]: op.out for op in program.ops if op.kind == "STORE"}
        self.opened = 0
        """Passes before the piece of the program at hand: a LOOP's body, or what is between two."""

    def run(self) -> Fused:
        passes: list[Pass] = []
        starts: list[int] = []
        for index, op in enumerate(self.p.ops):
            if index in self.loops:
                passes += self.store_digits()
                self.opened = len(passes)
                starts.append(len(passes))
            if op.kind == "LOOP":
                passes += [*self.store_digits(), *self.from_list(op)]
                passes += self.loop(index, op)
                self.opened = len(passes)
            if index in self.done or op.kind in ("LOAD", "LOOP"):
                continue
            self.done.add(index)
            if op.kind == "STORE":
                self.stores.append(op)
            else:
                passes += self.from_list(op)
            if op.kind == "STORE" or self.is_late(op):
                continue
            if not (self.g.lane_depth and len(passes) > self.opened and self.in_lane(passes, op)):
                new = self.rows_pass(index, op, passes) if self.g.rows else self.start(index, op)
                for one in new:
                    self.to_list(one)
                    self.produced.add(one.result)
                passes += new
            if passes[-1].inst.lane == Lane.NORM or not self.hold:
                passes += self.store_digits()
        passes += self.store_digits()
        passes += self.from_list(Op("STORE", "", (self.p.logits,), {}))
        for start in starts:
            passes[start].begins_loop = True
        if self.hold and not self.loops:
            passes = self.with_early_digits(passes)
        return Fused(tuple(passes), tuple(self.tables), tuple(self.norms))

    def refuse(self, index: int, reason: str) -> IllegalProgram:
        op = self.p.ops[index]
        return IllegalProgram(f"op {index} {op.kind} {op.out!r}: {reason} on this engine")

    # ---- the side lane ----------------------------------------------------------------------------------

    def in_lane(self, passes: list[Pass], op: Op) -> bool:
        """Give ``op`` to the side lane of the pass before, if it is one that feeds only matrices."""
        last = passes[-1]
        if last.list_out or last.inst.op != Opcode.VEC or last.inst.mask:
            return False
        in_matrix = any(o.kind == "TMATVEC" and last.result in o.ins for o in self.p.ops)
        if last.x_out is not None or in_matrix or not self.only_in_matrices(op.out):
            return False
        slots = last.inst.count
        if op.kind == "NORM" and op.ins[0] == last.result and slots <= self.g.lane_depth:
            last.inst = replace(last.inst, **self.lane_norm(op))  # type: ignore[arg-type]
        elif self.side and op.kind == "MUL" and last.result in op.ins and self.shape[op.out][0] == "i8":
            other = op.ins[1] if op.ins[0] == last.result else op.ins[0]
            source = next((p for p in passes[:-1] if p.result == other), None)
            later = passes[passes.index(source) + 1 :] if source else []
            if (
                source is None
                or not self.is_i8(other)
                or any(p.inst.source == Source.ROWS or p.inst.op == Opcode.MEM for p in later)
                or not 2 <= slots <= self.g.side_depth
                or any(p.inst.to_side or p.inst.lane == Lane.SIDE for p in later)
            ):
                return False
            source.inst = replace(source.inst, to_side=1)
            last.inst = replace(last.inst, lane=Lane.SIDE, post=op.integer("shift"))
            last.side_in = other
        else:
            return False
        last.x_out = op.out
        return True

    def only_in_matrices(self, value: str) -> bool:
        """Return whether nothing but TMATVEC reads ``value``."""
        return value != self.p.logits and all(o.kind == "TMATVEC" for o in self.p.ops if value in o.ins)

    def lane_norm(self, op: Op) -> dict[str, int]:
        """Return the fields of a NORM in the side lane."""
        pre, post = op.integer("pre"), op.integer("post")
        return {"lane": Lane.NORM, "pre": pre, "post": post, "norm_table": self.norm_table(op)}

    # ---- rows and the address list ----------------------------------------------------------------------

    def from_list(self, op: Op) -> list[Pass]:
        """Return the passes that bring to the banks what ``op`` reads there and only the list has."""
        found = []
        for value in dict.fromkeys(op.ins):
            if value in self.listed and value not in self.produced and not digits_only(op, value):
                inst = replace(self.copy_of(value), source=Source.ROWS)
                found.append(Pass(f"{value}.listed", inst, value, list_in=(value,)))
                self.produced.add(value)
        return found

    def store_digits(self) -> list[Pass]:
        """Return the passes of the STOREs so far whose values only the list has.

        They come behind a pass whose vector waits for its norm, where nothing else has to do.
        """
        found = [one for op in self.stores for one in self.from_list(op)]
        self.stores.clear()
        return found

    def is_late(self, op: Op) -> bool:
        """Leave a requantization to the MEM_UPDATE that is the only one to read its result."""
        follow = self.only_user(op.out) if op.kind == "REQUANT" and op.integer("multiplier", 1) == 1 else None
        if (
            follow is None
            or self.p.ops[follow].kind != "MEM_UPDATE"
            or op.out not in self.p.ops[follow].ins[-1:]
            or self.shape[op.ins[0]][0] == "acc"
            or op.ins[0] not in self.produced
        ):
            return False
        self.late[op.out] = op
        return True

    def to_list(self, one: Pass) -> None:
        """Let a pass write its result to the list as well, if it holds an address."""
        value = one.result
        if not value or value in self.carried or one.inst.arg or one.list_out or one.inst.to_rows:
            return
        users = [op for op in self.p.ops if value in op.ins]
        if any(digits_only(op, value) for op in users) and not any(op.kind == "TMATVEC" for op in users):
            one.list_out = value
            self.listed.add(value)

    def digits(self, value: str) -> list[Pass]:
        """Return the pass, if it takes one, that brings ``value`` to the address list."""
        if value in self.listed:
            return []
        if value not in self.carried:
            self.listed.add(value)
        return [Pass(f"{value}.digits", self.copy_of(value), "", {"a": value}, list_out=value)]

    def with_early_digits(self, passes: list[Pass]) -> list[Pass]:
        """Return the passes with those that copy digits of states to the list behind the first of all.

        There they take no time of their own: what follows waits for the embedding's norm anyway.
        """
        loaded = {op.out for op in self.p.ops if op.kind == "LOAD"}
        early = [
            p for p in passes[1:] if p.inst.source == Source.BANK and p.list_out in loaded and not p.result
        ]
        early = [p for p in early if not p.inst.arg]
        return [*passes[:1], *early, *(p for p in passes[1:] if not any(p is one for one in early))]

    def is_i8(self, value: str) -> bool:
        """Return whether a value is an i8, or as small because it is the mean of rows."""
        if self.shape[value][0] == "i8":
            return True
        maker = next((op for op in self.p.ops if op.out == value and op.kind == "REQUANT"), None)
        source = next((op for op in self.p.ops if maker and op.out == maker.ins[0]), None)
        if (
            maker is None
            or source is None
            or source.kind != "MEM_READ"
            or maker.integer("multiplier", 1) != 1
        ):
            return False
        rows, shift = self.values[source.out], maker.integer("shift")
        low, high = RANGES["i8"]
        return low <= int(rshift_round(rows.low, shift)) and int(rshift_round(rows.high, shift)) <= high

    def copy_of(self, value: str) -> Instruction:
        """Return the instruction that reads ``value`` from the banks and leaves it as it is."""
        n = self.shape[value][1]
        return Instruction(source=Source.BANK, count=self.g.slots(n), tail=self.g.tail(n), wide1=1, wide2=1)

    def rows_pass(self, index: int, op: Op, passes: list[Pass]) -> list[Pass]:
        """Return the passes that begin with ``op`` on an engine with rows."""
        match op.kind:
            case "WINNERS":
                return self.winners(op, passes)
            case "MASK":
                return [self.mask(index, op)]
            case "MEM_READ":
                return [*(p for v in op.ins for p in self.digits(v)), *self.mem_read(index, op)]
            case "MEM_UPDATE":
                return [*(p for v in op.ins[:-1] for p in self.digits(v)), self.mem_update(op)]
            case "TOKEN":
                inst = replace(self.base(op), source=Source.ROWS, pre=TOKEN_DIGITS, wide1=1, wide2=1)
                return [Pass(op.out, inst, op.out)]
        return self.start(index, op)

    def loop(self, index: int, op: Op) -> list[Pass]:
        """Return the passes that put what a run made where the next reads it, and the one that goes back."""
        found = []
        for old, new in zip(op.ins[::2], op.ins[1::2], strict=True):
            found.append(Pass(f"{old}.next", self.copy_of(new), old, {"a": new}))
        body = range(op.integer("first"), index)
        inside = self.p.ops[body.start : index]
        stored = {o.out for o in inside if o.kind == "STORE"}
        for o in self.p.ops[: body.start]:
            if o.kind == "LOAD" and o.ins[0] in stored and any(o.out in b.ins for b in inside):
                where = "loaded before the body, read in it, and its state is stored there"
                raise self.refuse(index, f"{o.out!r} is {where}: not possible")
        found.append(Pass(op.out, Instruction(op=Opcode.LOOP, count=op.integer("times")), ""))
        return found

    def group(self, value: str, count: int) -> int:
        """Return the slots of each of ``count`` groups."""
        return self.g.slots(self.shape[value][1]) // count

    def winners(self, op: Op, passes: list[Pass]) -> list[Pass]:
        """Let the pass that made the scores look for the winners, or else one that reads these again."""
        scores, count = op.ins[0], op.integer("groups")
        size, tail = self.group(scores, count), self.g.tail(self.lowered.groups[op.out])
        self.listed.add(op.out)
        last = next((one for one in passes[self.opened :] if one.result == scores), None)
        if (
            last is not None
            and last.result == scores
            and last.inst.op == Opcode.VEC
            and last.inst.source in (Source.DOT, Source.BANK)
            and last.inst.mul != MulBy.BANK_C
            and not (last.list_out or last.x_out or last.inst.to_side or last.inst.mask)
            and scores != self.p.logits
            and not any(o.kind == "TMATVEC" and scores in o.ins for o in self.p.ops)
        ):
            last.inst = replace(last.inst, arg=1, c=size, tail=tail)
            last.list_out = op.out
            if self.users[scores] == 1:
                last.result = ""
            return []
        inst = Instruction(
            source=Source.BANK, count=size * count, tail=tail, wide1=1, wide2=1, arg=1, c=size
        )  # fmt: skip
        return [Pass(op.out, inst, "", {"a": scores}, list_out=op.out)]

    def mask(self, index: int, op: Op) -> Pass:
        x, w = op.ins
        size = next((self.shape_of_group(o) for o in self.p.ops if o.out == w and o.kind == "WINNERS"), None)
        if size != self.group(x, self.shape[w][1]):
            raise self.refuse(index, f"{w!r} must be the winners of groups of the same size")
        inst = replace(self.copy(op), mask=1, c=size)
        return Pass(op.out, inst, op.out, {"a": x}, list_in=(w,))

    def shape_of_group(self, op: Op) -> int:
        """Return the slots of a group of a WINNERS."""
        return self.group(op.ins[0], op.integer("groups"))

    def mem_read(self, index: int, op: Op) -> list[Pass]:
        """Return a pass for each requantization of the sum."""
        value, least, most = self.values[op.out], -(1 << 19), (1 << 19) - 1
        if value.low < least or value.high > most:
            reach = f"the sum of {self.shape[op.ins[0]][1]} rows can be {value.low}..{value.high}"
            raise self.refuse(index, f"{reach}, v0 holds {least}..{most}")
        inst = replace(self.base(op), op=Opcode.MEM, source=Source.ROWS, words=self.heads(op))
        found = []
        for user in self.requantizations(index, op):
            one = Pass(
                op.out, inst, op.out, list_in=op.ins, rows=op.text("rows"), bits=op.integer("bits"),
                shared=bool(op.integer("shared")),
            )  # fmt: skip
            found.append(self.requantized(one, user))
        return found

    def heads(self, op: Op) -> int:
        """Return the number of rows that the op adds or changes."""
        heads = self.shape[op.ins[0]][1]
        most = (1 << LAYOUT["words"][2]) - 1
        require("heads", heads, most, f"{op.out!r} has {heads} heads, {self.g.name} takes {most}")
        return heads

    def mem_update(self, op: Op) -> Pass:
        """Return the pass that takes ``e``, as its requantization makes it, away from the rows."""
        e = op.ins[-1]
        late = self.late.get(e)
        n = self.shape[e][1]
        inst = Instruction(
            op=Opcode.MEM, source=Source.BANK, to_rows=1, words=self.heads(op), d=op.integer("keep"),
            count=self.g.slots(n), tail=self.g.tail(n), wide1=1, wide2=1,
        )  # fmt: skip
        if late is not None:
            e, wide = late.ins[0], self.wide(late)
            inst = replace(inst, shift1=late.integer("shift"), wide1=wide, wide2=wide)
        rows, bits = op.text("memory"), op.integer("bits")
        return Pass(op.out, inst, "", {"a": e}, list_in=op.ins[:-1], rows=rows, bits=bits)

    # ---- passes that begin with an op -------------------------------------------------------------------

    def start(self, index: int, op: Op) -> list[Pass]:
        """Return the passes that begin with ``op``, and whatever of the following ops fits behind it."""
        match op.kind:
            case "GATHER":
                return [self.gather(op)]
            case "NORM" if self.g.lane_depth:
                return [self.norm_in_lane(index, op)]
            case "NORM":
                return self.norm(op)
            case "TMATVEC":
                return self.matrix(index, op)
            case "REQUANT":
                return [self.from_bank(op, op.ins[0], lambda one: self.requantize(one, index))]
            case "TABLE":
                return [self.from_bank(op, op.ins[0], lambda one: self.table(one, index))]
            case "MUL" | "ADD" | "SUB" | "LERP":
                main = op.ins[1] if op.kind in ("SUB", "LERP") else op.ins[0]
                one = Pass(op.out, self.copy(op), op.out, {"a": main})
                if not self.elementwise(one, index, main):
                    raise self.refuse(index, "an operand is not available")
                return [one]
            case _:
                raise self.refuse(index, "the op is not implemented")

    def base(self, op: Op) -> Instruction:
        n = self.shape[op.out][1]
        return Instruction(count=self.g.slots(n), tail=self.g.tail(n))

    def copy(self, op: Op) -> Instruction:
        """Return the instruction that reads operand A from the banks as it is."""
        return replace(self.base(op), source=Source.BANK, wide1=1)

    def from_bank(self, op: Op, value: str, first: Callable[[Pass], None]) -> Pass:
        one = Pass(op.out, self.copy(op), op.out, {"a": value})
        first(one)
        self.extend(one)
        return one

    def gather(self, op: Op) -> Pass:
        base, rows = self.base(op), self.p.consts[op.text("embed")].shape[0]
        stride = (base.count - 1).bit_length()
        need, have = rows << stride, self.g.embed_depth
        message = f"embedding of {rows} tokens needs {need} bytes per column, {self.g.name} has {have}"
        require("embedding bytes", need, have, message)
        shift = op.integer("shift")
        inst = replace(base, source=Source.EMBED, shift1=shift, wide1=1, wide2=1, stride=stride)
        return Pass(op.out, inst, op.out)

    def norm_in_lane(self, index: int, op: Op) -> Pass:
        """Return a pass that copies the operand through the side lane, which norms it."""
        if not self.only_in_matrices(op.out):
            raise self.refuse(index, "only matrix products can take the result of a NORM")
        copy = replace(self.copy(op), wide2=1)
        n, most = self.shape[op.out][1], self.g.lane_depth * self.g.columns
        message = f"op {index} {op.out!r} norms {n} elements, {self.g.name}'s side lane holds {most}"
        require("elements of the side lane", copy.count * self.g.columns, most, message)
        inst = replace(copy, **self.lane_norm(op))  # type: ignore[arg-type]
        return Pass(op.out, inst, "", {"a": op.ins[0]}, x_out=op.out)

    def norm(self, op: Op) -> list[Pass]:
        """Return two passes: the first sums the squares, the second scales by the norm unit's mantissa."""
        stat = replace(
            self.base(op),
            source=Source.BANK,
            shift1=op.integer("pre"),
            mul=MulBy.SQUARE,
            stat=1,
            shift2=op.integer("post"),
            norm_table=self.norm_table(op),
        )
        scale = replace(self.copy(op), mul=MulBy.NORM)
        x = op.ins[0]
        return [Pass(op.out + ".stat", stat, "", {"a": x}), Pass(op.out, scale, op.out, {"a": x})]

    def matrix(self, index: int, op: Op) -> list[Pass]:
        trits = op.text("weights")
        k, most = self.p.consts[trits].shape[1], self.g.x_depth * self.g.lanes
        message = f"op {index} {op.out!r} has {k} inputs, {self.g.name}'s x buffer holds {most}"
        require("inputs of a matrix", k, most, message)
        inst = replace(self.base(op), words=self.g.words(k))
        found = []
        for user in self.requantizations(index, op):
            one = Pass(op.out, inst, op.out, x_in=op.ins[0], trits=trits)
            found.append(self.requantized(one, user))
        return found

    def requantizations(self, index: int, op: Op) -> list[int]:
        """Return the readers of a sum, which leaves v0 only as a REQUANT makes it: a pass for each."""
        users = [i for i, o in enumerate(self.p.ops) if op.out in o.ins]
        if not users or any(self.p.ops[i].kind != "REQUANT" or self.apart(op.out, i) for i in users):
            raise self.refuse(index, f"a {op.kind} must feed REQUANTs, and nothing else,")
        return users

    def requantized(self, one: Pass, user: int) -> Pass:
        """Put the REQUANT of a sum into its pass, and what follows that."""
        self.requantize(one, user)
        self.extend(one)
        return one

    # ---- what goes behind, along the pipeline -----------------------------------------------------------

    def extend(self, one: Pass) -> None:
        """Fuse what follows: a table, then one requantization or elementwise op."""
        follow = self.only_user(one.result)
        if follow is not None and self.p.ops[follow].kind == "TABLE" and not one.inst.table_en:
            self.table(one, follow)
            follow = self.only_user(one.result)
        if follow is None:
            return
        op = self.p.ops[follow]
        if op.kind == "REQUANT" and op.integer("multiplier", 1) == 1:
            one.inst = replace(one.inst, shift2=op.integer("shift"), wide2=self.wide(op))
            self.take(one, follow)
        elif op.kind in ("MUL", "ADD", "SUB", "LERP"):
            self.elementwise(one, follow, one.result)

    def requantize(self, one: Pass, index: int) -> None:
        """Put a REQUANT in front of the table, where v1 is made."""
        op = self.p.ops[index]
        if op.integer("multiplier", 1) != 1:
            raise self.refuse(index, "a multiplier other than 1 is not available")
        wide = self.wide(op)
        one.inst = replace(one.inst, shift1=op.integer("shift"), wide1=wide, wide2=wide)
        self.take(one, index)

    def table(self, one: Pass, index: int) -> None:
        op = self.p.ops[index]
        which = self.intern(self.tables, op.text("table"), self.g.tables, "tables")
        one.inst = replace(one.inst, table_en=1, table=which, wide1=0, wide2=1)
        self.take(one, index)

    def elementwise(self, one: Pass, index: int, main: str) -> bool:
        """Put op ``index`` behind v2 = ``main`` if its other operands are already in the banks."""
        op = self.p.ops[index]
        match op.kind:
            case "MUL":
                a, b = op.ins
                if main == b and self.is_i8(a):
                    a, b = b, a
                reads = {"c": b}
                fused = main == a
                fields = {"mul": MulBy.BANK_C, "shift2": op.integer("shift"), "wide2": self.wide(op)}
            case "ADD":
                reads = {"b": op.ins[1] if op.ins[0] == main else op.ins[0]}
                fused = True
                fields = {"add": Addend.B, "wide2": self.wide(op)}
            case "SUB":
                a, b = op.ins
                reads = {"b": a}
                fused = main == b
                fields = {"sub": 1, "wide2": self.wide(op)}
            case _:  # LERP(h, c, f) = c + (h - c) * f / 256
                h, c, f = op.ins
                reads = {"b": h, "c": f}
                fused = main == c
                fields = {"sub": 1, "mul": MulBy.BANK_C, "shift2": 8, "add": Addend.V2, "wide2": 1}
        if not fused or not self.produced.issuperset(reads.values()):
            return False
        one.inst = replace(one.inst, **fields)  # type: ignore[arg-type]
        one.reads |= reads
        self.take(one, index)
        if op.kind == "SUB":
            self.requantize_difference(one, op)
        return True

    def requantize_difference(self, one: Pass, op: Op) -> None:
        """Put a REQUANT behind a SUB, if the difference saturates only there."""
        follow = self.only_user(op.out)
        if follow is None:
            return
        after, (a, b) = self.p.ops[follow], (self.values[name] for name in op.ins)
        low, high = RANGES[op.text("dtype")]
        whole = low <= a.low - b.high and a.high - b.low <= high
        if after.kind == "REQUANT" and after.integer("multiplier", 1) == 1:
            shift = after.integer("shift")
            if whole or not (shift or op.text("dtype") == "i8" != after.text("dtype")):
                one.inst = replace(one.inst, shift2=shift, wide2=self.wide(after))
                self.take(one, follow)

    def take(self, one: Pass, index: int) -> None:
        self.done.add(index)
        one.result = one.name = self.p.ops[index].out

    def wide(self, op: Op) -> int:
        return int(self.shape[op.out][0] == "i16")

    def only_user(self, value: str) -> int | None:
        """Return the index of the only reader of ``value``, None if there are several or none."""
        if self.users[value] != 1 or value == self.p.logits:
            return None
        index = next((i for i, op in enumerate(self.p.ops) if value in op.ins), None)
        if index is None or self.p.ops[index].out in self.lowered.copies or self.apart(value, index):
            return None
        return None if self.is_early(index) else index

    def is_early(self, index: int) -> bool:
        """Return whether op ``index`` would replace a state that an op before it, still to come, reads."""
        state = self.stored.get(self.p.ops[index].out)
        before = (op for i, op in enumerate(self.p.ops[:index]) if i not in self.done)
        return state is not None and any(self.loaded.get(value) == state for op in before for value in op.ins)

    def apart(self, value: str, index: int) -> bool:
        """Return whether a body begins or ends between the op that makes ``value`` and op ``index``."""
        ends = (edge for loop in self.loops.values() for edge in (loop.first, loop.index))
        return any(self.made[value] < edge <= index for edge in ends)

    def norm_table(self, op: Op) -> int:
        return self.intern(self.norms, op.text("table"), self.g.norm_tables, "norm tables")

    def intern(self, pool: dict[bytes, int], const: str, limit: int, what: str) -> int:
        """Return the number of a table; tables of equal contents are one."""
        number = pool.setdefault(self.p.consts[const].tobytes(), len(pool))
        message = f"the program needs more than the {limit} {what} of {self.g.name}"
        require(what, number + 1, limit, message)
        return number
