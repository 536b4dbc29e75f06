"""A shipped model: one folder with program, weights, recipe, curve and card."""

from __future__ import annotations

import hashlib
import math
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ternac.errors import Mismatch, UsageError
from ternac.files import (
    cannot_write,
    make_folder,
    move,
    read_bytes,
    replacing,
    scratch_beside,
    write_bytes,
    write_json,
    write_text,
)
from ternac.model.net.executor import TorchExecutor
from ternac.model.net.layers import BitLinear
from ternac.model.training import checkpoint as ckpt
from ternac.model.training.data import Tokens
from ternac.model.training.evaluate import nats_per_token
from ternac.model.training.run_folder import (
    CHECKPOINT,
    SHIPPED,
    TextRecord,
    checkpoint_of,
    next_checkpoint_of,
)
from ternac.model.training.train import compiled
from ternac.program import zoo
from ternac.program.file import dumps, save
from ternac.program.program import Program
from ternac.run import evaluate as ev
from ternac.run.numpy_executor import NumpyExecutor
from ternac.text.tokenizer import Encoded

KEPT = (
    "config", "text_sha256", "step", "seconds", "kept", "tokenizer",
    "text", "command", "device", "extended", "unfinished", "compact",
)  # fmt: skip
"""What the weights of an exported program keep of their checkpoint's data."""

_MEASURED = """\
## How the loss was measured

{means}, on all {tokens} predicted tokens of {what}:
`{command}`. The text is read as {streams} parallel streams, each with {context} uncounted tokens of context
before it.

{chosen} `curve.csv` and `curve.png` show the whole run.

## Exactness

`checkpoint.safetensors` holds {weights} Exporting it again gives
the same file, and the torch model gives the same logits and state as the program, bit for bit.
"""


_WEIGHTS = "the float weights from which the program was exported."
_COMPACT = """\
what the program needs of the weights: trits times their
scales, and the rounded embedding. The float weights of the run are not kept."""

_MEANS = {
    "numpy": "On the integer program, by the NumPy executor",
    "torch": "On the trained model, whose logits are those of the integer program bit for bit",
}


@dataclass(frozen=True)
class About:
    """Facts that a model does not contain: where its text is from, and what it is not good for.

    ``text`` and ``command`` (to train it again) go into the recipe; ``validation`` names the text of the loss
    and ``measure`` the command that measures it. The rest is Markdown.
    """

    text: str
    command: str
    validation: str
    measure: str
    data: str
    limits: str
    remarks: str = ""
    tuned: str = ""  #: whether settings were chosen with the loss in view

    @classmethod
    def read(cls, path: Path) -> About:
        """Read a TOML file of these keys, the last two optional. Raises UsageError if it has others."""
        try:
            found = tomllib.loads(read_bytes(path).decode())
            return cls(**{key: str(value).strip() for key, value in found.items()})
        except (ValueError, TypeError) as error:
            names = ", ".join(field.name for field in fields(cls))
            raise UsageError(f"{path} does not say what a card needs: {error}", f"keys: {names}") from None


def shakespeare(name: str, remarks: str = "") -> About:
    """Return the facts about the shipped models of the shipped text."""
    return About(
        text="model/data/tinyshakespeare.txt",
        command=f"ternac train --preset {name} --out runs/{name}",
        validation="the last 10% of the text",
        measure=f"ternac eval {name} --split val",
        data="Tiny Shakespeare (`model/data/tinyshakespeare.txt`, public domain): the first 90% for\n"
        "training, the last 10% for validation. The weights are under the licence of the repository\n"
        "(Apache-2.0).",
        limits="It writes text that looks like Elizabethan drama, character by character, and knows nothing\n"
        "else: no facts, no instructions, no other language. Words are mostly right, sentences mostly not.",
        remarks=remarks,
        tuned="The settings of the run were chosen with this loss in view.",
    )


def about_run(
    name: str, info: Mapping[str, Any], record: TextRecord, measured: Path | None, remarks: str = ""
) -> About:
    """Return the facts about a run on a text of one's own, as its checkpoint records them.

    ``measured`` is the text of the loss where it is not the held-out part of the run's.
    """
    train, held_out = record.words("train"), record.words("val")
    size = f", {record.text_bytes:,} bytes" if record.text_bytes else ""
    text = f"`{record.name}`" if record.path else record.name
    named = "" if record.path == SHIPPED else f" --text {shlex.quote(record.path or 'FILE')}"
    validation, measure = f"{held_out} of {text}", f"ternac eval {shlex.quote(name)}{named} --split val"
    if measured is not None:
        validation = f"the whole of `{measured.name}`, another text than that of the run"
        measure = f"ternac eval {shlex.quote(name)} --text {shlex.quote(str(measured))}"
    known = {SHIPPED: "\nThat is Tiny Shakespeare, which is in the public domain."}.get(record.path, "")
    ends = info.get("unfinished")
    return About(
        text=f"{record.path or record.name}{size}",
        command=str(info.get("command", "the checkpoint does not record it")),
        validation=validation,
        measure=measure,
        data=f"{text}{size}: {train} for training, {held_out} for validation.{known}\n"
        "Nothing is said here about the licence of text or weights: that is for whoever passes them on.",
        limits=f"It continues text like that of {text}, and knows nothing else.",
        remarks="\n\n".join(
            filter(None, (f"**The run was not finished**: {ends}." if ends else "", remarks))
        ),
    )


