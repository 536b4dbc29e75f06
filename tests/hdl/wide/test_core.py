"""Whole tokens on the RTL of the wide unit: it runs the instructions, a bench stands for memory and array."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ternac.compile.wide import Matrix, WideImage, lower
from ternac.compile.wide_code import FIELDS, WORD_BYTES, Factor, Kind, WideCode, decode, encode
from ternac.errors import UnsupportedOp
from ternac.hdl.wide.core import WideCore
from ternac.program.file import load
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor
from tests.hdl.sim import simulate

VECTORS = Path(__file__).parents[2] / "vectors"
LANES = 4
PORT_BYTES = 4


class Bench:
    """A core that holds a code, and memory and array around it, with pauses at every port."""

    def __init__(self, code: WideCode, pauses: float, seed: int) -> None:
        self.code, self.pauses, self.rng = code, pauses, np.random.default_rng(seed)
        image = code.image
        self.core = WideCore(LANES, max(2, image.vectors // LANES), code_depth=len(code.words), digits=4)
        self.activations: npt.NDArray[np.int64] = np.zeros(image.activations, np.int64)
        self.matrices = [each for each in image.code if isinstance(each, Matrix)]
        self.consts = {name: np.asarray(x, np.int64) for name, x in image.program.consts.items()}
        self.wrong: tuple[int, int] | None = None  # row of a logit, what is added to its sum
        self.cycles = 0

    def open(self) -> bool:
        return bool(self.rng.random() >= self.pauses)

    async def load(self, ctx: Any) -> None:
        core = self.core
        for at, word in enumerate(self.code.words):
            ctx.set(core.code_en, 1)
            ctx.set(core.code_addr, at)
            ctx.set(core.code_data, word)
            await ctx.tick()
        ctx.set(core.code_en, 0)

    async def token(self, ctx: Any, token: int) -> list[int]:
        """Run a token; returns its logits."""
        core, matrix = self.core, 0
        streams = {
            "constants": deque(self.code.constants.tolist()),
            "row": deque(self.code.embedding[token].tolist()),
            "sums": deque[dict[str, int]](),
        }
        offered = dict.fromkeys(streams, False)
        logits: list[int] = []
        ctx.set(core.start, 1)
        ended = False
        for cycle in range(100_000):
            for name, words in streams.items():
                port = getattr(core, name)
                offered[name] = bool(words) and (offered[name] or self.open())
                ctx.set(port.valid, offered[name])
                if offered[name]:
                    ctx.set(port.payload, words[0])
            ctx.set(core.logits.ready, self.open())
            if ctx.get(core.logits.valid) and ctx.get(core.logits.ready):
                logits.append(ctx.get(core.logits.payload.y))
                ended = ctx.get(core.logits.payload.last) == 1
            for name, words in streams.items():
                if offered[name] and ctx.get(getattr(core, name).ready):
                    words.popleft()
                    offered[name] = False
            if ctx.get(core.begin):
                streams["sums"] += self._sums(self.matrices[matrix])
                matrix += 1
            if ctx.get(core.x_valid):
                at, word = ctx.get(core.x_addr) * LANES, ctx.get(core.x_data)
                self.activations[at : at + LANES] = np.frombuffer(word.to_bytes(LANES, "little"), np.int8)
            if ctx.get(core.done):
                self.cycles = cycle
            await ctx.tick()
            ctx.set(core.start, 0)
            if ctx.get(core.idle) and ended:
                break
        assert not any(streams.values())
        return logits

    def _sums(self, matrix: Matrix) -> list[dict[str, int]]:
        sums = self.consts[matrix.name] @ self.activations[matrix.x : matrix.x + matrix.columns]
        if matrix is self.matrices[-1] and self.wrong:
            sums[self.wrong[0]] += self.wrong[1]
        return [{"sum": int(x), "last": row == len(sums) - 1} for row, x in enumerate(sums)]

    async def state(self, ctx: Any) -> npt.NDArray[np.int16]:
        """The session's state, as executors keep it, read word by word."""
        core, image, parts = self.core, self.code.image, []
        for name, place in image.states.items():
            length = image.program.states[name]
            found = []
            for at in range(place // LANES, -(-(place + length) // LANES)):
                ctx.set(core.peek, at)
                await ctx.tick().repeat(2)
                found += [ctx.get(y) for y in core.peeked]
            parts.append(found[:length])
        return np.concatenate(parts).astype(np.int16)


def differences(
    code: WideCode, tokens: list[int], pauses: float = 0.0, wrong: tuple[int, int] | None = None
) -> list[int]:
    """The tokens behind which logits or state are not NumPy's."""
    numpy, bench = NumpyExecutor(code.image.program), Bench(code, pauses, len(tokens))
    state, found = numpy.open(1), []
    bench.wrong = wrong

    async def run(ctx: Any) -> None:
        await bench.load(ctx)
        for i, token in enumerate(tokens):
            wanted = numpy.step(state, np.array([token]))
            logits = await bench.token(ctx, token)
            if logits != wanted[0].tolist() or not np.array_equal(await bench.state(ctx), state[0]):
                found.append(i)

    simulate(bench.core, run)
    return found


def small_program(per_token: bool) -> Program:
    sizes = {"d": 6, "m": 7, "layers": 1, "vocab": 5}
    return random_mmfree(np.random.default_rng(4), **sizes, per_token=per_token)  # type: ignore[arg-type]


def coded(image: WideImage) -> WideCode:
    return encode(image, LANES, port_bytes=PORT_BYTES)


@pytest.mark.parametrize(("per_token", "pauses"), [(False, 0.0), (True, 0.0), (True, 0.5)])
def test_tokens_of_a_small_program_are_those_of_numpy(per_token: bool, pauses: float) -> None:
    code = coded(lower(small_program(per_token), strip=4, word=LANES))
    assert differences(code, [1, 3], pauses) == []


def test_a_planted_sum_is_found() -> None:
    code = coded(lower(small_program(False), strip=4, word=LANES))
    assert differences(code, [1], wrong=(3, 1 << 12)) == [0]


def test_a_planted_bit_of_an_instruction_is_found() -> None:
    """One wrong place of a blend's result; issues that wait for no matrix."""
    code = coded(lower(small_program(False), strip=4, word=LANES))
    at = {name: sum(list(FIELDS.values())[:i]) for i, name in enumerate(FIELDS)}
    blend = next(i for i, word in enumerate(code.words) if decode(word)["factor"] == Factor.BLEND)
    moved = (*code.words[:blend], code.words[blend] ^ 1 << at["out"], *code.words[blend + 1 :])
    assert differences(replace(code, words=moved), [1]) == [0]
    wait = (1 << FIELDS["wait"]) - 1 << at["wait"]
    early = tuple(word & ~wait for word in code.words)
    assert differences(replace(code, words=early), [1]) == [0]


@pytest.mark.parametrize("seed", range(4))
def test_instructions_are_decoded_as_they_were_encoded(seed: int) -> None:
    """Field by field, packed again by hand; and the image's numbers are in them."""
    code = coded(lower(random_mmfree(np.random.default_rng(seed)), strip=16, word=LANES))
    assert sum(FIELDS.values()) <= 8 * WORD_BYTES
    for word in code.words:
        fields, again, at = decode(word), 0, 0
        for name, bits in FIELDS.items():
            again |= fields[name] << at
            at += bits
        assert again == word
    kinds = [decode(word)["kind"] for word in code.words]
    assert kinds[-1] == Kind.END and kinds.count(Kind.END) == 1
    matrices = [each for each in code.image.code if isinstance(each, Matrix)]
    found = [decode(word) for word in code.words if decode(word)["kind"] == Kind.MATRIX]
    assert [x["value"] for x in found] == [each.multiplier for each in matrices]
    assert [x.rows for x in code.matrices] == [each.rows for each in matrices]
    assert code.weights.size == sum(x.beats(code.encoding) for x in code.matrices) * PORT_BYTES


def test_what_does_not_fit_is_refused() -> None:
    image = lower(small_program(False), strip=4, word=LANES)
    with pytest.raises(UnsupportedOp, match="no multiple of 8 lanes"):
        encode(image, 8)
    with pytest.raises(UnsupportedOp, match="a port takes 16"):
        encode(image, LANES, port_bytes=16)
    with pytest.raises(UnsupportedOp, match="curves are read on one strip, the wide unit holds 1"):
        lower(small_program(False), slots=1)
    far = replace(image.code[-1], shift=64)  # type: ignore[type-var]
    with pytest.raises(UnsupportedOp, match="shift is 64, needs 0 to 63"):
        encode(replace(image, code=(*image.code[:-1], far)), LANES, port_bytes=PORT_BYTES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmfree-fixed", "mmfree-token"])
def test_frozen_programs_are_exact(name: str) -> None:
    image = lower(load(VECTORS / f"{name}.safetensors"), strip=8, word=LANES)
    assert differences(coded(image), [1, 7, 3], 0.2) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_programs_are_exact(seed: int) -> None:
    program = random_mmfree(np.random.default_rng(seed), layers=1)
    assert differences(coded(lower(program, strip=16, word=LANES)), [0, 1, 1], 0.2) == []
