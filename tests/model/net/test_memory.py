"""Memories in training: forwards are the integer rule token by token, backwards adjoints of linear maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from ternac.errors import UsageError
from ternac.model.export import ship
from ternac.model.export.export import RESIZED
from ternac.model.export.resize import resize
from ternac.model.net import functional as fn
from ternac.model.net import fused, memory
from ternac.model.net.config import MemoryConfig, ModelConfig, Scales, TrainConfig, to_dict
from ternac.model.net.executor import TorchExecutor
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint
from ternac.model.training.run_folder import CHECKPOINT
from ternac.run.numpy_executor import NumpyExecutor

TYPES = {torch.int8: "i8", torch.int16: "i16"}
HYBRID = ModelConfig(vocab=50, d=64, m=96, layers=2, memory=MemoryConfig(heads=4, slots=4, width=12))


def rshift_round(x: npt.NDArray[np.int64], shift: int) -> npt.NDArray[np.int64]:
    return (x + ((1 << shift) >> 1)) >> shift


def sat(x: npt.NDArray[np.int64], dtype: str) -> npt.NDArray[np.int64]:
    return np.clip(x, *((-128, 127) if dtype == "i8" else (-32768, 32767)))


def delta_by_token(
    v: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    before: npt.NDArray[np.int64],
    held: npt.NDArray[np.int64],
    rate: int,
    dtype: str,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The layer's ops for one stream, one row at a time: v [T, D], rows [T, H], held [R, D]."""
    held, mean = held.copy(), int(np.log2(rows.shape[1]))
    out = np.empty_like(v)
    for t in range(len(v)):
        e = rshift_round(sat(before - v[t], "i16"), rate)
        for row in last:
            held[row] = sat(held[row] - e, dtype)
        out[t] = rshift_round(sum(held[row] for row in rows[t]), mean)
        last, before = rows[t], out[t]
    return out, held


def scan_inputs(dtype: torch.dtype, seed: int, heads: int = 4, steps: int = 40) -> tuple[Tensor, ...]:
    """v, rows, last, before, memory as integers; extremes are frequent, so that much saturates."""
    torch.manual_seed(seed)
    streams, bits, width = 3, 2, 6
    limits = torch.iinfo(dtype)

    def values(*shape: int) -> Tensor:
        x = torch.randint(limits.min, limits.max + 1, shape)
        extreme = torch.where(torch.rand(shape) < 0.5, limits.min, limits.max)
        return torch.where(torch.rand(shape) < 0.4, extreme, x).to(dtype)

    first = torch.arange(heads) << 2 * bits
    rows = torch.randint(0, 1 << 2 * bits, (steps, streams, heads)) + first
    last = torch.randint(0, 1 << 2 * bits, (streams, heads)) + first
    return (
        values(steps, streams, width),
        rows,
        last,
        values(streams, width),
        values(streams, heads << 2 * bits, width),
    )


def test_the_lowest_of_equal_scores_wins() -> None:
    x = torch.tensor([[3.0, 7.0, 7.0, 1.0, -5.0, -5.0, -5.0, -5.0]])
    assert memory.winners(x, 2).tolist() == [[1, 0]]
    ties = torch.randint(0, 3, (200, 64)).float()
    assert np.array_equal(memory.winners(ties, 4).numpy(), ties.numpy().reshape(200, 4, 16).argmax(-1))


def test_only_low_bits_of_a_digit_count() -> None:
    a, b = torch.tensor([[1, -1]]), torch.tensor([[6, 3]])
    assert memory.row_numbers((a, b), 2).tolist() == [[1 * 4 + 2, 16 + 3 * 4 + 3]]
    assert memory.row_numbers((a,), 2, shared=True).tolist() == [[1, 3]]


def test_mask_passes_values_and_gradients_of_winners_alone() -> None:
    x = torch.tensor([[4.0, -2.0, 5.0, 1.0]], requires_grad=True)
    y = memory.Mask.apply(x, torch.tensor([[1, 2]]))  # the second digit is 0 mod 2
    assert y.tolist() == [[0.0, -2.0, 5.0, 0.0]]
    y.backward(torch.tensor([[10.0, 20.0, 30.0, 40.0]]))
    assert x.grad is not None and x.grad.tolist() == [[0.0, 20.0, 30.0, 0.0]]


