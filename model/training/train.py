"""Quantization-aware training of a :class:`TernaryLM` that can be killed at any time and resumes exactly.

A run lives in a folder: ``latest.safetensors`` (everything to resume), ``best.safetensors`` (weights of the
lowest validation loss), ``curve.csv``, ``curve.png``, ``recipe.json``; where weights are averaged
or logits tempered, the finished run leaves ``final.safetensors``: what it ended with, whatever its loss.
"""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ternac.errors import BuildFailed, CheckpointError, ToolMissing, TrainingDiverged
from ternac.files import make_folder, write_json
from ternac.model.net.config import ModelConfig, TrainConfig, from_dict, to_dict
from ternac.model.net.kernels import kernels
from ternac.model.net.layers import BitLinear
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint as ckpt
from ternac.model.training import curve
from ternac.model.training.data import Streams, Tokens, question_weights, split
from ternac.model.training.evaluate import nats_per_token
from ternac.model.training.parts import Parts, one_thread
from ternac.model.training.run_folder import BEST, FINAL, LATEST


@dataclass(frozen=True)
class Progress:
    """Report of a step."""

    step: int
    steps: int
    train_nats: float
    val_nats: float | None
    seconds_per_step: float


@cache
def compiled() -> bool:
    """Return True if the compiled kernels can be used; otherwise warn once why, and what it costs."""
    try:
        kernels()
    except (ToolMissing, BuildFailed) as error:
        warnings.warn(f"training takes the slower way: {error} ({error.hint})", RuntimeWarning, stacklevel=2)
        return False
    return True


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, then a cosine from ``lr`` to ``lr * lr_final``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (config.lr_final + (1 - config.lr_final) * 0.5 * (1 + math.cos(math.pi * done)))


