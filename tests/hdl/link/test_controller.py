"""Link controller in front of a stub engine: every request, every fault."""

from __future__ import annotations

import random
import struct

import pytest
from amaranth.sim import SimulatorContext

from ternac import link as protocol
from ternac.compile.geometry import Mem
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine
from ternac.link import FOLLOWS, FRAME_BYTES, SEQUENCE, WINDOW, Command, Frame, Status
from ternac.sim.stub_core import StubCore, StubModel
from tests.hdl.link.link_bench import Bench

ID, GEOMETRY, HASH = bytes(range(16)), b"geometry", b"programme-hash!!"
WORD_BYTES = (2, 3, 1, 2, 2, 1, 2)
WATCHDOG = 256
"""Cycles for a token; the built one waits for 2**25."""


def make(seed=0, loaded=True, window=1, core=None, watchdog=WATCHDOG, **options):
    core = core or StubCore()
    controller = LinkController(
        25_000_000, ID, GEOMETRY, HASH if loaded else bytes(16), word_bytes=WORD_BYTES, window=window,
        watchdog=watchdog,
    )  # fmt: skip
    return Bench(LinkedEngine(core, controller), seed, **options)


def run_payload(tokens, n_generate, base=0, rng=1, greedy=1, inv_m=128, inv_s=3, top_k=0, follows=0):
    flags = inv_s | follows * FOLLOWS | greedy << 7
    return struct.pack("<IHBBBH", rng, top_k, inv_m, n_generate, flags, base) + struct.pack(
        f"<{len(tokens)}H", *tokens
    )


def expect_run(model, tokens, n_generate, base=0, rng=1, latency=5):
    """The payload that RUN must answer."""
    out, steps = [], 0
    feed = list(tokens)
    while feed:
        emit = len(feed) == 1 and len(out) < n_generate
        token, rng = model.step(feed.pop(0), base, emit, rng)
        steps += 1
        if emit:
            out.append(token)
            if len(out) < n_generate:
                feed.append(token)
    return struct.pack(f"<{len(out)}HII", *out, rng, steps * latency)


@pytest.mark.parametrize("loaded", [False, True], ids=["empty", "loaded"])
@pytest.mark.parametrize("seed", range(3))
def test_all_requests(seed, loaded):
    rng = random.Random(seed)
    bench, model = make(seed, loaded, gap=rng.random() * 0.6, stall=rng.random() * 0.6), StubModel()

    async def test(ctx: SimulatorContext) -> None:
        status, payload = await bench.request(ctx, Command.HELLO, b"nonce")
        identity = protocol.Identity.decode(payload)
        held = HASH if loaded else bytes(16)
        assert (status, identity) == (0, protocol.Identity(ID, GEOMETRY, 25_000_000, held))
        assert identity.loaded == loaded
        if not loaded:
            assert await bench.request(ctx, Command.RUN, run_payload([1], 1)) == (Status.NOT_LOADED, b"")
        for block in range(4):
            words = [rng.randrange(1 << 16) for _ in range(16)]
            for i, word in enumerate(words):
                model.write(Mem.BANK, block, i, word)
            head = struct.pack("<BBH", Mem.BANK, block, 0)
            assert await bench.request(ctx, Command.WRITE, head + struct.pack("<16H", *words)) == (0, b"")
        assert await bench.request(ctx, Command.COMMIT, HASH) == (0, b"")
        assert await bench.request(ctx, Command.RUN, run_payload([1], 1)) == (Status.NOT_OPEN, b"")
        bench.seq -= 1
        status, payload = await bench.request(ctx, Command.HELLO)
        assert protocol.Identity.decode(payload).program_hash == HASH
        for _ in range(6):
            tokens = [rng.randrange(1 << 16) for _ in range(rng.randrange(1, 5))]
            count, base, seed_ = rng.randrange(0, 5), rng.randrange(16), rng.randrange(1 << 32)
            want = expect_run(model, tokens, count, base, seed_)
            assert await bench.request(ctx, Command.RUN, run_payload(tokens, count, base, seed_)) == (0, want)
            block, addr = rng.randrange(4), rng.randrange(8)
            words = struct.pack("<8H", *(model.read(block, addr + i) for i in range(8)))
            assert await bench.request(ctx, Command.READ, struct.pack("<BBH", 8, block, addr)) == (0, words)
        for bit in (None, *range(8)):
            one = bytearray(16)
            if bit is not None:
                one[rng.randrange(16)] = 1 << bit
            assert await bench.request(ctx, Command.COMMIT, bytes(one)) == (0, b"")
            want = Status.NOT_LOADED if bit is None else Status.NOT_OPEN
            assert await bench.request(ctx, Command.RUN, run_payload([1], 1)) == (want, b"")
            assert ctx.get(bench.dut.loaded) == (bit is not None)
            status, payload = await bench.request(ctx, Command.HELLO)
            assert protocol.Identity.decode(payload).program_hash == bytes(one)

    bench.run(test)


