"""``ternac export``: a checkpoint as an integer program, a program as QONNX or GGUF; all compared first."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ternac.cli.arguments import add_budget, add_out, make_folder, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import CheckpointError, Mismatch, UsageError

if TYPE_CHECKING:
    from ternac.model.export.ship import About
    from ternac.model.net.network import TernaryLM
    from ternac.model.training.checkpoint import Checkpoint
    from ternac.program.program import Program
    from ternac.text.tokenizer import Encoded

TOKENS = 256
ONLY_FOR = {
    **dict.fromkeys(("text", "measure", "name", "remarks", "about"), ("program",)),
    **dict.fromkeys(("check", "unfinished"), ("program", "qonnx")),
    **dict.fromkeys(("compact", "rows", "rows_seed", "even"), ("program",)),
    "gguf_type": ("gguf",),
}
"""Options that some formats have no use for."""
QONNX_TOKENS = 2
"""Most tokens that the qonnx package checks: it opens a session per node, and takes seconds a token."""
GGUF_TYPES = ("tq2_0", "tq1_0")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="checkpoint file, folder of a run, or name of a shipped model (default: shakespeare); for QONNX "
        "and GGUF a program file, too",
    )
    add_budget(parser)
    parser.add_argument(
        "--format", choices=sorted(FORMATS), default="program", help="what to write (default: program)"
    )
    add_out(
        parser,
        "file to write, beside which its weights go; for a program also a folder, for program, weights, "
        "recipe, curve and card (default: program.safetensors next to the checkpoint)",
        metavar="PATH",
    )
    parser.add_argument(
        "--text",
        metavar="FILE",
        help="text to compare and measure on: of the run's own text the held-out part, of another all "
        "(default: the text that the run records, else the shipped one)",
    )
    parser.add_argument(
        "--measure",
        choices=("numpy", "torch"),
        help="what measures the loss of a shipped folder: the program on the NumPy executor, or, for long "
        "texts, the torch model, whose logits are the program's (default: numpy)",
    )
    parser.add_argument("--name", help="name of the program (default: that of the folder)")
    parser.add_argument(
        "--unfinished",
        action="store_true",
        default=None,
        help="export a run that has not taken all of its steps",
    )
    number(parser, "--check", f"tokens to compare (default: {TOKENS})", least=0)
    parser.add_argument(
        "--compact",
        action="store_true",
        default=None,
        help="keep of the weights what the program needs, trits times scales: a quarter of the size",
    )
    number(parser, "--rows", "rows of the memory, with other address maps; needs no training", least=1)
    number(parser, "--rows-seed", "seed of those maps (default: the seed of the model's own)", least=0)
    parser.add_argument(
        "--even",
        action="store_true",
        default=None,
        help="turn signs of address maps so that the training part of the run's text uses the rows evenly",
    )
    parser.add_argument("--remarks", help="a paragraph for the card")
    parser.add_argument("--gguf-type", choices=GGUF_TYPES, help="blocks of a GGUF file (default: tq2_0)")
    parser.add_argument(
        "--about",
        type=Path,
        metavar="FILE",
        help="what card and recipe say of the text, as TOML (default: what the run records)",
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    for name, formats in ONLY_FOR.items():
        if getattr(args, name) is not None and args.format not in formats:
            raise UsageError(f"--{name.replace('_', '-')} is not for --format {args.format}", "leave it out")
    if args.check is None:
        args.check = TOKENS
    make_folder(args.out)
    return FORMATS[args.format](args, say)


def find_checkpoint(given: str | None, unfinished: bool = False) -> Path:
    """Return the checkpoint of a file, a folder or a shipped model.

    Raises UsageError if there is none, or if it is of a run that is not finished, unless ``unfinished``.
    """
    from ternac.model.training.run_folder import BEST, CHECKPOINT, FINAL, LATEST, progress_of
    from ternac.program import zoo

    path = zoo.ZOO / (given or zoo.DEFAULT) if given is None or given in zoo.names() else Path(given)
    folder = path if path.is_dir() else path.parent
    step, steps = progress_of(folder) or (0, 0)
    if step < steps and not unfinished and (path == folder or path.name in (FINAL, BEST, LATEST)):
        raise UsageError(
            f"the run in {folder} is not finished: step {step} of {steps}",
            "repeat its train command to finish it, or export what there is with --unfinished",
        )
    if path.is_dir():
        # A run that is being extended still has the last average of what it was before.
        for name in (CHECKPOINT, *([] if step < steps else [FINAL]), BEST, LATEST):
            if (path / name).is_file():
                return path / name
        raise UsageError(f"no checkpoint in {path}", hint="train one with: ternac train --out DIR")
    return path


def _program(args: argparse.Namespace, say: Say) -> Outcome:
    import numpy as np

    from ternac.model.export import ship
    from ternac.model.export.export import RESIZED
    from ternac.model.export.resize import resized
    from ternac.model.net.executor import TorchExecutor
    from ternac.model.training import checkpoint as ckpt
    from ternac.model.training.run_folder import progress_of
    from ternac.program import zoo
    from ternac.program.file import save

    source = find_checkpoint(args.model, bool(args.unfinished))
    saved = ckpt.load(source)
    if args.compact:
        saved = ship.compact(saved)
    out: Path = args.out or source.with_name(zoo.PROGRAM)
    folder = out if out.suffix != ".safetensors" else None
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file", "name a folder, or a file that ends in .safetensors")
    step, steps = progress_of(source.parent) or (0, 0)
    if step < steps:
        saved.info["unfinished"] = f"step {step} of {steps}"
        say(f"warning: the run in {source.parent} is not finished: step {step} of {steps}")
    name = args.name or (folder or source.parent).resolve().name
    model = ckpt.model_of(saved)
    meta = _resize(args, saved, model)
    if meta:
        saved = resized(saved, model)
    executor = TorchExecutor(model, name, {RESIZED: meta} if meta else None, ckpt.tokenizer_of(saved))
    program = executor.program
    text, origin, about = _text_of(args, name, saved, program, measured=folder is not None)
    tokens = text.ids if text else np.random.default_rng(0).integers(program.vocab, size=args.check)
    checked = ship.compare(executor, program, tokens[: args.check])
    say(f"{name}: {program.trits:,} ternary weights, hash {program.hash[:16]}")
    say(f"torch model and program agree on {checked} tokens of {origin}, logits and state, bit for bit")
    found = {
        "program": str(out),
        "hash": program.hash,
        "ternary_weights": program.trits,
        "checked_tokens": checked,
        "text": origin,
        "unfinished": step < steps,
    }
    if folder is None:
        written = [out]
        if out.resolve().parent == source.resolve().parent:
            save(program, out)
        else:
            written.append(ship.write_file(out, program, saved))
            found["checkpoint"] = str(written[-1])
    else:
        if text is None or about is None:
            raise UsageError("a model without a tokenizer has no loss on a text", "give --out as a file")
        measure = args.measure or "numpy"
        loss = ship.loss_of(executor, text, measure)
        ship.write_folder(folder, program, source, saved, loss, about, measure)
        say(f"loss of the integer program on {origin}: {loss.nats_per_token:.4f} nats per token")
        written = [folder / zoo.PROGRAM]
        found |= {"program": str(written[0]), "nats_per_token": loss.nats_per_token}
    say(f"written: {', and the weights it came from, '.join(map(str, written))}")
    return Outcome(found)


def _resize(args: argparse.Namespace, saved: Checkpoint, model: TernaryLM) -> dict[str, int]:
    """Change the memory as ``--rows`` and ``--even`` ask for; return what the program's meta says of it.

    Raises UsageError.
    """
    from ternac.model.export.resize import resize
    from ternac.model.training import checkpoint as ckpt
    from ternac.model.training.run_folder import TextRecord

    if args.rows is None and args.rows_seed is not None:
        raise UsageError("--rows-seed chooses maps for --rows", "give --rows, too")
    if args.rows is None and not args.even:
        return {}
    memory, text = ckpt.model_config(saved).memory, None
    if args.even:
        record = TextRecord.of(saved.info)
        if record is None:
            raise UsageError("the checkpoint does not say on what text maps could be evened out")
        path = Path(args.text) if args.text else record.source
        text = record.part(record.read(path, ckpt.tokenizer_of(saved)), "train").ids
    seed = args.rows_seed if args.rows_seed is not None else memory.seed if memory else 0
    rows = args.rows if args.rows is not None else memory.rows if memory else 0
    return resize(model, rows, seed, text)


def _text_of(
    args: argparse.Namespace, name: str, saved: Checkpoint, program: Program, *, measured: bool
) -> tuple[Encoded | None, str, About | None]:
    """Return the text to compare and measure on, what it is, and what the card says of it.

    That is the held-out part of the run's text, or all of another one that ``--text`` names. A text that is
    ``measured`` must be there; otherwise the shipped one takes its place.
    """
    from ternac.files import read_bytes
    from ternac.model.export import ship
    from ternac.model.training.data import SHAKESPEARE, Corpus, read_text
    from ternac.model.training.run_folder import TextRecord
    from ternac.run.evaluate import split
    from ternac.text.tokenizer import tokenizer_of

    given = None if args.text is None else Path(args.text)
    about = ship.About.read(args.about) if args.about else None
    if "tokenizer" not in program.meta:
        return None, "random numbers", about
    record, remarks, reader = TextRecord.of(saved.info), args.remarks or "", tokenizer_of(program)
    if given is not None:
        try:
            text = reader.encode(read_text(given).tobytes())
        except UsageError as error:
            raise UsageError(f"{given}: {error}", error.hint) from None
        corpus = Corpus(text.ids, text.bytes, program.vocab, program.tokenizer)
        if record is None or corpus.digest != record.tokens_sha256:
            if record is not None and about is None:
                about = ship.about_run(name, saved.info, record, given, remarks)
            return text, f"all of {given}", about
        record = replace(record, path=record.path or str(given), text_bytes=record.text_bytes or text.bytes)
    elif record is not None and record.path and (measured or record.source.exists()):
        corpus = record.read(record.source, program.tokenizer)
    else:
        data = read_bytes(SHAKESPEARE)
        if measured and record is not None and about is None:
            if record.tokens_sha256 != hashlib.sha256(data).hexdigest():
                raise UsageError(
                    "the checkpoint does not name the text of its run",
                    "name it: --text FILE, or --about FILE",
                )
            about = ship.shakespeare(name, remarks)
        return reader.encode(split(data, "val")), "the shipped validation text", about
    facts = about or ship.about_run(name, saved.info, record, None, remarks)
    return record.part(corpus, "val"), f"{record.words('val')} of {record.name}", facts


def _program_of(given: str | None, unfinished: bool) -> Program:
    """Open a program file or a shipped model, or export what a checkpoint or the folder of a run holds."""
    from ternac.model.net.executor import TorchExecutor
    from ternac.model.training import checkpoint as ckpt
    from ternac.program import zoo

    try:
        path = zoo.resolve(given)
    except UsageError:
        path = find_checkpoint(given, unfinished)
    try:
        saved = ckpt.load(path)
    except CheckpointError:  # not a checkpoint, so it must be a program; if not, that is the error to show
        return zoo.open_program(path)
    return TorchExecutor(ckpt.model_of(saved), path.parent.resolve().name).program


def _qonnx(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.model.export import qonnx, qonnx_check
    from ternac.progress import Progress

    if args.out is None:
        raise UsageError("--format qonnx needs --out FILE", hint="for example --out model.onnx")
    if args.out.is_dir():
        raise UsageError(f"--out {args.out} is a folder, --format qonnx writes one file")
    program = _program_of(args.model, bool(args.unfinished))
    model = qonnx.to_onnx(program)
    checked = {}
    for name, run, tokens in (
        ("onnxruntime", qonnx_check.by_onnxruntime, args.check),
        ("qonnx", qonnx_check.by_qonnx, min(args.check, QONNX_TOKENS)),
    ):
        if tokens:
            with Progress(tokens, f"check with {name}", "tokens") as bar:
                qonnx_check.compare(model, program, run(model), tokens, bar.update)
        checked[name] = tokens
    qonnx.write(model, args.out)
    say(f"{program.name}: {len(model.graph.node)} nodes, program hash {program.hash[:16]}")
    counts = ", ".join(f"{tokens} tokens by {name}" for name, tokens in checked.items())
    say(f"logits and state equal NumPy's exactly: {counts}")
    say(f"written: {args.out}")
    operators: dict[str, int] = {}
    for node in model.graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    return Outcome(
        {
            "format": "qonnx",
            "file": str(args.out),
            "bytes": args.out.stat().st_size,
            "program": program.name,
            "hash": program.hash,
            "nodes": len(model.graph.node),
            "operators": operators,
            "checked_tokens": checked,
        }
    )


def compare_trits(program: Program, again: Program) -> int:
    """Return the number of trits compared. Raises Mismatch naming the first that differs."""
    import numpy as np

    count = 0
    for name, role in program.roles().items():
        if role == "trits":
            differ = np.argwhere(program.consts[name] != again.consts[name])
            if len(differ):
                raise Mismatch(f"matrix {name}: trit {differ[0].tolist()} differs in the GGUF file")
            count += program.consts[name].size
    if program.file_hash != again.file_hash:
        digests = f"{again.file_hash[:16]}, not {program.file_hash[:16]}"
        raise Mismatch(f"the program read back has the file digest {digests}")
    return count


def _gguf(args: argparse.Namespace, say: Say) -> Outcome:
    """Write, read back with the `gguf` package, compare; ``--out`` appears only if all is equal."""
    from ternac.files import replacing
    from ternac.model.export import gguf
    from ternac.program.zoo import open_program, resolve
    from ternac.progress import Progress

    source = resolve(args.model)
    program = open_program(source)
    out: Path = args.out or source.with_suffix(".gguf")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder", "name a file, such as model.gguf")
    kind = (args.gguf_type or GGUF_TYPES[0]).upper()
    with replacing(out) as fresh:
        with Progress(len(program.consts), "write", "tensors") as bar:
            gguf.write(program, fresh, kind, bar.update)
        compared = compare_trits(program, gguf.read(gguf.open_gguf(fresh), fresh))
    matrices = [program.consts[name] for name, role in program.roles().items() if role == "trits"]
    padded = sum(matrix.shape[1] % gguf.BLOCK != 0 for matrix in matrices)
    say(f"{program.name}: {compared:,} trits in {kind} blocks, read back and equal; hash {program.hash[:16]}")
    if padded:
        say(f"the rows of {padded} matrices are filled up with zero trits to a multiple of {gguf.BLOCK}")
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


FORMATS = {"program": _program, "qonnx": _qonnx, "gguf": _gguf}

VERB = Verb(
    help="Export a checkpoint as an integer program, or a program as QONNX or GGUF, and compare the two.",
    example="ternac export runs/mine --out mine.safetensors",
    add_arguments=_arguments,
    run=_run,
)
