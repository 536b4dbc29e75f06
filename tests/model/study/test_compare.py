"""Float twins and transformer: gradients, causality, size; ``ternac compare`` and its one exact number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ternac.cli.main import main
from ternac.errors import UsageError
from ternac.model.net.config import PRESETS, ModelConfig
from ternac.model.net.scan import FloatScan
from ternac.model.study import compare
from ternac.model.study.float_models import FloatTwin, Transformer, TritLinear
from ternac.model.training.data import SHAKESPEARE, Corpus
from ternac.model.training.evaluate import nats_per_token

TINY = ModelConfig(vocab=11, d=32, m=24, layers=2)


def test_scan_and_its_gradient() -> None:
    torch.manual_seed(1)
    f = torch.rand(5, 2, 3, dtype=torch.double, requires_grad=True)
    c = torch.randn(5, 2, 3, dtype=torch.double, requires_grad=True)
    h0 = torch.randn(2, 3, dtype=torch.double, requires_grad=True)
    h = FloatScan.apply(f, c, h0)
    want = h0
    for t in range(5):
        want = f[t] * want + (1 - f[t]) * c[t]
        assert torch.allclose(h[t], want)
    assert torch.autograd.gradcheck(FloatScan.apply, (f, c, h0))


def models() -> list[FloatTwin | Transformer]:
    torch.manual_seed(2)
    made = [FloatTwin(TINY), FloatTwin(TINY, ternary=True), Transformer(TINY, context=8)]
    return [model.eval() for model in made]


@pytest.mark.parametrize("index", range(3))
def test_reading_in_windows_is_reading_at_once(index: int) -> None:
    """And no logit looks ahead."""
    model = models()[index]
    tokens = torch.randint(11, (8, 3), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        whole, _ = model(tokens, model.initial_state(3))
        first, state = model(tokens[:4], model.initial_state(3))
        second, _ = model(tokens[4:], state)
        assert torch.allclose(torch.cat((first, second)), whole, atol=2e-2, rtol=1e-4)  # logits * 256
        changed = tokens.clone()
        changed[5] = (changed[5] + 1) % 11
        other, _ = model(changed, model.initial_state(3))
    assert torch.equal(other[:5], whole[:5])
    assert not torch.allclose(other[5:], whole[5:])


def test_dropout_acts_in_training_only() -> None:
    tokens = torch.zeros(4, 2, dtype=torch.long)
    for model in (FloatTwin(TINY, 0.5), Transformer(TINY, 0.5, 8)):
        a, b = (model.train()(tokens, model.initial_state(2))[0] for _ in range(2))
        assert not torch.equal(a, b)
        a, b = (model.eval()(tokens, model.initial_state(2))[0] for _ in range(2))
        assert torch.equal(a, b)


def test_weights_of_the_ternary_twin_are_three_values() -> None:
    layer = TritLinear(16, 8)
    found = layer(torch.eye(16)).detach().unique()
    assert len(found) == 3
    assert found[1] == 0
    assert float(found[2]) == 2.0**layer.exponent


@pytest.mark.parametrize("size", [name for name in sorted(PRESETS) if PRESETS[name][0].memory is None])
def test_the_transformer_has_as_many_parameters(size: str) -> None:
    config = PRESETS[size][0]
    counts = [
        sum(p.numel() for p in model.parameters()) for model in (FloatTwin(config), Transformer(config))
    ]
    assert counts[1] == pytest.approx(counts[0], rel=0.01)
    assert counts[0] == config.ternary_weights + config.vocab * config.d


def test_float_kinds_refuse_a_memory(tmp_path: Path) -> None:
    model, train = PRESETS["hybrid"]
    with pytest.raises(UsageError, match="the float twin has no memory"):
        compare.train_kind(
            "float", model, train, Corpus(np.zeros(99, np.uint8), 99), tmp_path, 9, lambda now: None
        )


def test_loss_of_a_twin_is_that_of_its_logits() -> None:
    model = models()[0]
    tokens = np.random.default_rng(0).integers(0, 11, 60).astype(np.uint8)
    with torch.no_grad():
        ids = torch.from_numpy(tokens.astype(np.int64))[:, None]
        loss, _ = model.loss(ids[:-1], ids[1:], model.initial_state(1))
    assert nats_per_token(model, tokens, streams=1) == pytest.approx(float(loss), rel=1e-5)


def test_tempered_logits_of_a_twin() -> None:
    for model in models():
        tokens, state = torch.arange(6)[:, None], model.initial_state(1)
        with torch.no_grad():
            plain, _ = model(tokens, state)
            model.set_temper(0.5)
            assert torch.equal(model(tokens, state)[0], plain / 2)


FLAGS = (
    "--preset smoke --width 32 --inner 16 --layers 1 --steps 2 --batch 2 --window 16 --limit 60 --threads 1"
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "t.txt").write_bytes(SHAKESPEARE.read_bytes()[:4000])
    return tmp_path / "t.txt"


def test_verb(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *FLAGS.split(), "--text", str(text), "--out", str(tmp_path / "c"), "--json"]
    words += ["--temper", "0.9", "--average", "0.9"]
    assert main([*words, "--kinds", "float,ternary-float,integer,transformer"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["integer_minus_qat_nats"] == 0.0
    assert [row["kind"] for row in data["rows"]] == list(compare.KINDS)
    assert data["rows"][0]["over_float"] == 0.0
    assert main(words) == 0  # the runs are there: nothing is trained again
    again = json.loads(capsys.readouterr().out)
    assert again["rows"] == data["rows"][:3]
    for bad in (["--kinds", "float,foo"], ["--kinds", ","], ["--limit", "1"], ["--threads", "0"]):
        assert main([*words, *bad]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


def test_a_program_that_differs_fails_the_verb(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A last bit wrong in one logit of the NumPy side is enough."""

    class Wrong(compare.NumpyExecutor):
        def step(self, state, tokens, trace=None, *, loops=None):  # type: ignore[no-untyped-def]
            logits = super().step(state, tokens, trace, loops=loops)
            logits[0, 0] += 1
            return logits

    monkeypatch.setattr(compare, "NumpyExecutor", Wrong)
    words = ["compare", *FLAGS.split(), "--text", str(text), "--out", str(tmp_path / "c")]
    assert main([*words, "--kinds", "integer", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["integer_minus_qat_nats"] != 0.0


def test_measures_on_another_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished run is only measured again, here on the very part that it keeps for validation."""
    text, other = tmp_path / "text.txt", tmp_path / "other.txt"
    whole = SHAKESPEARE.read_bytes()[:8000]
    text.write_bytes(whole)
    other.write_bytes(whole[-800:])
    flags = [*FLAGS.split(), "--limit", "100000"]
    words = ["compare", *flags, "--text", str(text), "--out", str(tmp_path / "c"), "--json"]
    found = []
    for more in ([], ["--eval-text", str(other)], ["--eval-text", str(text)]):
        assert main([*words, "--kinds", "float", *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    losses = [data["rows"][0]["nats_per_token"] for data in found]
    assert losses[0] == losses[1] != losses[2]
    assert [data["validation_tokens"] for data in found] == [800, 800, 8000]
    assert found[0]["eval_text_sha256"] is None
