"""Every rule for memories and loops, each by a program that breaks that rule only."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ternac.errors import IllegalProgram
from ternac.limits import MAX_MEMORY_BYTES
from ternac.program.legality import check, infer
from ternac.program.ops import Memory, Op
from ternac.program.program import Program
from tests.program.memory_toy import loop_program, memory_program, with_op

BASE = memory_program()
LOOP = loop_program()
LEVELS = loop_program(levels=1)
replace = dataclasses.replace


def attrs(at: str, **change: Any) -> Program:
    return with_op(BASE, at, attrs=change)


def memory(rows: Any = 16, width: Any = 6, dtype: Any = "i8", name: str = "M") -> Program:
    return replace(BASE, memories={name: Memory(rows, width, dtype)})


def more(program: Program, *ops: Op, **change: Any) -> Program:
    """The program with ops before the last one, and constants, states and memories added."""
    fields = {name: {**getattr(program, name), **added} for name, added in change.items()}
    return replace(program, ops=(*program.ops[:-1], *ops, program.ops[-1]), **fields)


def table(rows: int, width: int = 4, high: int = 128, **read: Any) -> Program:
    """The program with a read of constant rows, at codes of 8 heads."""
    values = np.random.default_rng(1).integers(-high, high, (rows, width)).astype(np.int8)
    op = Op("MEM_READ", "t.acc", ("n",), {"rows": "T", "bits": 2, "shared": 0, **read})
    return more(BASE, op, consts={"T": values})


def winners(size: int, groups: int) -> Program:
    """The program with the winners of a vector of that size."""
    weights = {"W9": np.zeros((size, 8), np.int8)}
    ops = (
        Op("TMATVEC", "z.acc", ("n",), {"weights": "W9"}),
        Op("REQUANT", "z", ("z.acc",), {"shift": 0, "dtype": "i8"}),
        Op("WINNERS", "z.w", ("z",), {"groups": groups}),
        Op("MASK", "z.m", ("z", "z.w"), {}),
    )
    return more(BASE, *ops, consts=weights)


def masked(size: int) -> Program:
    """The program with a MASK of ``size`` elements by the four winners."""
    program = winners(size, 1)
    return with_op(program, "z.m", ins=("z", "w"))


def wide(heads: int, dtype: str) -> Program:
    """The program with a read of as many rows of a memory."""
    ops = (
        Op("TMATVEC", "c.acc", ("n",), {"weights": "Wc"}),
        Op("REQUANT", "c", ("c.acc",), {"shift": 0, "dtype": "i8"}),
        Op("MEM_READ", "c.read", ("c",), {"rows": "L", "bits": 1, "shared": 0}),
    )
    memories = {"L": Memory(2 * heads, 2, dtype)}
    return more(BASE, *ops, consts={"Wc": np.zeros((heads, 8), np.int8)}, memories=memories)


def looped(**change: Any) -> Program:
    return with_op(LOOP, "again", attrs=change)


def second(first: int, length: int) -> Program:
    """The program with another LOOP behind the last op."""
    op = Op("LOOP", "more", (), {"first": first, "length": length, "times": 1, "most": 1, "levels": 0})
    return replace(LOOP, ops=(*LOOP.ops, op))


LOAD = Op("LOAD", "h.more", ("h",))
READ = Op("MEM_READ", "m.more", ("w",), {"rows": "M", "bits": 2, "shared": 0})
CASES = {
    # memories
    "memory of no rows": (memory(rows=0), r"memory M: rows is 0, outside 1\.\."),
    "memory of many rows": (memory(rows=(1 << 24) + 1), r"memory M: rows is 16777217, outside 1\.\.16777216"),
    "memory rows of text": (memory(rows="16"), "memory M: rows is '16'"),
    "memory of no width": (memory(width=0), r"memory M: width is 0, outside 1\.\.65535"),
    "odd width": (memory(width=7), "memory M: width is 7, i8 needs an even one"),
    "memory dtype": (memory(dtype="i32"), "memory M: dtype is 'i32', not 'i8' or 'i16'"),
    "memory dtype list": (memory(dtype=["i8"]), "memory M: dtype is"),
    "memory name": (memory(name="a b"), "'a b' is not a name"),
    "memory named like a state": (memory(name="s.o"), "memory s.o: its name is already taken"),
    "memory named like a constant": (memory(name="Wa"), "memory Wa: its name is already taken"),
    "value named like a memory": (with_op(BASE, "n", out="M"), "its name is already taken"),
    "memory too large": (
        more(BASE, memories={"big": Memory(1 << 24, 4, "i8")}),
        rf"the memories of a session have {(1 << 26) + 96} bytes, limit {MAX_MEMORY_BYTES}",
    ),
    "unused memory": (more(BASE, memories={"N": Memory(1, 2, "i8")}), "memory N: no op reads or updates it"),
    # MEM_READ, MEM_UPDATE
    "unknown rows": (
        attrs("o.acc", rows="N"),
        r"op 12 \(MEM_READ o.acc\): memory or constant 'N' does not exist",
    ),
    "unknown memory": (attrs("write", memory="N"), "memory 'N' does not exist"),
    "update of a constant": (attrs("write", memory="Wa"), "memory 'Wa' does not exist"),
    "rows of text": (attrs("o.acc", rows=3), "rows is 3, not text"),
    "bits of 0": (attrs("o.acc", bits=0), r"bits is 0, outside 1\.\.10"),
    "bits of 11": (attrs("write", bits=11), r"bits is 11, outside 1\.\.10"),
    "keep": (attrs("write", keep=16), r"keep is 16, outside 0\.\.15"),
    "shared flag": (attrs("o.acc", shared=2), r"shared is 2, outside 0\.\.1"),
    "shared memory": (attrs("o.acc", shared=1), "M is a memory: each head has rows of its own"),
    "bits of other rows": (attrs("o.acc", bits=3), "M has 16 rows, the address reaches 32: 4 heads of 8"),
    "bits of an update": (attrs("write", bits=1), "M has 16 rows, the address reaches 8: 4 heads of 2"),
    "two digits": (
        with_op(BASE, "o.acc", ins=("w", "w")),
        "M has 16 rows, the address reaches 64: 4 heads of 16",
    ),
    "digits of unequal length": (
        with_op(BASE, "o.acc", ins=("w", "n"), attrs={"bits": 1}),
        r"digits of unequal length: w\[4\], n\[8\]",
    ),
    "no digits": (with_op(BASE, "o.acc", ins=()), "0 inputs, needs 1 to 2"),
    "no error": (with_op(BASE, "write", ins=("w.prev",)), "1 inputs, needs 2 to 3"),
    "acc digits": (with_op(BASE, "o.acc", ins=("s.acc",)), "input s.acc is acc, needs i8 or i16"),
    "width of e": (with_op(BASE, "write", ins=("w.prev", "w")), "M has rows of 6 elements, w has 4"),
    "label taken": (with_op(BASE, "write", out="n"), "its name is already taken"),
    "label read": (with_op(BASE, "o", ins=("write",)), "input 'write' is not defined before it"),
    "constant rows": (table(33), "T has 33 rows, the address reaches 32: 8 heads of 4"),
    "shared constant rows": (table(32, shared=1), "T has 32 rows, the address reaches 4: one region of 4"),
    "constant rows of i16": (
        replace(table(32), consts={**table(32).consts, "T": np.zeros((32, 4), np.int16)}),
        "constant T: dtype int16, rows needs int8",
    ),
    "constant rows, one side": (
        replace(table(32), consts={**table(32).consts, "T": np.zeros(32, np.int8)}),
        "constant T: shape .*, needs two sides",
    ),
    "trits as rows": (attrs("o.acc", rows="Wa"), "Wa is already used as trits"),
    "sum of many i16": (
        wide(256, "i16"),
        r"the sum of 256 rows of L can be -8388608\.\.8388352, needs -8388480\.\.8388480",
    ),
    # WINNERS, MASK, SUB, TOKEN
    "no groups": (attrs("w", groups=0), r"groups is 0, outside 1\.\.256"),
    "groups of one": (attrs("w", groups=16), r"16 elements in 16 groups, needs groups of 2\.\.1024 elements"),
    "uneven groups": (attrs("w", groups=3), "16 elements in 3 groups"),
    "groups too large": (winners(1025, 1), r"1025 elements in 1 groups, needs groups of 2\.\.1024"),
    "winners of acc": (with_op(BASE, "w", ins=("s.acc",)), "input s.acc is acc, needs i8 or i16"),
    "mask of i16": (with_op(winners(8, 2), "z.m", ins=("s", "z.w")), "input s is i16, needs i8"),
    "mask of uneven groups": (masked(9), "9 elements in 4 groups"),
    "mask of groups of one": (masked(4), "4 elements in 4 groups"),
    "difference of unequal length": (
        with_op(BASE, "d", ins=("o.prev", "n")),
        r"unequal length: o.prev\[6\], n\[8\]",
    ),
    "token with input": (more(BASE, Op("TOKEN", "t", ("n",), {})), "1 inputs, needs 0"),
    # LOOP
    "body that is not before it": (
        looped(length=8),
        r"op 10 \(LOOP again\): its body ends with op 8, needs 9",
    ),
    "body behind it": (looped(first=2), "its body ends with op 10, needs 9"),
    "empty body": (looped(length=0), r"length is 0, outside 1\.\."),
    "no runs": (looped(times=0), r"times is 0, outside 1\.\.255"),
    "many runs": (looped(most=256), r"most is 256, outside 1\.\.255"),
    "more than most": (looped(times=5), "times is 5, most is 4"),
    "levels": (looped(levels=2), r"levels is 2, outside 0\.\.1"),
    "free levels": (with_op(LEVELS, "again", attrs={"most": 3}), "most is 3: .* so it must be times, 2"),
    "missing attribute": (
        replace(LOOP, ops=(*LOOP.ops[:10], replace(LOOP.ops[10], attrs={"first": 1}), LOOP.ops[11])),
        "attribute length is missing",
    ),
    "nested": (
        second(0, 12),
        r"op 12 \(LOOP more\): its body begins with op 0, inside the loop that ends with op 10",
    ),
    "overlapping": (second(10, 2), "its body begins with op 10, inside the loop that ends with op 10"),
    "odd carry": (with_op(LOOP, "again", ins=("r",)), "1 inputs, needs pairs old, new"),
    "carried twice": (with_op(LOOP, "again", ins=("r", "next", "r", "o")), "a value is carried twice"),
    "carry of nothing": (with_op(LOOP, "again", ins=("q", "next")), "'q' is not defined before its body"),
    "carry of the body": (
        with_op(LOOP, "again", ins=("old", "next")),
        "'old' is not defined before its body",
    ),
    "carry from outside": (
        with_op(LOOP, "again", ins=("r", "r")),
        "'r', carried to r, is not defined in its body",
    ),
    "carry of a label": (with_op(LOOP, "again", ins=("r", "write")), "'write', carried to r, is not defined"),
    "carry of another type": (
        with_op(LOOP, "again", ins=("r", "x")),
        r"x is i8\[8\], r, to which it is carried, i16\[8\]",
    ),
    "carry of another length": (with_op(LOOP, "again", ins=("r", "w")), r"w is i16\[2\], r, .* i16\[8\]"),
    "loop named like a value": (with_op(LOOP, "again", out="next"), "its name is already taken"),
    "loop that is not named": (with_op(LOOP, "again", out=""), "is not a name"),
    "uneven states": (
        replace(LEVELS, states={"h": 17}),
        r"op 3 \(LOAD old\): h has 17 words, needs a multiple of 2: a part for each run",
    ),
    "uneven rows": (
        replace(LEVELS, memories={"M": Memory(17, 8, "i16")}),
        "M has 17 rows, needs a multiple of 2: a part for each run",
    ),
    "a level's state outside": (more(LEVELS, LOAD), "h has a part for each run of the LOOP at op 10"),
    "a level's memory outside": (more(LEVELS, READ), "M has 16 rows, the address reaches 8"),
    "a state outside, then in a level": (
        replace(
            LEVELS,
            ops=(
                LOAD,
                *(
                    replace(op, attrs={**op.attrs, "first": 2}) if op.kind == "LOOP" else op
                    for op in LEVELS.ops
                ),
            ),
        ),
        "h has a part for each run of the LOOP at op 11",
    ),
}


def test_what_a_token_runs_is_limited() -> None:
    """Each loop alone is short enough; the count is that of the most runs that may be asked for."""

    def program(most: int, bodies: int) -> Program:
        ops = list(LOOP.ops[:1])
        for body in range(bodies):
            first = len(ops)
            ops += [Op("ADD", f"{body}.{i}", ("r", "r"), {"dtype": "i16"}) for i in range(1000)]
            runs = {"times": 1, "most": most, "levels": 0}
            ops.append(Op("LOOP", f"{body}.loop", (), {"first": first, "length": 1000, **runs}))
        consts = {"E": LOOP.consts["E"]}
        return Program("long", 8, tuple(ops), consts, {}, "0.0", 4)

    check(program(255, 4))
    with pytest.raises(
        IllegalProgram, match=r"LOOP 4.loop.*: with its runs a token has 1275006 ops to run, limit 1048576"
    ):
        check(program(255, 5))


@pytest.mark.parametrize("case", CASES)
def test_refused_with_the_reason(case: str) -> None:
    program, reason = CASES[case]
    with pytest.raises(IllegalProgram, match=reason):
        check(program)


def test_the_bases_are_legal() -> None:
    for program in (BASE, LOOP, LEVELS, table(32), table(4, shared=1), winners(1024, 1), winners(512, 256)):
        check(program)
    check(wide(255, "i16"))
    check(wide(32767, "i8"))
    check(more(LOOP, LOAD, READ))


def test_the_limit_of_memories_is_the_largest_that_is_legal() -> None:
    ops = (
        Op("GATHER", "r", (), {"embed": "E", "shift": 0}),
        Op("MEM_READ", "acc", ("r", "r"), {"rows": "M", "bits": 10, "shared": 0}),
        Op("REQUANT", "logits", ("acc",), {"shift": 0, "dtype": "i16"}),
    )
    largest = Memory(8 << 20, 8, "i8")
    assert 2 * largest.words == MAX_MEMORY_BYTES
    program = Program(
        "large", 8, ops, {"E": np.zeros((8, 8), np.int8)}, {}, "logits", 4, memories={"M": largest}
    )
    check(program)


def test_bounds_of_results_are_those_of_their_operands() -> None:
    values = infer(table(32, high=5))
    array = table(32, high=5).consts["T"].reshape(8, -1).astype(int)
    assert (values["t.acc"].low, values["t.acc"].high) == (array.min(1).sum(), array.max(1).sum())
    assert values["t.acc"].length == 4
    shared = infer(table(4, high=5, shared=1))["t.acc"]
    whole = table(4, high=5, shared=1).consts["T"].astype(int)
    assert (shared.low, shared.high) == (8 * whole.min(), 8 * whole.max())
    assert (values["o.acc"].low, values["o.acc"].high) == (4 * -128, 4 * 127)
    assert (values["w"].low, values["w"].high) == (0, 3)
    token = infer(more(BASE, Op("TOKEN", "t", (), {})))["t"]
    assert (token.low, token.high, token.length) == (0, 6, 2)
    large = infer(wide(100, "i16"))["c.read"]
    assert (large.low, large.high) == (-3276800, 3276700)


def weighted(entry: int, carry: tuple[str, ...]) -> Program:
    """A loop whose carried value is a factor of a product, and becomes ``entry`` or 7 by a table."""
    ops = (
        Op("GATHER", "r", (), {"embed": "E", "shift": 8}),
        Op("REQUANT", "code", ("r",), {"shift": 0, "dtype": "i8"}),
        Op("TABLE", "f", ("code",), {"table": "small"}),
        Op("MUL", "p", ("r", "f"), {"shift": 0, "dtype": "i16"}),
        Op("REQUANT", "c", ("p",), {"shift": 4, "dtype": "i8"}),
        Op("TABLE", "g", ("c",), {"table": "next"}),
        Op("LOOP", "again", carry, {"first": 3, "length": 3, "times": 3, "most": 3, "levels": 0}),
    )
    consts = {
        "E": np.ones((4, 4), np.int8),
        "small": np.array([255, *[0] * 255], np.int16),
        "next": np.array([entry, *[7] * 255], np.int16),
    }
    return Program("weighted", 4, ops, consts, {}, "p", 4)


def test_a_carried_value_keeps_bounds_that_hold_in_every_run() -> None:
    check(weighted(300, ()))
    check(weighted(255, ("f", "g")))
    check(weighted(-256, ("f", "g")))
    assert infer(weighted(-256, ("f", "g")))["f"].low == 0  # outside it is what it was
    for entry, found in ((256, r"7\.\.256|0\.\.256"), (-257, r"-257\.\.255")):
        with pytest.raises(IllegalProgram, match=rf"op 3 \(MUL p\): second factor f can be ({found}), needs"):
            check(weighted(entry, ("f", "g")))


def test_bounds_that_grow_from_run_to_run_are_given_up() -> None:
    """A sum that is carried can be anything that its type holds."""
    values = infer(LOOP)
    assert (values["next"].low, values["next"].high) == (-32768, 32767)
