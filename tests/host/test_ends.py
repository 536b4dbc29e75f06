"""Texts that end: at the same token on every executor, with the same state behind it, unless ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from ternac.errors import UsageError
from ternac.host.device import Device
from ternac.program.program import Program
from ternac.run.generation import Run
from ternac.run.sampling import Sampling
from ternac.run.snapshot import Snapshot
from tests.host.boards import Line, image_of, keep_slots, make_board, numpy_tokens, small_program
from tests.host.native.native_here import MISSING

SAMPLING = Sampling(False, 200, 4, 50)
PROMPT = [72, 101, 108]
PLAIN = small_program()
WHOLE = numpy_tokens(PLAIN, PROMPT, 60, SAMPLING, 5)
LAST = next(i for i in range(9, 60) if WHOLE[i] not in WHOLE[:i])
"""The first place, behind some slices, of a token that the text has not had."""
EOS = WHOLE[LAST]
UNUSED = next(token for token in range(256) if token not in WHOLE)


def ending(program: Program, *eos: int, bos: int | None = None, add_bos: bool = False) -> Program:
    entry = {"add_bos": add_bos, "bos": bos, "eos": sorted(eos)}
    return dataclasses.replace(program, meta={**program.meta, "special_tokens": entry})


PROGRAM = ending(PLAIN, EOS, UNUSED)


def torch(program: Program) -> Device:
    pytest.importorskip("torch")
    return Device.open("gpu:cpu", program)


def native(program: Program) -> Device:
    if MISSING:
        pytest.skip(MISSING)
    return Device.open("native", program)


def board(program: Program, slots: int | None = None) -> Device:
    line = Line(make_board(image_of(program)))
    device = Device.open("serial:fake", program, board="tiny", transport=line, progress=False)
    if slots is not None:
        keep_slots(device.backend, slots)
    return device


PLACES: dict[str, Callable[[Program], Device]] = {
    "numpy": lambda program: Device.open("numpy", program),
    "native": native,
    "torch": torch,
    "isa": lambda program: Device.open("isa", program, board="tiny"),
    "board": board,
    "sim": lambda program: Device.open("sim", program, board="tiny", progress=False),
}
HERE = [name for name in PLACES if name != "sim"]


def text_of(place: str, file: Path) -> tuple[list[int], bytes, list[int]]:
    """Tokens up to the end, the session there, and how the text goes on behind it."""
    with PLACES[place](PROGRAM) as device, device.session(5) as session:
        found = list(session.tokens(PROMPT, 60, SAMPLING))
        assert session.ended and not session.new
        session.save(file)
        return found, session.snapshot(), list(session.tokens([1, 2], 5, SAMPLING))


def wanted() -> tuple[list[int], bytes]:
    """By NumPy: that many tokens of the program without an end, the last one chosen and not fed."""
    with Device.open("numpy", PLAIN) as device, device.session(5) as session:
        found = list(session.tokens(PROMPT, LAST + 1, SAMPLING))
        taken = Snapshot.from_bytes(session.snapshot(), PLAIN)
    assert (taken.pending, taken.fed) == (EOS, len(PROMPT) + LAST)
    return found, taken.to_bytes(PROGRAM)


@pytest.mark.parametrize("place", HERE)
def test_a_text_ends_at_the_same_token_and_state_everywhere(place: str, tmp_path: Path) -> None:
    found, snapshot, rest = text_of(place, tmp_path / "s")
    assert (found, snapshot) == wanted()
    assert found == WHOLE[: LAST + 1]
    with Device.open("numpy", PROGRAM) as device, device.session() as session:
        session.load(tmp_path / "s")
        assert (session.pending, session.fed, session.ended) == (EOS, len(PROMPT) + LAST, True)
        assert list(session.tokens([1, 2], 5, SAMPLING)) == rest


@pytest.mark.slow
def test_the_simulated_board_is_cut_where_the_text_ends(tmp_path: Path) -> None:
    """The complete RTL, whose sampler knows no end, runs past it."""
    found, snapshot, rest = text_of("sim", tmp_path / "s")
    assert (found, snapshot) == wanted()
    assert rest == text_of("numpy", tmp_path / "t")[2]


@pytest.mark.parametrize("place", HERE)
def test_an_end_that_is_ignored_is_a_token_like_any_other(place: str) -> None:
    with PLACES[place](PROGRAM) as device, device.session(5) as session:
        assert list(session.tokens(PROMPT, 60, SAMPLING, ignore_eos=True)) == WHOLE


@pytest.mark.parametrize("place", HERE)
def test_several_sessions_end_where_each_does_alone(place: str) -> None:
    """Also where they take turns on one slot of a board, token by token."""
    with PLACES[place](PROGRAM) as device:
        if place == "board":
            keep_slots(device.backend, 1)
        sessions = [device.session(seed) for seed in (5, 6, 7)]
        texts: list[list[int]] = [[], [], []]
        running = [(i, session.tokens(PROMPT, 40, SAMPLING)) for i, session in enumerate(sessions)]
        while running:
            for i, tokens in list(running):
                token = next(tokens, None)
                if token is None:
                    running.remove((i, tokens))
                else:
                    texts[i].append(token)
        for seed, text, session in zip((5, 6, 7), texts, sessions, strict=True):
            whole = numpy_tokens(PLAIN, PROMPT, 40, SAMPLING, seed)
            ends = [i for i, token in enumerate(whole) if token in PROGRAM.special.eos]
            assert text == whole[: ends[0] + 1 if ends else 40]
            with Device.open("numpy", PROGRAM) as numpy, numpy.session(seed) as same:
                list(same.tokens(PROMPT, len(text), SAMPLING))
                assert session.snapshot() == same.snapshot()
        assert len(texts[0]) == LAST + 1


def test_the_text_of_an_end_is_not_shown() -> None:
    with Device.open("numpy", PROGRAM) as device:
        sampling = {"temperature": 1.0, "seed": 3}
        with device.session() as session:
            whole = list(session.generate(bytes(PROMPT), 200, ignore_eos=True, **sampling))
        end = next(i for i, one in enumerate(whole) if one[0] in PROGRAM.special.eos)
        with device.session() as session:
            assert list(session.generate(bytes(PROMPT), 200, **sampling)) == whole[:end]
            assert session.ended
        with device.session() as session:
            text = "".join(session.generate(bytes(PROMPT).decode(), 200, **sampling))
            assert text == b"".join(whole[:end]).decode(errors="replace")


@pytest.mark.parametrize("place", ["numpy", "board"])
def test_texts_together_are_cut_where_each_ends(place: str) -> None:
    with PLACES[place](PROGRAM) as device:
        prompts = [bytes(PROMPT), b"x", b"yz"]
        found = device.generate_together(prompts, 60, temperature=1.0, seed=5)
        past = device.generate_together(prompts, 60, temperature=1.0, seed=5, ignore_eos=True)
        assert [len(text) for text in past] == [60] * 3
        for k, prompt in enumerate(prompts):
            with device.session(5 + k) as session:
                assert found[k] == b"".join(session.generate(prompt, 60, temperature=1.0))
        assert any(len(text) < 60 for text in found)


def test_a_prompt_that_begins_a_session_gets_its_token_in_front() -> None:
    program = ending(PLAIN, bos=1, add_bos=True)
    with Device.open("numpy", program) as device:
        with device.session(1) as session, device.session(1) as raw:
            said = list(session.generate(b"ab", 5))
            assert [bytes((token,)) for token in raw.tokens([1, *b"ab"], 5)] == said
            said = list(session.generate(b"cd", 5))  # no second one
            assert [bytes((token,)) for token in raw.tokens(b"cd", 5)] == said
        with device.session(1) as session, device.session(1) as raw:  # a new session needs no prompt
            assert list(session.generate(b"", 5)) == [bytes((token,)) for token in raw.tokens([1], 5)]
        (text,) = device.generate_together([b"ab"], 5)
        with device.session(1) as session:
            assert text == b"".join(session.generate(b"ab", 5))
    with Device.open("numpy", PLAIN) as device, device.session() as session:
        with pytest.raises(UsageError, match="prompt of a new session is empty"):
            session.generate(b"", 5)


def test_an_end_in_a_prompt_ends_nothing() -> None:
    with Device.open("numpy", PROGRAM) as device, device.session(5) as session:
        want = numpy_tokens(PLAIN, [*PROMPT, EOS], 8, SAMPLING, 5)
        ends = [i for i, token in enumerate(want) if token in PROGRAM.special.eos]
        found = list(session.tokens([*PROMPT, EOS], 8, SAMPLING))
        assert found == want[: ends[0] + 1 if ends else 8]


def test_a_board_that_worked_ahead_goes_back_to_the_end() -> None:
    """The check above is not empty: at the end the board has been fed more than the session has."""
    with board(PROGRAM) as device, device.session(5) as session:
        list(session.tokens(PROMPT, 60, SAMPLING))
        assert device.meter.steps > len(PROMPT) + LAST
        state = session.state
        with Device.open("numpy", PLAIN) as numpy:
            one = numpy.backend.open()
            numpy.backend.run(one, Run([*PROMPT, *WHOLE[:LAST]]))
            assert state.tolist() == numpy.backend.get_state(one).tolist()
