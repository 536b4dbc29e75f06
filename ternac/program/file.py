"""The program file: one ``.safetensors`` container, data only, with one encoding per program.

    u64 little endian   N = length of the header
    N bytes             header: JSON, ASCII, sorted keys, no spaces, padded with spaces to a multiple of 8
    the rest            the tensors, 16-bit ones first, then by name, without gaps

``header["__metadata__"]`` holds ``format``, ``version``, ``sha256`` and ``program`` (JSON as text); the other
keys are the constants, and the bytes of the tokenizer where the program carries one.  Trits are stored five
to a byte.  ``docs/program.md`` has every field.

Reading trusts nothing: sizes are checked before anything is allocated, the hash before anything is
interpreted, the legality of the program and what it costs before it is returned, and last that writing the
program again gives the same bytes, so that whatever a file could say in two ways is refused.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import BadProgramFile, OverBudget, ProgramError
from ternac.files import write_bytes
from ternac.limits import MAX_CONSTS, MAX_FILE, MAX_HEADER, MAX_INS, MAX_OPS, MAX_STATES
from ternac.program import strict_json as sj
from ternac.program.cost import refuse_costly, refuse_long_check
from ternac.program.legality import check, infer
from ternac.program.numerics import MAX_DIM
from ternac.program.ops import Memory, Op
from ternac.program.packing import packed5_size, unpack5
from ternac.program.program import (
    DTYPES,
    FORMAT,
    MEMORY_VERSION,
    NO_DIGEST,
    TOKENIZER_TENSOR,
    VERSION,
    Program,
)


def save(program: Program, path: str | Path) -> None:
    """Check the program and write it, atomically.

    Raises IllegalProgram if it breaks a rule, UsageError if the path cannot be written.
    """
    write_bytes(path, dumps(program))


def load(path: str | Path) -> Program:
    """Read and check the program in a file.

    Raises BadProgramFile or IllegalProgram, with the file's name, if it is damaged or breaks a rule,
    OverBudget if it costs more than a file of its size may (`ternac.limits`).
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE:
                raise BadProgramFile(f"the file has {size} bytes, limit {MAX_FILE}")
            data = file.read(MAX_FILE + 1)
        return loads(data)
    except OSError as error:
        raise BadProgramFile(f"cannot read {path}: {error.strerror}") from None
    except ProgramError as error:
        raise type(error)(f"{path}: {error}", error.hint) from None
    except OverBudget as error:
        raise error.at(str(path)) from None


def dumps(program: Program) -> bytes:
    """Check the program and return its canonical encoding; raises IllegalProgram."""
    check(program)
    return program.encode(program.file_hash)


def loads(data: bytes) -> Program:
    """Parse, verify and check a program; raises BadProgramFile, IllegalProgram or OverBudget."""
    try:
        program = _parse(data)
    except sj.BadJson as error:
        raise BadProgramFile(str(error)) from None
    refuse_long_check(program, len(data))
    refuse_costly(program, infer(program), len(data))
    if program.encode(program.file_hash) != data:
        raise BadProgramFile("the encoding is not canonical", "save the program again with this version")
    return program


def _parse(data: bytes) -> Program:
    """Everything but legality and canonical form."""
    if len(data) > MAX_FILE:
        raise BadProgramFile(f"the file has {len(data)} bytes, limit {MAX_FILE}")
    if len(data) < 8:
        raise BadProgramFile(f"the file has {len(data)} bytes, a program has at least 8")
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER:
        raise BadProgramFile(f"the header claims {size} bytes, limit {MAX_HEADER}", "is this a program file?")
    if size > len(data) - 8:
        raise BadProgramFile(f"the header claims {size} bytes, the file has {len(data) - 8}: truncated")
    header = sj.parse(data[8 : 8 + size], "header")
    about = sj.fields(header.pop("__metadata__", None), "__metadata__", None, str)
    if about.get("format") != FORMAT:
        raise BadProgramFile(
            "this is not a program file: no format entry in its metadata",
            "ternac import makes a program of a checkpoint from elsewhere, ternac export of one trained here",
        )
    if about.get("version") not in (str(VERSION), str(MEMORY_VERSION)):
        versions = f"{VERSION} and {MEMORY_VERSION}"
        raise BadProgramFile(
            f"file version {about.get('version', '?')[:20]!r} is unknown, this ternac reads {versions}",
            "use the version of ternac that wrote it, or a newer one",
        )
    sj.fields(about, "__metadata__", ("format", "program", "sha256", "version"), str)
    _verify_hash(data, size, about["sha256"])
    tensors = _tensors(header, memoryview(data)[8 + size :])
    text = sj.parse(about["program"].encode("ascii", "replace"), "program")
    return _rebuild(text, tensors, int(about["version"]))


def _verify_hash(data: bytes, header_size: int, digest: str) -> None:
    """The sha256 of the file with zeros in the place of the hash must be the hash."""
    header = data[8 : 8 + header_size]
    mark = b'"sha256":"' + digest.encode("ascii", "replace") + b'"'
    blank = header.replace(mark, b'"sha256":"' + NO_DIGEST.encode() + b'"', 1)
    found = hashlib.sha256(data[:8])
    found.update(blank)
    found.update(memoryview(data)[8 + header_size :])
    if found.hexdigest() != digest:
        raise BadProgramFile("the digest does not match: the file is damaged", "get it again")


