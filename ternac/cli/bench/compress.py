"""``ternac bench compress``: texts by a model, beside the usual compressors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ternac.cli.arguments import add_executor, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.table import columns


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="texts, .xz is unpacked (default: the shipped text's last tenth)",
    )
    parser.add_argument("--model", default="prose", metavar="NAME", help="program file, or shipped model")
    parser.add_argument(
        "--train",
        metavar="FILE",
        help="the text that the model was trained on: zstd and PPMd get it in front of the first text",
    )
    number(parser, "--limit", "only the first N bytes of each text", least=1)
    number(parser, "--block", "KiB of text in a block", default=128, least=1, most=16384)
    number(parser, "--threads", "processors of the native executor (default: all)", least=1, most=1024)
    add_executor(parser, "auto")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.files import read_bytes
    from ternac.host.coder import open_coder
    from ternac.host.compress_bench import PEERS, PUBLISHED, bench_model, bench_peer, why_missing
    from ternac.program.zoo import TEXT, open_program, resolve
    from ternac.run.evaluate import split

    texts = {Path(file).name: read_bytes(file, args.limit) for file in args.files}
    if not texts:
        texts = {"shipped text, last tenth": split(read_bytes(TEXT), "val")[: args.limit]}
    before = read_bytes(args.train) if args.train else b""
    path = resolve(args.model)
    coder = open_coder(args.executor, open_program(path), path=path, threads=args.threads)
    rows, left_out = [], {name: why for name, peer in PEERS.items() if (why := why_missing(peer))}
    for at, (name, data) in enumerate(texts.items()):
        say(f"{name}: {len(data):,} bytes")
        found = bench_model(coder, data, block=args.block << 10)
        rows.append({"text": name, "text_bytes": len(data), "compressor": coder.program.name, **found})
        for peer_name, peer in PEERS.items():
            if peer_name not in left_out and (not peer.trained or (before and not at)):
                measured = bench_peer(peer, data, before)
                rows.append({"text": name, "text_bytes": len(data), "compressor": peer_name, **measured})
        _show([row for row in rows if row["text"] == name], say)
    for name, why in left_out.items():
        say(f"{name}: not measured, {why}")
    say("published, not measured here, bits per byte of alice29.txt and enwik8:")
    for one in PUBLISHED:
        say(f"  {one['compressor']:<24} {one['alice29']:.3f} {one['enwik8']:.3f}  {one['origin']}")
    origin = f"{coder.origin}; rates of all are per second of one processor's time"
    say(origin)
    coder.close()
    return Outcome(
        {
            "rows": rows,
            "published": PUBLISHED,
            "why_null": left_out,
            "program_hash": coder.program.hash,
            "origin": origin,
        }
    )


def _show(rows: list[dict[str, Any]], say: Say) -> None:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}"

    table = [
        [
            row["compressor"],
            f"{row['bits_per_byte']:.4f}",
            shown(row["kb_per_cpu_second"]),
            shown(row["kb_per_cpu_second_back"]),
        ]
        for row in rows
    ]
    for line in columns(["compressor", "bits per byte", "KB/s", "back"], table):
        say(f"  {line}")
    model = rows[0]
    if model["overhead"] is not None:
        say(f"  {model['overhead']:.3%} over the model's {model['model_bits_per_byte']:.4f} bits per byte")
    if model["share_of_feeding"] is not None:
        say(
            f"  {model['share_of_feeding']:.0%} there and {model['share_of_feeding_back']:.0%} back of the "
            f"{model['fed_tokens_per_cpu_second']:,.0f} tokens/s at which the executor is fed; "
            f"{model['kb_per_second']:,.0f} and {model['kb_per_second_back']:,.0f} KB/s by the wall clock"
        )


VERB = Verb(
    help="Compress texts by a model, beside xz, zstd, bzip2 and PPMd.",
    example="ternac bench compress --model prose --limit 20000",
    add_arguments=_arguments,
    run=_run,
)
