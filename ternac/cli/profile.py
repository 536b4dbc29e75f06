"""``ternac profile``: the first place to look when a model quantizes badly."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_model, add_picture, make_folder, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.table import columns

if TYPE_CHECKING:
    from ternac.run.profile import ValueStats

LIMIT, CONTEXT = 8192, 128


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "shakespeare")
    parser.add_argument(
        "--text", metavar="FILE", help="text to run on (default: validation part of the shipped one)"
    )
    number(parser, "--limit", "only the first N bytes", default=LIMIT, least=2)
    parser.add_argument(
        "--by",
        choices=("layer", "op", "none"),
        default="layer",
        help="lay the cost on layers, on single ops, or leave it out (default: layer)",
    )
    parser.add_argument(
        "--values", action="store_true", help="print every value, not only those that saturate most"
    )
    add_picture(parser)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}" if share >= 0.001 or share == 0 else f"{share:.0e}"


def _table(say: Say, heads: str, rows: list[list[str]]) -> None:
    for line in columns(heads.split("|"), rows):
        say(line)
    say()


def _price(row: dict[str, Any]) -> tuple[str, str]:
    """Format both costs with two standard errors."""
    return (
        f"{row['nats']:+.4f} ({2 * row['nats_error']:.4f})",
        f"{row['coarser']:+.4f} ({2 * row['coarser_error']:.4f})",
    )


def _show_tables(say: Say, data: dict[str, Any], values: list[ValueStats], everything: bool) -> None:
    costs = {row["group"]: _price(row) for row in data["costs"]}
    rows = []
    for row in data["layers"]:
        worst = f"{row['most_saturated']} {_share(row['saturated'])}" if row["saturated"] else "-"
        zeros = _share(row["trit_zeros"]), _share(row["i8_zeros"])
        rows.append([row["layer"], f"{row['trits']:,}", *zeros, worst, *costs.get(row["layer"], ("-", "-"))])
    _table(say, "layer|trits|trits zero|i8 zero|saturates most|rounding costs|one bit less costs", rows)
    shown = values if everything else sorted(values, key=lambda v: -v.saturated)[:10]
    rows = [
        [
            v.name,
            v.kind,
            f"{v.low}..{v.high}",
            f"{v.rms:.1f}",
            f"{v.used:.1%}",
            _share(v.zeros),
            _share(v.saturated),
        ]
        for v in shown
    ]
    _table(say, "value|op|range|rms|full|zero|saturated", rows)
    rows = [
        [t["name"], t["table"], f"{t['low']}..{t['high']}", str(t["entries"]), _share(t["ends"])]
        for t in data["tables"]
    ]
    _table(say, "table op|table|codes|entries used|at the ends", rows)
    if data["by"] == "op":
        worst_first = sorted(data["costs"], key=lambda row: -row["nats"])[:12]
        _table(
            say,
            "costliest ops|rounding costs|one bit less costs",
            [[row["group"], *_price(row)] for row in worst_first],
        )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    import numpy as np

    from ternac.program.zoo import TEXT, open_program
    from ternac.progress import Progress
    from ternac.run import evaluate as ev
    from ternac.run import profile as pf
    from ternac.run.picture import write_picture

    make_folder(args.out)
    data = ev.read_text(args.text) if args.text else ev.split(ev.read_text(TEXT), "val")
    program = open_program(args.model)
    tokens = ev.encode(program, data[: args.limit])
    parts = ev.cut(len(tokens), ev.STREAMS, CONTEXT)
    groups = pf.groups(program, args.by) if args.by != "none" else {}
    every = [name for names in groups.values() for name in names]
    costs: list[pf.Cost] = []
    with Progress(2 + len(groups), f"profile {program.name}", "runs") as bar:
        observer, base = pf.observe(program, tokens, parts)
        bar.update(1)
        for done, (group, names) in enumerate(groups.items()):
            costs.append(pf.cost(program, tokens, parts, base, group, names))
            bar.update(2 + done, group)
        total = pf.cost(program, tokens, parts, base, "all", every) if groups else None
    values, tables = observer.values(), observer.tables()
    trits = pf.zeros_in_trits(program)
    found: dict[str, Any] = {
        "model": program.name,
        "program_hash": program.hash,
        "text": args.text or "the shipped text, val",
        "tokens": len(base),
        "context": CONTEXT,
        "nats_per_token": float(np.mean(base)),
        "by": args.by,
        "layers": pf.by_layer(program, values, trits),
        "costs": [asdict(c) for c in costs],
        "all": asdict(total) if total else None,
        "values": [asdict(v) for v in values],
        "tables": [asdict(t) | {"codes": t.codes.tolist()} for t in tables],
        "trit_zeros": trits,
        "origin": "NumPy executor; costs by ternac.run.real in float64",
    }
    loss = f"{found['nats_per_token']:.4f} nats per token"
    say(f"{program.name} on {found['text']}: {loss}, {len(base)} tokens\n")
    _show_tables(say, found, values, args.values)
    if total:
        whole, coarser = _price(asdict(total))
        say(f"costs are nats per token (two standard errors); all together {whole}, one bit less {coarser}")
    if args.out is not None:
        title = f"{program.name}: {loss} on {len(base)} tokens"
        write_picture(args.out, title, values, tables, costs)
        found["picture"] = str(args.out)
        say(f"written: {args.out}")
    return Outcome(found)


VERB = Verb(
    help="Show ranges, saturation, zeros and use of tables, and which layer's rounding costs the loss.",
    example="ternac profile shakespeare-small --out profile.png",
    add_arguments=_arguments,
    run=_run,
    renamed={"--picture": "--out"},
)
