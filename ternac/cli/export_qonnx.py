"""``ternac export --format qonnx``: write the step graph, after comparing it with the NumPy executor."""

from __future__ import annotations

import argparse

from ternac.cli.verb import Outcome, Say
from ternac.errors import CheckpointError, UsageError
from ternac.program import zoo
from ternac.program.program import Program
from ternac.progress import Progress

QONNX_TOKENS = 2  # the qonnx package opens a session per node and token: seconds a token


def program_of(given: str | None) -> Program:
    """The program in a file or of a shipped model, or what a checkpoint or the folder of a run exports to."""
    from ternac.cli.train import find
    from ternac.model.net.executor import TorchExecutor
    from ternac.model.training import checkpoint as ckpt

    try:
        path = zoo.resolve(given)
    except UsageError:
        path = find(given)
    try:
        saved = ckpt.load(path)
    except CheckpointError:  # not a checkpoint, so it must be a program; if not, that is the error to show
        return zoo.open_program(path)
    return TorchExecutor(ckpt.model_of(saved), path.parent.resolve().name).program


def export(args: argparse.Namespace, say: Say) -> Outcome:
    """Write ``args.out``; raises Mismatch, and writes nothing, where the graph differs from the program."""
    from ternac.model.export import qonnx, qonnx_check

    if args.out is None:
        raise UsageError("--format qonnx needs --out FILE", hint="for example --out model.onnx")
    if args.out.is_dir():
        raise UsageError(f"--out {args.out} is a folder, --format qonnx writes one file")
    program = program_of(args.checkpoint)
    model = qonnx.to_onnx(program)
    checked = {}
    for name, run, tokens in (
        ("onnxruntime", qonnx_check.by_onnxruntime, args.check),
        ("qonnx", qonnx_check.by_qonnx, min(args.check, QONNX_TOKENS)),
    ):
        if tokens:
            with Progress(tokens, f"check with {name}", "tokens") as bar:
                qonnx_check.compare(model, program, run(model), tokens, bar.update)
        checked[name] = tokens
    qonnx.write(model, args.out)
    say(f"{program.name}: {len(model.graph.node)} nodes, program hash {program.hash[:16]}")
    say(
        "logits and state equal NumPy's exactly: "
        + ", ".join(f"{tokens} tokens by {name}" for name, tokens in checked.items())
    )
    say(f"written: {args.out}")
    operators: dict[str, int] = {}
    for node in model.graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    return Outcome(
        {
            "format": "qonnx",
            "file": str(args.out),
            "bytes": args.out.stat().st_size,
            "program": program.name,
            "hash": program.hash,
            "nodes": len(model.graph.node),
            "operators": operators,
            "checked_tokens": checked,
        }
    )
