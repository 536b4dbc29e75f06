"""The shape of an engine: how many columns and lanes, how deep each memory.

A geometry is the contract between a bitstream and the program images made for it. Every fact about
where an element, a row or a trit lives is stated here once and used by the compiler, the RTL and the host:

* element ``e`` of a vector lives in column ``e % columns`` at slot ``e // columns``;
* row ``r`` of a matrix belongs to column ``r % columns``;
* lane ``l`` of a column is stage ``l % chain`` of chain ``l // chain``;
* input element ``k`` of a row is word ``k // lanes`` of that row, lane ``k % lanes``.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import MISSING, asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

from ternac.errors import UsageError
from ternac.link import SPAN_TOKENS


class Mem(IntEnum):
    """Memory numbers as the link and the loader use them."""

    PROGRAM = 0
    WEIGHT = 1
    EMBED = 2
    BIAS = 3
    TABLE = 4
    NORM = 5
    BANK = 6
    ROWS = 7


_ROWS = "rows must be a power of two, 16..65536, or 0 for none, not {}"
ROW_RAMS = ("block", "sdram")
MOST_IN_LUTS = 256
"""Words of row RAM that LUT RAM is taken for where rows are in SDRAM; more take block RAM."""
ROW_BLOCKS = 128
"""Blocks of 64 Ki words as which the link sees one half of an SDRAM with rows."""


@dataclass(frozen=True)
class MemoryShape:
    """``blocks`` independent memories of ``depth`` words of ``bits`` bits."""

    blocks: int
    depth: int
    bits: int

    @property
    def bytes_per_word(self) -> int:
        """Bytes of one word on the link."""
        return (self.bits + 7) // 8


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Parameters of one engine; the module's text says what each memory holds.

    Raises ValueError if parameters contradict each other.
    """

    name: str
    columns: int
    """Columns working in lockstep; one result each per cycle at best."""
    lanes: int
    """Ternary multiply-accumulates per column and cycle."""
    chain: int
    """Lanes added one after the other before the adder tree; the skew of the memories in cycles."""
    weight_block_bits: int
    """Width of one weight block (18 on an ECP5 block RAM, 16 on an iCE40 single-port RAM)."""
    weight_depth: int
    """Words of ``columns * lanes`` trits."""
    x_depth: int
    """Words of ``lanes`` activations in the x buffer, which all contexts share."""
    bank_depth: int
    """16-bit words of activations and state per column."""
    bias_depth: int
    """Row corrections per column: total rows of all matrices over the columns."""
    bias_bits: int
    """Width of a row correction, which counts the -1 weights of the row."""
    embed_depth: int
    """Embedding bytes per column."""
    embed_block_bits: int = 8
    """Width of one embedding block: 8 bits per column in it."""
    tables: int = 2
    """Activation tables of 256 entries of 16 bits, one copy per column."""
    norm_tables: int = 1
    """Reciprocal square root tables of 256 entries of 8 bits."""
    program_depth: int = 2048
    """16-bit words of microcode, in two blocks: even words and odd ones."""
    fold: int = 1
    """Lanes added one after the other between two registers of a chain."""
    radix: int = 2
    """Sums that meet at a register of the adder tree."""
    contexts: int = 1
    """Sessions that may run at the same time, taking turns phase by phase."""
    lane_depth: int = 0
    """Slots of results that wait in the side lane for their norm; 0: no side lane, a NORM takes two
    passes."""
    side_depth: int = 16
    """Slots of the side lane's multiplicand."""
    logit_slots: int = 64
    """The vocabulary is at most ``logit_slots * columns``."""
    share: int = 1
    """Columns that one pipeline serves in turn; rows are then at least ``share`` weight words long."""
    weight_ram: str = "block"
    """``block``, ``paired`` (two weight blocks of up to 512 words in one ECP5 block RAM), ``spram`` (iCE40
    single-port RAM, 16 K x 16, for weights and embedding) or ``sdram`` (read once a token in program order,
    five trits a byte; row corrections are counted on the way)."""
    weight_code: str = "two_bit"
    """One of `codes`: ``two_bit`` (nonzero, negative) or ``five``: five trits in a byte
    (`ternac.program.trit_code`), decoded behind the weight memory."""
    rows: int = 0
    """Words of 8 bits per column for rows of memories and of constants; 0: none, and no ops of memories."""
    list_slots: int = 0
    """Slots of a context's address list, ``columns`` digits each; only with ``rows``."""
    row_ram: str = "block"
    """Where the rows of memories live: ``block`` (in those ``rows`` words) or ``sdram``: 32 MiB outside, and
    the ``rows`` words hold what a pass is at work on."""
    spans: int = 0
    """1: the sampler tells a token's span among the frequencies of all (docs/compress.md); 0: it does not."""

    def __post_init__(self) -> None:
        def need(ok: bool, text: str) -> None:
            if not ok:
                raise ValueError(f"geometry {self.name!r}: {text}")

        for field, value in asdict(self).items():
            if isinstance(value, int):
                least = 0 if field in ("lane_depth", "rows", "list_slots", "spans") else 1
                need(value >= least, f"{field} must be at least {least}, not {value}")
        need(self.lanes % self.chain == 0, f"chain {self.chain} must divide lanes {self.lanes}")
        need(
            self.lanes // self.chain % self.fold == 0,
            f"fold {self.fold} must divide the {self.chains} chains",
        )
        need(self.radix >= 2, f"radix must be at least 2, not {self.radix}")
        need(self.lanes % self.columns == 0, f"columns {self.columns} must divide lanes {self.lanes}")
        need(self.columns % self.share == 0, f"share {self.share} must divide columns {self.columns}")
        need(self.share & (self.share - 1) == 0, f"share must be a power of two, not {self.share}")
        need(self.weight_block_bits <= 18, "a weight block is at most 18 bits wide")
        need(self.weight_blocks <= 256, f"{self.weight_blocks} weight blocks exceed the link's 256")
        need(self.embed_block_bits % 8 == 0, "embed_block_bits must be a multiple of 8")
        need(self.columns * 8 % self.embed_block_bits == 0, "embed_block_bits must divide 8 * columns")
        need(self.embed_block_bits <= 16, "an embedding block is at most 16 bits wide")
        need(self.bias_bits <= 16, "bias_bits is at most 16")
        need(self.tables <= 8 and self.norm_tables <= 8, "at most 8 tables of a kind")
        rams = ("block", "paired", "spram", "sdram")
        need(self.weight_ram in rams, f"unknown weight_ram {self.weight_ram!r}")
        if self.streams:
            need(self.weight_depth * self.stream_words <= 1 << 24, "an SDRAM holds 16 Mi words")
            need(self.columns * self.chains % 5 == 0, "a stage must be whole bytes of five trits")
            need(self.macs % 10 == 0, f"{self.macs} lanes are no whole number of words of ten trits")
            need(self.fold == 1 and self.radix == 2, "streamed weights need fold 1 and radix 2")
            need(self.share == 1 and self.contexts == 1, "streamed weights need share 1 and one context")
            need(self.weight_code in self.codes, "streamed weights are five trits a byte: weight_code 'five'")
        if self.weight_ram == "paired":
            need(self.weight_depth <= 512, "paired weight blocks hold at most 512 words")
        need(self.weight_code in self.codes, f"unknown weight_code {self.weight_code!r}")
        if self.rows:
            need(self.rows & (self.rows - 1) == 0 and 16 <= self.rows <= 1 << 16, _ROWS.format(self.rows))
            need(1 <= self.list_slots <= 16, f"list_slots must be 1..16 with rows, not {self.list_slots}")
            need(self.share == 1, "rows need a pipeline for every column: share 1")
            need(self.columns >= 2, "rows need at least two columns, for the digits of a token")
            need(not self.streams, "rows need weights on the chip")
            need(self.row_ram in ROW_RAMS, f"unknown row_ram {self.row_ram!r}")
        need(not self.list_slots or self.rows > 0, "list_slots is for engines with rows")
        if self.stores_rows:
            need(self.rows > 0, "row_ram 'sdram' is for engines with rows")
            need(self.columns % 2 == 0, f"rows in SDRAM need an even number of columns, not {self.columns}")
            need(self.columns <= 64, f"rows in SDRAM need at most 64 columns, not {self.columns}")
            need(self.rows <= self.bank_depth, "rows in SDRAM need no more row words than bank words")
        need(self.spans <= 1, f"spans must be 0 or 1, not {self.spans}")
        if self.spans:
            most, tokens = SPAN_TOKENS, self.logit_slots * self.columns
            need(tokens <= most, f"spans are of at most {most} tokens, not {tokens}")
            need(not self.stores_rows, "an engine with rows in SDRAM has no spans")
        need(self.contexts <= 4, f"at most 4 contexts, not {self.contexts}")
        need(self.x_depth <= 256, f"x_depth is at most 256, not {self.x_depth}")
        need(self.program_depth % 2 == 0, "program_depth must be even")
        need(not self.lane_depth or self.share == 1, "a side lane needs a pipeline for every column")
        need(
            self.lane_depth & (self.lane_depth - 1) == 0 and self.lane_depth != 1,
            f"lane_depth must be a power of two, not {self.lane_depth}",
        )
        need(
            max(0 if self.streams else self.weight_depth, self.bank_depth, self.embed_depth) <= 1 << 16,
            "a memory is at most 64 Ki deep",
        )

    @property
    def streams(self) -> bool:
        """True if weights come in program order from outside, not from a memory with addresses."""
        return self.weight_ram == "sdram"

    @property
    def stores_rows(self) -> bool:
        """True if the rows of memories live in an SDRAM, from which passes of their own bring them."""
        return self.row_ram == "sdram"

    @property
    def rows_in_luts(self) -> bool:
        """True if the row RAM is LUT RAM: a buffer before an SDRAM that is small enough."""
        return self.stores_rows and self.rows <= MOST_IN_LUTS

    @property
    def has_sdram(self) -> bool:
        """True if an SDRAM is on the engine's pins."""
        return self.streams or self.stores_rows

    @property
    def codes(self) -> tuple[str, ...]:
        """The values that ``weight_code`` can have."""
        return ("five",) if self.streams else ("two_bit", "five")

    @property
    def stream_words(self) -> int:
        """16-bit words of external memory, of ten trits each, that make a weight word."""
        return self.macs // 10

    @property
    def pipelines(self) -> int:
        """Column pipelines; pipeline ``p`` serves columns ``p * share`` and up."""
        return self.columns // self.share

    @property
    def pipelined_broadcast(self) -> bool:
        """True if signals to all columns, or to an embedding's many block RAMs, pass further registers."""
        return self.columns > 4 or self.streams

    @property
    def row_register(self) -> int:
        """Registers between the columns' results and the sampler."""
        return int(self.pipelined_broadcast)

    @property
    def sampler_pace(self) -> int:
        """Cycles per element while a draw is weighed: the small sampler where columns share a pipeline."""
        return 4 if self.share > 1 else 1

    @property
    def chains(self) -> int:
        """Chains per column."""
        return self.lanes // self.chain

    @property
    def stage_bits(self) -> int:
        """Bits that one stage's ``columns * chains`` trits take in the weight memory."""
        trits = self.columns * self.chains
        return 2 * trits if self.weight_code == "two_bit" else 8 * -(-trits // 5)

    @property
    def weight_register(self) -> bool:
        """True if trits pass a register between weight memory and adders.

        So they do if adders follow each other, or behind a decoder (a stream's decoder has a register in it).
        """
        return self.fold > 1 or (self.weight_code == "five" and not self.streams)

    @property
    def weight_blocks_per_stage(self) -> int:
        """Blocks that hold one stage's `stage_bits`.

        Their number is even where two blocks share a block RAM.
        """
        blocks = -(-self.stage_bits // self.weight_block_bits)
        return blocks + blocks % 2 if self.weight_ram == "paired" else blocks

    @property
    def weight_blocks(self) -> int:
        """Weight blocks in all; stage ``j`` owns blocks ``j * weight_blocks_per_stage`` and up."""
        return self.chain * self.weight_blocks_per_stage

    @property
    def macs(self) -> int:
        """Ternary multiply-accumulates per cycle at best."""
        return self.columns * self.lanes

    @property
    def weight_capacity(self) -> int:
        """Trits that the weight memory holds."""
        return self.macs * self.weight_depth

    def slots(self, length: int) -> int:
        """Return the bank words per column that a vector of ``length`` elements takes."""
        return -(-length // self.columns)

    def tail(self, length: int) -> int:
        """Return the columns that the last slot of a vector fills, 1..columns."""
        return length - self.columns * (self.slots(length) - 1)

    def words(self, length: int) -> int:
        """Return the weight words of one row with ``length`` inputs."""
        return max(self.share, -(-length // self.lanes))

    def memory(self, mem: Mem) -> MemoryShape:
        """Return the shape of memory ``mem`` as the loader sees it; of streamed weights, at their largest."""
        c = self.columns
        if self.streams and mem == Mem.WEIGHT:
            return MemoryShape(-(-self.weight_depth * self.stream_words >> 16), 1 << 16, 16)
        if self.stores_rows and mem == Mem.ROWS:
            return MemoryShape(ROW_BLOCKS, 1 << 16, 16)
        return {
            Mem.PROGRAM: MemoryShape(2, self.program_depth // 2, 16),
            Mem.WEIGHT: MemoryShape(self.weight_blocks, self.weight_depth, self.weight_block_bits),
            Mem.EMBED: MemoryShape(c * 8 // self.embed_block_bits, self.embed_depth, self.embed_block_bits),
            Mem.BIAS: MemoryShape(c, self.bias_depth, self.bias_bits),
            Mem.TABLE: MemoryShape(1, self.tables * 256, 16),
            Mem.NORM: MemoryShape(1, self.norm_tables * 256, 8),
            Mem.BANK: MemoryShape(c, self.bank_depth, 16),
            Mem.ROWS: MemoryShape(c, self.rows, 8),
        }[mem]

    @property
    def memories(self) -> tuple[Mem, ...]:
        """The memories that the engine has, in the order of their numbers."""
        return tuple(mem for mem in Mem if mem != Mem.ROWS or self.rows)

    @property
    def hash(self) -> bytes:
        """Eight bytes that differ when any parameter differs; the board reports them.

        ``weight_code``, ``rows``, ``list_slots``, ``row_ram`` and ``spans`` came after the first bitstreams.
        They count only where they are a choice and not the default, so that their hashes stay what they were.
        """
        values = asdict(self)
        if self.streams or self.weight_code == "two_bit":
            del values["weight_code"]
        if not self.rows:
            del values["rows"], values["list_slots"]
        if not self.stores_rows:
            del values["row_ram"]
        if not self.spans:
            del values["spans"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:8]


PRESETS: dict[str, Geometry] = {
    g.name: g
    for g in (
        Geometry(
            name="tiny", columns=4, lanes=8, chain=4, weight_block_bits=16, weight_depth=2048, x_depth=32,
            bank_depth=512, bias_depth=512, bias_bits=16, embed_depth=4096, tables=4, norm_tables=2,
            logit_slots=64, contexts=3, lane_depth=64,
        ),
        Geometry(
            name="tiny-rows", columns=4, lanes=8, chain=4, weight_block_bits=16, weight_depth=2048,
            x_depth=32, bank_depth=512, bias_depth=512, bias_bits=16, embed_depth=4096, tables=4,
            norm_tables=2, logit_slots=64, contexts=3, lane_depth=64, rows=4096, list_slots=16,
        ),
        # For simulation: what `ulx3s-85f-rows` is made of, fewer lanes, and memories that no FPGA here has.
        Geometry(
            name="sim-rows", columns=8, lanes=32, chain=4, fold=2, radix=3, weight_block_bits=18,
            weight_depth=8192, x_depth=256, bank_depth=4096, bias_depth=4096, bias_bits=16,
            embed_depth=1 << 14, tables=8, norm_tables=8, program_depth=4096, logit_slots=64, contexts=4,
            lane_depth=64, weight_code="five", rows=1 << 16, list_slots=16,
        ),
        # Weights in three single-port RAMs (48 bits a cycle), the embedding in the fourth.
        Geometry(
            name="icebreaker", columns=2, lanes=12, chain=3, weight_block_bits=16, weight_depth=16384,
            x_depth=256, bank_depth=512, bias_depth=1536, bias_bits=8, embed_depth=16384,
            embed_block_bits=16, tables=2,
            norm_tables=1, program_depth=512, logit_slots=128, share=2, weight_ram="spram",
        ),
        # 11 of 26 block RAMs hold 98,304 trits.
        Geometry(
            name="gw1nr-9", columns=2, lanes=24, chain=1, fold=2, weight_block_bits=9, weight_depth=2048,
            x_depth=16, bank_depth=512, bias_depth=1024, bias_bits=8, embed_depth=4096, tables=2,
            norm_tables=1, logit_slots=64, share=2,
        ),
        # 22 of 46 block RAMs hold 196,608 trits.
        Geometry(
            name="gw2ar-18", columns=2, lanes=96, chain=1, fold=2, weight_block_bits=18, weight_depth=1024,
            x_depth=16, bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=8192, tables=4,
            norm_tables=4, logit_slots=64,
        ),
        # 22 of 56 block RAMs hold 196,608 trits, two blocks of 512 words in each.
        Geometry(
            name="ecp5-25f", columns=4, lanes=96, chain=2, fold=2, radix=3, weight_block_bits=18,
            weight_depth=512, x_depth=16, bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=4096,
            tables=4, norm_tables=4, logit_slots=32, contexts=4, lane_depth=64, weight_ram="paired",
        ),
        # 64 of 108 block RAMs hold 589,824 trits.
        Geometry(
            name="ecp5-45f", columns=6, lanes=96, chain=4, fold=2, radix=3, weight_block_bits=18,
            weight_depth=1024, x_depth=16, bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=4096,
            tables=4, norm_tables=4, logit_slots=48, contexts=4, lane_depth=64,
        ),
        # 128 of 208 block RAMs hold 1,179,648 trits: a stage's 1,152 bits are 64 blocks of 18, two of which
        # share a block RAM and are read through one port each.
        Geometry(
            name="ulx3s-85f", columns=12, lanes=192, chain=4, fold=2, radix=3, weight_block_bits=18,
            weight_depth=512, x_depth=16, bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=4096,
            tables=4, norm_tables=4, logit_slots=32, contexts=4, lane_depth=64, weight_ram="paired",
        ),
        # Five trits a byte: 1,433,600 in 125 block RAMs; a stage's 280 trits are 56 bytes, 25 blocks of 18.
        Geometry(
            name="ulx3s-85f-dense", columns=10, lanes=140, chain=5, fold=2, radix=3, weight_block_bits=18,
            weight_depth=1024, x_depth=16, bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=4096,
            tables=4, norm_tables=4, logit_slots=32, contexts=2, lane_depth=64, weight_code="five",
        ),
        # Five trits a byte leave 24 block RAMs for rows, two a column: 48 KiB.
        Geometry(
            name="ulx3s-85f-rows", columns=12, lanes=192, chain=4, fold=2, radix=3, weight_block_bits=18,
            weight_depth=512, x_depth=16, bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=4096,
            tables=4, norm_tables=4, logit_slots=32, contexts=4, lane_depth=64, weight_ram="paired",
            weight_code="five", rows=4096, list_slots=4,
        ),
        Geometry(
            name="tiny-rows-sdram", columns=4, lanes=8, chain=4, weight_block_bits=16, weight_depth=2048,
            x_depth=32, bank_depth=512, bias_depth=512, bias_bits=16, embed_depth=4096, tables=4,
            norm_tables=2, logit_slots=64, contexts=3, lane_depth=64, rows=256, list_slots=16,
            row_ram="sdram",
        ),
        # All block RAMs but one are taken, so rows are in the SDRAM and pass through LUT RAM.
        Geometry(
            name="ulx3s-85f-rows-sdram", columns=12, lanes=192, chain=4, fold=2, radix=3,
            weight_block_bits=18, weight_depth=512, x_depth=16, bank_depth=1024, bias_depth=1024,
            bias_bits=16, embed_depth=4096, tables=4, norm_tables=4, logit_slots=32, contexts=4,
            lane_depth=64, weight_ram="paired", rows=128, list_slots=8, row_ram="sdram",
        ),
        # 80 trits from eight words of the SDRAM: memory sets the pace, so few lanes are enough.
        # 128 block RAMs hold the embedding, 32 the banks.
        Geometry(
            name="ulx3s-85f-sdram", columns=4, lanes=20, chain=4, weight_block_bits=16, weight_depth=1 << 21,
            x_depth=256, bank_depth=4096, bias_depth=1, bias_bits=16, embed_depth=1 << 16, tables=4,
            norm_tables=4, logit_slots=64, weight_ram="sdram", weight_code="five",
        ),
    )
}  # fmt: skip


def preset(name: str) -> Geometry:
    """Return the named preset. Raises UsageError if there is none of that name."""
    try:
        return PRESETS[name]
    except KeyError:
        raise UsageError(f"no geometry is called {name!r}", f"choose one of: {', '.join(PRESETS)}") from None


def read_geometry(given: str) -> Geometry:
    """Return the preset of that name, or the geometry in a JSON file or text.

    The JSON is an object of `Geometry`'s fields, an entry of ``ternac explore --json``, or all of its output:
    then the first of its front, or with ``FILE:NAME`` the one of that name.

    Raises UsageError, which lists the presets or names the wrong field.
    """
    if given in PRESETS:
        return PRESETS[given]
    if given.lstrip().startswith("{"):
        return _from_json(given, "the geometry", "")
    path, _, name = given.rpartition(":") if not Path(given).is_file() else (given, "", "")
    if Path(path).is_file() and path:
        try:
            return _from_json(Path(path).read_text(), path, name)
        except (OSError, UnicodeError) as error:
            raise UsageError(f"cannot read the geometry in {path}: {error}", "name a JSON file") from None
    if given.endswith(".json") or "/" in given:
        raise UsageError(f"there is no geometry file {given}", "ternac explore --out FILE.json writes some")
    raise UsageError(
        f"no geometry is called {given!r}",
        f"choose one of: {', '.join(PRESETS)}; or name a JSON file of ternac explore",
    )


_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}", re.ASCII)
"""Names of geometries that are read: builds have folders of these names."""


def _from_json(text: str, where: str, name: str) -> Geometry:
    hint = "the fields are those of an entry of ternac explore --json"
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", hint) from None
    if isinstance(data, dict) and isinstance(data.get("front"), list):
        entries = [entry for entry in data["front"] if isinstance(entry, dict)]
        found = [entry for entry in entries if not name or entry.get("name") == name]
        if not found:
            have = ", ".join(str(entry.get("name")) for entry in entries)
            raise UsageError(f"{where} has no geometry {name!r} in its front", f"choose one of: {have}")
        data = found[0]
    elif name and (not isinstance(data, dict) or data.get("name") != name):
        raise UsageError(f"{where} has no geometry {name!r}", hint)
    if isinstance(data, dict) and "geometry" in data:
        data = data["geometry"]
    if not isinstance(data, dict):
        raise UsageError(f"{where} is no geometry: a JSON object is needed", hint)
    return _from_fields(data, where, hint)


def _from_fields(data: dict[str, Any], where: str, hint: str) -> Geometry:
    known = {field.name: field for field in fields(Geometry)}
    for key, value in data.items():
        if key not in known:
            raise UsageError(f"{where}: a geometry has no field {key!r}", f"fields: {', '.join(known)}")
        kind = str if known[key].type == "str" else int
        if not isinstance(value, kind) or isinstance(value, bool):
            what = "a text" if kind is str else "a whole number"
            raise UsageError(f"{where}: {key} is {json.dumps(value)[:60]}, needs {what}", hint)
    for key, field in known.items():
        if key not in data and field.default is MISSING:
            raise UsageError(f"{where}: the field {key!r} is missing", hint)
    try:
        geometry = Geometry(**data)
    except ValueError as error:
        raise UsageError(f"{where}: {error}", hint) from None
    if not _NAME.fullmatch(geometry.name):
        raise UsageError(
            f"{where}: name is {geometry.name[:60]!r}", "letters, digits, '.', '_', '+' and '-', at most 64"
        )
    if PRESETS.get(geometry.name, geometry) != geometry:
        raise UsageError(f"{where}: {geometry.name} is a preset with other parameters", "take another name")
    return geometry
