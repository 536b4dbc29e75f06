"""``ternac import``: a model trained elsewhere as a program."""

from __future__ import annotations

import argparse
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_budget, add_out, make_folder, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.model.imports.mmfreelm_config import Config
    from ternac.model.imports.source import Source
    from ternac.program.special import SpecialTokens

FORMATS = ("mmfreelm", "gguf")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help="mmfreelm or gguf")
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of the checkpoint, or GGUF file")
    add_out(parser, "program file to write", required=True)
    parser.add_argument("--name", help="name of the program (default: that of the folder or file)")
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="text, or token numbers in an .npy file, to calibrate and compare on (default: random tokens)",
    )
    add_budget(parser)
    number(parser, "--calibration", "tokens to calibrate on", default=512)
    number(parser, "--tokens", "tokens to compare float model and program on, 0: no report", default=1024)
    parser.add_argument(
        "--activations",
        choices=("token", "fixed"),
        default="token",
        help="scale of the 8-bit activations: one per token, or fixed by calibration (default: token)",
    )
    number(
        parser,
        "--headroom",
        "room above the highest magnitude of the calibration",
        default=2,
        least=1,
        most=256,
        kind=float,
        metavar="X",
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.model.imports.text import LEAST

    if args.calibration < LEAST or args.tokens < 0 or 0 < args.tokens < LEAST:
        raise UsageError(f"--calibration and --tokens need at least {LEAST} (--tokens 0: no report)")
    if args.out.is_dir():
        raise UsageError(f"--out {args.out} is a folder", "name a file, such as model.safetensors")
    make_folder(args.out)
    stem = re.sub(r"[^A-Za-z0-9_.\-]+", "-", args.path.resolve().stem)[:96].lstrip(".-")
    name = args.name or stem or "model"
    return (_mmfreelm if args.format == "mmfreelm" else _gguf)(args, name, say)


def _gguf(args: argparse.Namespace, name: str, say: Say) -> Outcome:
    from ternac.model.export.gguf import HEADER, open_gguf, read, text_field
    from ternac.model.imports.gguf_source import open_source
    from ternac.model.imports.special import of_gguf
    from ternac.program.file import save

    reader = open_gguf(args.path)
    if text_field(reader, HEADER) is None:
        config, source = open_source(reader, args.path)

        def special(tokenizer: bytes) -> SpecialTokens:
            return of_gguf(reader, args.path, config.vocab, tokenizer)

        return _model(args, name, config, source, special, say)
    program = read(reader, args.path)
    save(program, args.out)
    say(
        f"{program.name}: {program.trits:,} ternary weights, hash {program.hash[:16]}, "
        "identical after the round trip"
    )
    say(f"written: {args.out}")
    return Outcome({"program": str(args.out), "hash": program.hash, "ternary_weights": program.trits})


def _mmfreelm(args: argparse.Namespace, name: str, say: Say) -> Outcome:
    from ternac.model.imports.mmfreelm_config import read_config
    from ternac.model.imports.source import SafetensorsFolder
    from ternac.model.imports.special import of_folder

    config = read_config(args.path)

    def special(tokenizer: bytes) -> SpecialTokens:
        return of_folder(args.path, config.vocab, tokenizer)

    return _model(args, name, config, SafetensorsFolder(args.path), special, say)


def _model(
    args: argparse.Namespace,
    name: str,
    config: Config,
    source: Source,
    special_of: Callable[[bytes], SpecialTokens],
    say: Say,
) -> Outcome:
    from ternac.model.imports.mmfreelm_convert import Converter, Settings
    from ternac.model.imports.mmfreelm_reference import FloatModel
    from ternac.model.imports.mmfreelm_report import report
    from ternac.model.imports.source import check_tensors
    from ternac.model.imports.text import Reader, samples
    from ternac.program.file import save
    from ternac.progress import Progress

    began = time.monotonic()
    check_tensors(source, config.tensors())
    folder = args.path if args.path.is_dir() else args.path.parent
    reader = Reader.in_folder(folder, config.vocab)
    special = special_of(reader.json)
    data = samples(args.text, reader, config.vocab, args.calibration, args.tokens)
    say(f"{name}: {config.layers} layers of {config.d} and {config.m}, {config.trits:,} ternary weights")
    say(f"calibration and report: {data.origin}")
    if special.meta:
        front = ", put in front of prompts" if special.add_bos else ""
        say(f"a text begins with token {special.bos}{front}; it ends with {list(special.eos)}")
    model = FloatModel(config, source)
    meta: dict[str, Any] = {"imported": args.format, "calibration": data.origin}
    if reader.name:
        meta["tokenizer"] = reader.name
    meta |= special.meta
    converter = Converter(model, Settings(args.activations, args.headroom))
    with Progress(config.layers, "convert", "layers") as bar:
        program = converter.run(name, data.calibration, meta, bar.update, reader.json)
    converted = time.monotonic()
    save(program, args.out)
    found: dict[str, Any] = {
        "program": str(args.out),
        "hash": program.hash,
        "ternary_weights": program.trits,
        "file_bytes": args.out.stat().st_size,
        "vocab": config.vocab,
        "width": config.d,
        "layers": config.layers,
        "inner": config.m,
        "activations": args.activations,
        "headroom": args.headroom,
        "origin": data.origin,
        "tokenizer": reader.name,
        "special_tokens": special.meta.get("special_tokens"),
        "calibration_tokens": int(data.calibration.size),
        "report": None,
    }
    if args.tokens:
        with Progress(3 * config.layers, "compare", "layers") as bar:
            found["report"] = report(model, program, data.report, bar.update)
        _show(found["report"], say)
    found |= {
        "seconds": {"convert": _round(converted - began), "all": _round(time.monotonic() - began)},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    say(f"{found['seconds']['all']} s, at most {found['peak_memory_bytes'] / 2**30:.2f} GiB of memory")
    say(f"written: {args.out}, hash {program.hash[:16]}")
    return Outcome(found)


def _round(seconds: float) -> float:
    return round(seconds, 1)


def _show(found: dict[str, Any], say: Say) -> None:
    say("deviation from the float32 model, root mean square of the difference over that of the value")
    say("        integer program            float32 with activations rounded to bfloat16")
    say("layer   state   resid.1 resid.2    state   resid.1 resid.2")
    for row in found["layers"]:
        cells = [f"{row[kind][point]:.5f}" for kind in ("integer", "bfloat16") for point in ("h", "r1", "r2")]
        say(f"{row['layer']:5d}   {' '.join(cells[:3])}    {' '.join(cells[3:])}")
    nats, same = found["nats_per_token"], found["same_first_choice"]
    for kind, what in (("float32", "float model"), ("integer", "integer program"), ("bfloat16", "bfloat16")):
        again = f", same first choice {same[kind]:.2%}" if kind in same else ""
        say(f"{what:<16} {nats[kind]:.5f} nats per token, perplexity {found['perplexity'][kind]:.3f}{again}")


VERB = Verb(
    help="Import a model that was trained elsewhere as an integer program.",
    example="ternac import mmfreelm MMfreeLM-370M --out mmfree.safetensors --text my.txt",
    add_arguments=_arguments,
    run=_run,
)
