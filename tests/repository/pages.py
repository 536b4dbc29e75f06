"""What the pages tell a reader to type, and what the tests do with it.

A page is cut into chunks: fenced blocks, indented blocks and paragraphs. Commands stand in blocks without a
language, and as whole commands in sentences (`ternac explore MODEL`, in backquotes); Python in blocks of that
language; what a command prints in blocks of the language ``text``.

A comment in front of a chunk, which no reader sees, says what differs when the tests run it:

    <!-- run
    skip: REASON                           nothing of it is run
    skip `WORDS`: REASON                   the commands that contain these words are not run
    slow `WORDS`: REASON                   only the slow tests run them; likewise without words
    needs `PACKAGE`: WORDS                 commands with these words run where that package is installed
    replace `WORDS` with `OTHERS`: REASON  a smaller size, a file that is there
    before `COMMAND`                       run first: what the page takes for granted
    input `LINE`                           what is typed into a chat
    background                             the command serves until the page ends
    prints `WORDS`                         the sentence's number: the command prints it
    -->

``python -m tests.repository.pages`` lists all that is not run, and why.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JOURNAL = ROOT / "docs" / "journal"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent != JOURNAL),  # kept as written
    *sorted((ROOT / "model" / "zoo").glob("*/*.md")),
]

PROGRAMS = ("ternac", "make", "git", "pip", "python", "torchrun", "lm_eval", "pre-commit")
SHELL = (".", "cd", "mkdir", "cp", "source")
"""What the first word of a command may be."""

PLACEHOLDERS = {"MODEL", "DIR", "FILE", "NAME", "PORT", "TASK", "TEXT", "URL", "VERB"}
"""Words of a synopsis: the reader puts something in their place."""

RULES = (
    (r"(make (?!demo)|git clone|pre-commit|(\.venv/bin/)?python -m tests\.)", "works in a checkout only"),
    (r"pip install ternac\[", "the tests' environment holds every extra"),
    (r"(.* )?(/dev/tty|serial:)|(\.venv/bin/)?ternac flash", "needs a board"),
    (r".*eltec-eng", "needs novels that are not in the repository"),
    (r".*(--device gpu|--executors \S*,gpu|bench gpu)(?![:\w])", "needs a GPU"),
)
"""Commands that no test can run on any machine, by how they begin, and why."""


class MarkError(ValueError):
    """A comment for the tests that is not understood, or that fits nothing on the page."""


@dataclass(frozen=True)
class Mark:
    """One line of a comment: what it does, to which words, with which others, and why."""

    verb: str
    words: str = ""
    others: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Step:
    """One command of a page, or one block of Python.

    ``run`` is what the tests run: ``text`` but for what a mark replaces or types in; ``why_not`` says why
    they do not, or is empty.
    ``prints`` is what its output must hold, line by line; ``needs`` a package without which it is not run.
    """

    line: int
    text: str
    run: str
    python: bool = False
    why_not: str = ""
    slow: bool = False
    background: bool = False
    prints: tuple[str, ...] = ()
    needs: str = ""


@dataclass
class Chunk:
    """A block (``language`` may be empty) or a paragraph (None), and the marks in front of it."""

    line: int
    language: str | None
    text: str = ""
    marks: list[Mark] = field(default_factory=list)


MARK = re.compile(
    r"(?P<verb>skip|slow|needs|replace|before|input|background|prints)(?: `(?P<words>[^`]+)`)?"
    r"(?: with `(?P<others>[^`]*)`)?(?:: (?P<reason>.+))?"
)


def marks_of(lines: list[str]) -> list[Mark]:
    """Parse the lines of one comment.

    Raises MarkError if a line is none of the forms above.
    """
    found = []
    for line in filter(None, (line.strip() for line in lines)):
        match = MARK.fullmatch(line)
        if match is None:
            raise MarkError(f"not a mark: {line!r}")
        mark = Mark(**{name: value or "" for name, value in match.groupdict().items()})
        needs_words = mark.verb in ("replace", "before", "input", "prints", "needs")
        needs_reason = mark.verb in ("skip", "slow", "replace", "needs")
        if (needs_words and not mark.words) or (needs_reason and not mark.reason):
            raise MarkError(f"{mark.verb} lacks its words or its reason: {line!r}")
        found.append(mark)
    return found


def chunks(text: str) -> list[Chunk]:
    """Cut a page into chunks, each with the marks in front of it.

    Raises MarkError if nothing follows a mark.
    """
    found: list[Chunk] = []
    waiting: list[Mark] = []
    lines = text.split("\n")
    at = 0

    def until(end: str) -> list[str]:
        nonlocal at
        begin = at
        while at < len(lines) and not re.fullmatch(end, lines[at]):
            at += 1
        return lines[begin:at]

    while at < len(lines):
        line, number = lines[at], at + 1
        if line == "<!-- run":
            at += 1
            waiting += marks_of(until("-->"))
            at += 1
            continue
        if not line.strip():
            at += 1
            continue
        if line.startswith("```"):
            at += 1
            chunk = Chunk(number + 1, line[3:].strip(), "\n".join(until("```")))
            at += 1
        elif line.startswith("    "):
            chunk = Chunk(
                number, "indented", "\n".join(line[4:] for line in until(r"(?! {4}).*\S.*")).rstrip()
            )
        else:
            chunk = Chunk(number, None, "\n".join(until(r"\s*|```.*|<!-- run")))
        chunk.marks, waiting = waiting, []
        found.append(chunk)
    if waiting:
        raise MarkError("a mark at the end of the page")
    return found


def is_command(line: str) -> bool:
    """True if a line begins as a command does."""
    first = line.split(maxsplit=1)[0]
    return first in SHELL or first.removeprefix(".venv/bin/") in PROGRAMS


def commands_of(chunk: Chunk) -> list[tuple[int, str]]:
    """Line numbers and commands of a block or paragraph.

    Raises MarkError if a block without a language, or an indented one that begins with a command, holds more.
    """
    if chunk.language is None:
        whole = re.sub(r"<!--.*?-->", "", " ".join(chunk.text.split()))
        return [
            (chunk.line, command)
            for command in re.findall(r"`(ternac [a-z][\w-]* [^`\[|]*?)`", whole)
            if not re.fullmatch(r"ternac bench \w+", command)  # names the verb
        ]
    if chunk.language not in ("", "sh", "bash", "indented"):
        return []
    found, number = [], chunk.line
    for line in re.sub(r"\\\n\s*", "\0", chunk.text).split("\n"):  # a NUL keeps the count of lines
        if line.strip() and not line.startswith("#"):
            found.append((number, line.replace("\0", "")))
        number += 1 + line.count("\0")
    if chunk.language == "indented" and not is_command(found[0][1]):
        if re.match(r"(from|import|with) ", found[0][1]):
            raise MarkError(f"line {chunk.line} is Python: put it into a block of that language")
        return []
    for number, line in found:
        if not is_command(line):
            raise MarkError(f"line {number} is no command; if the block is none, name its language: {line!r}")
    return found


def why_not(command: str) -> str:
    """Why no test runs a command, whatever page it is on; empty if nothing speaks against it."""
    words = shlex.split(command, comments=True)
    if any(word.partition(".")[0] in PLACEHOLDERS for word in words):
        return "a synopsis: the reader fills in a word"
    plain = " ".join(words)
    return next((reason for pattern, reason in RULES if re.match(pattern, plain)), "")


def steps(page: Path) -> list[Step]:
    """The commands of a page and its blocks of Python, in their order.

    Raises MarkError, with the page's name, if a mark is wrong or fits nothing.
    """
    try:
        return steps_of(page.read_text())
    except MarkError as error:
        raise MarkError(f"{page.relative_to(ROOT)}: {error}") from None


def steps_of(text: str) -> list[Step]:
    """The commands of a page's text and its blocks of Python, in their order.

    Raises MarkError if a mark is wrong or fits nothing.
    """
    found: list[Step] = []
    for chunk in chunks(text):
        if chunk.language == "text" and found:
            if not any(mark.verb == "skip" for mark in chunk.marks):
                at = max((at for at, step in enumerate(found) if not step.why_not), default=None)
                if at is None:
                    raise MarkError(
                        f"line {chunk.line} shows what a command prints, and none before it is run"
                    )
                found[at] = replace(found[at], prints=(*found[at].prints, *chunk.text.split("\n")))
            continue
        for mark in chunk.marks:
            words = mark.reason if mark.verb == "needs" else mark.words
            if mark.verb not in ("before", "input") and words not in chunk.text:
                raise MarkError(f"nothing at line {chunk.line} has the mark's words {words!r}")
            if mark.verb == "before":
                found.append(Step(chunk.line, mark.words, mark.words))
        if chunk.language == "python":
            here = [Step(chunk.line, chunk.text, chunk.text, python=True)]
        else:
            here = [Step(line, text, text, why_not=why_not(text)) for line, text in commands_of(chunk)]
        if chunk.marks and not here:
            raise MarkError(f"a mark, and no command at line {chunk.line}")
        found += [marked(step, chunk.marks) for step in here]
    return found


def marked(step: Step, marks: list[Mark]) -> Step:
    """Return a step as its chunk's marks want it run."""
    for mark in marks:
        if mark.verb in ("skip", "slow", "replace", "background") and mark.words not in step.text:
            continue
        if mark.verb == "skip":
            step = replace(step, why_not=step.why_not or mark.reason)
        elif mark.verb == "slow":
            step = replace(step, slow=True)
        elif mark.verb == "replace":
            step = replace(step, run=step.run.replace(mark.words, mark.others))
        elif mark.verb == "input" and "chat" in step.text:
            step = replace(step, run=f"{step.run.split(' #')[0]} <<< {shlex.quote(mark.words)}")
        elif mark.verb == "needs" and mark.reason in step.text:
            step = replace(step, needs=mark.words)
        elif mark.verb == "background":
            step = replace(step, background=True)
        elif mark.verb == "prints":
            step = replace(step, prints=(*step.prints, mark.words))
    return step


def left_out() -> list[tuple[str, Step]]:
    """Every step that no test runs, with the page's path."""
    found = [(page.relative_to(ROOT).as_posix(), step) for page in PAGES for step in steps(page)]
    return [(page, step) for page, step in found if step.why_not]


def main() -> int:
    """Print what is not run, by reason."""
    out = left_out()
    count = sum(len(steps(page)) for page in PAGES)
    sys.stdout.write(
        f"{count - len(out)} of {count} commands and snippets of {len(PAGES)} pages are run; not run:\n"
    )
    for reason in dict.fromkeys(step.why_not for _, step in out):
        sys.stdout.write(f"\n{reason}\n")
        for page, step in out:
            if step.why_not == reason:
                sys.stdout.write(f"  {page}:{step.line}  {step.text.splitlines()[0]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
