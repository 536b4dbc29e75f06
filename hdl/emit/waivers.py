"""The lint warnings that emitted Verilog has for good, each with its reason: a control file for Verilator."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["REASONS", "Reason", "Waiver", "count", "control_file", "waivers"]


@dataclass(frozen=True)
class Reason:
    """Why a reviewer lets warnings of a rule pass; ``key`` names it in ``--json``."""

    key: str
    rule: str
    text: str


ONE_FILE = Reason(
    "one_file",
    "DECLFILENAME",
    "All modules of the design are in one file, named after the top module.",
)
PARTS = Reason(
    "unread_bits",
    "UNUSEDSIGNAL",
    "A record, a memory's word or a sum is wired whole, and its reader takes some of its bits: fields "
    "of another unit, carries that cannot occur, digits that rounding drops. Which: the geometry decides.",
)
RESULTS = Reason(
    "unread_outputs",
    "UNUSEDSIGNAL",
    "The output of an instance that this place does not need; the same module is used elsewhere.",
)
PORTS = Reason(
    "unread_ports",
    "UNUSEDSIGNAL",
    "An input that a bus or a record prescribes and that this geometry does not read, or the wire on an "
    "output of an instance that it does not read.",
)
LOOPS = Reason(
    "false_loops",
    "UNOPTFLAT",
    "Older Verilators (5.006) take bits of a word that feed other bits of it for a loop; it costs them "
    "speed. There is none: yosys' check, which every emission passes, finds loops bit by bit.",
)
REASONS = (ONE_FILE, PARTS, RESULTS, PORTS, LOOPS)


@dataclass(frozen=True)
class Waiver:
    """Warnings of a rule whose text matches ``match``, a pattern with ``*``."""

    reason: Reason
    match: str


def waivers(unread: Sequence[str]) -> list[Waiver]:
    """Return the waivers of a design; ``unread`` as in `ternac.hdl.emit.verilog.Emitted`."""
    return [
        Waiver(ONE_FILE, "Filename * does not match MODULE name*"),
        Waiver(PARTS, "Bits of signal are not used*"),
        Waiver(PARTS, "Bits of signal are not driven, nor used*"),
        Waiver(RESULTS, "Signal is not used: '_*_'*"),
        Waiver(LOOPS, "Signal unoptimizable: Circular combinational logic*"),
        *(Waiver(PORTS, f"Signal is not used: '{name}'*") for name in unread),
    ]


def control_file(source: str, found: Sequence[Waiver]) -> str:
    """Return the text of a ``.vlt`` file that waives ``found`` in the file ``source``."""
    lines = ["`verilator_config", "// Everything else that -Wall says is an error."]
    for reason in REASONS:
        lines += ["", *(f"// {line}" for line in _wrapped(reason.text))]
        lines += [
            f'lint_off -rule {each.reason.rule} -file "*{source}" -match "{each.match}"'
            for each in found
            if each.reason is reason
        ]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, width: int = 110) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


_WARNING = re.compile(r"^%Warning-(\w+): [^:]*:\d+:\d+: (.*)$", re.M)


def count(log: str, found: Iterable[Waiver]) -> tuple[dict[str, int], list[str]]:
    """Return the warnings of a Verilator log by reason, and those for which there is none."""
    numbers = {reason.key: 0 for reason in REASONS}
    beyond = []
    rules = list(found)
    for rule, text in _WARNING.findall(log):
        for each in rules:
            if each.reason.rule == rule and fnmatch.fnmatchcase(text, each.match):
                numbers[each.reason.key] += 1
                break
        else:
            beyond.append(f"{rule}: {text}")
    return numbers, beyond
