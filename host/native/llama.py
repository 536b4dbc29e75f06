"""llama.cpp as a peer. Its package ``llama_cpp`` (llama-cpp-python) is no dependency of Ternac."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from ternac.errors import UsageError
from ternac.model.export.llama import CONTEXT

PACKAGES = {
    "llama_cpp": "pip install llama-cpp-python (needs a C++ compiler)",
    "gguf": "pip install 'ternac[train]'",
}


def find_llama() -> str:
    """Return why llama.cpp cannot be measured here; empty when it can."""
    for package, how in PACKAGES.items():
        if importlib.util.find_spec(package) is None:
            return f"there is no package {package}, which is no dependency of this kit: {how}"
    return ""


class Llama:
    """A model file in llama.cpp, on ``threads`` threads. Raises UsageError if llama.cpp refuses it."""

    def __init__(self, path: Path, threads: int) -> None:
        llama_cpp: Any = importlib.import_module("llama_cpp")
        self.version: str = llama_cpp.__version__
        try:
            self._model: Any = llama_cpp.Llama(
                str(path),
                n_ctx=CONTEXT,
                n_batch=CONTEXT,
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=0,
                flash_attn=True,  # else a third slower
                verbose=False,
            )
        except (ValueError, RuntimeError, AssertionError) as error:
            raise UsageError(f"llama.cpp {self.version} refuses {path.name}: {error}") from None

    def token(self) -> None:
        """One token behind a short text; its logits are computed."""
        if self._model.n_tokens >= CONTEXT // 2:
            self._model.reset()
        self._model.eval([1])

    def prompt(self, tokens: int) -> None:
        """A text of ``tokens`` tokens from the start, the logits of the last one."""
        self._model.reset()
        self._model.eval([1] * tokens)

    def close(self) -> None:
        """Free the model."""
        self._model.close()
