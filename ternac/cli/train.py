"""``ternac train``: quantization-aware training of a model on text; resumes a stopped run."""

from __future__ import annotations

import argparse
import dataclasses
import io
import shlex
from pathlib import Path
from typing import Any

from ternac.cli.arguments import add_out, number, path_of
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

TORCH_DEVICES = {"cpu": "cpu", "gpu": "cuda"}
"""``--device``: what torch calls it."""

_MODEL_FLAGS = {
    "d": "width",
    "m": "inner width of the GLU",
    "layers": "number of layers",
    "forget_bias": "added before the sigmoid of the forget gates: with 3, untrained states last 20 tokens",
}
_NAMES = {"d": "--width", "m": "--inner"}
"""Options not called as their setting; torchrun takes ``--m`` for one of its own, wherever it stands."""
MANY_PASSES = 30
"""Passes over a text from which on `train` warns; the shipped models took up to 25."""
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
    "repeats": "share of the streams that read passages again, so that a memory learns to be of use",
    "question_weight": "weight of the loss before ' =>' in a line; what is behind it, the answer, counts 1",
    "mask_steps": "steps that dropout masks are kept; a memory finds what was written under the same mask",
    "seed": "seed of everything random",
    "parts": "equal parts of the batch that up to as many threads work on; threads then change no bit",
    "eval_every": "steps between evaluations",
    "eval_tokens": "held-out tokens that an evaluation measures, the first ones (0: all)",
    "val_fraction": "part of the text, at its end, that is held out of training",
    "checkpoint_every": "steps between checkpoints",
}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        nargs="?",
        type=path_of,
        metavar="TEXT",
        help="text file, .txt or .xz, or folder of them (default: the shipped Tiny Shakespeare)",
    )
    add_preset(parser, "shakespeare")
    add_tokenizer(parser)
    add_out(parser, "folder of the run (default: runs/PRESET)", metavar="DIR")
    number(parser, "--until", "stop there; the same command resumes later", least=1, metavar="STEP")
    parser.add_argument(
        "--extend",
        action="store_true",
        help="continue a run of fewer steps to --steps, by the schedule of that many",
    )
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


def _option(name: str) -> str:
    """Return the option of a setting."""
    return _NAMES.get(name, "--" + name.replace("_", "-"))


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting of model and training that one may want to change."""
    from ternac.model.net.config import ModelConfig, TrainConfig

    parser.add_argument(
        "--memory",
        metavar="NAME=N,..",
        help="a memory layer, such as heads=8,slots=16,width=24,rate=1,after=1,seed=1, or none (what is left "
        "out is as in the preset, else as here)",
    )
    for cls, flags in ((ModelConfig, _MODEL_FLAGS), (TrainConfig, _TRAIN_FLAGS)):
        _add_fields(parser, cls, flags)


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Add the options of the model's shape, and of the tokens of a step."""
    from ternac.model.net.config import ModelConfig, TrainConfig

    _add_fields(parser, ModelConfig, _MODEL_FLAGS)
    _add_fields(parser, TrainConfig, {name: _TRAIN_FLAGS[name] for name in ("batch", "window")})


def _add_fields(parser: argparse.ArgumentParser, cls: Any, flags: dict[str, str]) -> None:
    kinds = {f.name: type(f.default) for f in dataclasses.fields(cls)}
    for name, text in flags.items():
        parser.add_argument(
            _option(name),
            dest=name,
            type=kinds[name],
            metavar="N" if kinds[name] is int else "X",
            help=text,
        )


def settings(args: argparse.Namespace, preset: str) -> tuple[Any, Any]:
    """Return model and training configuration of a preset, changed by the options of `add_settings`."""
    from ternac.model.net.config import PRESETS

    model, train = PRESETS[preset]
    given = {k: v for k, v in vars(args).items() if v is not None}
    model = dataclasses.replace(model, **{k: given[k] for k in _MODEL_FLAGS if k in given})
    if "memory" in given:
        model = dataclasses.replace(model, memory=_memory(given["memory"], model.memory))
    return model, dataclasses.replace(train, **{k: given[k] for k in _TRAIN_FLAGS if k in given})


def _memory(text: str, before: Any) -> Any:
    """Return the memory that ``--memory`` asks for: ``before``, changed. Raises UsageError if unclear."""
    from ternac.model.net.config import MemoryConfig

    if text == "none":
        return None
    names = [f.name for f in dataclasses.fields(MemoryConfig)]
    parts = [part.partition("=") for part in text.split(",")]
    for name, _, value in parts:
        if name not in names or not value.isdecimal():
            raise UsageError(
                f"--memory: {name}={value} is not NAME=N" if value else f"--memory: {name!r} is not NAME=N",
                f"names: {', '.join(names)}; or --memory none",
            )
    return dataclasses.replace(before or MemoryConfig(), **{name: int(value) for name, _, value in parts})


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


