"""Archives: the same bytes by every executor, read by every other one; whatever is damaged is refused."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ternac.errors import ArchiveError, UsageError, WrongProgram
from ternac.host.coder import BackendSessions, open_coder
from ternac.host.compress import find_program
from ternac.host.device import Device
from ternac.host.native.library import why_missing
from ternac.program import zoo
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.archive import Block, Header, Reader, Writer
from ternac.run.texts import Coder, StepCoder
from ternac.text.training import train_bpe
from tests.host.archives import (
    VECTORS,
    archive_and_totals,
    archive_of,
    plain_coder,
    program,
    range_of,
    text_of,
)

TEXT = b"It is a truth universally acknowledged, that a single man in possession.\n" + bytes(range(256)) * 2
EXECUTORS = ["numpy", "native", "gpu:cpu", "isa"]


def opened(name: str, of: Program) -> Coder:
    if name == "native" and why_missing():
        pytest.skip(why_missing())
    if name == "gpu:cpu":
        pytest.importorskip("torch")
    return open_coder(name, of)


def board_coder(of: Program) -> Coder:
    """The simulated board."""
    return StepCoder(BackendSessions(Device.open("sim", of, board="tiny", progress=False).backend))


def test_frozen_archives_are_written_and_read_as_they_were() -> None:
    frozen = (VECTORS / "archive.tnc").read_bytes()
    assert archive_of(TEXT, plain_coder()) == frozen
    assert text_of(frozen, plain_coder()) == TEXT


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_writes_and_reads_the_same(name: str) -> None:
    frozen, coder = (VECTORS / "archive.tnc").read_bytes(), opened(name, program())
    assert archive_of(TEXT, coder) == frozen
    assert text_of(frozen, coder) == TEXT
    assert range_of(frozen, coder, 100, 301) == TEXT[100:301]
    coder.close()


@pytest.mark.slow
def test_the_simulated_board_writes_and_reads_the_same() -> None:
    board, text = board_coder(program()), TEXT[:70]
    made = archive_of(text, plain_coder())
    assert archive_of(text, board) == made
    assert text_of(made, board) == text
    assert "a request for the logits of every token" in board.origin
    board.close()


def with_tokenizer(made: Program) -> Program:
    tokenizer = train_bpe(b"the quick brown fox jumps over the lazy dog\n" * 30, made.vocab)
    return replace(made, tokenizer=tokenizer, meta={**made.meta, "tokenizer": "huggingface"})


def test_a_program_with_a_tokenizer_takes_any_bytes() -> None:
    small = with_tokenizer(random_program(np.random.default_rng(1), d=16, m=24, layers=1, vocab=64))
    data = b"the dog jumps\n\xff\xfe no text\nover the fox \xc3\xa9\n" * 9
    made, totals = archive_and_totals(data, plain_coder(small), 200)
    assert 0 < totals.rest < totals.text and totals.tokens
    for name in ("numpy", "native"):
        assert text_of(made, opened(name, small)) == data


def test_a_token_in_front_of_a_text_is_fed_first() -> None:
    special = {"add_bos": True, "bos": 3, "eos": []}
    bare = with_tokenizer(random_program(np.random.default_rng(1), d=16, m=24, layers=1, vocab=64))
    small = replace(bare, meta={**bare.meta, "special_tokens": special})
    text = np.arange(50)
    assert plain_coder(small).encode([text]) != plain_coder(bare).encode([text])
    data = b"the quick brown dog\n" * 20
    made = archive_of(data, plain_coder(small), 100)
    for name in ("numpy", "native"):
        coder = opened(name, small)
        assert archive_of(data, coder, 100) == made
        assert text_of(made, coder) == data


@pytest.mark.parametrize("data", [b"", b"a", b"\n", bytes(64), b"x" * 65, b"\xff" * 1000])
def test_ends(data: bytes) -> None:
    made = archive_of(data, plain_coder())
    assert text_of(made, plain_coder()) == data
    assert range_of(made, plain_coder(), 0, None) == data


def test_ranges() -> None:
    made = (VECTORS / "archive.tnc").read_bytes()
    for start, end in ((0, 0), (0, 1), (63, 65), (64, 128), (200, None), (0, None), (len(TEXT), None)):
        assert range_of(made, plain_coder(), start, end) == TEXT[start:end]
    for start, end in ((len(TEXT) + 1, None), (0, len(TEXT) + 1)):
        with pytest.raises(ArchiveError, match=f"the text has {len(TEXT)} bytes"):
            range_of(made, plain_coder(), start, end)


SMALL = TEXT[:90]


def refused(data: bytes) -> bool:
    """Whether an archive is refused, read from its beginning and by its index."""
    found = 0
    for read in (lambda: text_of(data, plain_coder()), lambda: range_of(data, plain_coder(), 0, None)):
        try:
            read()
        except ArchiveError:
            found += 1
    return found == 2


def test_a_flip_of_any_bit_is_refused() -> None:
    whole = archive_of(SMALL, plain_coder(), 50)
    assert not refused(whole)
    for at in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[at] ^= 1 << bit
            assert refused(bytes(data)), f"bit {bit} of byte {at}"


def test_any_other_end_is_refused() -> None:
    whole = archive_of(SMALL, plain_coder(), 50)
    for length in range(len(whole)):
        assert refused(whole[:length]), length
    for more in (b"\0", whole, whole[-20:]):
        with pytest.raises(ArchiveError, match="follows its end"):
            text_of(whole + more, plain_coder())
        assert more == whole or refused(whole + more)


def test_blocks_that_change_places_are_refused() -> None:
    """Each is right by its own checksum, and the index still adds up: the whole text's SHA-256 is not."""
    coder, header = plain_coder(), Header(bytes.fromhex(program().hash), 50)
    texts = [b"first text", b"other text"]
    coded = [one.data for one in coder.encode([np.frombuffer(text, np.uint8) for text in texts])]
    sink = io.BytesIO()
    writer = Writer(sink, header)
    for text, data in zip(texts, coded, strict=True):
        writer.block(Block(len(text), zlib.crc32(text), len(text), data), b"another")
    writer.finish()
    with pytest.raises(ArchiveError, match="SHA-256"):
        text_of(sink.getvalue(), coder)


