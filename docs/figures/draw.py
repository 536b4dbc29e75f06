"""Draw the figures of the pages as SVG: ``python docs/figures/draw.py`` writes them all beside this file.

Colours: white is software or data, blue what defines, orange hardware, green what is checked. The background
is opaque, so that a figure reads the same on a light and on a dark page. Cycles come from the closed form.
"""

from __future__ import annotations

import csv
import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ZOO = HERE.parents[1] / "model" / "zoo"
WIDTH = 980
STYLE = """
.box { fill: #ffffff; stroke: #b9c1ca; stroke-width: 1.2 }
.law { fill: #e8f0fb; stroke: #2563b8; stroke-width: 2 }
.hw { fill: #fdf3e7; stroke: #b8590f; stroke-width: 1.2 }
.same { fill: #eaf6ec; stroke: #2f7d3b; stroke-width: 1.2 }
.group { fill: none; stroke: #b8590f; stroke-width: 1.2; stroke-dasharray: 6 4 }
.h { font-size: 14px; font-weight: 600; fill: #1b1f24; text-anchor: middle }
.s { font-size: 12px; fill: #5c6570; text-anchor: middle }
.l { font-size: 12px; fill: #5c6570 }
.r { font-size: 12px; fill: #1b1f24; text-anchor: end }
.v { font-size: 12px; fill: #2563b8; text-anchor: middle; font-family: ui-monospace, monospace }
.e { fill: none; stroke: #5c6570; stroke-width: 1.4; marker-end: url(#a) }
.line { fill: none; stroke-width: 1.8 }
.axis { stroke: #b9c1ca; stroke-width: 1 }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle that was drawn."""

    x: float
    y: float
    w: float
    h: float

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.w / 2, self.y + self.h / 2


Item = tuple[str, ...]
"""Title, lines below it, and in the end a kind with a leading dot (``.hw``) where it is not ``.box``."""


class Figure:
    """One SVG; ``title`` is also what a screen reader says."""

    def __init__(self, title: str, height: int) -> None:
        self.title, self.height = title, height
        self.parts: list[str] = []

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img" '
            f'font-family="system-ui, sans-serif">\n<title>{html.escape(self.title)}</title>\n'
            '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#5c6570"/></marker>'
            f"<style>{STYLE}</style></defs>\n"
            f'<rect width="{WIDTH}" height="{self.height}" rx="12" fill="#f7f8fa"/>'
        )
        return "\n".join([head, *self.parts, "</svg>\n"])

    def text(self, x: float, y: float, words: str, kind: str = "s") -> None:
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{html.escape(words)}</text>')

    def rect(self, x: float, y: float, w: float, h: float, kind: str, radius: int = 8) -> Box:
        self.parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius}"/>'
        )
        return Box(x, y, w, h)

    def box(self, x: float, y: float, w: float, item: Item) -> Box:
        """A box with a title and lines, as high as they need."""
        kind = item[-1][1:] if item[-1].startswith(".") else "box"
        title, *lines = item[:-1] if item[-1].startswith(".") else item
        made = self.rect(x, y, w, 44 + 18 * len(lines) - (0 if lines else 6), kind)
        self.text(x + w / 2, y + 26, title, "h")
        for row, line in enumerate(lines):
            self.text(x + w / 2, y + 46 + 18 * row, line)
        return made

    def arrow(self, path: str, label: tuple[float, float, str] | None = None, kind: str = "v") -> None:
        self.parts.append(f'<path class="e" d="{path}"/>')
        if label:
            self.text(*label, kind)

    def link(self, a: Box, b: Box, label: str = "") -> None:
        """An arrow from ``a`` to ``b``: to the right, to the left, down or up."""
        (ax, ay), (bx, by) = a.middle, b.middle
        if b.x >= a.x + a.w or a.x >= b.x + b.w:
            y = (
                min(max(ay, b.y + 10), b.y + b.h - 10)
                if a.h < b.h
                else min(max(by, a.y + 10), a.y + a.h - 10)
            )
            start, end = (a.x + a.w, b.x - 1) if b.x > a.x else (a.x, b.x + b.w + 1)
            self.arrow(f"M{start:g} {y:g} H{end:g}", ((start + end) / 2, y - 8, label) if label else None)
        else:
            x = (
                min(max(ax, b.x + 10), b.x + b.w - 10)
                if a.w < b.w
                else min(max(bx, a.x + 10), a.x + a.w - 10)
            )
            start, end = (a.y + a.h, b.y - 1) if b.y > a.y else (a.y, b.y + b.h + 1)
            self.arrow(
                f"M{x:g} {start:g} V{end:g}", (x + 44, (start + end) / 2 + 4, label) if label else None
            )

    def flow(
        self, y: float, items: list[Item], labels: list[str] | None = None, gap: float = 58
    ) -> list[Box]:
        """Boxes of one row with arrows from left to right, widths by their words."""
        need = [max(8 * len(item[0]), *(6.5 * len(line) for line in item)) + 24 for item in items]
        spare = (WIDTH - 60 - gap * (len(items) - 1) - sum(need)) / len(items)
        assert spare > -14, f"{self.title}: {-spare:.0f} px too much in each box"
        boxes, x = [], 30.0
        for item, width in zip(items, need, strict=True):
            boxes.append(self.box(x, y, width + spare, item))
            x += width + spare + gap
        for at, (a, b) in enumerate(zip(boxes, boxes[1:], strict=False)):
            self.link(a, b, labels[at] if labels else "")
        return boxes

    def promise(self, words: str) -> None:
        """The green line at the bottom: what is checked."""
        self.rect(30, self.height - 56, WIDTH - 60, 36, "same")
        self.text(WIDTH / 2, self.height - 33, words, "h")

    def bars(
        self, y: float, rows: list[tuple[str, float, str, str]], scale: float, left: float = 190
    ) -> None:
        """Horizontal bars: name, value, words behind it, colour."""
        for at, (name, value, words, colour) in enumerate(rows):
            top = y + 34 * at
            self.text(left - 12, top + 16, name, "r")
            self.parts.append(
                f'<rect x="{left:g}" y="{top:g}" width="{value * scale:g}" height="22" fill="{colour}"/>'
            )
            self.text(left + value * scale + 8, top + 16, words, "l")


