"""Which ops share a pass, and which ones must not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry
from ternac.compile.image import Image
from ternac.compile.isa import Lane, Opcode, Source
from ternac.errors import DoesNotFit
from ternac.program.ops import Memory, Op
from ternac.program.program import Program
from ternac.program.random import random_program
from tests.compile.test_rows import agree

TINY, ROWS = (replace(PRESETS[name], contexts=1) for name in ("tiny", "tiny-rows"))
WIDTH, VOCAB = 8, 20


def made(
    ops: Sequence[Op], states: dict[str, int] | None = None, memories: dict[str, Memory] | None = None
) -> Program:
    """Return a program of these ops behind ``r``, the embedding, and ``x``, which is it in 8 bits."""
    rng = np.random.default_rng(3)
    first = [
        Op("GATHER", "r", (), {"embed": "embed", "shift": 4}),
        Op("REQUANT", "x", ("r",), {"shift": 3, "dtype": "i8"}),
    ]
    consts = {
        "embed": rng.integers(-128, 128, (VOCAB, WIDTH)).astype(np.int8),
        "rsqrt": np.arange(256).astype(np.uint8),
        "high": rng.integers(100, 128, (WIDTH, WIDTH)).astype(np.int8),
    }
    for op in ops:
        if op.kind == "TMATVEC":
            rows = VOCAB if op.out == "logits.acc" else WIDTH
            consts[op.text("weights")] = rng.integers(-1, 2, (rows, WIDTH)).astype(np.int8)
    used = {value for op in (*first, *ops) for value in op.attrs.values() if isinstance(value, str)}
    consts = {name: value for name, value in consts.items() if name in used}
    return Program(
        "passes", VOCAB, (*first, *ops), consts, states or {}, "logits", 4, memories=memories or {}
    )


def matrix(out: str, source: str, shift: int = 1, dtype: str = "i8") -> list[Op]:
    return [
        Op("TMATVEC", f"{out}.acc", (source,), {"weights": f"W.{out}"}),
        Op("REQUANT", out, (f"{out}.acc",), {"shift": shift, "dtype": dtype}),
    ]


def logits(source: str) -> list[Op]:
    return matrix("logits", source, 0, "i16")


def passes(program: Program, geometry: Geometry) -> Image:
    """Compile and execute against NumPy."""
    return agree(program, geometry, 1)


def test_what_follows_an_op_on_a_bank_shares_its_pass() -> None:
    both = [
        Op("REQUANT", "half", ("r",), {"shift": 1, "dtype": "i16"}),
        Op("ADD", "sum", ("half", "x"), {"dtype": "i8"}),
    ]
    image = passes(made([*both, *logits("sum")]), TINY)
    assert [inst.source for inst in image.instructions if inst.op == Opcode.VEC] == [
        Source.EMBED, Source.BANK, Source.BANK, Source.DOT
    ]  # fmt: skip


def test_a_vector_longer_than_the_side_lane_is_not_normed_there() -> None:
    program = random_program(np.random.default_rng(1), 260, 8, 1, VOCAB)
    wide = replace(TINY, name="wide", x_depth=256, embed_depth=8192, bank_depth=4096)
    with pytest.raises(DoesNotFit, match="norms 260 elements, wide's side lane holds 256") as caught:
        compile_program(program, wide)
    assert (caught.value.needed, caught.value.limit) == (260, 256)


def test_only_a_norm_with_other_readers_is_copied() -> None:
    ops = [
        Op("NORM", "n", ("r",), {"pre": 3, "post": 1, "table": "rsqrt"}),
        *matrix("a", "n"),
        Op("ADD", "s", ("a", "n"), {"dtype": "i16"}),
        Op("NORM", "m", ("s",), {"pre": 3, "post": 1, "table": "rsqrt"}),
        *logits("m"),
    ]
    image = passes(made(ops), TINY)
    assert [name for name in image.names if ".copy" in name] == ["n.copy"]


def gated(*ops: Op, gate: str) -> list[Op]:
    """Ops, and behind them a product of a sum and ``gate``, which the side lane makes where it may."""
    total = Op("ADD", "t", ("u", "x"), {"dtype": "i8"})
    product = Op("MUL", "g", (gate, "t"), {"shift": 7, "dtype": "i8"})
    return [*ops, *matrix("u", "x"), total, product, *logits("g")]


@pytest.mark.parametrize("between", [False, True])
def test_a_gate_does_not_stay_in_the_side_lane_over_an_update(between: bool) -> None:
    load = [Op("LOAD", "last", ("place",), {})]
    update = [
        *matrix("e", "x"),
        Op("MEM_UPDATE", "write", ("last", "e"), {"memory": "rows", "bits": 2, "keep": 2}),
        Op("TOKEN", "digits", (), {}),
        Op("REQUANT", "digit", ("digits",), {"shift": 0, "dtype": "i16"}),
        Op("STORE", "place", ("digit",), {}),
    ]
    gate = matrix("v", "x")
    ops = [*load, *gate, *update] if between else [*load, *update, *gate]
    again = [*matrix("v2", "g"), *matrix("u2", "g"), Op("ADD", "t2", ("u2", "x"), {"dtype": "i8"})]
    again += [Op("MUL", "g2", ("v2", "t2"), {"shift": 7, "dtype": "i8"}), *logits("g2")]
    program = made([*gated(*ops, gate="v")[:-2], *again], {"place": 2}, {"rows": Memory(8, WIDTH, "i8")})
    image = passes(program, ROWS)
    assert sum(inst.lane == Lane.SIDE for inst in image.instructions) == (1 if between else 2)


def test_a_mean_of_rows_that_is_positive_and_large_is_no_gate() -> None:
    """It is above what 8 bits hold, though not below."""
    read = [
        Op("TOKEN", "digits", (), {}),
        Op("REQUANT", "digit", ("digits",), {"shift": 0, "dtype": "i16"}),
        Op("MEM_READ", "o.acc", ("digit",), {"rows": "high", "bits": 3, "shared": 1}),
        Op("REQUANT", "o", ("o.acc",), {"shift": 0, "dtype": "i16"}),
    ]
    image = passes(made(gated(*read, gate="o")), ROWS)
    assert not any(inst.lane == Lane.SIDE for inst in image.instructions)


def test_a_state_that_a_loop_begins_with_keeps_its_words() -> None:
    """Runs change a copy of what was loaded; nobody stores it."""
    ops = [
        Op("LOAD", "h", ("s",), {}),
        Op("ADD", "sum", ("h", "r"), {"dtype": "i16"}),
        Op("REQUANT", "half", ("sum",), {"shift": 3, "dtype": "i8"}),
        *matrix("b", "half", 0, "i16"),
        Op("ADD", "t", ("sum", "b"), {"dtype": "i16"}),
        Op("LOOP", "again", ("h", "t"), {"first": 3, "length": 5, "times": 2, "most": 2, "levels": 0}),
        Op("REQUANT", "z", ("t",), {"shift": 3, "dtype": "i8"}),
        *logits("z"),
    ]
    passes(made(ops, {"s": WIDTH}), ROWS)


def test_a_state_is_not_replaced_by_a_pass_before_one_that_reads_the_old_one() -> None:
    """The new value could ride on the matrix, which comes first."""
    ops = [
        Op("LOAD", "h", ("s",), {}),
        *matrix("a", "x", 0, "i16"),
        Op("ADD", "o", ("h", "r"), {"dtype": "i16"}),
        Op("ADD", "n", ("a", "r"), {"dtype": "i16"}),
        Op("STORE", "s", ("n",), {}),
        Op("REQUANT", "z", ("o",), {"shift": 3, "dtype": "i8"}),
        *logits("z"),
    ]
    passes(made(ops, {"s": WIDTH}), TINY)
