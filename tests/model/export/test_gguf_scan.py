"""Headers of GGUF files that promise what they do not have, or more than anybody needs."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from ternac import limits
from ternac.errors import BadProgramFile, OverBudget, TernacError
from ternac.model.export.gguf import metadata, open_gguf, read, write
from ternac.model.export.gguf_scan import ARRAY, LONG, STRING, check_header
from ternac.program.file import dumps
from ternac.program.random import random_program

U8, U32 = 0, 4


def text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def entry(kind: int, value: bytes, name: bytes = b"a") -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, data: bytes = b"") -> bytes:
    return entry(ARRAY, struct.pack("<IQ", kind, count) + data)


def header(*entries: bytes, tensors: int = 0, count: int | None = None) -> bytes:
    return (
        b"GGUF"
        + struct.pack("<IQQ", 3, tensors, len(entries) if count is None else count)
        + b"".join(entries)
    )


LIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is empty"),
    "something else": (b"GGML" + bytes(40), "does not begin with GGUF"),
    "cut off": (b"GGUF\3\0\0\0", "promises a number, 0 bytes are left"),
    "an array of 2^40": (header(array(U8, 1 << 40)), "promises an array of 1099511627776 elements, 0 bytes"),
    "an array of 2^40 texts": (header(array(STRING, 1 << 40)), "promises an array of 1099511627776 elements"),
    "an array of 2^62": (header(array(U32, 1 << 62)), "promises an array of"),
    "a text of 2^63": (header(entry(STRING, struct.pack("<Q", 1 << 63))), "promises a text"),
    "texts behind the end": (header(array(STRING, 2, text(b"x") + struct.pack("<Q", 1 << 20))), "promises a"),
    "texts cut off": (header(array(STRING, 2, struct.pack("<QQ", 8, 5))), "the header is cut off"),
    "a name of 2^40": (header(struct.pack("<Q", 1 << 40) + bytes(20)), "promises a text"),
    "2^50 entries": (header(count=1 << 50), "promises 0 tensors and 1125899906842624 entries"),
    "2^50 tensors": (header(tensors=1 << 50), "promises 1125899906842624 tensors"),
    "2^31 dimensions": (
        header(text(b"t") + struct.pack("<I", 1 << 31) + bytes(40), tensors=1, count=0),
        "a tensor has 2147483648 dimensions, at most 4 are known",
    ),
    "a tensor elsewhere": (
        header(text(b"t") + struct.pack("<IQIQ", 1, 4, 0, (1 << 64) - 32) + bytes(64), tensors=1, count=0),
        "a tensor begins 18446744073709551584 bytes behind the header of a shorter file",
    ),
    "an unknown type": (header(entry(77, bytes(8))), "a value of type 77 is unknown"),
    "arrays in arrays": (header(entry(ARRAY, struct.pack("<IQ", ARRAY, 1) * 1000)), "type 9 is unknown"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_promises_what_is_not_there_is_refused_at_once(case: str, tmp_path: Path) -> None:
    data, reason = LIES[case]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    began = time.process_time()
    with pytest.raises(BadProgramFile, match=f"{path} is not a readable GGUF file: .*{reason}"):
        open_gguf(path)
    assert time.process_time() - began < 10


def test_many_items_are_refused_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header(*(entry(U8, b"\0", b"%d" % n) for n in range(40_000))))
    with pytest.raises(OverBudget, match=r"needs 40,000 metadata items and tensors, the limit is 32,768"):
        check_header(path)
    path.write_bytes(header(array(U8, 9_000_000, bytes(9_000_000))))
    with pytest.raises(OverBudget, match=r"needs 9,000,000 elements of arrays, the limit is 8,388,608"):
        check_header(path)
    with limits.raised(2):
        assert list(check_header(path).values()) == [12 + 9_000_000]


def test_long_arrays_are_left_out_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "test")
    writer.add_array("long", ["token"] * (LONG + 1))
    writer.add_array("numbers", list(range(100_000)))
    writer.add_array("short", ["a", "b"])
    writer.add_uint32("last", 7)
    writer.add_tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    began = time.process_time()
    reader = open_gguf(path)
    assert time.process_time() - began < 10  # 6 s for the package alone, milliseconds here
    assert metadata(reader, "long") == metadata(reader, "numbers") == []
    assert metadata(reader, "short") == ["a", "b"]
    assert metadata(reader, "last") == 7
    assert reader.tensors[0].data.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_cut_and_changed_files_are_typed_errors_or_the_program(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    program = random_program(np.random.default_rng(3))
    write(program, path, "TQ2_0")
    whole, rng = path.read_bytes(), np.random.default_rng(4)
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, 4000, 3):
            data[at] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data))] if rng.integers(3) == 0 else data)
        try:
            found = read(open_gguf(path), path)
        except TernacError:
            continue
        assert dumps(found) == dumps(program)