def mask_generators(config: TrainConfig, step: int) -> list[torch.Generator]:
    """Return what draws the dropout masks of each stream at ``step``; none where they are new at every step.

    They draw the same for ``mask_steps`` steps; streams change theirs in turn, with their sessions.
    """
    if config.mask_steps == 1:
        return []
    numbers = [(config.seed, lane, (step + lane) // config.mask_steps) for lane in range(config.batch)]
    seeds = [int(np.random.SeedSequence(number).generate_state(1)[0]) for number in numbers]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Trainer:
    """One run. ``Trainer(...)`` starts, or resumes where the folder holds a checkpoint of the same run.

    :class:`ternac.model.training.distributed.DistributedTrainer` is the same run in several processes; it
    overrides what reads data, writes files or adds up losses.
    """

    leads = True  #: whether this process writes files
    processes = 1

    def __init__(
        self,
        model: ModelConfig,
        train: TrainConfig,
        text: Tokens,
        out: Path,
        device: str = "cpu",
        tokenizer: bytes = b"",
        about: Mapping[str, Any] | None = None,
        extend: bool = False,
    ) -> None:
        """``tokenizer``: the tokenizer.json that made ``text``, which goes into every checkpoint, and so does
        ``about``: plain data such as the name of the text. ``extend``: a run of fewer steps goes on, by the
        schedule of ``train``.
        """
        self.config = train
        self.tokenizer = tokenizer.decode()
        self.about, self.extend = dict(about or {}), extend
        self.extended: list[dict[str, int]] = []
        self.device = torch.device(device)
        self.out = out
        self.settings = to_dict(model, train)
        self.digest = hashlib.sha256(text.tobytes()).hexdigest()
        train_text, self.val_text = split(text, train.val_fraction)
        counts = question_weights(train_text, tokenizer, train.question_weight)
        self.streams = Streams(train_text, train.batch, train.window, train.seed, train.repeats, counts)
        torch.manual_seed(train.seed)
        self.model = self.build(model)
        self.linears = [m for m in self.model.modules() if isinstance(m, BitLinear)]
        for linear in self.linears:
            linear.bf16_backward = train.bf16_backward
            linear.quant.scaling_impl.hold = train.hold_exponents
        self._place()
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        self.optimizer = torch.optim.AdamW(
            decayed,
            lr=train.lr,
            betas=(train.beta1, train.beta2),
            weight_decay=train.weight_decay,
            fused=True,
        )
        self.average = [p.detach().clone() for p in self.model.parameters()] if train.average else []
        self.parts = Parts(self.model, train.parts) if train.parts > 1 else None
        self.state = self.model.initial_state(self._mine().stop - self._mine().start)
        self.step = 0
        self.rows: list[curve.Row] = []
        self.best = math.inf
        self.seconds = 0.0
        self.saved = 0  #: the step of the last checkpoint
        self.watch: Callable[[int, int], None] = lambda done, total: None  #: of every validation: tokens
        self._restore()

    def build(self, model: ModelConfig) -> Any:
        """Return a fresh model to train: a :class:`TernaryLM`, or in a subclass a model with its methods."""
        made = TernaryLM(model, self.config.dropout, self.config.sharpen).to(self.device)
        made.fused = self.device.type == "cpu" and self.config.bf16_backward and compiled()
        return made

    def _place(self) -> None:
        """Place the model on its devices, before the optimizer is made: nothing to do in one process."""

    def _mine(self) -> slice:
        """Return the streams that this process trains on."""
        return slice(0, self.config.batch)

    def _loss(
        self, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the loss on this process's part of a window, and its new state."""
        given = () if weights is None else (weights,)  # models of a study take none
        return self.model.loss(inputs, targets, self.state, *given)

    def _mean(self, loss: torch.Tensor) -> float:
        """Return the loss over the whole batch."""
        return float(loss)

    def _agree(self, flag: bool) -> bool:
        """Return whether any process raises ``flag``; all of them must ask."""
        return flag

    def _restore(self) -> None:
        """Resume from the folder's checkpoint, if there is one."""
        if (self.out / LATEST).is_file():
            self._resume(ckpt.load(self.out / LATEST))

    def _check_same_run(self, info: dict[str, Any]) -> None:
        """Raise CheckpointError unless ``info`` is of this run, or of one that it extends."""
        there = to_dict(*from_dict(info.get("config", {})))
        differ = [
            f"{part}.{name} is {there[part][name]} there, {value} here"
            for part, values in self.settings.items()
            for name, value in values.items()
            if there[part][name] != value
        ]
        if info.get("text_sha256") != self.digest or info.get("tokenizer", "") != self.tokenizer:
            differ.append("it has another text or tokenizer")
        before = there["train"]["steps"]
        if len(differ) == 1 and before < self.config.steps:
            if self.extend and differ[0].startswith("train.steps"):
                self.extended.append({"at_step": info["step"], "from_steps": before})
                return
            if differ[0].startswith("train.steps"):
                raise CheckpointError(
                    f"{self.out} holds a run of {before} steps, not {self.config.steps}",
                    "ternac train --extend continues it, by the schedule of the new number of steps; or give "
                    "another --out",
                )
        if differ:
            raise CheckpointError(
                f"{self.out} holds another run: {'; '.join(differ)}",
                "give another --out, or repeat the settings of that run",
            )

    def _resume(self, saved: ckpt.Checkpoint) -> None:
        self._check_same_run(saved.info)
        self.model.load_state_dict(saved.part("model"))
        ckpt.unpack_optimizer(self.model, self.optimizer, saved)
        self.average = [saved.tensors[f"average.{i}"].to(self.device) for i in range(len(self.average))]
        self.state = [saved.tensors[f"state.{i}"].to(self.device) for i in range(len(self.state))]
        torch.set_rng_state(saved.tensors["rng"])
        self._place_in_history(saved.info)

    def _place_in_history(self, info: dict[str, Any]) -> None:
        self.step, self.rows = info["step"], info["rows"]
        self.saved, self.extended = self.step, [*info.get("extended", []), *self.extended]
        self.best, self.seconds = info["best"] or math.inf, info["seconds"]

    def _weights(self) -> dict[str, torch.Tensor]:
        return {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}

    def _info(self) -> dict[str, Any]:
        return {
            "config": to_dict(self.model.config, self.config),
            "text_sha256": self.digest,
            "step": self.step,
            "rows": self.rows,
            "best": None if math.isinf(self.best) else self.best,
            "seconds": self.seconds,
            **({"tokenizer": self.tokenizer} if self.tokenizer else {}),
            **({"extended": self.extended} if self.extended else {}),
            "validation_tokens": self.validation_tokens,
            **self.about,
        }

    @property
    def validation_tokens(self) -> int:
        """Return how many tokens a validation predicts."""
        return min(self.config.eval_tokens or len(self.val_text), len(self.val_text) - 1)

    def validate(self, model: TernaryLM) -> float:
        """Return the loss of ``model`` on the held-out text, or on the first ``eval_tokens`` of it."""
        return nats_per_token(model, self.val_text[: self.validation_tokens + 1], progress=self.watch)

    def save(self) -> None:
        """Write ``latest.safetensors`` and the curve."""
        tensors = self._weights() | ckpt.pack_optimizer(self.model, self.optimizer)
        tensors |= {f"state.{i}": h for i, h in enumerate(self.state)} | {"rng": torch.get_rng_state()}
        tensors |= {f"average.{i}": a for i, a in enumerate(self.average)}
        ckpt.save(self.out / LATEST, ckpt.Checkpoint(tensors, self._info()))
        curve.write_csv(self.out / "curve.csv", self.rows)

    def one_step(self) -> float:
        """Train on the next window; returns its loss."""
        with one_thread() if self.parts else nullcontext():
            return self._one_step()

    def _one_step(self) -> float:
        fresh = torch.from_numpy(self.streams.fresh(self.step)[self._mine()]).to(self.device)
        if bool(fresh.any()):
            self.model.begin_again(self.state, fresh)
        self.model.masks = mask_generators(self.config, self.step)
        window = self.streams.window_at(self.step)
        inputs, targets = (torch.from_numpy(part)[:, self._mine()].to(self.device) for part in window)
        counts = self.streams.weights_at(self.step)
        weights = None if counts is None else torch.from_numpy(counts)[:, self._mine()].to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        if self.parts is None:
            loss, self.state = self._loss(inputs, targets, weights)
            loss.backward()
        else:
            loss, self.state = self.parts.gradients(inputs, targets, self.state, weights)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        if self.config.weight_limit > 0.0:
            for linear in self.linears:
                linear.clamp(self.config.weight_limit)
        self.step += 1
        self._follow()
        return self._mean(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights; faster in early steps, so that the start value fades."""
        if self.average:
            decay = min(self.config.average, self.step / (self.step + 10))
            for mean, weight in zip(self.average, self.model.parameters(), strict=True):
                mean.lerp_(weight, 1.0 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While entered, the model holds the averaged weights (its own where ``average`` is 0)."""
        held = [p.data for p in self.model.parameters()]
        for parameter, mean in zip(self.model.parameters(), self.average or held, strict=True):
            parameter.data = mean
        try:
            yield
        finally:
            for parameter, weight in zip(self.model.parameters(), held, strict=True):
                parameter.data = weight

    @contextmanager
    def tempered(self) -> Iterator[None]:
        """While entered, the model's logits are those of the finished model, see ``TrainConfig.temper``."""
        before = self.model.config.temper
        if self.config.temper != 1.0:
            self.model.set_temper(self.config.temper)
        try:
            yield
        finally:
            if self.model.config.temper != before:
                self.model.set_temper(before)

    def _evaluate(self, row: curve.Row) -> float:
        """Measure the weights that would be kept now; keep the best."""
        with self.averaged():
            row["val_nats"] = val = self.validate(self.model)
            if val < self.best:
                self.best = val
                ckpt.save(self.out / BEST, ckpt.Checkpoint(self._weights(), self._info()))
        return val

    def _keep_last(self) -> None:
        """Write what only a finished run has: the last average, with tempered logits."""
        if self.average or self.config.temper != 1.0:
            with self.averaged():
                info = self._info() | {"kept": "last"}
                ckpt.save(self.out / FINAL, ckpt.Checkpoint(self._weights(), info))

    def run(self, report: Callable[[Progress], None], until: int | None = None) -> float:
        """Train to the end (or to step ``until``); returns the best validation loss in nats per token.

        Whatever ends it early leaves a checkpoint of the last whole step, from which the next run continues.
        Raises KeyboardInterrupt after that if the process was interrupted (SIGINT or SIGTERM; a second one
        does not wait for the step), TrainingDiverged if a loss or a weight is not finite: nothing is saved.
        """
        if self.leads:
            make_folder(self.out)
            recipe = {"settings": self.settings, "text_sha256": self.digest, **self.about}
            recipe |= {"validation_tokens": self.validation_tokens, "held_out_tokens": len(self.val_text)}
            recipe |= {"extended": self.extended} if self.extended else {}
            write_json(self.out / "recipe.json", recipe, indent=2)
        c, before, began, first = self.config, self.seconds, time.monotonic(), self.step
        last = min(c.steps, until or c.steps)
        with StopRequest() as stop:
            while self.step < last and not self._agree(stop.requested):
                loss = self._finite(self.one_step())
                self.seconds = before + time.monotonic() - began
                val = None
                end = self.step == c.steps
                if self.step % 25 == 0 or end:
                    row: curve.Row = {
                        "step": self.step,
                        "train_nats": round(loss, 5),
                        "learning_rate": learning_rate(c, self.step - 1),
                        "seconds": round(self.seconds, 1),
                    }
                    self.rows.append(row)
                if self.step % c.eval_every == 0 or end:
                    if not self.rows or self.rows[-1]["step"] != self.step:
                        self.rows.append({"step": self.step})
                    with self.tempered() if end else nullcontext():
                        val = self._finite(self._evaluate(self.rows[-1]))
                        if end:
                            self._keep_last()
                if self.step % c.checkpoint_every == 0 or end:
                    self._save_finite()
                pace = (self.seconds - before) / (self.step - first)
                report(Progress(self.step, c.steps, loss, val, pace))
            if self.saved != self.step:
                self._save_finite()
        if self.step == c.steps and self.leads:
            title = f"{self.model.config.ternary_weights / 1e6:.2f} M ternary weights"
            curve.write_png(self.out / "curve.png", self.rows, title)
        if self.step < last:
            raise KeyboardInterrupt
        return self.best

    def _finite(self, loss: float) -> float:
        """Return ``loss``. Raises TrainingDiverged if it is not a finite number."""
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}")
        return loss

    def _save_finite(self) -> None:
        """Save. Raises TrainingDiverged if a weight is not finite: quantizers would hide it from the loss."""
        wrong = [name for name, p in self.model.named_parameters() if not bool(torch.isfinite(p).all())]
        if self._agree(bool(wrong)):
            raise self._diverged(f"weight {wrong[0]} is not finite" if wrong else "a weight is not finite")
        self.save()
        self.saved = self.step

    def _diverged(self, what: str) -> TrainingDiverged:
        return TrainingDiverged(
            f"{what} at step {self.step}: training has diverged",
            f"the last checkpoint before it is kept in {self.out}; start again with a lower --lr or a longer "
            "--warmup, in another --out",
        )


class StopRequest:
    """While entered, the first SIGINT or SIGTERM only sets ``requested``; a second SIGINT interrupts at once.

    Outside the main thread, where Python does not deliver signals, nothing changes.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