def test_active_is_one_at_winners_and_passes_their_gradient() -> None:
    x = torch.tensor([[4.0, 4.0, -5.0, 1.0]], requires_grad=True)
    y = memory.Active.apply(x, 2, 0.25)
    assert y.tolist() == [[1.0, 0.0, 0.0, 1.0]]
    y.backward(torch.full((1, 4), 8.0))
    assert x.grad is not None and x.grad.tolist() == [[2.0, 0.0, 0.0, 2.0]]


@pytest.mark.parametrize("vectors", [1, 2])
def test_picked_rows_are_those_of_winners_and_scores_learn_of_all_rows(vectors: int) -> None:
    """The gradients are those of rows weighted by softmaxes, taken where every other score has its winner."""
    torch.manual_seed(vectors)
    heads, slots, width, gains = 3, 4, 5, (0.3, 0.7)[:vectors]
    table = torch.randint(-9, 10, (heads, *[slots] * vectors, width)).double().requires_grad_()
    scores = [torch.randint(-4, 5, (7, heads * slots)).double().requires_grad_() for _ in gains]
    total = memory.PickRows.apply(table, gains, *scores)
    won = [memory.winners(each, heads) for each in scores]
    bits = 2  # slots is 2**2
    rows = memory.row_numbers(tuple(won), bits)
    assert torch.equal(total, table.reshape(-1, width)[rows].sum(-2))

    grad = torch.randn(7, width, dtype=torch.float64)
    found = torch.autograd.grad(total, (table, *scores), grad)
    letters = "ab"[:vectors]
    hard = [torch.nn.functional.one_hot(each, slots).double() for each in won]

    def read(weights: list[Tensor], rows: Tensor) -> Tensor:
        return torch.einsum(f"{','.join('nh' + x for x in letters)},h{letters}d->nd", *weights, rows)

    (expected,) = torch.autograd.grad(read(hard, table), table, grad)
    assert torch.allclose(found[0], expected)
    for at, (score, gain) in enumerate(zip(scores, gains, strict=True)):
        soft = torch.softmax(score.unflatten(-1, (heads, slots)) * gain, -1)
        weights = [soft if other == at else each for other, each in enumerate(hard)]
        (expected,) = torch.autograd.grad(read(weights, table.detach()), score, grad)
        assert torch.allclose(found[1 + at], expected)


def test_sub_saturates_and_then_has_no_gradient() -> None:
    a = torch.tensor([100.0, 1.0], requires_grad=True)
    b = torch.tensor([-100.0, 3.0], requires_grad=True)
    y = memory.Sub.apply(a, b, *fn.I8)
    assert y.tolist() == [127.0, -2.0]
    y.sum().backward()
    assert a.grad is not None and b.grad is not None
    assert (a.grad.tolist(), b.grad.tolist()) == ([0.0, 1.0], [0.0, -1.0])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rate", [0, 1, 2])
@pytest.mark.parametrize("heads", [1, 4, 8])
def test_delta_scan_is_the_rule_token_by_token(dtype: torch.dtype, rate: int, heads: int) -> None:
    v, rows, last, before, held = scan_inputs(dtype, rate + heads, heads)
    o, after = memory.delta_scan(v.float(), rows, last, before.float(), held, rate)
    compiled, out = held.clone(), torch.empty_like(v)
    fused.delta_forward(v, rows.int(), last.int(), before, compiled, rate, out)
    assert torch.equal(o.to(dtype), out) and torch.equal(after, compiled)
    for b in range(v.shape[1]):
        parts = [part.numpy().astype(np.int64) for part in (v[:, b], rows[:, b], last[b], before[b], held[b])]
        want, rows_after = delta_by_token(*parts, rate, TYPES[dtype])
        assert np.array_equal(o[:, b].numpy(), want)
        assert np.array_equal(after[b].numpy(), rows_after)
    assert (after == torch.iinfo(dtype).max).any()


