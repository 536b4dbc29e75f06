"""Program files: one encoding per program, and nothing that was tampered with gets through."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import BadProgramFile, IllegalProgram, ProgramError, UsageError
from ternac.program import file as program_file
from ternac.program import zoo
from ternac.program.file import dumps, load, loads, save
from ternac.program.program import Program
from ternac.program.random import random_program

BASE = random_program(np.random.default_rng(5), d=5, m=7, layers=1, vocab=6)
GOOD = dumps(BASE)
Header = dict[str, Any]


def take_apart(data: bytes) -> tuple[Header, Header, bytes]:
    """Header, description of the program, tensor bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    return header, json.loads(header["__metadata__"]["program"]), data[8 + size :]


def seal(text: bytes, body: bytes) -> bytes:
    """A file of a header with zeros for its hash, given the right hash: as good as tampering gets."""
    text += b" " * (-len(text) % 8)
    data = len(text).to_bytes(8, "little") + text + body
    return data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)


def put_together(header: Header, program: Header | str, body: bytes) -> bytes:
    text = program if isinstance(program, str) else json.dumps(program, sort_keys=True, separators=(",", ":"))
    about = header["__metadata__"] | {"program": text, "sha256": "0" * 64}
    whole = json.dumps(header | {"__metadata__": about}, sort_keys=True, separators=(",", ":"))
    return seal(whole.encode(), body)


def same(a: Program, b: Program) -> bool:
    consts = a.consts.keys() == b.consts.keys() and all(
        a.consts[k].dtype == b.consts[k].dtype and np.array_equal(a.consts[k], b.consts[k]) for k in a.consts
    )
    fields = ("name", "vocab", "ops", "states", "logits", "logit_scale_bits", "meta")
    return consts and all(getattr(a, f) == getattr(b, f) for f in fields)


@settings(max_examples=25)
@given(st.integers(0, 1 << 32))
def test_round_trip_is_canonical(seed: int) -> None:
    program = random_program(np.random.default_rng(seed))
    data = dumps(program)
    again = loads(data)
    assert same(program, again)
    assert dumps(again) == data
    assert (again.hash, again.file_hash) == (program.hash, program.file_hash)


META = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=6).filter(lambda key: key != "tokenizer"), META, max_size=4))
def test_meta_survives(meta: dict[str, Any]) -> None:
    program = dataclasses.replace(BASE, meta=meta)
    assert loads(dumps(program)).meta == meta


CARRIED = dataclasses.replace(BASE, meta={"tokenizer": "huggingface"}, tokenizer=b'{"model": "\xc3\xa9"}')


def test_a_tokenizer_is_in_the_file_and_in_the_identity() -> None:
    """Byte for byte as it was given; the constants are those of the program without it."""
    data = dumps(CARRIED)
    again = loads(data)
    assert again.tokenizer == CARRIED.tokenizer
    assert set(again.consts) == set(BASE.consts)
    assert dumps(again) == data
    other = dataclasses.replace(CARRIED, tokenizer=CARRIED.tokenizer + b" ")
    assert len({BASE.hash, CARRIED.hash, other.hash}) == 3
    header, program, body = take_apart(data)
    entry = header.pop("tokenizer.json")
    assert entry["dtype"] == "U8"
    with pytest.raises(ProgramError):
        loads(put_together(header, program, body))
    wide = {**entry, "shape": [1, len(CARRIED.tokenizer)]}
    with pytest.raises(BadProgramFile, match="not a row of bytes"):
        loads(put_together(header | {"tokenizer.json": wide}, program, body))
    with pytest.raises(IllegalProgram, match="tokenizer.json: no op uses it"):
        loads(put_together(header | {"tokenizer.json": entry}, program | {"meta": {}}, body))


@pytest.mark.parametrize("name", zoo.names())
def test_shipped_files_are_written_as_they_are_read(name: str) -> None:
    """A program without a tokenizer is the same file, byte for byte, as before there were any."""
    path = zoo.resolve(name)
    assert dumps(load(path)) == path.read_bytes()


