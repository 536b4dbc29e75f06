"""``ternac chat``: a dialogue with a model, written like a play, in one session."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
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
    from ternac.host.session import Session
    from ternac.run.sampling import Sampling
    from ternac.text.tokenizer import Tokenizer


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_device(parser, "auto", default="auto")
    add_board(parser, "board of sim and serial", simulated=True)
    add_geometry(parser)
    parser.add_argument("--you", default="User", metavar="NAME", help="who you are (default: User)")
    parser.add_argument(
        "--model-as", default="Assistant", metavar="NAME", help="who the model is (default: Assistant)"
    )
    number(parser, "--tokens", "most tokens of an answer", default=256, least=1)
    add_sampling(parser)
    add_ignore_eos(parser)
    add_loops(parser)
    parser.add_argument(
        "--resume", metavar="FILE", help="continue a chat that --save wrote, here or elsewhere"
    )
    parser.add_argument("--save", metavar="FILE", help="write the session to a file at the end")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.cli.run import open_session
    from ternac.host.device import Device
    from ternac.host.server.texts import TURN_END
    from ternac.program.loops import check_loops
    from ternac.text.tokenizer import encode_prompt, tokenizer_of

    refuse_unused(args, f"--device {args.device}", unused_on([args.device], named=args.model is not None))
    check_sampling(args)
    for flag, name in (("--you", args.you), ("--model-as", args.model_as)):
        if not name.strip() or not name.isprintable() or ":" in name:
            raise UsageError(f"{flag} is {name!r}, needs a name of one line without a colon")
    if args.save and not Path(args.save).resolve().parent.is_dir():
        raise UsageError(f"--save {args.save}: there is no such folder", "make it first")
    model = open_model(args.model, default_engine(args, [args.device]), say)
    check_ignore_eos(args, model.program)
    check_loops(model.program, args.loops)
    with Device.open(args.device, model, board=args.board, geometry=args.geometry) as device:
        sampling = sampling_of(args, device.program)
        seed = None if sampling.greedy or (args.resume and args.seed is None) else seed_of(args)
        tokenizer = tokenizer_of(device.program, assume_bytes=True)
        repeat = "" if seed is None else f"; --seed {seed} repeats it"
        say(f"[{device.program.name} on {device.kind}{repeat}; Ctrl-C stops an answer, Ctrl-D ends.")
        say(" Such a model continues plays and is not trained to answer.]")
        turns: list[dict[str, Any]] = []
        with open_session(device, args.resume, seed) as session:
            chat = _Chat(args, session, tokenizer, sampling)
            while not chat.over and (line := _ask(say, args.you)) is not None:
                if line.strip():
                    turns.append(chat.answer(line, say))
            if args.save:
                if chat.open_turn:  # so that what is saved stands between two turns
                    end = encode_prompt(device.program, tokenizer, TURN_END, begins=False)
                    list(session.tokens(end, 0, loops=args.loops))
                session.save(args.save)
        say()
        return Outcome(
            {
                "model": device.program.name,
                "device": device.kind,
                "seed": seed,
                "loops": args.loops,
                "turns": turns,
                "resumed": args.resume,
                "saved": args.save,
            }
        )


class _Chat:
    """The turns of one session. ``open_turn``: its text ends inside one; ``over``: the user ended it."""

    def __init__(
        self, args: argparse.Namespace, session: Session, tokenizer: Tokenizer, sampling: Sampling
    ) -> None:
        self._args, self._session, self._tokenizer, self._sampling = args, session, tokenizer, sampling
        self._ends = () if args.ignore_eos else session.program.special.eos
        self.open_turn = self.over = False

    def answer(self, line: str, say: Say) -> dict[str, Any]:
        """Say the answer to a line token by token. The first Ctrl-C ends it behind the token at hand, a
        second one at once, and the chat too.
        """
        from ternac.host.server.texts import TURN_END, Reader, Turn, chat_prompt
        from ternac.text.tokenizer import encode_prompt

        args, session = self._args, self._session
        text = chat_prompt([Turn(args.you, line)], args.model_as, open_turn=self.open_turn)
        prompt = encode_prompt(session.program, self._tokenizer, text, begins=session.new)
        reader = Reader(self._tokenizer.stream(prompt), [TURN_END])
        said, begun, ended, cut = [], False, False, False
        try:
            with _interrupts() as interrupted:
                say(f"{args.model_as}: ", end="")  # who sees it may press Ctrl-C: it is heard from here on
                for token in session.tokens(
                    prompt, args.tokens, self._sampling, ignore_eos=args.ignore_eos, loops=args.loops
                ):
                    begun, ended = True, token in self._ends
                    if not ended:
                        said.append(reader.feed(token))
                        say(said[-1], end="")
                    cut = interrupted()
                    if reader.stopped or cut:
                        break
        except KeyboardInterrupt:
            cut = self.over = True
        said.append(reader.finish())
        say(said[-1])
        if begun:
            self.open_turn = not (reader.stopped or ended)
        return {"said": line, "answer": "".join(said), "interrupted": cut}


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C only makes the function given return True, so that no token is cut in its
    middle. The second one raises KeyboardInterrupt. Only the main thread can see either.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _ask(say: Say, name: str) -> str | None:
    """Return the next line of standard input; None at its end, or after Ctrl-C."""
    say(f"{name}: ", end="")
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        return None
    return line.rstrip("\r\n") if line else None


VERB = Verb(
    help="Talk to a model, line by line.",
    example="ternac chat --you ROMEO --model-as JULIET",
    add_arguments=_arguments,
    run=_run,
)