@pytest.mark.parametrize("fault", ["carry", "rate", "row"])
def test_a_planted_fault_in_the_scan_is_seen(fault: str) -> None:
    v, rows, last, before, held = scan_inputs(torch.int8, 5)
    right = memory.delta_scan(v.float(), rows, last, before.float(), held, 1)
    rate = 2 if fault == "rate" else 1
    if fault == "carry":
        before = torch.zeros_like(before)
    if fault == "row":
        rows = rows.clone()
        rows[20, 1, 2] ^= 1
    wrong = memory.delta_scan(v.float(), rows, last, before.float(), held, rate)
    assert not torch.equal(right[0], wrong[0]) and not torch.equal(right[1], wrong[1])


def test_two_windows_are_one() -> None:
    v, rows, last, before, held = scan_inputs(torch.int8, 6)
    whole, after = memory.delta_scan(v.float(), rows, last, before.float(), held, 1)
    first, between = memory.delta_scan(v[:17].float(), rows[:17], last, before.float(), held, 1)
    second, end = memory.delta_scan(v[17:].float(), rows[17:], rows[16], first[-1], between, 1)
    assert torch.equal(torch.cat((first, second)), whole) and torch.equal(end, after)


def test_the_first_token_of_a_session_writes_row_zero_of_every_head() -> None:
    v = torch.full((1, 1, 2), 64.0)
    rows = torch.tensor([[[0, 4 + 3]]])
    empty = torch.zeros(1, 8, 2, dtype=torch.int8)
    o, after = memory.delta_scan(v, rows, torch.tensor([[0, 4]]), torch.zeros(1, 2), empty, 1)
    assert after[0, :, 0].tolist() == [32, 0, 0, 0, 32, 0, 0, 0]
    assert o.flatten().tolist() == [16.0, 16.0]


def linear_reads(v: Tensor, rows: Tensor, last: Tensor, before: Tensor, held: Tensor, rate: int) -> Tensor:
    """The scan without rounding and saturation, for autograd."""
    streams, heads = last.shape
    out, each = [], torch.arange(streams).unsqueeze(-1)
    for t in range(len(v)):
        e = (before - v[t]) * 2.0**-rate
        held = held.index_put((each, last), -e.unsqueeze(1).expand(-1, heads, -1), accumulate=True)
        before, last = held[each, rows[t]].mean(1), rows[t]
        out.append(before)
    return torch.stack(out)


@pytest.mark.parametrize("rate", [0, 1])
def test_gradient_of_the_delta_scan_is_that_of_its_linear_map(rate: int) -> None:
    v, rows, last, before, held = scan_inputs(torch.int8, 7, steps=12)
    up = torch.randint(-4, 5, v.shape).double()  # dyadic, few steps: every sum below is exact in float64
    want = v.double().requires_grad_()
    linear_reads(want, rows, last, before.double(), held.double(), rate).backward(up)
    got = v.double().requires_grad_()
    memory.DeltaScan.apply(got, rows, last, before.double(), held, rate)[0].backward(up)
    assert want.grad is not None and got.grad is not None
    assert torch.equal(got.grad, want.grad) and want.grad.abs().max() > 1.0
    compiled = fused.delta_backward(up.float(), rows.int(), last.int(), held.shape[1], rate)
    assert torch.allclose(compiled.double(), want.grad, rtol=1e-6, atol=1e-6)


