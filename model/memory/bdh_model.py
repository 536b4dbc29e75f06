"""The models of the Dragon Hatchling: a reader of tables, and a language model over bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding

from ternac.model.memory.bdh import COLUMNS, ROWS, TABLE, VALUES, VOCAB, Cell, asked, told
from ternac.model.memory.hatchling import Hatchling
from ternac.model.memory.parts import Stack, fit
from ternac.model.memory.system import Report
from ternac.model.net import functional as fn
from ternac.model.net.config import ModelConfig, Scales, TrainConfig
from ternac.model.net.layers import BitLinear, Norm, dropout_mask
from ternac.model.training.checkpoint import load
from ternac.model.training.data import SHAKESPEARE, read_corpus
from ternac.model.training.run_folder import FINAL
from ternac.model.training.train import Progress, Trainer, compiled
from ternac.program.program import Program

WIDTH, GROUPS, GROUP = 64, 32, 32
TRAINED_BITS, PAIR_BITS = 4, 5
"""Bits that a row's number has of each neuron of a pair: in training, and in the program."""
STEPS, BATCH = 600, 16
CELLS = 32
"""Cells that a window of training tells, and as many that it asks for."""
WINDOWS = 16
"""Windows of a session: 512 cells are told in it, 380 of the 800 on the mean."""
LM_GROUPS = 64
LM_SHAPE = ModelConfig(d=192, m=64 * 29, layers=2)
"""With a map of the leaks and the head 1,155,072 trits: as many as `shakespeare` has."""
LM_RECIPE = TrainConfig(
    steps=1800, batch=16, dropout=0.1, average=0.998, mask_steps=16, eval_every=600, checkpoint_every=100
)


class Tables:
    """Sessions to train a reader on: every window tells `CELLS` cells of a table and asks for as many.

    A part of them were told before, with other values; half of the questions are about the window, the
    others about any cell of the session.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.known: list[dict[Cell, int]] = [{} for _ in range(BATCH)]

    def window(self, step: int) -> tuple[Tensor, Tensor, list[int]]:
        """Return tokens [T, B], answers [CELLS, B] to the last of them, and which sessions begin."""
        texts, answers, fresh = [], [], []
        for lane, known in enumerate(self.known):
            if (step + lane) % WINDOWS == 0:
                known.clear()
                fresh.append(lane)
            cells = self._cells(known)
            known.update(cells)
            asks = self.rng.sample(list(cells), CELLS // 2) + self.rng.choices(list(known), k=CELLS // 2)
            self.rng.shuffle(asks)
            texts.append(told(cells) + asked(asks))
            answers.append([known[cell] for cell in asks])
        return torch.tensor(texts).T, torch.tensor(answers).T, fresh

    def _cells(self, known: dict[Cell, int]) -> dict[Cell, int]:
        """Draw cells to tell: at even odds a quarter of them are known, where so many are."""
        again = CELLS // 4 if self.rng.random() < 0.5 and len(known) > CELLS else 0
        cells = self.rng.sample(list(known), again)
        while len(cells) < CELLS:
            cell = self.rng.randrange(COLUMNS), self.rng.randrange(ROWS)
            if cell not in cells:
                cells.append(cell)
        self.rng.shuffle(cells)
        return {cell: self.rng.randrange(VALUES) for cell in cells}


def make_reader() -> Stack:
    """Return the untrained reader: rows of pairs of neurons, written by values alone."""
    s = Scales()
    part = Hatchling(
        WIDTH, GROUPS, GROUP, s, leaks=(0,), written=range(VALUES), shown=True, pair_bits=TRAINED_BITS
    )
    return Stack(VOCAB, WIDTH, [part], s)


def train_reader(seed: int, report: Report) -> Program:
    """Train on sessions of smaller tables, whose memory goes on from window to window."""
    torch.manual_seed(seed)
    tables, model = Tables(seed), make_reader()
    (part,) = model.parts
    assert isinstance(part, Hatchling)
    part.compiled = compiled()
    states = model.start(BATCH)

    def loss_of(step: int) -> Tensor:
        tokens, answers, fresh = tables.window(step)
        for each in states[0]:
            each[fresh] = 0
        logits, states[:] = model(tokens, states)
        due = logits[3 * CELLS + 1 :: 2]
        return cross_entropy(model.nats(due).flatten(0, 1), answers.flatten())

    fit(model, STEPS, 4e-3, loss_of, report)
    part.bits = PAIR_BITS
    return model.to_program("memory-bdh-table", {"system": "bdh", "seed": seed, "steps": STEPS})


class Language(nn.Module):
    """A `Hatchling` as a language model over bytes, with what `Trainer` asks of a model.

    Its state is that of the hatchling. Dropout is that of :class:`~ternac.model.net.network.TernaryLM`: one
    mask for the embedding and one for each run, for all steps of a window. ``config``: width, and what a
    recipe says; ``m`` are neurons, ``layers`` runs.
    """

    masks: Sequence[torch.Generator] = ()

    def __init__(self, config: ModelConfig, groups: int, dropout: float, leaks: Sequence[int] = ()) -> None:
        super().__init__()
        self.config, self.dropout = config, dropout
        s = config.scales
        part = Hatchling(config.d, groups, config.m // groups, s, config.layers, leaks=leaks)
        self.stack = Stack(config.vocab, config.d, [part], s)

    @property
    def part(self) -> Hatchling:
        """Return its one part."""
        (part,) = self.stack.parts
        assert isinstance(part, Hatchling)
        return part

    def initial_state(self, batch: int) -> list[Tensor]:
        """Return the zero state of ``batch`` streams."""
        return list(self.part.start(batch))

    def begin_again(self, state: list[Tensor], fresh: Tensor) -> None:
        """Give the streams ``fresh``, bool [B], the state of a beginning, in place."""
        for each in state:
            each[fresh] = 0

    def set_temper(self, gain: float) -> None:
        """Make all logits ``gain`` times as large, by the table of the last norm."""
        self.config = replace(self.config, temper=gain)
        self.stack.norm = Norm(self.config.d, self.config.scales, gain)

    def forward(self, tokens: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        s, stack = self.config.scales, self.stack
        r = embedding(tokens, stack.codes() * 2.0 ** (s.residual - s.embed))
        keep = None
        if self.training and self.dropout:
            shape = (tokens.shape[1], self.config.d, self.dropout, (0, 1), self.masks)
            r = r * dropout_mask(*shape)
            keep = [dropout_mask(*shape) for _ in range(self.part.runs)]
        r, state = self.part(r, state, tokens, keep)
        acc = stack.head.acc(stack.norm(r))
        return fn.Requant.apply(acc, 2.0**-stack.head.shift, *fn.I16), state

    def loss(self, tokens: Tensor, targets: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the mean cross entropy in nats of targets [T, B], and the new state."""
        logits, state = self(tokens, state)
        return cross_entropy(self.stack.nats(logits).flatten(0, 1), targets.flatten()), state


