"""``ternac run``: text, JSON, the check against NumPy, errors."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.cli.run import VERB
from ternac.compile.geometry import Mem
from ternac.errors import UsageError
from ternac.host import device as device_module
from ternac.host.device import Device
from ternac.host.executors import EXECUTORS
from ternac.host.session import Session
from ternac.program.file import save
from ternac.program.random import random_program
from ternac.program.zoo import TEXT, names
from ternac.run.sampling import Sampling
from ternac.text.tokenizer import tokenizer_of
from ternac.text.training import train_bpe
from tests.host.boards import Line, image_of, make_board, numpy_tokens, small_program
from tests.host.test_ends import ending

PROGRAM = small_program()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.safetensors"
    save(PROGRAM, path)
    return str(path)


@pytest.fixture
def board(monkeypatch):
    """A board in Python on every line that a device opens."""
    board = make_board(image_of(PROGRAM))
    monkeypatch.setattr(device_module, "open_line", lambda *arguments: Line(board))
    return board


def run_json(capsys, *argv):
    status = main(["run", *argv, "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out), err


def test_numpy(capsys, model):
    status, data, err = run_json(capsys, model, "--prompt", "abc", "--tokens", "12")
    assert status == 0
    assert len(data["tokens"]) == 12
    assert data["text"] == bytes(data["tokens"]).decode(errors="replace")
    assert data["origin"] == "NumPy on this host, measured"
    assert data["program_hash"] == PROGRAM.hash
    assert "abc" in err


def test_torch_finds_the_checkpoint_of_the_default_and_of_a_named_model(capsys):
    pytest.importorskip("torch")
    for named in ([], ["shakespeare-small"]):
        status, data, _ = run_json(capsys, *named, "--device", "torch", "--tokens", "2", "--check")
        assert (status, data["executor"], data["check"]["equal"]) == (0, "torch", True)


def test_a_text_is_drawn_and_its_seed_repeats_it(capsys, model):
    """By default at 0.8 with a new seed; --greedy is argmax, from NumPy as from here."""
    sampling = Sampling.from_temperature(0.8, PROGRAM.logit_scale_bits)
    _, data, err = run_json(capsys, model, "--prompt", "abc", "--tokens", "20")
    assert data["tokens"] == numpy_tokens(PROGRAM, b"abc", 20, sampling, data["seed"])
    assert f"--seed {data['seed']} repeats this text" in err
    _, again, err = run_json(capsys, model, "--prompt", "abc", "--tokens", "20", "--seed", str(data["seed"]))
    assert again["tokens"] == data["tokens"]
    assert "repeats" not in err
    seeds = {run_json(capsys, model, "--tokens", "0")[1]["seed"] for _ in range(4)}
    assert len(seeds) > 1
    _, greedy, err = run_json(capsys, model, "--prompt", "abc", "--tokens", "20", "--greedy")
    assert greedy["tokens"] == numpy_tokens(PROGRAM, b"abc", 20, Sampling(), 1)
    assert (greedy["greedy"], greedy["seed"]) == (True, None)
    assert "repeats" not in err


def test_the_prompt_comes_from_standard_input_or_a_file(capsys, model, monkeypatch, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_bytes("Röm\n".encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes()), "ascii"))
    for source in (["--prompt", "-"], ["--prompt-file", str(path)]):
        assert run_json(capsys, model, *source, "--tokens", "1")[1]["prompt"] == "Röm\n"
    path.write_bytes(b"ab\xff")
    for name, message in (
        (path, "byte 2 is 0xff"),
        (tmp_path, "Is a directory"),
        (tmp_path / "no", "No such"),
    ):
        status, data, _ = run_json(capsys, model, "--prompt-file", str(name))
        assert (status, data["error"]["type"]) == (2, "UsageError")
        assert message in data["error"]["message"]
        assert str(name) in data["error"]["message"]


def test_a_chat_is_one_text_in_turns(capsys, model, monkeypatch):
    """Each answer is what NumPy gives after all turns before it; one that was cut is ended first."""
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo"))
    options = ["--tokens", "8", "--greedy", "--you", "A", "--model-as", "B", "--json"]
    assert main(["chat", model, *options]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    fed: list[int] = []
    for turn, text in zip(data["turns"], ("A:\none\n\nB:\n", "\n\nA:\ntwo\n\nB:\n"), strict=True):
        fed += text.encode()
        made = numpy_tokens(PROGRAM, fed, 8, Sampling(), 1)
        fed += made
        assert turn["answer"] == bytes(made).decode(errors="replace")
        assert turn["answer"] in err


def test_a_chat_is_repeated_by_its_seed(capsys, model, monkeypatch):
    """Also by 0; and who speaks has a name."""
    found = []
    for seed in ("0", "1", "0"):
        monkeypatch.setattr("sys.stdin", io.StringIO("one\n"))
        assert main(["chat", model, "--tokens", "30", "--seed", seed, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["turns"][0]["answer"])
    sampling = Sampling.from_temperature(0.8, PROGRAM.logit_scale_bits)
    made = bytes(numpy_tokens(PROGRAM, b"User:\none\n\nAssistant:\n", 30, sampling, 0))
    assert found[0] == found[2] == made.decode(errors="replace").partition("\n\n")[0] != found[1]
    for name in ("", "a:b", "a\nb"):
        assert main(["chat", model, "--you", name]) == 2
        assert "--you is" in capsys.readouterr().err


WHOLE = numpy_tokens(PROGRAM, b"abc", 60, Sampling(), 1)
LAST = next(i for i in range(5, 60) if WHOLE[i] not in WHOLE[:i])


@pytest.fixture
def ends(tmp_path):
    """A model whose text behind "abc" ends."""
    path = tmp_path / "ends.safetensors"
    save(ending(PROGRAM, WHOLE[LAST], bos=3), path)
    return str(path)


def test_a_text_ends_where_its_model_says_so(capsys, ends, model, tmp_path):
    said = ["--prompt", "abc", "--tokens", "60", "--greedy"]
    file = str(tmp_path / "s")
    status, data, err = run_json(capsys, ends, *said, "--check", "--save", file)
    assert (status, data["finish_reason"], data["tokens"]) == (0, "stop", WHOLE[: LAST + 1])
    assert data["text"] == bytes(WHOLE[:LAST]).decode(errors="replace")
    assert f"abc{data['text']}\n" in err and data["check"]["equal"]
    assert data["tokens_fed"] == 3 + LAST
    _, past, _ = run_json(capsys, ends, *said, "--check", "--ignore-eos")
    assert (past["tokens"], past["finish_reason"]) == (WHOLE, "length")
    assert past["text"] == bytes(WHOLE).decode(errors="replace")
    _, rest, _ = run_json(capsys, ends, "--resume", file, "--tokens", "3", "--greedy", "--ignore-eos")
    assert rest["tokens"] == WHOLE[LAST + 1 : LAST + 4]
    status, data, _ = run_json(capsys, model, *said, "--ignore-eos")
    assert (status, data["error"]["type"]) == (2, "UsageError")
    assert "--ignore-eos has no effect: no token of" in data["error"]["message"]


def test_a_prompt_gets_its_token_in_front(capsys, tmp_path):
    path = tmp_path / "bos.safetensors"
    save(ending(PROGRAM, bos=3, add_bos=True), path)
    options = ["--tokens", "6", "--greedy", "--check"]
    for prompt, fed in (("abc", [3, *b"abc"]), ("", [3])):
        status, data, _ = run_json(capsys, str(path), "--prompt", prompt, *options)
        assert (status, data["tokens"]) == (0, numpy_tokens(PROGRAM, fed, 6, Sampling(), 1))
    assert main(["inspect", str(path)]) == 0
    assert "begins a text: token 3, put in front of a prompt" in capsys.readouterr().out


def test_inspect_shows_the_tokens_that_begin_and_end_a_text(capsys, tmp_path):
    path = tmp_path / "ends.safetensors"
    program = ending(replace(PROGRAM, meta={"tokenizer": "bytes"}), 65, 10, bos=66)
    save(program, path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "begins a text: token 66 'B', not put in front of a prompt" in out
    assert "ends a text: token 10 '\\n', token 65 'A'" in out
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["special_tokens"]["eos"][1] == {"id": 65, "text": "A"}


def test_an_answer_of_a_chat_ends_where_its_model_says_so(capsys, monkeypatch, tmp_path):
    """What ends it is not said, and the next turn needs no empty line before it."""
    first = b"A:\none\n\nB:\n"
    whole = numpy_tokens(PROGRAM, first, 60, Sampling(), 1)
    last = next(i for i in range(5, 60) if whole[i] not in whole[:i])
    path = tmp_path / "ends.safetensors"
    save(ending(PROGRAM, whole[last]), path)
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    options = ["--tokens", "60", "--greedy", "--you", "A", "--model-as", "B", "--json"]
    assert main(["chat", str(path), *options]) == 0
    turns = json.loads(capsys.readouterr().out)["turns"]
    assert turns[0]["answer"] == bytes(whole[:last]).decode(errors="replace")
    fed = [*first, *whole[: last + 1], *b"A:\ntwo\n\nB:\n"]
    second = numpy_tokens(PROGRAM, fed, 60, Sampling(), 1)
    cut = second.index(whole[last]) if whole[last] in second else 60
    assert turns[1]["answer"] == bytes(second[:cut]).decode(errors="replace").partition("\n\n")[0]


class Lines:
    """Standard input: lines, or Ctrl-C while waiting for one."""

    def __init__(self, *lines: str | None) -> None:
        self.lines = list(lines)

    def readline(self) -> str:
        line = self.lines.pop(0) if self.lines else ""
        if line is None:
            raise KeyboardInterrupt
        return line


def press(monkeypatch, *after: int) -> None:
    """Let the user press Ctrl-C when the chat has been given its n-th token, for each n of ``after``."""
    real, given = Session.tokens, [0]

    def tokens(self, *arguments, **options):
        for token in real(self, *arguments, **options):
            given[0] += 1
            for _ in range(after.count(given[0])):
                os.kill(os.getpid(), signal.SIGINT)
            yield token

    monkeypatch.setattr(Session, "tokens", tokens)


CHAT = ["--tokens", "20", "--greedy", "--you", "A", "--model-as", "B", "--json"]


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(capsys, model, monkeypatch, tmp_path):
    """The answer is what was said, and the next turn follows it; what is saved is the whole of it."""
    press(monkeypatch, 4)
    monkeypatch.setattr("sys.stdin", Lines("one\n", "two\n"))
    file = tmp_path / "s"
    before = signal.getsignal(signal.SIGINT)
    assert main(["chat", model, *CHAT, "--save", str(file)]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    turns = json.loads(capsys.readouterr().out)["turns"]
    fed = list(b"A:\none\n\nB:\n")
    first = numpy_tokens(PROGRAM, fed, 4, Sampling(), 1)
    fed += [*first, *b"\n\nA:\ntwo\n\nB:\n"]
    second = numpy_tokens(PROGRAM, fed, 20, Sampling(), 1)
    assert [turn["interrupted"] for turn in turns] == [True, False]
    assert [turn["answer"] for turn in turns] == [
        bytes(made).decode(errors="replace") for made in (first, second)
    ]
    fed += [*second, *b"\n\n"]
    monkeypatch.undo()
    status, data, _ = run_json(capsys, model, "--resume", str(file), "--tokens", "5", "--greedy")
    assert (status, data["tokens"]) == (0, numpy_tokens(PROGRAM, fed, 5, Sampling(), 1))


@pytest.mark.parametrize("how", ["twice", "at the prompt", "end of input"])
def test_the_chat_ends_and_its_session_is_saved(capsys, model, monkeypatch, tmp_path, how):
    """By Ctrl-C twice in one answer, once while it waits for a line, or Ctrl-D; the next one resumes it."""
    file = tmp_path / "s"
    if how == "twice":
        press(monkeypatch, 4, 4)
    lines = {"twice": ["one\n", "never\n"], "at the prompt": ["one\n", None], "end of input": ["one\n"]}[how]
    monkeypatch.setattr("sys.stdin", Lines(*lines))
    assert main(["chat", model, *CHAT, "--save", str(file)]) == 0
    (turn,) = json.loads(capsys.readouterr().out)["turns"]
    fed = list(b"A:\none\n\nB:\n")
    made = numpy_tokens(PROGRAM, fed, 20, Sampling(), 1)
    said = bytes(made).decode(errors="replace")
    assert said.startswith(turn["answer"]) and turn["interrupted"] == (how == "twice")
    assert (turn["answer"] == said) == (how != "twice")
    monkeypatch.undo()
    monkeypatch.setattr("sys.stdin", Lines("two\n"))
    assert main(["chat", model, *CHAT, "--resume", str(file)]) == 0
    (again,) = json.loads(capsys.readouterr().out)["turns"]
    if how != "twice":
        fed += [*made, *b"\n\nA:\ntwo\n\nB:\n"]
        want = numpy_tokens(PROGRAM, fed, 20, Sampling(), 1)
        assert again["answer"] == bytes(want).decode(errors="replace")


def test_ctrl_c_of_a_terminal_leaves_the_simulated_board_alive(model, tmp_path):
    """A terminal sends it to all processes of the command: the chat goes on, on the same board."""
    words = ["chat", model, "--device", "sim", "--geometry", "tiny", *CHAT[2:], "--tokens", "100000"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-m", "ternac.cli", *words, "--save", str(tmp_path / "s")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        env=environment, start_new_session=True,
    ) as chat:  # fmt: skip
        assert chat.stdin and chat.stderr and chat.stdout
        said = b""

        def read() -> bytes:
            ready = select.select([chat.stderr], [], [], 60)[0]
            got = os.read(chat.stderr.fileno(), 4096) if ready else b""
            if not got:
                chat.kill()
                pytest.fail(f"nothing comes behind {said!r}")
            return got

        def until(mark: bytes) -> None:
            nonlocal said
            while mark not in said:
                said += read()
            said = said.partition(mark)[2]

        chat.stdin.write(b"one\n")
        for _ in range(2):
            until(b"B: ")
            while len(said) < 8:
                said += read()
            os.killpg(chat.pid, signal.SIGINT)
            until(b"A: ")
            chat.stdin.write(b"two\n")
        until(b"B: ")
        os.killpg(chat.pid, signal.SIGINT)
        chat.stdin.close()
        while read_all := os.read(
            chat.stderr.fileno(), 4096
        ):  # a chat that talks on must not wait for a reader
            said += read_all
            if len(said) > 1 << 20:
                chat.kill()
                pytest.fail("the chat did not stop")
        data = json.loads(chat.stdout.read())
    assert (chat.returncode, data["device"]) == (0, "sim")
    assert [turn["interrupted"] for turn in data["turns"]] == [True] * 3
    with Device.open("numpy", PROGRAM) as device, device.session() as session:
        answer = data["turns"][0]["answer"]
        made = session.tokens(b"A:\none\n\nB:\n", 4 * len(answer), Sampling())
        assert bytes(made).decode(errors="replace").startswith(answer)
        session.load(tmp_path / "s")


def test_a_chat_that_cannot_be_saved_says_so_before_it_begins(capsys, model, tmp_path):
    assert main(["chat", model, "--save", str(tmp_path / "no" / "s")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_the_list_names_what_verbs_take(capsys):
    assert main(["list", "--json"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert [one["name"] for one in data["models"]] == names()
    assert [one["name"] for one in data["executors"]] == list(EXECUTORS)
    assert data["executors"][0]["missing"] == ""
    for kind in ("boards", "geometries"):
        assert all(one["name"] in err for one in data[kind])


def test_text_on_standard_output(capsys, model):
    assert main(["run", model, "--prompt", "abc", "--tokens", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("abc")
    assert "tokens/s: NumPy on this host" in out


@pytest.mark.parametrize("sampling", [[], ["--temperature", "0.9", "--top-k", "20", "--seed", "7"]])
def test_board_with_check(capsys, model, board, sampling):
    options = ["--device", "serial:fake", "--geometry", "tiny", "--tokens", "40", "--check"]
    status, data, _ = run_json(capsys, model, *options, *sampling)
    assert status == 0
    assert data["check"] == {"tokens": 40, "equal": True, "first_difference": None}
    assert data["cycles_per_token"] == 1000
    assert data["bitstream_id"] == board.identity.bitstream_id.hex()
    assert data["origin"].startswith("measured on board")


def test_simulated_board_says_simulation(capsys, model, board):
    status, data, _ = run_json(capsys, model, "--device", "sim", "--geometry", "tiny", "--tokens", "4")
    assert status == 0
    per_token = "1,000 cycles/token (mean of 4 that chose a token and 5 only fed)"
    assert data["origin"].startswith(f"cycle-exact simulation: {per_token}, no routed clock for tiny")
    assert (data["tokens_chosen"], data["tokens_run"]) == (4, 9)
    assert data["tokens_per_second"] is None


def test_check_finds_a_wrong_bit(capsys, model, board):
    """One flipped trit in the board's weights: the check fails, and says where."""
    assert run_json(capsys, model, "--device", "sim", "--geometry", "tiny", "--tokens", "1")[0] == 0
    for (block, address), word in np.ndenumerate(board.engine.memories[Mem.WEIGHT]):
        board.engine.write(Mem.WEIGHT, block, address, int(word) ^ 1)
    options = ["--device", "sim", "--geometry", "tiny", "--tokens", "30", "--check"]
    status, data, err = run_json(capsys, model, *options)
    assert status == 1
    assert data["check"]["equal"] is False
    assert f"token {data['check']['first_difference']} is" in err


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--prompt", ""], "UsageError"),
        (["--prompt", "a", "--prompt-file", "b"], "UsageError"),
        (["--greedy", "--temperature", "1"], "UsageError"),
        (["--greedy", "--seed", "1"], "UsageError"),
        (["--device", "replay:x"], "UsageError"),
        (["--tokens", "-1"], "UsageError"),
        (["--temperature", "-1"], "UsageError"),
        (["--device", "abacus"], "UnknownExecutor"),
        (["--device", "/dev/null/nothing"], "NoAnswer"),
        (["--device", "sim", "--board", "atari"], "UsageError"),
        (["--device", "sim", "--geometry", "tiny", "--bitstream", "22" * 16], "WrongBitstream"),
        (["--device", "sim", "--board", "icebreaker"], "WrongGeometry"),
        (["--device", "sim", "--board", "tiny"], "UsageError"),
        (["--executor", "native"], "UsageError"),
        (["--waves", "x.vcd"], "UsageError"),
    ],
)
def test_errors_are_typed(capsys, model, monkeypatch, arguments, kind):
    line = device_module.open_line
    board = make_board(image_of(PROGRAM))
    monkeypatch.setattr(
        device_module, "open_line", lambda k, *rest: Line(board) if k.kind == "sim" else line(k, *rest)
    )
    status, data, _ = run_json(capsys, model, *arguments)
    assert status == 2
    assert data["error"]["type"] == kind


