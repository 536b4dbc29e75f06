"""How the C part is compiled: cffi in API mode, as an optional extension of the package.

``setup.py`` takes :func:`extension` from here; ``python -m ternac.host.native.build`` compiles it into this
folder by itself, for a checkout that is not installed. Flags are those of any processor: every instruction set
beyond the baseline is a function attribute, chosen at run time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = (
    "isa.c", "memory.c", "pack.c", "product.c", "pool.c", "model.c", "sample.c", "peers.c",
    "isa_portable.c", "isa_avx2.c", "isa_avxvnni.c", "isa_avxvnni_evex.c", "isa_avx512vnni.c",
)  # fmt: skip
HEADERS = ("api.h", "native.h", "ops.h", "maps.h", "wide.h", "product_vnni.h", "vnni256.h")
NAME = "ternac.host.native._native"
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-pthread", "-Wno-unknown-pragmas"]


def extension(folder: str = "host/native") -> Any:
    """The setuptools extension; ``folder``: of the sources, relative to where setuptools runs."""
    import cffi

    builder = cffi.FFI()
    builder.cdef((HERE / "api.h").read_text())
    builder.set_source(
        NAME, '#include "native.h"',
        sources=[f"{folder}/{name}" for name in SOURCES],
        depends=[f"{folder}/{name}" for name in HEADERS],
        include_dirs=[folder], extra_compile_args=FLAGS, extra_link_args=["-pthread"],
    )  # fmt: skip
    made = builder.distutils_extension()
    made.optional = True  # without a compiler the package installs, and says so when the executor is asked for
    return made


def main() -> None:
    """Compile into this folder; raises what the compiler raises."""
    import os

    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    os.chdir(HERE.parents[1])
    made = extension()
    made.optional = False
    command = build_ext(Distribution({"name": "ternac", "ext_modules": [made]}))
    command.build_lib = command.build_temp = "build/native"
    command.ensure_finalized()
    command.run()
    built = Path(command.get_ext_fullpath(NAME))
    (HERE / built.name).unlink(missing_ok=True)
    built.replace(HERE / built.name)


if __name__ == "__main__":
    main()
