"""The plain Brevitas model, which the bench measures against, computes what TernaryLM computes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from ternac.cli import main as cli
from ternac.model.net.config import PRESETS, ModelConfig
from ternac.model.net.network import TernaryLM
from ternac.model.net.plain_brevitas import PlainLM


@pytest.mark.parametrize(("gain", "bias"), [(1.0, 0.0), (3.0, 0.0), (1.0, 1.5)])
def test_losses_states_and_gradients_are_those_of_the_model(gain: float, bias: float) -> None:
    torch.manual_seed(1)
    config = ModelConfig(d=24, m=40, layers=2, temper=0.9, forget_bias=bias)
    ours, plain = TernaryLM(config).train(), PlainLM(config).train()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(gain)
    ours(torch.zeros(1, 1, dtype=torch.long), ours.initial_state(1))  # sets the exponents
    plain.take(ours)
    tokens = torch.randint(0, 256, (33, 3))
    state = [torch.randint(-4000, 4000, (3, 24)).float() for _ in range(2)]
    loss, after = ours.loss(tokens[:-1], tokens[1:], state)
    scale = 2.0**-config.scales.state
    theirs, plain_after = plain.loss(tokens[:-1], tokens[1:], [h * scale for h in state])
    assert float(loss.detach()) == float(theirs.detach())
    for h, plain_h in zip(after, plain_after, strict=True):
        assert torch.equal(h * scale, plain_h)
    loss.backward()
    theirs.backward()
    for name, parameter in ours.named_parameters():
        grad, plain_grad = parameter.grad, plain.get_parameter(name).grad
        assert grad is not None and plain_grad is not None
        alike = torch.nn.functional.cosine_similarity(grad.flatten(), plain_grad.flatten(), dim=0)
        assert alike > 0.98, (
            f"{name}: {alike}"
        )  # their gradients in saturation and of the tables differ a little


def test_bench_prints_rates_and_equal_losses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "train", "--preset", "smoke", "--rounds", "1", "--json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert data["equal_losses"] is True and len(data["losses"]) == 2
    assert data["losses"][1]["ternac"] == data["losses"][1]["brevitas"] < 5.9
    rates = data["tokens_per_second"]
    assert set(rates) == {"ternac", "ternac_without_kernels", "brevitas"}
    assert data["ratio"] == pytest.approx(rates["ternac"] / rates["brevitas"], rel=0.01)


def test_bench_fails_where_losses_differ(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take = PlainLM.take

    def wrong(self: PlainLM, model: TernaryLM) -> None:
        take(self, model)
        with torch.no_grad():
            self.embed.neg_()

    monkeypatch.setattr(PlainLM, "take", wrong)
    assert cli.main(["bench", "train", "--preset", "smoke", "--rounds", "1"]) == 1
    assert "losses DIFFER" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--threads", "0"], ["--preset", "huge"]])
def test_bench_names_a_wrong_argument(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "train", *words]) == 2
    assert words[0].strip("-") in capsys.readouterr().err
    assert "smoke" in PRESETS