def test_help_shows_an_example(capsys):
    assert main(["run", "--help"]) == 0
    assert VERB.example in capsys.readouterr().out


def test_a_model_with_a_tokenizer(capsys, tmp_path):
    """Prompt and text go through the tokenizer in the file, on a session too; bytes are refused there."""
    json = train_bpe(TEXT.read_bytes()[:20_000], 96)
    program = random_program(np.random.default_rng(3), d=16, m=24, layers=1, vocab=96)
    program = replace(program, meta={"tokenizer": "huggingface"}, tokenizer=json)
    save(program, tmp_path / "m.safetensors")
    sampled = ["--temperature", "3", "--seed", "5", "--tokens", "80"]
    status, data, err = run_json(
        capsys, str(tmp_path / "m.safetensors"), "--prompt", "First Citizen", *sampled
    )
    reader = tokenizer_of(program)
    prompt = reader.encode(b"First Citizen").ids.tolist()
    assert (status, data["tokenizer"]) == (0, "huggingface")
    assert "First Citizen" + data["text"] == reader.decode(prompt + data["tokens"])
    assert data["text"] in err
    with Device.open("numpy", program) as device:
        with device.session(5) as session:
            assert "".join(session.generate("First Citizen", 80, 3.0)) == data["text"]
            with pytest.raises(UsageError, match="are not bytes"):
                session.generate(b"First")
        with pytest.raises(UsageError, match="are not bytes"):
            device.generate_together([b"First"])


