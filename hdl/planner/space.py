"""The geometries that ``ternac explore`` looks at: shapes of a board's family, memories sized to a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from ternac.compile.compiler import compile_program, needs_rows
from ternac.compile.geometry import Geometry
from ternac.compile.image import Image
from ternac.compile.isa import LIST_BITS, WORDS, Lane, Opcode, Source
from ternac.errors import DoesNotFit
from ternac.hdl.cells.bram_cells import max_depth
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.norm import norm_latency
from ternac.hdl.engine.ports import STREAM_GAP
from ternac.hdl.engine.side_lane import SQUARED
from ternac.program.ops import Op
from ternac.program.program import Program

__all__ = ["CONTEXTS", "Shape", "shapes_of", "sized"]

_ARRANGEMENTS = {
    Technology.ECP5: ((4, 2, 3), (4, 2, 2), (2, 2, 3), (8, 2, 3), (8, 1, 2)),
    Technology.GOWIN: ((1, 2, 2), (2, 2, 2), (1, 1, 2)),
    Technology.ICE40: ((3, 1, 2), (2, 1, 2), (1, 1, 2), (1, 2, 2), (2, 2, 2), (3, 2, 2)),
}
"""Chain, fold and radix of a dot unit."""
_SIDES = {
    Technology.ECP5: (
        (2, 4, 6, 8, 12, 16, 24), (16, 24, 32, 48, 64, 96, 128, 144, 192, 256, 288, 384), 2304,
    ),
    Technology.GOWIN: ((1, 2, 4, 6, 8), (8, 12, 16, 24, 32, 48, 64, 96, 128, 192), 384),
    Technology.ICE40: ((1, 2, 4), (2, 4, 6, 8, 10, 12, 16, 24), 96),
}  # fmt: skip
"""Columns and lanes that are tried, and the most dot lanes in all."""
CONTEXTS = (1, 2, 4)
"""Sessions at a time that are tried."""
_LARGEST = 1 << 16
_DEEPEST = 1 << 14
"""Words of the deepest memory that all columns read."""
_BLOCK = (
    (18, 1024, "block"),
    (9, 2048, "block"),
    (4, 4096, "block"),
    (2, 8192, "block"),
    (1, 16384, "block"),
)
_PAIRED = (18, 512, "paired")
_SPRAM = ((16, 16384, "spram"),)


@dataclass(frozen=True)
class Shape:
    """The free choices; the depths of all memories follow from the model."""

    columns: int
    lanes: int
    contexts: int
    lane_depth: int
    share: int


def shapes_of(tech: Technology) -> list[Shape]:
    """Return all shapes tried on a family, the cheaper ones first."""
    columns, lanes, most = _SIDES[tech]
    # without LUT RAM the side lane's buffers would be registers; no build of it on Gowin is measured
    lane_depths = (0, 32, 64, 128) if tech is Technology.ECP5 else (0,)
    found = [
        Shape(c, n, k, depth, share)
        for c, n, k, depth, share in product(columns, lanes, CONTEXTS, lane_depths, (1, 2, 4))
        if n % c == 0
        and c % share == 0
        and c * n <= most
        and not (depth and (share > 1 or SQUARED + norm_latency(c) > STREAM_GAP))
    ]
    return sorted(found, key=lambda s: (s.columns * s.lanes, s.columns, s.contexts, s.lane_depth, s.share))


def sized(program: Program, shape: Shape, tech: Technology) -> Iterator[tuple[Geometry, Image]]:
    """Yield geometries of that shape whose memories are just deep enough for ``program``, and its images.

    The images have no contents. Raises DoesNotFit, as the compiler does, if no depth is enough.
    """
    rows = needs_rows(program)
    if rows and (shape.share > 1 or shape.columns < 2):
        raise DoesNotFit(f"{program.name!r} needs rows, and those two columns with a pipeline each")
    roomy = Geometry(
        name=f"{shape.columns}x{shape.lanes}", columns=shape.columns, lanes=shape.lanes, chain=1,
        weight_block_bits=18, weight_depth=_DEEPEST, x_depth=256, bank_depth=_LARGEST, bias_depth=_LARGEST,
        bias_bits=_bias_bits(program), embed_depth=_DEEPEST, tables=8, norm_tables=8, program_depth=_LARGEST,
        contexts=shape.contexts, lane_depth=shape.lane_depth, share=shape.share, logit_slots=1 << 12,
        weight_ram="spram", rows=_LARGEST if rows else 0, list_slots=1 << LIST_BITS if rows else 0,
    )  # fmt: skip
    image = _at_shallowest_bank(program, roomy, tech)
    geometry = _fitted(image, program, tech)
    for chain, fold, radix in _ARRANGEMENTS[tech]:
        if shape.lanes % (chain * fold):
            continue
        for bits, depth, form in _weight_forms(image, tech):
            stage = -(-2 * shape.columns * (shape.lanes // chain) // bits)
            if form == "paired":
                stage += stage % 2
            if stage * chain > 256:
                continue
            name = f"{shape.columns}x{shape.lanes}-c{chain}f{fold}r{radix}-k{shape.contexts}"
            name += f"-l{shape.lane_depth}" * bool(shape.lane_depth) + f"-s{shape.share}" * (shape.share > 1)
            name += "-paired" * (form == "paired")
            found = replace(
                geometry, name=name, chain=chain, fold=fold, radix=radix, weight_block_bits=bits,
                weight_depth=depth, weight_ram=form,
            )  # fmt: skip
            yield found, replace(image, geometry=found)


def _at_shallowest_bank(program: Program, roomy: Geometry, tech: Technology) -> Image:
    """Return the image for the shallowest banks that hold every context; values share words if that helps."""
    depth = 256 if tech is Technology.ICE40 else 1024
    while True:
        try:
            return compile_program(
                program, replace(roomy, bank_depth=depth), contexts=roomy.contexts, fill=False
            )
        except DoesNotFit as error:
            if error.resource != "bank words" or depth * roomy.share >= max_depth(tech):
                raise
            depth *= 2


def _fitted(image: Image, program: Program, tech: Technology) -> Geometry:
    """Return the image's geometry with its memories as small as the image allows."""
    g, ice = image.geometry, tech is Technology.ICE40
    dots = [i for i in image.instructions if i.op == Opcode.VEC and i.source == Source.DOT]
    norms = [i for i in image.instructions if i.op == Opcode.VEC and (i.stat or i.lane == Lane.NORM)]
    x_words = max((i.x_src + i.words for i in dots), default=1)
    least = 256 if ice else 1024  # words of a block RAM at its widest
    code = len(image.instructions) * WORDS * g.contexts
    embed = max((_embed_words(program, op, g) for op in program.ops if op.kind == "GATHER"), default=2)
    return replace(
        g,
        x_depth=min(256, max(16, _power(x_words * g.contexts))),
        bias_depth=_multiple(max((i.a + i.count for i in dots), default=1), least // g.share),
        tables=1 + max((i.table for i in image.instructions if i.table_en), default=0),
        norm_tables=1 + max((i.norm_table for i in norms), default=0),
        embed_depth=1 << 14 if ice else max(least, _power(embed)),
        embed_block_bits=16 if ice and g.columns % 2 == 0 else 8,
        program_depth=2 * max(least, _power(-(-code // 2))),
        logit_slots=_multiple(g.slots(image.logits.length), 16),
        rows=max(least, _power(image.row_start(g.contexts - 1) + image.row_words)) if g.rows else 0,
    )


def _embed_words(program: Program, op: Op, g: Geometry) -> int:
    """Return the words of an embedding in each column, its vectors a power of two apart."""
    vocabulary, width = program.consts[str(op.attrs["embed"])].shape
    return int(vocabulary) << (g.slots(int(width)) - 1).bit_length()


def _bias_bits(program: Program) -> int:
    """Return the bits that count the -1 weights of any row: 8 or 16, as block RAM is cut in bytes."""
    rows = [program.consts[str(op.attrs["weights"])] for op in program.ops if op.kind == "TMATVEC"]
    most = max((int((trits < 0).sum(1).max(initial=0)) for trits in rows), default=0)
    return 8 if most < 256 else 16


def _weight_forms(image: Image, tech: Technology) -> list[tuple[int, int, str]]:
    """Return width, depth and form of the weight blocks that hold the image's words."""
    used = max((i.weight + i.count * i.words for i in image.instructions if i.op == Opcode.VEC), default=1)
    forms = _SPRAM if tech is Technology.ICE40 else _BLOCK
    wide = [form for form in forms if used <= form[1]][:1]
    return [*wide, *([_PAIRED] if used <= _PAIRED[1] and tech is Technology.ECP5 else [])]


def _power(count: int) -> int:
    """Return the next power of two."""
    return 1 << max(0, count - 1).bit_length()


def _multiple(count: int, of: int) -> int:
    """Return the next multiple of ``of``."""
    return max(1, -(-count // of)) * of
