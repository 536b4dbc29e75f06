"""The arithmetic of each op against its definition in exact rational or unbounded integer arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternac.program import numerics as nu

I8 = st.integers(-128, 127)
I16 = st.integers(-32768, 32767)
SHIFT = st.integers(0, 31)


def clamp(x: int, low: int, high: int) -> int:
    return max(low, min(high, x))


def round_half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


@given(st.integers(-(1 << 30) + 1, (1 << 30) - 1), SHIFT)
def test_rshift_round_is_division_rounded_half_up(x: int, s: int) -> None:
    want = round_half_up(Fraction(x, 1 << s)) if s else x
    assert nu.rshift_round(x, s) == want
    assert nu.rshift_round(np.array([x], np.int32), s).tolist() == [want]
    assert nu.rshift_round(np.array([x], np.int32), np.array([s])).tolist() == [want]


@given(st.integers(-(1 << 40), 1 << 40))
def test_saturation(x: int) -> None:
    assert int(nu.sat8(x)) == clamp(x, -128, 127)
    assert int(nu.sat16(x)) == clamp(x, -32768, 32767)


@given(st.lists(I8, min_size=1, max_size=20), st.integers(0, 8))
def test_gather_is_exact_multiplication(row: list[int], shift: int) -> None:
    got = nu.gather(np.array(row, np.int8), shift)
    assert got.tolist() == [e * 2 ** (8 - shift) for e in row] == [(e << 8) >> shift for e in row]


@given(st.integers(0, (1 << 32) - 1))
def test_norm_exponent_brackets_the_sum(ss: int) -> None:
    exponent, index = nu.norm_exponent(ss)
    if ss == 0:
        assert (exponent, index) == (0, 0)
        return
    assert 4**exponent <= ss < 4 ** (exponent + 1)
    assert index == math.floor(Fraction(ss * 64, 4**exponent))
    assert 64 <= index <= 255


@given(
    st.lists(I16, min_size=1, max_size=40), st.integers(0, 15), st.integers(0, 20), st.integers(0, 1 << 32)
)
def test_norm_against_unbounded_integers(x: list[int], pre: int, post: int, seed: int) -> None:
    table = np.random.default_rng(seed).integers(0, 256, 256).astype(np.uint8)
    q = [clamp(round_half_up(Fraction(v, 1 << pre)) if pre else v, -128, 127) for v in x]
    exponent, index = nu.norm_exponent(sum(v * v for v in q))
    shift, mant = post + exponent, int(table[index])
    want = [clamp(round_half_up(Fraction(v * mant, 1 << shift)) if shift else v * mant, -128, 127) for v in x]
    assert nu.norm(np.array([x, x[::-1]], np.int32), pre, post, table).tolist() == [want, want[::-1]]


def test_norm_at_the_largest_shift() -> None:
    """post + E = 31 rounds with 2**30, which 32-bit left shifts get wrong."""
    x = np.full((1, 4), 32767)
    assert nu.max_norm_exponent(4) == 8
    assert nu.norm(x, 0, 31 - 7, np.full(256, 255)).tolist() == [[0] * 4]
    assert nu.norm(np.full((1, 65535), -32768), 0, 31 - 14, np.full(256, 255)).tolist() == [[0] * 65535]


@pytest.mark.parametrize(("n", "exponent"), [(1, 7), (3, 7), (4, 8), (192, 10), (65535, 14)])
def test_max_norm_exponent(n: int, exponent: int) -> None:
    assert nu.max_norm_exponent(n) == exponent
    assert nu.norm_exponent(n * 16384)[0] == exponent


@given(st.integers(1, 2048), st.integers(6, 15), st.integers(0, 1 << 32))
def test_norm_constants_give_the_gain(n: int, pre: int, seed: int) -> None:
    """With inputs that q represents well, the output's root mean square is the gain, to a mantissa step."""
    gain = 32.0
    try:
        table, post = nu.norm_constants(n, gain, pre)
    except ValueError:
        assert gain * math.sqrt(n) / 2**pre > 255
        return
    x = np.random.default_rng(seed).choice([-40, 40], n).astype(np.int64) << pre
    if np.abs(x).max() > 32767:
        return
    y = nu.norm(x, pre, post, table)
    assert abs(math.sqrt(float(np.mean(y.astype(float) ** 2))) - gain) <= 0.02 * gain + 0.5
    assert not table[:64].any()
    assert table[64:].all()


@pytest.mark.parametrize(
    ("n", "gain", "pre", "mantissa", "post"),
    [
        (1, 510.0, 8, 255, 7),  # 255 / 128: the largest mantissa there is
        (1, 511.5, 8, 128, 6),  # 255.75 rounds to 256, which is 128 with one shift less
        (4, 64.0, 7, 128, 7),
        (192, 32.0, 10, 222, 9),
        (1, 200.0, 0, 200, 0),  # the least shift
        (1, 0.375, 15, 192, 24),  # the largest: E may be 7
    ],
)
def test_norm_constants_by_hand(n: int, gain: float, pre: int, mantissa: int, post: int) -> None:
    table, found = nu.norm_constants(n, gain, pre)
    assert (int(table[64]), found) == (mantissa, post)
    assert table.tolist() == nu.norm_table(mantissa).tolist()


