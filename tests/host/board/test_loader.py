"""Loads that go on where they stopped, on a board in Python."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Mem, preset
from ternac.compile.loading import load_requests, program_id
from ternac.errors import NoAnswer
from ternac.host.board.client import LinkClient
from ternac.host.board.loader import JOURNAL_EVERY, load_image
from ternac.link import Frame, SlipDecoder
from ternac.program.random import random_program
from tests.host.boards import FAST, Line, make_board

STREAMED = preset("ulx3s-85f-sdram")


def image_of(seed=1):
    return compile_program(random_program(np.random.default_rng(seed), 160, 240, 3, 60), STREAMED)


@pytest.fixture(scope="module")
def image():
    return image_of()


def load(board, image, cut_after=None):
    """A host that loads, and is killed after so many requests; requests kept, requests executed."""
    before = board.executed
    client = LinkClient(Line(board, cut_after=cut_after), FAST)
    kept = load_image(client, client.hello(), image, "load", progress=False)
    return kept, board.executed - before


def holds(board, image):
    memories = board.engine.memories
    return board.identity.program_hash == program_id(image) and all(
        np.array_equal(memories[mem], words) for mem, words in image.memories.items()
    )


def test_goes_on_where_it_stopped(image):
    """Killed again and again: no request but the last few is repeated, and the memories are the image's."""
    board, rng = make_board(image), random.Random(1)
    whole = len(list(load_requests(image)))
    assert whole > 5 * JOURNAL_EVERY
    cuts = 0
    for _ in range(100):
        at = JOURNAL_EVERY + rng.randrange(2 * JOURNAL_EVERY)
        try:
            kept, _ = load(board, image, cut_after=at)
            break
        except NoAnswer:
            cuts += 1
            assert not board.identity.loaded
    assert cuts >= 3
    assert kept > whole - 3 * JOURNAL_EVERY
    assert holds(board, image)


def test_little_is_repeated(image):
    board = make_board(image)
    whole = len(list(load_requests(image)))
    with pytest.raises(NoAnswer):
        load(board, image, cut_after=whole // 2)
    done = board.executed
    kept, rest = load(board, image)
    assert kept % JOURNAL_EVERY == 0
    assert done + rest < whole + JOURNAL_EVERY + whole // JOURNAL_EVERY + 12
    assert holds(board, image)


def test_another_image_begins_anew(image):
    """Of two images of the same shape, the second must not be taken for the rest of the first."""
    board, other = make_board(image), image_of()
    other.memories[Mem.WEIGHT][0, 0] ^= 1
    with pytest.raises(NoAnswer):
        load(board, image, cut_after=200)
    kept, _ = load(board, other)
    assert kept == 0
    assert holds(board, other)
    kept, _ = load(board, image)  # a board with a program is loaded from the start
    assert kept == 0


def test_a_board_without_power_in_between_begins_anew(image):
    board = make_board(image)
    with pytest.raises(NoAnswer):
        load(board, image, cut_after=200)
    board = make_board(image)
    assert load(board, image)[0] == 0
    assert holds(board, image)


@pytest.mark.parametrize("word", [0, 7, 8, 9])
def test_a_damaged_journal_begins_anew(image, word):
    board = make_board(image)
    with pytest.raises(NoAnswer):
        load(board, image, cut_after=200)
    board.engine.write(Mem.BANK, 0, word, 0xFFFF ^ board.engine.read(0, word))
    assert load(board, image)[0] == 0
    assert holds(board, image)


def test_no_trace_of_a_finished_load(image):
    """What a load writes down is gone before the program is committed."""
    board = make_board(image)
    sent = []
    line = Line(board)
    write = line.write
    line.write = lambda data: (sent.extend(SlipDecoder().feed(data)), write(data))  # type: ignore[method-assign]
    client = LinkClient(line, FAST)
    load_image(client, client.hello(), image, "load", progress=False)
    last = Frame.decode(sent[-3])  # then come COMMIT and HELLO
    assert last is not None
    assert last.payload == bytes((Mem.BANK, 0, 0, 0)) + bytes(20)
