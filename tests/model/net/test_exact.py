"""What is trained is what is deployed: torch logits and state equal the NumPy executor's, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ternac.errors import CheckpointError, Mismatch, UsageError
from ternac.model.export import ship
from ternac.model.net.config import ModelConfig, Scales
from ternac.model.net.executor import TorchExecutor
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint as ckpt
from ternac.model.training.data import SHAKESPEARE, read_text
from ternac.model.training.evaluate import nats_per_token
from ternac.model.training.run_folder import CHECKPOINT
from ternac.program import zoo
from ternac.program.file import dumps, load
from ternac.run.evaluate import evaluate, split
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.second_reading import second_reading
from ternac.text.tokenizer import tokenizer_of


def random_model(seed: int, config: ModelConfig) -> TernaryLM:
    """Weights of random sizes, so that exponents differ and much saturates."""
    torch.manual_seed(seed)
    model = TernaryLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.empty(()).uniform_(0.5, 4.0))
    return model.eval()


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(vocab=256, d=32, m=48, layers=2),
        ModelConfig(vocab=19, d=7, m=5, layers=3, temper=0.9, forget_bias=1.5),
        ModelConfig(vocab=40, d=130, m=33, layers=1, scales=Scales(residual=10, square=5, mixed=4, hidden=4)),
    ],
)
def test_random_models_agree_with_their_programs(config: ModelConfig) -> None:
    torch_side = TorchExecutor(random_model(config.d, config))
    numpy_side = NumpyExecutor(torch_side.program)
    a, b = torch_side.open(5), numpy_side.open(5)
    rng = np.random.default_rng(config.d)
    for token in range(120):
        ids = rng.integers(0, config.vocab, 5)
        x, y = torch_side.step(a, ids), numpy_side.step(b, ids)
        assert np.array_equal(x, y), f"logits differ at token {token}"
        assert np.array_equal(a, b), f"state differs at token {token}"
    assert a.any() and x.any()


def test_window_of_training_equals_single_steps() -> None:
    config = ModelConfig(d=24, m=16, layers=2)
    model = random_model(3, config)
    tokens = torch.randint(0, 256, (40, 3))
    with torch.no_grad():
        logits, state = model(tokens, model.initial_state(3))
    executor = TorchExecutor(model)
    s = executor.open(3)
    for t in range(40):
        assert np.array_equal(executor.step(s, tokens[t].numpy()), logits[t].numpy().astype(np.int32))
    assert np.array_equal(s, np.concatenate([h.numpy() for h in state], axis=1).astype(np.int16))


def test_frozen_weights_thaw() -> None:
    model = random_model(9, ModelConfig(d=8, m=8, layers=1)).freeze()
    kept = model.head.trits()
    with torch.no_grad():
        model.head.weight.neg_()
        model.embed.neg_()
    assert torch.equal(model.head.trits(), kept)
    assert not torch.equal(model.eval().head.trits(), kept)
    assert model.frozen is None


def test_training_mode_forward_is_exact_too_without_dropout() -> None:
    config = ModelConfig(d=24, m=16, layers=2)
    model = random_model(4, config)
    tokens = torch.randint(0, 256, (20, 2))
    with torch.no_grad():
        evaluated, _ = model(tokens, model.initial_state(2))
    trained, _ = model.train()(tokens, model.initial_state(2))
    assert torch.equal(evaluated, trained)


def test_loss_printed_in_training_is_that_of_the_integer_program() -> None:
    model = random_model(5, ModelConfig(d=16, m=16, layers=1))
    text = read_text(SHAKESPEARE)[:3000]
    program = TorchExecutor(model).program
    from ternac.run import evaluate

    by_program = evaluate.evaluate(NumpyExecutor(program), text, streams=4, context=32)
    assert by_program.tokens == 2999
    assert nats_per_token(model, text, streams=4, context=32) == pytest.approx(
        by_program.nats_per_token, rel=1e-12
    )


def test_compare_finds_a_single_wrong_trit() -> None:
    import dataclasses

    torch_side = TorchExecutor(random_model(6, ModelConfig(d=16, m=16, layers=1)))
    consts = {name: array.copy() for name, array in torch_side.program.consts.items()}
    row, column = np.argwhere(consts["head"] != 0)[0]
    consts["head"][row, column] *= -1
    wrong = dataclasses.replace(torch_side.program, consts=consts)
    with pytest.raises(Mismatch, match=rf"token \d+: logit {row} is "):
        ship.compare(torch_side, wrong, np.arange(40, dtype=np.uint8))


def test_executor_refuses_bad_input_and_a_foreign_program(tmp_path: Path) -> None:
    model = random_model(7, ModelConfig(d=16, m=16, layers=1))
    executor = TorchExecutor(model)
    state = executor.open(2)
    with pytest.raises(UsageError, match="batch is 0"):
        executor.open(0)
    with pytest.raises(UsageError, match="needs int16"):
        executor.step(state, [1])
    with pytest.raises(UsageError, match="integer in 0..255"):
        executor.step(state, [1, 256])
    assert not state.any()
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    from ternac.model.net.config import TrainConfig, to_dict

    ckpt.save(
        tmp_path / CHECKPOINT, ckpt.Checkpoint(tensors, {"config": to_dict(model.config, TrainConfig())})
    )
    again = TorchExecutor.for_program(executor.program, tmp_path)
    assert again.program.hash == executor.program.hash
    other = TorchExecutor(random_model(8, model.config)).program
    with pytest.raises(CheckpointError, match="none exports to program"):
        TorchExecutor.for_program(other, tmp_path / "program.safetensors")


@pytest.mark.parametrize("name", zoo.names())
def test_shipped_checkpoint_exports_to_the_shipped_program_and_agrees(name: str) -> None:
    path = zoo.resolve(name)
    program = load(path)
    executor = TorchExecutor.for_program(program, path)
    assert dumps(executor.program) == path.read_bytes()
    text = read_text(SHAKESPEARE)
    assert ship.compare(executor, program, text[-300:]) == 300


def test_shipped_model_has_the_promised_size() -> None:
    assert load(zoo.resolve("shakespeare")).trits >= 1_100_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "below"), [("shakespeare", 1.4697), ("shakespeare-small", 1.8), ("hybrid", 1.4834)]
)
def test_loss_of_the_card_is_that_of_the_integer_program(name: str, below: float) -> None:
    program = load(zoo.resolve(name))
    text = tokenizer_of(program).encode(split(SHAKESPEARE.read_bytes(), "val"))
    loss = evaluate(NumpyExecutor(program), text).nats_per_token
    assert f"**{loss:.4f} nats per character**" in (zoo.ZOO / name / "card.md").read_text()
    assert loss < below


@pytest.mark.slow
def test_the_shipped_memory_finds_what_a_session_has_read() -> None:
    program = load(zoo.resolve("hybrid"))
    assert program.memories["1.m.rows"].words * 2 == 48 * 1024
    data = SHAKESPEARE.read_bytes()
    text, other = (np.frombuffer(split(data, which), np.uint8) for which in ("val", "train"))
    for distance, bar in ((0, 0.30), (1024, 0.10)):
        found = second_reading(NumpyExecutor(program), text, other, distance)
        assert found.gain - 3 * found.error > bar
        assert found.unread - found.second > bar  # it is the passage that helps, not a full memory
