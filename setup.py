"""What pyproject.toml cannot say: the C extension of the native executor, and the links to the folders."""

import runpy
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
BUILD = runpy.run_path(str(ROOT / "host" / "native" / "build.py"))

# An archive of the source holds no links to folders; an editable install needs `ternac/model` and the like.
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
for name, folder in SETTINGS["package-dir"].items():
    link = ROOT / name.replace(".", "/")
    if not link.exists():
        link.symlink_to(f"../{folder}")

setup(ext_modules=[BUILD["extension"]()])
