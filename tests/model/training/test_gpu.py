"""What training does on a GPU: the Triton scan in its interpreter, all else where there is a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from ternac.model.net import functional as fn
from ternac.model.net import gpu
from ternac.model.net.config import ModelConfig
from ternac.model.net.layers import BitLinear
from ternac.model.net.memory import DeltaScan, delta_scan
from ternac.model.net.network import TernaryLM
from ternac.model.net.scan import LerpScan, lerp_scan

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and torch built for it")


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The kernels run by Triton's interpreter on CPU tensors."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install 'ternac[cuda]'")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    yield from _reloaded("ternac.model.net.scan_triton", monkeypatch)


@pytest.fixture
def interpreted_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """As `interpreted`, of the delta scan."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install 'ternac[cuda]'")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    yield from _reloaded("ternac.model.net.memory_triton", monkeypatch)


def _reloaded(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = importlib.import_module(name)
    yield importlib.reload(module)  # Triton decides when a kernel is decorated
    monkeypatch.undo()
    importlib.reload(module)


def _window(steps: int, streams: int, width: int, seed: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    f = torch.randint(0, 256, (steps, streams, width)).float().requires_grad_()
    c = torch.randint(-32768, 32768, (steps, streams, width)).float().requires_grad_()
    h0 = torch.randint(-32768, 32768, (streams, width)).float().requires_grad_()
    return f, c, h0


@pytest.mark.parametrize(("steps", "streams", "width"), [(1, 1, 1), (7, 3, 43), (16, 2, 64)])
def test_triton_scan_is_the_integer_rule(
    interpreted: ModuleType, steps: int, streams: int, width: int
) -> None:
    ours, theirs = _window(steps, streams, width, 1), _window(steps, streams, width, 1)
    weight = torch.randn(steps, streams, width)
    out, wanted = interpreted.TritonLerpScan.apply(*ours), LerpScan.apply(*theirs)
    assert torch.equal(out, wanted)
    (out * weight).sum().backward()
    (wanted * weight).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-4)


def test_extremes_do_not_overflow(interpreted: ModuleType) -> None:
    ends = torch.tensor([-32768.0, 32767.0])
    f = torch.tensor([0.0, 1.0, 128.0, 255.0])
    h0, c, f = (x.reshape(1, -1) for x in torch.meshgrid(ends, ends, f, indexing="ij"))
    out = interpreted.TritonLerpScan.apply(f[None], c[None], h0)
    integers = [x.to(torch.int64) for x in (h0, c, f)]
    wanted = integers[1] + ((integers[2] * (integers[0] - integers[1]) + 128) >> 8)
    assert torch.equal(out[0].to(torch.int64), wanted)


def _writes(dtype: torch.dtype, heads: int, width: int) -> tuple[torch.Tensor, ...]:
    """v, rows, last, before and memory of a delta scan with extremes, so that much saturates."""
    torch.manual_seed(heads + width)
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    first = torch.arange(heads) * 16
    v = torch.randint(low, high + 1, (9, 2, width))
    v[::3] = high
    before = torch.randint(low, high + 1, (2, width)).float()
    memory = torch.randint(low, high + 1, (2, heads * 16, width)).to(dtype)
    rows, last = torch.randint(0, 16, (9, 2, heads)) + first, torch.randint(0, 16, (2, heads)) + first
    return v.float().requires_grad_(), rows, last, before, memory


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16])
@pytest.mark.parametrize(("heads", "width", "rate"), [(1, 2, 0), (4, 24, 1), (8, 40, 2)])
def test_triton_delta_scan_is_the_integer_rule(
    interpreted_memory: ModuleType, dtype: torch.dtype, heads: int, width: int, rate: int
) -> None:
    ours, theirs = _writes(dtype, heads, width), _writes(dtype, heads, width)
    weight = torch.randn(ours[0].shape)
    out, after = interpreted_memory.TritonDeltaScan.apply(*ours, rate)
    wanted, wanted_after = DeltaScan.apply(*theirs, rate)
    assert torch.equal(out, wanted) and torch.equal(after, wanted_after)
    (out * weight).sum().backward()
    (wanted * weight).sum().backward()
    torch.testing.assert_close(ours[0].grad, theirs[0].grad, rtol=1e-5, atol=1e-5)


@no_gpu
def test_delta_scan_on_a_gpu_is_the_one_on_the_cpu() -> None:
    inputs = _writes(torch.int8, 8, 24)
    there = [each.detach().cuda() for each in inputs]
    for a, b in zip(delta_scan(*there, 1), delta_scan(*inputs, 1), strict=True):
        assert torch.equal(a.cpu(), b)


@no_gpu
def test_scan_on_a_gpu_is_the_one_on_the_cpu() -> None:
    f, c, h0 = _window(50, 4, 96, 2)
    assert torch.equal(lerp_scan(f.cuda(), c.cuda(), h0.cuda()).cpu(), lerp_scan(f, c, h0))


@no_gpu
@pytest.mark.parametrize("shape", [(64, 192, 256), (5, 7, 9)])
def test_products_on_a_gpu_are_exact(shape: tuple[int, int, int]) -> None:
    rows, inner, outer = shape
    x = torch.randint(-128, 128, (rows, inner)).float()
    trits = torch.randint(-1, 2, (outer, inner)).float()
    assert torch.equal(gpu.product(x.cuda(), trits.cuda()).cpu(), x @ trits.t())


@no_gpu
def test_model_on_a_gpu_gives_the_bits_of_the_cpu() -> None:
    model = TernaryLM(ModelConfig(d=32, m=48, layers=2)).eval()
    tokens = torch.randint(0, 256, (20, 16))
    logits, state = model(tokens, model.initial_state(16))
    model.cuda()
    again, state_again = model(tokens.cuda(), model.initial_state(16))
    assert torch.equal(logits, again.cpu())
    assert all(torch.equal(a, b.cpu()) for a, b in zip(state, state_again, strict=True))


def test_a_step_mixes_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward on the meta device, where no tensor of the CPU may meet one of the model's."""
    monkeypatch.setattr(BitLinear, "exponent", property(lambda self: -4))
    model = TernaryLM(ModelConfig(d=32, m=48, layers=2), dropout=0.1)
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.bf16_backward = module.quant.scaling_impl.hold = True
            module.quant.scaling_impl.fresh = False
    model.to("meta")
    tokens = torch.zeros(20, 16, dtype=torch.int64, device="meta")
    loss, state = model.loss(tokens, tokens, model.initial_state(16))
    loss.backward()
    assert loss.device.type == "meta"
    assert all(h.device.type == "meta" for h in state)
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert (parameter.grad.device.type, parameter.grad.dtype) == ("meta", torch.float32)


def test_products_that_tensor_cores_cannot_take_go_through_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that chooses, on the CPU, where both ways exist, too."""
    asked: list[tuple[int, ...]] = []
    integer = torch._int_mm

    def noted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        asked.append(tuple(a.shape))
        return integer(a, b)

    monkeypatch.setattr(torch, "_int_mm", noted)
    for rows, inner, outer in ((32, 16, 24), (16, 16, 24), (32, 15, 24), (32, 16, 23)):
        x = torch.randint(-128, 128, (rows, inner)).float()
        trits = torch.randint(-1, 2, (outer, inner)).float()
        assert torch.equal(gpu.product(x, trits), x @ trits.t())
    assert asked == [(32, 16)]
    assert fn.TernaryLinear.apply(x, trits, False).shape == (32, 23)
