"""``ternac run``: text from a model, on any executor or board, token by token."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import (
    add_board,
    add_device,
    add_geometry,
    add_ignore_eos,
    add_loops,
    add_model,
    add_sampling,
    check_ignore_eos,
    check_sampling,
    default_engine,
    number,
    open_model,
    refuse_unused,
    sampling_of,
    seed_of,
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
    add_board(parser, "board of sim and serial", simulated=True)
    add_geometry(parser)
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument(
        "--prompt",
        metavar="TEXT",
        help=f"text to continue; -: standard input (default: {PROMPT!r}; with --resume none)",
    )
    prompt.add_argument("--prompt-file", metavar="FILE", help="text to continue, from a file of UTF-8")
    number(parser, "--tokens", "tokens to generate", default=200, least=0)
    add_sampling(parser)
    add_ignore_eos(parser)
    add_loops(parser)
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
    from ternac.host.executors import parse_executor
    from ternac.program.loops import check_loops
    from ternac.text.tokenizer import encode_prompt, tokenizer_of

    given = _prompt(args)
    refuse_unused(args, f"--device {args.device}", unused_on([args.device], named=args.model is not None))
    check_sampling(args)
    drawn = not (args.greedy or args.temperature == 0 or args.resume)
    if parse_executor(args.device).kind == "replay" and drawn and args.seed is None:
        text = "a recording is replayed with the seed that it was made with"
        raise UsageError(text, "give --seed, which run --record printed")
    if args.save and not Path(args.save).resolve().parent.is_dir():
        raise UsageError(f"--save {args.save}: there is no such folder", "make it first")
    model = open_model(args.model, default_engine(args, [args.device]), say)
    check_ignore_eos(args, model.program)
    check_loops(model.program, args.loops)
    if not given and not args.resume and not model.program.special.add_bos:
        raise UsageError("the prompt is empty", "give at least one character")
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
        sampling = sampling_of(args, program)
        # A session goes on with its own generator; what is not drawn has no seed.
        seed = None if sampling.greedy or (args.resume and args.seed is None) else seed_of(args)
        tokenizer = tokenizer_of(program, assume_bytes=True)
        with open_session(device, args.resume, seed) as session:
            prompt = encode_prompt(program, tokenizer, given.encode(), begins=session.new)
            say(given, end="")
            start = session.snapshot()
            before = [] if session.pending is None else [session.pending]
            stream = tokenizer.stream(before + prompt)
            chosen = session.tokens(
                prompt, args.tokens, sampling, ignore_eos=args.ignore_eos, loops=args.loops
            )
            tokens, text = _stream(chosen, stream, () if args.ignore_eos else program.special.eos, say)
            fed, ended = session.fed, bool(tokens) and session.ended and not args.ignore_eos
            if args.save:
                session.save(args.save)
        say()
        speed = device.speed()
        say(f"\n[{speed}]")
        if seed is not None and args.seed is None:
            say(f"[--seed {seed} repeats this text]")
        data: dict[str, Any] = {
            "model": program.name,
            "program_hash": program.hash,
            "device": args.device,
            "executor": device.kind,
            "board": device.board_name or None,
            "prompt": given,
            "text": text,
            "greedy": sampling.greedy,
            "seed": seed,
            "loops": args.loops,
            "tokenizer": tokenizer.name,
            "tokens": tokens,
            "tokens_fed": fed,
            "finish_reason": "stop" if ended else "length",
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
            ok = _check(device, start, prompt, tokens, sampling, args.loops, data, say)
        return Outcome(data, ok)


def _prompt(args: argparse.Namespace) -> str:
    """Return the text to continue. Raises UsageError if it cannot be read."""
    if args.prompt_file is None and args.prompt != "-":
        return str(args.prompt) if args.prompt is not None else "" if args.resume else PROMPT
    name = "standard input" if args.prompt_file is None else args.prompt_file
    try:
        data = sys.stdin.buffer.read() if args.prompt_file is None else Path(name).read_bytes()
        return data.decode()
    except OSError as error:
        raise UsageError(f"cannot read the prompt from {name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        text = f"the prompt in {name} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}"
        raise UsageError(text, "convert it, for example with iconv") from None


def open_session(device: Device, resume: str | None, seed: int | None) -> Session:
    """Open a new session, or that of --resume; ``seed`` resets its generator."""
    session = device.session(1 if seed is None else seed)
    if resume:
        session.load(resume)
        if seed is not None:
            session.reseed(seed)
    return session


def _stream(
    generated: Iterator[int], stream: TextStream, ends: Sequence[int], say: Say
) -> tuple[list[int], str]:
    """Print text as soon as its characters are complete; tokens of ``ends`` have none. Returns the tokens and
    their text.
    """
    tokens, texts = [], []
    for token in generated:
        tokens.append(token)
        if token in ends:
            continue
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
    loops: int | None,
    data: dict[str, Any],
    say: Say,
) -> bool:
    """Return True if NumPy generates the same tokens from the same start; print the first difference."""
    from ternac.host.device import Device

    with Device.open("numpy", device.program) as numpy, numpy.session() as session:
        session.restore(start)
        want = list(session.tokens(prompt, len(tokens), sampling, ignore_eos=True, loops=loops))
    first = next((i for i, (a, b) in enumerate(zip(tokens, want, strict=True)) if a != b), None)
    data["check"] = {"tokens": len(tokens), "equal": first is None, "first_difference": first}
    if first is None:
        say(f"[check: all {len(tokens)} tokens equal NumPy's]")
        return True
    say(f"[check FAILED: token {first} is {tokens[first]}, NumPy has {want[first]}]")
    return False


VERB = Verb(
    help="Generate text on an executor or a board.",
    example='ternac run --device auto --prompt "ROMEO:" --tokens 100 --check',
    add_arguments=_arguments,
    run=_run,
    renamed={"--executor": "--device"},
)