def engine() -> Figure:
    f = Figure("The engine: sequencer, columns in lockstep, side lane, sampler", 452)
    link = f.box(30, 30, 210, ("link controller", "frames, loader, RUN, BATCH", ".hw"))
    seq = f.box(330, 30, 300, ("sequencer", "microcode, barriers, turns of the contexts", ".hw"))
    f.box(740, 30, 210, ("sampler", "argmax, or a seeded draw", ".hw"))
    f.link(link, seq, "start")
    f.rect(30, 142, WIDTH - 60, 180, "group")
    f.text(44, 160, "C columns in lockstep: element e of a vector, row e of a matrix in column e mod C", "l")
    weights = f.box(50, 192, 170, ("weight memory", "block RAM, 2 bits", "or 1.6 bits a trit", ".hw"))
    dot = f.box(278, 192, 170, ("dot unit", "K lanes, int8 x trit,", "no multiplier", ".hw"))
    pipe = f.box(506, 192, 190, ("pipeline", "requantize, table,", "shift-add product, sum", ".hw"))
    bank = f.box(770, 192, 160, ("bank", "activations,", "session state", ".hw"))
    f.link(weights, dot)
    f.link(dot, pipe, "sums")
    f.link(pipe, bank, "y")
    f.arrow("M850 272 V298 H650 V273", (752, 314, "operands B, C"), "s")
    f.arrow("M480 84 V140", (548, 118, "one pass, count slots"), "s")
    f.arrow("M660 192 V104 H845 V95", (722, 128, "logits"))
    f.arrow("M845 30 V16 H135 V29", (490, 12, ""), "s")
    f.text(490, 27, "token", "v")
    lane = f.box(506, 362, 190, ("side lane", "norm, gate, 8 bits", ".hw"))
    x = f.box(278, 362, 170, ("x buffer", "shared by all columns", ".hw"))
    f.arrow("M575 272 V361", (592, 346, "y"), "v")
    f.link(lane, x)
    f.arrow("M363 362 V273", (350, 346, "x"), "v")
    f.text(726, 392, "inputs of matrices pass the side", "l")
    f.text(726, 410, "lane: a norm costs no pass", "l")
    return f


def timing() -> Figure:
    """One layer of the shipped model on the shipped engine, from the closed form."""
    from ternac.compile.compiler import compile_program
    from ternac.compile.geometry import preset
    from ternac.hdl.engine.schedule import schedule
    from ternac.program.zoo import open_program

    passes = schedule(compile_program(open_program("shakespeare"), preset("ulx3s-85f"))).passes
    layer = [one for one in passes if one.name.startswith("1.")]
    begin, end = layer[0].start, layer[-1].start + layer[-1].cycles
    what = {
        "f": "forget gate",
        "g": "output gate",
        "h": "candidate, state x gate",
        "r1": "output, residual, norm",
        "a": "gated unit: SiLU",
        "z": "gated unit: product",
        "r2": "projection, residual, norm",
    }
    f = Figure(f"Passes of one layer: {end - begin} cycles", 92 + 34 * len(layer))
    scale, left = 650 / (end - begin), 250
    f.text(left, 28, f"layer 1 of shakespeare on ulx3s-85f: {end - begin} cycles, by the closed form", "l")
    for at, one in enumerate(layer):
        y = 44 + 34 * at
        words = what.get(one.name.partition(".")[2], "")
        f.text(left - 12, y + 16, f"{one.name}  {words}", "r")
        x = left + (one.start - begin) * scale
        for width, colour in ((one.cycles, "#d8dde3"), (one.dot_words, "#2563b8")):
            f.parts.append(
                f'<rect x="{x:g}" y="{y:g}" width="{width * scale:g}" height="22" fill="{colour}"/>'
            )
        f.text(x + one.cycles * scale + 6, y + 16, f"{one.dot_words} + {one.cycles - one.dot_words}", "l")
    f.text(
        left,
        f.height - 18,
        "blue: the dot units take a word of weights; grey: until the next pass starts",
        "l",
    )
    return f