def test_a_block_that_decodes_to_another_text_is_refused() -> None:
    """All checksums but the text's own are right."""
    coder, text = plain_coder(), b"first text"
    (coded,) = coder.encode([np.frombuffer(text, np.uint8)])
    sink = io.BytesIO()
    writer = Writer(sink, Header(bytes.fromhex(program().hash), 50))
    writer.block(Block(len(text), zlib.crc32(b"other text"), len(text), coded.data), text)
    writer.finish()
    with pytest.raises(ArchiveError, match="another text"):
        text_of(sink.getvalue(), coder)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (Block(9, 0, 9, b""), "of no text"),
        (Block(9, 0, 10, b"", b"", ()), "of no text"),
        (Block(9, 0, 0, b"", b"123", (0, 9)), "another length"),
        (Block(9, 0, 1, b"", b"12345678", (2, 7)), "add up|another length"),
        (Block(9, 0, 9 * 8 + 1, b""), "tokens for 9 bytes"),
        (Block(51, 0, 51, b""), "51 bytes, of at most 50"),
        (Block(9, 0, 1, bytes(14)), "14 coded bytes, of at most 13"),
    ],
)
def test_blocks_that_no_writer_makes_are_refused(block: Block, said: str) -> None:
    """All checksums are right."""
    sink = io.BytesIO()
    writer = Writer(sink, Header(bytes.fromhex(program().hash), 50))
    writer.block(block, b"")
    writer.finish()
    with pytest.raises(ArchiveError, match=said):
        text_of(sink.getvalue(), plain_coder())


def test_another_version_and_no_archive_are_named() -> None:
    whole = archive_of(SMALL, plain_coder(), 50)
    later = whole[:4] + struct.pack("<H", 2) + whole[6:44]
    later += struct.pack("<I", zlib.crc32(later)) + whole[48:]
    with pytest.raises(ArchiveError, match="version 2, this reader knows 1"):
        text_of(later, plain_coder())
    with pytest.raises(ArchiveError, match="no archive of ternac compress"):
        text_of(b"PK" + whole[2:], plain_coder())