def test_files_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save(BASE, path)
    assert path.read_bytes() == GOOD
    assert load(path).file_hash == BASE.file_hash
    save(load(path), path)
    assert path.read_bytes() == GOOD
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]
    with pytest.raises(UsageError, match="cannot write"):
        save(BASE, tmp_path / "nowhere" / "p")
    with pytest.raises(BadProgramFile, match=r"cannot read .*missing"):
        load(tmp_path / "missing")
    with pytest.raises(BadProgramFile, match="cannot read"):
        load(tmp_path)
    path.write_bytes(GOOD[:-1])
    with pytest.raises(BadProgramFile, match="p.safetensors: "):
        load(path)


def test_over_sized_files_are_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(GOOD)
        file.truncate(program_file.MAX_FILE + 1)
    with pytest.raises(BadProgramFile, match="limit 2147483648"):
        load(path)


def test_the_reference_reader_accepts_it() -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load(GOOD)
    assert set(tensors) == set(BASE.consts)
    assert np.array_equal(tensors["silu"], BASE.consts["silu"])


def test_any_truncation_is_refused() -> None:
    for size in range(len(GOOD)):
        with pytest.raises(BadProgramFile):
            loads(GOOD[:size])


def test_any_flipped_bit_is_refused() -> None:
    header = 8 + int.from_bytes(GOOD[:8], "little")
    rng = np.random.default_rng(0)
    places = [*range(96 * 8), *rng.choice(header * 8, 1500, replace=False)]
    places += [header * 8 + int(bit) for bit in rng.choice((len(GOOD) - header) * 8, 500, replace=False)]
    for bit in places:
        data = bytearray(GOOD)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProgramError):
            loads(bytes(data))


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    for noise in (data, len(data).to_bytes(8, "little") + data, GOOD + data if data else b""):
        with pytest.raises(BadProgramFile):
            loads(noise)


@settings(max_examples=200)
@given(st.integers(0, 1 << 32))
def test_resealed_mutations_are_refused_or_mean_the_same_file(seed: int) -> None:
    """A random byte of the header replaced, the hash made good: typed error, or a legal canonical program."""
    rng = np.random.default_rng(seed)
    size = int.from_bytes(GOOD[:8], "little")
    text = bytearray(GOOD[8 : 8 + size].replace(BASE.file_hash.encode(), b"0" * 64))
    text[rng.integers(0, size)] = rng.integers(32, 127)
    data = seal(bytes(text), GOOD[8 + size :])
    try:
        program = loads(data)
    except ProgramError:
        return
    assert dumps(program) == data


def tensor(name: str, key: str, value: Any) -> Callable[[Header, Header], None]:
    return lambda header, program: header[name].__setitem__(key, value)


def field(key: str, value: Any) -> Callable[[Header, Header], None]:
    return lambda header, program: program.__setitem__(key, value)


def drop(key: str) -> Callable[[Header, Header], None]:
    return lambda header, program: program.__delitem__(key) and None


def about(key: str, value: Any) -> Callable[[Header, Header], None]:
    return lambda header, program: header["__metadata__"].__setitem__(key, value)


def in_op(key: str, value: Any) -> Callable[[Header, Header], None]:
    return lambda header, program: program["ops"][1].__setitem__(key, value)