def one_pass() -> Figure:
    """A pass of the shipped model, cycle by cycle from its start, from the constants of the closed form."""
    from ternac.compile.compiler import compile_program
    from ternac.compile.geometry import preset
    from ternac.hdl.array.dot import array_latency
    from ternac.hdl.engine.fetch import FETCH
    from ternac.hdl.engine.pass_control import RESULT_OFFSET
    from ternac.program.zoo import open_program

    image = compile_program(open_program("shakespeare"), preset("ulx3s-85f"))
    inst = image.instructions[image.names.index("1.f")]
    words, delay = inst.count * inst.words, array_latency(image.geometry)
    first = inst.words + delay  # the first row's sum; one row every `words` cycles from there
    last = words + delay + 1
    rows = [
        ("fetch of the instruction", -FETCH, 0, "#8a939e"),
        ("weights and x into the dot units", 1, words + 1, "#2563b8"),
        ("sums into the pipelines", first, last, "#b8590f"),
        ("results into bank and x buffer", first + RESULT_OFFSET, last + RESULT_OFFSET, "#2f7d3b"),
    ]
    f = Figure("One matrix pass, cycle by cycle", 92 + 34 * len(rows))
    scale, left = 640 / (rows[-1][2] + FETCH), 250 + FETCH * 640 / (rows[-1][2] + FETCH)
    f.text(
        250,
        28,
        f"pass 1.f of shakespeare on ulx3s-85f: {inst.count} slots of {image.geometry.columns} rows",
        "l",
    )
    for at, (name, start, end, colour) in enumerate(rows):
        y = 44 + 34 * at
        f.text(238, y + 16, name, "r")
        x, width = left + start * scale, (end - start) * scale
        f.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="22" fill="{colour}"/>')
        f.text(x + width + 6, y + 16, f"{start} .. {end - 1}", "l")
    f.text(
        250,
        f.height - 18,
        "cycles from the start of the pass; the next pass starts when the weights are in",
        "l",
    )
    return f


def sessions_together() -> Figure:
    """Cycles a token of one to four sessions of the shipped model, from the closed form."""
    from ternac.compile.compiler import compile_program
    from ternac.compile.geometry import preset
    from ternac.hdl.engine.schedule import batch_cycles, schedule
    from ternac.program.zoo import open_program

    image = compile_program(open_program("shakespeare"), preset("ulx3s-85f"))
    alone = schedule(image)
    rows = []
    for sessions in range(1, 5):
        cycles = batch_cycles(image, sessions, 75) / (75 * sessions) if sessions > 1 else alone.cycles
        busy = alone.dot_words / cycles
        name = f"{sessions} session{'s' if sessions > 1 else ''}"
        rows.append((name, cycles, f"{cycles:,.0f} cycles a token, dot units {busy:.0%} busy", "#2563b8"))
    f = Figure("Cycles a token of one to four sessions at a time", 200)
    f.bars(46, rows, 0.4)
    f.text(178, 32, "shakespeare on ulx3s-85f, greedy, 75 tokens each", "l")
    bound = 190 + 0.4 * alone.dot_words
    f.parts.append(f'<path d="M{bound:g} 40 V176" stroke="#b8590f" stroke-dasharray="4 3"/>')
    f.text(bound, 192, f"{alone.dot_words} words of weights: the bound", "s")
    return f


def training() -> Figure:
    f = Figure("Validation loss of the shipped model over its run", 260)
    with (ZOO / "shakespeare" / "curve.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_nats"]]
    points = [(int(row["step"]), float(row["val_nats"])) for row in rows]
    last, top, low = points[-1][0], 1.8, 1.4
    line = " ".join(
        f"{90 + 800 * s / last:.1f},{210 - 170 * (min(v, top) - low) / (top - low):.1f}"
        for s, v in points
        if v < top
    )
    for value in (1.4, 1.5, 1.6, 1.7, 1.8):
        y = 210 - 170 * (value - low) / (top - low)
        f.parts.append(f'<path class="axis" d="M90 {y:g} H890"/>')
        f.text(80, y + 4, f"{value:.1f}", "r")
    f.parts.append(f'<polyline class="line" stroke="#2563b8" points="{line}"/>')
    f.text(90, 232, "step 0", "s")
    f.text(890, 232, f"step {last}", "s")
    f.text(490, 250, "nats per character on the validation text: of the integers that are deployed", "s")
    return f


def memory() -> Figure:
    """A layer with a memory: it reads by this token's winners and writes at those of the token before."""
    f = Figure("A memory: winners, rows, the delta rule", 322)
    scores = f.box(30, 34, 150, ("scores", "of token t"))
    winners = f.box(246, 34, 170, ("winners", "one of each group"))
    rows = f.box(506, 34, 180, ("rows", "of this session", "int8, H heads", ".law"))
    read = f.box(776, 34, 174, ("o: rows added", "and shifted", ".box"))
    f.link(scores, winners)
    f.link(winners, rows, "H digits")
    f.link(rows, read, "H rows")
    value = f.box(30, 164, 150, ("value v", "of token t"))
    error = f.box(246, 164, 170, ("(o - v) >> t", "o of token t - 1"))
    write = f.box(506, 164, 180, ("row - error", "at token t - 1", ".law"))
    kept = f.box(776, 164, 174, ("state", "digits and o", "for token t + 1"))
    f.link(value, error)
    f.link(error, write, "to H rows")
    f.link(write, rows)
    f.link(read, kept)
    f.link(kept, write, "digits")
    f.promise("the same rows behind the same tokens, on whatever runs it")
    return f


