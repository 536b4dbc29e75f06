"""The line under load: frames of every length with every byte value, both ways, and what got lost of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ternac.compile.geometry import Mem
from ternac.host.board.check.report import Section
from ternac.host.board.client import LinkClient
from ternac.link import (
    CRC_BYTES,
    END,
    ESC,
    ESC_END,
    ESC_ESC,
    FRAME_BYTES,
    HEAD_BYTES,
    MAX_WORDS,
    MAX_WRITE_BYTES,
    Command,
)

__all__ = ["HELLO_BYTES", "check_line", "count_line"]

HELLO_BYTES = FRAME_BYTES - HEAD_BYTES - CRC_BYTES
"""Most payload of a HELLO, which ignores it."""
SLOW = 0.3
"""Share of the line's rate below which its adapter is to be looked at."""
LATENCY_HINT = (
    "an FTDI adapter waits up to 16 ms before it hands over a short answer: "
    "echo 1 | sudo tee /sys/bus/usb-serial/devices/ttyUSB0/latency_timer"
)
LOST_HINT = "another cable or USB port, no hub; then the loopback bitstream: ternac build --loopback"


def payloads(length: int) -> list[bytes]:
    """Return payloads of ``length`` bytes: all values in turn, only bytes that are stuffed, random ones."""
    rng = np.random.default_rng(length)
    every = bytes((length * 7 + i) & 0xFF for i in range(length))
    stuffed = bytes((END, ESC, ESC_END, ESC_ESC)[(i * 3 + length) % 4] for i in range(length))
    return [every, stuffed, rng.integers(0, 256, length, np.uint8).tobytes()]


def check_line(
    section: Section, client: LinkClient, words: int, update: Callable[[int], None] = lambda done: None
) -> None:
    """Send HELLOs with payloads of every length; write and read BANK words of column 0, in every number.

    ``words``: how many there are. A frame that the board drops, or whose answer is damaged, is sent again by
    the client; here each of these is a mismatch.
    """
    reads = min(words, MAX_WORDS)
    writes = min(words, MAX_WRITE_BYTES // 2)
    done, moved, began = 0, client.bytes_sent + client.bytes_received, time.monotonic()
    for length in range(HELLO_BYTES + 1):
        for payload in payloads(length):
            client.request(Command.HELLO, payload)
        done += 1
        update(done)
    for count in range(1, reads + 1):
        data = np.frombuffer(b"".join(payloads(2 * count)), "<u2").astype(np.uint32)
        for turn in range(3):
            sent = data[turn * count : (turn + 1) * count]
            for at in range(0, count, writes):
                client.write(Mem.BANK, 0, at, sent[at : at + writes], 2)
            got = client.read(0, 0, count)
            wrong = np.flatnonzero(got != sent)
            if len(wrong):
                at = int(wrong[0])
                section.fail(
                    f"line: {count} words written and read back: word {at} is {got[at]:#06x}, not "
                    f"{sent[at]:#06x} ({len(wrong)} differ), with no frame damaged",
                    "the memory behind the line: look at the section banks",
                    words=count, address=at, expected=int(sent[at]), found=int(got[at]),
                )  # fmt: skip
        done += 1
        update(done)
    seconds = time.monotonic() - began
    moved = client.bytes_sent + client.bytes_received - moved
    section.figure("bytes on the line", moved, "bytes", "counted by the host")
    section.figure("throughput, a request at a time", round(moved / seconds), "bytes/s")
    if byte_seconds := client.transport.byte_seconds:
        share = moved * byte_seconds / seconds
        section.figure("share of the line's rate", round(share, 3))
        section.figure("line's rate", round(10 / byte_seconds), "baud", "what the port was opened with")
        if share < SLOW:
            section.note(f"the line is slow, {share:.0%} of its rate: {LATENCY_HINT}")
    count_line(section, client)


def steps_of(words: int) -> int:
    """Return how often `check_line` reports progress."""
    return HELLO_BYTES + 1 + min(words, MAX_WORDS)


def count_line(section: Section, client: LinkClient, before: tuple[int, int, int] = (0, 0, 0)) -> None:
    """Add the line's counters since ``before`` (`counters`), and a mismatch if anything was lost.

    The engine's link keeps no counters: a frame that it drops is one without an answer.
    """
    requests, resent, damaged = (now - then for now, then in zip(counters(client), before, strict=True))
    section.figure("requests", requests, "", "counted by the host")
    section.figure("requests sent again", resent, "", "counted by the host")
    section.figure("damaged frames received", damaged, "", "counted by the host")
    if resent or damaged:
        unanswered = max(resent - damaged, 0)
        section.fail(
            f"line: of {requests} requests {resent} had to be sent again: {damaged} answers failed their "
            f"check, {unanswered} requests had no answer",
            LOST_HINT,
            requests=requests, resent=resent, damaged=damaged, unanswered=unanswered,
        )  # fmt: skip


def counters(client: LinkClient) -> tuple[int, int, int]:
    """Return requests, those sent again, and damaged frames received so far."""
    return client.requests, client.resent, client.damaged