def test_a_run_that_follows_goes_on():
    """Prompt in two parts, then two go-ons: as one RUN. Three requests are on the line at once."""
    bench, model = make(window=WINDOW, gap=0.1, stall=0.2), StubModel()
    want = struct.unpack_from("<9H", expect_run(model, [5, 6, 7], 9, 3, 77))
    rng = 77 + sum((7, *want[:8]))

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        parts = [([5, 6], 0, 0), ([7], 4, 1), ([], 3, 1), ([], 2, 1)]
        for seq, (tokens, count, follows) in enumerate(parts, 1):
            payload = run_payload(tokens, count, 3, 77 if tokens else 0, follows=follows)
            bench.send(Frame(Command.RUN, seq, payload).wire())
        found = []
        for bench.seq, (_, count, _) in enumerate(parts, 1):
            status, payload = bench.check(await bench.answer(ctx), Command.RUN)
            assert status == 0
            found += struct.unpack_from(f"<{count}H", payload)
        assert tuple(found) == want
        assert payload[4:8] == rng.to_bytes(4, "little")

    bench.run(test)


def test_a_run_that_does_not_follow_is_refused():
    """After anything but a RUN, after a refused one; a repeated frame is answered again."""
    bench, model = make(window=WINDOW, gap=0, stall=0), StubModel()
    go_on = run_payload([], 2, follows=1)

    async def test(ctx: SimulatorContext) -> None:
        async def ask(payload: bytes, kind: Command = Command.RUN) -> tuple[int, bytes]:
            return await bench.request(ctx, kind, payload)

        refused = Status.OUT_OF_ORDER, b""
        await bench.open(ctx, SEQUENCE - 3)
        assert await ask(go_on) == refused, "the first of all"
        first = 0, expect_run(model, [9], 1)
        assert await ask(run_payload([9], 1)) == first
        bench.seq -= 1
        assert await ask(run_payload([9], 1)) == first, "a repeated frame"
        token = struct.unpack("<H", expect_run(model, [model.bank[0] & 0xFF], 1)[:2])[0]
        status, payload = await ask(run_payload([], 1, follows=1))
        assert (status, payload[:2]) == (0, token.to_bytes(2, "little"))
        assert bench.seq == 0, "numbers wrap"
        assert (await ask(run_payload([], 0, follows=1)))[0] == Status.BAD_LENGTH, "nothing to choose"
        assert await ask(go_on) == refused, "after a refused one"
        assert await ask(run_payload([9], 1, follows=1)) == refused, "with tokens"
        assert await ask(run_payload([], 1)) == (Status.BAD_LENGTH, b""), "not said to follow"
        assert await ask(run_payload([4], 0)) == (0, expect_run(model, [4], 0))
        assert (await ask(go_on))[0] == Status.BAD_LENGTH, "nothing was chosen"
        assert await ask(run_payload([9], 1)) == (0, expect_run(model, [9], 1))
        assert (await ask(struct.pack("<BBH", 1, 0, 0), Command.READ))[0] == 0
        assert await ask(go_on) == refused, "after a READ"
        await bench.open(ctx, 77)
        assert await ask(run_payload([9], 1)) == (0, expect_run(model, [9], 1))
        await bench.open(ctx, 78)
        assert await ask(go_on) == refused, "after HELLO"

    bench.run(test)


LATE = [
    ("the one before the last", lambda at: at - 1),
    ("a number is left out", lambda at: at + 2),
    ("a carry is missing", lambda at: at + 1 - 256),
    ("a carry too many", lambda at: at + 1 + 256),
    ("of another beginning", lambda at: at ^ 0x8000),
]


