"""Instruction encoding and geometry validation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternac.compile.geometry import PRESETS, Geometry, Mem, preset
from ternac.compile.isa import LAYOUT, WORDS, Addend, Instruction, Lane, MulBy, Opcode, RowAddress, Source
from ternac.errors import ProgramError, UsageError

KINDS = {"op": Opcode, "source": Source, "mul": MulBy, "add": Addend, "lane": Lane}


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    values = {}
    for name, (_, _, width) in LAYOUT.items():
        values[name] = draw(
            st.sampled_from(list(KINDS[name])) if name in KINDS else st.integers(0, (1 << width) - 1)
        )
    return Instruction(**values)


@given(instructions())
def test_decode_inverts_encode(inst: Instruction) -> None:
    words = inst.encode()
    assert len(words) == WORDS
    assert all(0 <= w < 1 << 16 for w in words)
    assert Instruction.decode(words) == inst


def test_fields_do_not_overlap() -> None:
    used: set[tuple[int, int]] = set()
    for word, low, width in LAYOUT.values():
        bits = {(word, b) for b in range(low, low + width)}
        assert used.isdisjoint(bits)
        assert low + width <= 16
        assert word < WORDS
        used |= bits


@given(st.integers(0, 15), st.integers(0, 15) | st.none(), st.booleans(), st.booleans(), st.integers(1, 10))
def test_a_row_address_is_read_as_it_was_written(
    a: int, b: int | None, shared: bool, session: bool, bits: int
) -> None:
    rows = RowAddress(
        first=48, bits=bits, step=3, a=a, b=b, shared=shared, session=session, shift=5 * session
    )
    inst = Instruction(op=Opcode.MEM, source=Source.ROWS, **rows.fields())  # type: ignore[arg-type]
    assert RowAddress.of(Instruction.decode(inst.encode())) == rows


def test_rows_leave_the_hash_of_an_engine_without_them_alone() -> None:
    tiny, rows = PRESETS["tiny"], PRESETS["tiny-rows"]
    assert replace(rows, name="tiny", rows=0, list_slots=0).hash == tiny.hash
    assert tiny.memories == tuple(Mem)[:-1]
    assert rows.memories == tuple(Mem)
    assert len({replace(rows, list_slots=4).hash, replace(rows, rows=1024).hash, rows.hash}) == 3


def test_field_too_large_is_refused() -> None:
    with pytest.raises(ProgramError, match="field shift1 = 32 does not fit 5 bits"):
        Instruction(shift1=32).encode()


@pytest.mark.parametrize("words", [[0] * 11, [15] + [0] * 11, [0, 0, 3 << 14] + [0] * 9])
def test_garbage_is_not_an_instruction(words: list[int]) -> None:
    with pytest.raises(ProgramError):
        Instruction.decode(words)


def test_text_names_what_differs_from_the_default() -> None:
    assert str(Instruction(count=5, mul=MulBy.NORM, shift2=7)) == "VEC mul=NORM shift2=7 count=5"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"chain": 3}, "chain 3 must divide lanes 8"),
        ({"columns": 3}, "columns 3 must divide lanes 8"),
        ({"weight_block_bits": 36}, "at most 18 bits"),
        ({"bank_depth": 0}, "bank_depth must be at least 1"),
        ({"weight_ram": "dram"}, "unknown weight_ram 'dram'"),
        ({"weight_ram": "sdram"}, "whole bytes of five trits"),
        ({"embed_block_bits": 12}, "multiple of 8"),
        ({"rows": 1000, "list_slots": 4}, "rows must be a power of two, 16..65536, or 0 for none, not 1000"),
        ({"rows": 1024}, "list_slots must be 1..16 with rows, not 0"),
        ({"list_slots": 4}, "list_slots is for engines with rows"),
    ],
)
def test_contradicting_geometry_is_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(PRESETS["tiny"], **change)  # type: ignore[arg-type]


def test_geometry_hash_tells_every_parameter() -> None:
    tiny = PRESETS["tiny"]
    others = [
        replace(tiny, **{f: getattr(tiny, f) * 2}) for f in ("bank_depth", "tables", "logit_slots", "x_depth")
    ]
    assert len({g.hash for g in [tiny, *others, *PRESETS.values()]}) == 4 + len(PRESETS)


def test_ulx3s_holds_the_shipped_size_and_no_more_block_ram_than_there_is() -> None:
    g = PRESETS["ulx3s-85f"]
    assert g.weight_capacity >= 1_100_000
    assert g.memory(Mem.WEIGHT).blocks == 256  # two in a block RAM


def test_unknown_preset_names_the_choices() -> None:
    with pytest.raises(UsageError, match="no geometry is called 'huge'") as error:
        preset("huge")
    assert "tiny" in error.value.hint


def test_every_preset_is_named_after_its_key() -> None:
    assert all(isinstance(g, Geometry) and g.name == name for name, g in PRESETS.items())
