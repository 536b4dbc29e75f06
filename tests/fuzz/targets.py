"""What is fuzzed: readers of everything that comes from elsewhere.

A target gets bytes. It returns, or raises an error of `ternac.errors`: anything else is a finding, as are a
crash and a time beyond `SECONDS`. Digests and checksums are put right after most mutations, or nothing but
them would be tested.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ternac.errors import TernacError
from tests.fuzz.mutate import dumped, mutated, mutated_json

SECONDS = 60.0
"""No input of the size of ours takes a hundredth of it on an idle machine."""
Mutate = Callable[[random.Random, bytes, list[bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """``run`` must return or raise TernacError on any bytes; ``seeds`` are whole inputs."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    mutate: Mutate = mutated
    words: tuple[bytes, ...] = field(default=())


def scratch() -> Path:
    """A folder of this process, for readers that want files."""
    return _scratch()


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="ternac-fuzz-"))


def written(name: str, data: bytes) -> Path:
    path = scratch() / name
    path.write_bytes(data)
    return path


# ---- programs ---


@cache
def programs() -> tuple[Any, ...]:
    from ternac.program.random import random_mmfree, random_program
    from ternac.program.random_memory import random_memory_program

    made = [random_program(np.random.default_rng(1), d=8, m=8, layers=1, vocab=16)]
    made.append(random_mmfree(np.random.default_rng(2)))
    made.append(random_memory_program(np.random.default_rng(3)))
    return tuple(made)


def program_seeds() -> list[bytes]:
    from ternac.program.file import dumps

    return [dumps(program) for program in programs()]