def _tensors(header: dict[str, Any], body: memoryview) -> dict[str, npt.NDArray[Any]]:
    """The stored tensors; they must cover the body without gaps or overlaps."""
    if len(header) > MAX_CONSTS + 1:
        raise BadProgramFile(f"{len(header)} tensors, limit {MAX_CONSTS}")
    found: dict[str, npt.NDArray[Any]] = {}
    spans = []
    for name, entry in header.items():
        entry = sj.fields(entry, f"tensor {name[:96]}", ("data_offsets", "dtype", "shape"))
        dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if dtype is None:
            raise BadProgramFile(f"tensor {name[:96]}: dtype is not one of {', '.join(DTYPES)}")
        shape = sj.integers(entry["shape"], f"tensor {name[:96]} shape", 1, 2, 1, MAX_FILE)
        start, stop = sj.integers(entry["data_offsets"], f"tensor {name[:96]} offsets", 2, 2, 0, len(body))
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        if stop - start != count * dtype.itemsize:
            raise BadProgramFile(f"tensor {name[:96]}: {stop - start} bytes for shape {shape}")
        spans.append((start, stop))
        found[name] = np.frombuffer(body, dtype, count, start).reshape(shape)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise BadProgramFile("the tensors overlap or leave a gap")
        end = stop
    if end != len(body):
        raise BadProgramFile(f"{len(body) - end} bytes after the last tensor")
    return found


_PROGRAM_FIELDS = ("logit_scale_bits", "logits", "meta", "name", "ops", "states", "trits", "vocab")


def _rebuild(text: dict[str, Any], tensors: dict[str, npt.NDArray[Any]], version: int) -> Program:
    """The program from its description and its stored tensors."""
    more = ("memories",) if version == MEMORY_VERSION else ()
    text = sj.fields(text, "program", (*_PROGRAM_FIELDS, *more))
    meta = sj.fields(text["meta"], "meta", None)
    consts: dict[str, npt.NDArray[Any]] = dict(tensors)
    tokenizer = consts.pop(TOKENIZER_TENSOR, None) if meta.get("tokenizer") == "huggingface" else None
    if tokenizer is not None and (tokenizer.dtype != np.uint8 or tokenizer.ndim != 1):
        raise BadProgramFile(f"tensor {TOKENIZER_TENSOR} is not a row of bytes")
    for name, sides in sj.fields(text["trits"], "trits", None, list).items():
        shape = sj.integers(sides, f"trits {name[:96]}", 2, 2, 1, MAX_DIM)
        stored, count = tensors.get(name), shape[0] * shape[1]
        if stored is None or stored.dtype != np.uint8 or stored.shape != (packed5_size(count),):
            raise BadProgramFile(f"trits {name[:96]}: no tensor of {packed5_size(count)} bytes")
        try:
            consts[name] = unpack5(stored, count).reshape(shape)
        except ValueError as error:
            raise BadProgramFile(f"trits {name[:96]}: {error}") from None
    states: dict[str, int] = {}
    for pair in sj.items(text["states"], "states", MAX_STATES):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str) or pair[0] in states:
            raise BadProgramFile("states: an entry is not [name, length] with a new name")
        states[pair[0]] = pair[1]
    ops = [_rebuild_op(entry, index) for index, entry in enumerate(sj.items(text["ops"], "ops", MAX_OPS))]
    return Program(
        name=text["name"],
        vocab=text["vocab"],
        ops=tuple(ops),
        consts={name: array.astype(array.dtype.newbyteorder("=")) for name, array in consts.items()},
        states=states,
        logits=text["logits"],
        logit_scale_bits=text["logit_scale_bits"],
        meta=meta,
        tokenizer=b"" if tokenizer is None else tokenizer.tobytes(),
        memories=_memories(text.get("memories", [])),
    )


def _memories(entries: Any) -> dict[str, Memory]:
    found: dict[str, Memory] = {}
    for entry in sj.items(entries, "memories", MAX_STATES):
        if not isinstance(entry, list) or [type(part) for part in entry] != [str, int, int, str]:
            raise BadProgramFile("memories: an entry is not [name, rows, width, dtype]")
        name, rows, width, dtype = entry
        if name in found:
            raise BadProgramFile(f"memories: {name[:96]!r} stands twice")
        found[name] = Memory(rows, width, dtype)
    return found


def _rebuild_op(entry: Any, index: int) -> Op:
    entry = sj.fields(entry, f"op {index}", ("attrs", "in", "op", "out"))
    ins, attrs = entry["in"], sj.fields(entry["attrs"], f"op {index} attrs", None)
    if not isinstance(ins, list) or len(ins) > MAX_INS or not all(isinstance(name, str) for name in ins):
        raise BadProgramFile(f"op {index}: inputs are not a short list of names")
    if not isinstance(entry["op"], str) or not isinstance(entry["out"], str):
        raise BadProgramFile(f"op {index}: kind or output is not text")
    if not all(type(value) in (int, str) for value in attrs.values()):
        raise BadProgramFile(f"op {index}: an attribute is neither integer nor text")
    return Op(entry["op"], entry["out"], tuple(ins), attrs)
