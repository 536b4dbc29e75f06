"""Lines of the task: what is held out stays out, and what is said means the answer."""

from __future__ import annotations

import re
from pathlib import Path

from ternac.run.home_commands import ACTIONS, ROOMS, SIZES, Commands, Line, held_out, lines_of, make

PAIRS = {(kind.device, room, value) for kind in ACTIONS for room in ROOMS for value in kind.values}
WHEN = r"( at \d\d:\d\d| in \d+ (min|h))?"
HOURS = "twelve one two three four five six seven eight nine ten eleven".split()
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
NUMBERS = [*HOURS[1:], *"twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()]


def pair_of(answer: str) -> tuple[str, str, str] | None:
    """Return device, room and value of an answer in a room, None of others. Fails for anything else."""
    if answer == "nothing" or re.fullmatch(r"timer \d+ (min|h)|alarm \d\d:\d\d", answer):
        return None
    found = re.fullmatch(rf"(\w+) (\w+) (.+?){WHEN}", answer)
    assert found, answer
    device, room, value = found[1], found[2], found[3]
    assert (device, room, value) in PAIRS, answer
    return device, room, value


def leaks(lines: list[Line]) -> list[str]:
    """Return the answers with a pair that is held out."""
    pairs = [(pair_of(line.answer), line.answer) for line in lines]
    return [answer for pair, answer in pairs if pair and held_out(pair[1], pair[0], pair[2])]


def minutes_of(spoken: str) -> int:
    """Return the minute of the day that a time of day means, read in another way than it was made."""
    if spoken in ("noon", "midnight"):
        return 720 * (spoken == "noon")
    if clock := re.fullmatch(r"(\d+):(\d\d)", spoken):
        return 60 * int(clock[1]) + int(clock[2])
    words = spoken.split()
    late = words[-1] in ("pm", "afternoon", "evening")
    words = words[:-1] if words[-1] in ("am", "pm") else words[: -2 if words[-2] == "at" else -3]
    small = {"half": 30, "quarter": 15, **TENS, **{word: at for at, word in enumerate(NUMBERS, 1)}}
    if "past" in words or "to" in words:
        way = 1 if "past" in words else -1
        minutes = way * sum(small[word] for word in words[:-2])
        hour = HOURS.index(words[-1])
    else:
        hour = HOURS.index(words[0])
        minutes = sum(small[word] for word in words[1:] if word != "o'clock")
    return (60 * hour + minutes) % 720 + 720 * late


def test_lines_are_those_of_the_seed() -> None:
    assert lines_of("train", 50) == lines_of("train", 60)[:50] != lines_of("seen", 50)
    assert lines_of("train", 50) != lines_of("train", 50, seed=2)


def test_what_is_held_out_is_in_no_training_line_and_in_every_test_line() -> None:
    assert leaks(lines_of("train", 20_000)) == leaks(lines_of("seen", 2000)) == []
    new = lines_of("held-out", 2000)
    assert len(leaks(new)) == len(new)
    part = sum(held_out(room, device, value) for device, room, value in PAIRS) / len(PAIRS)
    assert 0.08 < part < 0.16
    assert leaks([*lines_of("train", 5), new[0]]) == [new[0].answer]


def test_every_pair_that_is_not_held_out_occurs_and_so_does_every_way_to_say_it() -> None:
    lines = lines_of("train", 40_000)
    found = {pair_of(line.answer) for line in lines} - {None}
    assert found == {pair for pair in PAIRS if not held_out(pair[1], pair[0], pair[2])}
    said = " ".join(line.said for line in lines)
    for names in ROOMS.values():
        assert all(f" {name}" in said for name in names)
    assert {"nothing"} < {line.answer for line in lines}


def test_times_mean_what_is_said() -> None:
    lines = [line for line in lines_of("train", 30_000) if line.answer.startswith("alarm")]
    assert len(lines) > 500
    start = r".*?(?:alarm for|alarm at|wake me at|wake me up at|ring at) (.*?)"
    ends = r"(?: please| thanks| thank you| if you can| for me| will you)?"
    for line in lines:
        spoken = re.fullmatch(start + ends, line.said)
        assert spoken, line.said
        hour, minute = divmod(minutes_of(spoken[1]), 60)
        assert line.answer == f"alarm {hour:02}:{minute:02}", line.said
    assert (
        minutes_of("quarter to twelve in the evening") == 23 * 60 + 45 != minutes_of("quarter past twelve pm")
    )


def test_the_files_have_the_lines(tmp_path: Path) -> None:
    counts = make(tmp_path / "text", scale=0.001)
    assert counts == {name: count // 1000 for name, count in SIZES.items()}
    for name, count in counts.items():
        assert (tmp_path / "text" / f"{name}.txt").read_text() == "".join(
            line.text for line in lines_of(name, count)
        )
    line = next(iter(Commands(5).lines(1, new=False)))
    assert line.text == f"{line.said} => {line.answer}\n"
