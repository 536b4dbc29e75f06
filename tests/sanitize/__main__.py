"""Run the compiled kernels under sanitizers: ``python -m tests.sanitize`` (``make sanitize``).

The C part of the native executor and the training kernels (``step.cpp``) are compiled with AddressSanitizer
and UndefinedBehaviorSanitizer into ``build/sanitize``, and their tests and random programs run on them: a
read or write outside of an array, a use after free, a shift or a sum that overflows ends the process with a
report.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ternac.host.native.build import HERE as NATIVE
from ternac.host.native.build import compile_into

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "sanitize"
FLAGS = (
    "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-O1",
    "-U_FORTIFY_SOURCE", "-Wno-maybe-uninitialized",
)  # fmt: skip
"""The last -O counts: reports name lines, and the compile takes a quarter of the time."""
FOLDER, STEP = "TERNAC_SANITIZED", "TERNAC_STEP_SOURCE"
"""Variables that tell the plugin where the extension lies, and which ``step.cpp`` to compile."""
TESTS = {
    "native": ("tests/host/native/test_products.py", "tests/host/native/test_wide.py",
               "tests/host/native/test_memories.py", "tests/host/native/test_executor.py",
               "tests/sanitize/random_programs.py"),
    "step": ("tests/model/net/test_fused.py", "tests/model/net/test_scan.py",
             "tests/model/net/test_memory.py"),
}  # fmt: skip
"""Tests that call the kernels of each part."""
FORKS = "not forked_child"
"""A test that forks in the middle of threads: the sanitizer's own locks do not survive that."""


def runtime() -> Path | None:
    """Return the sanitizer's library, which a process must load first; None if the compiler has none."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    asked = [compiler, "-print-file-name=libasan.so"]
    found = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    return found if found.is_absolute() and found.exists() else None


def run(
    part: str, tests: Sequence[str], out: Path = OUT, native: Path = NATIVE, step: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run tests on kernels compiled from ``native`` and ``step`` with sanitizers."""
    library = runtime()
    if library is None:
        raise SystemExit("gcc or its libasan is not installed: apt-get install gcc")
    out.mkdir(parents=True, exist_ok=True)
    if part == "native":
        compile_into(out, native, FLAGS)
    options = "detect_leaks=0:abort_on_error=0:exitcode=86:allocator_may_return_null=1"
    environment = os.environ | {
        FOLDER: str(out), STEP: str(step or ""), "LD_PRELOAD": str(library), "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=86", "TERNAC_CACHE": str(out / "cache"),
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "tests.sanitize.plugin",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-k", FORKS, "--capture=sys", "-m", "not slow"]
    return subprocess.run(
        [*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def main() -> int:
    """Run both parts, or those asked for; returns 1 if a sanitizer or a test said something."""
    parser = argparse.ArgumentParser(prog="python -m tests.sanitize", description=__doc__)
    parser.add_argument("--part", action="append", choices=[*TESTS], help="only this (default: both)")
    args = parser.parse_args()
    failed = 0
    for part in args.part or [*TESTS]:
        done = run(part, TESTS[part])
        sys.stdout.write(f"{part}: {'nothing found' if not done.returncode else 'FAILED'}\n")
        sys.stdout.write(done.stdout[-2000:] + done.stderr[-6000:])
        failed |= done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