@pytest.mark.parametrize("window", [1, WINDOW])
@pytest.mark.parametrize("at", [0, 1, 254, 255, 256, 0x7FFF, 0xFFFE, 0xFFFF])
def test_requests_out_of_order_are_refused_and_change_nothing(at, window):
    """Neither the numbers, nor the answer that may have to be sent again, nor what a RUN may follow."""
    bench, model = make(window=window, gap=0, stall=0), StubModel()

    async def test(ctx: SimulatorContext) -> None:
        async def ask(seq: int, payload: bytes) -> tuple[int, bytes]:
            bench.seq = (seq - 1) % SEQUENCE
            return await bench.request(ctx, Command.RUN, payload)

        await bench.open(ctx, at - 1)
        want = 0, expect_run(model, [9, 8], 2)
        assert await ask(at, run_payload([9, 8], 2)) == want
        for what, number in LATE:
            assert await ask(number(at), run_payload([9, 8], 2)) == (Status.OUT_OF_ORDER, b""), what
            assert await ask(at, run_payload([9, 8], 2)) == want, what
        assert await ask(at, run_payload([9, 7], 2)) == (Status.OUT_OF_ORDER, b""), "another of this number"
        assert await ask(at, run_payload([9, 8], 2)) == want
        follows = window > 1
        token = struct.unpack_from("<H", want[1], 2)[0]
        more = expect_run(model, [token if follows else 3], 1)
        status, payload = await ask(at + 1, run_payload([] if follows else [3], 1, follows=follows))
        assert (status, payload[:2]) == (0, more[:2])

    bench.run(test)


def test_two_runs_of_one_crc_are_two():
    """The last four bytes of the second RUN's tokens are chosen so that its CRC is the first's."""
    bench, model = make(gap=0, stall=0), StubModel()
    first = Frame(Command.RUN, 1, run_payload([1, 2, 3], 1)).encode()
    second = Frame(Command.RUN, 2, run_payload([1, 2, 3], 1)).encode()[:-8]
    second += tail_for_crc(second, int.from_bytes(first[-4:], "little")) + first[-4:]
    assert Frame.decode(second) is not None and second[-4:] == first[-4:]
    tokens = struct.unpack("<3H", second[-10:-4])

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        assert await bench.request(ctx, Command.RUN, first[3:-4]) == (0, expect_run(model, [1, 2, 3], 1))
        assert await bench.request(ctx, Command.RUN, second[3:-4]) == (0, expect_run(model, tokens, 1))

    bench.run(test)


def tail_for_crc(data: bytes, crc: int) -> bytes:
    """The four bytes after which ``data`` has this CRC: it is linear in them."""
    rows = [protocol.crc32(data + (1 << bit).to_bytes(4, "little")) for bit in range(32)]
    zero = protocol.crc32(data + bytes(4))
    basis: dict[int, tuple[int, int]] = {}
    for bit, row in enumerate(rows):
        value, mask = row ^ zero, 1 << bit
        while value and value.bit_length() in basis:
            other, of = basis[value.bit_length()]
            value, mask = value ^ other, mask ^ of
        basis[value.bit_length()] = value, mask
    left, tail = crc ^ zero, 0
    while left:
        other, of = basis[left.bit_length()]
        left, tail = left ^ other, tail ^ of
    return tail.to_bytes(4, "little")