BAD = {
    "format": (about("format", "pt"), "this is not a program file"),
    "version": (about("version", "3"), "file version '3' is unknown, this ternac reads 1 and 2"),
    "long version": (about("version", "9" * 10_000), "file version '99999999999999999999' is unknown"),
    "metadata number": (about("version", 1), "__metadata__: a value is not str"),
    "metadata field": (about("more", "x"), "__metadata__: unknown field 'more'"),
    "tensor dtype": (tensor("silu", "dtype", "F64"), "tensor silu: dtype is not one of"),
    "tensor dtype list": (tensor("silu", "dtype", []), "tensor silu: dtype is not one of"),
    "tensor shape": (tensor("silu", "shape", [257]), "512 bytes for shape"),
    "huge shape": (tensor("silu", "shape", [1 << 40]), "tensor silu shape: not integers in"),
    "huge product": (tensor("silu", "shape", [1 << 31, 1 << 31]), "512 bytes for shape"),
    "negative shape": (tensor("silu", "shape", [-256]), "tensor silu shape: not integers"),
    "fractional shape": (tensor("silu", "shape", [256.0]), "tensor silu shape: not integers"),
    "boolean shape": (tensor("silu", "shape", [True]), "tensor silu shape: not integers"),
    "rank": (tensor("silu", "shape", [1, 1, 256]), "tensor silu shape: not a list of 1 to 2"),
    "offset outside": (tensor("silu", "data_offsets", [0, 1 << 60]), "tensor silu offsets: not integers in"),
    "overlap": (tensor("silu", "data_offsets", [0, 512]), "overlap or leave a gap"),
    "tensor field": (tensor("silu", "more", 1), "tensor silu: unknown field 'more'"),
    "tensor missing": (lambda h, p: h.pop("head") and None, "overlap or leave a gap|bytes after the last"),
    "tensor not an object": (lambda h, p: h.__setitem__("head", 3), "tensor head: not an object"),
    "field missing": (drop("vocab"), "program: field vocab is missing"),
    "field unknown": (field("colour", 1), "program: unknown field 'colour'"),
    "ops": (field("ops", {}), "ops: not a list"),
    "too many ops": (field("ops", [0] * 65536), "ops: 65536 items, limit 65535"),
    "op": (field("ops", [3]), "op 0: not an object"),
    "op field": (in_op("more", 1), "op 1: unknown field 'more'"),
    "op kind": (in_op("op", 4), "op 1: kind or output is not text"),
    "op inputs": (in_op("in", "r.e"), "op 1: inputs are not a short list of names"),
    "op inputs many": (in_op("in", ["r.e"] * 65), "op 1: inputs are not a short list"),
    "op attributes": (in_op("attrs", []), "op 1 attrs: not an object"),
    "op attribute": (in_op("attrs", {"pre": 1.5}), "op 1: an attribute is neither integer nor text"),
    "states": (field("states", [["a", 1], ["a", 2]]), "states: an entry is not"),
    "state": (field("states", [["a"]]), "states: an entry is not"),
    "meta": (field("meta", 5), "meta: not an object"),
    "trits": (field("trits", {"head": [6, 5, 1]}), "trits head: not a list of 2 to 2"),
    "trits of nothing": (field("trits", {"nowhere": [6, 5]}), "trits nowhere: no tensor of 6 bytes"),
    "trits shape": (field("trits", {"head": [7, 5]}), "trits head: no tensor of 7 bytes"),
    "huge trits": (field("trits", {"head": [65536, 65536]}), "trits head: not integers in 1..65535"),
}


@pytest.mark.parametrize("case", BAD)
def test_sealed_nonsense_is_refused_with_the_reason(case: str) -> None:
    change, reason = BAD[case]
    header, program, body = take_apart(GOOD)
    change(header, program)
    with pytest.raises(BadProgramFile, match=reason):
        loads(put_together(header, program, body))


