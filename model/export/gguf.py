"""Programs as GGUF files: ternary matrices in TQ2_0 or TQ1_0 blocks, everything else unchanged.

The file carries the header of the program file (docs/program.md) as text, so that reading it back gives the
program file byte for byte, digest included.  Metadata, all under ``ternac.``:

    header               the header of the program file, JSON
    matrices             names of the ternary tensors
    matrices.columns     their row lengths before they were filled up with zeros to a multiple of 256
    matrices.worth       what one trit is worth, float32 (the blocks hold it rounded to float16)

A block is 256 weights: 66 bytes in TQ2_0 (2 bits each), 54 in TQ1_0 (1.6 bits). Its layout is that of the
`gguf` package; two rules keep trits what they are:

* a block's half-precision scale is what one trit is worth in the whole matrix, also in blocks of zeros;
* rows whose length is no multiple of 256 are filled up with zero trits, which add nothing to a product with
  an activation vector filled up likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import BadProgramFile, UsageError
from ternac.files import parse_json, replacing
from ternac.model.export.gguf_scan import check_header
from ternac.program.file import dumps, loads
from ternac.program.packing import Trits, pack5
from ternac.program.program import Program

BLOCK = 256
BLOCK_BYTES = {"TQ2_0": 66, "TQ1_0": 54}
TYPES = tuple(BLOCK_BYTES)
_SCALE_BYTES = 2  # at the end of a block, in both types
ARCHITECTURE = "ternac"
GGML = "tokenizer.ggml"
"""Prefix of what other programs' files say of their tokens."""
HEADER = "ternac.header"
_STORED = {"I8": np.int8, "U8": np.int8, "I16": np.int16}  # GGUF has no unsigned bytes: the same bits
FOREIGN_TYPES = {36: "I2_S", 37: "I8_S", 38: "TL1"}
"""Tensor types that bitnet.cpp writes and ggml, hence the `gguf` package, does not define."""


def _quants(kind: str) -> Any:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType[kind]


