"""Second half of the compiler: give every value a place, set the barriers, lay out the memories."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ternac.errors import DoesNotFit, IllegalProgram
from ternac.fuse import Pass
from ternac.geometry import Geometry, Mem
from ternac.image import Image, Symbol, Words
from ternac.isa import PIPELINE, WORDS, Instruction, Opcode, Source
from ternac.layout import embed_blocks, weight_blocks
from ternac.program import Program, shapes


class Assembler:
    """Give every value a bank address and an x half, set the barriers, lay out the memories."""

    def __init__(
        self,
        program: Program,
        geometry: Geometry,
        passes: list[Pass],
        tables: dict[bytes, int],
        norms: dict[bytes, int],
    ) -> None:
        self.p, self.g = program, geometry
        self.shape = shapes(program)
        self.passes = passes
        self.tables, self.norms = tables, norms
        self.loaded = {op.out: op.ins[0] for op in program.ops if op.kind == "LOAD"}
        self.stored = {op.ins[0]: op.out for op in program.ops if op.kind == "STORE"}

    def run(self) -> Image:
        self.check_stores()
        self.insert_refills()
        self.place_state()
        self.place_values()
        self.set_barriers()
        memories = self.memories()
        return Image(
            geometry=self.g,
            program_hash=self.p.hash,
            memories=memories,
            instructions=self.instructions,
            names=(*(p.name for p in self.passes), "halt"),
            symbols=self.symbols,
            states=self.states,
            state_base=self.state_base,
            state_slots=self.state_slots,
            sessions=self.session_count,
            logits=self.symbols[self.p.logits],
        )

    def check_stores(self) -> None:
        """State is updated in place: refuse what would need a copy of it."""
        order = {p.result: i for i, p in enumerate(self.passes)}
        seen: Counter[str] = Counter(op.out for op in self.p.ops if op.kind == "STORE")
        for index, op in enumerate(self.p.ops):
            if op.kind != "STORE":
                continue
            value = op.ins[0]
            where = f"op {index} STORE {op.out!r}"
            if seen[op.out] > 1:
                raise IllegalProgram(f"{where}: a state is stored once per token on this engine")
            if value not in order:
                raise IllegalProgram(
                    f"{where}: the stored value must be computed, not loaded, on this engine"
                )
            if sum(1 for o in self.p.ops if o.kind == "STORE" and o.ins[0] == value) > 1:
                raise IllegalProgram(f"{where}: one value cannot be stored in two states on this engine")
            if any(o.kind == "LOAD" and o.ins[0] == op.out for o in self.p.ops[index:]):
                raise IllegalProgram(
                    f"{where}: the state is loaded again after its store, use the value itself"
                )
            for later in self.passes[order[value] + 1 :]:
                old = [v for v in (*later.reads.values(), later.x_in) if v and self.loaded.get(v) == op.out]
                if old:
                    raise IllegalProgram(f"{where}: {later.name!r} still needs the old state on this engine")

    def insert_refills(self) -> None:
        """Choose an x half for every matrix input; copy a value in again when it was overwritten."""
        uses: dict[str, list[int]] = {}
        for i, one in enumerate(self.passes):
            if one.x_in:
                uses.setdefault(one.x_in, []).append(i)
        half: list[str | None] = [None, None]
        out: list[Pass] = []
        for i, one in enumerate(self.passes):
            src = None
            if one.x_in:
                if one.x_in not in half:
                    src = self.pick(half, uses, i, keep=None)
                    n = self.shape[one.x_in][1]
                    copy = Instruction(
                        source=Source.BANK, count=self.g.slots(n), tail=self.g.tail(n), to_x=1, x_dst=src
                    )
                    out.append(Pass(one.x_in + ".refill", copy, "", {"a": one.x_in}, refill=one.x_in))
                    half[src] = one.x_in
                src = half.index(one.x_in)
                one.inst = replace(one.inst, x_src=src)
            if one.result in uses:
                dst = self.pick(half, uses, i, keep=src)
                half[dst] = one.result
                one.inst = replace(one.inst, to_x=1, x_dst=dst)
            out.append(one)
        self.passes = out

    @staticmethod
    def pick(half: list[str | None], uses: dict[str, list[int]], now: int, keep: int | None) -> int:
        """The half whose content is needed again last; never ``keep``."""

        def next_use(h: int) -> int:
            value = half[h]
            return next((u for u in uses[value] if u > now), 1 << 30) if value else (1 << 30) + 1

        return max((h for h in (0, 1) if h != keep), key=next_use)

    def place_state(self) -> None:
        self.states = {}
        offset = 0
        for name, length in self.p.states.items():
            self.states[name] = Symbol(offset, length, "i16")
            offset += self.g.slots(length)
        self.state_slots = offset

    def place_values(self) -> None:
        """Every value its own words if the banks are deep enough; otherwise words are used again."""
        temps = [p.result for p in self.passes if p.result and p.result not in self.stored]
        need = sum(self.g.slots(self.shape[v][1]) for v in temps)
        if need + max(1, self.state_slots) <= self.g.bank_depth:
            address = 0
            self.symbols = {}
            for value in temps:
                self.symbols[value] = Symbol(address, self.shape[value][1], self.shape[value][0])
                address += self.g.slots(self.shape[value][1])
            where, top = dict(self.symbols), address
        else:
            where, top = self.reuse(temps)
        self.state_base = top
        free = self.g.bank_depth - top
        self.session_count = free // self.state_slots if self.state_slots else 1
        if free < 0 or self.session_count < 1:
            raise DoesNotFit(
                f"vectors and one session's state need {top + self.state_slots} bank words per column, "
                f"{self.g.name} has {self.g.bank_depth}"
            )
        self.states = {n: replace(s, address=s.address + top) for n, s in self.states.items()}
        self.where = where
        for value, state in self.stored.items():
            self.where[value] = self.states[state]
        for value, state in self.loaded.items():
            self.where[value] = self.states[state]

    def reuse(self, temps: list[str]) -> tuple[dict[str, Symbol], int]:
        """First-fit allocation by lifetime; only values that survive the token become symbols."""
        last = {v: i for i, p in enumerate(self.passes) for v in (*p.reads.values(), p.x_in, p.result) if v}
        last[self.p.logits] = len(self.passes)
        live: list[tuple[int, int, str]] = []
        where: dict[str, Symbol] = {}
        top = 0
        for i, one in enumerate(self.passes):
            if not one.result or one.result in self.stored:
                continue
            # a value may take the place of an operand only after the whole pass, hence >=
            live = sorted(e for e in live if last[e[2]] >= i)
            size, address = self.g.slots(self.shape[one.result][1]), 0
            for start, stop, _ in live:
                if address + size <= start:
                    break
                address = max(address, stop)
            live.append((address, address + size, one.result))
            where[one.result] = Symbol(address, self.shape[one.result][1], self.shape[one.result][0])
            top = max(top, address + size)
        self.symbols = {}
        taken: set[int] = set()
        for value in reversed(temps):
            span = range(where[value].address, where[value].address + self.g.slots(where[value].length))
            if taken.isdisjoint(span):
                self.symbols[value] = where[value]
            taken.update(span)
        return where, top

    def set_barriers(self) -> None:
        """A dot pass waits for what it reads; a bank pass always starts on an empty pipeline.

        What a dot pass reads from the banks, slot by slot as the pass before wrote it, it need not wait for
        when slot i comes at least `PIPELINE` cycles after slot i.
        """
        fresh: dict[str, Instruction] = {}
        weight = bias = 0
        final = []
        self.weight_at: dict[str, tuple[int, int]] = {}
        for one in self.passes:
            inst = one.inst
            bank_pass = inst.source != Source.DOT
            waits = one.x_in is not None and self.alias(one.x_in) in fresh
            for value in one.reads.values():
                writer = fresh.get(self.alias(value))
                waits |= writer is not None and not _follows(writer, inst)
            if bank_pass or waits:
                inst = replace(inst, barrier=1)
                fresh.clear()
            if one.refill:
                fresh[self.alias(one.refill)] = inst
            if one.result:
                fresh[self.alias(one.result)] = inst
                target = self.where[one.result]
                inst = replace(inst, to_bank=1, d=target.address, rel_d=int(one.result in self.stored))
                if one.result == self.p.logits:
                    if self.g.slots(target.length) > self.g.logit_slots:
                        raise DoesNotFit(
                            f"{target.length} logits exceed the {self.g.logit_slots * self.g.columns} "
                            f"of {self.g.name}"
                        )
                    inst = replace(inst, to_logits=1)
            for operand, value in one.reads.items():
                rel = int(value in self.loaded or value in self.stored)
                inst = replace(inst, **{operand: self.where[value].address, "rel_" + operand: rel})  # type: ignore[arg-type]
            if bank_pass and "b" in one.reads:
                inst = replace(inst, paced=1)
            if one.trits:
                self.weight_at[one.name] = (weight, bias)
                inst = replace(inst, weight=weight, a=bias)
                weight += inst.count * inst.words
                bias += inst.count
            final.append(inst)
        for used, limit, what in (
            (weight, self.g.weight_depth, "weight words"),
            (bias, self.g.bias_depth, "row corrections per column"),
            ((len(final) + 1) * WORDS, self.g.program_depth, "program words"),
        ):
            if used > limit:
                raise DoesNotFit(f"the program needs {used} {what}, {self.g.name} has {limit}")
        self.used = (weight, bias)
        self.instructions = (*final, Instruction(op=Opcode.HALT, barrier=1))

    def alias(self, value: str) -> str:
        """State values share a place with their state."""
        return (
            "state:" + (self.loaded.get(value) or self.stored[value])
            if (value in self.loaded or value in self.stored)
            else value
        )

    def memories(self) -> dict[Mem, Words]:
        g = self.g
        weights = np.zeros((self.used[0], g.columns, g.lanes), np.int8)
        bias = np.zeros((g.columns, self.used[1]), np.uint32)
        tables = np.zeros((0,), np.uint32)
        norms = np.zeros((0,), np.uint32)
        embed = np.zeros((g.memory(Mem.EMBED).blocks, 0), np.uint32)
        for one, inst in zip(self.passes, self.instructions, strict=False):
            if one.trits is None:
                continue
            trits = self.p.consts[one.trits]
            rows, k = trits.shape
            full = np.zeros((inst.count * g.columns, inst.words * g.lanes), np.int8)
            full[:rows, :k] = trits
            block = full.reshape(inst.count, g.columns, inst.words, g.lanes)
            weights[inst.weight : inst.weight + inst.count * inst.words] = block.transpose(
                0, 2, 1, 3
            ).reshape(-1, g.columns, g.lanes)
            negatives = (full < 0).sum(1).reshape(inst.count, g.columns)
            if int(negatives.max(initial=0)) >= 1 << g.bias_bits:
                raise DoesNotFit(
                    f"{one.name!r}: a row with {negatives.max()} weights of -1 exceeds {g.bias_bits} bits"
                )
            bias[:, inst.a : inst.a + inst.count] = negatives.T
        for op in self.p.ops:
            if op.kind == "GATHER":
                if embed.shape[1]:
                    raise IllegalProgram(f"GATHER {op.out!r}: one embedding per program on this engine")
                table = self.p.consts[str(op.attrs["embed"])]
                stride = (g.slots(table.shape[1]) - 1).bit_length()
                embed = embed_blocks(table, g, 1 << stride)
        if self.tables:
            entries = np.concatenate([np.frombuffer(t, np.int16) for t in self.tables])
            tables = entries.view(np.uint16).astype(np.uint32)
        if self.norms:
            norms = np.concatenate([np.frombuffer(t, np.uint8) for t in self.norms]).astype(np.uint32)
        code = np.array([w for i in self.instructions for w in i.encode()], np.uint32)
        return {
            Mem.PROGRAM: code[None],
            Mem.WEIGHT: weight_blocks(weights, g),
            Mem.EMBED: embed,
            Mem.BIAS: bias,
            Mem.TABLE: tables[None],
            Mem.NORM: norms[None],
        }


def _follows(writer: Instruction, reader: Instruction) -> bool:
    """Every slot of ``reader`` comes `PIPELINE` cycles or more after the same slot of ``writer``.

    ``reader`` starts when ``writer`` has issued its last word, so slot i is at least
    ``count * min(words)`` cycles behind.
    """
    return (
        writer.source == reader.source == Source.DOT
        and writer.count == reader.count
        and writer.count * min(writer.words, reader.words) >= PIPELINE
    )