@pytest.mark.parametrize(("gain", "pre", "post"), [(300.0, 0, -1), (0.18, 15, 25)])
def test_norm_constants_refuse_a_shift_outside_of_its_bits(gain: float, pre: int, post: int) -> None:
    with pytest.raises(ValueError, match=f"needs post {post}$"):
        nu.norm_constants(1, gain, pre)


@pytest.mark.parametrize("mantissa", [1, 2, 128, 255])
def test_norm_table_is_the_rounded_root(mantissa: int) -> None:
    """Entry i is the integer nearest to mantissa * 8 / sqrt(i): compared by squares, without a root."""
    for index, entry in enumerate(nu.norm_table(mantissa).tolist()):
        if index < 64:
            assert entry == 0
        else:
            low, high = (2 * entry - 1) ** 2 * index, (2 * entry + 1) ** 2 * index
            assert (entry == 0 or low <= (16 * mantissa) ** 2) and (16 * mantissa) ** 2 < high


@pytest.mark.parametrize("mantissa", [0, -1, 256])
def test_norm_table_refuses_what_is_no_mantissa(mantissa: int) -> None:
    with pytest.raises(ValueError, match=rf"^norm mantissa {mantissa} is outside 1\.\.255$"):
        nu.norm_table(mantissa)


def test_limits_are_those_of_the_page() -> None:
    assert (nu.MAX_SHIFT, nu.MAX_DIM) == (31, 65535)


def test_requant_without_multiplier_or_before_saturation() -> None:
    x = np.array([-70000, -3, 3, 70000])
    assert nu.requant(x, 1, "i16").tolist() == [-32768, -1, 2, 32767]
    assert nu.requant(x, 1, "i16").dtype == np.int32
    assert nu.requant(x, 1, None).tolist() == [-35000, -1, 2, 35000]
    wide = nu.requant(x, 0, None, 1 << 20)
    assert wide.tolist() == [v << 20 for v in x.tolist()]


def test_norm_constants_refuse_what_cannot_be_shifted() -> None:
    with pytest.raises(ValueError, match="needs post -"):
        nu.norm_constants(4096, 32.0, 0)
    with pytest.raises(ValueError, match=r"outside 1\.\.255"):
        nu.norm_table(256)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 3), st.integers(0, 1 << 32))
def test_tmatvec(m: int, k: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trits, x = rng.integers(-1, 2, (m, k)), rng.integers(-128, 128, (batch, k))
    want = [[sum(int(t) * int(v) for t, v in zip(row, xs, strict=True)) for row in trits] for xs in x]
    assert nu.tmatvec(trits, x).tolist() == want


@given(
    st.integers(-65535 * 128, 65535 * 128),
    SHIFT,
    st.sampled_from(["i8", "i16"]),
    st.integers(1, (1 << 31) - 1),
)
def test_requant(x: int, shift: int, dtype: str, multiplier: int) -> None:
    low, high = (-128, 127) if dtype == "i8" else (-32768, 32767)
    for factor in (1, multiplier):
        want = clamp(round_half_up(Fraction(x * factor, 1 << shift)) if shift else x * factor, low, high)
        assert nu.requant(np.array([x]), shift, dtype, factor).tolist() == [want]


@given(I16, st.integers(-256, 255), SHIFT, st.sampled_from(["i8", "i16"]))
def test_mul_and_add(a: int, b: int, shift: int, dtype: str) -> None:
    low, high = (-128, 127) if dtype == "i8" else (-32768, 32767)
    want = clamp(round_half_up(Fraction(a * b, 1 << shift)) if shift else a * b, low, high)
    assert nu.mul([a], [b], shift, dtype).tolist() == [want]
    assert nu.add([a], [b], dtype).tolist() == [clamp(a + b, low, high)]


@given(I16, I16, st.integers(0, 255))
def test_lerp_is_the_blend_and_never_leaves_its_ends(h: int, c: int, f: int) -> None:
    got = int(nu.lerp(h, c, f))
    assert got == (f * h + (256 - f) * c + 128) >> 8
    assert min(h, c) <= got <= max(h, c)


@given(st.lists(I8, min_size=1, max_size=20), st.integers(0, 1 << 32))
def test_table(x: list[int], seed: int) -> None:
    entries = np.random.default_rng(seed).integers(-32768, 32768, 256).astype(np.int16)
    assert nu.table(np.array(x), entries).tolist() == [int(entries[v + 128]) for v in x]
