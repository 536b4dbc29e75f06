"""Memories on an engine with rows: compiled, and executed word for word, against the NumPy executor."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.fitting import memory_model
from ternac.compile.geometry import PRESETS, Geometry, Mem
from ternac.compile.image import Image
from ternac.compile.isa import Instruction, Opcode, Source
from ternac.compile.layout import row_blocks, row_step, row_values
from ternac.compile.lower import with_gaps
from ternac.compile.machine import Machine
from ternac.compile.place_rows import Rows, place_rows
from ternac.errors import DoesNotFit, IllegalProgram, UnsupportedOp
from ternac.hdl.engine.schedule import schedule
from ternac.program.file import load
from ternac.program.loops import most_loops
from ternac.program.ops import Memory, Op
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.program.zoo import resolve
from ternac.run.numpy_executor import NumpyExecutor

SHIPPED = Path(__file__).parents[2] / "model/memory/shipped"
ROOMY = replace(
    PRESETS["tiny-rows"], name="roomy", rows=1 << 15, bank_depth=4096, weight_depth=1 << 14, bias_depth=8192,
    x_depth=64, logit_slots=128,
)  # fmt: skip
"""Holds every program of `random_memory_program`, three contexts of most."""


def odd(columns: int) -> Geometry:
    return replace(ROOMY, name="odd", columns=columns, lanes=columns * 4, chain=2, logit_slots=150)


def state_of(program: Program, machine: Machine, base: int) -> np.ndarray:
    """A session's state as the executors have it: int16 words."""
    parts = [machine.read(name, base).astype(np.int16) for name in program.states]
    parts += [machine.read_rows(name, base).view("<i2").reshape(-1) for name in program.memories]
    return np.concatenate([np.zeros(0, np.int16), *parts])


def agree(program: Program, geometry: Geometry, seed: int, tokens: int = 8) -> Image:
    """Run sessions in all slots and contexts in turn; logits, values, states and rows must be equal."""
    rng = np.random.default_rng(seed)
    image = compile_program(program, geometry)
    machine, executor = Machine(image), NumpyExecutor(program)
    slots = min(image.sessions, 3)
    states = [executor.open() for _ in range(slots)]
    for token in rng.integers(0, program.vocab, tokens):
        who, entry = int(rng.integers(slots)), int(rng.choice(image.entries))
        base, trace = image.session_base(who), dict[str, np.ndarray]()
        expected = executor.step(states[who], np.array([token]), trace=trace)[0]
        assert np.array_equal(machine.step(int(token), base, entry), expected)
        if entry == 0:
            for name in image.symbols:
                assert np.array_equal(machine.read(name), trace[name][0]), name
        for k, state in enumerate(states):
            assert np.array_equal(state_of(program, machine, image.session_base(k)), state[0]), k
    return image


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_with_memories(seed: int) -> None:
    agree(random_memory_program(np.random.default_rng(seed), loop="", narrow=True), ROOMY, seed)


@pytest.mark.parametrize("columns", [2, 3, 5, 12])
def test_any_number_of_columns(columns: int) -> None:
    seed = 40 + columns
    agree(random_memory_program(np.random.default_rng(seed), loop="", narrow=True), odd(columns), seed)


@pytest.mark.parametrize("seed", [0, 1, 3, 4, 8, 13, 29])
def test_a_loop_with_levels_is_unrolled_and_its_weights_stand_once(seed: int) -> None:
    program = random_memory_program(np.random.default_rng(seed), loop="levels", narrow=True)
    image = agree(program, ROOMY, seed)
    (times,) = (op.integer("times") for op in program.ops if op.kind == "LOOP")
    dots = Counter(i.weight for i in image.instructions if i.source == Source.DOT and i.op == Opcode.VEC)
    assert times > 1 and max(dots.values()) == times


@pytest.mark.parametrize("seed", range(8))
def test_a_loop_runs_as_often_as_it_says_or_a_request_asks(seed: int) -> None:
    program = random_memory_program(np.random.default_rng(seed), loop="free", narrow=True)
    image = agree(program, ROOMY, seed)
    most = most_loops(program)
    assert any(inst.op == Opcode.LOOP for inst in image.instructions) == (most > 1)
    machine, executor = Machine(image), NumpyExecutor(program)
    state = executor.open()
    for token, loops in enumerate((most, 1, None, most)):
        expected = executor.step(state, np.array([token % program.vocab]), loops=loops)[0]
        got = machine.step(token % program.vocab, loops=loops)
        assert np.array_equal(got, expected), loops


