"""``ternac train``: quantization-aware training of a model on text; resumes a stopped run."""

from __future__ import annotations

import argparse
import dataclasses
import io
from pathlib import Path
from typing import Any

from ternac.cli.arguments import add_out, number
from ternac.cli.verb import Outcome, Say, Verb

TORCH_DEVICES = {"cpu": "cpu", "gpu": "cuda"}
"""``--device``: what torch calls it."""

_MODEL_FLAGS = {"d": "width", "m": "inner width of the GLU", "layers": "number of layers"}
_NAMES = {"d": "--width", "m": "--inner"}
"""Options not called as their setting; torchrun takes ``--m`` for one of its own, wherever it stands."""
FORMER = {"--m": "--inner"}
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


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        nargs="?",
        type=Path,
        metavar="TEXT",
        help="text file, .txt or .xz, or folder of them (default: the shipped Tiny Shakespeare)",
    )
    add_preset(parser, "shakespeare")
    add_tokenizer(parser)
    add_out(parser, "folder of the run (default: runs/PRESET)", metavar="DIR")
    number(parser, "--until", "stop there; the same command resumes later", least=1, metavar="STEP")
    add_torch(parser)
    parser.add_argument(
        "--spread",
        choices=("ddp", "fsdp"),
        default="ddp",
        help="under torchrun: every process holds the whole model, or a shard of it (default: ddp)",
    )
    add_settings(parser)


def add_preset(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--preset``: shape and settings of a training run."""
    from ternac.model.net.config import PRESETS

    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default=default,
        help=f"shape and settings to start from (default: {default})",
    )


def add_tokenizer(parser: argparse.ArgumentParser) -> None:
    """Add ``--tokenizer``."""
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="tokenizer.json that makes the tokens (default: bytes)"
    )


def add_torch(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    """Add ``--threads`` and, with ``device``, ``--device``: where torch runs."""
    number(parser, "--threads", "CPU threads (default: torch's choice)", least=1)
    if device:
        parser.add_argument(
            "--device", choices=TORCH_DEVICES, default="cpu", help="where to train (default: cpu)"
        )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting of model and training that one may want to change."""
    from ternac.model.net.config import ModelConfig, TrainConfig

    for cls, flags in ((ModelConfig, _MODEL_FLAGS), (TrainConfig, _TRAIN_FLAGS)):
        kinds = {f.name: type(f.default) for f in dataclasses.fields(cls)}
        for name, text in flags.items():
            option = _NAMES.get(name, "--" + name.replace("_", "-"))
            parser.add_argument(
                option, dest=name, type=kinds[name], metavar="N" if kinds[name] is int else "X", help=text
            )


def settings(args: argparse.Namespace, preset: str) -> tuple[Any, Any]:
    """Return model and training configuration of a preset, changed by the options of `add_settings`."""
    from ternac.model.net.config import PRESETS

    model, train = PRESETS[preset]
    given = {k: v for k, v in vars(args).items() if v is not None}
    model = dataclasses.replace(model, **{k: given[k] for k in _MODEL_FLAGS if k in given})
    return model, dataclasses.replace(train, **{k: given[k] for k in _TRAIN_FLAGS if k in given})


def corpus_of(path: Path, tokenizer: Path | None, say: Say) -> Any:
    """Read the training text as tokens."""
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


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    import torch

    from ternac.model.training.data import SHAKESPEARE
    from ternac.model.training.distributed import open_trainer
    from ternac.model.training.train import BEST, FINAL
    from ternac.model.training.train import Progress as Report
    from ternac.progress import Progress

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model, train = settings(args, args.preset)
    out = args.out or Path("runs") / args.preset
    text = args.text or SHAKESPEARE
    corpus = corpus_of(text, args.tokenizer, say)
    model = dataclasses.replace(model, vocab=corpus.vocab)
    trainer = open_trainer(
        model, train, corpus.tokens, out, args.spread, TORCH_DEVICES[args.device], corpus.tokenizer
    )
    first = trainer.step
    if first:
        say(f"resuming at step {first} of {train.steps} in {out}")
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
    say(f"next: ternac export {kept}" if done else "stopped early; repeat the command to resume")
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


VERB = Verb(
    help="Train a ternary language model on text; the same command resumes a stopped run.",
    example="ternac train my.txt --width 96 --inner 192 --layers 2 --steps 1000 --out runs/mine",
    add_arguments=_arguments,
    run=_run,
    renamed=FORMER,
)
