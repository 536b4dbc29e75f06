"""The one thing that pyproject.toml cannot say: the C extension of the native executor, made by cffi."""

import runpy
from pathlib import Path

from setuptools import setup

BUILD = runpy.run_path(str(Path(__file__).parent / "host" / "native" / "build.py"))

setup(ext_modules=[BUILD["extension"]()])
