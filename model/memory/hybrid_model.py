"""The model of `hybrid`: trained by its preset, and with more rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ternac.model.export.export import to_program
from ternac.model.memory.hybrid import LARGE, enlarged
from ternac.model.memory.system import Report
from ternac.model.net.config import PRESETS
from ternac.model.training import checkpoint as ckpt
from ternac.model.training.data import SHAKESPEARE, read_corpus
from ternac.model.training.run_folder import FINAL
from ternac.model.training.train import Progress, Trainer
from ternac.program.program import Program

PRESET = "hybrid"
_kept: dict[int, ckpt.Checkpoint] = {}
"""What the last seed gave, for all parts."""


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
