"""The scheduler alone: tokens are NumPy's whatever is run together, cut, moved, or lost."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from ternac.errors import Cancelled, NoAnswer, Overloaded, ServerError, Unavailable, UsageError
from ternac.host.server.limits import Limits
from ternac.host.server.scheduler import Scheduler
from ternac.host.server.worker import Source
from ternac.host.session import Session
from ternac.run.sampling import Sampling
from tests.host.boards import numpy_backend, small_program
from tests.host.server.serving import WARM, Shaky, Watched, alone, fresh, source

PROGRAM = small_program()
PROMPT = [72, 101, 108, 108, 111]


@pytest.fixture
def make():
    """Schedulers that are closed at the end."""
    made = []

    def scheduler(*sources, **options):
        made.append(Scheduler(sources, **options))
        return made[-1]

    yield scheduler
    for one in made:
        one.close()


def numpy_source(label="numpy", fallback=False):
    return Source(label, lambda: numpy_backend(PROGRAM), fallback)


@pytest.mark.parametrize("chunk, together", [(1, 1), (4, 1), (4, 3), (32, 16)])
def test_many_jobs_give_what_numpy_gives(make, chunk, together):
    """Different prompts, lengths, samplings and seeds at the same time."""
    rng = np.random.default_rng(chunk)
    backend = Shaky(PROGRAM, chunk=chunk, together=together)
    scheduler = make(source(backend))
    wanted, jobs = [], []
    for seed in range(12):
        prompt = rng.integers(0, 256, int(rng.integers(1, 40))).tolist()
        count = int(rng.integers(1, 40))
        sampling = [Sampling(), WARM, Sampling(False, 130, 6)][seed % 3]
        wanted.append(alone(PROGRAM, prompt, count, sampling, seed))
        jobs.append(Watched(PROGRAM, prompt, count, sampling, seed))
    for job in jobs:
        scheduler.submit(job.job)
    for job, want in zip(jobs, wanted, strict=True):
        result = job.wait()
        assert job.tokens == want
        assert (result.reason, result.chosen, result.moves) == ("length", len(want), 0)
    assert backend.open_sessions == 0
    assert all(count <= chunk and len(sessions) <= together for sessions, _, count in backend.log)
    assert together == 1 or any(len(sessions) > 1 for sessions, _, _ in backend.log)


def test_turns_are_fair(make):
    """A long text and a long prompt do not keep a short one waiting: everyone has one slice a round."""
    backend = Shaky(PROGRAM, chunk=4)
    scheduler = make(source(backend))
    gate = threading.Event()
    first = Watched(PROGRAM, PROMPT, 4, on_tokens=lambda tokens: gate.wait(10))
    scheduler.submit(first.job)
    long_text = Watched(PROGRAM, PROMPT, 400)
    long_prompt = Watched(PROGRAM, PROMPT * 200, 4)
    short = Watched(PROGRAM, [1, 2], 8)
    for job in (long_text, long_prompt, short):
        scheduler.submit(job.job)
    gate.set()
    short.wait()
    mine = short.job.session
    turns = [sessions[0] for sessions, _, _ in backend.log]
    end = max(i for i, session in enumerate(turns) if session == mine)
    during = turns[turns.index(mine) : end + 1]
    assert all(during.count(session) <= during.count(mine) + 1 for session in set(during))
    assert long_text.result is None or long_text.wait().chosen == 400
    long_prompt.wait()
    assert long_prompt.tokens == alone(PROGRAM, PROMPT * 200, 4)
    assert max(fed for _, fed, count in backend.log if count == 0) <= 512


@pytest.mark.parametrize("after", [False, True], ids=["not executed", "executed"])
@pytest.mark.parametrize("fail_at", range(1, 12))
def test_a_lost_device_loses_no_token(make, fail_at, after):
    """Whichever request the line is cut at, the fallback goes on from the last known state."""
    scheduler = make(
        source(Shaky(PROGRAM, fail_at=fail_at, after=after)), numpy_source("spare", fallback=True), reopen=0
    )
    jobs = [Watched(PROGRAM, PROMPT, 20, WARM, seed, keep=True) for seed in range(3)]
    for job in jobs:
        scheduler.submit(job.job)
    for seed, job in enumerate(jobs):
        result = job.wait()
        assert job.tokens == alone(PROGRAM, PROMPT, 20, WARM, seed)
        assert result.device == "spare"
        assert result.snapshot is not None
        with Session(numpy_backend(PROGRAM)) as session:  # what goes on is right, too
            session.restore(result.snapshot.to_bytes(PROGRAM))
            assert list(session.tokens([], 5, WARM)) == alone(PROGRAM, PROMPT, 25, WARM, seed)[20:]
    stats = scheduler.stats()
    assert [(d.label, d.up, d.losses) for d in stats.devices] == [("shaky", False, 1), ("spare", True, 0)]
    assert stats.moves == sum(job.job.moves for job in jobs) > 0
    assert (stats.jobs, stats.running) == (0, 0)


def test_devices_lost_one_after_the_other(make):
    """Each of four devices dies in the middle; the last one finishes."""
    shaky = [source(Shaky(PROGRAM, fail_at=7), f"shaky{i}") for i in range(4)]
    scheduler = make(*shaky, numpy_source(), reopen=0)
    jobs = [Watched(PROGRAM, PROMPT, 60, WARM, seed) for seed in range(8)]
    for job in jobs:
        scheduler.submit(job.job)
    for seed, job in enumerate(jobs):
        job.wait()
        assert job.tokens == alone(PROGRAM, PROMPT, 60, WARM, seed)


def test_no_device_left_is_an_error_not_silence(make):
    scheduler = make(source(Shaky(PROGRAM, fail_at=3)), reopen=0)
    jobs = [Watched(PROGRAM, PROMPT, 20, WARM, seed) for seed in range(3)]
    for job in jobs:
        scheduler.submit(job.job)
    for job in jobs:
        assert job.over.wait(20)
        assert isinstance(job.result, Unavailable)
    assert not scheduler.stats().ready
    with pytest.raises(Unavailable, match="no device is left"):
        scheduler.submit(Watched(PROGRAM, PROMPT, 1).job)


def test_texts_that_failed_with_the_last_device_do_not_run_when_it_comes_back(make):
    opened = []

    def open_it():
        opened.append(Shaky(PROGRAM, fail_at=None if opened else 8))
        return opened[-1]

    scheduler = make(Source("board", open_it), reopen=0.05)
    gate = threading.Event()
    jobs = [Watched(PROGRAM, PROMPT, 60, on_tokens=lambda tokens: gate.wait(20)) for _ in range(20)]
    for job in jobs:
        scheduler.submit(job.job)
    gate.set()
    for job in jobs:
        assert job.over.wait(20)
        assert isinstance(job.result, Unavailable)
    told = [len(job.tokens) for job in jobs]
    while not scheduler.stats().ready:
        time.sleep(0.005)
    last = Watched(PROGRAM, PROMPT, 8)
    scheduler.submit(last.job)
    last.wait()
    assert [len(job.tokens) for job in jobs] == told and 0 in told


def test_a_fallback_stays_closed_while_a_device_is_left(make):
    opened = []

    def spare():
        opened.append(True)
        return numpy_backend(PROGRAM)

    lost, left = source(Shaky(PROGRAM, fail_at=3), "lost"), source(Shaky(PROGRAM), "left")
    scheduler = make(lost, left, Source("spare", spare, True), reopen=0)
    jobs = [Watched(PROGRAM, PROMPT, 40, WARM, seed) for seed in range(4)]
    for job in jobs:
        scheduler.submit(job.job)
    for seed, job in enumerate(jobs):
        assert job.wait().device == "left"
        assert job.tokens == alone(PROGRAM, PROMPT, 40, WARM, seed)
    assert not opened


def test_a_device_that_comes_back_is_used_again(make):
    """The fallback hands its jobs over, in the middle of their texts."""
    opened = []

    def open_it():
        opened.append(Shaky(PROGRAM, fail_at=None if opened else 3))
        return opened[-1]

    scheduler = make(Source("board", open_it), numpy_source("spare", fallback=True), reopen=0.1)
    job = Watched(PROGRAM, PROMPT, 800, on_tokens=lambda tokens: time.sleep(0.002))
    scheduler.submit(job.job)
    result = job.wait()
    assert job.tokens == alone(PROGRAM, PROMPT, 800)
    assert result.device == "board"
    assert result.moves == 2
    assert len(opened) == 2
    assert opened[0].closed


def test_idle_devices_take_from_busy_ones(make):
    """Two jobs on one device, the other has nothing to do: one moves, its tokens stay the same."""
    gate = threading.Event()
    first, second = Shaky(PROGRAM), Shaky(PROGRAM)
    scheduler = make(source(first, "a"), source(second, "b"))
    blocker = Watched(PROGRAM, PROMPT, 4, on_tokens=lambda tokens: gate.wait(10))
    jobs = [Watched(PROGRAM, PROMPT, 300, WARM, seed) for seed in range(4)]
    scheduler.submit(blocker.job)
    for job in jobs:
        scheduler.submit(job.job)
    time.sleep(0.05)
    gate.set()
    for seed, job in enumerate(jobs):
        job.wait()
        assert job.tokens == alone(PROGRAM, PROMPT, 300, WARM, seed)
    assert first.log
    assert second.log


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize("sampling", [Sampling(), WARM], ids=["greedy", "drawn"])
def test_a_stop_inside_a_slice_leaves_the_session_at_that_token(make, stop_at, sampling):
    """What is kept goes on as if no token had been computed ahead, also with others run together."""
    scheduler = make(source(Shaky(PROGRAM, chunk=4, together=2)))
    other = Watched(PROGRAM, PROMPT, 40, sampling, 9)
    job = Watched(PROGRAM, PROMPT, 12, sampling, 3, stop_at=stop_at, keep=True)
    scheduler.submit(other.job)
    scheduler.submit(job.job)
    kept = job.wait().snapshot
    want = alone(PROGRAM, PROMPT, 30, sampling, 3)
    assert job.tokens == want[:stop_at]
    assert job.wait().reason == "stop"
    assert kept is not None
    assert (kept.pending, kept.fed) == (want[stop_at - 1], len(PROMPT) + stop_at - 1)
    more = Watched(PROGRAM, [], 30 - stop_at, sampling, start=kept)
    scheduler.submit(more.job)
    more.wait()
    assert more.tokens == want[stop_at:]
    other.wait()
    assert other.tokens == alone(PROGRAM, PROMPT, 40, sampling, 9)


def test_a_cancelled_job_releases_its_session(make):
    backend = Shaky(PROGRAM)
    scheduler = make(source(backend))
    begun = threading.Event()
    job = Watched(PROGRAM, PROMPT, 10**6, on_tokens=lambda tokens: begun.set())
    scheduler.submit(job.job)
    assert begun.wait(10)
    scheduler.cancel(job.job)
    assert job.over.wait(10)
    assert isinstance(job.result, Cancelled)
    assert backend.open_sessions == 0
    assert scheduler.stats().jobs == 0


def test_deadlines(make):
    """Time that is over ends a text where it is, and the session is kept there; without a token it fails."""
    scheduler = make(source(Shaky(PROGRAM)))
    job = Watched(PROGRAM, PROMPT, 10**6, keep=True, deadline=time.monotonic() + 2)
    scheduler.submit(job.job)
    result = job.wait()
    assert result.reason == "time"
    assert 0 < result.chosen == len(job.tokens) < 10**6
    assert result.snapshot is not None
    assert result.snapshot.pending == job.tokens[-1]
    late = Watched(PROGRAM, PROMPT * 3000, 10**6, deadline=time.monotonic() + 0.05)
    scheduler.submit(late.job)
    assert late.over.wait(10)
    assert isinstance(late.result, Unavailable)


def test_the_queue_has_an_end(make):
    scheduler = make(source(Shaky(PROGRAM)), queue=2)
    gate = threading.Event()
    jobs = [Watched(PROGRAM, PROMPT, 4, on_tokens=lambda tokens: gate.wait(10)) for _ in range(3)]
    scheduler.submit(jobs[0].job)
    scheduler.submit(jobs[1].job)
    with pytest.raises(Overloaded, match="2 requests are running or waiting"):
        scheduler.submit(jobs[2].job)
    gate.set()
    jobs[0].wait()
    jobs[1].wait()
    scheduler.submit(jobs[2].job)
    jobs[2].wait()


def test_a_server_has_64_places_if_nothing_is_said(make):
    assert make(numpy_source()).queue == 64


def test_a_device_takes_no_more_of_those_that_wait_than_it_asks_for(make):
    scheduler = make(source(Shaky(PROGRAM)))
    (worker,) = scheduler.workers
    gate, begun = threading.Event(), threading.Event()

    def hold(tokens):
        begun.set()
        gate.wait(10)

    jobs = [Watched(PROGRAM, PROMPT, 4, on_tokens=hold), *(Watched(PROGRAM, PROMPT, 4) for _ in range(6))]
    scheduler.submit(jobs[0].job)
    assert begun.wait(10)
    for job in jobs[1:]:
        scheduler.submit(job.job)
    before = len(worker.ring)
    scheduler.admit(worker, 3)
    assert len(worker.ring) == before + 3
    gate.set()
    assert [job.wait().chosen for job in jobs] == [4] * 7


def test_an_error_in_one_job_is_not_the_others(make):
    """What breaks a slice ends its job with an error; the device goes on."""
    scheduler = make(source(Shaky(PROGRAM)))

    def broken(tokens):
        raise RuntimeError("a bug")

    bad, good = Watched(PROGRAM, PROMPT, 20, on_tokens=broken), Watched(PROGRAM, PROMPT, 20)
    scheduler.submit(bad.job)
    scheduler.submit(good.job)
    assert bad.over.wait(10)
    assert isinstance(bad.result, ServerError)
    assert good.wait().chosen == 20
    assert scheduler.stats().devices[0].losses == 0


def test_drain_and_close(make):
    """Draining takes nothing new and finishes what is there; closing ends it."""
    scheduler = make(source(Shaky(PROGRAM)))
    first = Watched(PROGRAM, PROMPT, 200)
    scheduler.submit(first.job)
    scheduler.drain()
    with pytest.raises(Unavailable, match="shutting down"):
        scheduler.submit(Watched(PROGRAM, PROMPT, 1).job)
    first.wait()
    scheduler = make(source(Shaky(PROGRAM)))
    endless = Watched(PROGRAM, PROMPT, 10**9)
    scheduler.submit(endless.job)
    scheduler.close()
    assert isinstance(endless.result, Unavailable)
    assert not any(worker.thread.is_alive() for worker in scheduler.workers)


def test_nothing_to_go_on_from():
    with pytest.raises(UsageError, match="the prompt of a new session is empty"):
        Watched(PROGRAM, [], 5)
    with pytest.raises(UsageError, match="token 256 is outside"):
        Watched(PROGRAM, [256], 5)
    with pytest.raises(UsageError, match="at least one device"):
        Scheduler([])


def test_a_device_that_does_not_open_closes_the_others():
    first = Shaky(PROGRAM)

    def broken():
        raise NoAnswer("no board")

    with pytest.raises(NoAnswer, match="no board"):
        Scheduler([source(first), Source("bad", broken)])
    assert first.closed


def test_zero_tokens_feed_the_prompt(make):
    scheduler = make(numpy_source())
    job = Watched(PROGRAM, PROMPT, 0, keep=True)
    scheduler.submit(job.job)
    kept = job.wait().snapshot
    assert kept is not None
    assert (kept.pending, kept.fed) == (PROMPT[-1], len(PROMPT) - 1)
    more = Watched(PROGRAM, [], 10, start=kept)
    scheduler.submit(more.job)
    more.wait()
    assert more.tokens == alone(PROGRAM, PROMPT, 10)
    assert fresh(PROGRAM).fed == 0


def test_a_server_that_drains_is_not_ready(make):
    scheduler = make(numpy_source())
    assert scheduler.stats().ready
    scheduler.drain()
    assert scheduler.stats().draining
    assert not scheduler.stats().ready


def test_places_are_counted_for_each_client(make):
    """One client gets its share and no more, whatever others have; the next still finds a place."""
    scheduler = make(source(Shaky(PROGRAM)), queue=8)
    gate = threading.Event()
    taken = []

    def submit(client):
        job = Watched(PROGRAM, PROMPT, 4, client=client, on_tokens=lambda tokens: gate.wait(20))
        scheduler.submit(job.job)
        taken.append(job)

    assert Limits(queue=8).client_places == 7
    for _ in range(7):
        submit("greedy")
    with pytest.raises(Overloaded, match="7 requests of this client are running or waiting; the 1 places"):
        submit("greedy")
    submit("modest")
    gate.set()
    for job in taken:
        job.wait()


def test_a_device_that_becomes_idle_takes_over_a_text_of_a_busy_one(make):
    """Both are busy when two long texts come; the first to be free takes both, and gives one to the other."""
    gates = [threading.Event(), threading.Event()]
    running = [threading.Event(), threading.Event()]
    scheduler = make(source(Shaky(PROGRAM), "a"), source(Shaky(PROGRAM), "b"))
    blockers = []
    for gate, begun in zip(gates, running, strict=True):

        def hold(tokens, gate=gate, begun=begun):
            begun.set()
            gate.wait(20)

        blockers.append(Watched(PROGRAM, PROMPT, 4, on_tokens=hold))
        scheduler.submit(blockers[-1].job)
        assert begun.wait(20)
    slow = [
        Watched(PROGRAM, PROMPT, 400, WARM, seed, on_tokens=lambda tokens: time.sleep(0.001))
        for seed in (1, 2)
    ]
    for job in slow:
        scheduler.submit(job.job)
    gates[0].set()
    blockers[0].wait()
    while not all(job.tokens for job in slow):
        time.sleep(0.001)
    gates[1].set()
    for seed, job in zip((1, 2), slow, strict=True):
        job.wait()
        assert job.tokens == alone(PROGRAM, PROMPT, 400, WARM, seed)
    assert scheduler.stats().moves == sum(job.job.moves for job in slow) >= 1


def test_a_text_that_nobody_reads_costs_its_device_little(make):
    """A device whose texts all wait for their readers looks again at times, not all the time."""
    scheduler = make(source(Shaky(PROGRAM)))
    asked = [0]
    behind = [True]

    def is_behind():
        asked[0] += 1
        return behind[0]

    job = Watched(PROGRAM, PROMPT, 8, behind=is_behind)
    scheduler.submit(job.job)
    time.sleep(0.4)
    assert 1 <= asked[0] < 200
    behind[0] = False
    job.wait()
    assert job.tokens == alone(PROGRAM, PROMPT, 8)


def test_waits_between_attempts_to_open_a_lost_device_double(make):
    opened = []

    def open_it():
        opened.append(time.monotonic())
        if 1 < len(opened) < 6:
            raise NoAnswer("still away")
        return Shaky(PROGRAM, fail_at=3 if len(opened) == 1 else None)

    scheduler = make(Source("board", open_it), numpy_source("spare", fallback=True), reopen=0.02)
    job = Watched(PROGRAM, PROMPT, 20)
    scheduler.submit(job.job)
    job.wait()
    until = time.monotonic() + 20
    while len(opened) < 6 and time.monotonic() < until:
        time.sleep(0.005)
    waits = [b - a for a, b in zip(opened[1:], opened[2:], strict=False)]
    assert len(waits) == 4
    assert all(wait >= 0.02 * 2**i for i, wait in enumerate(waits, 1))
    assert sum(waits) < 2  # 0.04 + 0.08 + 0.16 + 0.32
