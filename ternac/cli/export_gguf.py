"""``ternac export --format gguf``: write a program as GGUF, read it back and compare every trit."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ternac.cli.verb import Outcome, Say
from ternac.errors import Mismatch, UsageError
from ternac.files import replacing
from ternac.model.export.gguf_file import open_gguf, read, write
from ternac.model.export.gguf_trits import BLOCK
from ternac.program.program import Program
from ternac.program.zoo import open_program, resolve
from ternac.progress import Progress


def compare(program: Program, again: Program) -> int:
    """Number of trits compared; Mismatch naming the first that differs."""
    count = 0
    for name, role in program.roles().items():
        if role == "trits":
            differ = np.argwhere(program.consts[name] != again.consts[name])
            if len(differ):
                raise Mismatch(f"matrix {name}: trit {differ[0].tolist()} is another one in the GGUF file")
            count += program.consts[name].size
    if program.hash != again.hash:
        raise Mismatch(f"the program read back has hash {again.hash[:16]}, not {program.hash[:16]}")
    return count


def export(args: argparse.Namespace, say: Say) -> Outcome:
    """Write, read back with the `gguf` package, compare; ``args.out`` appears only if all is equal."""
    source = resolve(args.checkpoint)
    program = open_program(source)
    out: Path = args.out or source.with_suffix(".gguf")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder", "name a file, such as model.gguf")
    kind = (args.gguf_type or "tq2_0").upper()
    with replacing(out) as fresh:
        with Progress(len(program.consts), "write", "tensors") as bar:
            write(program, fresh, kind, bar.update)
        compared = compare(program, read(open_gguf(fresh), fresh))
    matrices = [program.consts[name] for name, role in program.roles().items() if role == "trits"]
    padded = sum(matrix.shape[1] % BLOCK != 0 for matrix in matrices)
    say(f"{program.name}: {compared:,} trits in {kind} blocks, read back and equal; hash {program.hash[:16]}")
    if padded:
        say(f"the rows of {padded} matrices are filled up with zero trits to a multiple of {BLOCK}")
    say(f"written: {out}, {out.stat().st_size:,} bytes")
    return Outcome(
        {
            "gguf": str(out),
            "type": kind,
            "hash": program.hash,
            "trits_compared": compared,
            "padded_matrices": padded,
            "bytes": out.stat().st_size,
        }
    )
