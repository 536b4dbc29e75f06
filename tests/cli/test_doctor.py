"""The doctor sees what is there, what is missing, what is broken, and says how to get it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ternac.cli import doctor
from ternac.cli.main import main


def one(name: str) -> doctor.Finding:
    """The only finding of that name."""
    (finding,) = [finding for finding in doctor.examine() if finding.name == name]
    return finding


def test_finds_what_runs_this_test() -> None:
    assert one("python").ok
    assert one("numpy").ok
    assert one("numpy").found[0].isdigit()
    assert one("pytest").ok


def test_a_missing_program_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("g++", "make", "perl", "iverilog"):
        assert not one(name).ok
        assert one(name).how == f"apt-get install {name}"
    assert one("nvidia-smi").need == "gpu"
    assert not one("nvidia-smi").ok


def test_compiled_kernels_need_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wheel brings them; only where they are missing is a compiler asked for."""
    from ternac.host.native import library

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(library, "why_missing", lambda: None)
    assert [finding.name for finding in doctor.examine() if finding.need == "native"] == [
        "native kernels",
        "cffi",
    ]
    monkeypatch.setattr(library, "why_missing", lambda: "not compiled")
    assert one("cc").how == "apt-get install gcc"


def test_a_cache_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file is in its place, or its disk is mounted read-only."""
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path / "new" / "cache"))
    assert one("cache").ok
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != tmp_path)
    assert not one("cache").ok
    assert (
        one("cache").how == f"{tmp_path} cannot be written; set TERNAC_CACHE to a folder that you may write"
    )
    (tmp_path / "new").touch()
    assert f"{tmp_path / 'new'} cannot be written" in one("cache").how


def test_a_program_that_does_not_run_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "perl"
    broken.write_text("not a program")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not one("perl").ok
    assert "does not run" in one("perl").how


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TRAIN_PACKAGES", ("no-such-distribution",))
    finding = one("no-such-distribution")
    assert not finding.ok
    assert "make env-test" in finding.how


def test_bitstreams_are_compared_with_their_manifest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "BITSTREAMS", tmp_path)
    assert not one("bitstreams").ok
    folder = tmp_path / "b" / "g"
    folder.mkdir(parents=True)
    (folder / "top.bit").write_bytes(b"bits")
    manifest = {"bitstream": "top.bit", "sha256": hashlib.sha256(b"bits").hexdigest(), "clock_mhz": 12}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert one("bitstream b/g").found.startswith("12 MHz, sha256 ")
    (folder / "top.bit").write_bytes(b"bit")
    assert "its digest is not the manifest's" in one("bitstream b/g").how
    assert one("bitstream b/g").how.endswith("ternac build --board b")
    (folder / "manifest.json").write_text("{")
    assert not one("bitstream b/g").ok


def test_verb_fails_only_for_what_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [
        doctor.Finding("a", "demo", "1"),
        doctor.Finding("b", "build", "", "get b"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is True
    assert data["missing"]["build"] == ["b"]
    assert main(["doctor", "--for", "build"]) == 1
    text = capsys.readouterr().out
    assert "-- b  missing: get b" in text
    assert " a " not in text
