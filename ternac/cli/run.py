"""``ternac run``: text from a model, on any executor, as it comes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ternac.cli.verb import Outcome, Say, Verb, add_model_argument
from ternac.errors import UsageError
from ternac.host.device import Device
from ternac.host.executors import DEFAULT_BOARD, describe
from ternac.host.session import Session
from ternac.run.sampling import Sampling, seed_state
from ternac.text.tokenizer import TextStream, tokenizer_of

PROMPT = "ROMEO:"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument(
        "--device", "--executor", default="numpy", metavar="WHERE",
        help=f"{describe()} (default: numpy)",
    )  # fmt: skip
    parser.add_argument(
        "--board", "--geometry", default=DEFAULT_BOARD, metavar="NAME",
        help="board or geometry, for sim and serial: ulx3s-85f, ulx3s-85f-sdram, icebreaker, tiny (default: "
        f"{DEFAULT_BOARD})",
    )  # fmt: skip
    parser.add_argument(
        "--prompt", metavar="TEXT", help=f"default: {PROMPT!r}; with --resume none, the text goes on"
    )
    parser.add_argument(
        "--tokens", type=int, default=200, metavar="N", help="tokens to generate (default: 200)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token (default)"
    )
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="draw among the K likeliest; 0: all"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="of the drawing (default: 1; with --resume: go on as it was)"
    )
    parser.add_argument(
        "--resume", metavar="FILE", help="go on with a session that --save wrote, here or elsewhere"
    )
    parser.add_argument("--save", metavar="FILE", help="write the session to a file at the end")
    parser.add_argument("--check", action="store_true", help="compare with NumPy token for token")
    parser.add_argument("--bitstream", metavar="ID", help="insist on this bitstream ID")
    parser.add_argument("--record", metavar="FILE", help="write the traffic, for --device replay:FILE")
    parser.add_argument("--waves", metavar="FILE", help="with sim: write signals to a .vcd or .fst file")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    given = args.prompt if args.prompt is not None else "" if args.resume else PROMPT
    if not given and not args.resume:
        raise UsageError("the prompt is empty", "give at least one character")
    if args.tokens < 0:
        raise UsageError(f"--tokens is {args.tokens}, needs at least 0")
    if args.save and not Path(args.save).resolve().parent.is_dir():
        raise UsageError(f"--save {args.save}: there is no such folder", "make it first")
    options: dict[str, Any] = {"board": args.board, "bitstream": args.bitstream, "record": args.record}
    with Device.open(args.device, args.model, waves=args.waves, **options) as device:
        program = device.program
        sampling = Sampling.from_temperature(args.temperature, program.logit_scale_bits, args.top_k)
        tokenizer = tokenizer_of(program, assume_bytes=True)
        prompt = tokenizer.encode(given.encode()).ids.tolist()
        with _session(device, args) as session:
            say(given, end="")
            start = session.snapshot()
            before = [] if session.pending is None else [session.pending]
            stream = tokenizer.stream(before + prompt)
            tokens, text = _stream(session.tokens(prompt, args.tokens, sampling), stream, say)
            fed = session.fed
            if args.save:
                session.save(args.save)
        say()
        speed = device.speed()
        say(f"\n[{speed}]")
        data: dict[str, Any] = {
            "model": program.name,
            "program_hash": program.hash,
            "device": args.device,
            "executor": device.kind,
            "board": device.board_name or None,
            "prompt": given,
            "text": text,
            "tokenizer": tokenizer.name,
            "tokens": tokens,
            "tokens_fed": fed,
            "resumed": args.resume,
            "saved": args.save,
            "tokens_per_second": speed.tokens_per_second,
            "origin": speed.origin,
            **speed.data,
        }
        if device.identity is not None:
            data["bitstream_id"] = device.identity.bitstream_id.hex()
        ok = True
        if args.check:
            ok = _check(device, start, prompt, tokens, sampling, data, say)
        return Outcome(data, ok)


def _session(device: Device, args: argparse.Namespace) -> Session:
    """A new session, or the one of --resume; with --seed its generator starts anew."""
    session = device.session(1 if args.seed is None else args.seed)
    if args.resume:
        session.load(args.resume)
        if args.seed is not None:
            session.rng = seed_state(args.seed)
    return session


def _stream(generated: Iterator[int], stream: TextStream, say: Say) -> tuple[list[int], str]:
    """Print text as its characters become whole: the tokens, and their text."""
    tokens, texts = [], []
    for token in generated:
        tokens.append(token)
        texts.append(stream.feed(token))
        if texts[-1]:
            say(texts[-1], end="")
    texts.append(stream.finish())
    say(texts[-1], end="")
    return tokens, "".join(texts)


def _check(
    device: Device,
    start: bytes,
    prompt: list[int],
    tokens: list[int],
    sampling: Sampling,
    data: dict[str, Any],
    say: Say,
) -> bool:
    """Whether NumPy generates the same tokens from the same start; says the first difference."""
    with Device.open("numpy", device.program) as numpy, numpy.session() as session:
        session.restore(start)
        want = list(session.tokens(prompt, len(tokens), sampling))
    first = next((i for i, (a, b) in enumerate(zip(tokens, want, strict=True)) if a != b), None)
    data["check"] = {"tokens": len(tokens), "equal": first is None, "first_difference": first}
    if first is None:
        say(f"[check: all {len(tokens)} tokens equal NumPy's]")
        return True
    say(f"[check FAILED: token {first} is {tokens[first]}, NumPy has {want[first]}]")
    return False


VERBS = {
    "run": Verb(
        help="generate text on an executor or a board",
        example='ternac run --device sim --board ulx3s-85f --prompt "ROMEO:" --tokens 100 --check',
        add_arguments=_arguments,
        run=_run,
    )
}
