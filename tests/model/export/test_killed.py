"""Processes that are killed while they write: what is there is whole, the old contents or the new.

A kill leaves what the system was told before it. That the disk has it after a power loss is what `sync` is
for, whose order tests/base/test_files.py checks.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ternac import cache, manifest
from ternac.cli import main as cli
from ternac.compile.compiler import compile_program
from ternac.errors import CheckpointError
from ternac.files import write_bytes
from ternac.hdl.boards.boards import board
from ternac.hdl.build.bake import bake
from ternac.hdl.build.toolchain import run_tool
from ternac.model.export import gguf
from ternac.model.export.ship import filling, write_file
from ternac.model.net.config import ModelConfig, TrainConfig, to_dict
from ternac.model.net.executor import TorchExecutor
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint
from ternac.program.file import dumps, load, save
from ternac.program.program import Program
from ternac.program.random import random_program
from tests.model.imports import mmfreelm_files

KILLS = 50
LONGEST = 0.03
"""Seconds after which a process is killed that has begun to write."""


def forked(work: Callable[[], None]) -> Any:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def kill_again_and_again(
    write: Callable[[int], None], check: Callable[[], None], seed: int = 1, longest: float = LONGEST
) -> int:
    """Let a process write contents 0, 1, 0, ... and kill it within ``longest`` seconds, many times.

    Returns at how many of them it had begun to write and was not done, as its mark says.
    """
    rng, begun = random.Random(seed), 0
    # Without a lock: a process that is killed while it holds one would keep it for ever.
    mark = multiprocessing.get_context("fork").Value("i", 0, lock=False)

    def work() -> None:
        number = 0
        while True:
            mark.value = 1
            write(number % 2)
            mark.value = 0
            number += 1

    for _ in range(KILLS):
        mark.value = 0
        process = forked(work)
        while not mark.value:
            assert process.is_alive()
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, longest))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        begun += mark.value
        check()
    return begun


PROGRAMS = [random_program(np.random.default_rng(seed), d=64, m=96, layers=2, vocab=256) for seed in (1, 2)]


def test_a_file_is_the_old_or_the_new(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes(1 << 20), b"\xff" * (1 << 20)]
    write_bytes(path, contents[0])

    def check() -> None:
        assert path.read_bytes() in contents

    assert kill_again_and_again(lambda number: write_bytes(path, contents[number]), check) > KILLS // 4
    write_bytes(path, contents[0])
    assert list(tmp_path.iterdir()) == [path], "of the processes that were killed nothing is left"


@pytest.mark.slow
def test_a_program_and_a_gguf_file_are_the_old_or_the_new(tmp_path: Path) -> None:
    path, other = tmp_path / "p.safetensors", tmp_path / "p.gguf"
    known = {dumps(program) for program in PROGRAMS}

    def write(number: int) -> None:
        save(PROGRAMS[number], path)
        gguf.write(PROGRAMS[number], other, "TQ2_0")

    def check() -> None:
        assert dumps(load(path)) in known
        assert dumps(gguf.read(gguf.open_gguf(other), other)) in known

    write(0)
    assert kill_again_and_again(write, check) > KILLS // 4


@pytest.mark.slow
def test_a_checkpoint_is_the_old_or_the_new_with_all_of_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "run" / "latest.safetensors"
    info = {"config": to_dict(ModelConfig(), TrainConfig())}

    def state(number: int) -> checkpoint.Checkpoint:
        tensors = {f"t{at}": torch.full((64, 1024), number) for at in range(4)}
        return checkpoint.Checkpoint(tensors, info | {"step": number})

    states = [state(0), state(1)]

    def check() -> None:
        found = checkpoint.load(path)
        step = found.info["step"]
        assert len(found.tensors) == 4
        assert all(bool((tensor == step).all()) for tensor in found.tensors.values())

    checkpoint.save(path, states[0])
    assert kill_again_and_again(lambda number: checkpoint.save(path, states[number]), check) > KILLS // 4
    checkpoint.save(path, states[0])
    assert list(path.parent.iterdir()) == [path], "of the processes that were killed nothing is left"


@pytest.fixture(scope="module")
def two_models() -> list[tuple[Program, checkpoint.Checkpoint]]:
    """Two programs, each with the checkpoint that it was exported from."""
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = ModelConfig(vocab=256, d=8, m=8, layers=1)
        model = TernaryLM(config)
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        info = {"config": to_dict(config, TrainConfig()), "step": seed, "text_sha256": "", "seconds": 0.0}
        found.append((TorchExecutor(model, "two").program, checkpoint.Checkpoint(tensors, info)))
    return found


Models = list[tuple[Program, checkpoint.Checkpoint]]


@pytest.mark.slow
def test_a_program_has_its_weights_beside_it_whenever_the_writer_is_killed(
    tmp_path: Path, two_models: Models
) -> None:
    path = tmp_path / "p.safetensors"
    known = [program.hash for program, _ in two_models]

    def check() -> None:
        program = load(path)
        assert program.hash in known
        TorchExecutor.for_program(program, path)

    write_file(path, *two_models[0])
    assert kill_again_and_again(lambda number: write_file(path, *two_models[number]), check) > KILLS // 4
    write_file(path, *two_models[0])
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ["p.checkpoint.safetensors", "p.safetensors"]


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_a_kill_before_any_rename_leaves_a_program_with_its_weights(
    tmp_path: Path, two_models: Models, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends before its n-th file gets its name: the next weights, the program, the weights."""
    path = tmp_path / "p.safetensors"
    write_file(path, *two_models[0])
    rename, count = Path.replace, 0

    def replace(source: Path, target: Path) -> Path:
        nonlocal count
        count += target.parent == tmp_path and not target.name.startswith(".")
        if count == moved:
            os._exit(0)
        return rename(source, target)

    def work() -> None:
        monkeypatch.setattr(Path, "replace", replace)
        write_file(path, *two_models[1])

    forked(work).join()
    program = load(path)
    assert program.hash == two_models[moved == 3][0].hash
    assert TorchExecutor.for_program(program, path).program.hash == program.hash
    write_file(path, *two_models[1])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p.checkpoint.safetensors", "p.safetensors"]


