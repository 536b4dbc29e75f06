"""The engine with weights in SDRAM, as a simulated board whose memory checks its data sheet's rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ternac.cli.bench import sdram as bench_sdram
from ternac.cli.bench.sdram import bench_sdram as run_bench
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Mem, preset
from ternac.compile.loading import load_requests
from ternac.compile.sdram import NOMINAL_HZ, ULX3S_CHIP
from ternac.errors import NoAnswer
from ternac.hdl.boards.boards import VARIANTS
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import SIMULATED, LinkClient
from ternac.host.board.loader import load_image
from ternac.host.board.transport import ProcessTransport
from ternac.host.device import Device
from ternac.program.random import random_program
from ternac.run.generation import Run
from ternac.run.sampling import GREEDY, Sampling
from ternac.sim.board import board_command, build_board

pytestmark = pytest.mark.slow
NAME = "ulx3s-85f-sdram"


@pytest.fixture(scope="module")
def executable():
    return build_board(preset(NAME))


def program_of(seed, width=40, hidden=60, layers=2):
    return random_program(np.random.default_rng(seed), width, hidden, layers, 60)


@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 47, 3), (120, 100, 2)])
def test_equal_to_numpy(executable, shape):
    """Logits, state and seeded text; sizes that do not fill words, rows or slots."""
    program = program_of(sum(shape), *shape)
    options = {"board": NAME, "progress": False}
    with Device.open("sim", program, **options) as board, Device.open("numpy", program) as numpy:
        sessions = [(board.session(seed), numpy.session(seed)) for seed in (1, 2)]
        for token in (1, 5, 0, 59):
            for one, other in sessions:
                assert np.array_equal(one.step(token), other.step(token))
                assert np.array_equal(one.state, other.state)
        sampling = Sampling(False, 200, 4, 50)
        one, other = sessions[0]
        assert list(one.tokens([3], 12, sampling)) == list(other.tokens([3], 12, sampling))


def test_pace_is_the_memorys(executable):
    """Where rows are long the memory is busy nearly all the time, and no cycle count is below the bound."""
    program = program_of(4, 400, 600, 1)
    data = run_bench(program, VARIANTS[NAME], 2, 1, lambda text: None)
    assert data["mismatches"] == 0
    assert data["cycles_per_token"] > data["sdram_words_per_token"] >= data["bound_cycles_per_token"]
    assert data["port_busy"] > 0.95


def test_a_wrong_weight_is_seen(executable):
    """A few words of the image damaged: the comparison must fail."""
    program = program_of(5)
    image = compile_program(program, preset(NAME))
    image.memories[Mem.WEIGHT][0, :64] ^= 0x5555
    line = ProcessTransport(board_command(executable, preset(NAME)))
    client = LinkClient(line, SIMULATED)
    backend = BoardBackend(client, client.hello(), program, image, 1)
    backend.load(progress=False)
    session = backend.open()
    backend.run(session, Run([9], 1, GREEDY, 1))
    with Device.open("numpy", program) as device, device.session() as numpy:
        numpy.step(9)
        assert not np.array_equal(backend.get_state(session), numpy.state)
    backend.close()


@pytest.mark.parametrize(
    ("rule", "slower"),
    [("tRCD", {"rcd": 40}), ("tRP", {"rp": 40}), ("tRFC", {"rfc": 120}), ("tRAS", {"ras": 3_000}),
     ("tRC", {"rc": 9_000}), ("tWR", {"wr": 60}), ("refreshes", {"refresh": 7_000}),
     ("power-up", {"power_up": 300_000})],
)  # fmt: skip
def test_a_slower_chip_stops_the_board(executable, rule, slower):
    """The memory is slower than the design thinks: the run ends with the name of the rule."""
    program = program_of(6, 100, 120, 1)
    image = compile_program(program, preset(NAME))
    command = board_command(executable, preset(NAME), chip=replace(ULX3S_CHIP, **slower))
    line = ProcessTransport(command)
    client = LinkClient(line, SIMULATED)

    def load_and_run():
        backend = BoardBackend(client, client.hello(), program, image, 1)
        backend.load(progress=False)
        for _ in range(40):
            backend.run(backend.open(), Run([1], 1, GREEDY, 1))

    with pytest.raises(NoAnswer, match=f"status 4: SDRAM: .*{rule}"):
        load_and_run()
    line.close()


class _Killed(Exception):
    pass


class _Mortal(ProcessTransport):
    """A line whose host dies after so many writes; the board lives on."""

    left = 10**9

    def write(self, data):
        self.left -= 1
        if self.left < 0:
            raise _Killed
        super().write(data)


def test_a_killed_load_goes_on(executable):
    """The host dies in mid-load; the next one sends what is missing, and the tokens are right."""
    program = program_of(7, 160, 240, 3)
    image = compile_program(program, preset(NAME))
    whole = len(list(load_requests(image)))
    line = _Mortal(board_command(executable, preset(NAME)))
    line.left = 2 * whole // 3
    client = LinkClient(line, SIMULATED)
    with pytest.raises(_Killed):
        load_image(client, client.hello(), image, "load", progress=False)
    line.left = 10**9
    client = LinkClient(line, SIMULATED)
    identity = client.hello()
    assert not identity.loaded
    kept = load_image(client, identity, image, "load", progress=False)
    assert kept > whole // 2
    backend = BoardBackend(client, client.hello(), program, image, 1)
    assert backend.load(progress=False) is False  # nothing left to load
    session = backend.open()
    with Device.open("numpy", program) as device, device.session() as numpy:
        for token in (1, 2, 3):
            assert np.array_equal(backend.step(session, token), numpy.step(token))
    backend.close()


def test_the_simulated_memorys_clock_is_the_boards():
    assert VARIANTS[NAME].clock_hz == NOMINAL_HZ
    assert compile_program(bench_sdram.large_program(1), preset(NAME)).memories[Mem.WEIGHT].size >= 2_000_000
