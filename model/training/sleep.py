"""Sleep: closed sessions are replayed into the weights, a few hundred QAT steps, and a new program comes out.

Every step reads windows that begin anywhere in the sessions' tokens or in base text, each in an empty
session: what a session's rows and state knew when the window began is not there, so it must be answered by
the weights. What is learnt of sessions are the tokens themselves, or what the program expected where it was
awake, with all that its session had told it (context distillation). Base text between keeps what it knew:
there it learns to expect what it expected.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ternac.errors import Mismatch, TrainingDiverged, UsageError
from ternac.model.export.export import to_program
from ternac.model.memory.parts import Stack, fit
from ternac.model.memory.system import NAMES, open_system
from ternac.model.net.config import SleepConfig
from ternac.model.net.executor import TorchExecutor
from ternac.model.net.layers import BitLinear
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint as ckpt
from ternac.model.training.train import compiled
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor

Tokens = npt.NDArray[Any]
NO_TARGET = -100
"""What torch's cross entropy leaves out: behind the end of a session that is shorter than a window."""
PIECE = 4096
"""Tokens of a session that are read at a time."""
META = "slept"
"""Entry of a program's meta: the program that it was, and how much was replayed."""


@dataclass(frozen=True)
class Sleeper:
    """A program and the model behind it, which `replay` changes.

    ``checkpoint``: the file its float weights are from; without one they are trits times their scales.
    """

    program: Program
    model: TernaryLM | Stack
    checkpoint: Path | None = None

    @classmethod
    def open(cls, program: Program, path: Path) -> Sleeper:
        """Open the model of a program in ``path``: the checkpoint beside it, or a memory system's own.

        Raises UsageError if it is a memory system's and not of its trainable models; CheckpointError if a
        language model's weights are not beside it.
        """
        if "system" in program.meta:
            return cls(program, stack_of(program, str(program.meta["system"])))
        executor = TorchExecutor.for_program(program, path)
        return cls(program, executor.model, executor.checkpoint)

    def export(self, meta: dict[str, Any]) -> Program:
        """Return the program of the model as it is now, named as before."""
        old = self.program
        said = {**old.meta, **meta}
        if isinstance(self.model, Stack):
            return self.model.to_program(old.name, said)
        return to_program(self.model, old.name, said, old.tokenizer)

    def weights(self, steps: int) -> ckpt.Checkpoint:
        """Return the checkpoint of the model as it is now, after ``steps`` more. Needs ``checkpoint``."""
        assert self.checkpoint is not None
        info = ckpt.load(self.checkpoint).info
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        info = {key: value for key, value in info.items() if key != "compact"}
        return ckpt.Checkpoint(tensors, info | {"kept": "last", "step": info["step"] + steps})


def record(before: Program, sessions: Sequence[Tokens], config: SleepConfig) -> dict[str, Any]:
    """Return what the meta of the new program says of its sleep."""
    tokens = sum(len(each) for each in sessions)
    return {"from": before.hash, "sessions": len(sessions), "tokens": tokens, **asdict(config)}


def stack_of(program: Program, system: str) -> Stack:
    """Return the model of a memory system with the weights of ``program``. Raises UsageError if none fits."""
    module = importlib.import_module(f"ternac.model.memory.{system}_model") if system in NAMES else None
    if module is not None and hasattr(module, "make_model"):
        for part in open_system(system).parts:
            model: Stack = module.make_model(part).eval()
            with suppress(UsageError):  # then it is another part's
                model.take(program)
                return model
    trainable = "those that QAT layers make: abacus, cache, loop"
    raise UsageError(f"{program.name}: the memory system {system!r} has no model of its parts", trainable)


