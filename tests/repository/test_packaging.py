"""pyproject.toml, Makefile and CI script say what the repository promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from tests.repository import installed

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = ROOT / "pyproject.toml"
CONFIG = tomllib.loads(PYPROJECT.read_text())


def test_every_package_is_listed() -> None:
    """A folder with an ``__init__`` that is not listed would be missing from the wheel."""
    setuptools = CONFIG["tool"]["setuptools"]
    folders = {"ternac": ROOT / "ternac"}
    folders |= {name: ROOT / folder for name, folder in setuptools["package-dir"].items()}
    found = set()
    for name, folder in folders.items():
        found.add(name)
        for init in folder.rglob("__init__.py"):
            inner = init.parent.relative_to(folder).parts
            if (
                f"ternac.{inner[0] if inner else ''}" not in setuptools["package-dir"]
            ):  # links to other folders
                found.add(".".join((name, *inner)))
    assert found == set(setuptools["packages"])


def test_links_are_relative_and_name_the_packages() -> None:
    """``ternac/<name>`` points to ``../<name>``, which is what package-dir maps."""
    for name, folder in CONFIG["tool"]["setuptools"]["package-dir"].items():
        link = ROOT / name.replace(".", "/")
        assert link.is_symlink()
        assert str(link.readlink()) == f"../{folder}"


def test_every_dependency_has_a_reason() -> None:
    """Each requirement stands on a line of its own, with a comment that says why."""
    lines = PYPROJECT.read_text().splitlines()
    project = CONFIG["project"]
    wanted = [*CONFIG["build-system"]["requires"], *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    for requirement in wanted:
        line = next(line for line in lines if f'"{requirement}"' in line)
        assert re.search(r"#\s+\w+", line), f"no reason beside {requirement}"


def test_make_without_a_target_says_what_there_is() -> None:
    """``make`` alone changes nothing and lists the targets."""
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for target in ("make demo", "make test", "make nightly", "make test-all", "make lint", "make clean"):
        assert target in done.stdout


def test_make_refuses_an_old_python(tmp_path: Path) -> None:
    """The message names the version that is needed and how to choose another interpreter."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    command = ["make", "-f", str(ROOT / "Makefile"), f"PYTHON={old}", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Ternac needs Python 3.11 or newer" in done.stdout
    assert "Python 3.9.2" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_make_test() -> None:
    """The CI script is executable, valid bash, sets CI, installs the tests' tools, tests and fuzzes."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert "export CI=true" in text
    assert all(tool in text for tool in ("iverilog", "chromium", "chromium-driver"))
    assert text.rstrip().endswith("make env-ci\nmake test\nmake fuzz")


def test_every_import_is_declared() -> None:
    """What ``model/`` and its verbs import may come from the training extras, what ``host/gpu`` imports from
    ``cuda``, the server's and the bench of compressors' from their own; all else from the base install.
    """
    names = {"pyserial": "serial", "amaranth-boards": "amaranth_boards", "cocotb": "cocotb_tools"}
    names |= {"cocotbext-axi": "cocotbext"}
    project = CONFIG["project"]

    def modules(requirements: list[str]) -> set[str]:
        found = {re.split(r"[=<>\[]", requirement)[0] for requirement in requirements}
        return {names.get(name, name).replace("-", "_") for name in found} | found

    base = modules(project["dependencies"]) | {"ternac"} | set(sys.stdlib_module_names)
    extras = project["optional-dependencies"]
    gpu = modules(extras["cuda"])
    training = base | modules(extras["train"]) | gpu
    # pydantic and starlette are what fastapi's requests and responses are.
    serving = base | modules(extras["serve"]) | modules(extras["ray"]) | {"pydantic", "starlette"}
    peers = modules(extras["compare"])
    for folder in ("ternac", "model", "hdl", "sim", "host"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    wanted = {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    wanted = {(node.module or "").partition(".")[0]}
                else:
                    continue
                parts = path.relative_to(ROOT).parts
                allowed = training if parts[0] == "model" or parts[1] == "cli" else base
                allowed |= {"gpu": gpu, "server": serving, "compress_bench.py": peers}.get(parts[1], set())
                assert wanted <= allowed, f"{path.relative_to(ROOT)} imports {wanted - allowed}"


def test_pre_commit_runs_what_is_there() -> None:
    """Local hooks only, so that nothing is downloaded; every file that they name exists."""
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    for hook in repos[0]["hooks"]:
        words = hook["entry"].split()
        assert words[:2] == [".venv/bin/python", "-m"]
        assert [word for word in words if word.endswith(".py") and not (ROOT / word).exists()] == []


def test_the_versions_of_python_agree() -> None:
    """What pip accepts, what the index shows, what is tested, and what pages, Makefile and doctor say."""
    project = CONFIG["project"]
    tested = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    minors = [int(version.partition(".")[2]) for version in tested]
    assert minors == list(range(minors[0], minors[-1] + 1))
    oldest, newest = tested[0], tested[-1]
    assert project["requires-python"] == f">={oldest}"
    assert CONFIG["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert installed.supported() == [(3, minor) for minor in minors]
    for page in ("README.md", "CONTRIBUTING.md", "docs/quickstart.md"):
        said = re.findall(r"Python (3\.\d+) or newer \(tested up to (3\.\d+)\)", (ROOT / page).read_text())
        assert said == [(oldest, newest)], page
    for file in ("Makefile", "docs/troubleshooting.md", "ternac/cli/doctor.py"):
        assert f"Python {oldest} or newer" in (ROOT / file).read_text(), file