def test_a_norm_of_before_a_loop_stays_in_the_x_buffer_for_every_run() -> None:
    """It is read early in the body, where later vectors must not take its words."""
    rng = np.random.default_rng(6)

    def trits(rows: int) -> Any:
        return rng.integers(-1, 2, (rows, 8)).astype(np.int8)

    ops = [
        Op("GATHER", "r", (), {"embed": "embed", "shift": 4}),
        Op("NORM", "n", ("r",), {"pre": 3, "post": 1, "table": "rsqrt"}),
        Op("TMATVEC", "a.acc", ("n",), {"weights": "Wa"}),
        Op("REQUANT", "a", ("a.acc",), {"shift": 1, "dtype": "i8"}),
        Op("ADD", "s", ("r", "a"), {"dtype": "i16"}),
        Op("REQUANT", "x", ("s",), {"shift": 3, "dtype": "i8"}),
        Op("TMATVEC", "b.acc", ("x",), {"weights": "Wb"}),
        Op("REQUANT", "b", ("b.acc",), {"shift": 0, "dtype": "i16"}),
        Op("ADD", "t", ("s", "b"), {"dtype": "i16"}),
        Op("LOOP", "again", ("r", "t"), {"first": 2, "length": 7, "times": 3, "most": 3, "levels": 0}),
        Op("REQUANT", "z", ("t",), {"shift": 3, "dtype": "i8"}),
        Op("TMATVEC", "y.acc", ("z",), {"weights": "Wy"}),
        Op("REQUANT", "y", ("y.acc",), {"shift": 0, "dtype": "i16"}),
    ]
    consts = {"Wa": trits(8), "Wb": trits(8), "Wy": trits(20), "rsqrt": np.arange(256).astype(np.uint8)}
    consts["embed"] = rng.integers(-128, 128, (20, 8)).astype(np.int8)
    program = Program("early", 20, tuple(ops), consts, {}, "y", 4)
    image = agree(program, PRESETS["tiny-rows"], 2)
    assert sum(inst.op == Opcode.LOOP for inst in image.instructions) == 1