_CHOSEN = {
    "best": """\
The shipped checkpoint is the one of the lowest validation loss in
the run, so the number is slightly optimistic for unseen text.""",
    "last": """\
The shipped weights are the
moving average at the end of the run, not chosen among its checkpoints.""",
}


def compare(torch_side: TorchExecutor, program: Program, tokens: Tokens) -> int:
    """Feed ``tokens`` to model and program; return their number. Raises Mismatch if they differ."""
    numpy_side = NumpyExecutor(program)
    a, b = torch_side.open(), numpy_side.open()
    for index, token in enumerate(tokens.tolist()):
        x, y = torch_side.step(a, [token]), numpy_side.step(b, [token])
        for what, one, two in (("logit", x, y), ("state word", a, b)):
            if not np.array_equal(one, two):
                at = int(np.flatnonzero(one[0] != two[0])[0])
                raise Mismatch(f"token {index}: {what} {at} is {one[0, at]} in torch, {two[0, at]} in NumPy")
    return len(tokens)


def loss_of(executor: TorchExecutor, text: Encoded, measure: str) -> ev.Loss:
    """Loss of the model's program on a text: by the program itself ("numpy"), or by the model ("torch"),
    whose logits are the same, many tokens at a time.
    """
    if measure == "numpy":
        return ev.evaluate(NumpyExecutor(executor.program), text)
    executor.model.fused = compiled()
    nats, count = nats_per_token(executor.model, text.ids), len(text.ids) - 1
    return ev.loss_of(nats * count, count, text)


def write_folder(
    folder: Path,
    program: Program,
    source: Path,
    saved: ckpt.Checkpoint,
    loss: ev.Loss,
    about: About,
    measure: str = "numpy",
) -> None:
    """Fill a zoo folder from a checkpoint file ``source`` (``saved``: its contents) and its program."""
    recipe = recipe_of(saved, about) | {"loss": {"text": about.validation, **asdict(loss)}}
    with filling(folder) as fresh:
        save(program, fresh / zoo.PROGRAM)
        save_weights(saved, fresh / CHECKPOINT)
        write_json(fresh / "recipe.json", recipe, indent=2)
        for name in ("curve.csv", "curve.png"):
            if (source.parent / name).is_file() and source.parent.resolve() != folder.resolve():
                write_bytes(fresh / name, (source.parent / name).read_bytes())
        write_text(fresh / "card.md", card(program, recipe, saved, loss, about, measure))


def save_program_of_run(out: Path, checkpoint: Path) -> Path:
    """Export a finished run into its own folder, so that the folder is a MODEL; return the program's path."""
    saved = ckpt.load(checkpoint)
    executor = TorchExecutor(ckpt.model_of(saved), out.resolve().name, tokenizer=ckpt.tokenizer_of(saved))
    save(executor.program, out / zoo.PROGRAM)
    return out / zoo.PROGRAM


def save_weights(saved: ckpt.Checkpoint, path: Path) -> None:
    """Write what a program is exported from, without what only training needs. Raises OSError."""
    weights = {name: tensor for name, tensor in saved.tensors.items() if name.startswith("model.")}
    info = {key: saved.info[key] for key in KEPT if key in saved.info}
    ckpt.write(path, ckpt.Checkpoint(weights, info))


@torch.no_grad()
def compact(saved: ckpt.Checkpoint) -> ckpt.Checkpoint:
    """Return a checkpoint of a quarter of the size that exports to the same program.

    Weights become trits times their scales, in float8, the embedding codes times their scale, in bfloat16.
    Raises Mismatch if a weight cannot be written so.
    """
    model = ckpt.model_of(saved)
    tensors = {name: tensor for name, tensor in saved.tensors.items() if name.startswith("model.")}
    rounded = {"model.embed": model.embed_codes() * 2.0**-model.config.scales.embed}
    for name, module in model.named_modules():
        if isinstance(module, BitLinear):
            rounded[f"model.{name}.weight"] = module.trits() * 2.0**module.exponent
    for name, tensor in rounded.items():
        tensors[name] = tensor.to(torch.bfloat16 if name == "model.embed" else torch.float8_e4m3fn)
        if not torch.equal(tensors[name].float(), tensor):
            raise Mismatch(f"{name} does not fit its type: leave --compact out")
    return ckpt.Checkpoint(tensors, saved.info | {"compact": True})


