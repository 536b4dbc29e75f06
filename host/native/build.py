"""Compile the C part: cffi in API mode, an optional extension of the package.

``setup.py`` takes :func:`extension` from here; ``python -m ternac.host.native.build`` writes ``kinds.h`` and
compiles into this folder, for a checkout that is not installed. Flags are those of any processor: every
instruction set beyond the baseline is a function attribute, chosen at run time.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = (
    "isa.c", "weights.c", "product.c", "pool.c", "model.c", "sample.c", "code.c",
    "isa_portable.c", "isa_avx2.c", "isa_avxvnni.c", "isa_avxvnni_evex.c", "isa_avx512vnni.c",
)  # fmt: skip
HEADERS = (
    "api.h",
    "kinds.h",
    "native.h",
    "maps.h",
    "import_maps.h",
    "wide.h",
    "memory_maps.h",
    "product_vnni.h",
    "vnni256.h",
)
NAME = "ternac.host.native._native"
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-pthread", "-Wno-unknown-pragmas"]


def _builder(folder: str, more: Sequence[str] = ()) -> Any:
    import cffi

    builder = cffi.FFI()
    builder.cdef((HERE / "api.h").read_text())
    builder.set_source(
        NAME, '#include "native.h"',
        sources=[f"{folder}/{name}" for name in SOURCES],
        depends=[f"{folder}/{name}" for name in HEADERS],
        include_dirs=[folder], extra_compile_args=[*FLAGS, *more], extra_link_args=["-pthread", *more],
    )  # fmt: skip
    return builder


def extension(folder: str = "host/native") -> Any:
    """The setuptools extension; ``folder``: of the sources, relative to where setuptools runs."""
    made = _builder(folder).distutils_extension()
    made.optional = True  # without a compiler the package installs, and says so when the executor is wanted
    return made


def kinds_header() -> str:
    """Return the text of ``kinds.h``: numbers and names of op kinds and of their integer attributes."""
    from ternac.program.ops import KINDS

    names = ", ".join(f"TN_{name}" for name in KINDS)
    numbers = ", ".join(
        f"TN_{name}_{attr.upper()} = {number}"
        for name, kind in KINDS.items()
        for number, attr in enumerate(kind.integers)
    )
    texts = ", ".join(f'"{name}"' for name in KINDS)
    attrs = ", ".join(f'"{" ".join(kind.integers)}"' for kind in KINDS.values())
    lines = [
        f"typedef enum {{ {names}, TN_KINDS }} tn_kind;",
        f"enum {{ {numbers} }};",
        f"#define TN_KIND_NAMES {{ {texts} }}",
        f"#define TN_KIND_ATTRS {{ {attrs} }}",
    ]
    notice = "/* Op kinds, written from ternac/program/ops.py by `python -m ternac.host.native.build`. */"
    return "\n".join([notice, *(_wrapped(line) for line in lines)]) + "\n"


def _wrapped(line: str) -> str:
    """Break a line of C behind commas; every break is continued, which a macro needs and an enum allows."""
    return " \\\n".join(textwrap.wrap(line, 116, subsequent_indent="  ", break_long_words=False))


def compile_into(folder: Path, sources: Path = HERE, more: Sequence[str] = ()) -> Path:
    """Compile ``sources`` with ``more`` flags into a folder; returns the extension.

    Raises what the compiler raises.
    """
    with TemporaryDirectory() as scratch:
        built = Path(_builder(str(sources), more).compile(tmpdir=scratch))
        shutil.copy(built, folder / f".{built.name}")
    # A process that has the old one loaded keeps it.
    return (folder / f".{built.name}").replace(folder / built.name)


def main() -> None:
    """Write ``kinds.h`` and compile into this folder; raises what the compiler raises."""
    (HERE / "kinds.h").write_text(kinds_header())
    compile_into(HERE)


if __name__ == "__main__":
    main()
