"""Compiled images, executed word for word by the ISA machine, against the NumPy executor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ternac.cli.tokenizer import widest
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry, Mem
from ternac.compile.isa import Addend, Source
from ternac.compile.layout import from_slots, to_slots, weight_blocks
from ternac.compile.machine import Machine
from ternac.errors import DoesNotFit, IllegalProgram
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.numpy_executor import NumpyExecutor


def agree(program: Program, geometry: Geometry, seed: int, tokens: int = 6) -> Machine:
    """Run both in the last session slot; every surviving value and every state must be equal."""
    rng = np.random.default_rng(seed)
    image = compile_program(program, geometry)
    machine, executor = Machine(image), NumpyExecutor(program)
    state, base = executor.open(), image.session_base(image.sessions - 1)
    for token in rng.integers(0, program.vocab, tokens):
        trace: dict[str, np.ndarray] = {}
        expected = executor.step(state, np.array([token]), trace=trace)
        assert np.array_equal(machine.step(int(token), base), expected[0])
        for name in image.symbols:
            assert np.array_equal(machine.read(name), trace[name][0]), name
        for name, words in executor.state_dict(state).items():
            assert np.array_equal(machine.read(name, base), words[0]), name
    return machine


@pytest.mark.parametrize("geometry", PRESETS.values())
@pytest.mark.parametrize("seed", range(8))
def test_random_programs(geometry: Geometry, seed: int) -> None:
    agree(random_program(np.random.default_rng(seed)), geometry, seed)


@pytest.mark.parametrize("seed", range(8))
def test_random_geometries(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    columns = int(rng.choice([1, 2, 3, 5, 6]))
    chain = int(rng.choice([1, 2, 3, 4]))
    lanes = int(np.lcm(columns, chain)) * int(rng.integers(1, 4))
    geometry = replace(
        PRESETS["tiny"], name="odd", columns=columns, lanes=lanes, chain=chain, weight_depth=1 << 14,
        x_depth=64, weight_block_bits=int(rng.integers(7, 19)), bank_depth=2048, bias_depth=2048,
        weight_code=("two_bit", "five")[seed % 2], embed_depth=8192, logit_slots=128,
    )  # fmt: skip
    agree(random_program(rng), geometry, seed)


def test_shipped_size_fits_its_preset() -> None:
    program = random_program(np.random.default_rng(1), 192, 384, 3, 256)
    machine = agree(program, PRESETS["ulx3s-85f"], 1, tokens=2)
    assert machine.image.memories[Mem.WEIGHT].shape == (256, 502)
    assert machine.image.sessions >= 8 and len(machine.image.entries) == 4


def test_bank_words_are_used_again_when_the_banks_are_small() -> None:
    program = random_program(np.random.default_rng(2), 96, 192, 2, 256)
    machine = agree(program, PRESETS["icebreaker"], 2, tokens=2)
    assert len(machine.image.symbols) < len(machine.image.instructions)


@pytest.mark.parametrize(
    ("geometry", "d", "count"), [("tiny", 16, 8), ("tiny", 48, 7), ("icebreaker", 16, 12)]
)
def test_instructions_of_a_layer(geometry: str, d: int, count: int) -> None:
    """Seven with the side lane, one more where the gate cannot stay in it, twelve without."""
    one, two = (
        compile_program(random_program(np.random.default_rng(3), d, 24, layers, 20), PRESETS[geometry])
        for layers in (1, 2)
    )
    assert len(two.instructions) - len(one.instructions) == count


def test_every_context_has_code_bank_and_x_words_of_its_own() -> None:
    program = random_program(np.random.default_rng(8), 20, 24, 2, 20)
    image = compile_program(program, PRESETS["tiny"])
    assert len(image.entries) == 3
    machine, executor = Machine(image), NumpyExecutor(program)
    states = [executor.open() for _ in image.entries]
    rng = np.random.default_rng(9)
    for _ in range(20):
        who, token = int(rng.integers(3)), int(rng.integers(program.vocab))
        expected = executor.step(states[who], np.array([token]))[0]
        assert np.array_equal(machine.step(token, image.session_base(who), image.entries[who]), expected)


def test_more_contexts_than_the_engine_has_are_refused() -> None:
    with pytest.raises(DoesNotFit, match="4 contexts: tiny has 3"):
        compile_program(random_program(np.random.default_rng(8), 4, 4, 1, 4), PRESETS["tiny"], contexts=4)


def test_sessions_do_not_touch_each_other() -> None:
    program = random_program(np.random.default_rng(4), 12, 20, 2, 30)
    image = compile_program(program, PRESETS["tiny"])
    machine, executor = Machine(image), NumpyExecutor(program)
    states = [executor.open() for _ in range(3)]
    rng = np.random.default_rng(5)
    for _ in range(30):
        who, token = int(rng.integers(3)), int(rng.integers(program.vocab))
        expected = executor.step(states[who], np.array([token]))[0]
        assert np.array_equal(machine.step(token, image.session_base(who)), expected)
    with pytest.raises(DoesNotFit, match="session slot"):
        image.session_base(image.sessions)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weight_depth": 64}, "weight words, odd has 64"),
        ({"bank_depth": 16}, "bank words per column, odd has 16"),
        ({"bias_depth": 8}, "row corrections per column, odd has 8"),
        ({"program_depth": 64}, "program words, odd has 64"),
        ({"embed_depth": 16}, "embedding of 20 tokens"),
        ({"x_depth": 1}, "x buffer holds 8"),
        ({"tables": 1}, "more than the 1 tables"),
        ({"logit_slots": 2}, "exceed the 8"),
    ],
)
def test_what_does_not_fit_is_named_with_both_sizes(change: dict[str, int], text: str) -> None:
    program = random_program(np.random.default_rng(6), 16, 24, 2, 20)
    with pytest.raises(DoesNotFit, match=text) as caught:
        compile_program(program, replace(PRESETS["tiny"], name="odd", **change))  # type: ignore[arg-type]
    assert caught.value.needed > caught.value.limit > 0 and caught.value.resource


def test_a_row_with_too_many_negative_weights_is_refused() -> None:
    program = random_program(np.random.default_rng(7), 16, 24, 1, 20)
    name = next(n for n, role in program.roles().items() if role == "trits")
    consts = {**program.consts, name: np.full_like(program.consts[name], -1)}
    with pytest.raises(DoesNotFit, match="16 weights of -1 exceeds 4 bits"):
        compile_program(replace(program, consts=consts), replace(PRESETS["tiny"], bias_bits=4))


def _with_ops(program: Program, ops: list[Op]) -> Program:
    return replace(program, ops=tuple(ops))


def test_a_multiplier_is_refused_with_the_ops_name() -> None:
    program = random_program(np.random.default_rng(8), 8, 8, 1, 9)
    ops = list(program.ops)
    index = next(i for i, op in enumerate(ops) if op.kind == "REQUANT")
    ops[index] = replace(ops[index], attrs={**ops[index].attrs, "multiplier": 3})
    with pytest.raises(IllegalProgram, match=rf"op {index} REQUANT '0.f.pre': a multiplier other than 1"):
        compile_program(_with_ops(program, ops), PRESETS["tiny"])


def test_a_state_that_is_read_after_its_store_gets_its_value_by_a_copy() -> None:
    program = random_program(np.random.default_rng(9), 8, 8, 1, 9)
    ops = list(program.ops)
    index = next(i for i, op in enumerate(ops) if op.kind == "MUL" and op.out == "0.o")
    ops[index] = replace(ops[index], ins=("0.h.prev", ops[index].ins[1]))
    agree(_with_ops(program, ops), PRESETS["tiny"], 9)


def test_a_multiplier_of_a_power_of_two_is_so_many_additions() -> None:
    program = random_program(np.random.default_rng(8), 8, 8, 1, 9)
    gather, *rest = program.ops
    assert gather.out == "r.e"
    ops = [replace(op, ins=tuple("r.x" if v == "r.e" else v for v in op.ins)) for op in rest]
    ops[:0] = [gather, Op("REQUANT", "r.x", ("r.e",), {"shift": 1, "multiplier": 16, "dtype": "i16"})]
    machine = agree(_with_ops(program, ops), PRESETS["tiny"], 8)
    assert sum(i.add == Addend.B and i.paced for i in machine.image.instructions) == 3


def test_unfused_elementwise_ops_run_from_the_banks() -> None:
    """The candidate computed before the gates, so LERP cannot ride on its product: a paced bank pass."""
    program = random_program(np.random.default_rng(10), 12, 20, 2, 30)
    ops = list(program.ops)
    for layer in ("0", "1"):
        names = [f"{layer}.c.acc", f"{layer}.c.pre", f"{layer}.c"]
        moved = [op for op in ops if op.out in names]
        rest = [op for op in ops if op.out not in names]
        at = next(i for i, op in enumerate(rest) if op.out == f"{layer}.n1") + 1
        ops = rest[:at] + moved + rest[at:]
    machine = agree(_with_ops(program, ops), PRESETS["tiny"], 11)
    assert any(i.paced and i.source == Source.BANK for i in machine.image.instructions)


def test_slots_round_trip() -> None:
    rng = np.random.default_rng(12)
    for geometry in PRESETS.values():
        vector = rng.integers(-32768, 32768, 29).astype(np.int32)
        assert np.array_equal(from_slots(to_slots(vector, geometry), 29), vector)


def test_weight_bits_are_where_the_page_says() -> None:
    g = PRESETS["tiny"]
    trits = np.zeros((3, g.columns, g.lanes), np.int8)
    trits[2, 1, 6] = -1  # lane 6: chain 1, stage 2; trit 1 * 4 + 1 = 5 of that stage
    blocks = weight_blocks(trits, g)
    assert blocks[2 * g.weight_blocks_per_stage, 2] == 0b11 << 10
    assert np.count_nonzero(blocks) == 1


def test_more_tokens_than_bytes() -> None:
    """What limits a vocabulary: places for logits, and bytes of embedding, a power of two for a row."""
    geometry = PRESETS["ulx3s-85f"]

    def of(vocab: int, d: int) -> Program:
        return random_program(np.random.default_rng(vocab), d=d, m=d, layers=1, vocab=vocab)

    agree(of(384, 96), geometry, 5)
    with pytest.raises(DoesNotFit, match="385 logits exceed the 384 of ulx3s-85f"):
        compile_program(of(385, 96), geometry)
    with pytest.raises(DoesNotFit, match="embedding of 257 tokens needs 4112 bytes per column, .* has 4096"):
        compile_program(of(257, 192), geometry)


@pytest.mark.parametrize("geometry", PRESETS.values())
@pytest.mark.parametrize("vocab", [100, 256, 300])
def test_widest_model_of_a_vocabulary(geometry: Geometry, vocab: int) -> None:
    """`ternac tokenizer` says of each engine how wide a model may be: so wide, and no wider."""
    found = widest(vocab, geometry)

    def refused(d: int) -> str:
        program = random_program(np.random.default_rng(0), d=d, m=4, layers=1, vocab=vocab)
        try:
            compile_program(program, geometry, fill=True)
        except DoesNotFit as reason:
            return str(reason)
        return ""

    if found:
        assert "embedding" not in refused(found)
        assert "logits" not in refused(found)
    if found < 1024:
        assert "embedding" in (text := refused(found + 1)) or "logits" in text


def chain(readers: int, width: int = 24, vocab: int = 20, again: bool = False) -> Program:
    """A program whose first vector is read by its first matrix, and again after ``readers`` matrices.

    ``again``: after that one, the second vector is read again, too.
    """
    rng = np.random.default_rng(3)
    consts = {"E": rng.integers(-127, 128, (vocab, width)).astype(np.int8)}
    ops = [
        Op("GATHER", "e", (), {"embed": "E", "shift": 4}),
        Op("REQUANT", "v0", ("e",), {"shift": 4, "dtype": "i8"}),
    ]

    def matrix(out: str, source: str, rows: int = width, shift: int = 3, dtype: str = "i8") -> None:
        consts[f"W.{out}"] = rng.integers(-1, 2, (rows, width)).astype(np.int8)
        ops.append(Op("TMATVEC", f"{out}.acc", (source,), {"weights": f"W.{out}"}))
        ops.append(Op("REQUANT", out, (f"{out}.acc",), {"shift": shift, "dtype": dtype}))

    for number in range(readers):
        matrix(f"v{number + 1}", f"v{number}")
    matrix("w", "v0")
    if again:
        matrix("w1", "v1")
        ops.append(Op("ADD", "both", ("w1", "w"), {"dtype": "i8"}))
    ops.append(Op("ADD", "sum", ("both" if again else "w", f"v{readers}"), {"dtype": "i8"}))
    matrix("logits", "sum", vocab, 0, "i16")
    base = random_program(rng, width, 8, 1, vocab)
    return replace(base, ops=tuple(ops), consts=consts, states={}, logits="logits")


@pytest.mark.parametrize(("preset", "words"), [("tiny", 6), ("icebreaker", 4)])
@pytest.mark.parametrize("readers", [3, 4])
def test_a_vector_that_made_room_in_the_x_buffer_is_copied_in_again(
    preset: str, words: int, readers: int
) -> None:
    program = chain(readers)
    for depth, refills in ((words, ["v0.refill"]), (2 * words, [])):
        geometry = replace(PRESETS[preset], name="small", x_depth=depth, contexts=1)
        machine = agree(program, geometry, 1)
        assert [name for name in machine.image.names if name.endswith(".refill")] == refills
    with pytest.raises(DoesNotFit, match=f"words of the x buffer.*, small has {words - 1} for") as caught:
        compile_program(program, replace(PRESETS[preset], name="small", x_depth=words - 1, contexts=1))
    assert caught.value.limit == words - 1 < caught.value.needed


def test_a_copy_takes_the_words_of_a_vector_that_nobody_reads_any_more() -> None:
    """When the first vector comes in again, the third was read for the last time, the second was not."""
    geometry = replace(PRESETS["tiny"], name="small", x_depth=6, contexts=1)
    machine = agree(chain(3, again=True), geometry, 1)
    assert [name for name in machine.image.names if name.endswith(".refill")] == ["v0.refill"]


def test_a_short_pass_waits_for_the_slots_of_a_long_one() -> None:
    """Of equal slots, the reader's come four times as fast: its last one would find nothing written yet."""
    rng = np.random.default_rng(4)
    rows = {"long": (32, 8), "w": (24, 32), "r": (24, 8), "y": (20, 24)}
    ops = [
        Op("GATHER", "e", (), {"embed": "E", "shift": 4}),
        Op("REQUANT", "x", ("e",), {"shift": 4, "dtype": "i8"}),
    ]
    for name, source in (("long", "x"), ("w", "long"), ("r", "x")):
        ops.append(Op("TMATVEC", f"{name}.acc", (source,), {"weights": f"W.{name}"}))
        ops.append(Op("REQUANT", name, (f"{name}.acc",), {"shift": 2, "dtype": "i8"}))
    ops.append(Op("ADD", "sum", ("r", "w"), {"dtype": "i8"}))
    ops.append(Op("TMATVEC", "y.acc", ("sum",), {"weights": "W.y"}))
    ops.append(Op("REQUANT", "y", ("y.acc",), {"shift": 0, "dtype": "i16"}))
    consts = {f"W.{name}": rng.integers(-1, 2, shape).astype(np.int8) for name, shape in rows.items()}
    consts["E"] = rng.integers(-127, 128, (20, 8)).astype(np.int8)
    program = replace(chain(1), ops=tuple(ops), consts=consts, logits="y")
    image = agree(program, replace(PRESETS["tiny"], contexts=1), 1).image
    passes = [(i.words, i.barrier) for i in image.instructions if i.source == Source.DOT and i.count == 6]
    assert passes == [(4, 1), (1, 1)]


def _states(*more: Op) -> Program:
    """A program that stores ``v1`` in state s, with more ops before the last matrix."""
    program = chain(2)
    wide = Op("ADD", "wide", ("v1", "old"), {"dtype": "i16"})
    stored = Op("LOAD", "old", ("s",)), wide, Op("STORE", "s", ("wide",))
    ops = [*program.ops[:-3], *stored, *more, *program.ops[-3:]]
    return replace(program, ops=tuple(ops), states={"s": 24})


def test_a_state_is_stored_once_and_not_loaded_again() -> None:
    agree(_states(), PRESETS["tiny"], 5)
    other = Op("ADD", "other", ("v2", "v2"), {"dtype": "i16"})
    with pytest.raises(IllegalProgram, match="STORE 's': a state is stored once per token on this engine"):
        compile_program(_states(other, Op("STORE", "s", ("other",))), PRESETS["tiny"])
    with pytest.raises(IllegalProgram, match="STORE 's': the state is loaded again after its store"):
        compile_program(_states(Op("LOAD", "again", ("s",))), PRESETS["tiny"])