def replay(
    model: TernaryLM | Stack,
    sessions: Sequence[Tokens],
    base: Sequence[Tokens],
    config: SleepConfig,
    report: Callable[[int, int, str], None],
) -> None:
    """Train on windows of sessions and base texts; the model ends in evaluation mode.

    Raises UsageError if there is none of them, or one is too short or has tokens that the model has not;
    TrainingDiverged if a loss is not finite.
    """
    for what, texts in (("session", sessions), ("base text", base)):
        if not texts:
            raise UsageError(f"there is no {what} to replay", "name at least one")
        for number, tokens in enumerate(texts, 1):
            check_tokens(tokens, len(model.embed), f"{what} {number}")
    temper = model.config.temper if isinstance(model, TernaryLM) else 1.0
    if isinstance(model, TernaryLM):
        model.set_temper(1.0)  # as the run that made it: only the finished model's logits are tempered
        model.fused = compiled()
        for module in model.modules():
            if isinstance(module, BitLinear):
                module.bf16_backward = model.fused
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    replayed = min(config.batch, max(1, round(config.share * config.batch)))
    scale = 2.0 ** -(model.scales if isinstance(model, Stack) else model.config.scales).logits
    awake = copy.deepcopy(model).eval()
    expected = [_expected(awake, tokens) for tokens in sessions]
    heard = torch.zeros(config.batch)
    heard[:replayed] = config.heard

    def loss_of(step: int) -> Tensor:
        chosen = _draw(sessions, replayed, rng)
        texts = [sessions[at] for at in chosen]
        texts += [base[at] for at in _draw(base, config.batch - replayed, rng)]
        cuts = [_cut(tokens, config.window, rng) for tokens in texts]
        inputs, targets = _windows(texts, cuts)
        real = targets != NO_TARGET
        logits, _ = model(inputs, _empty(model, config.batch))
        said = torch.log_softmax(logits * scale, -1)
        came = said.gather(-1, targets.clamp_min(0).unsqueeze(-1))[..., 0]
        with torch.no_grad():
            wanted, _ = awake(inputs, _empty(awake, config.batch))
            for lane, (at, cut) in enumerate(zip(chosen, cuts, strict=False)):
                wanted[: cut.stop - cut.start, lane] = expected[at][cut]
            wanted = torch.softmax(wanted * scale, -1)
        learnt = heard * came + (1 - heard) * (wanted * said).sum(-1)
        loss = -learnt[real].mean()
        if not math.isfinite(loss.item()):
            raise TrainingDiverged(f"the loss is {loss.item()} at step {step}", "take a lower --lr")
        return loss

    fit(model, config.steps, config.lr, loss_of, report)
    if isinstance(model, TernaryLM):
        model.set_temper(temper)


def check_tokens(tokens: Tokens, vocab: int, what: str) -> None:
    """Raise UsageError if tokens are too few to learn from, or more than a model of ``vocab`` knows."""
    if len(tokens) < 2:
        raise UsageError(f"{what} has {len(tokens)} token(s), replay needs at least 2", "leave it out")
    wrong = next((int(token) for token in (tokens.max(), tokens.min()) if not 0 <= token < vocab), None)
    if wrong is not None:
        raise UsageError(f"{what} has token {wrong}, the model has 0..{vocab - 1}", "take its own tokens")


def _empty(model: TernaryLM | Stack, batch: int) -> Any:
    """Return the state of sessions that have read nothing."""
    return model.start(batch) if isinstance(model, Stack) else model.initial_state(batch)


@torch.no_grad()
def _expected(model: TernaryLM | Stack, tokens: Tokens) -> Tensor:
    """Return the logits in codes, int16 [N, V], of a session that is read from its beginning."""
    state, parts = _empty(model, 1), []
    for piece in torch.from_numpy(tokens.astype(np.int64)).split(PIECE):
        logits, state = model(piece[:, None], state)
        parts.append(logits[:, 0].to(torch.int16))
    return torch.cat(parts)


def _draw(texts: Sequence[Tokens], count: int, rng: np.random.Generator) -> list[int]:
    """Draw numbers of texts, each as often as it is long."""
    lengths = np.array([len(tokens) for tokens in texts], np.float64)
    return [int(at) for at in rng.choice(len(texts), count, p=lengths / lengths.sum())]


def _cut(tokens: Tokens, length: int, rng: np.random.Generator) -> slice:
    """Draw a window of at most ``length`` tokens, each of which another one follows."""
    first = int(rng.integers(max(1, len(tokens) - length)))
    return slice(first, min(first + length, len(tokens) - 1))


def _windows(texts: Sequence[Tokens], cuts: Sequence[slice]) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, int64 [T, B]; behind the end of a window there is no target."""
    length = max(cut.stop - cut.start for cut in cuts)
    inputs = torch.zeros(length, len(cuts), dtype=torch.int64)
    targets = torch.full_like(inputs, NO_TARGET)
    for lane, (tokens, cut) in enumerate(zip(texts, cuts, strict=True)):
        count = cut.stop - cut.start
        inputs[:count, lane] = torch.from_numpy(tokens[cut].astype(np.int64))
        targets[:count, lane] = torch.from_numpy(tokens[cut.start + 1 : cut.stop + 1].astype(np.int64))
    return inputs, targets


@torch.no_grad()
def compare(model: TernaryLM | Stack, program: Program, tokens: Tokens) -> int:
    """Feed ``tokens`` to model and program; return their number. Raises Mismatch if a logit differs."""
    logits, _ = model(torch.from_numpy(tokens.astype(np.int64))[:, None], _empty(model, 1))
    executor = NumpyExecutor(program)
    state = executor.open()
    for index, token in enumerate(tokens.tolist()):
        ours, theirs = logits[index, 0].numpy(), executor.step(state, [token])[0]
        if not np.array_equal(ours, theirs):
            at = int(np.flatnonzero(ours != theirs)[0])
            raise Mismatch(
                f"token {index}: logit {at} is {int(ours[at])} in torch, {theirs[at]} in the program"
            )
    return len(tokens)


def trits_changed(before: Program, after: Program) -> int:
    """Return how many ternary weights of two programs of one model differ."""
    roles = before.roles()
    return sum(
        int((array != after.consts[name]).sum())
        for name, array in before.consts.items()
        if roles[name] == "trits"
    )
