"""The integer program: a straight list of ops over named vectors, with its constants and session state.

A program is data.  It is built by :func:`ternac.program.language_model.build_lm` (from training or at
random) or loaded from a file by :mod:`ternac.program.file`; :func:`ternac.program.legality.check` says
whether it may run; :class:`ternac.run.numpy_executor.NumpyExecutor` says what it computes.
``docs/program.md`` is the page for people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

NARROW_KINDS = ("GATHER", "NORM", "TMATVEC", "REQUANT", "TABLE", "MUL", "ADD", "LERP", "LOAD", "STORE")
WIDE_KINDS = ("GATHER16", "RMSNORM", "SCALE", "PEAK", "QUANT", "RESCALE", "INTERP", "MUL16", "BLEND")
"""For models trained elsewhere; no engine has them."""
KINDS = NARROW_KINDS + WIDE_KINDS
RESERVED_KINDS = ("TOPK", "LOOP", "MEM_GATHER", "MEM_READ", "MEM_UPDATE", "SELECT", "REDUCE")

ROLE_OF_ATTR = {  # (op kind, attribute) -> what the named constant is
    ("GATHER", "embed"): "embed",
    ("NORM", "table"): "norm",
    ("TMATVEC", "weights"): "trits",
    ("TABLE", "table"): "table",
    ("GATHER16", "embed"): "embed16",
    ("SCALE", "gain"): "gain",
    ("INTERP", "curve"): "curve",
}
ROLE_DTYPE: dict[str, npt.DTypeLike] = {
    "embed": np.int8, "norm": np.uint8, "trits": np.int8, "table": np.int16,
    "embed16": np.int16, "gain": np.int16, "curve": np.int16,
}  # fmt: skip


@dataclass(frozen=True)
class Op:
    """One operation.

    ``out`` is the value that it defines (for STORE: the state that it replaces), ``ins`` the values that it
    reads (for LOAD: the state), ``attrs`` its integers and the names of its constants.
    """

    kind: str
    out: str
    ins: tuple[str, ...] = ()
    attrs: Mapping[str, int | str] = field(default_factory=dict)

    def integer(self, name: str, default: int | None = None) -> int:
        """Integer attribute ``name``; ``KeyError`` if it is absent without a default, or is text."""
        value = self.attrs[name] if default is None else self.attrs.get(name, default)
        if not isinstance(value, int):
            raise KeyError(name)
        return value

    def text(self, name: str) -> str:
        """String attribute ``name``; ``KeyError`` if it is absent or an integer."""
        value = self.attrs[name]
        if not isinstance(value, str):
            raise KeyError(name)
        return value


@dataclass(frozen=True, eq=False)
class Program:
    """An integer program; treat it as immutable (the constants are made read-only).

    ``consts``: trits int8[m, K] in -1..1, embeddings int8[V, d] or int16[V, d], tables int16[256], norm
    tables uint8[256], gains int16[n], curves int16[1025].
    ``states``: name to length; the state of a session is their int16 concatenation in this order.
    ``logits`` names the i16[vocab] value that a step returns; a logit is ``code * 2**-logit_scale_bits``.
    ``meta`` is plain JSON data that no executor looks at. ``meta["tokenizer"]`` says how text becomes tokens:
    ``"bytes"``, or ``"huggingface"`` by the ``tokenizer.json`` that ``tokenizer`` holds, else empty.
    """

    name: str
    vocab: int
    ops: tuple[Op, ...]
    consts: Mapping[str, npt.NDArray[Any]]
    states: Mapping[str, int]
    logits: str
    logit_scale_bits: int
    meta: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(self.ops))
        frozen = {}
        for name, value in self.consts.items():
            array = np.array(value, order="C")
            array.setflags(write=False)
            frozen[name] = array
        object.__setattr__(self, "consts", frozen)

    @property
    def state_words(self) -> int:
        """Number of int16 words of one session."""
        return sum(self.states.values())

    def state_slices(self) -> dict[str, slice]:
        """State name to its slice of the concatenated state."""
        slices, start = {}, 0
        for name, length in self.states.items():
            slices[name] = slice(start, start + length)
            start += length
        return slices

    def roles(self) -> dict[str, str]:
        """Constant name to its role (a key of ``ROLE_DTYPE``), from the first op that uses it."""
        found: dict[str, str] = {}
        for op in self.ops:
            for (kind, attr), role in ROLE_OF_ATTR.items():
                if op.kind == kind and attr in op.attrs:
                    found.setdefault(op.text(attr), role)
        return found

    @property
    def trits(self) -> int:
        """Number of ternary weights."""
        roles = self.roles()
        return sum(int(array.size) for name, array in self.consts.items() if roles.get(name) == "trits")

    @cached_property
    def hash(self) -> str:
        """Content hash: hex sha256 of the canonical encoding with its own hash field set to zeros."""
        from ternac.program.file import encode

        return hashlib.sha256(encode(self, "0" * 64)).hexdigest()


def load(path: str | Path) -> Program:
    """Read, check and return the program in a file; raises BadProgramFile or IllegalProgram."""
    from ternac.program.file import load as load_file

    return load_file(path)


def save(program: Program, path: str | Path) -> None:
    """Check the program and write its canonical encoding (atomically); raises IllegalProgram."""
    from ternac.program.file import save as save_file

    save_file(program, path)


def loads(data: bytes) -> Program:
    """Like :func:`load`, from bytes."""
    from ternac.program.file import loads as loads_bytes

    return loads_bytes(data)


def dumps(program: Program) -> bytes:
    """Like :func:`save`, to bytes."""
    from ternac.program.file import dumps as dumps_bytes

    return dumps_bytes(program)


def check(program: Program) -> None:
    """Raise IllegalProgram (naming op index, name and reason) unless every op of the program is legal."""
    from ternac.program.legality import check as check_program

    check_program(program)


def shapes(program: Program) -> dict[str, tuple[str, int]]:
    """Value name to (dtype, length), dtype "i8", "i16" or "acc"; raises IllegalProgram like :func:`check`."""
    from ternac.program.legality import shapes as infer

    return infer(program)