def rows() -> Figure:
    """What an engine with rows has beside the pipelines, and what goes from where to where."""
    f = Figure("Rows in the engine: winners, digit list, address former, row RAM, sum and write", 420)
    winners = f.box(30, 34, 200, ("winners unit", "largest of each group,", "C scores a cycle", ".hw"))
    digits = f.box(
        330, 34, 230, ("digit list", "C digits a slot, for each context;", "LUT RAM, 2 digits a cycle", ".hw")
    )
    former = f.box(
        690, 34, 260, ("address former", "base + slot + ((k R + local) << stride)", "a head a cycle", ".hw")
    )
    f.link(winners, digits, "a digit")
    f.link(digits, former, "a, b")
    f.rect(30, 186, WIDTH - 60, 150, "group")
    f.text(640, 206, "C columns: element j of a row in column j mod C", "l")
    pipe = f.box(50, 228, 160, ("pipeline", "all that stands", "behind v0", ".hw"))
    total = f.box(300, 228, 150, ("row sum", "20 bits, a head", "a cycle: v0", ".hw"))
    ram = f.box(540, 228, 150, ("row RAM", "8 bits a word,", "read and write port", ".hw"))
    f.box(780, 228, 150, ("row write", "fade, subtract,", "saturate", ".hw"))
    f.link(total, pipe, "sum")
    f.link(ram, total, "word")
    f.arrow("M690 246 H779", (735, 238, "old"))
    f.arrow("M780 288 H691", (735, 304, "new"))
    f.arrow("M820 116 V166 H615 V227", (716, 158, "address, to all columns"))
    f.arrow("M90 228 V117", (122, 156, "scores y"))
    f.arrow("M170 228 V146 H390 V117", (296, 140, "digits y"))
    f.arrow("M500 116 V166 H250 V244 H211", (372, 180, "digits, token"), "s")
    f.arrow("M130 308 V322 H855 V309", (492, 318, "error y"))
    f.promise("a read and an update cost slots times heads; winners come with the pass of the scores")
    return f


HEADS_DRAWN, SLOTS_DRAWN = 4, 2


def row_cycles() -> Figure:
    """A read and an update of two slots and four heads, by the constants of the components."""
    from ternac.hdl.cells.memory import MemoryBank
    from ternac.hdl.engine.ports import UPDATE_AHEAD
    from ternac.hdl.engine.row_address import ADDRESS_LATENCY
    from ternac.hdl.engine.row_unit import READ_AHEAD

    column = ADDRESS_LATENCY + 1  # the cycle in which a head's address is at the columns
    word = column + MemoryBank.LATENCY
    read = [
        ("entry of the list", 0, "#8a939e"),
        ("digits", 1, "#8a939e"),
        ("address", ADDRESS_LATENCY, "#b8590f"),
        ("address at the columns", column, "#b8590f"),
        ("word of the row", word, "#2563b8"),
        ("sum", word + 1, "#2f7d3b"),
    ]
    update = [
        ("entry of the list", 0, "#8a939e"),
        ("address at the columns", column, "#b8590f"),
        ("old word", word, "#2563b8"),
        ("what is kept of it", word + 2, "#2563b8"),
        ("less the result", word + 3, "#2563b8"),
        ("saturated, written", word + 4, "#2f7d3b"),
    ]
    assert column == READ_AHEAD and word + 2 == UPDATE_AHEAD
    steps = HEADS_DRAWN * SLOTS_DRAWN
    cycles = steps + word + 5
    cell, left, height = 700 / cycles, 250, 20
    f = Figure("A read and an update of rows, cycle by cycle", 118 + 28 * (len(read) + len(update)) + 40)

    def part(top: float, title: str, signals: list[tuple[str, int, str]]) -> None:
        f.text(left, top, title, "l")
        for at, (name, late, colour) in enumerate(signals):
            y = top + 12 + 28 * at
            f.text(left - 12, y + 15, name, "r")
            for step in range(steps):
                x = left + (step + late) * cell
                f.parts.append(
                    f'<rect x="{x:.1f}" y="{y:g}" width="{cell - 2:.1f}" height="{height}" fill="{colour}"/>'
                    f'<text x="{x + cell / 2 - 1:.1f}" y="{y + 14:g}" font-size="11" fill="#ffffff" '
                    f'text-anchor="middle">{step // HEADS_DRAWN}.{step % HEADS_DRAWN}</text>'
                )

    part(
        30,
        f"MEM_READ, {HEADS_DRAWN} heads, {SLOTS_DRAWN} slots (slot.head): a sum is whole with its last head",
        read,
    )
    below = 30 + 28 * len(read) + 44
    part(
        below,
        f"MEM_UPDATE: the pipeline's result meets the old word {UPDATE_AHEAD} cycles after the slot begins",
        update,
    )
    bottom = below + 28 * len(update) + 28
    for cycle in range(0, cycles, 2):
        f.text(left + (cycle + 0.5) * cell, bottom, str(cycle))
    f.text(left, bottom + 24, "cycles from a slot's first head", "l")
    return f


