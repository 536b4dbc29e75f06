"""The verbs ``train`` and ``export``."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError
from ternac.program import zoo
from ternac.run import evaluate as ev

_MODEL_FLAGS = {"d": "width", "m": "inner width of the GLU", "layers": "number of layers"}
_NAMES = {"d": ("--width",), "m": ("--inner", "--m")}
"""Flags not called as their setting; torchrun takes ``--m`` for one of its own, wherever it stands."""
_TRAIN_FLAGS = {
    "steps": "training steps",
    "batch": "parallel streams",
    "window": "tokens per stream and step",
    "lr": "highest learning rate",
    "dropout": "dropout probability",
    "sharpen": "logits count this many times in the training loss alone",
    "temper": "factor on all logits of the finished model (a norm table's gain)",
    "average": "decay per step of the average of the weights (0: keep the weights themselves)",
    "seed": "seed of everything random",
    "eval_every": "steps between evaluations",
    "checkpoint_every": "steps between checkpoints",
}


FORMATS = {
    "program": "ternac.cli.train",
    "qonnx": "ternac.cli.export_qonnx",
    "gguf": "ternac.cli.export_gguf",
}
"""``export --format``: the module whose ``export(args, say)`` writes it."""


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.model.net.config import PRESETS

    parser.add_argument(
        "text", nargs="?", type=Path, metavar="TEXT",
        help="text file, .txt or .xz, or folder of them (default: the shipped Tiny Shakespeare)",
    )  # fmt: skip
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), default="shakespeare", help="settings to start from"
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="tokenizer.json that makes the tokens (default: bytes)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/PRESET)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "--until", type=int, metavar="STEP", help="stop there; the same command goes on later"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default: cpu)"
    )
    parser.add_argument(
        "--spread",
        choices=("ddp", "fsdp"),
        default="ddp",
        help="under torchrun: every process holds the whole model, or a shard of it (default: ddp)",
    )
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """A flag for each setting of model and training that one may want to change."""
    from ternac.model.net.config import ModelConfig, TrainConfig

    for cls, flags in ((ModelConfig, _MODEL_FLAGS), (TrainConfig, _TRAIN_FLAGS)):
        kinds = {f.name: type(f.default) for f in dataclasses.fields(cls)}
        for name, text in flags.items():
            names = _NAMES.get(name, ("--" + name.replace("_", "-"),))
            parser.add_argument(*names, dest=name, type=kinds[name], metavar=name.upper(), help=text)


def settings(args: argparse.Namespace, preset: str) -> tuple[Any, Any]:
    """(model, training) configuration of a preset with the flags of :func:`add_settings` over it."""
    from ternac.model.net.config import PRESETS

    model, train = PRESETS[preset]
    given = {k: v for k, v in vars(args).items() if v is not None}
    model = dataclasses.replace(model, **{k: given[k] for k in _MODEL_FLAGS if k in given})
    return model, dataclasses.replace(train, **{k: given[k] for k in _TRAIN_FLAGS if k in given})


def corpus_of(path: Path, tokenizer: Path | None, say: Say) -> Any:
    """The training text as tokens."""
    from ternac.files import read_bytes
    from ternac.model.training.data import read_corpus
    from ternac.progress import Progress

    if tokenizer is None:
        return read_corpus(path)
    with Progress(1, "tokens", "bytes") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        corpus = read_corpus(path, read_bytes(tokenizer), show)
    say(f"{len(corpus.tokens):,} tokens of {corpus.bytes_per_token:.3f} bytes; vocabulary {corpus.vocab}")
    return corpus


def _train(args: argparse.Namespace, say: Say) -> Outcome:
    import torch

    from ternac.model.training.data import SHAKESPEARE
    from ternac.model.training.distributed import open_trainer
    from ternac.model.training.train import BEST, FINAL
    from ternac.model.training.train import Progress as Report
    from ternac.progress import Progress

    if args.threads is not None:
        if args.threads < 1:
            raise UsageError(f"--threads is {args.threads}, needs at least 1")
        torch.set_num_threads(args.threads)
    if args.until is not None and args.until < 1:
        raise UsageError(f"--until is {args.until}, needs at least 1")
    model, train = settings(args, args.preset)
    out = args.out or Path("runs") / args.preset
    text = args.text or SHAKESPEARE
    corpus = corpus_of(text, args.tokenizer, say)
    model = dataclasses.replace(model, vocab=corpus.vocab)
    trainer = open_trainer(model, train, corpus.tokens, out, args.spread, args.device, corpus.tokenizer)
    first = trainer.step
    if first:
        say(f"going on from step {first} of {train.steps} in {out}")
    say(
        f"{model.ternary_weights:,} ternary weights; {train.steps} steps of {train.batch} x {train.window} "
        f"tokens; {trainer.streams.windows_per_pass} steps are one pass over the text"
    )
    quiet = None if trainer.leads else io.StringIO()
    with Progress(max(1, train.steps - first), "train", "steps", quiet) as bar:

        def report(now: Report) -> None:
            bar.update(now.step - first, f"loss {now.train_nats:.3f}")
            if now.val_nats is not None:
                say(f"step {now.step}: validation {now.val_nats:.4f} nats per token")

        best = trainer.run(report, args.until)
    done = trainer.step >= train.steps
    say(f"best validation loss {best:.4f} nats per token" if best < 1e9 else "no evaluation yet")
    kept = out / (FINAL if done and (out / FINAL).is_file() else BEST)
    say(f"next: ternac export {kept}" if done else "stopped early; repeat the command to go on")
    return Outcome(
        {
            "out": str(out),
            "checkpoint": str(kept),
            "step": trainer.step,
            "steps": train.steps,
            "val_nats_per_token": best if best < 1e9 else None,
            "ternary_weights": model.ternary_weights,
            "seconds": round(trainer.seconds, 1),
            "processes": trainer.processes,
        }
    )


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        nargs="?",
        metavar="MODEL",
        help="checkpoint file, folder of a run, or name of a shipped model (default: shakespeare); "
        "for other formats than program a program file, too",
    )
    parser.add_argument(
        "--format", choices=sorted(FORMATS), default="program", help="what to write (default: program)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="program file to write, or a folder for program, weights, recipe, curve and card "
        "(default: program.safetensors beside the checkpoint)",
    )
    parser.add_argument(
        "--text", metavar="FILE", help="text to compare and measure on (default: the shipped validation text)"
    )
    parser.add_argument(
        "--measure",
        choices=("numpy", "torch"),
        default="numpy",
        help="what measures the loss of a shipped folder: the program on the NumPy executor, or, for long "
        "texts, the torch model, whose logits are the program's (default: numpy)",
    )
    parser.add_argument("--name", help="name of the program (default: that of the folder)")
    parser.add_argument(
        "--check", type=int, default=256, metavar="N", help="tokens to compare (default: 256)"
    )
    parser.add_argument("--remarks", default="", help="a paragraph for the card")
    parser.add_argument(
        "--gguf-type", choices=("tq2_0", "tq1_0"), help="blocks of a GGUF file (default: tq2_0)"
    )
    parser.add_argument(
        "--about",
        type=Path,
        metavar="FILE",
        help="what card and recipe say of the text, as TOML (default: that it is the shipped text)",
    )


def find(given: str | None) -> Path:
    """The checkpoint meant by a file, a folder or the name of a shipped model; UsageError."""
    from ternac.model.net.executor import CHECKPOINT
    from ternac.model.training.train import BEST, FINAL, LATEST

    path = zoo.ZOO / (given or zoo.DEFAULT) if given is None or given in zoo.names() else Path(given)
    if path.is_dir():
        for name in (CHECKPOINT, FINAL, BEST, LATEST):
            if (path / name).is_file():
                return path / name
        raise UsageError(f"no checkpoint in {path}", hint="train one with: ternac train --out DIR")
    return path


def _export(args: argparse.Namespace, say: Say) -> Outcome:
    if args.check < 0:
        raise UsageError(f"--check is {args.check}, needs at least 0")
    result: Outcome = importlib.import_module(FORMATS[args.format]).export(args, say)
    return result


def export(args: argparse.Namespace, say: Say) -> Outcome:
    """Write the integer program."""
    from ternac.files import read_bytes
    from ternac.model.export import ship
    from ternac.model.net.executor import TorchExecutor
    from ternac.model.training import checkpoint as ckpt
    from ternac.program.file import save
    from ternac.text.tokenizer import tokenizer_of

    source = find(args.checkpoint)
    saved = ckpt.load(source)
    out: Path = args.out or source.with_name(zoo.PROGRAM)
    folder = out if out.suffix != ".safetensors" else None
    name = args.name or (folder or source.parent).resolve().name
    about = ship.About.read(args.about) if args.about else ship.shakespeare(name, args.remarks)
    executor = TorchExecutor(ckpt.model_of(saved), name, tokenizer=ckpt.tokenizer_of(saved))
    program = executor.program
    data = read_bytes(args.text) if args.text else ev.split(read_bytes(zoo.TEXT), "val")
    reader = tokenizer_of(program) if "tokenizer" in program.meta else None
    text = reader.encode(data) if reader else None
    tokens = text.ids if text else np.random.default_rng(0).integers(program.vocab, size=args.check)
    checked = ship.compare(executor, program, tokens[: args.check])
    say(f"{name}: {program.trits:,} ternary weights, hash {program.hash[:16]}")
    say(f"torch model and program agree on {checked} tokens, logits and state, bit for bit")
    found = {
        "program": str(out),
        "hash": program.hash,
        "ternary_weights": program.trits,
        "checked_tokens": checked,
    }
    if folder is None:
        out.parent.mkdir(parents=True, exist_ok=True)
        save(program, out)
    else:
        if text is None:
            raise UsageError("a model without a tokenizer has no loss on a text", "give --out as a file")
        loss = ship.loss_of(executor, text, args.measure)
        ship.write_folder(folder, program, source, saved, loss, about, args.measure)
        say(f"validation loss of the integer program: {loss.nats_per_token:.4f} nats per token")
        found |= {"program": str(folder / zoo.PROGRAM), "nats_per_token": loss.nats_per_token}
    say(f"written: {found['program']}")
    return Outcome(found)


VERBS = {
    "train": Verb(
        help="train a ternary language model on text; a killed run goes on where it was",
        example="ternac train my.txt --width 96 --inner 192 --layers 2 --steps 1000 --out runs/mine",
        add_arguments=_train_arguments,
        run=_train,
    ),
    "export": Verb(
        help="turn a training checkpoint into an integer program, and compare the two",
        example="ternac export runs/mine --out mine.safetensors",
        add_arguments=_export_arguments,
        run=_export,
    ),
}