ILLEGAL = {
    "kind": (in_op("op", "SOFTMAX"), "op kind SOFTMAX is unknown"),
    "vocab": (field("vocab", 1 << 80), "vocab is"),
    "vocab type": (field("vocab", None), "vocab is None"),
    "name": (field("name", "a/b"), "is not a name"),
    "name type": (field("name", 3), "is not a name"),
    "logits type": (field("logits", []), "no op defines"),
    "state length": (field("states", [["0.state", "x"]]), "length of state 0.state is 'x'"),
    "trits not named": (lambda h, p: p["trits"].pop("head") and None, "constant head: dtype uint8"),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_sealed_illegal_programs_are_refused_with_the_reason(case: str) -> None:
    change, reason = ILLEGAL[case]
    header, program, body = take_apart(GOOD)
    change(header, program)
    with pytest.raises(IllegalProgram, match=reason):
        loads(put_together(header, program, body))


def test_put_together_is_faithful() -> None:
    """The tests above would prove nothing if the helper could not make a good file."""
    assert put_together(*take_apart(GOOD)) == GOOD


def raw(change: Callable[[bytes], bytes], body: Callable[[bytes], bytes] = lambda b: b) -> bytes:
    size = int.from_bytes(GOOD[:8], "little")
    text = GOOD[8 : 8 + size].replace(BASE.file_hash.encode(), b"0" * 64).rstrip(b" ")
    return seal(change(text), body(GOOD[8 + size :]))


def test_other_encodings_of_the_same_program_are_refused() -> None:
    header, program, body = take_apart(GOOD)
    spaced = json.dumps(program, sort_keys=True)
    reordered = dict(reversed(list(header.items())))
    for data in (
        put_together(header, spaced, body),
        raw(lambda text: text.replace(b'"shape":[256]', b'"shape": [256]')),
        raw(lambda text: text + b" " * 8),
        seal(json.dumps({**reordered, "__metadata__": {**header["__metadata__"], "sha256": "0" * 64}},
                        separators=(",", ":")).encode(), body),
    ):  # fmt: skip
        with pytest.raises(BadProgramFile, match="not canonical"):
            loads(data)


def test_what_json_lets_pass_is_refused() -> None:
    for change, reason in (
        (lambda text: text.replace(b"{", b'{"silu":1,', 1), "a key appears twice"),
        (lambda text: text.replace(b"[256]", b"[NaN]", 1), "NaN is not a number"),
        (lambda text: text.replace(b"[256]", b"[1e400]", 1), "not integers"),
        (lambda text: text.replace(b"[256]", b"[" + b"9" * 5000 + b"]", 1), "is not valid JSON|not integers"),
        (lambda text: text.replace(b"[256]", b"[" * 100_000, 1), "nested too deep|not valid JSON"),
        (lambda text: text.replace(b"silu", b"s\xc3\xacl", 1), "is not valid JSON in ASCII"),
        (lambda text: b"[" + text + b"]", "header: not an object"),
        (lambda text: b"null", "header: not an object"),
        (lambda text: b"{}", "__metadata__: not an object"),
    ):
        with pytest.raises(BadProgramFile, match=reason):
            loads(raw(change))


def test_bodies_are_covered_exactly() -> None:
    with pytest.raises(BadProgramFile, match="3 bytes after the last tensor"):
        loads(raw(lambda text: text, lambda body: body + b"abc"))
    with pytest.raises(BadProgramFile, match="offsets: not integers"):
        loads(raw(lambda text: text, lambda body: body[:-1]))


def test_trits_have_one_encoding() -> None:
    header, program, body = take_apart(GOOD)
    start, stop = header["head"]["data_offsets"]
    for byte, reason in ((243, "over 242"), (255, "over 242")):
        bad = body[:start] + bytes([byte]) + body[start + 1 :]
        with pytest.raises(BadProgramFile, match=f"trits head: .*{reason}"):
            loads(put_together(header, program, bad))
    start, stop = header["0.Wgate"]["data_offsets"]  # 35 trits fill 7 bytes; 0.Wf has 25 in 5
    assert stop - start == 7


def test_header_size_is_limited() -> None:
    with pytest.raises(BadProgramFile, match="the header claims 18446744073709551615 bytes, limit"):
        loads(b"\xff" * 64)
    with pytest.raises(BadProgramFile, match="truncated"):
        loads((1000).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadProgramFile, match="has 3 bytes"):
        loads(b"abc")


def test_the_digest_of_the_file_covers_everything() -> None:
    for at in (9, len(GOOD) - 1):
        with pytest.raises(BadProgramFile, match="digest does not match|not valid JSON"):
            loads(GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :])
    with pytest.raises(BadProgramFile, match="the digest does not match: the file is damaged"):
        loads(GOOD[:-1] + bytes([GOOD[-1] ^ 1]))
    digests = {
        BASE.file_hash,
        dataclasses.replace(BASE, meta={"a": 1}).file_hash,
        dataclasses.replace(BASE, name="other").file_hash,
        dataclasses.replace(BASE, logit_scale_bits=BASE.logit_scale_bits ^ 1).file_hash,
    }
    assert len(digests) == 4
    data = GOOD.replace(BASE.file_hash.encode(), b"0" * 64)
    assert hashlib.sha256(data).hexdigest() == BASE.file_hash