def winner_cycles() -> Figure:
    """When the winners of a pass are in the list, by the constants of the closed form."""
    from ternac.compile.geometry import preset
    from ternac.hdl.engine.pass_control import RESULT_OFFSET
    from ternac.hdl.engine.winners import winners_latency

    g = preset("ulx3s-85f-rows")
    group, groups = 3, 4
    latency = winners_latency(g.columns)
    rows = [
        ("elements into the pipelines", 0, "#b8590f"),
        ("scores out of the pipelines", RESULT_OFFSET, "#2563b8"),
        ("winner of the group", RESULT_OFFSET + latency, "#2f7d3b"),
        ("its digit is in the list", RESULT_OFFSET + latency + 1, "#2f7d3b"),
    ]
    f = Figure("Winners: the tail of the pass that makes the scores", 92 + 34 * len(rows))
    cycles = rows[-1][1] + group * groups + 1
    scale, left = 680 / cycles, 250
    f.text(
        left,
        28,
        f"{groups} groups of {group} slots of {g.columns} columns, a slot a cycle (a bank pass)",
        "l",
    )
    for at, (name, start, colour) in enumerate(rows):
        y = 44 + 34 * at
        f.text(left - 12, y + 16, name, "r")
        for one in range(groups):
            first, width = (one * group, group) if at < 2 else (one * group + group - 1, 1)
            x = left + (start + first) * scale
            f.parts.append(
                f'<rect x="{x:.1f}" y="{y:g}" width="{width * scale - 2:.1f}" height="22" fill="{colour}"/>'
            )
        f.text(left + (start + group * groups) * scale + 6, y + 16, f"{start} ..", "l")
    f.text(
        left,
        f.height - 18,
        "cycles from the pass's first element; a group's winner comes while the next group's scores do",
        "l",
    )
    return f


def compare() -> Figure:
    f = Figure("Losses of the twins of the shipped size", 170)
    rows = [
        ("float", 1.4568, "1.4568 nats per character: float weights, float activations", "#8a939e"),
        ("ternary-float", 1.4683, "1.4683: trits, float activations", "#2563b8"),
        ("integer", 1.4634, "1.4634: trits, integers, as deployed", "#2f7d3b"),
    ]
    f.bars(46, rows, 180)
    f.text(178, 32, "same text, order, optimizer, seed and steps", "l")
    return f