def test_a_wrong_adjoint_would_be_seen() -> None:
    v, rows, last, before, held = scan_inputs(torch.int8, 8, steps=12)
    up = torch.randint(-4, 5, v.shape).double()
    want = v.double().requires_grad_()
    linear_reads(want, rows, last, before.double(), held.double(), 1).backward(up)
    shifted = fused.delta_backward(up.float(), rows.int(), rows[0].int(), held.shape[1], 1)
    assert want.grad is not None
    assert not torch.allclose(shifted[0].double(), want.grad[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("lag", [0, 1])
def test_hebbian_scan_is_three_products_while_nothing_saturates(lag: int) -> None:
    torch.manual_seed(lag)
    e = memory.Active.apply(torch.randint(-9, 9, (50, 2, 24)).float(), 4, 1.0)
    v = torch.randint(-20, 21, (50, 2, 5)).float()
    empty = torch.zeros(2, 24, 5, dtype=torch.int16)
    o, after = memory.HebbianScan.apply(e, v, empty, lag)
    assert torch.equal(o, memory.hebbian_product(e, v, lag)) and o.abs().max() > 100
    assert int(after.abs().max()) < 32767
    grads = []
    up = torch.randint(-3, 4, o.shape).float()
    for scan in (lambda x, y: memory.HebbianScan.apply(x, y, empty, lag)[0], memory.hebbian_product):
        x, y = e.clone().requires_grad_(), v.clone().requires_grad_()
        made = scan(x, y) if scan is not memory.hebbian_product else scan(x, y, lag)
        grads.append(torch.autograd.grad(made, (x, y), up))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_hebbian_scan_is_the_rule_where_rows_saturate_and_memory_is_carried() -> None:
    torch.manual_seed(3)
    e = memory.Active.apply(torch.randint(-9, 9, (30, 1, 8)).float(), 2, 1.0)
    v = torch.randint(-100, 101, (30, 1, 3)).float()
    held = torch.randint(-128, 128, (1, 8, 3), dtype=torch.int8)
    o, after = memory.HebbianScan.apply(e, v, held, 1)
    rows = held[0].numpy().astype(np.int64)
    for t in range(30):
        if t:
            for row in np.flatnonzero(e[t - 1, 0].numpy()):
                rows[row] = sat(rows[row] + v[t, 0].numpy().astype(np.int64), "i8")
        want = sum(rows[row] for row in np.flatnonzero(e[t, 0].numpy()))
        assert np.array_equal(o[t, 0].numpy(), want)
    assert np.array_equal(after[0].numpy(), rows) and (np.abs(rows) >= 127).any()


def test_table_rows_are_sums_of_rows_with_gradients_to_rows_and_codes() -> None:
    torch.manual_seed(4)
    table = torch.randint(-128, 128, (5, 8, 3)).float().requires_grad_()
    codes = torch.randint(-4, 4, (7, 2, 5)).float().requires_grad_()
    y = memory.TableRows.apply(codes, table)
    plain, at = table.detach().numpy(), codes.detach().numpy().astype(int)
    for t, b in np.ndindex(7, 2):
        assert np.array_equal(y[t, b].detach().numpy(), sum(plain[i, at[t, b, i] & 7] for i in range(5)))
    up = torch.randint(-3, 4, y.shape).float()
    y.backward(up)
    d_table, d_codes = np.zeros_like(plain), np.zeros(codes.shape)
    for t, b, i in np.ndindex(7, 2, 5):
        code, g = at[t, b, i], up[t, b].numpy()
        d_table[i, code & 7] += g
        above, below = plain[i, min(code + 1, 3) & 7], plain[i, max(code - 1, -4) & 7]
        d_codes[t, b, i] = ((above - below) / 2 * g).sum()
    assert table.grad is not None and codes.grad is not None
    assert np.array_equal(table.grad.numpy(), d_table)
    assert np.array_equal(codes.grad.numpy(), d_codes)


def test_a_loop_runs_its_body_on_what_the_run_before_returned() -> None:
    x = torch.tensor([3.0], requires_grad=True)
    y = memory.loop(lambda r, run: r * 2 + run, x, 3)
    assert y.tolist() == [28.0]
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [8.0]


def _step(fast: bool, dropout: float, gain: float) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """(logits, state, gradients) of a second window, whose memory the first one wrote."""
    torch.manual_seed(1)
    model = TernaryLM(HYBRID, dropout)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.empty(()).uniform_(0.5, gain))
    model.fused = fast
    tokens = torch.randint(0, 50, (61, 5))
    _, state = model(tokens[:30], model.initial_state(5))
    logits, state = model(tokens[30:60], state)
    model.nats(logits, tokens[31:]).backward()
    return logits.detach(), state, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("dropout", "gain"), [(0.0, 1.5), (0.0, 4.0), (0.3, 1.5)])
def test_compiled_and_plain_layer_have_equal_values_and_like_gradients(dropout: float, gain: float) -> None:
    (logits, state, grads), (plain, plain_state, plain_grads) = (
        _step(f, dropout, gain) for f in (True, False)
    )
    assert torch.equal(logits, plain) and logits.abs().max() > 0
    assert all(torch.equal(a, b) for a, b in zip(state, plain_state, strict=True))
    assert state[-1].dtype == torch.int8 and bool(state[-1].any())
    assert set(grads) == set(plain_grads) and "recall.wv.weight" in grads
    for name, grad in grads.items():
        off = float((grad - plain_grads[name]).norm() / plain_grads[name].norm())
        assert off < 0.02, f"{name}: {off}"  # bfloat16 has 8 bits


