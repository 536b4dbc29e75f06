"""Tokens per second of the training step and of plain Brevitas, in one run.

Every round does one whole step (forward, backward, clipping, AdamW) of each contender on the same window from
the same weights, one after the other, so that a busy machine slows all of them. Losses must be equal.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ternac.model.net import gpu
from ternac.model.net.config import MemoryConfig, ModelConfig, TrainConfig
from ternac.model.net.fused import delta_backward, delta_forward
from ternac.model.net.kernels import kernels
from ternac.model.net.layers import BitLinear
from ternac.model.net.network import TernaryLM
from ternac.model.net.plain_brevitas import PlainLM
from ternac.model.training.data import SHAKESPEARE, Streams, read_text
from ternac.model.training.parts import Parts, one_thread
from ternac.progress import Progress

LOSS_TOLERANCE = 1e-5
"""Relative: logits are equal bit for bit, their cross entropy is a float32 sum."""
Step = Callable[[Tensor, Tensor], float]


def _step(model: TernaryLM | PlainLM, train: TrainConfig, clamp: bool, parts: Parts | None = None) -> Step:
    """Return a step of ``model``, in ``parts`` if they are given."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW(decayed, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    shape, device = (train.batch, model.config.d), decayed[0].device
    zeros = [torch.zeros(shape, device=device) for _ in range(model.config.layers)]
    if isinstance(model, TernaryLM):
        zeros = model.initial_state(train.batch)  # with a memory's part
    linears = [m for m in model.modules() if isinstance(m, BitLinear)] if clamp else []

    def run(tokens: Tensor, targets: Tensor) -> float:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        if parts is None:
            loss, _ = model.loss(tokens, targets, zeros)
            loss.backward()
        else:
            loss, _ = parts.gradients(tokens, targets, zeros)
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

    Plain Brevitas has no memories: a model with one is compared without it, and on a CPU ``delta_scan`` says
    what part of the step its scan takes.

    On a GPU the compiled CPU kernels have no part; :mod:`ternac.model.net.gpu` says what is used there.
    """
    on_cpu = device == "cpu"
    if on_cpu:
        kernels()  # built before the clock starts; ToolMissing without a compiler
    torch.manual_seed(train.seed)
    ours, unfused = _ours(model, train, on_cpu).to(device), _ours(model, train, False).to(device)
    plain = None if model.memory else PlainLM(model).to(device)
    steps = {"ternac": _step(ours, train, True)}
    if on_cpu:
        steps["ternac_without_kernels"] = _step(unfused, train, True)
    if plain:
        steps["brevitas"] = _step(plain, train, False)
    scans: list[float] = []
    streams = Streams(read_text(SHAKESPEARE), train.batch, train.window, train.seed)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    losses: list[dict[str, float]] = []
    for number in range(rounds + 1):  # the first warms up
        if plain:
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
        scans += [_scan_seconds(model.memory, train)] if model.memory and on_cpu else []
    tokens = train.batch * train.window
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    equal = all(_close(value, row["ternac"]) for row in losses for value in row.values())
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
        "ratio": round(median["brevitas"] / median["ternac"], 2) if plain else None,
        "equal_losses": equal,
        "losses": losses,
        "origin": f"measured on this machine's {'CPU' if on_cpu else torch.cuda.get_device_name()}, "
        "contenders in turn in one run, median of the rounds",
        **({"delta_scan": _share(statistics.median(scans[1:]), median["ternac"])} if scans else {}),
    } | (
        {"ratio_to_without_kernels": round(median["ternac_without_kernels"] / median["ternac"], 2)}
        if on_cpu
        else _utilization(model, {name: tokens / value for name, value in median.items()})
    )


def bench_parts(
    model: ModelConfig, train: TrainConfig, rounds: int, threads: int, progress: Progress
) -> dict[str, Any]:
    """Measure a step of one thread, in one part and in ``train.parts``, and one in parts on ``threads``.

    All take the same window from the same weights, in turn; losses must be equal, and after each round the
    weights of both in parts, bit for bit (``equal_bits``). On a machine with other work the clock says
    little: ``cpu_tokens_per_second`` counts the CPU seconds of the main thread and of the busiest other one.
    """
    kernels()
    torch.manual_seed(train.seed)
    names = ("one_thread", "parts_one_thread", "parts")
    models = {name: _ours(model, train, True) for name in names}
    workers = dict(zip(names[1:], (1, threads), strict=True))
    parts = {name: Parts(models[name], train.parts, count) for name, count in workers.items()}
    steps = {name: _step(models[name], train, True, parts.get(name)) for name in names}
    streams = Streams(read_text(SHAKESPEARE), train.batch, train.window, train.seed)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    losses: list[dict[str, float]] = []
    equal_bits = True
    with one_thread():
        for number in range(rounds + 1):  # the first warms up
            for name in ("parts_one_thread", "parts"):
                models[name].load_state_dict(models["one_thread"].state_dict())
            window = [torch.from_numpy(part) for part in streams.window_at(number)]
            losses.append({})
            for name in reversed(names):
                began, spent = time.perf_counter(), time.thread_time()
                losses[-1][name] = steps[name](window[0], window[1])
                seconds[name].append(time.perf_counter() - began)
                cpu[name].append(time.thread_time() - spent)
                if name in parts:
                    busy = parts[name].busy
                    cpu[name][-1] += max(*busy, sum(busy) / parts[name].threads)
                progress.update(number * len(names) + len(losses[-1]), name)
            pair = (models[name].parameters() for name in ("parts_one_thread", "parts"))
            equal_bits &= all(torch.equal(one, other) for one, other in zip(*pair, strict=True))
    tokens = train.batch * train.window
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    shares = [
        statistics.median(
            one / two for one, two in zip(each["one_thread"][1:], each["parts"][1:], strict=True)
        )
        for each in (seconds, cpu)
    ]
    cpu_median = {name: statistics.median(values[1:]) for name, values in cpu.items()}
    return {
        "model": dataclasses.asdict(model),
        "ternary_weights": model.ternary_weights,
        "batch": train.batch,
        "window": train.window,
        "rounds": rounds,
        "parts": train.parts,
        "threads": threads,
        "tokens_per_second": {name: round(tokens / value, 1) for name, value in median.items()},
        "seconds_per_step": {name: round(value, 4) for name, value in median.items()},
        "cpu_tokens_per_second": {name: round(tokens / value, 1) for name, value in cpu_median.items()},
        "ratio": round(shares[0], 2),
        "cpu_ratio": round(shares[1], 2),
        "equal_losses": all(_close(value, row["one_thread"]) for row in losses for value in row.values()),
        "equal_bits": equal_bits,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "load": round(os.getloadavg()[0], 2),
        "losses": losses,
        "origin": "measured on this machine's CPU, contenders in turn in one run, median of the rounds",
    }


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= LOSS_TOLERANCE * other


def _scan_seconds(memory: MemoryConfig, train: TrainConfig) -> float:
    """Return the seconds of one window's delta scan, forward and backward, on random values and addresses."""
    rows = torch.randint(0, memory.slots**2, (train.window + 1, train.batch, memory.heads), dtype=torch.int32)
    rows += torch.arange(memory.heads, dtype=torch.int32) * memory.slots**2
    v = torch.randint(-128, 128, (train.window + 1, train.batch, memory.width), dtype=torch.int8)
    held = torch.zeros(train.batch, memory.rows, memory.width, dtype=torch.int8)
    out, grad = torch.empty_like(v[1:]), torch.randn(v[1:].shape)
    began = time.perf_counter()
    after = held.clone()  # as in a step, where the window's memory is kept
    delta_forward(v[1:], rows[1:], rows[0], v[0], after, memory.rate, out)
    delta_backward(grad, rows[1:], rows[0], memory.rows, memory.rate)
    return time.perf_counter() - began


def _share(scan: float, step: float) -> dict[str, float]:
    return {"seconds": round(scan, 5), "share": round(scan / step, 4)}


def _utilization(model: ModelConfig, rates: dict[str, float]) -> dict[str, Any]:
    """Return model FLOP/s as a share of the GPU's dense bfloat16 peak, or None if that is unknown."""
    name = torch.cuda.get_device_name()
    peak = gpu.peak_tflops(name)
    flops = gpu.flops_per_token(model.ternary_weights)
    used = {who: rate * flops / (peak * 1e12) for who, rate in rates.items()} if peak else None
    return {"gpu": name, "peak_tflops": peak, "flops_per_token": flops, "mfu": used}
