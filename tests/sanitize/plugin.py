"""A plugin of pytest: the compiled kernels are those that `tests.sanitize` made."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from tests.sanitize.__main__ import FLAGS, FOLDER, STEP

NAME = "ternac.host.native._native"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> Any:
        if fullname != NAME:
            return None
        (file,) = Path(os.environ[FOLDER]).glob("_native*.so")
        loader = importlib.machinery.ExtensionFileLoader(fullname, str(file))
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


def pytest_collection_modifyitems() -> None:
    """Let torch's part compile with the sanitizers' flags; they are part of the cache's key."""
    if "ternac.model.net.kernels" in sys.modules:
        from ternac.model.net import kernels

        kernels.FLAGS = (*kernels.FLAGS, *FLAGS)
        if os.environ[STEP]:
            kernels.SOURCE = Path(os.environ[STEP])


if FOLDER in os.environ:
    sys.meta_path.insert(0, _Finder())