def test_address_maps_are_a_function_of_shape_and_seed() -> None:
    config = MemoryConfig()
    maps = memory.address_maps(config, 192)
    assert maps.shape == (2, 128, 192) and set(maps.unique().tolist()) == {-1, 0, 1}
    assert torch.equal(maps, memory.address_maps(config, 192))
    assert not torch.equal(maps, memory.address_maps(replace(config, seed=2), 192))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 6}, "heads = 6 is not a power of two"),
        ({"slots": 1}, "slots = 1 is not a power of two"),
        ({"slots": 2048}, r"slots = 2048 is not a power of two in 2\.\.1024"),
        ({"width": 7}, "width = 7 is odd"),
        ({"rate": 16}, r"rate = 16 is outside 0\.\.15"),
    ],
)
def test_a_memory_that_no_program_can_have_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MemoryConfig(**settings)


def test_a_memory_stands_behind_a_block_that_exists() -> None:
    with pytest.raises(UsageError, match=r"memory\.after = 4, but the model has 3 blocks"):
        ModelConfig(memory=MemoryConfig(after=4))


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(vocab=256, d=32, m=48, layers=2, memory=MemoryConfig(heads=8, slots=4, width=6)),
        ModelConfig(
            vocab=19, d=7, m=5, layers=3, memory=MemoryConfig(after=3, heads=1, slots=2, width=2, rate=0)
        ),
        ModelConfig(vocab=40, d=48, m=33, layers=1, memory=MemoryConfig(heads=4, slots=16, width=10, rate=3)),
    ],
)
def test_a_model_with_a_memory_agrees_with_its_program(config: ModelConfig) -> None:
    torch.manual_seed(config.d)
    model = TernaryLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.empty(()).uniform_(0.5, 4.0))
    torch_side = TorchExecutor(model)
    numpy_side = NumpyExecutor(torch_side.program)
    tokens = np.random.default_rng(config.d).integers(0, config.vocab, (90, 4))
    a, b = torch_side.open(4), numpy_side.open(4)
    for t, ids in enumerate(tokens):
        x, y = torch_side.step(a, ids), numpy_side.step(b, ids)
        assert np.array_equal(x, y), f"logits differ at token {t}"
        assert np.array_equal(a, b), f"state or rows differ at token {t}"
    rows = numpy_side.state_dict(b)[f"{config.memory.after - 1}.m.rows"] if config.memory else None
    assert rows is not None and rows.any() and x.any()
    with torch.no_grad():  # two windows, by the compiled kernels, the memory carried over
        model.fused = True
        first, state = model(torch.from_numpy(tokens[:40]), model.initial_state(4))
        second, state = model(torch.from_numpy(tokens[40:]), state)
    assert np.array_equal(second[-1].numpy().astype(np.int32), y)
    assert np.array_equal(state[-1].numpy(), rows)
    assert torch_side.program.trits == config.ternary_weights


def test_a_planted_trit_in_an_address_map_is_seen_by_the_executors() -> None:
    torch.manual_seed(2)
    torch_side = TorchExecutor(TernaryLM(HYBRID))
    consts = {name: array.copy() for name, array in torch_side.program.consts.items()}
    consts["0.m.Wa1"][:4] *= -1
    numpy_side = NumpyExecutor(replace(torch_side.program, consts=consts))
    a, b = torch_side.open(2), numpy_side.open(2)
    for ids in np.random.default_rng(2).integers(0, 50, (40, 2)):
        torch_side.step(a, ids)
        numpy_side.step(b, ids)
    assert not np.array_equal(a, b)


def test_a_memory_is_resized_at_export_without_a_change_of_weights() -> None:
    torch.manual_seed(3)
    model = TernaryLM(HYBRID)
    small = TorchExecutor(model).program
    model.resize_memory(4 * 64, 9)
    large = TorchExecutor(model).program
    assert (small.memories["0.m.rows"].rows, large.memories["0.m.rows"].rows) == (64, 256)
    differ = {name for name in small.consts if not np.array_equal(small.consts[name], large.consts[name])}
    assert differ == {"0.m.Wa1", "0.m.Wa2"}
    with pytest.raises(UsageError, match="a memory of 4 heads cannot have 100 rows") as caught:
        model.resize_memory(100, 9)
    assert "64, 256, 1024" in caught.value.hint
    with pytest.raises(UsageError, match="has no memory"):
        TernaryLM(replace(HYBRID, memory=None)).resize_memory(64, 1)


