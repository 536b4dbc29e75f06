"""A shipped model: one folder with program, weights, recipe, curve and card."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ternac import evaluate as ev
from ternac import zoo
from ternac.errors import Mismatch
from ternac.executor import NumpyExecutor
from ternac.model import checkpoint as ckpt
from ternac.model.data import Tokens
from ternac.model.executor import CHECKPOINT, TorchExecutor
from ternac.program import Program, save

_PROSE = """\
## Data and licence

Tiny Shakespeare (`model/data/tinyshakespeare.txt`, public domain, sha256 `{digest}...`): the first 90% for
training, the last 10% for validation. The weights are under the licence of the repository (Apache-2.0).

## How the loss was measured

On the integer program, by the NumPy executor, on all {tokens} predicted characters of the last 10% of the
text: `ternac eval {name} --split val`. The text is read as {streams} parallel streams, each with {context}
uncounted characters of context before it. {chosen} `curve.csv` and `curve.png` show the whole run.

## Exactness

`checkpoint.safetensors` holds the float weights from which the program was exported. Exporting it again gives
the same file, and the torch model gives the same logits and state as the program, bit for bit.

## Limits

It writes text that looks like Elizabethan drama, character by character, and knows nothing else: no facts, no
instructions, no other language. Words are mostly right, sentences mostly not.
"""

_CHOSEN = {
    "best": """\
The shipped checkpoint is the one of the lowest validation loss in
the run, so the number is slightly optimistic for unseen text.""",
    "last": """\
The shipped weights are the
moving average at the end of the run, not chosen among its checkpoints; the settings of the run were chosen
with this loss in view.""",
}


def compare(torch_side: TorchExecutor, program: Program, tokens: Tokens) -> int:
    """Feed ``tokens`` to the torch model and the program; returns their number or raises Mismatch."""
    numpy_side = NumpyExecutor(program)
    a, b = torch_side.open(), numpy_side.open()
    for index, token in enumerate(tokens.tolist()):
        x, y = torch_side.step(a, [token]), numpy_side.step(b, [token])
        for what, one, two in (("logit", x, y), ("state word", a, b)):
            if not np.array_equal(one, two):
                at = int(np.flatnonzero(one[0] != two[0])[0])
                raise Mismatch(f"token {index}: {what} {at} is {one[0, at]} in torch, {two[0, at]} in NumPy")
    return len(tokens)


def write_folder(
    folder: Path, program: Program, source: Path, saved: ckpt.Checkpoint, loss: ev.Loss, remarks: str
) -> None:
    """Fill a zoo folder from a checkpoint file ``source`` (``saved``: its contents) and its program."""
    folder.mkdir(parents=True, exist_ok=True)
    save(program, folder / zoo.PROGRAM)
    weights = {name: tensor for name, tensor in saved.tensors.items() if name.startswith("model.")}
    keep = ("config", "text_sha256", "step", "seconds", "kept", "tokenizer")
    info = {key: saved.info[key] for key in keep if key in saved.info}
    ckpt.save(folder / CHECKPOINT, ckpt.Checkpoint(weights, info))
    recipe = recipe_of(program.name, saved)
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    for name in ("curve.csv", "curve.png"):
        if (source.parent / name).is_file() and source.parent.resolve() != folder.resolve():
            shutil.copyfile(source.parent / name, folder / name)
    (folder / "card.md").write_text(card(program, recipe, saved, loss, remarks))


def recipe_of(name: str, saved: ckpt.Checkpoint) -> dict[str, Any]:
    """Everything that makes the model again."""
    import torch

    return {
        "command": f"ternac train --preset {name} --out runs/{name}",
        "settings": saved.info["config"],
        "text": "model/data/tinyshakespeare.txt",
        "text_sha256": saved.info["text_sha256"],
        "checkpoint_step": saved.info["step"],
        "seconds": round(saved.info["seconds"]),
        "torch": torch.__version__,
        "note": "bit-identical repetition needs the same torch build, processor type and number of threads",
    }


def card(
    program: Program, recipe: dict[str, Any], saved: ckpt.Checkpoint, loss: ev.Loss, remarks: str
) -> str:
    """The model card, as Markdown."""
    model, train = recipe["settings"]["model"], recipe["settings"]["train"]
    tokens_seen = saved.info["step"] * train["batch"] * train["window"]
    lines = [
        f"# {program.name}",
        "",
        "A ternary MatMul-free language model (MLGRU + GLU) over bytes, as an integer program.",
        "",
        *([remarks, ""] if remarks else []),
        "| | |",
        "|---|---|",
        f"| program hash | `{program.hash}` |",
        f"| ternary weights | {program.trits:,} (of them {_zeros(program):.0%} zero) |",
        f"| shape | {model['layers']} layers, width {model['d']}, GLU width {model['m']}, "
        f"vocabulary {model['vocab']} (bytes) |",
        f"| embedding | {model['vocab']} x {model['d']} int8 |",
        f"| state of a session | {program.state_words} words of 16 bits |",
        f"| **loss on validation** | **{loss.nats_per_token:.4f} nats per character** "
        f"({loss.bits_per_byte:.4f} bits per byte) |",
        f"| trained | {saved.info['step']} of {train['steps']} steps of "
        f"{train['batch']} x {train['window']} characters ({tokens_seen / 1e6:.1f} M), seed {train['seed']}, "
        f"{recipe['seconds'] / 60:.0f} minutes on a shared CPU |",
        "",
        _PROSE.format(
            name=program.name,
            digest=recipe["text_sha256"][:16],
            tokens=f"{loss.tokens:,}",
            streams=ev.STREAMS,
            context=ev.CONTEXT,
            chosen=_CHOSEN[saved.info.get("kept", "best")],
        ),
    ]
    return "\n".join(lines)


def _zeros(program: Program) -> float:
    roles = program.roles()
    trits = [array for name, array in program.consts.items() if roles.get(name) == "trits"]
    return math.fsum(int((array == 0).sum()) for array in trits) / program.trits
