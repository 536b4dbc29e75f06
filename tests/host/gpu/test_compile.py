"""The kernels compile for GPUs that are not here: Triton's compiler and ptxas, which it brings, need none.

What the interpreter cannot show: that annotations, tuples and inline PTX are what the compiler takes, that
the instructions which the speed hangs on come out, and that nothing spills.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.program.random_memory import random_memory_program
from ternac.run.sampling import GREEDY, Sampling
from tests.host.gpu.gpu_here import needs_triton
from tests.host.native.native_here import Soup

pytestmark = [needs_triton, pytest.mark.filterwarnings("ignore:.*FP_FUSION.*:UserWarning")]


class NoDriver:
    """What Triton asks of a driver before it compiles."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        """A device for each capability: compiled kernels are kept by device."""
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        return self.target


class Compiled:
    """Stands for a module of kernels: a launch compiles and keeps what came out."""

    def __init__(self, module: Any) -> None:
        self.module, self.made = module, {}  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        kernel, made = getattr(self.module, name), self.made

        class Launch:
            def __getitem__(self, grid: Any) -> Any:
                def launch(*values: Any, **named: Any) -> None:
                    made[f"{name} {len(made)}"] = kernel.warmup(*values, grid=grid, **named)

                return launch

        return Launch()


@pytest.fixture(params=[pytest.param(80, marks=pytest.mark.slow), 90])
def capability(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Compute capability compiled for; the cache is the test's own."""
    pytest.importorskip("triton.backends.nvidia", reason="this Triton has no NVIDIA back end")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    holder = importlib.import_module("triton.runtime.driver").driver
    before = holder._active
    holder.set_active(NoDriver(request.param))
    yield request.param
    holder._active = before


def compiled(program: Program, overlap: bool) -> dict[str, Any]:
    """Every kernel that one token, a prompt and the choices of a program launch."""
    torch = importlib.import_module("torch")
    launch = importlib.import_module("ternac.host.gpu.launch")
    parts = importlib.import_module("ternac.host.gpu.engine")
    matrices = {name: program.consts[name] for name, role in program.roles().items() if role == "trits"}
    weights = importlib.import_module("ternac.host.gpu.weights").pack_all(matrices, "cpu")
    found: list[Compiled] = []

    def make(weights: Any, constants: Any, rows: Any) -> Any:
        kernels = launch.Kernels(
            weights,
            constants,
            rows,
            interpret=False,
            blocks=launch.Blocks(tile=(64, 64, 64)),
            overlap=overlap,
        )
        kernels._k = Compiled(kernels._k)
        found.append(kernels._k)
        return kernels

    engine = parts.Engine(program, weights, torch.device("cpu"), 64, 65, make)
    engine.step(1)
    engine.prompt(64, 1, tail=True)
    for sampling in (GREEDY, Sampling(False), Sampling(False, top_k=2)):
        engine.choose(1, sampling)
    return found[0].made


@pytest.mark.parametrize("overlap", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_language_model(capability: int, overlap: bool, tmp_path: Path) -> None:
    if overlap and capability < 90:
        pytest.skip("overlap is for compute capability 9 and up")
    program = random_program(np.random.default_rng(1), d=512, m=512, layers=1, vocab=64)
    made = compiled(program, overlap)
    assert {name.split()[0] for name in made} == {"phase", "product", "scan", "choose"}
    for name, kernel in made.items():
        ptx = kernel.asm["ptx"]
        if name.startswith("product"):
            assert ("wgmma.mma_async" if capability == 90 else "mma.sync") in ptx
            assert "s32.s8.s8" in ptx
        if name.startswith("phase") and "dp4a" in ptx:
            assert "ld.global.v4" in ptx, "16 bytes of weights at a time"
            assert not _spills(kernel, tmp_path), f"{name} spills"
        if name.startswith(("phase", "choose")):
            assert ("griddepcontrol.wait" in ptx) == overlap
            if overlap and "dp4a" in ptx:
                before, _, after = ptx.partition("griddepcontrol.wait")
                assert "ld.global.v4" in before, "weights are asked for before the wait"


@pytest.mark.slow
def test_layers_of_one_shape_share_their_kernels(capability: int) -> None:
    """Shifts and addresses are numbers in memory, not constants of a kernel."""
    programs = [
        random_program(np.random.default_rng(2), d=32, m=48, layers=layers, vocab=40) for layers in (2, 4)
    ]
    kinds = [{id(kernel) for kernel in compiled(program, False).values()} for program in programs]
    assert len(kinds[0]) >= len(kinds[1]) - 2


@pytest.mark.slow
def test_every_kind_of_op(capability: int) -> None:
    compiled(random_mmfree(np.random.default_rng(3), d=24, m=40, layers=1, per_token=True), False)
    compiled(random_mmfree(np.random.default_rng(4), d=24, m=40, layers=1, per_token=False), False)
    if capability == 90:
        compiled(Soup(np.random.default_rng(5), tried=30).program, False)


def test_ops_of_memories(capability: int) -> None:
    program = random_memory_program(np.random.default_rng(4), layers=1, loop="levels")
    assert compiled(program, True)


def test_the_training_scan(capability: int) -> None:
    """`model/net/scan_triton.py` on float32 tensors."""
    torch = importlib.import_module("torch")
    module = importlib.import_module("ternac.model.net.scan_triton")
    x = torch.zeros(64)
    forward = module._forward.warmup(x, x, x, 4, 16, block=64, grid=(1,))
    backward = module._backward.warmup(x, x, x, x, x, x, x, 4, 16, block=64, grid=(1,))
    assert "ld.global" in forward.asm["ptx"] and "ld.global" in backward.asm["ptx"]


def test_the_training_delta_scan(capability: int) -> None:
    """`model/net/memory_triton.py` on float32 tensors, int32 rows and int8 memories."""
    torch = importlib.import_module("torch")
    module = importlib.import_module("ternac.model.net.memory_triton")
    x, rows, memory = torch.zeros(64), torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int8)
    how = {"heads": 8, "block": 32, "grid": (1, 1), "num_warps": 1}
    forward = module._forward.warmup(x, rows, x, memory, x, 4, 2, 2048, 24, 1, 3, -128, 127, **how)
    backward = module._backward.warmup(x, rows, x, x, 4, 2, 2048, 24, 0.125, 0.5, **how)
    assert "ld.global" in forward.asm["ptx"] and "ld.global" in backward.asm["ptx"]


def _spills(kernel: Any, folder: Path) -> bool:
    """Whether ptxas put registers into memory, by the report of the cuobjdump that comes with Triton."""
    triton = importlib.import_module("triton")
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    (folder / "kernel.cubin").write_bytes(kernel.asm["cubin"])
    done = subprocess.run(
        [str(tool), "-res-usage", str(folder / "kernel.cubin")], capture_output=True, check=True, text=True
    )
    assert "STACK:" in done.stdout
    return "STACK:0 " not in done.stdout