def test_even_maps_keep_their_trits_and_spread_a_text_over_more_rows() -> None:
    config = MemoryConfig(heads=4, slots=16, width=4, seed=3)
    rng = np.random.default_rng(1)
    strong = rng.integers(-30, 31, (3, 24))  # what all vectors of the text share
    vectors = rng.integers(-3, 4, (4000, 3)) @ strong + rng.integers(-20, 21, (4000, 24))
    n = torch.from_numpy(np.clip(vectors, -128, 127)).double()
    plain, even = memory.address_maps(config, 24), memory.even_maps(config, n.T @ n)
    assert even.dtype == torch.int8 and torch.equal(even.abs(), plain.abs())

    def largest(maps: torch.Tensor) -> float:
        recall = memory.Recall(config, 24, Scales())
        recall.take(config, maps)
        rows = memory.row_numbers(recall.digits(n.float()), config.bits)
        return float(torch.bincount(rows.flatten(), minlength=config.rows).square().sum())

    assert largest(even) < 0.6 * largest(plain)


def test_the_moment_of_addresses_is_that_of_what_the_memory_reads() -> None:
    torch.manual_seed(6)
    model = TernaryLM(HYBRID).eval()
    tokens = torch.randint(0, HYBRID.vocab, (9, 3))
    seen: list[torch.Tensor] = []
    assert model.recall is not None
    model.recall.register_forward_pre_hook(lambda module, ins: seen.append(ins[0].flatten(0, 1).double()))
    model(tokens, model.initial_state(3))
    assert torch.equal(model.address_moment(tokens), seen[0].T @ seen[0])


def test_maps_are_evened_out_on_a_text_that_is_long_enough() -> None:
    torch.manual_seed(7)
    model = TernaryLM(HYBRID).eval()
    text = np.random.default_rng(2).integers(0, HYBRID.vocab, 700)
    assert resize(model, 256, 9, text) == {"rows": 256, "seed": 9, "even": 640}
    assert model.recall is not None
    assert not torch.equal(model.recall.maps, memory.address_maps(model.recall.config, HYBRID.d))
    with pytest.raises(UsageError, match="evened out on a text of 63 tokens"):
        resize(model, 256, 9, text[:63])
    assert resize(model, 64, 9) == {"rows": 64, "seed": 9}
    assert torch.equal(model.recall.maps, memory.address_maps(model.recall.config, HYBRID.d))


def test_the_checkpoint_of_a_resized_program_is_found(tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = TernaryLM(HYBRID)
    TorchExecutor(model)  # chooses the scales of the weights
    tensors = {f"model.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    info = {"config": to_dict(HYBRID, TrainConfig())}
    checkpoint.save(tmp_path / CHECKPOINT, checkpoint.Checkpoint(tensors, info))
    model.resize_memory(256, 9)
    program = TorchExecutor(model, "large", {RESIZED: {"rows": 256, "seed": 9}}).program
    again = TorchExecutor.for_program(program, tmp_path)
    assert again.program.hash == program.hash
    meta = resize(model, 256, 9, np.arange(200) % HYBRID.vocab)
    even = TorchExecutor(model, "even", {RESIZED: meta}).program
    assert TorchExecutor.for_program(even, tmp_path).program.hash == even.hash != program.hash


def test_a_compact_checkpoint_exports_to_the_same_program() -> None:
    torch.manual_seed(5)
    model = TernaryLM(HYBRID)
    program = TorchExecutor(model).program
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    saved = checkpoint.Checkpoint(tensors, {"config": to_dict(HYBRID, TrainConfig())})
    small = ship.compact(saved)
    sizes = [sum(t.numel() * t.element_size() for t in each.tensors.values()) for each in (saved, small)]
    assert sizes[1] < 0.35 * sizes[0]
    assert TorchExecutor(checkpoint.model_of(small)).program.file_hash == program.file_hash
