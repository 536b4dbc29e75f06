"""How the C part is compiled: cffi in API mode, as an optional extension of the package.

``setup.py`` takes :func:`extension` from here; ``python -m ternac.host.native.build`` compiles it into this
folder by itself, for a checkout that is not installed. Flags are those of any processor: every instruction
set beyond the baseline is a function attribute, chosen at run time.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = (
    "isa.c", "memory.c", "pack.c", "product.c", "pool.c", "model.c", "sample.c", "peers.c",
    "isa_portable.c", "isa_avx2.c", "isa_avxvnni.c", "isa_avxvnni_evex.c", "isa_avx512vnni.c",
)  # fmt: skip
HEADERS = ("api.h", "native.h", "ops.h", "maps.h", "wide.h", "product_vnni.h", "vnni256.h")
NAME = "ternac.host.native._native"
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-pthread", "-Wno-unknown-pragmas"]


def _builder(folder: str) -> Any:
    import cffi

    builder = cffi.FFI()
    builder.cdef((HERE / "api.h").read_text())
    builder.set_source(
        NAME, '#include "native.h"',
        sources=[f"{folder}/{name}" for name in SOURCES],
        depends=[f"{folder}/{name}" for name in HEADERS],
        include_dirs=[folder], extra_compile_args=FLAGS, extra_link_args=["-pthread"],
    )  # fmt: skip
    return builder


def extension(folder: str = "host/native") -> Any:
    """The setuptools extension; ``folder``: of the sources, relative to where setuptools runs."""
    made = _builder(folder).distutils_extension()
    made.optional = True  # without a compiler the package installs, and says so when the executor is wanted
    return made


def main() -> None:
    """Compile into this folder; raises what the compiler raises."""
    with TemporaryDirectory() as scratch:
        built = Path(_builder(str(HERE)).compile(tmpdir=scratch))
        shutil.copy(built, HERE / f".{built.name}")
    (HERE / f".{built.name}").replace(HERE / built.name)  # a process that has it loaded keeps the old one


if __name__ == "__main__":
    main()
