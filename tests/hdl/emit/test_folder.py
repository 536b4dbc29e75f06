"""The folder of an emitted design: its testbench passes and finds a planted error, nothing foreign goes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ternac.cli import main as cli
from ternac.compile.compiler import compile_program
from ternac.compile.fitting import default_model, memory_model
from ternac.compile.geometry import preset
from ternac.errors import DoesNotFit, UsageError
from ternac.files import write_json
from ternac.hdl.axi.registers import register
from ternac.hdl.emit.folder import MANIFEST, Folder, emit_folder, read_emitted, write_folder
from ternac.hdl.emit.tops import TOPS, axi_design
from ternac.hdl.emit.vectors import axi_vectors
from ternac.program.zoo import open_program
from ternac.sim.emitted import SIMULATORS, simulate

TINY = preset("tiny")


def folder_of(top: str, geometry: str = "tiny", **options: Any) -> Folder:
    shape = preset(geometry)
    return emit_folder(TOPS[top], shape, default_model(shape).program, **options)


def plant(folder: Path, name: str, *, after: str = "", digit: int = -1) -> None:
    """Change a digit of the last word of a vector file, or of the first one below a comment."""
    lines = (folder / name).read_text().splitlines()
    marks = [i for i, line in enumerate(lines) if after and after in line]
    at = marks[0] + 1 if marks else len(lines) - 1
    assert re.fullmatch("[0-9a-f]+", lines[at])
    digits = list(lines[at])
    digits[digit] = "0" if digits[digit] != "0" else "1"
    lines[at] = "".join(digits)
    (folder / name).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def stream() -> Folder:
    return folder_of("stream", port_bits=32)


@pytest.fixture
def written(stream: Folder, tmp_path: Path) -> Path:
    write_folder(stream, tmp_path / "stream")
    return tmp_path / "stream"


@pytest.mark.icarus
def test_the_testbench_passes_and_fails_on_one_wrong_sum(written: Path) -> None:
    verdict = simulate(written, "icarus")
    assert verdict.passed and verdict.lines[-1].startswith("PASS: 96 sums")
    plant(written, "sums.hex")
    verdict = simulate(written, "icarus")
    assert not verdict.passed and any(line.startswith("sum 95 is") for line in verdict.lines)


@pytest.mark.icarus
def test_a_wrong_weight_fails(written: Path) -> None:
    plant(written, "memory.hex")
    assert not simulate(written, "icarus").passed


def test_the_folder_is_the_same_every_time(stream: Folder) -> None:
    again = folder_of("stream", port_bits=32)
    assert again.files == stream.files
    for name, (_, text) in stream.files.items():
        assert not re.search(r"/tmp|/home|/root", text), name


def test_header_and_readme_say_what_it_is(stream: Folder) -> None:
    text = stream.files["ternac_stream.v"][1]
    head = text[: text.index("module ")]
    for part in (stream.manifest["plan"], stream.manifest["ternac"], "Apache-2.0", "`default_nettype none"):
        assert part in head
    readme = stream.files["README.md"][1]
    ports = re.findall(r"^\| `(\w+)` \| (input|output) \| (\d+) \|$", readme, re.M)
    module = text[text.index("module ternac_stream") :].partition("endmodule")[0]
    for name, direction, bits in ports:
        span = f"[{int(bits) - 1}:0] " if bits != "1" else ""
        assert f"  {direction} {span}{name};" in module
    assert len(ports) == len(re.findall(r"^  (?:input|output) ", module, re.M))


def test_a_second_design_replaces_the_first_and_keeps_other_files(stream: Folder, written: Path) -> None:
    (written / "notes.txt").write_text("mine")
    (written / "build").mkdir()
    other = Folder(TOPS["core"], {**stream.manifest}, dict(stream.files), stream.waivers, stream.vectors)
    del other.files["sums.hex"]
    manifest = {**stream.manifest, "files": sorted(other.files)}
    other.files[MANIFEST] = ("", json.dumps(manifest))
    write_folder(other, written)
    assert not (written / "sums.hex").exists()
    assert (written / "notes.txt").read_text() == "mine"
    assert (written / "build").is_dir()


def test_a_foreign_folder_is_not_touched(stream: Folder, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"not a folder of ternac emit: it has thesis\.tex"):
        write_folder(stream, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / MANIFEST).write_text('{"format": "another tool"}')
    assert read_emitted(tmp_path) is None
    with pytest.raises(UsageError, match="not a folder of ternac emit"):
        write_folder(stream, tmp_path)


def test_a_file_of_others_in_a_folder_of_ours_is_not_replaced(stream: Folder, written: Path) -> None:
    manifest = json.loads((written / MANIFEST).read_text())
    manifest["files"].remove("Makefile")
    write_json(written / MANIFEST, manifest)
    with pytest.raises(UsageError, match="Makefile is not a file of ternac emit"):
        write_folder(stream, written)


def test_a_manifest_cannot_name_files_elsewhere(written: Path) -> None:
    manifest = json.loads((written / MANIFEST).read_text())
    for name in ("../thesis.tex", "..", "/etc/passwd"):
        write_json(written / MANIFEST, {**manifest, "files": [name]})
        assert read_emitted(written) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_an_error(stream: Folder, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot make the folder"):
        write_folder(stream, tmp_path / "out")
    tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_is_an_error(stream: Folder, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="is a file, and a folder is needed"):
        write_folder(stream, tmp_path / "out")


def test_a_program_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DoesNotFit):
        emit_folder(TOPS["core"], TINY, open_program("shakespeare"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--geometry", "nosuch"], "no geometry is called 'nosuch'"),
        (["--geometry", "ulx3s-85f-sdram"], "SDRAM on its own pins"),
        (["--out", "engine.v"], "a folder is needed"),
        (["--port-bits", "64"], "--port-bits has no effect with --top link"),
        (["--top", "core", "--clock", "50"], "--clock has no effect with --top core"),
        (["--top", "stream", "--geometry", "tiny"], "--geometry has no effect with --top stream"),
        (["--top", "stream", "--port-bits", "0"], "needs an AXI4 port"),
        (["--part", "kv260"], "--part has no effect with --top link"),
        (["--top", "axi", "--resources"], "--resources needs --part"),
        (["--tokens", "0"], "--tokens is 0"),
        (["shakespeare", "--geometry", "tiny"], "tiny"),
    ],
)  # fmt: skip
def test_bad_input_writes_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["emit", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_former_verb_says_its_new_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["integrate", "--part", "kv260"]) == 2
    assert "ternac integrate is now ternac emit --top axi" in capsys.readouterr().err


WRONG = {
    "core": ("script.hex", "chooses", -1),
    "link": ("answers.hex", "RUN by", -1),
    "axi": ("bus.hex", "who it is", 11),  # the word that is expected; its mask comes after it
}


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("top", WRONG)
def test_engines_agree_with_numpy_and_the_closed_form(top: str, simulator: str, tmp_path: Path) -> None:
    """Tokens, generator, cycles, logits and state; and one planted wrong vector is found."""
    folder = folder_of(top, tokens=2, port_bits=32 if top == "axi" else 0)
    write_folder(folder, tmp_path / top)
    assert simulate(tmp_path / top, simulator).passed
    name, after, digit = WRONG[top]
    plant(tmp_path / top, name, after=after, digit=digit)
    assert not simulate(tmp_path / top, simulator).passed


@pytest.mark.slow
@pytest.mark.parametrize("top", WRONG)
def test_an_engine_with_rows_agrees_with_numpy_and_the_closed_form(top: str, tmp_path: Path) -> None:
    """Its memories too, behind the link, and behind AXI by their own registers; a wrong row is found."""
    geometry = preset("tiny-rows")
    program = memory_model(geometry).program
    folder = emit_folder(TOPS[top], geometry, program, tokens=2)
    assert f"rows of {len(program.memories)} memories" in folder.vectors.compared
    write_folder(folder, tmp_path / top)
    assert simulate(tmp_path / top, "verilator").passed
    plant(tmp_path / top, WRONG[top][0], after="rows ")
    assert not simulate(tmp_path / top, "verilator").passed


def test_the_vectors_read_every_word_of_a_sessions_rows() -> None:
    geometry = preset("tiny-rows")
    program = memory_model(geometry).program
    image = compile_program(program, geometry)
    vectors = axi_vectors(program, image, axi_design(geometry, 0, 0), 1, 1)
    data = f"0{register('ROW_DATA').offset:02x}"
    reads = [line for line in vectors.files["bus.hex"].splitlines() if line.startswith(f"2{data}")]
    words = sum(symbol.rows << symbol.step for name, symbol in image.rows.items() if name in program.memories)
    assert len(reads) >= geometry.columns * words // 4 + 2


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_shipped_engine_agrees_with_numpy_and_the_closed_form(simulator: str, tmp_path: Path) -> None:
    """The iCEBreaker's engine with its shipped model."""
    write_folder(folder_of("core", "icebreaker", tokens=1), tmp_path / "core")
    assert simulate(tmp_path / "core", simulator).passed


@pytest.mark.slow
@pytest.mark.icarus
def test_the_commands_of_the_readme_work_without_make(tmp_path: Path) -> None:
    write_folder(folder_of("stream", port_bits=128), tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text()
    (command,) = re.findall(r"^iverilog .*$", readme, re.M)
    done = subprocess.run(
        command, shell=True, cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("PASS")