def test_a_host_changes_the_runs_of_one_context() -> None:
    program = random_memory_program(np.random.default_rng(2), loop="free", narrow=True)
    image, most = compile_program(program, ROOMY), most_loops(program)
    for word in image.loop_words(1):
        image.memories[Mem.PROGRAM][word % 2, word // 2] = most
    for entry, loops in zip(image.entries, (None, most), strict=False):
        machine, executor = Machine(image), NumpyExecutor(program)
        state = executor.open()
        for token in (1, 0, 1):
            expected = executor.step(state, np.array([token]), loops=loops)[0]
            assert np.array_equal(machine.step(token, 0, entry), expected), loops


def test_a_sum_with_two_requantizations_and_a_norm_with_other_readers() -> None:
    """As in BDH: scores are wide for the winners and narrow for what these mask, a norm is a value, too."""
    program = addressed(groups=3, size=6)
    table = np.arange(256).astype(np.uint8)
    ops = [op for op in program.ops if op.out != "x"]
    ops[1:1] = [Op("NORM", "x", ("r",), {"pre": 3, "post": 1, "table": "rsqrt"})]
    at = next(i for i, op in enumerate(ops) if op.kind == "WINNERS")
    ops[at:at] = [Op("REQUANT", "codes", ("s.acc",), {"shift": 2, "dtype": "i8"})]
    at = next(i for i, op in enumerate(ops) if op.out == "v.acc")
    ops[at:at] = [
        Op("MASK", "z", ("codes", "w"), {}),
        Op("TMATVEC", "z.acc", ("z",), {"weights": "Wz"}),
        Op("REQUANT", "z.back", ("z.acc",), {"shift": 0, "dtype": "i8"}),
        Op("ADD", "both", ("z.back", "x"), {"dtype": "i8"}),
    ]
    ops = [replace(op, ins=("both",)) if op.out == "v.acc" else op for op in ops]
    wz = np.random.default_rng(8).integers(-1, 2, (8, 18)).astype(np.int8)
    program = replace(program, ops=tuple(ops), consts={**program.consts, "Wz": wz, "rsqrt": table})
    image = agree(program, PRESETS["tiny-rows"], 8)
    assert sum(inst.arg for inst in image.instructions) == sum(inst.mask for inst in image.instructions) == 1
    assert next(inst for inst in image.instructions if inst.arg).source == Source.DOT


def test_a_state_that_the_body_stores_is_loaded_in_the_body() -> None:
    program = addressed(4, 4)
    ops = [op for op in program.ops if op.kind != "LOAD"]
    ops.insert(0, Op("LOAD", "last", ("place",), {}))
    at = next(i for i, op in enumerate(ops) if op.kind == "TMATVEC")
    end = next(i for i, op in enumerate(ops) if op.out == "y.acc")
    attrs = {"first": at, "length": end - at, "times": 2, "most": 2, "levels": 0}
    ops.insert(end, Op("LOOP", "again", (), attrs))
    with pytest.raises(IllegalProgram, match="'last' is loaded before the body, read in it, and its state"):
        compile_program(replace(program, ops=tuple(ops)), PRESETS["tiny-rows"])


def handing_on(swap: bool = False, loop: bool = False) -> Program:
    """The last three tokens: t3 = t2, t2 = t1, t1 = this one, stored before the old ones are read."""
    rng = np.random.default_rng(5)
    states = [("t2", "t1.prev"), ("t1", "t3.prev" if swap else "digit"), ("t3", "t2.prev")]
    ops = [
        Op("TOKEN", "digits", (), {}),
        Op("REQUANT", "digit", ("digits",), {"shift": 0, "dtype": "i16"}),
        *(Op("LOAD", f"t{i}.prev", (f"t{i}",), {}) for i in (1, 2, 3)),
        *(Op("STORE", state, (value,), {}) for state, value in states),
        Op("GATHER", "r", (), {"embed": "embed", "shift": 4}),
    ]
    total, first = "r", len(ops)
    for i in (1, 2, 3):
        ops += [
            Op("MEM_READ", f"o{i}.acc", (f"t{i}.prev",), {"rows": "rows", "bits": 4, "shared": 1}),
            Op("REQUANT", f"o{i}", (f"o{i}.acc",), {"shift": 0, "dtype": "i16"}),
            Op("ADD", f"s{i}", (total, f"o{i}"), {"dtype": "i16"}),
        ]
        total = f"s{i}"
    if loop:
        attrs = {"first": first, "length": len(ops) - first, "times": 2, "most": 3, "levels": 0}
        ops.append(Op("LOOP", "again", ("r", total), attrs))
    ops += [
        Op("REQUANT", "x", (total,), {"shift": 3, "dtype": "i8"}),
        Op("TMATVEC", "y.acc", ("x",), {"weights": "Wy"}),
        Op("REQUANT", "y", ("y.acc",), {"shift": 0, "dtype": "i16"}),
    ]
    consts = {
        "embed": rng.integers(-128, 128, (20, 8)).astype(np.int8),
        "rows": rng.integers(-128, 128, (16, 8)).astype(np.int8),
        "Wy": rng.integers(-1, 2, (20, 8)).astype(np.int8),
    }
    return Program("handing-on", 20, tuple(ops), consts, {"t1": 2, "t2": 2, "t3": 2}, "y", 4)


@pytest.mark.parametrize("loop", [False, True])
def test_states_hand_their_values_on_though_the_old_ones_are_read_later(loop: bool) -> None:
    agree(handing_on(loop=loop), PRESETS["tiny-rows"], 6, tokens=12)


def test_states_that_change_places_are_refused() -> None:
    with pytest.raises(IllegalProgram, match="still needs the old state on this engine"):
        compile_program(handing_on(swap=True), PRESETS["tiny-rows"])


def test_a_pass_waits_for_a_slot_of_the_list_where_it_is_too_short() -> None:
    """The winners of now go where the digits of the last token were, once these have been read."""
    program = addressed(groups=8, size=4)
    by_name = {op.out: op for op in program.ops}
    order = ("r", "x", "v.acc", "v", "last", "write", "s.acc", "s", "w", "o.acc", "o", "place", "y.acc", "y")
    program = replace(program, ops=tuple(by_name[name] for name in order))
    short = replace(PRESETS["tiny-rows"], name="short", list_slots=2)
    image, long = agree(program, short, 3, tokens=20), agree(program, PRESETS["tiny-rows"], 3)
    barriers = [[inst.barrier for inst in one.instructions if inst.arg] for one in (image, long)]
    assert barriers == [[1], [0]]
    with pytest.raises(DoesNotFit, match="needs 2 list slots, short has 1"):
        compile_program(program, replace(short, list_slots=1))


def test_states_of_the_runs_of_a_loop_begin_at_slots() -> None:
    program = random_memory_program(np.random.default_rng(0), loop="levels", narrow=True)
    image = agree(program, ROOMY, 0)
    apart = [symbol for symbol in image.states.values() if symbol.parts > 1]
    assert any(symbol.length // symbol.parts % ROOMY.columns for symbol in apart)
    starts = sorted((symbol.address, symbol.slots(ROOMY)) for symbol in image.states.values())
    for (start, words), (after, _) in zip(starts, starts[1:], strict=False):
        assert start + words == after


@pytest.mark.parametrize("name", ["abacus/abacus", "cache/cache", "kan/digits", "kan/series", "loop/loop"])
def test_shipped_systems_run_on_the_board_with_rows(name: str) -> None:
    image = agree(load(SHIPPED / f"{name}.safetensors"), PRESETS["ulx3s-85f-rows"], 1)
    assert len(image.entries) >= (1 if name == "loop/loop" else 3)


def test_the_shipped_language_model_with_a_memory_runs_on_the_board_with_rows() -> None:
    agree(load(resolve("hybrid")), PRESETS["ulx3s-85f-rows"], 1, tokens=4)


def test_cycles_of_runs_on_the_board_with_rows_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/memory.md").read_text()
    image = compile_program(load(SHIPPED / "loop/loop.safetensors"), PRESETS["ulx3s-85f-rows"], fill=False)
    one, two, most = (schedule(image.with_loops(loops)).cycles for loops in (1, 2, 32))
    assert f"`loop` takes {one:,} cycles with one run and {two - one} more" in page
    assert f"{most:,} for 32" in page and schedule(image).cycles == one


def test_winners_cost_no_pass_of_their_own() -> None:
    """Scores and winners are one pass, a write and a read one each; digits of a state come by one more."""
    image = compile_program(addressed(groups=4, size=4), PRESETS["tiny-rows"])
    kinds = [describe(inst) for inst in image.instructions]
    assert kinds == ["EMBED", "BANK list", "BANK", "DOT arg", "DOT", "UPDATE", "READ", "DOT", "LIST", "HALT"]


def test_digits_leave_the_list_early_where_it_is_short() -> None:
    program = random_memory_program(np.random.default_rng(20), loop="", narrow=True)
    long, short = (
        [i for i, inst in enumerate(agree(program, geometry, 20).instructions) if inst.to_list]
        for geometry in (ROOMY, replace(ROOMY, name="short", list_slots=2))
    )
    assert long[0] == 1 < short[0]


def describe(inst: Instruction) -> str:
    if inst.op == Opcode.HALT:
        return "HALT"
    if inst.op == Opcode.MEM:
        return "UPDATE" if inst.to_rows else "READ"
    source = "LIST" if inst.source == Source.ROWS else inst.source.name
    return source + " arg" * inst.arg + " list" * inst.to_list


def addressed(groups: int, size: int, width: int = 8, rows: int | None = None) -> Program:
    """The value of a token goes where the last one looked; logits are what is found where this one looks."""
    rng = np.random.default_rng(3)
    bits = (size - 1).bit_length()

    def trits(m: int, k: int) -> Any:
        return rng.integers(-1, 2, (m, k)).astype(np.int8)

    ops = (
        Op("GATHER", "r", (), {"embed": "embed", "shift": 4}),
        Op("REQUANT", "x", ("r",), {"shift": 3, "dtype": "i8"}),
        Op("TMATVEC", "s.acc", ("x",), {"weights": "Ws"}),
        Op("REQUANT", "s", ("s.acc",), {"shift": 0, "dtype": "i16"}),
        Op("WINNERS", "w", ("s",), {"groups": groups}),
        Op("TMATVEC", "v.acc", ("x",), {"weights": "Wv"}),
        Op("REQUANT", "v", ("v.acc",), {"shift": 1, "dtype": "i8"}),
        Op("LOAD", "last", ("place",), {}),
        Op("MEM_UPDATE", "write", ("last", "v"), {"memory": "rows", "bits": bits, "keep": 2}),
        Op("MEM_READ", "o.acc", ("w",), {"rows": "rows", "bits": bits, "shared": 0}),
        Op("REQUANT", "o", ("o.acc",), {"shift": 1, "dtype": "i8"}),
        Op("STORE", "place", ("w",), {}),
        Op("TMATVEC", "y.acc", ("o",), {"weights": "Wy"}),
        Op("REQUANT", "y", ("y.acc",), {"shift": 0, "dtype": "i16"}),
    )
    consts = {
        "embed": rng.integers(-128, 128, (20, 8)).astype(np.int8),
        "Ws": trits(groups * size, 8),
        "Wv": trits(width, 8),
        "Wy": trits(20, width),
    }
    memories = {"rows": Memory(rows or groups << bits, width, "i8")}
    return Program("addressed", 20, ops, consts, {"place": groups}, "y", 4, memories=memories)


def test_rows_of_a_session_are_its_own_and_zero_at_first() -> None:
    program = addressed(groups=4, size=4)
    image = agree(program, PRESETS["tiny-rows"], 3, tokens=30)
    assert image.sessions > 3 and image.row_start(1) - image.row_start(0) >= image.row_words
    assert image.row_start(image.sessions - 1) + image.row_words <= PRESETS["tiny-rows"].rows


def test_groups_that_do_not_end_with_a_slot_get_rows_of_zeros() -> None:
    image = agree(addressed(groups=5, size=6), PRESETS["tiny-rows"], 4)
    search = next(i for i in image.instructions if i.arg)
    assert (search.count, search.c, search.tail) == (10, 2, 2)
    assert with_gaps(np.arange(6).reshape(6, 1), 0, 2, 4).reshape(-1).tolist() == [0, 1, 2, 0, 3, 4, 5, 0]


def test_groups_reach_back_over_several_elementwise_ops() -> None:
    """What is searched is a sum of values that come one from another: all have rows of zeros."""
    program = addressed(groups=5, size=6)
    at = next(i for i, op in enumerate(program.ops) if op.kind == "WINNERS")
    between = (
        Op("REQUANT", "small", ("s",), {"shift": 1, "dtype": "i8"}),
        Op("ADD", "more", ("small", "s"), {"dtype": "i16"}),
    )
    ops = (*program.ops[:at], *between, replace(program.ops[at], ins=("more",)), *program.ops[at + 1 :])
    image = agree(replace(program, ops=ops), PRESETS["tiny-rows"], 4)
    assert next(i for i in image.instructions if i.arg).count == 10


@pytest.mark.parametrize(("rows", "width", "columns"), [(6, 5, 4), (3, 24, 12), (4, 9, 2), (1, 1, 3)])
def test_rows_lie_where_the_page_says(rows: int, width: int, columns: int) -> None:
    g = odd(columns)
    step = row_step(width, g)
    table = np.random.default_rng(1).integers(-128, 128, (rows, width)).astype(np.int8)
    words = row_blocks(table, g, step)
    assert words.shape == (columns, rows << step)
    for r, j in ((0, 0), (rows - 1, width - 1)):
        assert words[j % columns, (r << step) + j // columns] == int(table[r, j]) & 0xFF
    assert np.array_equal(row_values(words, width, g, step), table)


def test_a_wrong_bit_of_a_constant_row_is_noticed() -> None:
    program = load(SHIPPED / "kan/series.safetensors")
    image = compile_program(program, PRESETS["ulx3s-85f-rows"])
    image.memories[Mem.ROWS][...] ^= 4
    machine, executor = Machine(image), NumpyExecutor(program)
    state = executor.open()
    assert any(
        not np.array_equal(machine.step(token), executor.step(state, np.array([token]))[0])
        for token in range(8)
    )


def test_an_engine_without_rows_names_the_op_that_needs_them() -> None:
    with pytest.raises(UnsupportedOp, match="op 4 WINNERS 'w': tiny has no rows"):
        compile_program(addressed(4, 4), PRESETS["tiny"])


@pytest.mark.parametrize("geometry", [g for g in PRESETS.values() if g.rows], ids=lambda g: g.name)
def test_every_engine_with_rows_has_a_program_with_memories_to_be_verified_on(geometry: Geometry) -> None:
    program = memory_model(geometry).program
    image = agree(program, geometry, 1)
    assert image.rows and len(image.entries) == geometry.contexts
    with pytest.raises(DoesNotFit, match="none of 100 random programs with memories fits small"):
        memory_model(replace(geometry, name="small", weight_depth=1))


def test_what_rows_cannot_hold_is_refused_with_both_numbers() -> None:
    small = replace(PRESETS["tiny-rows"], name="small", rows=64)
    with pytest.raises(DoesNotFit, match="need 128 row words per column .*, small has 64") as caught:
        compile_program(addressed(groups=16, size=4), small)
    assert (caught.value.needed, caught.value.limit) == (128, 64)
    with pytest.raises(DoesNotFit, match="need 256 row words per column .*, small has 128"):
        compile_program(addressed(groups=16, size=4), replace(small, rows=128), contexts=2)
    with pytest.raises(DoesNotFit, match="needs 2 list slots, small has 1"):
        compile_program(addressed(4, 4), replace(PRESETS["tiny-rows"], name="small", list_slots=1))
    wide = replace(PRESETS["tiny-rows"], name="odd", rows=1 << 16, bank_depth=4096, x_depth=256)
    with pytest.raises(DoesNotFit, match="rows of 1000 elements, odd takes 512"):
        compile_program(addressed(1, 2, width=1000), wide)


def test_a_memory_of_i16_is_refused() -> None:
    program = replace(addressed(4, 4), memories={"rows": Memory(16, 8, "i16")})
    with pytest.raises(IllegalProgram, match="memory 'rows' is i16, the rows of tiny-rows are i8"):
        compile_program(program, PRESETS["tiny-rows"])


def test_sessions_are_those_that_fit_behind_the_constants() -> None:
    geometry = replace(PRESETS["tiny-rows"], rows=4096)
    assert Rows({}, 100, 50).sessions(geometry, 64) == 62  # 100 + 61 * 64 + 50 is 4054
    assert Rows({}, 4046, 50).sessions(geometry, 64) == 1
    assert Rows({}, 4047, 50).sessions(geometry, 64) == 0


def test_rows_that_do_not_fit_at_all_are_refused_when_they_are_placed() -> None:
    program = addressed(groups=16, size=4)
    assert place_rows(program, replace(PRESETS["tiny-rows"], name="small", rows=128)).words == 128
    with pytest.raises(DoesNotFit, match="rows need 128 row words per column .*, small has 64") as caught:
        place_rows(program, replace(PRESETS["tiny-rows"], name="small", rows=64))
    assert (caught.value.resource, caught.value.needed, caught.value.limit) == (
        "row words per column",
        128,
        64,
    )


@pytest.mark.parametrize("loop", ["free", "levels"])
def test_a_multiplier_before_a_loop_moves_its_body(loop: str) -> None:
    """Additions in place of the multiplier: the body begins so many ops later."""
    program = random_memory_program(np.random.default_rng(4), loop=loop, narrow=True)
    gather, *rest = program.ops
    wide = Op("REQUANT", "doubled", (gather.out,), {"shift": 1, "multiplier": 8, "dtype": "i16"})
    ops = [replace(op, ins=tuple("doubled" if v == gather.out else v for v in op.ins)) for op in rest]
    moved = [
        replace(op, attrs={**op.attrs, "first": op.integer("first") + 1}) if op.kind == "LOOP" else op
        for op in ops
    ]
    agree(replace(program, ops=(gather, wide, *moved)), ROOMY, 4)
