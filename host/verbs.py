"""``ternac run``: text from a model, on any executor, as it comes."""

from __future__ import annotations

import argparse
from typing import Any

from ternac.errors import UsageError
from ternac.host.device import DEFAULT_BOARD, Device
from ternac.host.session import Session
from ternac.sampling import Sampling
from ternac.tokenizer import Tokenizer, tokenizer_of
from ternac.verb import Outcome, Say, Verb, add_model_argument

PROMPT = "ROMEO:"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument(
        "--device", "--executor", default="numpy", metavar="WHERE",
        help="numpy; native (C kernels; native:ISA:BITS); auto, native where it is compiled, else numpy; "
        "sim, serial:PORT or replay:FILE (default: numpy)",
    )  # fmt: skip
    parser.add_argument(
        "--board", "--geometry", default=DEFAULT_BOARD, metavar="NAME",
        help="board or geometry, for sim and serial: ulx3s-85f, ulx3s-85f-sdram, icebreaker, tiny (default: "
        f"{DEFAULT_BOARD})",
    )  # fmt: skip
    parser.add_argument("--prompt", default=PROMPT, metavar="TEXT", help=f"default: {PROMPT!r}")
    parser.add_argument(
        "--tokens", type=int, default=200, metavar="N", help="tokens to generate (default: 200)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token (default)"
    )
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="draw among the K likeliest; 0: all"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the drawing (default: 1)")
    parser.add_argument("--check", action="store_true", help="compare with NumPy token for token")
    parser.add_argument("--bitstream", metavar="ID", help="insist on this bitstream ID")
    parser.add_argument("--record", metavar="FILE", help="write the traffic, for --device replay:FILE")
    parser.add_argument("--waves", metavar="FILE", help="with sim: write signals to a .vcd or .fst file")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    if not args.prompt:
        raise UsageError("the prompt is empty", "give at least one character")
    if args.tokens < 0:
        raise UsageError(f"--tokens is {args.tokens}, needs at least 0")
    options: dict[str, Any] = {"board": args.board, "bitstream": args.bitstream, "record": args.record}
    with Device.open(args.device, args.model, waves=args.waves, **options) as device:
        program = device.program
        sampling = Sampling.from_temperature(args.temperature, program.logit_scale_bits, args.top_k)
        tokenizer = tokenizer_of(program, assume_bytes=True)
        prompt = tokenizer.encode(args.prompt.encode()).ids.tolist()
        say(args.prompt, end="")
        with device.session(args.seed) as session:
            tokens, text = _stream(session, tokenizer, prompt, args.tokens, sampling, say)
        say()
        speed = device.speed()
        say(f"\n[{speed}]")
        data: dict[str, Any] = {
            "model": program.name,
            "program_hash": program.hash,
            "device": args.device,
            "executor": device.kind,
            "board": device.board or None,
            "prompt": args.prompt,
            "text": text,
            "tokenizer": tokenizer.name,
            "tokens": tokens,
            "tokens_per_second": speed.tokens_per_second,
            "origin": speed.origin,
            **speed.data,
        }
        if device.identity is not None:
            data["bitstream_id"] = device.identity.bitstream_id.hex()
        ok = True
        if args.check:
            ok = _check(device, prompt, tokens, sampling, args.seed, data, say)
        return Outcome(data, ok)


def _stream(
    session: Session, tokenizer: Tokenizer, prompt: list[int], count: int, sampling: Sampling, say: Say
) -> tuple[list[int], str]:
    """Generate, printing text as its characters become whole: the tokens, and their text."""
    stream = tokenizer.stream(prompt)
    tokens, texts = [], []
    for token in session.tokens(prompt, count, sampling):
        tokens.append(token)
        texts.append(stream.feed(token))
        if texts[-1]:
            say(texts[-1], end="")
    texts.append(stream.finish())
    say(texts[-1], end="")
    return tokens, "".join(texts)


def _check(
    device: Device,
    prompt: list[int],
    tokens: list[int],
    sampling: Sampling,
    seed: int,
    data: dict[str, Any],
    say: Say,
) -> bool:
    """Whether NumPy generates the same tokens; says the first difference."""
    with Device.open("numpy", device.program) as numpy, numpy.session(seed) as session:
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
