"""Second half of the compiler: give every value a place, set the barriers, lay out the memories."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ternac.compile.fuse import Pass
from ternac.compile.geometry import Geometry, Mem
from ternac.compile.image import Image, Symbol, Words
from ternac.compile.isa import PIPELINE, WORDS, Addend, Instruction, MulBy, Opcode, Source
from ternac.compile.layout import embed_blocks, stream_blocks, weight_blocks
from ternac.errors import DoesNotFit, IllegalProgram
from ternac.program.program import Program, shapes


class Assembler:
    """Give every value bank words and x words, set the barriers, copy the code for each context, fill the
    memories."""

    def __init__(
        self,
        program: Program,
        geometry: Geometry,
        passes: list[Pass],
        tables: dict[bytes, int],
        norms: dict[bytes, int],
        contexts: int = 1,
    ) -> None:
        self.p, self.g, self.contexts = program, geometry, contexts
        self.shape = shapes(program)
        self.passes = passes
        self.tables, self.norms = tables, norms
        self.loaded = {op.out: op.ins[0] for op in program.ops if op.kind == "LOAD"}
        self.stored = {op.ins[0]: op.out for op in program.ops if op.kind == "STORE"}

    def run(self, *, fill: bool = True) -> Image:
        self.check_stores()
        self.place_x()
        self.place_state()
        self.place_values()
        self.set_barriers()
        self.copy_code()
        memories = self.memories() if fill else {}
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
            entries=self.entries,
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

    def place_x(self) -> None:
        """Choose x words for every matrix input; copy a value in again when it was overwritten.

        A vector may take the words of one whose last reader is an earlier pass: the dot units take the last
        word of a pass before the next pass begins.
        """
        limit = self.g.x_depth // self.contexts
        uses: dict[str, list[int]] = {}
        for i, one in enumerate(self.passes):
            if one.x_in:
                uses.setdefault(one.x_in, []).append(i)
        only_x = {p.x_out for p in self.passes}
        held: dict[str, range] = {}

        def words(value: str) -> int:
            return -(-self.shape[value][1] // self.g.lanes)

        def place(value: str, now: int, keep: str | None) -> int:
            for old in [v for v in held if v != keep and not any(u > now for u in uses[v])]:
                del held[old]
            while True:
                at = 0
                for taken in sorted(held.values(), key=lambda r: r.start):
                    if at + words(value) <= taken.start:
                        break
                    at = max(at, taken.stop)
                if at + words(value) <= limit:
                    held[value] = range(at, at + words(value))
                    return at
                spare = [v for v in held if v != keep and v not in only_x]
                if not spare:
                    raise DoesNotFit(
                        f"{value!r} needs {words(value)} words of the x buffer, {self.g.name} has {limit} for"
                        " a context"
                    )
                del held[max(spare, key=lambda v: next(u for u in uses[v] if u > now))]

        out: list[Pass] = []
        for i, one in enumerate(self.passes):
            if one.x_in:
                if one.x_in not in held:
                    n = self.shape[one.x_in][1]
                    copy = Instruction(
                        source=Source.BANK, count=self.g.slots(n), tail=self.g.tail(n), to_x=1,
                        x_dst=place(one.x_in, i - 1, None),
                    )  # fmt: skip
                    out.append(Pass(one.x_in + ".refill", copy, "", {"a": one.x_in}, refill=one.x_in))
                one.inst = replace(one.inst, x_src=held[one.x_in].start)
            value = one.x_out or one.result
            if value in uses:
                one.inst = replace(one.inst, to_x=1, x_dst=place(value, i, one.x_in))
            out.append(one)
        self.passes = out

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
        if self.contexts * (need + max(1, self.state_slots)) <= self.g.bank_depth:
            address = 0
            self.symbols = {}
            for value in temps:
                self.symbols[value] = Symbol(address, self.shape[value][1], self.shape[value][0])
                address += self.g.slots(self.shape[value][1])
            where, top = dict(self.symbols), address
        else:
            where, top = self.reuse(temps)
        self.own_words = top
        base = self.state_base = top * self.contexts
        free = self.g.bank_depth - base
        self.session_count = free // self.state_slots if self.state_slots else self.contexts
        if free < 0 or self.session_count < self.contexts:
            many = f"{self.contexts} sessions'" if self.contexts > 1 else "one session's"
            raise DoesNotFit(
                f"vectors and {many} state need {base + self.contexts * self.state_slots} bank words per "
                f"column, {self.g.name} has {self.g.bank_depth}"
            )
        self.states = {n: replace(s, address=s.address + base) for n, s in self.states.items()}
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
        """A pass waits for what it reads; a bank pass always starts when its context's passes are written.

        What a dot pass reads from the banks, slot by slot as an earlier pass wrote it, it need not wait for
        when slot i comes at least `PIPELINE` cycles after slot i.
        """
        fresh: dict[
            str, tuple[Instruction, int]
        ] = {}  # value -> its writer and when that starts at the earliest
        now = weight = bias = 0
        final: list[Instruction] = []
        side: str | None = None
        self.weight_at: dict[str, tuple[int, int]] = {}
        for one in self.passes:
            inst = one.inst
            bank_pass = inst.source != Source.DOT
            waits = one.x_in is not None and self.alias(one.x_in) in fresh
            for value in one.reads.values():
                writer = fresh.get(self.alias(value))
                waits |= writer is not None and not _follows(writer[0], inst, now - writer[1])
            if bank_pass or waits:
                inst = replace(inst, barrier=1)
                fresh.clear()
                side = None
            if one.side_in is not None and one.side_in != side:
                raise DoesNotFit(
                    f"{one.side_in!r} would have to stay in the side lane while other contexts run"
                )
            if inst.to_side:
                side = one.result
            for written in (one.refill, one.result, one.x_out):
                if written:
                    fresh[self.alias(written)] = inst, now
            if not bank_pass:
                now += inst.count * inst.words
            if one.result:
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
                if not self.g.streams:
                    inst = replace(inst, weight=weight, a=bias)
                    bias += inst.count
                weight += inst.count * inst.words
            final.append(inst)
        final.append(Instruction(op=Opcode.HALT, barrier=1))
        # A norm's two passes stay together: the norm unit holds one mantissa. A bank pass follows its own
        # context's pass because that is faster: it waits for whatever is in the pipelines, and another
        # context's matrix pass would be in its way longer than its own.
        final = [
            replace(inst, switch=int(after.barrier and not inst.stat and after.source != Source.BANK))
            for inst, after in zip(final, [*final[1:], Instruction()], strict=True)
        ]
        for used, limit, what in (
            (weight, self.g.weight_depth, "weight words"),
            (bias, self.g.bias_depth, "row corrections per column"),
            (len(final) * WORDS * self.contexts, self.g.program_depth, "program words"),
        ):
            if used > limit:
                raise DoesNotFit(f"the program needs {used} {what}, {self.g.name} has {limit}")
        self.used = (weight, bias)
        self.instructions = tuple(final)

    def copy_code(self) -> None:
        """The microcode of every context: the same passes on bank and x words of its own."""
        size = len(self.instructions) * WORDS
        self.entries = tuple(k * size for k in range(self.contexts))
        self.code: list[int] = []
        for k in range(self.contexts):
            bank, x = k * self.own_words, k * (self.g.x_depth // self.contexts)
            for inst in self.instructions:
                if inst.op == Opcode.VEC:
                    own = {
                        "a": inst.source == Source.BANK and not inst.rel_a,
                        "b": (inst.sub or inst.add == Addend.B) and not inst.rel_b,
                        "c": inst.mul == MulBy.BANK_C and not inst.rel_c,
                        "d": inst.to_bank and not inst.rel_d,
                    }
                    moved = {name: getattr(inst, name) + bank for name, yes in own.items() if yes}
                    if inst.source == Source.DOT:
                        moved["x_src"] = inst.x_src + x
                    if inst.to_x:
                        moved["x_dst"] = inst.x_dst + x
                    inst = replace(inst, **moved)
                self.code += inst.encode()

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
            first = self.weight_at[one.name][0]
            trits = self.p.consts[one.trits]
            rows, k = trits.shape
            full = np.zeros((inst.count * g.columns, inst.words * g.lanes), np.int8)
            full[:rows, :k] = trits
            block = full.reshape(inst.count, g.columns, inst.words, g.lanes)
            weights[first : first + inst.count * inst.words] = block.transpose(0, 2, 1, 3).reshape(
                -1, g.columns, g.lanes
            )
            if g.streams:
                continue
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
        code = np.array(self.code, np.uint32)
        return {
            Mem.PROGRAM: code.reshape(-1, 2).T.copy(),
            Mem.WEIGHT: stream_blocks(weights, g) if g.streams else weight_blocks(weights, g),
            Mem.EMBED: embed,
            Mem.BIAS: bias,
            Mem.TABLE: tables[None],
            Mem.NORM: norms[None],
        }


def _follows(writer: Instruction, reader: Instruction, distance: int) -> bool:
    """Every slot of ``reader`` comes `PIPELINE` cycles or more after the same slot of ``writer``.

    ``reader`` starts ``distance`` cycles or more after ``writer``; slot i of a pass has been issued
    ``(i + 1) * words`` cycles after its start.
    """
    step = reader.words - writer.words
    return (
        writer.source == reader.source == Source.DOT
        and writer.count == reader.count
        and distance + min(step, writer.count * step) >= PIPELINE
    )
