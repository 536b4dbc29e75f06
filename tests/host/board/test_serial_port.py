"""A serial port belongs to one program: a second one is refused, and told who has it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tty
from collections.abc import Iterator

import pytest

from ternac.errors import NoAnswer
from ternac.host.board.transport import SerialTransport

HOLD = """
import sys
from ternac.host.board.transport import SerialTransport
line = SerialTransport(sys.argv[1], 115200)
print("open", flush=True)
sys.stdin.read()
line.close()
"""


@pytest.fixture
def port() -> Iterator[tuple[int, str]]:
    """The far end of a pseudo terminal, and the name of the near one."""
    far, near = pty.openpty()
    tty.setraw(near)
    name = os.ttyname(near)
    os.close(near)
    yield far, name
    os.close(far)


def test_two_programs_do_not_share_a_port(port: tuple[int, str]) -> None:
    far, name = port
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(NoAnswer, match=rf"{name} is in use by pid {other.pid} \(.*python") as caught:
            SerialTransport(name, 115200)
        assert "another port" in caught.value.hint
        other.stdin.close()
        assert other.wait(20) == 0
    line = SerialTransport(name, 115200)  # free again
    line.write(b"abc")
    assert os.read(far, 10) == b"abc"
    line.close()


def test_a_port_is_free_after_close_and_can_be_opened_again(port: tuple[int, str]) -> None:
    _, name = port
    kept = os.open(name, os.O_RDWR | os.O_NOCTTY)  # someone who does not lock
    try:
        for _ in range(2):
            line = SerialTransport(name, 115200)
            with pytest.raises(NoAnswer, match="in use by pid"):
                SerialTransport(name, 115200)
            line.close()
            line.close()
        os.close(os.open(name, os.O_RDWR | os.O_NOCTTY))  # the terminal's own flag is gone too
    finally:
        os.close(kept)


def test_a_port_that_is_not_there_is_another_matter() -> None:
    with pytest.raises(NoAnswer, match="cannot open /dev/none") as caught:
        SerialTransport("/dev/none", 115200)
    assert "plugged in" in caught.value.hint