def padded(columns: int) -> int:
    """Return the row length in a file: the next multiple of 256."""
    return -(-columns // BLOCK) * BLOCK


def pack(trits: Trits, worth: float, kind: str) -> npt.NDArray[np.uint8]:
    """Pack int8[m, K] into blocks uint8[m, bytes]. Raises UsageError if float16 cannot hold ``worth``."""
    from gguf import quants

    limits = np.finfo(np.float16)
    if not float(limits.tiny) <= worth <= float(limits.max):
        raise UsageError(f"a trit is worth {worth:g}, GGUF's float16 block scale cannot say that")
    rows, columns = trits.shape
    full = np.zeros((rows, padded(columns)), np.float32)
    full[:, :columns] = trits
    blocks = quants.quantize(full, _quants(kind)).reshape(rows, padded(columns) // BLOCK, -1)
    blocks[..., -_SCALE_BYTES:] = np.array([worth], "<f2").view(np.uint8)
    return blocks.reshape(rows, -1)


def unpack(data: npt.NDArray[np.uint8], columns: int, kind: str, name: str) -> tuple[Trits, float]:
    """Return the matrix int8[m, columns] of rows of blocks, and what a trit is worth.

    Raises BadProgramFile if a code is no trit, the blocks have several scales, or a row is filled up with
    something else than zeros.
    """
    from gguf import quants

    rows = len(data)
    blocks = np.array(data, np.uint8).reshape(rows, padded(columns) // BLOCK, -1)
    scales = np.ascontiguousarray(blocks[..., -_SCALE_BYTES:]).view("<f2").ravel()
    codes, flat = blocks.copy(), blocks.reshape(rows, -1)
    codes[..., -_SCALE_BYTES:] = np.array([1.0], "<f2").view(np.uint8)
    values = quants.dequantize(codes.reshape(rows, -1), _quants(kind))
    if values.min() < -1 or values.max() > 1:
        raise BadProgramFile(f"tensor {name}: a {kind} code is no trit")
    trits = values.astype(np.int8)
    live = np.any(trits.reshape(len(scales), -1), axis=1)
    worths = np.unique(scales[live] if live.any() else scales)
    if len(worths) != 1 or not np.isfinite(worths[0]) or worths[0] <= 0:
        raise BadProgramFile(
            f"tensor {name}: {len(worths)} different block scales, a trit must be worth the same everywhere",
            "a matrix of real weights in TQ blocks is quantized per block; take the original weights",
        )
    if trits[:, columns:].any():
        raise BadProgramFile(f"tensor {name}: {flat.shape[1]} bytes a row hold more than {columns} columns")
    return np.ascontiguousarray(trits[:, :columns]), float(worths[0])


def open_gguf(path: Path) -> Any:
    """Open a GGUF file; its tensors' data are in this machine's byte order, whatever the file's is.

    Of long arrays (`ternac.model.export.gguf_scan`) the elements are not read. Raises BadProgramFile if the
    file cannot be read, is damaged, or holds types that nothing here can decode; OverBudget if its metadata
    would take too long.
    """
    from gguf import GGUFReader, GGUFValueType

    class Reader(GGUFReader):
        """Refuses types that ggml does not define by name, before the package meets them; leaves out the
        elements of long arrays.
        """

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if orig_offs not in arrays:
                return super()._get_field_parts(orig_offs, raw_type)
            size = arrays[orig_offs]
            return size, [self._get(orig_offs, np.uint8, size)], [], [GGUFValueType.ARRAY]

        def _build_tensors(self, start_offs: int, fields: list[Any]) -> None:
            for field in fields:
                kind = int(field.parts[4][0])
                if kind in FOREIGN_TYPES:
                    raise BadProgramFile(
                        f"{path}: tensor {field.name} has type {kind}, {FOREIGN_TYPES[kind]} of bitnet.cpp, "
                        "whose weights lie in an order of that program's own",
                        "import the checkpoint that the file was made from (.safetensors), or a GGUF file of "
                        "type F32, F16, BF16, TQ1_0 or TQ2_0",
                    )
            super()._build_tensors(start_offs, fields)

    arrays = check_header(path)
    try:
        reader = Reader(path)
        if reader.byte_order == "S":
            reader.tensors = [tensor._replace(data=_native_order(tensor)) for tensor in reader.tensors]
    except BadProgramFile:
        raise
    except OSError as error:
        raise BadProgramFile(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # a damaged file meets many kinds of them in the package
        raise BadProgramFile(f"{path} is not a readable GGUF file: {error}") from None
    return reader


def _native_order(tensor: Any) -> npt.NDArray[Any]:
    """Return the data of a tensor from a file of the other byte order, in this machine's order.

    The package swaps numbers, but hands out every other type as the bytes of the file.
    Raises BadProgramFile if the type's blocks hold more than one 16-bit scale at their end.
    """
    kind, data = tensor.tensor_type.name, tensor.data
    if data.dtype != np.uint8:
        return data.astype(data.dtype.newbyteorder("="))
    swapped = np.array(data)
    if kind == "BF16":
        return swapped.reshape(-1, 2)[:, ::-1].reshape(data.shape)
    if kind not in TYPES:
        raise BadProgramFile(
            f"tensor {tensor.name}: {kind} blocks in the other byte order cannot be read",
            "convert the file's byte order with gguf-convert-endian",
        )
    blocks = swapped.reshape(-1, BLOCK_BYTES[kind])
    blocks[:, -2:] = blocks[:, :-3:-1].copy()
    return blocks.reshape(data.shape)


def metadata(reader: Any, name: str) -> Any:
    """Return an entry of the metadata, or None. Raises BadProgramFile if it is text and not UTF-8."""
    field = reader.get_field(name)
    try:
        return None if field is None else field.contents()
    except UnicodeDecodeError as error:
        raise BadProgramFile(f"the metadata text {name} is damaged: {error}") from None


def text_field(reader: Any, name: str) -> str | None:
    """Return a text of the metadata, or None. Raises BadProgramFile if it is not UTF-8."""
    value = metadata(reader, name)
    return value if isinstance(value, str) else None


def _header(data: bytes) -> tuple[str, dict[str, Any], dict[str, list[int]]]:
    """Return text and entries of a program file's header, and the shapes of its ternary matrices."""
    text = data[8 : 8 + int.from_bytes(data[:8], "little")].decode("ascii")
    entries = parse_json(text)
    about = parse_json(entries.pop("__metadata__")["program"])
    return text, entries, about["trits"]


def worth_of(program: Program, matrix: str) -> float:
    """Return what a trit of ``matrix`` is worth: imported models say so; others have scales in their ops."""
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
    with replacing(path) as part:
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
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read(reader: Any, path: Path) -> Program:
    """Return the program of a file that `write` made. Raises BadProgramFile or IllegalProgram."""
    try:
        data = _program_file(reader)
    except BadProgramFile as error:
        raise BadProgramFile(f"{path}: {error}", error.hint) from None
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise BadProgramFile(f"{path}: the program in it is damaged: {error}") from None
    return loads(data)


def _program_file(reader: Any) -> bytes:
    """Rebuild the program file's bytes from header and tensors; `loads` checks them later."""
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
    """Return a tensor's bytes as the program file stores them."""
    values: npt.NDArray[Any] = tensor.data
    if shape is None:
        return values.tobytes()
    kind = tensor.tensor_type.name
    if kind not in TYPES or list(tensor.shape)[::-1] != [shape[0], padded(shape[1])]:
        raise BadProgramFile(f"tensor {tensor.name}: {kind} {list(tensor.shape)[::-1]}, not trits {shape}")
    return pack5(unpack(values.reshape(shape[0], -1), shape[1], kind, tensor.name)[0]).tobytes()