def test_the_line_is_closed_until_hello():
    """At power-up, though a frame may have the number and the CRC that registers begin with; after COMMIT,
    whose repeat is answered as it was.
    """
    bench, model = make(gap=0, stall=0), StubModel()
    zero = Frame(Command.RUN, 0, run_payload([1, 0, 0], 1)).encode()[:-8]
    zero += tail_for_crc(zero, 0) + bytes(4)

    async def test(ctx: SimulatorContext) -> None:
        bench.seq = -1
        assert await bench.request(ctx, Command.RUN, zero[3:-4]) == (Status.NOT_OPEN, b"")
        for seq in (0, 1, 2, 0xFFFF):
            bench.seq = seq - 1
            assert await bench.request(ctx, Command.RUN, run_payload([5], 1)) == (Status.NOT_OPEN, b"")
        await bench.open(ctx, 1000)
        assert await bench.request(ctx, Command.RUN, run_payload([5], 1)) == (0, expect_run(model, [5], 1))
        assert await bench.request(ctx, Command.COMMIT, bytes(16)) == (0, b""), "zeros do not close"
        assert await bench.request(ctx, Command.COMMIT, HASH[:15]) == (Status.BAD_LENGTH, b"")
        assert await bench.request(ctx, Command.COMMIT, HASH) == (0, b"")
        for _ in range(2):
            assert await bench.request(ctx, Command.RUN, run_payload([5], 1)) == (Status.NOT_OPEN, b"")
            bench.seq -= 2
            assert await bench.request(ctx, Command.COMMIT, HASH) == (0, b""), "once more"
        hello = await bench.request(ctx, Command.HELLO)
        for seq in (9, 9, 5, 5):
            bench.seq = seq - 1
            assert await bench.request(ctx, Command.HELLO) == hello, "any number, as often as it comes"
        assert await bench.request(ctx, Command.RUN, run_payload([5], 1)) == (0, expect_run(model, [5], 1))

    bench.run(test)


def test_a_frame_that_only_begins_well_is_dropped():
    """The first 320 bytes are a good frame: it is one if they are all, none if a byte comes after them."""
    bench = make(gap=0, stall=0)
    good = Frame(Command.WRITE, 1, struct.pack("<BBH", Mem.BANK, 0, 0) + bytes(FRAME_BYTES - 11)).encode()
    read = struct.pack("<BBH", 1, 0, 0)

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        assert len(good) == FRAME_BYTES
        for extra in (b"\0", b"x" * 9, good):
            bench.send(protocol.slip_encode(good + extra))
            assert await bench.answer(ctx, 3000) is None, len(extra)
        assert await bench.request(ctx, Command.READ, read) == (0, bytes(2)), "the next one is not spoiled"
        await bench.open(ctx)
        bench.send(protocol.slip_encode(good))
        bench.seq += 1
        assert bench.check(await bench.answer(ctx), Command.WRITE)[0] == Status.BAD_LENGTH

    bench.run(test)


@pytest.mark.parametrize("cycles", [2 * WATCHDOG + 40, 3000])
@pytest.mark.parametrize("before", [0, 3, 40, 90])
def test_a_token_that_takes_too_long_is_given_up(cycles, before):
    """Within twice the time, wherever the counter stands; then only HELLO is answered, as ever, though the
    engine is done some time.
    """
    core = StubCore(latency=5, slow=666, slow_latency=cycles)
    bench = make(core=core, gap=0, stall=0)

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        bench.send(Frame(Command.RUN, 1, run_payload([*range(before), 666, 1], 2)).wire())
        started = False
        while not started:
            _, _, start, token = await ctx.tick().sample(core.start, core.token)
            started = start and token == 666
        waited = 0
        while not bench.frames:
            await ctx.tick()
            waited += 1
        assert WATCHDOG <= waited <= 2 * WATCHDOG + 80, "the answer has ten bytes"
        bench.seq = 1
        assert bench.check(await bench.answer(ctx), Command.RUN) == (Status.STUCK, b"")
        for _ in range(6):
            assert await bench.request(ctx, Command.RUN, run_payload([1], 1)) == (Status.STUCK, b"")
            bench.seq -= 1
            assert await bench.request(ctx, Command.RUN, run_payload([1], 1)) == (Status.STUCK, b"")
            status, payload = await bench.request(ctx, Command.HELLO)
            assert protocol.Identity.decode(payload).program_hash == HASH and status == 0
            assert await bench.request(ctx, Command.COMMIT, HASH) == (Status.STUCK, b"")
            await ctx.tick().repeat(300)
        assert not bench.frames

    bench.run(test)


def test_a_token_in_time_is_not_given_up():
    """Whatever the counter has come to when it begins, of one token and of many."""
    core = StubCore(latency=5, slow=666, slow_latency=WATCHDOG - 3)
    bench = make(core=core, gap=0, stall=0)

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        for before in (0, 1, 20, 24, 25, 26, 51, 60):
            tokens = [*[1] * before, 666, 666, 666, 1]
            assert (await bench.request(ctx, Command.RUN, run_payload(tokens, 1)))[0] == 0
        assert (await bench.request(ctx, Command.RUN, run_payload([1] * 40, 90)))[0] == 0

    bench.run(test)


