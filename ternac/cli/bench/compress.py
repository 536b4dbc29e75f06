"""``ternac bench compress``: texts by a model, beside the usual compressors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ternac.cli.arguments import add_executor, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.manifest import DEFAULT_BOARD
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
    from ternac.host.compress_bench import (
        PEERS,
        PUBLISHED,
        bench_model,
        bench_peer,
        board_rate,
        why_missing,
    )
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
    per_token = rows[0]["text_bytes"] / max(1, rows[0]["tokens"])
    on_board = board_rate(coder.program, DEFAULT_BOARD, per_token)
    _show_board(on_board, say)
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
            "on_board": on_board,
            "program_hash": coder.program.hash,
            "origin": origin,
        }
    )


def _show_board(found: dict[str, Any], say: Say) -> None:
    if "why_null" in found:
        say(f"{found['board']} with spans: none, {found['why_null']}")
        return
    say(
        f"{found['board']} with spans: {found['cycles_per_token']:,} cycles a token and "
        f"{found['cycles_of_span']:,} its span at {found['clock_hz'] / 1e6:g} MHz, "
        f"{found['tokens_per_second']:,.0f} tokens/s or {found['kb_per_second']:,.0f} KB/s by cycles"
    )
    say(
        f"  its line at {found['line_baud'] / 1e6:g} Mbaud allows {found['line_tokens_per_second']:,.0f} "
        f"tokens/s or {found['line_kb_per_second']:.1f} KB/s ({found['origin']})"
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
