"""A program as a GGUF file, and back: ternary matrices in TQ2_0 or TQ1_0 blocks, everything else as it is.

The file carries the header of the program file (docs/program.md) as text, so that reading it back gives the
program file byte for byte, content hash included.  Metadata, all under ``ternac.``:

    header               the header of the program file, JSON
    matrices             names of the ternary tensors
    matrices.columns     their row lengths before they were filled up with zeros to a multiple of 256
    matrices.worth       what one trit is worth, float32 (the blocks hold it rounded to float16)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import BadProgramFile, UsageError
from ternac.model.export.gguf_trits import TYPES, pack, padded, unpack
from ternac.program.file import dumps, loads
from ternac.program.packing import pack5
from ternac.program.program import Program

ARCHITECTURE = "ternac"
HEADER = "ternac.header"
_STORED = {"I8": np.int8, "U8": np.int8, "I16": np.int16}  # GGUF has no unsigned bytes: the same bits


def open_gguf(path: Path) -> Any:
    """The `gguf` package's reader of a file; BadProgramFile."""
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except OSError as error:
        raise BadProgramFile(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # a damaged file meets many kinds of them in the package
        raise BadProgramFile(f"{path} is not a readable GGUF file: {error}") from None


def text_field(reader: Any, name: str) -> str | None:
    """A text of the metadata, or None."""
    field = reader.get_field(name)
    value = None if field is None else field.contents()
    return value if isinstance(value, str) else None


def _header(data: bytes) -> tuple[str, dict[str, Any], dict[str, list[int]]]:
    """Text and entries of a program file's header, and the shapes of its ternary matrices."""
    text = data[8 : 8 + int.from_bytes(data[:8], "little")].decode("ascii")
    entries = json.loads(text)
    about = json.loads(entries.pop("__metadata__")["program"])
    return text, entries, about["trits"]


def worth_of(program: Program, matrix: str) -> float:
    """What a trit of ``matrix`` is worth: imported models say so, in others scales are part of the ops."""
    worths = program.meta.get("worth", {})
    name = matrix.removesuffix(".w")
    value = worths.get(name.replace(".up", ".gate"), 1.0) if isinstance(worths, dict) else 1.0
    return float(value)


def write(
    program: Program, path: Path, kind: str, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Write ``program`` with matrices of type ``kind``, atomically; ``progress`` gets the tensors done."""
    from gguf import GGMLQuantizationType, GGUFWriter

    if kind not in TYPES:
        raise UsageError(f"type {kind!r}: choose from {', '.join(TYPES)}")
    data = dumps(program)
    text, entries, shapes = _header(data)
    body = memoryview(data)[8 + len(text) :]
    names = sorted(shapes)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    writer = GGUFWriter(part, ARCHITECTURE)
    writer.add_string("general.name", program.name)
    writer.add_string(HEADER, text)
    if names:
        writer.add_array("ternac.matrices", names)
        writer.add_array("ternac.matrices.columns", [shapes[name][1] for name in names])
        writer.add_array("ternac.matrices.worth", [worth_of(program, name) for name in names])
    for done, (name, entry) in enumerate(entries.items()):
        if name in shapes:
            packed = pack(program.consts[name], worth_of(program, name), kind)
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType[kind])
        else:
            start, stop = entry["data_offsets"]
            stored = np.frombuffer(body[start:stop], _STORED[entry["dtype"]])
            writer.add_tensor(name, stored.reshape(entry["shape"]))
        progress(done + 1)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def read(reader: Any, path: Path) -> Program:
    """The program of a file that `write` made; BadProgramFile or IllegalProgram."""
    try:
        data = _program_file(reader)
    except BadProgramFile as error:
        raise BadProgramFile(f"{path}: {error}", error.hint) from None
    except (KeyError, ValueError, TypeError, IndexError, UnicodeError) as error:
        raise BadProgramFile(f"{path}: the program in it is damaged: {error}") from None
    return loads(data)


def _program_file(reader: Any) -> bytes:
    """The program file's bytes, put together from header and tensors; nothing in them is believed yet."""
    text = text_field(reader, HEADER) or ""
    head = text.encode("ascii")
    head = len(head).to_bytes(8, "little") + head
    _, entries, shapes = _header(head)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if set(tensors) != set(entries):
        raise BadProgramFile("the tensors are not those of the header")
    size = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if size > 2 * sum(tensor.n_bytes for tensor in reader.tensors):
        raise BadProgramFile("the header claims more data than the file has")
    body = bytearray(size)
    for name, entry in entries.items():
        start, stop = entry["data_offsets"]
        stored = _bytes_of(tensors[name], shapes.get(name))
        if len(stored) != stop - start:
            raise BadProgramFile(f"tensor {name}: {len(stored)} bytes, the header says {stop - start}")
        body[start:stop] = stored
    return head + bytes(body)


def _bytes_of(tensor: Any, shape: list[int] | None) -> bytes:
    """A tensor as the program file stores it."""
    values: npt.NDArray[Any] = tensor.data
    if shape is None:
        return values.tobytes()
    kind = tensor.tensor_type.name
    if kind not in TYPES or list(tensor.shape)[::-1] != [shape[0], padded(shape[1])]:
        raise BadProgramFile(f"tensor {tensor.name}: {kind} {list(tensor.shape)[::-1]}, not trits {shape}")
    return pack5(unpack(values.reshape(shape[0], -1), shape[1], kind, tensor.name)[0]).tobytes()
