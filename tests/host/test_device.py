"""Device and sessions: the same tokens everywhere, whatever happens on the way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import preset
from ternac.errors import NoAnswer, SnapshotError, UsageError, WrongBitstream, WrongGeometry
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import LinkClient, Patience
from ternac.host.device import Device, geometry_of
from ternac.link import BatchMember, BatchRequest, Choice, Command, Frame, SlipDecoder, Status
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling
from tests.host.boards import (
    BITSTREAM,
    FAST,
    Line,
    image_of,
    keep_slots,
    make_board,
    numpy_tokens,
    runs,
    small_program,
    tiny,
)

PROGRAM = small_program()
IMAGE = image_of(PROGRAM)
SAMPLING = Sampling(False, 200, 4, 50)
PROMPT = [72, 101, 108]


def open_board(line=None, **options):
    line = line or Line(make_board(IMAGE))
    return Device.open(
        "serial:fake", PROGRAM, board="tiny", transport=line, patience=FAST, progress=False, **options
    )


def reference(count, prompt=PROMPT, sampling=SAMPLING, seed=5):
    return numpy_tokens(PROGRAM, prompt, count, sampling, seed)


@pytest.fixture(params=["numpy", "board"])
def device(request):
    with Device.open("numpy", PROGRAM) if request.param == "numpy" else open_board() as device:
        yield device


def test_same_tokens(device):
    with device.session(seed=5) as session:
        assert list(session.tokens(PROMPT, 80, SAMPLING)) == reference(80)
        assert session.fed == len(PROMPT) + 79
    assert device.meter.steps == len(PROMPT) + 79


def test_long_prompt_and_count_zero(device):
    prompt = [i * 7 % 256 for i in range(400)]
    with device.session(seed=5) as session:
        assert list(session.tokens(prompt, 0)) == []
        assert session.pending == prompt[-1]
        assert list(session.tokens((), 3, SAMPLING)) == reference(3, prompt)


def test_many_tokens_at_once(device):
    with device.session(seed=5) as session:
        assert list(session.tokens(PROMPT, 600, SAMPLING)) == reference(600)


def test_step_gives_logits(device):
    executor = NumpyExecutor(PROGRAM)
    state = executor.open(1)
    with device.session() as session:
        for token in (3, 1, 200):
            assert (session.step(token) == executor.step(state, [token])[0]).all()
            assert (session.state == state[0]).all()


def test_abandoned_stream_goes_on_where_it_was_left(device):
    want = reference(40)
    with device.session(seed=5) as session:
        stream = session.tokens(PROMPT, 35, SAMPLING)
        got = [next(stream) for _ in range(7)]
        assert session.pending == want[6]
        assert session.fed == len(PROMPT) + 6
        snapshot = session.snapshot()
        got += [next(stream) for _ in range(3)]  # the stream itself goes on after a look at the session
        assert got == want[:10]
        got += session.tokens((), 30, SAMPLING)
        assert got == want
        session.restore(snapshot)
        assert list(session.tokens((), 33, SAMPLING)) == want[7:]


def test_snapshot_moves_between_executors():
    want = reference(30)
    with Device.open("numpy", PROGRAM) as numpy, open_board() as board:
        with numpy.session(seed=5) as one, board.session() as two:
            first = list(one.tokens(PROMPT, 10, SAMPLING))
            two.restore(one.snapshot())
            second = list(two.tokens((), 10, SAMPLING))
            one.restore(two.snapshot())
            third = list(one.tokens((), 10, SAMPLING))
            assert one.snapshot() != two.snapshot()
    assert first + second + third == want


def test_more_sessions_than_slots():
    line = Line(make_board(IMAGE))
    with open_board(line) as device:
        n = min(IMAGE.sessions, 40) + 2
        keep_slots(device.backend, n - 2)
        sessions = [device.session(seed=i) for i in range(n)]
        got = [[] for _ in sessions]
        order = np.random.default_rng(1).permutation(np.repeat(np.arange(n), 3))
        for i in order:
            got[i] += sessions[i].tokens(() if got[i] else [i], 4, SAMPLING)
        for i, tokens in enumerate(got):
            assert tokens == reference(12, [i], seed=i)
        for session in sessions:
            session.close()
        assert set(device.backend.slots.users.values()) == {None}


@pytest.mark.parametrize("seed", range(3))
def test_faulty_line(seed):
    line = Line(make_board(IMAGE), seed, faults=0.15)
    patience = Patience(base=0.01, step=0, retries=40)
    with Device.open(
        "serial:fake", PROGRAM, board="tiny", transport=line, patience=patience, progress=False
    ) as device:
        assert device.backend.client.resent > 3
        with device.session(seed=5) as session:
            assert list(session.tokens(PROMPT, 100, SAMPLING)) == reference(100)


def test_failure_in_mid_stream_then_recovery():
    """A line that fails for a while: typed error, then the same session goes on with the right tokens."""
    line = Line(make_board(IMAGE))
    want = reference(100)
    with open_board(line) as device, device.session(seed=5) as session:
        got = []
        stream = session.tokens(PROMPT, 100, SAMPLING)
        got += [next(stream) for _ in range(40)]
        real, line.read = line.read, lambda timeout: b""  # answers vanish, but the board has executed
        with pytest.raises(NoAnswer):
            got.extend(stream)
        line.read = real
        assert len(got) == 64
        assert got == want[: len(got)]
        got += session.tokens((), 100 - len(got), SAMPLING)
        assert got == want


def test_interrupted_load_leaves_an_empty_board():
    board = make_board(IMAGE)
    open_board(Line(board)).close()
    assert board.identity.loaded
    other = small_program(2)
    with pytest.raises(NoAnswer):
        Device.open(
            "serial:fake",
            other,
            board="tiny",
            transport=Line(board, cut_after=20),
            patience=FAST,
            progress=False,
        )
    assert not board.identity.loaded
    with open_board(Line(board)) as device, device.session(seed=5) as session:
        assert list(session.tokens(PROMPT, 5, SAMPLING)) == reference(5)


def test_loaded_board_is_not_loaded_again():
    board = make_board(IMAGE)
    with open_board(Line(board)):
        pass
    line = Line(board)
    with open_board(line):
        assert line.writes == 1


def test_text_and_bytes(device):
    with device.session() as session:
        assert "".join(session.generate("He", 20)).encode("utf-8", "replace")
        data = b"".join(session.generate(b"", 20, temperature=0.8, top_k=5, seed=3))
        assert len(data) == 20


def test_identification():
    board = make_board(IMAGE)
    with open_board(Line(board), bitstream=BITSTREAM.hex()):
        pass
    line = Line(board)
    with pytest.raises(WrongBitstream, match=BITSTREAM.hex()):
        open_board(line, bitstream="00" * 16)
    assert line.closed
    with pytest.raises(UsageError, match="no bitstream ID"):
        open_board(Line(board), bitstream="xyz")
    with pytest.raises(WrongGeometry, match="has the geometry tiny, the program was compiled for ulx3s"):
        Device.open("serial:x", PROGRAM, board="ulx3s-85f", transport=Line(board), patience=FAST)


def test_wrong_version():
    from dataclasses import replace

    board = make_board(IMAGE)
    board.identity = replace(board.identity, version=9)
    with pytest.raises(WrongBitstream, match="link version 9"):
        open_board(Line(board))


@pytest.mark.parametrize("name", ["cuda", "sim:x", "serial:", "serial", "numpy:1", "replay:"])
def test_unknown_devices(name):
    with pytest.raises(UsageError, match="unknown executor"):
        Device.open(name, PROGRAM)


def test_missing_port():
    with pytest.raises(NoAnswer, match="cannot open"):
        Device.open("/dev/does-not-exist", PROGRAM, board="icebreaker")


def test_usage_errors(device):
    session = device.session()
    with pytest.raises(UsageError, match="prompt of a new session is empty"):
        session.tokens((), 1)
    with pytest.raises(UsageError, match=r"outside 0\.\.255"):
        session.tokens([256], 1)
    with pytest.raises(UsageError, match=r"outside 0\.\.255"):
        session.step(-1)
    with pytest.raises(UsageError, match="at least 0"):
        session.tokens([1], -1)
    with pytest.raises(SnapshotError):
        session.restore(b"junk")
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.step(1)


def test_replay(tmp_path):
    path = tmp_path / "traffic.jsonl"
    with open_board(record=path) as device, device.session(seed=5) as session:
        want = list(session.tokens(PROMPT, 50, SAMPLING))
    with Device.open(f"replay:{path}", PROGRAM, board="tiny", progress=False) as device:
        with device.session(seed=5) as session:
            assert list(session.tokens(PROMPT, 50, SAMPLING)) == want
    with Device.open(f"replay:{path}", PROGRAM, board="tiny", progress=False) as device:
        with device.session(seed=6) as session, pytest.raises(UsageError, match="something else"):
            list(session.tokens(PROMPT, 50, SAMPLING))


def test_replay_of_a_cut_recording(tmp_path):
    path = tmp_path / "traffic.jsonl"
    open_board(record=path).close()
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(NoAnswer, match="is over"):
        Device.open(f"replay:{path}", PROGRAM, board="tiny", progress=False)
    path.write_text("nonsense")
    with pytest.raises(UsageError, match="line 1"):
        Device.open(f"replay:{path}", PROGRAM, board="tiny", progress=False)


def test_geometry_of():
    assert geometry_of("tiny") == tiny()
    assert geometry_of("icebreaker") == preset("icebreaker")
    with pytest.raises(UsageError, match="no geometry is called"):
        geometry_of("atari")


def test_speed_says_where_it_comes_from(device):
    with device.session() as session:
        list(session.tokens(PROMPT, 10))
    speed = device.speed()
    if device.kind == "numpy":
        assert speed.origin == "NumPy on this host, measured"
    else:
        assert speed.origin.startswith("measured on board")
        assert speed.data["cycles_per_token"] == 1000
    assert speed.tokens_per_second > 0


@pytest.mark.parametrize("sampling", [SAMPLING, Sampling(True, 128, 0, 0)])
def test_sessions_together(sampling):
    """Several sessions in one request choose what each would choose alone, also beyond one request's
    tokens.
    """
    with open_board() as device:
        backend = device.backend
        sessions = [backend.open() for _ in range(backend.together)]
        assert len(sessions) == 3
        got = backend.run_together(sessions, runs([5, 6, 7], 90, sampling, [1, 2, 3]))
        alone = [backend.open() for _ in sessions]
        want = [
            backend.run(s, Run([t], 90, sampling, r))
            for s, t, r in zip(alone, (5, 6, 7), (1, 2, 3), strict=True)
        ]
        assert got == want
        for one, other in zip(sessions, alone, strict=True):
            assert np.array_equal(backend.get_state(one), backend.get_state(other))
        for wrong in ([], [sessions[0]] * 2, [backend.open() for _ in range(4)]):
            with pytest.raises(UsageError, match="1 to 3 different ones"):
                backend.run_together(wrong, runs([1] * len(wrong), 1, sampling, [1] * len(wrong)))


def test_batch_frames_that_are_refused():
    board = make_board(IMAGE)
    sequence = itertools.count()
    board.feed(Frame(Command.HELLO, next(sequence)).wire())

    def status(payload: bytes) -> int:
        (answer,) = SlipDecoder().feed(board.feed(Frame(Command.BATCH, next(sequence), payload).wire()))
        return Frame.decode(answer).payload[0]

    def batch(members: int, count: int = 5) -> bytes:
        return BatchRequest([BatchMember(1, 0, 1)] * members, 0, count, Choice(True, 128, 0, 0)).encode()

    assert status(batch(1)) == Status.NOT_LOADED
    board.identity = replace(board.identity, program_hash=bytes(15) + b"x")
    for bad in (batch(0), batch(1)[:-1], batch(4), batch(1, count=0), batch(1, count=76)):
        assert status(bad) == Status.BAD_LENGTH


def test_generate_together(device):
    prompts = [b"a", b"hello", b"x" * 200, b"zz", b"q"]
    got = device.generate_together(prompts, 12, temperature=0.8, top_k=40, seed=3)
    for k, prompt in enumerate(prompts):
        with device.session(seed=3 + k) as session:
            assert b"".join(session.generate(prompt, 12, temperature=0.8, top_k=40)) == got[k]
    with pytest.raises(UsageError, match="the prompt of a new session is empty"):
        device.generate_together([b"a", b""])


def test_one_session_together_on_an_engine_with_one_context():
    """Such an engine refuses BATCH."""
    geometry = replace(preset("tiny"), name="alone", contexts=1)
    image = compile_program(PROGRAM, geometry)
    line = Line(make_board(image))
    client = LinkClient(line, FAST)
    backend = BoardBackend(client, client.hello(), PROGRAM, image, chunk=8)
    backend.load(progress=False)
    assert backend.together == 1
    one, other = backend.open(), backend.open()
    assert backend.run_together([one], runs([5], 9, SAMPLING, [1])) == [
        backend.run(other, Run([5], 9, SAMPLING, 1))
    ]
    assert np.array_equal(backend.get_state(one), backend.get_state(other))


def test_the_default_model_fits_the_engine() -> None:
    for board, name in (("icebreaker", "shakespeare-small"), ("tiny", "random-24x20x2-256")):
        with Device.open("isa", board=board) as device:
            assert device.program.name == name
    with Device.open("numpy") as device:
        assert device.program.name == "shakespeare"