def mutate_program(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change the description, the header or bytes; the digest is right again."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
        about = header["__metadata__"]
        kind = rng.randrange(4)
        if kind == 0:
            return mutated(rng, data, others)
        body = data[8 + size :]
        if kind == 1:
            header = mutated_json(rng, header)
        elif kind == 2:
            about["program"] = dumped(mutated_json(rng, json.loads(about["program"])))
        else:
            body = mutated(rng, body, others)
        about = header["__metadata__"]
        about["sha256"] = "0" * 64
    except (ValueError, KeyError, TypeError, UnicodeError, RecursionError):
        return mutated(rng, data, others)
    if not isinstance(about, dict):
        return mutated(rng, data, others)

    def whole() -> bytes:
        text = dumped(header).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + body

    about["sha256"] = hashlib.sha256(whole()).hexdigest()
    return whole()


def run_program(data: bytes) -> None:
    from ternac.program.file import dumps, loads
    from ternac.run.numpy_executor import NumpyExecutor

    program = loads(data)
    assert dumps(program) == data, "another encoding of the same program was accepted"
    executor = NumpyExecutor(program)
    executor.step(executor.open(), [0])


def snapshot_seeds() -> list[bytes]:
    from ternac.run.snapshot import Snapshot

    found = []
    for program in programs():
        state = np.arange(program.state_words, dtype=np.int16)
        found.append(Snapshot(state, 7, 3, 9).to_bytes(program))
    return found


def mutate_snapshot(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    found = mutated(rng, data[:-4], others)
    return found + (zlib.crc32(found).to_bytes(4, "little") if rng.randrange(4) else b"")


def run_snapshot(data: bytes) -> None:
    from ternac.run.snapshot import Snapshot

    for program in programs():
        try:
            found = Snapshot.from_bytes(data, program)
        except TernacError:
            continue
        assert found.to_bytes(program) == data, "another encoding of the same session was accepted"


# ---- archives ---


@cache
def _coder() -> Any:
    from tests.host.archives import plain_coder

    return plain_coder()


def archive_seeds() -> list[bytes]:
    from tests.host.archives import archive_of

    texts = (b"", b"a", b"a text of two lines\nand \xff\xfe more\n", bytes(90))
    return [archive_of(text, _coder(), 40) for text in texts]


def mutate_archive(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change a part under one checksum, which is right again, or any bytes."""
    from ternac.run.archive import Reader

    source = io.BytesIO(data)
    edges = [0]
    try:
        reader = Reader(source)
        edges.append(reader.at)
        edges.extend(reader.at for _ in reader.blocks())
    except TernacError:
        return mutated(rng, data, others)
    edges.append(len(data))
    if rng.randrange(4) == 0:
        return mutated(rng, data, others)
    at = rng.randrange(len(edges) - 1)
    part = mutated(rng, data[edges[at] : edges[at + 1] - 4], others)
    return data[: edges[at]] + part + zlib.crc32(part).to_bytes(4, "little") + data[edges[at + 1] :]


def run_archive(data: bytes) -> None:
    """Read by the index, then from the beginning, which checks more: what both read is the same."""
    from tests.host.archives import range_of, text_of

    part = range_of(data, _coder(), 0, None)
    assert text_of(data, _coder()) == part, "an index leads to another text"


# ---- models of others ---


def gguf_seeds() -> list[bytes]:
    from gguf import GGUFWriter

    from ternac.model.export.gguf import write

    found = []
    for program in programs()[:2]:
        path = scratch() / "seed.gguf"
        write(program, path, "TQ2_0")
        found.append(path.read_bytes())
    writer = GGUFWriter(scratch() / "seed.gguf", "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_bos_token_id(1)
    writer.add_tensor("model.layers.0.attn.i_proj.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [*found, (scratch() / "seed.gguf").read_bytes()]


def run_gguf(data: bytes) -> None:
    from ternac.model.export.gguf import HEADER, open_gguf, read, text_field
    from ternac.model.imports.gguf_source import open_source
    from ternac.model.imports.special import of_gguf

    path = written("m.gguf", data)
    reader = open_gguf(path)
    if text_field(reader, HEADER) is not None:
        read(reader, path)
        return
    of_gguf(reader, path, 100, b"")
    config, source = open_source(reader, path)
    for name in source.shapes:
        source.floats(name)
    config.tensors()


def json_mutation(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    if rng.randrange(3) == 0:
        return mutated(rng, data, others)
    try:
        return dumped(mutated_json(rng, json.loads(data))).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return mutated(rng, data, others)


def tokenizer_seeds() -> list[bytes]:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    from ternac.text.training import train_bpe

    small = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2, "<s>": 3}, merges=[("a", "b")]))
    small.normalizer = normalizers.Sequence([normalizers.Replace("c", "ab"), normalizers.Prepend("a")])
    small.pre_tokenizer = pre_tokenizers.Split(Regex("a+|b"), "isolated")
    small.decoder = decoders.Sequence([decoders.Replace("b", "a"), decoders.Fuse()])
    small.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 3)])
    small.add_special_tokens(["<s>"])
    words = Tokenizer(models.WordPiece(vocab={"a": 0, "##b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    uni = Tokenizer(
        models.Unigram([("a", -1.0), ("b", -2.0), ("\u2581", -3.0)], unk_id=0, byte_fallback=False)
    )
    uni.pre_tokenizer, uni.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    own = train_bpe(b"the quick brown fox " * 9, 30)
    return [*(made.to_str().encode() for made in (small, words, uni)), own]


def run_tokenizer(data: bytes) -> None:
    from ternac.text.tokenizer import HuggingFaceTokenizer

    made = HuggingFaceTokenizer(data)
    made.front()
    ids = made.encode("ab cab \u00e9\ufdfa aaab".encode()).ids.tolist()
    made.decode(ids)
    stream = made.stream()
    for token in ids[:20]:
        stream.feed(token)
    stream.finish()


def folder_seeds() -> list[bytes]:
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 16}
    files = {
        "config.json": {"model_type": "hgrn_bit", **sizes, "bos_token_id": 1, "eos_token_id": [2]},
        "generation_config.json": {"eos_token_id": 2},
        "tokenizer_config.json": {"bos_token": "<s>", "added_tokens_decoder": {"1": {"content": "<s>"}}},
        "model.safetensors.index.json": {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}},
    }
    return [json.dumps({name: json.dumps(content) for name, content in files.items()}).encode()]


def mutate_folder(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change one of its files."""
    files = json.loads(data)
    name = rng.choice(sorted(files))
    text = json_mutation(rng, files[name].encode("utf-8", "surrogateescape"), others)
    files[name] = text.decode("utf-8", "surrogateescape")
    return json.dumps(files).encode()


def run_folder(data: bytes) -> None:
    from ternac.model.imports.mmfreelm_config import read_config
    from ternac.model.imports.source import SafetensorsFolder
    from ternac.model.imports.special import of_folder

    try:
        files = json.loads(data)
        contents = {
            name: files[name].encode("utf-8", "surrogateescape") for name in json.loads(folder_seeds()[0])
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # not one of ours
    folder = scratch() / "checkpoint"
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for read in (read_config, lambda at: of_folder(at, 32, b""), SafetensorsFolder):
        try:
            read(folder)
        except TernacError:
            continue


def checkpoint_seeds() -> list[bytes]:
    import torch

    from ternac.model.net.config import ModelConfig, TrainConfig, to_dict
    from ternac.model.net.network import TernaryLM
    from ternac.model.training.checkpoint import Checkpoint, save

    config = ModelConfig(vocab=8, d=8, m=8, layers=1)
    tensors = {f"model.{name}": value for name, value in TernaryLM(config).state_dict().items()}
    text = {"text_sha256": "0" * 64, "text": {"path": "x", "bytes": 3}, "step": 2, "tokenizer": ""}
    info = {"config": to_dict(config, TrainConfig()), **text}
    save(scratch() / "seed.safetensors", Checkpoint(tensors | {"rng": torch.get_rng_state()}, info))
    return [(scratch() / "seed.safetensors").read_bytes()]


def mutate_checkpoint(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
        inner = json.loads(header["__metadata__"]["ternac"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return mutated(rng, data, others)
    kind = rng.randrange(4)
    if kind == 0:
        return mutated(rng, data, others)
    if kind == 1:
        header = mutated_json(rng, header)
    else:
        header["__metadata__"]["ternac"] = dumped(mutated_json(rng, inner))
    text = dumped(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def run_checkpoint(data: bytes) -> None:
    from ternac.model.training import checkpoint
    from ternac.model.training.run_folder import LATEST, TextRecord, progress_of, read_info

    path = written(LATEST, data)
    TextRecord.of(read_info(path))
    progress_of(scratch())
    saved = checkpoint.load(path)
    checkpoint.tokenizer_of(saved)
    checkpoint.model_of(saved)


# ---- configurations, recordings, the line ---


def geometry_seeds() -> list[bytes]:
    from dataclasses import asdict

    from ternac.compile.geometry import PRESETS

    tiny = asdict(PRESETS["tiny"])
    return [json.dumps(tiny).encode(), json.dumps({"front": [{"name": "tiny", "geometry": tiny}]}).encode()]


def run_geometry(data: bytes) -> None:
    from ternac.compile.geometry import read_geometry
    from ternac.files import read_json

    path = written("geometry.json", data)
    for read in (read_json, lambda at: read_geometry(str(at))):
        try:
            read(path)
        except TernacError:
            continue


def replay_seeds() -> list[bytes]:
    from ternac.link import Command, Frame

    hello = Frame(Command.HELLO, 0).wire().hex()
    return [f'["w", "{hello}"]\n["r", "c0c0"]\n["r", "{hello}"]\n'.encode()]


def run_replay(data: bytes) -> None:
    from ternac.host.board.client import LinkClient, Patience
    from ternac.host.board.transport import ReplayTransport

    line = ReplayTransport(written("recording", data))
    LinkClient(line, Patience(base=0.01, step=0.0, retries=1)).hello()


def frame_seeds() -> list[bytes]:
    from ternac.link import Choice, Command, Frame, ReadRequest, RunRequest

    greedy = Choice(True, 1, 0, 0)
    bodies = {
        Command.HELLO: b"",
        Command.READ: ReadRequest(4, 0, 0).encode(),
        Command.WRITE: struct.pack("<BBH", 0, 0, 0) + bytes(8),
        Command.RUN: RunRequest(0, [1, 2], 3, greedy).encode(),
        Command.COMMIT: bytes(range(16)),
    }
    frames = [Frame(command, number, body).wire() for number, (command, body) in enumerate(bodies.items())]
    answers = [_board().feed(b"".join(frames[:count])) for count in (1, 2, 4)]
    return [*(b"".join(frames[:count]) for count in range(1, 1 + len(frames))), *answers]


def _board() -> Any:
    """A board in Python that holds a program."""
    from ternac.compile.geometry import PRESETS
    from ternac.link import Identity
    from ternac.sim.link_model import LinkModel
    from ternac.sim.stub_core import StubModel

    class Engine(StubModel):
        def step(self, token: int, base: int, emit: bool, sampling: Any, rng: int, entry: int = 0) -> Any:
            return (*super().step(token, base, emit, rng), 5)

    identity = Identity(bytes(16), PRESETS["tiny"].hash, 1, bytes(range(1, 17)))
    return LinkModel(identity, (2,) * 16, Engine())


def mutate_frames(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change the payload of a frame, whose CRC is right again, or bytes on the line."""
    from ternac.link import SEQUENCE, Frame, SlipDecoder

    frames = [Frame.decode(raw) for raw in SlipDecoder().feed(data)]
    good = [frame for frame in frames if frame is not None]
    if not good or rng.randrange(3) == 0:
        return mutated(rng, data, others)
    found = []
    for frame in good:
        if rng.randrange(2):
            frame = Frame(
                frame.kind ^ rng.choice((0, 0, 1, 0x80)),
                (frame.seq + rng.choice((0, 0, 0, 1, -1, 256))) % SEQUENCE,
                mutated(rng, frame.payload, []),
            )
        found.append(frame.wire())
    return b"".join(found)


def run_frames(data: bytes) -> None:
    """The bytes as requests to a board, and as answers to the host."""
    from ternac.host.board.client import LinkClient, Patience
    from ternac.run.generation import Run

    class Line:
        name, byte_seconds = "a line", 0.0

        def __init__(self) -> None:
            self.left = data

        def write(self, data: bytes) -> None:
            pass

        def read(self, timeout: float) -> bytes:
            found, self.left = self.left[:50], self.left[50:]
            return found

        def close(self) -> None:
            pass

    _board().feed(data)
    for ask in (
        lambda client: client.hello(),
        lambda client: client.read(0, 0, 4),
        lambda client: client.run(0, Run([1, 2], 3)),
    ):
        try:
            ask(LinkClient(Line(), Patience(base=0.001, step=0.0, retries=1), opening=lambda last: 0))
        except TernacError:
            continue


# ---- the server ---


def http_seeds() -> list[bytes]:
    def post(path: str, body: Any) -> bytes:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data

    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True, "seed": 1}
    return [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"PUT /v1/sessions/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        post(
            "/v1/completions", {"prompt": ["a", "b"], "max_tokens": 2, "logprobs": 2, "logit_bias": {"3": 1}}
        ),
        post("/v1/chat/completions", chat),
        post("/tokenize", {"prompt": "a"}),
        post("/detokenize", {"tokens": [1, 2]}),
    ]


def mutate_http(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change the JSON of a request, whose length is right again, or any bytes."""
    head, _, body = data.partition(b"\r\n\r\n")
    if rng.randrange(3) == 0 or not body:
        return mutated(rng, data, others)
    body = json_mutation(rng, body, [])
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join((*lines, b"Content-Length: %d" % len(body), b"", body))


@cache
def _server() -> Any:
    from ternac.host.server.limits import Limits
    from tests.host.server.http_server import running

    program = __import__("tests.host.boards", fromlist=["small_program"]).small_program()
    context = running(program, limits=Limits(head_seconds=1, tokens=64, seconds=5))
    return context, context.__enter__()


def run_http(data: bytes) -> None:
    import socket

    _, server = _server()

    def ask(sent: bytes) -> bytes:
        found = b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS / 2) as link:
            link.sendall(sent)
            link.shutdown(socket.SHUT_WR)
            while part := link.recv(1 << 16):
                found += part
        return found

    try:
        found = ask(data)
    except TimeoutError:
        raise
    except OSError:  # the server ended the connection, maybe before all was sent
        found = b""
    assert not found.startswith(b"HTTP/1.1 5") or b"server_error" not in found, found[:2000].decode("latin-1")
    assert ask(http_seeds()[0]).startswith(b"HTTP/1.1 200"), "the server does not answer any more"


TARGETS = {
    target.name: target
    for target in (
        Target("program", run_program, program_seeds, mutate_program),
        Target("snapshot", run_snapshot, snapshot_seeds, mutate_snapshot),
        Target("archive", run_archive, archive_seeds, mutate_archive),
        Target("checkpoint", run_checkpoint, checkpoint_seeds, mutate_checkpoint),
        Target("gguf", run_gguf, gguf_seeds),
        Target("tokenizer", run_tokenizer, tokenizer_seeds, json_mutation),
        Target("folder", run_folder, folder_seeds, mutate_folder),
        Target("geometry", run_geometry, geometry_seeds, json_mutation),
        Target("replay", run_replay, replay_seeds),
        Target("frames", run_frames, frame_seeds, mutate_frames),
        Target("http", run_http, http_seeds, mutate_http),
    )
}