def write_file(path: Path, program: Program, saved: ckpt.Checkpoint) -> Path:
    """Write a program and, beside it, its weights: both or none. Return the path of the weights.

    A process that is killed leaves a program with its weights, the old or the new: those of before stay until
    the program has changed, which is one rename, and `checkpoints_beside` also finds the next ones. What a
    kill leaves under that name goes when the same program is next written.
    """
    coming, beside = next_checkpoint_of(path), checkpoint_of(path)
    try:
        with replacing(coming) as scratch:
            save_weights(saved, scratch)
        with replacing(path) as scratch:
            scratch.write_bytes(dumps(program))
    except BaseException:
        with suppress(OSError):
            coming.unlink(missing_ok=True)
        raise
    try:
        move(coming, beside)
    except OSError as error:
        raise cannot_write(beside, error) from error
    return beside


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Give a scratch folder; what is in it at the end goes to ``folder``, and nothing after an error.

    Raises UsageError if that cannot be written.
    """
    make_folder(folder.resolve().parent)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file", "name a folder, or a file that ends in .safetensors")
    fresh = scratch_beside(folder.resolve())
    try:
        fresh.mkdir()
        yield fresh
        make_folder(folder)
        for each in sorted(fresh.iterdir()):
            move(each, folder / each.name)
    except OSError as error:
        raise cannot_write(folder, error) from error
    except UsageError as error:
        raise UsageError(str(error).replace(str(fresh), str(folder)), error.hint) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def recipe_of(saved: ckpt.Checkpoint, about: About) -> dict[str, Any]:
    """Return all that is needed to train the model again."""
    tokenizer = ckpt.tokenizer_of(saved)
    return {
        "command": about.command,
        "settings": saved.info["config"],
        "text": about.text,
        "text_sha256": saved.info["text_sha256"],
        **({"tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest()} if tokenizer else {}),
        "checkpoint_step": saved.info["step"],
        **({"extended": saved.info["extended"]} if "extended" in saved.info else {}),
        "seconds": round(saved.info["seconds"]),
        "torch": torch.__version__,
        "note": "bit-identical repetition needs the same torch build, processor type and number of threads",
    }


def card(
    program: Program,
    recipe: dict[str, Any],
    saved: ckpt.Checkpoint,
    loss: ev.Loss,
    about: About,
    measure: str = "numpy",
) -> str:
    """Return the model card as Markdown."""
    model, train = recipe["settings"]["model"], recipe["settings"]["train"]
    tokens_seen = saved.info["step"] * train["batch"] * train["window"]
    unit = "tokens" if program.tokenizer else "bytes"
    blocks = "MLGRU + GLU + FwPKM" if program.memories else "MLGRU + GLU"
    what = "a tokenizer in the file" if program.tokenizer else unit
    figures = [(loss.nats_per_char, "nats per character"), (loss.bits_per_byte, "bits per byte")]
    if program.tokenizer:
        figures = [*reversed(figures), (loss.nats_per_token, "nats per token")]
    first, *others = [f"{value:.4f} {per}" for value, per in figures if value is not None]
    lines = [
        f"# {program.name}",
        "",
        f"A ternary MatMul-free language model ({blocks}) over {unit}, as an integer program.",
        "",
        *([about.remarks, ""] if about.remarks else []),
        "| | |",
        "|---|---|",
        f"| program hash | `{program.hash}` |",
        f"| ternary weights | {program.trits:,} (of them {_zeros(program):.0%} zero) |",
        f"| shape | {model['layers']} layers, width {model['d']}, GLU width {model['m']}, "
        f"vocabulary {model['vocab']} ({what}) |",
        f"| embedding | {model['vocab']} x {model['d']} int8 |",
        *(
            f"| memory | {memory.rows:,} rows of {memory.width} {memory.dtype} elements "
            f"({memory.words / 512:.4g} KiB of a session's state) |"
            for memory in program.memories.values()
        ),
        f"| state of a session | {program.state_words} words of 16 bits |",
        f"| **loss on validation** | **{first}** ({', '.join(others)}) |",
        f"| trained | {saved.info['step']} of {train['steps']} steps of "
        f"{train['batch']} x {train['window']} tokens ({tokens_seen / 1e6:.1f} M), seed {train['seed']}, "
        f"{recipe['seconds'] / 60:.0f} minutes on a {saved.info.get('device', 'shared CPU')} |",
        *(
            f"| extended | at step {each['at_step']}, from a schedule of {each['from_steps']} steps |"
            for each in saved.info.get("extended", [])
        ),
        "",
        "## Data and licence",
        "",
        about.data,
        "",
        _MEASURED.format(
            tokens=f"{loss.tokens:,}",
            what=about.validation,
            means=_MEANS[measure],
            command=about.measure,
            streams=ev.STREAMS,
            context=ev.CONTEXT,
            weights=_COMPACT if saved.info.get("compact") else _WEIGHTS,
            chosen=f"{_CHOSEN[saved.info.get('kept', 'best')]}\n{about.tuned}".strip(),
        ),
        "## Limits",
        "",
        about.limits,
        "",
    ]
    return "\n".join(lines)


def _zeros(program: Program) -> float:
    roles = program.roles()
    trits = [array for name, array in program.consts.items() if roles.get(name) == "trits"]
    return math.fsum(int((array == 0).sum()) for array in trits) / program.trits
