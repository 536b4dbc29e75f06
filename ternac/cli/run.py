"""``ternac run``: text from a model, on any executor or board, token by token."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import (
    add_board,
    add_device,
    add_geometry,
    add_model,
    add_seed,
    default_engine,
    number,
    open_model,
    refuse_unused,
    unused_on,
)
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.host.device import Device
    from ternac.host.session import Session
    from ternac.run.sampling import Sampling
    from ternac.text.tokenizer import TextStream

PROMPT = "ROMEO:"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_device(parser, "numpy", default="numpy")
    add_board(parser, "board of sim and serial")
    add_geometry(parser)
    parser.add_argument(
        "--prompt", metavar="TEXT", help=f"text to continue (default: {PROMPT!r}; with --resume none)"
    )
    number(parser, "--tokens", "tokens to generate", default=200, least=0)
    number(parser, "--temperature", "0 takes the likeliest token", default=0, kind=float, metavar="T")
    number(parser, "--top-k", "draw among the K likeliest; 0: all", default=0, metavar="K")
    add_seed(parser, "seed of the draws (default: 1; with --resume the saved generator)", default=None)
    parser.add_argument(
        "--resume", metavar="FILE", help="continue a session that --save wrote, here or elsewhere"
    )
    parser.add_argument("--save", metavar="FILE", help="write the session to a file at the end")
    parser.add_argument("--check", action="store_true", help="compare with NumPy token for token")
    parser.add_argument("--bitstream", metavar="ID", help="refuse a board with another bitstream ID")
    parser.add_argument("--record", metavar="FILE", help="write the traffic, for --device replay:FILE")
    parser.add_argument("--waves", metavar="FILE", help="with sim: write signals to a .vcd or .fst file")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.device import Device
    from ternac.run.sampling import Sampling
    from ternac.text.tokenizer import tokenizer_of

    given = args.prompt if args.prompt is not None else "" if args.resume else PROMPT
    if not given and not args.resume:
        raise UsageError("the prompt is empty", "give at least one character")
    refuse_unused(args, f"--device {args.device}", unused_on([args.device], named=args.model is not None))
    if args.temperature == 0:
        works = "--temperature T above 0"
        seed = {} if args.save else {"--seed": f"{works}, or --save"}
        refuse_unused(args, "--temperature 0", {"--top-k": works, **seed})
    if args.save and not Path(args.save).resolve().parent.is_dir():
        raise UsageError(f"--save {args.save}: there is no such folder", "make it first")
    model = open_model(args.model, default_engine(args, [args.device]), say)
    with Device.open(
        args.device,
        model,
        board=args.board,
        geometry=args.geometry,
        bitstream=args.bitstream,
        record=args.record,
        waves=args.waves,
    ) as device:
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
    """Open a new session, or that of --resume; --seed resets its generator."""
    session = device.session(1 if args.seed is None else args.seed)
    if args.resume:
        session.load(args.resume)
        if args.seed is not None:
            session.reseed(args.seed)
    return session


def _stream(generated: Iterator[int], stream: TextStream, say: Say) -> tuple[list[int], str]:
    """Print text as soon as its characters are complete. Returns the tokens and their text."""
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
    """Return True if NumPy generates the same tokens from the same start; print the first difference."""
    from ternac.host.device import Device

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


VERB = Verb(
    help="Generate text on an executor or a board.",
    example='ternac run --device sim --board ulx3s-85f --prompt "ROMEO:" --tokens 100 --check',
    add_arguments=_arguments,
    run=_run,
    renamed={"--executor": "--device"},
)