def test_a_program_without_its_weights_is_refused(tmp_path: Path, two_models: Models) -> None:
    """The planted fault of the two tests above: the program is new, and no weights of it were written."""
    path = tmp_path / "p.safetensors"
    write_file(path, *two_models[0])
    save(two_models[1][0], path)
    with pytest.raises(CheckpointError, match="none exports to program"):
        TorchExecutor.for_program(load(path), path)


@pytest.mark.slow
def test_an_imported_program_is_the_old_or_the_new(tmp_path: Path) -> None:
    """Killed anywhere in the verb, from the checkpoint's first byte to the last of the program."""
    folders = [mmfreelm_files.checkpoint(tmp_path / f"m{seed}", seed=seed) for seed in range(2)]
    ids, out = tmp_path / "ids.npy", tmp_path / "out" / "p.safetensors"
    np.save(ids, np.random.default_rng(0).integers(0, 43, 100))
    out.parent.mkdir()
    words = ["--text", str(ids), "--calibration", "32", "--tokens", "0", "--out", str(out), "--json"]

    def write(number: int) -> None:
        assert cli.main(["import", "mmfreelm", str(folders[number]), *words]) == 0

    known, began = set(), time.monotonic()
    for number in range(2):
        write(number)
        known.add(out.read_bytes())
    seconds = (time.monotonic() - began) / 2

    def check() -> None:
        assert out.read_bytes() in known

    assert kill_again_and_again(write, check, longest=seconds) > KILLS // 4
    write(0)
    assert list(out.parent.iterdir()) == [out], "of the processes that were killed nothing is left"


