"""``ternac verify``: several executors run the same tokens; logits and state must be equal after every one.

The first executor named is the reference. On a difference the reference's trace of that token is compared
with whatever the other can show of its own values, so that the report names the first op that diverged. An
engine's and the native executor's next token, by argmax and by a seeded draw in turn, and the engine's cycle
count must be right too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from ternac.cli.verb import Outcome, Say, Verb, add_model_argument
from ternac.compile.geometry import PRESETS
from ternac.errors import UsageError
from ternac.program.program import Program
from ternac.program.zoo import TEXT
from ternac.progress import Progress
from ternac.run.compare import Divergence, cycle_divergence, first_divergence, scalar_divergence
from ternac.run.evaluate import encode, read_text, split
from ternac.run.sampling import GREEDY, Sampling, choose, seed_state
from ternac.sim.verify.runners import Runner, Step, maker_names, runners


def verify(
    program: Program, parts: Sequence[Runner], tokens: Sequence[int], progress: Callable[[int], None]
) -> list[Divergence]:
    """Run ``tokens`` on all ``parts``; the first divergence of each part from the first one (none: all
    equal).

    A part that diverged is not run further.
    """
    reference, others = parts[0], list(parts[1:])
    draw = Sampling.from_temperature(1.0, program.logit_scale_bits, 0)
    found: list[Divergence] = []
    for index, token in enumerate(tokens):
        sampling, rng = (draw if index % 2 else GREEDY), seed_state(index + 1)
        expected = reference.step(int(token), sampling, rng)
        for other in list(others):
            got = other.step(int(token), sampling, rng)
            pair = (reference.name, other.name)
            here = first_divergence(
                program, index, {program.logits: expected.logits}, {program.logits: got.logits},
                states=expected.states, got_states=got.states, executors=pair,
            )  # fmt: skip
            if here is None:
                here = check_engine(index, expected, got, sampling, rng, pair)
                if here is None:
                    continue
                found.append(here)
            else:
                earlier = first_divergence(program, index, reference.values(), other.values(), executors=pair)
                found.append(earlier or here)
            others.remove(other)
        progress(index + 1)
        if not others:
            break
    return found


def check_engine(
    index: int, expected: Step, got: Step, sampling: Sampling, rng: int, executors: tuple[str, str]
) -> Divergence | None:
    """The first difference of what not every executor has: next token and generator, cycles."""
    if got.chosen is None or got.generator is None:
        return None
    token, following = choose(expected.logits, sampling, rng)
    here = scalar_divergence(index, "next token", token, got.chosen, executors) or scalar_divergence(
        index, "generator", following, got.generator, executors
    )
    if here or got.cycles is None or got.closed_form is None:
        return here
    return cycle_divergence(index, got.closed_form, got.cycles, executors[1], exact=got.exact)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument(
        "--executors",
        metavar="A,B,..",
        help=f"of {', '.join(maker_names())}: native (or native:ISA, native:ISA:BITS) is C, "
        "gpu (or gpu:cpu, gpu:interpret, without a GPU) Triton, "
        "machine is the compiled image in NumPy, rtl and netlist (after "
        "synthesis) run in Verilator; default: numpy,rtl, and with presets torch,numpy,machine,rtl",
    )
    parser.add_argument(
        "--presets",
        metavar="A,B,..",
        help="instead: these engine presets, each with every code that its weight memory can have, with one "
        "session and with several, on the largest shipped model that fits (or a random program)",
    )
    parser.add_argument("--all-presets", action="store_true", help="--presets with every preset")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument(
        "--text", metavar="FILE", help="where the tokens come from (default: the validation text)"
    )
    parser.add_argument(
        "--geometry",
        choices=PRESETS,
        default="ulx3s-85f",
        help="engine for rtl, netlist and machine; default: ulx3s-85f",
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    if args.tokens < 1:
        raise UsageError(f"--tokens is {args.tokens}, needs at least 1")
    names = [name.strip() for name in (args.executors or "numpy,rtl").split(",")]
    data = read_text(args.text) if args.text else split(read_text(TEXT), "val")
    if args.presets or args.all_presets:
        return _run_presets(args, data, say)
    program, parts = runners(names, args.model, args.geometry)
    if args.text is None and "tokenizer" not in program.meta:
        say(f"{program.name} has no tokenizer: random tokens")
        tokens = np.random.default_rng(0).integers(0, program.vocab, args.tokens)
    else:
        tokens = np.resize(encode(program, data), args.tokens)
    began = time.monotonic()
    try:
        with Progress(args.tokens, f"verify {program.name}", "tokens") as bar:
            found = verify(program, parts, tokens.tolist(), bar.update)
    finally:
        for part in parts:
            part.close()
    for divergence in found:
        say(str(divergence))
    if not found:
        say(f"{args.tokens} tokens: {', '.join(names)} agree on every logit and every state word")
    return Outcome(
        {
            "tokens": args.tokens,
            "mismatches": len(found),
            "executors": names,
            "geometry": args.geometry,
            "model": program.name,
            "program_hash": program.hash,
            "divergences": [d.to_json() for d in found],
            "cycles": {part.name: part.cycles for part in parts if part.cycles},
            "origin": "cycle-exact simulation" if any(part.cycles for part in parts) else "run on this host",
            "seconds": round(time.monotonic() - began, 1),
        },
        ok=not found,
    )


def _run_presets(args: argparse.Namespace, data: bytes, say: Say) -> Outcome:
    from ternac.sim.verify.presets import verify_presets

    presets = list(PRESETS) if args.all_presets else [name.strip() for name in args.presets.split(",")]
    executors = [name.strip() for name in (args.executors or "torch,numpy,machine,rtl").split(",")]
    began = time.monotonic()
    rows = []
    for row in verify_presets(presets, executors, args.tokens, data):
        rows.append(row)
        verdict = "FAIL" if row["mismatches"] else "equal"
        say(
            f"{verdict:5}  {row['geometry']:16} {row['weight_code']:8} {row['sessions']} sessions  "
            f"{row['model']} ({row['trits']:,} trits)  {','.join(row['executors'])}  "
            f"{row['tokens']} tokens, {row['seconds']:.0f} s"
        )
        for divergence in row["divergences"]:
            say(f"       {divergence}")
    mismatches = sum(row["mismatches"] for row in rows)
    return Outcome(
        {
            "rows": rows,
            "mismatches": mismatches,
            "seconds": round(time.monotonic() - began, 1),
            "origin": "cycle-exact simulation",
        },
        ok=not mismatches,
    )


VERB = Verb(
    help="Run the same tokens on several executors and compare logits and state, bit for bit, after each.",
    example="ternac verify shakespeare --executors torch,numpy,rtl --tokens 2000",
    add_arguments=_arguments,
    run=_run,
)
