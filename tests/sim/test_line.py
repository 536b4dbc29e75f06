"""UART, buffers and link controller together, with a stand-in engine."""

from __future__ import annotations

import json

import pytest

from ternac.cli.main import main
from ternac.link import RUN_HEAD, Command, Frame
from ternac.sim.line import expected_tokens, run_line

LINE = {"clock_hz": 75_000_000, "baud": 15_000_000, "engine_cycles": 100, "turnaround": 40e-6}


@pytest.mark.parametrize("window", [1, 2])
def test_tokens_come_in_order_however_many_requests_are_under_way(window):
    run = run_line(**LINE, window=window, chunk=60, answers=4)
    assert run.tokens == expected_tokens(240)
    assert run.between == 180


def test_the_engine_does_not_wait_where_the_next_request_is_there():
    """At 200 cycles a token an answer takes 12,000 cycles to make, 6,850 to send and the host 3,000."""
    line = LINE | {"engine_cycles": 200}
    alone = run_line(**line, window=1, chunk=60, answers=3)
    chained = run_line(**line, window=2, chunk=60, answers=3)
    assert alone.engine_share < 0.6
    on_the_line = len(Frame(Command.RUN, 0, bytes(RUN_HEAD)).wire()) + len(Frame(0, 0, bytes(129)).wire())
    assert chained.cycles / 2 - 60 * 200 < 5 * on_the_line, "all but what the controller takes for a byte"


def test_verb(capsys):
    arguments = ["--board", "icebreaker", "--chunk", "1", "--turnaround", "0"]
    assert main(["bench", "link", *arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["window"] for row in data["rows"]] == [1]
    assert 0 < data["rows"][0]["engine_share"] < 1


@pytest.mark.parametrize("wrong", [["--chunk", "0"], ["--chunk", "256"], ["--turnaround", "-1"]])
def test_wrong_arguments(wrong, capsys):
    assert main(["bench", "link", *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err
