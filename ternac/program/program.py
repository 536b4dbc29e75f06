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
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import IllegalProgram
from ternac.limits import MAX_FILE, MAX_HEADER
from ternac.program import strict_json as sj
from ternac.program.ops import MEMORY_KINDS, Memory, Op, roles_of
from ternac.program.packing import pack5
from ternac.program.special import KEY as SPECIAL_TOKENS
from ternac.program.special import SpecialTokens

FORMAT = "ternac.program"
VERSION, MEMORY_VERSION = 1, 2
"""Versions of the file: of a program without ops of memories, and of one with them."""
TOKENIZER_TENSOR = "tokenizer.json"
NO_DIGEST = "0" * 64
"""What stands in a digest's place while it is computed."""
TEXT_META = (SPECIAL_TOKENS, "tokenizer")
"""The entries of ``meta`` that change what a session says: part of the identity. Others only describe."""
DTYPES: dict[str, np.dtype[Any]] = {"I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U8": np.dtype("u1")}
"""Types of a file's tensors, by their name there."""
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Program:
    """An integer program; treat it as immutable (the constants are made read-only).

    ``consts``: trits int8[m, K] in -1..1, embeddings int8[V, d] or int16[V, d], tables int16[256], norm
    tables uint8[256], gains int16[n], curves int16[1025], rows int8[N, D].
    ``states``: name to length; the state of a session is their int16 concatenation in this order, then
    the ``memories`` in theirs, each row after row.
    ``logits`` names the i16[vocab] value that a step returns; a logit is ``code * 2**-logit_scale_bits``.
    ``meta`` is plain JSON data that no executor looks at. ``meta["tokenizer"]`` says how text becomes tokens:
    ``"bytes"``, or ``"huggingface"`` by the ``tokenizer.json`` that ``tokenizer`` holds, else empty;
    ``meta["special_tokens"]`` which tokens begin and end a text (`SpecialTokens`).
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
    memories: Mapping[str, Memory] = field(default_factory=dict)

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
        """Number of int16 words of one session, rows of memories among them."""
        return sum(self.states.values()) + sum(memory.words for memory in self.memories.values())

    @cached_property
    def special(self) -> SpecialTokens:
        """The tokens that begin and end a text."""
        return SpecialTokens.parse(self.meta, self.vocab)

    def state_slices(self) -> dict[str, slice]:
        """State name to its slice of the concatenated state."""
        slices, start = {}, 0
        for name, length in self.states.items():
            slices[name] = slice(start, start + length)
            start += length
        return slices

    def memory_slices(self) -> dict[str, slice]:
        """Memory name to its slice of the words of the state, which lie behind those of the states."""
        slices, start = {}, sum(self.states.values())
        for name, memory in self.memories.items():
            slices[name] = slice(start, start + memory.words)
            start += memory.words
        return slices

    @property
    def version(self) -> int:
        """Version of the file that says it."""
        uses = bool(self.memories) or any(op.kind in MEMORY_KINDS for op in self.ops)
        return MEMORY_VERSION if uses else VERSION

    def roles(self) -> dict[str, str]:
        """Constant name to the name of its role, from the first op that uses it."""
        return {name: role.name for name, role in roles_of(self.ops, self.consts).items()}

    @property
    def trits(self) -> int:
        """Number of ternary weights."""
        roles = self.roles()
        return sum(int(array.size) for name, array in self.consts.items() if roles.get(name) == "trits")

    @cached_property
    def hash(self) -> str:
        """The identity: `file_hash` of this program without its name and without what only describes it.

        Whatever the file says is covered, but ``name`` and those entries of ``meta`` that are not in
        `TEXT_META`. No legal program has no name, so it is never the digest of a file.
        """
        meta = {key: self.meta[key] for key in TEXT_META if key in self.meta}
        return hashlib.sha256(self._encode(NO_DIGEST, "", meta)).hexdigest()

    @cached_property
    def file_hash(self) -> str:
        """The digest that the program's file carries: hex sha256 of the file with zeros in its place."""
        return hashlib.sha256(self.encode(NO_DIGEST)).hexdigest()

    def encode(self, digest: str) -> bytes:
        """The canonical encoding with ``digest`` in the hash field; the program must be legal."""
        return self._encode(digest, self.name, self.meta)

    def _encode(self, digest: str, name: str, meta: Mapping[str, Any]) -> bytes:
        roles = self.roles()
        tensors = {}
        for const, array in self.consts.items():
            stored = pack5(array) if roles[const] == "trits" else array
            tensors[const] = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<"))
        if self.tokenizer:
            tensors[TOKENIZER_TENSOR] = np.frombuffer(self.tokenizer, np.uint8)
        header: dict[str, Any] = {
            "__metadata__": {
                "format": FORMAT,
                "program": sj.dump(self._describe(roles, name, meta)),
                "sha256": digest,
                "version": str(self.version),
            }
        }
        body, offset = [], 0
        for tensor in sorted(tensors, key=lambda n: (-tensors[n].itemsize, n)):
            array = tensors[tensor]
            span = [offset, offset + array.nbytes]
            header[tensor] = {
                "data_offsets": span,
                "dtype": _DTYPE_NAMES[array.dtype],
                "shape": list(array.shape),
            }
            body.append(array.tobytes())
            offset = span[1]
        text = sj.dump(header).encode("ascii")
        text += b" " * (-len(text) % 8)
        if len(text) > MAX_HEADER or len(text) + offset > MAX_FILE - 8:
            raise IllegalProgram(f"header {len(text)} and tensors {offset} bytes exceed the limits of a file")
        return b"".join((len(text).to_bytes(8, "little"), text, *body))

    def _describe(self, roles: dict[str, str], name: str, meta: Mapping[str, Any]) -> dict[str, Any]:
        """The program without its constants, as JSON data, under ``name`` and with ``meta``."""
        memories = [[memory, m.rows, m.width, m.dtype] for memory, m in self.memories.items()]
        return ({"memories": memories} if self.version == MEMORY_VERSION else {}) | {
            "logit_scale_bits": self.logit_scale_bits,
            "logits": self.logits,
            "meta": dict(meta),
            "name": name,
            "ops": [
                {"op": o.kind, "out": o.out, "in": list(o.ins), "attrs": dict(o.attrs)} for o in self.ops
            ],
            "states": [[state, length] for state, length in self.states.items()],
            "trits": {const: list(a.shape) for const, a in self.consts.items() if roles[const] == "trits"},
            "vocab": self.vocab,
        }