class LanguageTrainer(Trainer):
    """The trainer of language models, of a `Language`."""

    def build(self, model: ModelConfig) -> Language:
        made = Language(model, LM_GROUPS, self.config.dropout)
        made.part.compiled = compiled()
        for linear in made.modules():
            if isinstance(linear, BitLinear):
                linear.bf16_backward = self.config.bf16_backward
        return made


def language_trainer(seed: int, out: Path) -> LanguageTrainer:
    """Return the run of the language model in the folder ``out``, resumed if it was begun there."""
    return LanguageTrainer(LM_SHAPE, replace(LM_RECIPE, seed=seed), read_corpus(SHAKESPEARE).tokens, out)


def language_program(checkpoint: Path) -> Program:
    """Return the program of a finished run's ``final.safetensors``."""
    saved = load(checkpoint)
    model = Language(LM_SHAPE, LM_GROUPS, 0.0)
    model.load_state_dict(saved.part("model"))
    recipe = saved.info["config"]["train"]
    model.set_temper(recipe["temper"])
    about = {"system": "bdh", "seed": recipe["seed"], "steps": recipe["steps"], "tokenizer": "bytes"}
    return model.eval().stack.to_program("memory-bdh-lm", about)


def train_language(seed: int, report: Report) -> Program:
    """Train on the first nine tenths of Tiny Shakespeare."""
    with TemporaryDirectory() as folder:

        def told_of(done: Progress) -> None:
            report(done.step, done.steps, f"loss {done.train_nats:.3f}")

        language_trainer(seed, Path(folder)).run(told_of)
        return language_program(Path(folder) / FINAL)


def train(part: str, seed: int, report: Report) -> Program:
    """Train the model ``part`` and return its program."""
    return train_reader(seed, report) if part == TABLE else train_language(seed, report)