@pytest.mark.slow
def test_an_ecp5_bitstream_with_a_program_is_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block RAMs of the shipped ECP5 bitstream are patched; unpacking is done once, packing is a copy: as
    WebAssembly each takes many seconds, and writes in the scratch folder only.
    """
    found, out = board("ulx3s-25f"), tmp_path / "out" / "model.bit"
    shipped = manifest.folder(found.name, found.geometry)
    bitstream = next(shipped.glob("*.bit"))
    shutil.copyfile(bitstream, tmp_path / "base.bit")
    run_tool("ecpunpack", ["--input", "base.bit", "--textcfg", "base.config"], cwd=tmp_path,
             log=tmp_path / "log", step="test")  # fmt: skip

    def tool(name: str, arguments: list[str], cwd: Path, log: Path, step: str) -> None:
        source = tmp_path / "base.config" if name == "ecpunpack" else cwd / "model.config"
        target = cwd / ("base.config" if name == "ecpunpack" else "model.bit")
        shutil.copyfile(source, target)

    monkeypatch.setattr("ternac.hdl.build.bake.run_tool", tool)
    images = [
        compile_program(random_program(np.random.default_rng(seed), d=16, m=24, layers=1), found.engine)
        for seed in (1, 2)
    ]

    def write(number: int) -> None:
        bake(found, bitstream, shipped / "memories.json", images[number], out)

    known, began = set(), time.monotonic()
    for number in range(2):
        write(number)
        known.add(out.read_bytes())
    assert len(known) == 2
    seconds = (time.monotonic() - began) / 2

    def check() -> None:
        assert out.read_bytes() in known

    assert kill_again_and_again(write, check, longest=seconds) > KILLS // 4
    write(0)
    assert list(out.parent.iterdir()) == [out], "of the processes that were killed nothing is left"


@pytest.mark.slow
def test_a_bitstream_with_a_program_is_the_old_or_the_new(tmp_path: Path) -> None:
    found, out = board("icebreaker"), tmp_path / "model.bin"
    bitstream = next(manifest.folder(found.name, found.geometry).glob("*.bin"))
    images = [
        compile_program(random_program(np.random.default_rng(seed), d=16, m=24, layers=1), found.engine)
        for seed in (1, 2)
    ]
    known = []
    for image in images:
        bake(found, bitstream, None, image, out)
        known.append(out.read_bytes())
    assert known[0] != known[1]

    def check() -> None:
        assert out.read_bytes() in known

    assert (
        kill_again_and_again(lambda number: bake(found, bitstream, None, images[number], out), check)
        > KILLS // 4
    )


@pytest.mark.slow
def test_an_exported_folder_has_whole_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    contents = [bytes((number,)) * 300_000 for number in range(2)]

    def write(number: int) -> None:
        with filling(folder) as fresh:
            for name in ("a", "b", "c"):
                (fresh / name).write_bytes(contents[number])

    def check() -> None:
        assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "c"]
        assert all(path.read_bytes() in contents for path in folder.iterdir())

    write(0)
    assert kill_again_and_again(write, check) > KILLS // 4
    write(0)
    assert list(tmp_path.iterdir()) == [folder], "of the processes that were killed nothing is left"


@pytest.mark.slow
def test_a_cache_that_two_processes_build_has_whole_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two is killed at any time; the other gets every entry, and no entry is half."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    context, rng = multiprocessing.get_context("fork"), random.Random(2)

    def make(scratch: Path, log: Path) -> None:
        for name in ("a", "b", "c"):
            (scratch / name).write_bytes(name.encode() * 100_000)
            time.sleep(0.002)

    def whole(entry: Path) -> bool:
        return all((entry / name).read_bytes() == name.encode() * 100_000 for name in ("a", "b", "c"))

    for kill in range(KILLS):
        done = context.Value("i", 0)

        def build(kill: int = kill, done: Any = done) -> None:
            assert whole(cache.cached("kind", [str(kill)], make))
            done.value += 1

        victim, other = forked(build), forked(build)
        time.sleep(rng.uniform(0, LONGEST))
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        other.join(30)
        assert other.exitcode == 0 and done.value >= 1
    entries = [path for path in (tmp_path / "cache" / "kind").iterdir() if path.is_dir()]
    assert len(entries) == KILLS, "of what was killed nothing is left"
    assert all(whole(entry) for entry in entries)


def test_a_writer_that_writes_in_place_is_caught(tmp_path: Path) -> None:
    """The planted fault: without the scratch file halves are found."""
    path, contents = tmp_path / "file", [bytes(1 << 22), b"\xff" * (1 << 22)]
    path.write_bytes(contents[0])

    def write(number: int) -> None:
        with path.open("wb") as file:
            for at in range(0, 1 << 22, 1 << 16):
                file.write(contents[number][at : at + (1 << 16)])

    def check() -> None:
        assert path.read_bytes() in contents

    with pytest.raises(AssertionError):
        kill_again_and_again(write, check)