def shares() -> list[tuple[str, float, str]]:
    """System and model, share and words, from the table of results-wide.md."""
    found = []
    for line in (HERE.parent / "results-wide.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 12 and cells[6][:1].isdigit():
            share = float(cells[6]) / float(cells[7])
            ports = ", four ports" if "four ports" in cells[1] else ""
            name = f"{cells[0].removesuffix(', whole token')}, {cells[2]}{ports}"
            found.append((name, share, f"{share:.1%}, {cells[5].partition(' x ')[0]}"))
    return found


def flows() -> dict[str, Figure]:
    """The figures that are one or two rows of boxes."""
    made: dict[str, Figure] = {}

    def add(name: str, title: str, height: int) -> Figure:
        made[name] = Figure(title, height)
        return made[name]

    f = add("quickstart", "One program, five executors", 180)
    law = f.box(30, 34, 200, ("integer program", "one .safetensors file", ".law"))
    names: list[Item] = [
        ("NumPy", "the definition", ".law"),
        ("native", "C kernels", ".box"),
        ("torch, GPU", "batches", ".box"),
        ("simulated", "the whole RTL", ".hw"),
        ("board", "serial link", ".hw"),
    ]
    for at, name in enumerate(names):
        box = f.box(330 + 125 * at, 34, 118, name)
        if not at:
            f.link(law, box, "run")
    f.promise("the same tokens everywhere, bit for bit")

    f = add("tutorial", "From text to board", 165)
    steps: list[Item] = [
        ("train", "2 min"),
        ("export", "30 s", ".law"),
        ("verify", "1 min"),
        ("estimate", "2 s"),
        ("simulate", "5 min", ".hw"),
        ("build", "1 min", ".hw"),
        ("flash", "30 s", ".hw"),
    ]
    f.flow(30, steps, gap=36)
    f.promise("every step compares with the one before")

    f = add("add-your-board", "From a file to a board", 165)
    steps = [
        ("my_board.py", "pins, chip, clock", ".law"),
        ("explore", "an engine"),
        ("estimate", "speed, area"),
        ("verify", "RTL, NumPy", ".hw"),
        ("build", "nextpnr", ".hw"),
        ("flash", "openFPGALoader", ".hw"),
        ("run", "text"),
    ]
    f.flow(30, steps, gap=28)
    f.promise("one declaration: names, recipe, constraints and tables follow from it")

    f = add("board_in_an_hour", "A board in an hour", 185)
    f.flow(
        30,
        [
            ("wire", "one cable", "5 min"),
            ("flash", "loopback", "2 min", ".hw"),
            ("board loopback", "line, RAM, SDRAM", "5 min", ".law"),
            ("flash", "engine, model", "2 min", ".hw"),
            ("board check", "identity to soak", "15 min", ".law"),
            ("report", "JSON, to send"),
        ],
        gap=30,
    )
    f.promise("no figure without its origin, no mismatch without its place")

    f = add("troubleshooting", "From an error to its cure", 110)
    f.flow(
        24,
        [
            ("command fails", "exit status 1 or 2"),
            ("error", "type, message", ".law"),
            ("hint", "what to do next", ".law"),
            ("ternac doctor", "what is missing"),
            ("this page", "by error"),
        ],
        gap=36,
    )

    f = add("training-at-scale", "Processes under torchrun", 290)
    f.box(30, 98, 150, ("text", "parallel streams"))
    ranks = [f.box(270, 24 + 74 * k, 300, (f"process {k}", "its share of the streams")) for k in range(2)]
    ranks.append(f.box(270, 172, 300, ("more", "on one machine or many")))
    f.box(700, 98, 250, ("shards/step-N", "torch.distributed.checkpoint"))
    for rank in ranks:
        f.arrow(f"M180 129 L{rank.x - 1:g} {rank.middle[1]:g}")
        f.arrow(f"M{rank.x + rank.w:g} {rank.middle[1]:g} L699 129")
    f.text(490, 268, "gradients are summed (DDP), or weights and optimizer cut into shards (FSDP2)", "s")

    f = add("import", "Import of a trained model", 240)
    f.flow(
        30,
        [
            ("checkpoint", "MMfreeLM, GGUF"),
            ("trits", "taken once", "exact", ".law"),
            ("scales", "from a calibration text", "measured deviation"),
            ("integer program", "wide ops", ".law"),
            ("executors", "NumPy, native, torch"),
        ],
        gap=40,
    )
    f.text(490, 152, "export: the same trits as GGUF blocks (TQ1_0, TQ2_0), read back and compared", "s")
    f.promise("exact from the program on; the deviation from float is measured and printed")

    f = add("qonnx", "QONNX export", 200)
    f.flow(
        30,
        [
            ("integer program", "one step", ".law"),
            ("Brevitas layers", "traced by its exporter"),
            ("step.onnx", "Quant nodes and ONNX"),
            ("two readers", "ONNX Runtime, qonnx"),
        ],
    )
    f.promise("logits and state equal NumPy's before the file is written")

    f = add("profile", "What a profile measures", 140)
    f.flow(
        30,
        [
            ("text", "8,192 bytes"),
            ("run as it is", "ranges, saturation, zeros"),
            ("run again", "one group not rounded"),
            ("difference", "nats per token and its error", ".same"),
        ],
    )
    f.text(490, 122, "once for each layer, or for each op", "s")

    f = add("bitstreams", "Steps of a build", 250)
    row = f.flow(
        30,
        [
            ("RTLIL", "of the whole design"),
            ("synth", "yosys", ".hw"),
            ("mark", "numbers in block RAM", ".hw"),
            ("place and route", "nextpnr", ".hw"),
            ("pack", "bitstream, memories.json", ".hw"),
        ],
        gap=32,
    )
    model = f.box(30, 130, 200, ("program", "compiled to an image", ".law"))
    patch = f.box(row[4].x, 130, row[4].w, ("patched bitstream", "seconds", ".hw"))
    f.link(model, patch, "build MODEL: contents replaced, no place and route")
    f.link(row[4], patch)
    f.text(
        490, 226, "named by the hash of everything that goes in: same inputs, same file on every machine", "s"
    )

    f = add("sdram", "Weights from SDRAM to the dot units", 200)
    f.flow(
        30,
        [
            ("SDRAM", "32 MB, 16 pins"),
            ("controller", "bursts of 8, refresh", ".hw"),
            ("FIFO", "512 words", ".hw"),
            ("decoders", "5 trits a byte", ".hw"),
            ("dot units", "4 x 20 lanes", ".hw"),
        ],
        gap=40,
    )
    f.text(490, 130, "every token reads all weights once, in one order: no addresses", "s")
    f.promise("98.1% of all cycles carry weights (cycle-exact simulation)")

    f = add("streaming", "The streaming unit", 300)
    desc = f.box(30, 40, 150, ("descriptors", "one a matrix"))
    reader = f.box(250, 40, 190, ("reader", "bursts, runs ahead", ".hw"))
    fifo = f.box(510, 40, 140, ("FIFO", "a word a cycle", ".hw"))
    decode = f.box(720, 40, 230, ("skew, decoders", "15 LUT4 a byte", ".hw"))
    control = f.box(250, 170, 190, ("control", "row groups, fences", ".hw"))
    memory = f.box(510, 170, 140, ("activations", "int8 memory", ".hw"))
    dots = f.box(720, 170, 230, ("dot units", "4 or 5, side by side", ".hw"))
    f.link(desc, reader)
    f.link(reader, fifo, "AXI4 R")
    f.link(fifo, decode)
    f.link(decode, dots)
    f.link(memory, dots, "x")
    f.link(control, memory)
    f.arrow("M105 102 V201 H249")
    f.arrow("M345 40 V18 H560", (620, 22, "AXI4 AR"))
    f.arrow("M835 232 V262 H640", (560, 266, "exact row sums, in order"), "s")

    f = add("wide", "A whole token: the wide unit and the weight stream", 312)
    port = f.box(30, 30, 150, ("port", "weights, gains,", "curves, rows", ".hw"))
    array = f.box(270, 30, 170, ("stream, dot units", "a word a cycle", ".hw"))
    rescale = f.box(530, 30, 170, ("rescale", "24 x 40 bits, serial", ".hw"))
    vectors = f.box(790, 30, 160, ("vector memory", "i16, 3 reads 1 write", ".hw"))
    constants = f.box(30, 170, 150, ("constants", "two phases", ".hw"))
    scalars = f.box(270, 170, 170, ("scalars", "root, inverse:", "a digit a cycle", ".hw"))
    lanes = f.box(530, 170, 420, ("lanes", "sat(c + round(a * b >> s)), shift and add", "", ".hw"))
    f.link(port, array)
    f.link(array, rescale, "sums")
    f.link(rescale, vectors, "i16")
    f.link(port, constants)
    f.arrow("M180 220 V290 H480 V232 H529", (355, 284, "gains, points"))
    f.link(scalars, lanes, "R")
    f.arrow("M529 190 H441", (486, 183, "ss, peak"))
    f.arrow("M830 92 V169", (852, 146, "a b c"))
    f.arrow("M920 170 V93", (938, 146, "y"))
    f.arrow("M600 170 V128 H355 V93", (470, 122, "QUANT: activations"))

    f = add("verilog", "Verilog for other tools", 292)
    rtl = f.box(30, 34, 170, ("RTLIL", "geometry and top", ".law"))
    text = f.box(300, 34, 210, ("Verilog, waivers", "plain assignments", ".hw"))
    program = f.box(30, 140, 170, ("program", "weights, prompt", ".law"))
    vectors = f.box(300, 140, 210, ("vectors", "$readmemh files"))
    f.box(640, 87, 310, ("testbench", "Verilator or Icarus, nothing else", ".same"))
    f.link(rtl, text, "yosys")
    f.link(program, vectors, "NumPy")
    f.arrow("M510 65 H575 V105 H639")
    f.arrow("M510 171 H575 V131 H639")
    f.promise("PASS: tokens, logits, state and clock cycles are equal; one wrong vector is a FAIL")

    f = add("performance-stream", "Cycles over the bound of the port", 170)
    f.bars(
        46,
        [
            ("370M", 4.333712, "4.33 M cycles a token, 1.7% over the bound", "#2563b8"),
            ("1.3B", 16.501647, "16.5 M, 1.7% over", "#2563b8"),
            ("2.7B", 33.268662, "33.3 M, 1.6% over", "#2563b8"),
        ],
        16,
        120,
    )
    f.text(108, 32, "1.6 bits a weight, a 128-bit port, cycle-exact simulation", "l")

    rows = shares()
    f = add("results-wide", "Share of the memory's bandwidth that weights reach", 46 + 34 * len(rows) + 10)
    f.text(178, 32, "bytes of weights a token x tokens/s, of what the memory or its ports can give", "l")
    f.bars(46, [(n, v, w, "#2f7d3b" if "Ternac" in n else "#8a939e") for n, v, w in rows], 500, 250)

    f = add("numerics", "From activations to activations", 210)
    f.flow(
        30,
        [
            ("x", "i8", "-128 .. 127"),
            ("TMATVEC", "trits, exact sums", "acc, below 2^23", ".law"),
            ("REQUANT", "(acc + half) >> shift", "round half up, saturate", ".law"),
            ("TABLE", "256 entries", "sigmoid, SiLU", ".law"),
            ("value", "i8 or i16"),
        ],
        gap=38,
    )
    f.promise("no multiplier, no float: the same integers in every executor")

    f = add("compress", "From a text to bytes and back", 210)
    f.flow(
        30,
        [
            ("text", "blocks"),
            ("tokens", "one session a block"),
            ("logits", "i16, any executor", ".law"),
            ("frequencies", "integers by a table", ".law"),
            ("range coder", "64 bits", ".law"),
            ("bytes", "or bits of surprise"),
        ],
        gap=22,
    )
    f.promise("no float: bytes of one machine are read on every other one")

    f = add("watch", "What a log says that was not expected", 210)
    f.flow(
        30,
        [
            ("log", "grows, is rotated"),
            ("lines", "one session reads all"),
            ("program", "trained on such logs", ".law"),
            ("bits of a line", "integers", ".law"),
            ("threshold", "of a clean log"),
            ("report", "JSON, Prometheus"),
        ],
        gap=16,
    )
    f.promise("the same lines are reported on every machine")

    f = add("task", "A task whose answers are checked", 210)
    f.flow(
        30,
        [
            ("lines", "made from a seed"),
            ("training", "answers count more"),
            ("program", "301,056 trits", ".law"),
            ("iCEBreaker", "or any executor", ".hw"),
            ("answer", "greedy, to the line's end"),
            ("right", "all of it, or not"),
        ],
        gap=16,
    )
    f.promise("asked of pairs of room and action that no training line has")

    f = add("program", "A program file", 240)
    f.flow(
        30,
        [
            ("length", "u64"),
            ("header", "canonical JSON: ops, names", "states, sha256", ".law"),
            ("tables", "16 bits"),
            ("trits", "five to a byte"),
            ("embedding", "int8"),
            ("tokenizer", "tokenizer.json"),
        ],
        gap=14,
    )
    f.text(490, 140, "one .safetensors file; sha256 of all but name and description is the identity", "s")
    f.promise("size, hash, description, legality: all checked before anything runs")

    f = add("link", "A request and its answer", 250)
    f.flow(
        24,
        [
            ("END", "C0"),
            ("type", "u8", ".law"),
            ("seq", "u16", ".law"),
            ("payload", "SLIP-stuffed, at most 313 bytes", ".law"),
            ("crc", "u32", ".law"),
            ("END", "C0"),
        ],
        gap=14,
    )
    f.text(160, 128, "host", "h")
    f.text(820, 128, "device", "h")
    f.parts.append('<path class="axis" d="M160 138 V236 M820 138 V236"/>')
    for y, words, right in (
        (156, "RUN seq 7", True),
        (180, "RUN seq 8, follows (window 2)", True),
        (204, "answer 7: tokens, rng, cycles", False),
        (228, "answer 8", False),
    ):
        f.arrow(f"M160 {y} H818" if right else f"M820 {y} H162", (490, y - 5, words), "s")

    f = add("host", "A token in the native executor", 190)
    f.flow(
        30,
        [
            ("plan", "places, meetings, order"),
            ("packed trits", "2 or 1.6 bits"),
            ("kernels", "AVX512-VNNI .. portable C"),
            ("rows of blocks", "shared by the threads"),
            ("token", "one call"),
        ],
        gap=30,
    )
    f.promise("bit for bit what NumPy computes, on every instruction set")

    f = add("gpu", "Phases of a layer on a GPU", 190)
    f.flow(
        30,
        [
            ("whole", "norms, by every block"),
            ("products", "dp4a on packed trits"),
            ("own", "requantize, recurrence"),
            ("next phase", "four a layer"),
            ("graph", "a token, replayed"),
        ],
        gap=32,
    )
    f.promise("in Triton's interpreter and in plain torch: bit for bit NumPy")

    f = add("sessions", "A session moves between executors", 170)
    f.flow(
        30,
        [
            ("NumPy", "100 tokens"),
            ("romeo.session", "state, generator, token", ".law"),
            ("board", "100 more", ".hw"),
            ("romeo.session", "2 bytes a state word", ".law"),
            ("native", "and so on"),
        ],
        ["save", "load", "save", "load"],
    )
    f.promise("the tokens that one executor alone would have chosen")

    f = add("server", "The server", 260)
    clients = [f.box(30, 24 + 58 * k, 170, (name,)) for k, name in enumerate(("openai", "curl", "browser"))]
    f.box(330, 56, 250, ("ternac serve", "OpenAI's API, sessions,", "scheduler, metrics", ".law"))
    devices = [
        f.box(720, 24 + 58 * k, 230, item)
        for k, item in enumerate([("board", ".hw"), ("native",), ("NumPy, last resort",)])
    ]
    for box in clients:
        f.arrow(f"M200 {box.middle[1]:g} L329 {100 + (box.middle[1] - 101) / 4:g}")
    for box in devices:
        f.arrow(f"M580 {100 + (box.middle[1] - 101) / 4:g} L719 {box.middle[1]:g}")
    f.promise("a lost device hands its texts to the next one, token for token")

    f = add("limits", "A file is counted before it costs anything", 170)
    f.flow(
        30,
        [
            ("file", "from elsewhere"),
            ("sizes", "against the file's own"),
            ("rules", "of the format", ".law"),
            ("cost", "work, memory", ".law"),
            ("read", "by library or executor"),
        ],
        gap=32,
    )
    f.promise("what costs too much is refused with both numbers; --budget raises the limit")

    f = add("formal", "A block between free inputs and properties, proven by two solvers", 170)
    f.flow(
        30,
        [
            ("free inputs", "any, in every cycle"),
            ("block", "the RTL that is built", ".hw"),
            ("properties", "claims, invariants", ".law"),
            ("yosys", "SMT-LIB"),
            ("yices, z3", "reset, induction"),
        ],
        gap=32,
    )
    f.promise("each claim holds for all inputs and all time, and a bug planted for it breaks it")

    f = add("faults", "A fault, and what must follow from it", 170)
    f.flow(
        30,
        [
            ("source, netlist", "one place changed"),
            ("board", "a bit, a restart", ".hw"),
            ("process, disk", "killed, full"),
            ("tests, host", "the real ones", ".law"),
            ("noticed", "or the same result"),
        ],
        gap=32,
    )
    f.promise("what is broken is noticed, refused, or changes nothing; the tables say where it is not")

    f = add("contributing", "Arrows between the layers", 170)
    f.flow(
        30,
        [
            ("program", "ternac/program", ".law"),
            ("run, compile", "ternac/run, compile"),
            ("hdl", "Amaranth", ".hw"),
            ("sim", "Verilator", ".hw"),
            ("host", "devices"),
            ("cli", "argparse, print"),
        ],
        gap=28,
    )
    f.text(
        490,
        122,
        "a layer imports only those to its left; model (torch) stands beside hdl; a test holds it",
        "s",
    )
    f.text(490, 144, "an arrow reads: is used by", "s")
    return made


FIGURES: dict[str, Callable[[], Figure]] = {
    "engine": engine,
    "pass-timing": timing,
    "pass": one_pass,
    "performance": sessions_together,
    "training": training,
    "compare": compare,
    "memory": memory,
    "rows": rows,
    "rows-cycles": row_cycles,
    "winners-cycles": winner_cycles,
}


def all_figures() -> dict[str, str]:
    """Every figure's text by its file name."""
    drawn = {name: make() for name, make in FIGURES.items()} | flows()
    return {f"{name}.svg": figure.svg() for name, figure in sorted(drawn.items())}


if __name__ == "__main__":
    for file_name, svg in all_figures().items():
        (HERE / file_name).write_text(svg)