def test_a_session_goes_on_from_a_file(capsys, model, board, tmp_path):
    """Begun on NumPy, gone on with on the board, over the same file, then on NumPy: one text."""
    file = str(tmp_path / "text.session")
    drawn = ["--temperature", "0.9", "--seed", "7"]
    whole = run_json(capsys, model, "--prompt", "abc", "--tokens", "30", *drawn)[1]
    drawn = drawn[:2]
    found = []
    for device, options in (
        ("numpy", ["--prompt", "abc", "--seed", "7"]),
        ("serial:fake", ["--resume", file, "--check"]),
        ("numpy", ["--resume", file, "--check"]),
    ):
        place = ["--device", device, *([] if device == "numpy" else ["--geometry", "tiny"])]
        status, data, _ = run_json(capsys, model, *place, "--tokens", "10", *drawn, *options, "--save", file)
        assert status == 0
        assert data["saved"] == file
        found += data["tokens"]
        assert data["tokens_fed"] == 3 + len(found) - 1
    assert found == whole["tokens"]
    status, data, _ = run_json(capsys, model, "--resume", file, "--seed", "8", "--prompt", "x", *drawn)
    assert status == 0
    assert data["tokens_fed"] == 3 + 30 + 200


def test_files_that_cannot_be_used(capsys, model, tmp_path):
    bad = tmp_path / "text.session"
    bad.write_bytes(b"nothing of ours")
    for options, kind in (
        (["--resume", str(bad)], "SnapshotError"),
        (["--resume", str(tmp_path / "none")], "UsageError"),
        (["--save", str(tmp_path / "none" / "x")], "UsageError"),
    ):
        status, data, _ = run_json(capsys, model, "--tokens", "1", *options)
        assert (status, data["error"]["type"]) == (2, kind)