def test_another_program_is_refused_with_both_hashes() -> None:
    whole = archive_of(SMALL, plain_coder(), 50)
    other = random_program(np.random.default_rng(2), d=8, m=8, layers=1, vocab=256)
    with pytest.raises(WrongProgram, match=program().hash) as caught:
        text_of(whole, plain_coder(other))
    assert (caught.value.needed, caught.value.given) == (program().hash, other.hash)
    with pytest.raises(ArchiveError, match="no shipped one"):
        find_program(Reader(io.BytesIO(whole)).header)
    shipped = Header(bytes.fromhex(zoo.open_program("prose").hash), 50)
    assert find_program(shipped) == zoo.resolve("prose")


def test_a_program_without_a_tokenizer_is_refused() -> None:
    wide = random_program(np.random.default_rng(1), d=8, m=8, layers=1, vocab=300)
    with pytest.raises(UsageError, match="no tokenizer"):
        archive_of(b"text", plain_coder(wide))


def test_what_is_decoded_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: a machine whose frequencies differ in one table entry reads no archive wrongly."""
    from ternac.run import coding

    table = coding.EXP2.copy()
    table[54:] -= 1
    monkeypatch.setattr(coding, "EXP2", table)
    assert refused((VECTORS / "archive.tnc").read_bytes())


def test_the_overhead_is_what_the_page_says() -> None:
    """Of random bytes: coded in the model's cost, but for headers."""
    data = np.random.default_rng(1).bytes(4000)
    made, totals = archive_and_totals(data, plain_coder(), 4000)
    assert totals.cost / 8 / 65536 * 0.9999 <= len(made) <= totals.cost / 8 / 65536 * 1.0001 + 145


GIGABYTE = '''
import resource
from ternac.host.compress import compress
from ternac.run.texts import Coded
from tests.host.archives import program

class Stub:
    """Codes nothing: what is tested is what is held beside it."""
    name, rows, program = "stub", 64, program()
    def encode(self, texts):
        return [Coded(bytes(len(text) // 4), 1) for text in texts]

class Sink:
    def write(self, data):
        pass

text = (b"a line of a text that never ends\\n" * 32000)[: 1 << 20]
for size in (64, 1024):
    done = compress((text for _ in range(size)), Sink(), Stub())
    assert done.text == size << 20
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''


def test_a_gigabyte_takes_the_memory_of_some_megabytes() -> None:
    command = [sys.executable, "-c", GIGABYTE.replace("\\\\n", "\\n")]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())
    assert large < small + 4096, (small, large)  # KiB


THERE_AND_BACK = r'''
import os, resource, threading
import numpy as np
from ternac.host.compress import compress, decompress
from ternac.run.archive import Reader
from ternac.run.texts import Coded
from tests.host.archives import program

LINE = b"a line of a text that never ends\n"

class Stub:
    """Knows the text: what is tested is what is held beside the coding."""
    name, rows, program = "stub", 64, program()
    def encode(self, texts):
        return [Coded(b"", 1) for text in texts]
    def decode(self, coded, counts):
        line = np.frombuffer(LINE, np.uint8).astype(np.int32)
        return [np.resize(line, count) for count in counts]

class Sink:
    def write(self, data):
        pass

for size in (64, 1024):
    read, write = os.pipe()
    def send():
        with os.fdopen(write, "wb") as sink:
            compress((LINE * 32000 for _ in range(size)), sink, Stub())
    thread = threading.Thread(target=send)
    thread.start()
    with os.fdopen(read, "rb") as source:
        assert decompress(Reader(source), Sink(), Stub()).text == size * 32000 * len(LINE)
    thread.join()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''


@pytest.mark.slow
def test_a_gigabyte_through_a_pipe_and_back_takes_the_memory_of_some_megabytes() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", THERE_AND_BACK], cwd=root, capture_output=True, text=True, check=True
    )
    small, large = map(int, done.stdout.split())
    assert large < small + 8192, (small, large)  # KiB
