"""The model of `hybrid`: trained by its preset, and with more rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ternac.model.export.export import RESIZED, to_program
from ternac.model.export.resize import resize
from ternac.model.memory.hybrid import LARGE, LARGE_ROWS
from ternac.model.memory.system import Report
from ternac.model.net.config import PRESETS
from ternac.model.training import checkpoint as ckpt
from ternac.model.training.data import SHAKESPEARE, read_corpus, split
from ternac.model.training.run_folder import CHECKPOINT, FINAL
from ternac.model.training.train import Progress, Trainer
from ternac.program import zoo
from ternac.program.program import Program

PRESET = "hybrid"
_kept: dict[int, ckpt.Checkpoint] = {}
"""What the last seed gave, for all parts."""


def enlarged(saved: ckpt.Checkpoint | None = None) -> Program:
    """Return the program of a checkpoint (default: the shipped one) with rows and even maps of `LARGE`."""
    saved = saved or ckpt.load(zoo.ZOO / PRESET / CHECKPOINT)
    model, memory = ckpt.model_of(saved), ckpt.model_config(saved).memory
    assert memory is not None
    train, _ = split(read_corpus(SHAKESPEARE, b"").tokens, PRESETS[PRESET][1].val_fraction)
    meta = resize(model, LARGE_ROWS, memory.seed, train)
    return to_program(model, f"{PRESET}-{LARGE}", {RESIZED: meta}, ckpt.tokenizer_of(saved))


def trained(seed: int, report: Report) -> ckpt.Checkpoint:
    """Train the preset with another seed: half an hour on a core that is idle. Parts share the result."""
    if seed in _kept:
        return _kept[seed]
    _kept.clear()
    model, train = PRESETS[PRESET]
    train = replace(train, seed=seed)

    def tell(now: Progress) -> None:
        report(now.step, train.steps, f"loss {now.train_nats:.3f}")

    with TemporaryDirectory() as folder:
        Trainer(model, train, read_corpus(SHAKESPEARE, b"").tokens, Path(folder)).run(tell)
        _kept[seed] = ckpt.load(Path(folder) / FINAL)
    return _kept[seed]


def train(part: str, seed: int, report: Report) -> Program:
    """Train the preset, and choose the rows of ``part``."""
    saved = trained(seed, report)
    if part == LARGE:
        return enlarged(saved)
    return to_program(ckpt.model_of(saved), PRESET, {"seed": seed}, ckpt.tokenizer_of(saved))
