"""``ternac chat``: a dialogue with a model, written like a play, in one session."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ternac.cli.arguments import (
    add_board,
    add_device,
    add_geometry,
    add_model,
    add_sampling,
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


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_device(parser, "auto", default="auto")
    add_board(parser, "board of sim and serial")
    add_geometry(parser)
    parser.add_argument("--you", default="User", metavar="NAME", help="who you are (default: User)")
    parser.add_argument(
        "--model-as", default="Assistant", metavar="NAME", help="who the model is (default: Assistant)"
    )
    number(parser, "--tokens", "most tokens of an answer", default=256, least=1)
    add_sampling(parser)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.device import Device
    from ternac.host.server.texts import TURN_END, Reader, Turn, chat_prompt, encode
    from ternac.text.tokenizer import tokenizer_of

    refuse_unused(args, f"--device {args.device}", unused_on([args.device], named=args.model is not None))
    check_sampling(args)
    for flag, name in (("--you", args.you), ("--model-as", args.model_as)):
        if not name.strip() or not name.isprintable() or ":" in name:
            raise UsageError(f"{flag} is {name!r}, needs a name of one line without a colon")
    model = open_model(args.model, default_engine(args, [args.device]), say)
    with Device.open(args.device, model, board=args.board, geometry=args.geometry) as device:
        sampling = sampling_of(args, device.program)
        seed = None if sampling.greedy else seed_of(args)
        tokenizer = tokenizer_of(device.program, assume_bytes=True)
        repeat = "" if seed is None else f"; --seed {seed} repeats it"
        say(f"[{device.program.name} on {device.kind}{repeat}; Ctrl-D ends.")
        say(" Such a model continues plays and is not trained to answer.]")
        turns: list[dict[str, Any]] = []
        open_turn = False
        with device.session(1 if seed is None else seed) as session:
            while (line := _ask(say, args.you)) is not None:
                if not line.strip():
                    continue
                text = chat_prompt([Turn(args.you, line)], args.model_as, open_turn=open_turn)
                prompt = encode(tokenizer, text)
                reader = Reader(tokenizer.stream(prompt), [TURN_END])
                say(f"{args.model_as}: ", end="")
                answer = ""
                for token in session.tokens(prompt, args.tokens, sampling):
                    piece = reader.feed(token)
                    answer += piece
                    say(piece, end="")
                    if reader.stopped:
                        break
                piece = reader.finish()
                answer += piece
                say(piece)
                open_turn = not reader.stopped
                turns.append({"said": line, "answer": answer})
        say()
        return Outcome({"model": device.program.name, "device": device.kind, "seed": seed, "turns": turns})


def _ask(say: Say, name: str) -> str | None:
    """Return the next line of standard input; None at its end."""
    say(f"{name}: ", end="")
    line = sys.stdin.readline()
    return line.rstrip("\r\n") if line else None


VERB = Verb(
    help="Talk to a model, line by line.",
    example="ternac chat --you ROMEO --model-as JULIET",
    add_arguments=_arguments,
    run=_run,
)
