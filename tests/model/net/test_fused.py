"""The compiled way through the blocks is the plain one: equal values, gradients but for the order of sums."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ternac.errors import BuildFailed, ToolMissing
from ternac.model.net import kernels as native
from ternac.model.net.config import ModelConfig, Scales
from ternac.model.net.network import TernaryLM
from ternac.model.training import train

ODD = ModelConfig(vocab=19, d=7, m=5, layers=3, temper=0.9, forget_bias=1.5)
WIDE = ModelConfig(vocab=40, d=130, m=33, layers=1, scales=Scales(residual=10, square=5, mixed=4, hidden=4))
PLAIN = ModelConfig(d=64, m=96, layers=2)


def _run(
    config: ModelConfig, fused: bool, dropout: float, gain: float, batch: int = 5
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """(logits, state, gradients) of one training step on fixed random weights, tokens and state."""
    torch.manual_seed(config.d)
    model = TernaryLM(config, dropout)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.empty(()).uniform_(0.5, gain))
    tokens = torch.randint(0, config.vocab, (21, batch))
    state = [torch.randint(-4000, 4000, (batch, config.d)).float() for _ in range(config.layers)]
    model.fused = fused
    logits, after = model(tokens[:-1], state)
    scaled = logits.view(-1, config.vocab) * 2.0**-config.scales.logits
    torch.nn.functional.cross_entropy(scaled, tokens[1:].flatten()).backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(grads) == len(list(model.parameters()))
    return logits.detach(), after, grads


@pytest.mark.parametrize("config", [ODD, WIDE, PLAIN])
@pytest.mark.parametrize(("dropout", "gain"), [(0.0, 1.5), (0.0, 4.0), (0.3, 1.5)])
def test_values_are_equal_and_gradients_agree(config: ModelConfig, dropout: float, gain: float) -> None:
    logits, state, grads = _run(config, True, dropout, gain)
    plain_logits, plain_state, plain_grads = _run(config, False, dropout, gain)
    assert torch.equal(logits, plain_logits) and logits.abs().max() > 0
    assert all(torch.equal(a, b) for a, b in zip(state, plain_state, strict=True))
    for name, grad in grads.items():
        off = float((grad - plain_grads[name]).norm() / plain_grads[name].norm())
        assert off < 0.02, f"{name}: {off}"  # bfloat16 has 8 bits


def test_threads_share_the_rows_and_change_no_value() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = _run(PLAIN, True, 0.3, 2.0)
        torch.set_num_threads(3)
        three = _run(PLAIN, True, 0.3, 2.0)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], three[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], three[1], strict=True))
    for name, grad in one[2].items():
        assert torch.allclose(grad, three[2][name], rtol=0.02, atol=0.02 * float(grad.abs().max())), name


def test_build_is_kept_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path))
    made = native.build()
    assert native.build() == made and made.is_file()
    assert [path.name for path in made.parent.iterdir()] == ["step.so"]
    with pytest.raises(ToolMissing, match=r"no C\+\+ compiler"):
        native.build("no-such-compiler")
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-no-such-flag"))
    with pytest.raises(BuildFailed, match="cannot compile"):
        native.build()


def test_training_without_a_compiler_goes_on_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> native.Kernels:
        raise ToolMissing("no C++ compiler", hint="install g++")

    monkeypatch.setattr(train, "kernels", missing)
    train.compiled.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"slower way: no C\+\+ compiler \(install g\+\+\)"):
            assert not train.compiled()
    finally:
        train.compiled.cache_clear()
