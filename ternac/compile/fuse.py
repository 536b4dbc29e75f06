"""First half of the compiler: group ops into passes along the column pipeline."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from ternac.compile.geometry import Geometry
from ternac.compile.isa import Addend, Instruction, Lane, MulBy, Source
from ternac.errors import DoesNotFit, IllegalProgram
from ternac.program.legality import shapes
from ternac.program.ops import Op
from ternac.program.program import Program


@dataclass
class Pass:
    """One instruction being assembled, with the value names it touches."""

    name: str
    inst: Instruction
    result: str
    reads: dict[str, str] = field(default_factory=dict)  # operand field a/b/c -> value
    x_in: str | None = None
    x_out: str | None = None  # what the side lane makes of the result, only in the x buffer
    side_in: str | None = None  # the lane's multiplicand
    trits: str | None = None
    refill: str | None = None


class Fuser:
    """Group ops into passes."""

    def __init__(self, program: Program, geometry: Geometry, *, side: bool) -> None:
        self.p, self.g, self.side = program, geometry, side
        self.shape = shapes(program)
        self.users: Counter[str] = Counter(v for op in program.ops for v in op.ins)
        self.users[program.logits] += 1
        self.done: set[int] = set()
        self.loaded = {op.out: op.ins[0] for op in program.ops if op.kind == "LOAD"}
        self.tables: dict[bytes, int] = {}
        self.norms: dict[bytes, int] = {}

    def refuse(self, index: int, reason: str) -> IllegalProgram:
        op = self.p.ops[index]
        return IllegalProgram(f"op {index} {op.kind} {op.out!r}: {reason} on this engine")

    def run(self) -> list[Pass]:
        passes: list[Pass] = []
        self.produced: set[str] = set(self.loaded)
        for index, op in enumerate(self.p.ops):
            if index in self.done or op.kind in ("LOAD", "STORE"):
                continue
            if self.g.lane_depth and passes and self.in_lane(passes, op):
                self.done.add(index)
                continue
            new = self.start(index, op)
            passes += new
            self.produced.add(new[-1].result)
        return passes

    def in_lane(self, passes: list[Pass], op: Op) -> bool:
        """Give ``op`` to the side lane of the pass before, if it is one that feeds only matrices."""
        last = passes[-1]
        in_matrix = any(o.kind == "TMATVEC" and last.result in o.ins for o in self.p.ops)
        if last.x_out is not None or in_matrix or not self.only_in_matrices(op.out):
            return False
        slots = last.inst.count
        if op.kind == "NORM" and op.ins[0] == last.result and slots <= self.g.lane_depth:
            last.inst = replace(last.inst, lane=Lane.NORM, **self.lane_norm(op))  # type: ignore[arg-type]
        elif self.side and op.kind == "MUL" and last.result in op.ins and self.shape[op.out][0] == "i8":
            other = op.ins[1] if op.ins[0] == last.result else op.ins[0]
            source = next((p for p in passes[:-1] if p.result == other), None)
            later = passes[passes.index(source) + 1 :] if source else []
            if (
                source is None
                or self.shape[other][0] != "i8"
                or not 2 <= slots <= self.g.side_depth
                or any(p.inst.to_side or p.inst.lane == Lane.SIDE for p in later)
            ):
                return False
            source.inst = replace(source.inst, to_side=1)
            last.inst = replace(last.inst, lane=Lane.SIDE, post=int(op.attrs["shift"]))
            last.side_in = other
        else:
            return False
        last.x_out = op.out
        return True

    def only_in_matrices(self, value: str) -> bool:
        """Whether nothing but TMATVEC uses ``value``."""
        return value != self.p.logits and all(o.kind == "TMATVEC" for o in self.p.ops if value in o.ins)

    def lane_norm(self, op: Op) -> dict[str, int]:
        """The fields of a NORM in the side lane."""
        which = self.intern(self.norms, str(op.attrs["table"]), self.g.norm_tables, "norm tables")
        return {"pre": int(op.attrs["pre"]), "post": int(op.attrs["post"]), "norm_table": which}

    def start(self, index: int, op: Op) -> list[Pass]:
        self.done.add(index)
        n = self.shape[op.out][1]
        base = Instruction(count=self.g.slots(n), tail=self.g.tail(n))
        attr = op.attrs
        if op.kind == "GATHER":
            rows = self.p.consts[str(attr["embed"])].shape[0]
            stride = (self.g.slots(n) - 1).bit_length()
            if rows << stride > self.g.embed_depth:
                raise DoesNotFit(
                    f"embedding of {rows} tokens needs {rows << stride} bytes per column, "
                    f"{self.g.name} has {self.g.embed_depth}"
                )
            inst = replace(
                base, source=Source.EMBED, shift1=int(attr["shift"]), wide1=1, wide2=1, stride=stride
            )
            return [Pass(op.out, inst, op.out)]
        if op.kind == "NORM" and self.g.lane_depth:
            if not self.only_in_matrices(op.out):
                raise self.refuse(index, "only matrix products can take the result of a NORM")
            if base.count > self.g.lane_depth:
                raise DoesNotFit(
                    f"op {index} {op.out!r} norms {n} elements, {self.g.name}'s side lane holds "
                    f"{self.g.lane_depth * self.g.columns}"
                )
            fields = self.lane_norm(op)
            copy = replace(base, source=Source.BANK, wide1=1, wide2=1, lane=Lane.NORM, **fields)  # type: ignore[arg-type]
            return [Pass(op.out, copy, "", {"a": op.ins[0]}, x_out=op.out)]
        if op.kind == "NORM":
            which = self.intern(self.norms, str(attr["table"]), self.g.norm_tables, "norm tables")
            stat = replace(
                base, source=Source.BANK, shift1=int(attr["pre"]), mul=MulBy.SQUARE, stat=1,
                shift2=int(attr["post"]), norm_table=which,
            )  # fmt: skip
            scale = replace(base, source=Source.BANK, wide1=1, mul=MulBy.NORM)
            x = op.ins[0]
            return [
                Pass(op.out + ".stat", stat, "", {"a": x}),
                Pass(op.out, scale, op.out, {"a": x}),
            ]
        if op.kind == "TMATVEC":
            k = self.p.consts[str(attr["weights"])].shape[1]
            if k > self.g.x_depth * self.g.lanes:
                raise DoesNotFit(
                    f"op {index} {op.out!r} has {k} inputs, {self.g.name}'s x buffer holds "
                    f"{self.g.x_depth * self.g.lanes}"
                )
            one = Pass(
                op.out,
                replace(base, words=self.g.words(k)),
                op.out,
                x_in=op.ins[0],
                trits=str(attr["weights"]),
            )
            follow = self.only_user(op.out)
            if follow is None or self.p.ops[follow].kind != "REQUANT":
                raise self.refuse(index, "a TMATVEC must feed exactly one REQUANT")
            self.requant1(one, follow)
            self.extend(one)
            return [one]
        one = Pass(op.out, replace(base, source=Source.BANK, wide1=1), op.out)
        if op.kind == "REQUANT":
            one.reads["a"] = op.ins[0]
            self.requant1(one, index)
            self.extend(one)
        elif op.kind == "TABLE":
            one.reads["a"] = op.ins[0]
            self.table(one, index)
            self.extend(one)
        elif op.kind in ("MUL", "ADD", "LERP"):
            main = op.ins[1] if op.kind == "LERP" else op.ins[0]
            one.reads["a"] = main
            if not self.elementwise(one, index, main):
                raise self.refuse(index, "an operand is not available")
        else:
            raise self.refuse(index, "the op is not implemented")
        return [one]

    def only_user(self, value: str) -> int | None:
        """The op that alone uses ``value``, or None."""
        if self.users[value] != 1 or value == self.p.logits:
            return None
        return next((i for i, op in enumerate(self.p.ops) if value in op.ins), None)

    def intern(self, pool: dict[bytes, int], const: str, limit: int, what: str) -> int:
        key = self.p.consts[const].tobytes()
        if key not in pool:
            if len(pool) == limit:
                raise DoesNotFit(f"the program needs more than the {limit} {what} of {self.g.name}")
            pool[key] = len(pool)
        return pool[key]

    def requant1(self, one: Pass, index: int) -> None:
        op = self.p.ops[index]
        if int(op.attrs.get("multiplier", 1)) != 1:
            raise self.refuse(index, "a multiplier other than 1 is not available")
        wide = int(self.shape[op.out][0] == "i16")
        one.inst = replace(one.inst, shift1=int(op.attrs["shift"]), wide1=wide, wide2=wide)
        self.take(one, index)

    def table(self, one: Pass, index: int) -> None:
        which = self.intern(self.tables, str(self.p.ops[index].attrs["table"]), self.g.tables, "tables")
        one.inst = replace(one.inst, table_en=1, table=which, wide1=0, wide2=1)
        self.take(one, index)

    def take(self, one: Pass, index: int) -> None:
        self.done.add(index)
        one.result = one.name = self.p.ops[index].out

    def extend(self, one: Pass) -> None:
        """Fuse what follows: a table, then one requantization or elementwise op."""
        follow = self.only_user(one.result)
        if follow is not None and self.p.ops[follow].kind == "TABLE" and not one.inst.table_en:
            self.table(one, follow)
            follow = self.only_user(one.result)
        if follow is None:
            return
        op = self.p.ops[follow]
        if op.kind == "REQUANT" and int(op.attrs.get("multiplier", 1)) == 1:
            wide = int(self.shape[op.out][0] == "i16")
            one.inst = replace(one.inst, shift2=int(op.attrs["shift"]), wide2=wide)
            self.take(one, follow)
        elif op.kind in ("MUL", "ADD", "LERP"):
            self.elementwise(one, follow, one.result)

    def elementwise(self, one: Pass, index: int, main: str) -> bool:
        """Put op ``index`` behind v2 = ``main`` if its other operands are already in the banks."""
        op = self.p.ops[index]
        wide = int(self.shape[op.out][0] == "i16")
        if op.kind == "MUL":
            a, b = op.ins
            if main == b and self.shape[a][0] == "i8":
                a, b = b, a
            if main != a or b not in self.produced:
                return False
            one.inst = replace(one.inst, mul=MulBy.BANK_C, shift2=int(op.attrs["shift"]), wide2=wide)
            one.reads["c"] = b
        elif op.kind == "ADD":
            other = op.ins[1] if op.ins[0] == main else op.ins[0]
            if other not in self.produced:
                return False
            one.inst = replace(one.inst, add=Addend.B, wide2=wide)
            one.reads["b"] = other
        else:
            h, c, f = op.ins
            if main != c or h not in self.produced or f not in self.produced:
                return False
            one.inst = replace(one.inst, sub=1, mul=MulBy.BANK_C, shift2=8, add=Addend.V2, wide2=1)
            one.reads |= {"b": h, "c": f}
        self.take(one, index)
        return True
