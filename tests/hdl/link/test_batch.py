"""BATCH on an engine with four contexts whose tokens take less time than the link needs to start them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Signal
from amaranth.sim import SimulatorContext

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry, Mem
from ternac.compile.image import Image
from ternac.compile.isa import WORDS
from ternac.hdl.engine.core import EngineCore
from ternac.hdl.engine.schedule import batch_cycles, schedule
from ternac.hdl.link.batch import BATCH_STAGGER, BatchRequest
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine, word_bytes
from ternac.link import BatchAnswer, BatchMember, Choice, Command, Status, WriteRequest
from ternac.link import BatchRequest as Batch
from ternac.program.builder import ProgramBuilder
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor
from tests.hdl.link.link_bench import Bench

GEOMETRY = replace(
    PRESETS["tiny"], name="four", columns=2, lanes=4, chain=2, bank_depth=256, weight_depth=512,
    bias_depth=128, embed_depth=256, program_depth=512, logit_slots=8, x_depth=128, tables=2, norm_tables=1,
    contexts=4,
)  # fmt: skip
TOKENS = 3
HEAD = np.array([[0, 0, 0, 0], [-1, 0, 0, 1], [1, 0, 1, -1], [1, 1, 0, 0], [0, -1, -1, 1]], np.int8)
EMBED = np.array([[9, 0, 3, -5], [1, 2, 3, 4], [-9, 8, 7, 6], [0, -3, 5, 50], [-20, 0, 0, 4]], np.int8)
BANK = (7, -3)
"""What each column's bank holds, wherever the microcode reads it."""


def product() -> Program:
    """A program of one product."""
    b = ProgramBuilder()
    b.const("embed", EMBED, np.int8)
    vector = b.op("REQUANT", "n", b.op("GATHER", "r", embed="embed", shift=0), shift=0, dtype="i8")
    return b.build("short", b.linear("logits", "acc", vector, "head", HEAD, 0, "i16"), 0)


def shortened(cut: int, geometry: Geometry = GEOMETRY) -> Image:
    """Its microcode without the first ``cut`` instructions."""
    image = compile_program(product(), geometry, contexts=4)
    code = image.memories[Mem.PROGRAM]
    shifted = np.roll(code.T.ravel(), -cut * WORDS).reshape(code.T.shape).T
    memories = {**image.memories, Mem.PROGRAM: shifted}
    return replace(image, instructions=image.instructions[cut:], names=image.names[cut:], memories=memories)


async def load(ctx: SimulatorContext, bench: Bench, image: Image) -> None:
    states = np.repeat(np.array([BANK * 3]).T & 0xFFFF, 64, axis=1)[: image.geometry.columns]
    for mem, blocks in {**image.memories, Mem.BANK: states}.items():
        size = image.geometry.memory(mem).bytes_per_word
        for block, words in enumerate(blocks):
            words = np.trim_zeros(words, "b")
            for at in range(0, len(words), 64):
                data = b"".join(int(word).to_bytes(size, "little") for word in words[at : at + 64])
                payload = WriteRequest(int(mem), block, at, data).encode()
                assert await bench.request(ctx, Command.WRITE, payload) == (Status.OK, b"")
    assert await bench.request(ctx, Command.COMMIT, b"x" * 16) == (Status.OK, b"")


def ask(cut: int, sessions: int, geometry: Geometry = GEOMETRY) -> tuple[BatchAnswer | None, Image]:
    """Answer of a BATCH; None if none comes."""
    image = shortened(cut, geometry)
    link = LinkController(0, bytes(16), geometry.hash, word_bytes=word_bytes(geometry), contexts=4)
    bench = Bench(
        LinkedEngine(EngineCore(geometry), link, registered=geometry.pipelined_broadcast), gap=0, stall=0
    )
    members = [BatchMember(100 + k, image.session_base(k), k) for k in range(sessions)]
    request = Batch(members, image.entries[1] - image.entries[0], TOKENS, Choice(True, 128, 0, 0))
    found: list[BatchAnswer | None] = []

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        await load(ctx, bench, image)
        await bench.open(ctx)
        try:
            status, payload = await bench.request(ctx, Command.BATCH, request.encode())
        except AssertionError:
            found.append(None)
        else:
            assert status == Status.OK
            found.append(BatchAnswer.decode(payload, sessions, TOKENS))

    bench.run(test)
    return found[0], image


@pytest.mark.parametrize("sessions", [2, 4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3))])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_tokens_that_are_done_before_all_sessions_are_started(cut: int, sessions: int) -> None:
    """All are answered, and `batch_cycles` is what the engine counts."""
    answer, image = ask(cut, sessions)
    if cut == 2:
        assert schedule(image).cycles < 2 * BATCH_STAGGER
    numpy = NumpyExecutor(product())
    assert answer is not None
    for k, (tokens, rng) in enumerate(answer.chosen):
        assert rng == 100 + k
        for before, token in zip([k, *tokens], tokens, strict=False):
            logits = [
                numpy.step(numpy.open(), np.array([before]))[0],
                HEAD.astype(int) @ (BANK * 2),  # of what the bank holds
                np.zeros(len(HEAD)),
            ][cut]
            assert token == int(np.argmax(logits))
    assert answer.cycles == batch_cycles(image, sessions, TOKENS)


@pytest.mark.parametrize("cut", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_where_the_wires_to_the_engine_pass_registers(cut: int) -> None:
    wide = replace(GEOMETRY, name="six", columns=6, lanes=12, chain=6)
    answer, image = ask(cut, 4, wide)
    assert wide.pipelined_broadcast and answer is not None
    assert [rng for _, rng in answer.chosen] == [100, 101, 102, 103]
    assert answer.cycles == batch_cycles(image, 4, TOKENS)


def test_without_hold_done_one_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that the test above finds."""
    elaborate = BatchRequest.elaborate

    def deaf(batch: BatchRequest, platform: object) -> object:
        batch.hold_done, kept = Signal(), batch.hold_done
        module = elaborate(batch, platform)
        batch.hold_done = kept
        return module

    monkeypatch.setattr(BatchRequest, "elaborate", deaf)
    assert ask(2, 4)[0] is None