def _command(args: argparse.Namespace, out: Path) -> str:
    """Return the command of a run, without what does not change its result."""
    words = ["ternac", "train", *([str(args.text)] if args.text else []), "--preset", args.preset]
    words += ["--tokenizer", str(args.tokenizer)] if args.tokenizer else []
    for name in (*_MODEL_FLAGS, "memory", *_TRAIN_FLAGS):
        if getattr(args, name) is not None:
            words += [_option(name), str(getattr(args, name))]
    return shlex.join([*words, "--out", str(out)])


def _warn_of_passes(passes: float, say: Say) -> None:
    if passes > MANY_PASSES:
        say(
            f"warning: {passes:.0f} passes over the text: the model will learn it by heart, and do worse on "
            "other text; take more text, a smaller model, or fewer --steps"
        )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    import torch

    from ternac.model.export.ship import save_program_of_run
    from ternac.model.training.data import SHAKESPEARE
    from ternac.model.training.distributed import open_trainer
    from ternac.model.training.run_folder import SHIPPED
    from ternac.model.training.train import Progress as Report
    from ternac.progress import Progress

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model, train = settings(args, args.preset)
    out = args.out or Path("runs") / args.preset
    text = args.text or SHAKESPEARE
    corpus = corpus_of(text, args.tokenizer, say)
    model = dataclasses.replace(model, vocab=corpus.vocab)
    about = {
        "text": {"path": str(args.text) if args.text else SHIPPED, "bytes": corpus.text_bytes},
        "command": _command(args, out),
        "device": args.device.upper(),
    }
    trainer = open_trainer(
        model, train, corpus.tokens, out, args.spread, TORCH_DEVICES[args.device], corpus.tokenizer, about,
        args.extend,
    )  # fmt: skip
    first = trainer.step
    if first:
        say(f"resuming at step {first} of {train.steps} in {out}")
    for each in trainer.extended[-1:]:
        say(f"extended from {each['from_steps']} steps at step {each['at_step']}: the learning rate follows "
            f"the schedule of {train.steps} steps from there")  # fmt: skip
    passes = train.steps / trainer.streams.windows_per_pass
    say(
        f"{model.ternary_weights:,} ternary weights; {train.steps} steps of {train.batch} x {train.window} "
        f"tokens; {trainer.streams.windows_per_pass} steps are one pass over the text"
    )
    _warn_of_passes(passes, say)
    say(
        f"held out: the last {len(trainer.val_text):,} tokens, of which an evaluation measures "
        f"{trainer.validation_tokens:,} every {train.eval_every} steps"
    )
    quiet = None if trainer.leads else io.StringIO()
    validation: list[Progress] = []

    def watch(done: int, total: int) -> None:
        bar = validation[0] if validation else Progress(total, "validation", "tokens", quiet)
        bar.update(done)
        validation[:] = [bar] if done < total else []
        if done >= total:
            bar.close()

    trainer.watch = watch
    with Progress(max(1, train.steps - first), "train", "steps", quiet) as bar:

        def report(now: Report) -> None:
            bar.update(now.step - first, f"loss {now.train_nats:.3f}")
            if now.val_nats is not None:
                say(f"step {now.step}: validation {now.val_nats:.4f} nats per token")

        try:
            best = trainer.run(report, args.until)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_stopped(trainer.saved, out)) from None
    done = trainer.step >= train.steps
    say(f"best validation loss {best:.4f} nats per token" if best < 1e9 else "no evaluation yet")
    kept = _kept(out, done)
    program = None
    if not done:
        say(_stopped(trainer.step, out, " without --until"))
    elif trainer.leads:
        program = save_program_of_run(out, kept)
        say(f"written: {program}; next: ternac run {out}, or ternac export {out} --out FOLDER")
    return Outcome(
        {
            "out": str(out),
            "checkpoint": str(kept),
            "program": str(program) if program else None,
            "finished": done,
            "step": trainer.step,
            "steps": train.steps,
            "passes": round(passes, 2),
            "extended": trainer.extended,
            "val_nats_per_token": best if best < 1e9 else None,
            "validation_tokens": trainer.validation_tokens,
            "held_out_tokens": len(trainer.val_text),
            "ternary_weights": model.ternary_weights,
            "seconds": round(trainer.seconds, 1),
            "processes": trainer.processes,
        }
    )


def _kept(out: Path, done: bool) -> Path:
    """Return the checkpoint that a run is exported from; a run without an evaluation has only the latest."""
    from ternac.model.training.run_folder import BEST, FINAL, LATEST

    names = [FINAL, BEST, LATEST] if done else [BEST, LATEST]
    return next((out / name for name in names if (out / name).is_file()), out / LATEST)


def _stopped(step: int, out: Path, how: str = "") -> str:
    if not step:
        return "interrupted before the first step: nothing is saved"
    return f"saved at step {step} in {out}; repeat the command{how} to continue"


VERB = Verb(
    help="Train a ternary language model on text; the same command resumes a stopped run.",
    example="ternac train my.txt --width 96 --inner 192 --layers 2 --steps 1000 --out runs/mine",
    add_arguments=_arguments,
    run=_run,
    renamed=FORMER,
)
