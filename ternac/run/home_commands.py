"""Spoken commands for a house, made up, each with its structured answer: the task of the model ``commands``.

A line is ``please turn the kitchen light to green => light kitchen green``: rooms, devices and values by
several names, numbers and times in digits or words, polite words, remarks that mention rooms and colors,
negations and corrections. An answer has the parts device, room, value, and perhaps a time. Some pairs of room
and action, an eighth by a hash, are held out: no training line has one as its answer, or takes one back.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ternac.files import make_folder, write_bytes

__all__ = ["ACTIONS", "ARROW", "ROOMS", "SIZES", "Commands", "Kind", "Line", "held_out", "lines_of", "make"]

ARROW = " =>"
"""Between what is said and the answer; a model is asked with all up to here."""
ROOMS = {
    "kitchen": ("kitchen",),
    "lounge": ("lounge", "living room"),
    "bedroom": ("bedroom", "main bedroom"),
    "bathroom": ("bathroom", "bath"),
    "hall": ("hall", "hallway", "corridor"),
    "office": ("office", "study"),
    "garage": ("garage",),
    "garden": ("garden", "yard"),
    "nursery": ("nursery", "kids room"),
    "attic": ("attic", "loft"),
}
"""Rooms, and how they are called."""
COLORS = ("red", "green", "blue", "white", "yellow", "orange", "purple", "pink")
MUSIC = ("jazz", "rock", "folk", "blues", "soul", "techno", "pop", "classical")
THINGS = {
    "light": ("light", "lamp", "lights"),
    "blind": ("blind", "blinds", "shutter"),
    "heat": ("heating", "radiator", "thermostat"),
    "fan": ("fan", "ventilator"),
    "music": ("music", "speaker", "stereo"),
}
"""Devices, and how they are called."""


@dataclass(frozen=True)
class Kind:
    """What can be done with a device: values, how each is said (number: in digits or words), and in which
    words; ``{it}`` is the device and perhaps its room.
    """

    device: str
    values: dict[str, tuple[str, ...] | int]
    phrases: tuple[str, ...]
    unit: str = ""


def _numbers(form: str, numbers: range) -> dict[str, tuple[str, ...] | int]:
    return {form.format(number): number for number in numbers}


def _words(*values: str) -> dict[str, tuple[str, ...] | int]:
    return {value: (value,) for value in values}


_TO = ("set {it} to {v}", "put {it} on {v}", "bring {it} to {v}", "{it} at {v}", "i want {v} for {it}")
ACTIONS = (
    Kind(
        "light",
        _words("on", "off"),
        (
            "turn {it} {v}",
            "switch {it} {v}",
            "{it} {v}",
            "turn {v} {it}",
            "switch {v} {it}",
            "i want {it} {v}",
        ),
    ),
    Kind(
        "light",
        _words(*COLORS),
        ("turn {it} {v}", "turn {it} to {v}", "make {it} {v}", "change {it} to {v}", "{v} for {it}", *_TO),
    ),
    Kind("light", _numbers("{}%", range(5, 101, 5)), ("dim {it} to {v}", "{v} for {it}", *_TO), " percent"),
    Kind(
        "heat",
        _numbers("{}", range(10, 31)),
        ("turn {it} up to {v}", "turn {it} down to {v}", "make it {v}", "heat to {v}", *_TO),
        " degrees",
    ),
    Kind(
        "blind",
        {"open": ("open", "raise", "pull up"), "closed": ("close", "shut", "pull down")},
        ("{v} {it}",),
    ),
    Kind(
        "blind",
        _numbers("{}%", range(10, 100, 10)),
        ("lower {it} to {v}", "raise {it} to {v}", *_TO),
        " percent",
    ),
    Kind(
        "fan", _words("off", "low", "medium", "high"), ("turn {it} {v}", "turn {it} to {v}", "{it} {v}", *_TO)
    ),
    Kind(
        "music",
        _words(*MUSIC),
        ("play {v}", "play some {v}", "put on {v}", "i want to hear {v}", "let us hear some {v}"),
    ),
    Kind("music", _words("off"), ("turn {it} {v}", "switch {it} {v}", "turn {v} {it}", "{it} {v}")),
    Kind(
        "music",
        _numbers("volume {}", range(1, 11)),
        ("volume {v}", "turn the volume to {v}", "{it} at volume {v}", "set {it} to volume {v}"),
    ),
)
HELD_OUT = 8
"""One of so many pairs of room and action is held out."""
SIZES = {"train": 400_000, "held-out": 4_000, "seen": 4_000}
"""Lines of the files: to train on, with held-out pairs, and with pairs that the first has."""

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred".split()
PARTS = (
    ("at night", 0, 5),
    ("in the morning", 5, 12),
    ("in the afternoon", 12, 18),
    ("in the evening", 18, 24),
)
"""Parts of a day: the hours from and before which."""

BEFORE = (
    "", "", "", "", "please ", "please ", "could you ", "can you ", "would you ", "can you please ",
    "hey house ", "ok house ", "um ", "now ", "i want you to ", "i would like you to ", "go and ",
    "be so kind and ",
)  # fmt: skip
AFTER = ("", "", "", "", "", " please", " thanks", " thank you", " if you can", " for me", " will you")
BUT = (" no ", " no wait ", " sorry ", " i mean ", " no i mean ", " or rather ", " no make that ")
"""What takes back what was said last."""
CALLED_OFF = (" no forget it", " never mind", " no do nothing", " oh leave it", " forget that")
ASIDES = (
    "it is dark in the {room} and ",
    "the kids are in the {room} so ",
    "i am in the {room} now ",
    "my sister likes {color} but ",
    "there is {color} paint in the {room} so ",
    "we come home at {time} and ",
    "i do not like {music} today ",
    "it has {number} degrees outside so ",
    "do not touch the {room} {thing} but ",
    "leave the {room} {thing} as it is and ",
    "not the {thing} in the {room} this time ",
    "never mind the {thing} in the {room} but ",
    "forget the {room} {thing} ",
)
"""What is said before a command and changes nothing."""
TIMERS = ("set a timer for {}", "timer {}", "count down {}", "wake me in {}", "a timer of {}")
ALARMS = ("set an alarm for {}", "alarm at {}", "wake me at {}", "wake me up at {}", "ring at {}")


def held_out(room: str, device: str, value: str) -> bool:
    """Return whether a pair of room and action must not be in a training text."""
    return zlib.crc32(f"{room} {device} {value}".encode()) % HELD_OUT == 0


@dataclass(frozen=True)
class Line:
    """What is said, and the answer."""

    said: str
    answer: str

    @property
    def text(self) -> str:
        """Return the line as it stands in a file."""
        return f"{self.said}{ARROW} {self.answer}\n"


class Commands:
    """Draws lines; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def lines(self, count: int, *, new: bool) -> Iterator[Line]:
        """Yield lines: all with a held-out pair of room and action (``new``), or all without."""
        for _ in range(count):
            yield self._room_line(new) if new or self._random.random() < 0.94 else self._clock_line()

    def _pick(self, choices: Sequence[str]) -> str:
        return self._random.choice(choices)

    def _chance(self, part: float) -> bool:
        return self._random.random() < part

    def _polite(self, said: str) -> str:
        return self._pick(BEFORE) + said + self._pick(AFTER)

    def _room_line(self, new: bool) -> Line:
        """What to do in a room: kinds equally often, however many values they have."""
        while True:
            kind, room = self._random.choice(ACTIONS), self._pick(list(ROOMS))
            value = self._pick(list(kind.values))
            if held_out(room, kind.device, value) == new:
                break
        answer, said = f"{kind.device} {room} {value}", self._order(kind, room, value, new)
        if self._chance(0.3):
            when, spoken = self._when()
            answer += f" {when}"
            if self._chance(0.2):
                spoken = f"{self._when()[1]}{self._pick(BUT)}{spoken}"
            said = f"{spoken} {said}" if self._chance(0.4) else f"{said} {spoken}"
        if not new and self._chance(0.03):
            said, answer = said + self._pick(CALLED_OFF), "nothing"
        aside = self._aside(kind, room, value) if self._chance(0.3) else ""
        return Line(aside + self._polite(said), answer)

    def _clock_line(self) -> Line:
        """A timer or an alarm: without a room."""
        timer = self._chance(0.5)
        answer, spoken = self._delay() if timer else self._time()
        said = self._pick(TIMERS if timer else ALARMS).format(spoken)
        return Line(self._polite(said), f"{'timer' if timer else 'alarm'} {answer}")

    def _aside(self, kind: Kind, room: str, value: str) -> str:
        return self._pick(ASIDES).format(
            room=self._pick(ROOMS[self._other_room(kind, room, value, False)]),
            thing=self._pick(THINGS[self._pick(list(THINGS))]),
            color=self._pick(COLORS),
            music=self._pick(MUSIC),
            number=self._number(self._random.randint(1, 35)),
            time=self._time()[1],
        )

    def _order(self, kind: Kind, room: str, value: str, new: bool) -> str:
        """Say what to do; sometimes another value or another room first, which is then corrected."""
        roll = self._random.random()
        there = f"in the {self._pick(ROOMS[room])}"
        others = [v for v in kind.values if v != value and (new or not held_out(room, kind.device, v))]
        if roll < 0.15 and others:
            phrases = [phrase for phrase in kind.phrases if phrase.endswith("{v}")]
            spoken = self._value(kind, value)
            if not phrases:
                phrases, spoken = list(kind.phrases), f"{spoken} it"
            start = self._phrase(kind, room, self._pick(others), phrases)
            return f"{start}{self._pick(BUT)}{spoken}"
        if roll < 0.36:
            wrong = self._pick(ROOMS[self._other_room(kind, room, value, new)])
            bare = self._bare(kind, value, kind.phrases)
            if roll < 0.21:
                return f"{bare} not in the {wrong} but {there}"
            return f"{bare} in the {wrong}{self._pick(BUT)}{there if self._chance(0.5) else there[3:]}"
        return self._phrase(kind, room, value, kind.phrases)

    def _phrase(self, kind: Kind, room: str, value: str, phrases: Sequence[str]) -> str:
        """Say one thing to do in one room; the value is last if the phrase ends in it."""
        phrase, spoken = self._pick(phrases), self._value(kind, value)
        called, thing = self._pick(ROOMS[room]), self._pick(THINGS[kind.device])
        if "{it}" not in phrase:
            start = self._chance(0.5) or phrases != kind.phrases
            said = phrase.format(v=spoken)
            return f"in the {called} {said}" if start else f"{said} in the {called}"
        return phrase.format(
            it=self._pick((f"the {called} {thing}", f"the {thing} in the {called}")), v=spoken
        )

    def _bare(self, kind: Kind, value: str, phrases: Sequence[str]) -> str:
        """Say what to do, but not where."""
        thing = f"the {self._pick(THINGS[kind.device])}"
        return self._pick(phrases).format(it=thing, v=self._value(kind, value))

    def _other_room(self, kind: Kind, room: str, value: str, new: bool) -> str:
        fits = [r for r in ROOMS if r != room and (new or not held_out(r, kind.device, value))]
        return self._pick(fits)

    def _value(self, kind: Kind, value: str) -> str:
        spoken = kind.values[value]
        return self._number(spoken) + kind.unit if isinstance(spoken, int) else self._pick(spoken)

    def _number(self, number: int) -> str:
        if self._chance(0.4):
            return str(number)
        if number < len(UNITS):
            return UNITS[number]
        if number == 100:
            return "a hundred"
        tens, units = divmod(number, 10)
        return f"{TENS[tens - 2]} {UNITS[units]}" if units else TENS[tens - 2]

    def _when(self) -> tuple[str, str]:
        """Draw a time or a delay: in the answer, and as it is said."""
        if self._chance(0.6):
            answer, spoken = self._time()
            return f"at {answer}", f"at {spoken}"
        answer, spoken = self._delay()
        return f"in {answer}", f"in {spoken}"

    def _delay(self) -> tuple[str, str]:
        if self._chance(0.15):
            return self._random.choice(
                (("30 min", "half an hour"), ("1 h", "an hour"), ("1 min", "a minute"))
            )
        number = self._random.randint(2, 60)
        if self._chance(0.2) and number <= 12:
            return f"{number} h", f"{self._number(number)} hours"
        return f"{number} min", f"{self._number(number)} minutes"

    def _time(self) -> tuple[str, str]:
        """Draw a time of day in steps of five minutes: ``07:30``, and as it is said."""
        hour, minute = (
            self._random.randrange(24),
            self._random.choice((0, 0, 0, 15, 30, 30, 45, *range(5, 60, 5))),
        )
        return f"{hour:02}:{minute:02}", self._spoken_time(hour, minute)

    def _spoken_time(self, hour: int, minute: int) -> str:
        if (hour, minute) in ((0, 0), (12, 0)) and self._chance(0.5):
            return "noon" if hour else "midnight"
        if self._chance(0.35):
            return f"{hour}:{minute:02}" if self._chance(0.5) else f"{hour:02}:{minute:02}"
        part = next(name for name, first, end in PARTS if first <= hour < end)
        if self._chance(0.4):
            part = "am" if hour < 12 else "pm"
            spoken = UNITS[(hour - 1) % 12 + 1] + ("" if not minute else f" {self._minutes(minute)}")
            return f"{spoken} {part}"
        if not minute:
            spoken = UNITS[(hour - 1) % 12 + 1] + self._pick(("", " o'clock"))
        elif minute <= 30:
            past = "half" if minute == 30 else "quarter" if minute == 15 else self._minutes(minute)
            spoken = f"{past} past {UNITS[(hour - 1) % 12 + 1]}"
        else:
            to = "quarter" if minute == 45 else self._minutes(60 - minute)
            spoken = f"{to} to {UNITS[hour % 12 + 1]}"
        return f"{spoken} {part}"

    def _minutes(self, minute: int) -> str:
        tens, units = divmod(minute, 10)
        if minute < 20:
            return UNITS[minute]
        return f"{TENS[tens - 2]} {UNITS[units]}" if units else TENS[tens - 2]


def lines_of(name: str, count: int | None = None, seed: int = 1) -> list[Line]:
    """Return the first ``count`` lines of a file of `SIZES` (None: as many as it says)."""
    drawn = Commands(100 * seed + list(SIZES).index(name))
    return list(drawn.lines(SIZES[name] if count is None else count, new=name == "held-out"))


def make(folder: Path, seed: int = 1, scale: float = 1.0) -> dict[str, int]:
    """Write a file of lines for each of `SIZES`, ``scale`` times as many as it says; returns how many."""
    make_folder(folder)
    counts = {name: max(1, int(scale * count)) for name, count in SIZES.items()}
    for name, count in counts.items():
        write_bytes(
            folder / f"{name}.txt", "".join(line.text for line in lines_of(name, count, seed)).encode()
        )
    return counts