def test_without_a_window_nothing_follows():
    bench = make(gap=0, stall=0)

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        assert (await bench.request(ctx, Command.RUN, run_payload([9], 1)))[0] == 0
        assert await bench.request(ctx, Command.RUN, run_payload([9], 1, follows=1)) == (
            Status.OUT_OF_ORDER,
            b"",
        )

    bench.run(test)


@pytest.mark.parametrize("memory", Mem)
def test_write_words(memory):
    """Every memory's word width reaches the loader port, a word a cycle at most, in order."""
    core = StubCore()
    sizes = (*WORD_BYTES, 1)  # with rows
    bench = Bench(LinkedEngine(core, LinkController(1, ID, GEOMETRY, word_bytes=sizes)), gap=0, stall=0)
    size = sizes[memory]
    words = [random.Random(memory).randrange(1 << min(8 * size, 18)) for _ in range(300 // size)]
    seen = []

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        data = b"".join(word.to_bytes(size, "little") for word in words)
        bench.send(Frame(Command.WRITE, 1, struct.pack("<BBH", memory, 77, 1000) + data).wire())
        for _ in range(1500):
            _, _, enable, *word = await ctx.tick().sample(
                core.wr_en, core.wr_mem, core.wr_block, core.wr_addr, core.wr_data
            )
            if enable:
                word[-1] &= (1 << 8 * size) - 1
                seen.append(tuple(word))
        bench.seq = 1
        assert bench.check(bench.frames.popleft(), Command.WRITE) == (0, b"")

    bench.run(test)
    assert seen == [(memory, 77, 1000 + i, word) for i, word in enumerate(words)]


def test_sampling_ports():
    """The parameters of RUN arrive at the engine and stay while it is busy."""
    core = StubCore(latency=9)
    bench = Bench(LinkedEngine(core, LinkController(1, ID, GEOMETRY, HASH)), gap=0, stall=0)
    ports = ("token", "session_base", "emit", "greedy", "inv_m", "inv_s", "top_k", "rng_in")
    seen = []

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        bench.send(Frame(4, 1, run_payload([300, 0x1234], 2, 0xABCD, 0xDEADBEEF, 0, 201, 21, 0x4321)).wire())
        for _ in range(400):
            _, _, start, busy, *values = await ctx.tick().sample(
                core.start, core.busy, *(getattr(core, name) for name in ports)
            )
            if start:
                seen.append(values)
            elif busy:
                assert values == seen[-1]

    bench.run(test)
    first, second = 1 * (300 + 1) & 0xFFFF, 0
    second = (first * 5 + 0x1234 + 1) & 0xFFFF
    rng = (0xDEADBEEF + 0x1234) & 0xFFFFFFFF
    assert seen == [
        [300, 0xABCD, 0, 0, 201, 21, 0x4321, 0xDEADBEEF],
        [0x1234, 0xABCD, 1, 0, 201, 21, 0x4321, 0xDEADBEEF],
        [second & 0xFF, 0xABCD, 1, 0, 201, 21, 0x4321, rng],
    ]


REFUSALS = [
    (0, b"", Status.UNKNOWN_COMMAND),
    (6, b"abc", Status.UNKNOWN_COMMAND),
    (0x81, b"", Status.UNKNOWN_COMMAND),
    (Command.WRITE, b"", Status.BAD_LENGTH),
    (Command.WRITE, b"\x06\x00\x00", Status.BAD_LENGTH),
    (Command.WRITE, b"\x06\x00\x00\x00\x01", Status.BAD_LENGTH),
    (Command.WRITE, b"\x01\x00\x00\x00\x01\x02\x03\x04\x05", Status.BAD_LENGTH),
    (Command.WRITE, b"\x07\x00\x00\x00\x01\x02", Status.BAD_MEMORY),
    (Command.WRITE, b"\x80\x00\x00\x00\x01\x02", Status.BAD_MEMORY),
    (Command.READ, b"\x01\x00\x00", Status.BAD_LENGTH),
    (Command.READ, b"\x01\x00\x00\x00\x00", Status.BAD_LENGTH),
    (Command.COMMIT, HASH[:15], Status.BAD_LENGTH),
    (Command.COMMIT, HASH + b"x", Status.BAD_LENGTH),
    (Command.RUN, run_payload([], 1), Status.BAD_LENGTH),
    (Command.RUN, run_payload([1], 1)[:-1], Status.BAD_LENGTH),
    (Command.RUN, run_payload([1, 2], 1)[:-1], Status.BAD_LENGTH),
    (Command.RUN, b"abc", Status.BAD_LENGTH),
]


def test_refusals_change_nothing():
    bench, model = make(), StubModel()

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        for kind, payload, want in REFUSALS:
            status, rest = await bench.request(ctx, kind, payload)
            assert (status, rest) == (want, b""), (kind, payload)
        assert await bench.request(ctx, Command.RUN, run_payload([5], 2)) == (0, expect_run(model, [5], 2))
        _, payload = await bench.request(ctx, Command.HELLO)
        assert protocol.Identity.decode(payload).program_hash == HASH

    bench.run(test)


@pytest.mark.parametrize("seed", range(3))
def test_faulty_line(seed):
    """Garbage, cut, flipped, doubled and over-long frames: silence or the right answer; a RUN runs once."""
    rng = random.Random(seed)
    bench, model = make(seed), StubModel()

    async def test(ctx: SimulatorContext) -> None:
        await bench.open(ctx)
        want = b""
        for _ in range(12):
            tokens = [rng.randrange(256) for _ in range(rng.randrange(1, 4))]
            bench.seq = (bench.seq + 1) % SEQUENCE
            wire = Frame(Command.RUN, bench.seq, run_payload(tokens, 3)).wire()
            fault = rng.randrange(6)
            if fault == 0:
                bench.send(bytes(rng.randrange(256) for _ in range(30)))
            elif fault == 1:
                bench.send(wire[: rng.randrange(len(wire) - 1)])
            elif fault == 2:
                damaged = bytearray(wire)
                damaged[rng.randrange(1, len(wire) - 1)] ^= 1 << rng.randrange(8)
                bench.send(bytes(damaged))
            elif fault == 3:
                bench.send(Frame(Command.WRITE, 0, bytes(400)).wire())
            elif fault == 4:
                bench.send(b"\xc0\x00\x00\x00\x00\x00\xc0" + b"\xc0\xdb\x00\x01\x02\x03\x04\xc0\xc0")
            assert await bench.answer(ctx, 600) is None
            want = expect_run(model, tokens, 3)
            for _ in range(rng.randrange(1, 4)):
                bench.send(wire)
                assert bench.check(await bench.answer(ctx), Command.RUN) == (0, want)
                if rng.random() < 0.5:  # a damaged copy between two good ones must not hide that it is a copy
                    bench.send(wire[:-3] + b"\xc0")
                    assert await bench.answer(ctx, 300) is None

    bench.run(test)


def test_idle_and_fault_pins():
    bench = make()
    pins = []

    async def test(ctx: SimulatorContext) -> None:
        await ctx.tick().repeat(60)  # the power-up look at the program hash
        assert ctx.get(bench.dut.idle)
        for wire in (Frame(1, 1).wire(), Frame(9, 2).wire(), Frame(1, 3).wire()[:-4] + b"\xc0"):
            bench.send(wire)
            faults = 0
            for _ in range(400):
                faults += ctx.get(bench.dut.fault)
                await ctx.tick()
            pins.append(faults)
            assert ctx.get(bench.dut.idle)

    bench.run(test)
    assert pins == [0, 1, 1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(clock_hz=-1), "clock_hz must be below"),
        (dict(bitstream_id=b"short"), "bitstream_id is 16 bytes"),
        (dict(geometry_hash=b""), "geometry_hash 8 bytes"),
        (dict(watchdog=3), "watchdog must be a power of two"),
        (dict(word_bytes=(1, 2)), "word_bytes must be 7 or, with rows, 8 numbers"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinkController(**{"clock_hz": 1, "bitstream_id": ID, "geometry_hash": GEOMETRY, **arguments})


def test_core_without_ports():
    with pytest.raises(TypeError, match="has no port 'wr_en'"):
        LinkedEngine(LinkController(1, ID, GEOMETRY), LinkController(1, ID, GEOMETRY))
