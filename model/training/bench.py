"""Tokens per second of the training step and of plain Brevitas, in one run.

Every round does one whole step (forward, backward, clipping, AdamW) of each contender on the same window from
the same weights, one after the other, so that a busy machine slows all of them. Losses must be equal.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ternac.model.net import gpu
from ternac.model.net.config import ModelConfig, TrainConfig
from ternac.model.net.kernels import kernels
from ternac.model.net.layers import BitLinear
from ternac.model.net.network import TernaryLM
from ternac.model.net.plain_brevitas import PlainLM
from ternac.model.training.data import SHAKESPEARE, Streams, read_text
from ternac.progress import Progress

LOSS_TOLERANCE = 1e-5
"""Relative: logits are equal bit for bit, their cross entropy is a float32 sum."""
Step = Callable[[Tensor, Tensor], float]


def _step(model: TernaryLM | PlainLM, train: TrainConfig, clamp: bool) -> Step:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW(decayed, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    shape, device = (train.batch, model.config.d), decayed[0].device
    zeros = [torch.zeros(shape, device=device) for _ in range(model.config.layers)]
    linears = [m for m in model.modules() if isinstance(m, BitLinear)] if clamp else []

    def run(tokens: Tensor, targets: Tensor) -> float:
        model.train()
        loss, _ = model.loss(tokens, targets, zeros)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decayed, train.clip)
        optimizer.step()
        for linear in linears:
            linear.clamp(train.weight_limit)
        return float(loss.detach())

    return run


def _ours(model: ModelConfig, train: TrainConfig, fused: bool) -> TernaryLM:
    result = TernaryLM(model)
    result.fused = fused
    for module in result.modules():
        if isinstance(module, BitLinear):
            module.bf16_backward = train.bf16_backward
            module.quant.scaling_impl.hold = train.hold_exponents
            module.trits()  # sets the exponent
    return result


def bench_train(
    model: ModelConfig, train: TrainConfig, rounds: int, progress: Progress, device: str = "cpu"
) -> dict[str, Any]:
    """Measure the median seconds of a step by contender, and compare all losses (``equal_losses``).

    On a GPU the compiled CPU kernels have no part; :mod:`ternac.model.net.gpu` says what is used there.
    """
    on_cpu = device == "cpu"
    if on_cpu:
        kernels()  # built before the clock starts; ToolMissing without a compiler
    torch.manual_seed(train.seed)
    ours, unfused, plain = _ours(model, train, on_cpu), _ours(model, train, False), PlainLM(model)
    for contender in (ours, unfused, plain):
        contender.to(device)
    plain.take(ours)
    steps = {"ternac": _step(ours, train, True)}
    if on_cpu:
        steps["ternac_without_kernels"] = _step(unfused, train, True)
    steps["brevitas"] = _step(plain, train, False)
    streams = Streams(read_text(SHAKESPEARE), train.batch, train.window, train.seed)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    losses: list[dict[str, float]] = []
    for number in range(rounds + 1):  # the first warms up
        plain.take(ours)
        unfused.load_state_dict(ours.state_dict())
        window = [torch.from_numpy(part).to(device) for part in streams.window_at(number)]
        losses.append({})
        for name in reversed(steps):  # ours last: the others start from the weights that it started from
            began, spent = time.perf_counter(), time.process_time()
            losses[-1][name] = steps[name](window[0], window[1])  # a number: waits for the GPU
            seconds[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - spent)
            progress.update(number * len(steps) + len(losses[-1]), name)
    tokens = train.batch * train.window
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    equal = all(
        abs(value - row["ternac"]) <= LOSS_TOLERANCE * row["ternac"]
        for row in losses
        for value in row.values()
    )
    return {
        "model": dataclasses.asdict(model),
        "ternary_weights": model.ternary_weights,
        "batch": train.batch,
        "window": train.window,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "tokens_per_second": {name: round(tokens / value, 1) for name, value in median.items()},
        "seconds_per_step": {name: round(value, 4) for name, value in median.items()},
        "cpu_seconds_per_step": {name: round(statistics.median(v[1:]), 4) for name, v in cpu.items()},
        "ratio": round(median["brevitas"] / median["ternac"], 2),
        "equal_losses": equal,
        "losses": losses,
        "origin": f"measured on this machine's {'CPU' if on_cpu else torch.cuda.get_device_name()}, "
        "contenders in turn in one run, median of the rounds",
    } | (
        {"ratio_to_without_kernels": round(median["ternac_without_kernels"] / median["ternac"], 2)}
        if on_cpu
        else _utilization(model, {name: tokens / value for name, value in median.items()})
    )


def _utilization(model: ModelConfig, rates: dict[str, float]) -> dict[str, Any]:
    """Return model FLOP/s as a share of the GPU's dense bfloat16 peak, or None if that is unknown."""
    name = torch.cuda.get_device_name()
    peak = gpu.peak_tflops(name)
    flops = gpu.flops_per_token(model.ternary_weights)
    used = {who: rate * flops / (peak * 1e12) for who, rate in rates.items()} if peak else None
    return {"gpu": name, "peak_tflops": peak, "flops_per_token": flops, "mfu": used}
