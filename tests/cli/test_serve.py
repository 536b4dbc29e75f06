"""`ternac serve` as a process: where it listens, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import tests.host.server.http_server  # noqa: F401  (skips where the extra is missing)
from ternac.cli.main import main
from ternac.cli.serve import TOKEN_VARIABLE, check_exposure, read_tokens
from ternac.errors import UsageError
from ternac.host.server.serving import allowed_hosts

SECRET = "a-token-of-some-length"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The message with which the verb ends."""
    assert main(["serve", *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "UsageError"
    assert error["hint"]
    return str(error["message"])


def test_exposure_needs_a_token(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    for host in ("0.0.0.0", "::", "192.168.1.5", "ternac.example"):
        assert "no token is set" in refused(capsys, "--host", host)
        check_exposure(host, [SECRET])
    for host in ("127.0.0.1", "localhost", "::1"):
        check_exposure(host, [])


def test_tokens_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    assert read_tokens(None) == [SECRET]
    file = tmp_path / "tokens"
    file.write_text(f"{SECRET}1\n\n  {SECRET}2\n")
    assert read_tokens(str(file)) == [f"{SECRET}1", f"{SECRET}2"]
    for wrong, why in (("", "has no token"), ("short", "at least 16"), (f"{SECRET} x", "no spaces")):
        file.write_text(wrong)
        with pytest.raises(UsageError, match=why):
            read_tokens(str(file))
    with pytest.raises(UsageError, match="cannot read the tokens"):
        read_tokens(str(tmp_path / "nothing"))


def test_wrong_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "limit queue is 0" in refused(capsys, "--max-queue", "0")
    assert "--port is 70000, needs 0 to 65535" in refused(capsys, "--port", "70000")
    assert "a recording answers only" in refused(capsys, "--device", "replay:x", "--port", "0")
    assert "no program file" in refused(capsys, "nosuchmodel", "--port", "0")
    assert main(["serve", "--device", "abacus", "--port", "0", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], error["message"]) == ("UnknownExecutor", "unknown executor 'abacus'")


def test_names_that_requests_may_be_for() -> None:
    assert set(allowed_hosts("127.0.0.1", ["a.example"]) or ()) == {
        "127.0.0.1",
        "localhost",
        "::1",
        "a.example",
    }
    assert allowed_hosts("0.0.0.0", []) is None
    assert allowed_hosts("0.0.0.0", ["a.example"]) == ["a.example"]


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_told_to_stop(sig: signal.Signals) -> None:
    """A whole run as a user starts it; one JSON object at the end, nothing else on standard output."""
    command = [sys.executable, "-m", "ternac.cli", "serve", "shakespeare-small", "--device", "numpy",
               "--device", "numpy", "--port", "0", "--json"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"shakespeare-small on numpy, numpy#2: (http://127.0.0.1:\d+)/", line)
        assert found, line
        body = json.dumps({"prompt": "ROMEO:", "max_tokens": 3}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{found[1]}/v1/completions", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.loads(answer.read())["usage"]["completion_tokens"] == 3
        process.send_signal(sig)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    told = json.loads(out)
    assert [device["device"] for device in told["devices"]] == ["numpy", "numpy#2"]
    assert sum(device["tokens"] for device in told["devices"]) == 8
