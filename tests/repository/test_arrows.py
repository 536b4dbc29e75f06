"""Imports point one way: a lower layer never imports a higher one, not by string either."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BELOW: dict[str, set[str]] = {
    "base": set(),
    "program": {"base"},
    "text": {"base", "program"},
    "run": {"base", "program", "text"},
    "compile": {"base", "program"},
    "model": {"base", "program", "text", "run"},
    "hdl": {"base", "program", "compile", "run"},
    "sim": {"base", "program", "compile", "run", "hdl"},
    "host": {"base", "program", "text", "compile", "run", "model", "hdl", "sim"},
    "cli": {"base", "program", "text", "compile", "run", "model", "hdl", "sim", "host"},
}
"""Layer to the layers that it may import, besides itself. ``base`` is the modules in ``ternac/`` itself."""

FACADE = "ternac/__init__.py"
"""The one module that names others without belonging above them: it imports on first use."""


def layer_of(module: str) -> str:
    """The layer of ``ternac.x.y``."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in BELOW else "base"


def modules() -> dict[str, Path]:
    """Every module of the product, by its dotted name."""
    found = {}
    for folder in ("ternac", "model", "hdl", "sim", "host"):
        for path in (ROOT / folder).rglob("*.py"):
            if any(part.is_symlink() for part in path.parents):
                continue
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[dotted if folder == "ternac" else f"ternac.{dotted}"] = path
    return found


def imported(source: str) -> set[str]:
    """Modules below ``ternac`` that ``source`` imports, by statement or by a string that names one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ternac":
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("ternac.")}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} if re.fullmatch(r"ternac(\.\w+)+", node.value) else set()
    return found


def test_imports_point_down() -> None:
    known = modules()
    wrong = []
    for module, path in known.items():
        if path == ROOT / FACADE:
            continue
        for other in imported(path.read_text()) & set(known):
            here, there = layer_of(module), layer_of(other)
            if there not in BELOW[here] | {here} and (module, other) != ("ternac", "ternac"):
                wrong.append(f"{module} ({here}) imports {other} ({there})")
    assert sorted(wrong) == []


def test_no_import_cycle() -> None:
    """No module reaches itself by imports, those inside functions included."""
    known = modules()
    arrows = {m: (imported(p.read_text()) & set(known)) - {m, "ternac"} for m, p in known.items()}
    arrows["ternac"] = set()
    state: dict[str, int] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        state[module] = 1
        for other in sorted(arrows[module]):
            assert state.get(other) != 1, " -> ".join((*path, module, other))
            if other not in state:
                visit(other, (*path, module))
        state[module] = 2

    for module in sorted(arrows):
        if module not in state:
            visit(module, ())


def test_only_the_command_line_parses_arguments() -> None:
    parsing = {
        m for m, p in modules().items() if re.search(r"^\s*(import|from) argparse", p.read_text(), re.M)
    }
    assert "ternac.cli.run" in parsing
    assert [module for module in sorted(parsing) if layer_of(module) != "cli"] == []


def test_the_checker_sees_an_arrow_that_points_up() -> None:
    assert imported("from ternac.host.device import Device") >= {"ternac.host.device"}
    assert imported("importlib.import_module('ternac.host.device')") == {"ternac.host.device"}
    assert layer_of("ternac.host.device") == "host" and layer_of("ternac.errors") == "base"
