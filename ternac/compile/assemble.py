"""Second half of the compiler: give every value a place, set the barriers, lay out the memories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ternac.compile.fuse import Fused, Pass
from ternac.compile.geometry import Geometry, Mem
from ternac.compile.image import Image, RowSymbol, Symbol, Words
from ternac.compile.isa import PIPELINE, WORDS, Addend, Instruction, MulBy, Opcode, RowAddress, Source
from ternac.compile.layout import embed_blocks, stream_blocks, weight_blocks
from ternac.compile.lower import Lowered
from ternac.compile.place_rows import Rows, place_rows
from ternac.errors import DoesNotFit, IllegalProgram, require
from ternac.program.allocate import Lifetimes, first_fit
from ternac.program.legality import shapes
from ternac.program.loops import loops_of


@dataclass(frozen=True)
class Banks:
    """Where values lie in the banks."""

    where: dict[str, Symbol]
    """Every value of a token, states included."""
    symbols: dict[str, Symbol]
    """Values that are still intact after a token."""
    states: dict[str, Symbol]
    """The states of session slot 0."""
    own_words: int
    """Words of a context's values. The contexts' words lie one behind the other, then come the sessions'."""
    state_base: int
    state_slots: int
    """Words of a session's state."""
    sessions: int
    """Session slots that banks and row RAM hold."""
    row_shift: int
    """A session's rows begin at its base in the banks, shifted by so much."""


def assemble(
    lowered: Lowered,
    geometry: Geometry,
    fused: Fused,
    contexts: int = 1,
    *,
    fill: bool = True,
    wait_for_list: bool = False,
) -> Image:
    """Return the image of fused passes, with a copy of the code for each context.

    With ``wait_for_list`` passes wait for slots of a list that is too short for those in flight.

    Raises IllegalProgram if a state is used in a way that needs a copy of it, DoesNotFit if a memory is too
    small.
    """
    return _Assembler(lowered, geometry, fused, contexts).run(fill=fill, wait_for_list=wait_for_list)


class _Assembler:
    def __init__(self, lowered: Lowered, geometry: Geometry, fused: Fused, contexts: int) -> None:
        program = self.p = lowered.program
        self.lowered, self.g, self.fused, self.contexts = lowered, geometry, fused, contexts
        self.shape = shapes(program)
        self.loaded = {op.out: op.ins[0] for op in program.ops if op.kind == "LOAD"}
        self.stored = {op.ins[0]: op.out for op in program.ops if op.kind == "STORE"}

    def run(self, *, fill: bool, wait_for_list: bool) -> Image:
        self.check_stores()
        passes = self.place_x()
        rows = place_rows(self.p, self.g)
        banks = self.place_values(passes, rows)
        instructions = self.set_barriers(passes)
        instructions = self.set_digits(passes, instructions, wait=wait_for_list)
        instructions = self.set_rows(passes, instructions, rows, banks.row_shift)
        self.check_side_lane(passes, instructions)
        instructions = self.set_addresses(passes, instructions, banks)
        instructions = self.number_weights(passes, instructions)
        instructions = self.set_loops(passes, instructions)
        instructions = self.set_switches([*instructions, Instruction(op=Opcode.HALT, barrier=1)])
        size = len(instructions) * WORDS
        self.require("program words", size * self.contexts, self.g.program_depth)
        return Image(
            geometry=self.g,
            program_hash=self.lowered.original.hash,
            memories=self.memories(passes, instructions, banks, rows) if fill else {},
            instructions=tuple(instructions),
            names=(*(p.name for p in passes), "halt"),
            symbols=self.known(banks.symbols),
            states=self.whole_states(banks.states),
            state_base=banks.state_base,
            state_slots=banks.state_slots,
            sessions=banks.sessions,
            logits=banks.symbols[self.p.logits],
            entries=tuple(k * size for k in range(self.contexts)),
            rows=self.whole_memories(rows),
            row_base=rows.constants,
            row_words=rows.words,
            row_shift=banks.row_shift,
        )

    def require(self, resource: str, needed: int, limit: int) -> None:
        message = f"the program needs {needed} {resource}, {self.g.name} has {limit}"
        require(resource, needed, limit, message)

    def check_stores(self) -> None:
        """State is updated in place: refuse what would need a copy of it."""
        order = {p.result: i for i, p in enumerate(self.fused.passes)}
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
            for later in self.fused.passes[order[value] + 1 :]:
                old = [v for v in (*later.reads.values(), later.x_in) if v and self.loaded.get(v) == op.out]
                if old:
                    raise IllegalProgram(f"{where}: {later.name!r} still needs the old state on this engine")

    def last_uses(self, passes: Sequence[Pass], uses: dict[str, int]) -> dict[str, int]:
        """Return the last pass that needs each value, for ``uses`` without regard to loops.

        What is there before a body begins, and is read in it, is needed until its last run ends.
        """
        made: dict[str, int] = {}
        for i, one in enumerate(passes):
            for value in (one.result, one.x_out, one.list_out):
                if value:
                    made.setdefault(value, i)
        found = dict(uses)
        for body in bodies(passes):
            for value, last in uses.items():
                if made.get(value, -1) < body.start <= last:
                    found[value] = max(found[value], body.stop - 1)
        return found

    def set_loops(self, passes: list[Pass], instructions: list[Instruction]) -> list[Instruction]:
        """Return the instructions with the word to which each LOOP goes back."""
        found = list(instructions)
        for body in bodies(passes):
            found[body.stop - 1] = replace(instructions[body.stop - 1], a=body.start * WORDS)
        return found

    def place_x(self) -> list[Pass]:
        """Choose x words for every matrix input; copy a value in again if it was overwritten.

        A vector may take the words of one whose last reader is an earlier pass: the dot units take the last
        word of a pass before the next pass begins.
        """
        limit = self.g.x_depth // self.contexts
        uses: dict[str, list[int]] = {}
        for i, one in enumerate(self.fused.passes):
            if one.x_in:
                uses.setdefault(one.x_in, []).append(i)
        only_x = {p.x_out for p in self.fused.passes if p.x_out}
        until = self.last_uses(self.fused.passes, {value: max(where) for value, where in uses.items()})
        for value in only_x & set(uses):
            uses[value].append(until[value])
        held: dict[str, range] = {}

        def place(value: str, now: int, keep: str | None) -> int:
            size = -(-self.shape[value][1] // self.g.lanes)
            for old in [v for v in held if v != keep and not any(u > now for u in uses[v])]:
                del held[old]
            while True:
                at = first_fit(((taken.start, len(taken)) for taken in held.values()), size)
                if at + size <= limit:
                    held[value] = range(at, at + size)
                    return at
                # Of the values that the banks have too, the one whose next reader comes last makes room.
                spare = [v for v in held if v != keep and v not in only_x]
                if not spare:
                    used = sum(map(len, held.values()))
                    others = f" and what is still read {used}" if used else ""
                    message = f"{value!r} needs {size} words of the x buffer{others}"
                    message += f", {self.g.name} has {limit} for a context"
                    raise DoesNotFit(message, resource="x words", needed=size + used, limit=limit)
                del held[max(spare, key=lambda v: next(u for u in uses[v] if u > now))]

        out: list[Pass] = []
        for i, one in enumerate(self.fused.passes):
            inst = one.inst
            if one.begins_loop:  # every run finds the same vectors there
                held = {value: words for value, words in held.items() if value in only_x}
            x_in = one.x_in
            if x_in:
                if x_in not in held:
                    n = self.shape[x_in][1]
                    copy = Instruction(
                        source=Source.BANK,
                        count=self.g.slots(n),
                        tail=self.g.tail(n),
                        to_x=1,
                        x_dst=place(x_in, i - 1, None),
                    )
                    refill = Pass(x_in + ".refill", copy, "", {"a": x_in}, refill=x_in)
                    out.append(replace(refill, begins_loop=one.begins_loop))
                    one = replace(one, begins_loop=False)
                inst = replace(inst, x_src=held[x_in].start)
            value = one.x_out or one.result
            if value in uses:
                inst = replace(inst, to_x=1, x_dst=place(value, i, one.x_in))
            out.append(replace(one, inst=inst))
        return out

    def place_values(self, passes: list[Pass], rows: Rows) -> Banks:
        """Give every value its own words if the banks are deep enough, else use words again."""
        slots = 0
        states = {}
        for name, length in self.p.states.items():
            states[name] = Symbol(slots, length, "i16")
            slots += self.g.slots(length)
        temps = list(dict.fromkeys(p.result for p in passes if p.result and p.result not in self.stored))
        where: dict[str, Symbol] = {}
        top = 0
        for value in temps:
            where[value] = self.symbol(value, top)
            top += self.g.slots(where[value].length)
        symbols = dict(where)
        if self.contexts * (top + max(1, slots)) > self.g.bank_depth:
            where, top = self.place_by_lifetime(passes)
            symbols = self.intact(temps, where)
        base = top * self.contexts
        slots, shift = self.share_rows(slots, rows, self.g.bank_depth - base)
        many = f"{self.contexts} sessions'" if self.contexts > 1 else "one session's"
        need, have = base + self.contexts * slots, self.g.bank_depth
        message = f"vectors and {many} state need {need} bank words per column, {self.g.name} has {have}"
        require("bank words", need, have, message)
        states = {name: replace(s, address=s.address + base) for name, s in states.items()}
        where |= {value: states[state] for value, state in (*self.stored.items(), *self.loaded.items())}
        sessions = (have - base) // slots if slots else self.contexts
        if rows.words:
            sessions = min(sessions, rows.sessions(self.g, slots << shift))
        return Banks(where, symbols, states, top, base, slots, sessions, shift)

    def share_rows(self, slots: int, rows: Rows, words: int) -> tuple[int, int]:
        """Return the bank words of a session, and by how much its base there is shifted for that of its rows.

        Of those that keep most sessions in ``words`` of a bank, the least shift, because an instruction takes
        longer to fetch with a large one.
        """
        if not rows.words:
            return slots, 0
        require(
            "row words per column", rows.need(self.contexts), self.g.rows, rows.message(self.g, self.contexts)
        )
        best = (0, 0), 0, 0
        for shift in range(16):
            size = max(1, slots, -(-rows.words >> shift))
            sessions = min(words // size, rows.sessions(self.g, size << shift), 1 << 16 >> shift)
            best = max(best, ((sessions, -shift), size, shift))
        (sessions, _), size, shift = best
        message = (
            f"no {self.contexts} sessions of {slots} bank words and {rows.words} row words fit {self.g.name}"
        )
        require("sessions", self.contexts, sessions, message)
        return size, shift

    def known(self, symbols: dict[str, Symbol]) -> dict[str, Symbol]:
        """Return the values that the program as it was given has, in the order of their elements."""
        names = {op.out for op in self.lowered.original.ops}
        changed = {old for loop in loops_of(self.p.ops) for old, _ in loop.carry}
        return {k: v for k, v in symbols.items() if k in names - changed - self.lowered.padded}

    def whole_states(self, states: dict[str, Symbol]) -> dict[str, Symbol]:
        """Return the states of the program as it was given: those of the runs of a loop in one piece."""
        found: dict[str, Symbol] = {}
        for name, symbol in states.items():
            whole, count = self.lowered.parts.get(name, (name, 1))
            found.setdefault(whole, replace(symbol, length=symbol.length * count, parts=count))
        return found

    def whole_memories(self, rows: Rows) -> dict[str, RowSymbol]:
        """Return the places of the memories of the program as it was given."""
        found: dict[str, RowSymbol] = {}
        for name, symbol in rows.places.items():
            if name in self.p.memories:
                whole, count = self.lowered.parts.get(name, (name, 1))
                found.setdefault(whole, replace(symbol, rows=symbol.rows * count))
        return found

    def symbol(self, value: str, address: int) -> Symbol:
        dtype, length = self.shape[value]
        return Symbol(address, length, dtype)

    def place_by_lifetime(self, passes: list[Pass]) -> tuple[dict[str, Symbol], int]:
        """Return places by first fit, and the words that all take together."""
        last = {v: i for i, p in enumerate(passes) for v in (*p.reads.values(), p.x_in, p.result) if v}
        last = self.last_uses(passes, last)
        last[self.p.logits] = len(passes)
        where: dict[str, Symbol] = {}
        places = Lifetimes()
        for i, one in enumerate(passes):
            if one.result and one.result not in self.stored and one.result not in where:
                # A value may take the place of an operand only after the whole pass.
                size = self.g.slots(self.shape[one.result][1])
                where[one.result] = self.symbol(one.result, places.place(size, i, last[one.result]))
        return where, places.top

    def intact(self, temps: list[str], where: dict[str, Symbol]) -> dict[str, Symbol]:
        """Return those values that no later one overwrites."""
        symbols = {}
        taken: set[int] = set()
        for value in reversed(temps):
            span = range(where[value].address, where[value].address + self.g.slots(where[value].length))
            if taken.isdisjoint(span):
                symbols[value] = where[value]
            taken.update(span)
        return symbols

    def set_barriers(self, passes: list[Pass]) -> list[Instruction]:
        """Return the passes' instructions: a pass waits for what it reads, a bank pass for all before it.

        What a dot pass reads from the banks, slot by slot as an earlier pass wrote it, it need not wait for
        if slot i comes at least `PIPELINE` cycles after slot i.
        """
        fresh: dict[str, tuple[Instruction, int]] = {}  # value: its writer, and the earliest start of that
        now = 0
        found = []
        for one in passes:
            inst = one.inst
            waits = one.x_in is not None and self.alias(one.x_in) in fresh
            waits |= inst.source != Source.DOT and not self.is_ready(one, fresh)
            for value in one.reads.values():
                writer = fresh.get(self.alias(value))
                waits |= writer is not None and not _follows(writer[0], inst, now - writer[1])
            if waits or one.begins_loop:
                inst = replace(inst, barrier=1)
                fresh.clear()
            for written in (one.refill, one.result, one.x_out):
                if written:
                    fresh[self.alias(written)] = inst, now
            if one.list_out:
                fresh[f"digits of {one.list_out}"] = inst, now
            if inst.source == Source.DOT and inst.op == Opcode.VEC:
                now += inst.count * inst.words
            found.append(inst)
        return found

    def is_ready(self, one: Pass, fresh: Mapping[str, object]) -> bool:
        """Return whether a pass that only moves digits, from a state or from the list, need not wait."""
        copies = one.inst.op == Opcode.VEC and not one.inst.pre
        if one.list_out in self.loaded and not one.result:
            return copies and one.inst.source == Source.BANK and self.alias(one.list_out) not in fresh
        digits = [f"digits of {value}" for value in one.list_in]
        return copies and one.inst.source == Source.ROWS and fresh.keys().isdisjoint(digits)

    def set_digits(
        self, passes: list[Pass], instructions: list[Instruction], *, wait: bool
    ) -> list[Instruction]:
        """Return the instructions with the slots of the address list that they write and read.

        A slot is free again with the first pass that waits for the last reader to end. With ``wait`` a pass
        that finds no slot waits for all before it.
        """
        last = {value: i for i, one in enumerate(passes) for value in (*one.list_in, one.list_out) if value}
        last = self.last_uses(passes, last)
        waits = [i for i, inst in enumerate(instructions) if inst.barrier]
        while True:
            places = Lifetimes()
            at: dict[str, int] = {}
            lacking = None  # the first pass that finds no slot
            for i, one in enumerate(passes):
                value = one.list_out
                if value is not None:
                    until = next((w - 1 for w in waits if w > last[value]), len(passes))
                    at[value] = places.place(self.g.slots(self.shape[value][1]), i, until)
                    if wait and places.top > self.g.list_slots:
                        lacking = i
                        break
            if lacking is None or lacking in waits:
                break
            waits = sorted([*waits, lacking])
        self.require("list slots", places.top, self.g.list_slots)
        found = []
        for i, (one, inst) in enumerate(zip(passes, instructions, strict=True)):
            inst = replace(inst, barrier=int(i in waits))
            if one.list_out is not None:
                inst = replace(inst, to_list=int(not inst.arg), x_dst=at[one.list_out])
            if one.list_in and one.rows is None:
                inst = replace(inst, x_src=at[one.list_in[0]])
            found.append(inst)
        self.digits = at
        return found

    def set_rows(
        self, passes: list[Pass], instructions: list[Instruction], rows: Rows, shift: int
    ) -> list[Instruction]:
        """Return the instructions with the addresses of rows."""
        found = []
        for one, inst in zip(passes, instructions, strict=True):
            if one.rows is not None:
                place = rows.places[one.rows]
                address = RowAddress(
                    first=place.address,
                    bits=one.bits,
                    step=place.step,
                    a=self.digits[one.list_in[0]],
                    b=self.digits[one.list_in[1]] if len(one.list_in) > 1 else None,
                    shared=one.shared,
                    session=one.rows in self.p.memories,
                    shift=shift,
                )
                inst = replace(inst, **address.fields())  # type: ignore[arg-type]
            found.append(inst)
        return found

    def check_side_lane(self, passes: list[Pass], instructions: list[Instruction]) -> None:
        """Refuse a multiplicand that would have to stay in the side lane over a barrier."""
        held: str | None = None
        for one, inst in zip(passes, instructions, strict=True):
            if inst.barrier:
                held = None
            if one.side_in is not None and one.side_in != held:
                raise DoesNotFit(
                    f"{one.side_in!r} would have to stay in the side lane while other contexts run"
                )
            if inst.to_side:
                held = one.result

    def set_addresses(
        self, passes: list[Pass], instructions: list[Instruction], banks: Banks
    ) -> list[Instruction]:
        """Return the instructions with the bank words of result and operands."""
        found = []
        for one, inst in zip(passes, instructions, strict=True):
            if one.result:
                target = banks.where[one.result]
                logits = one.result == self.p.logits
                fields = {"to_bank": 1, "d": target.address, "rel_d": int(one.result in self.stored)}
                inst = replace(inst, **fields, to_logits=int(logits))  # type: ignore[arg-type]
                if logits:
                    most = self.g.logit_slots * self.g.columns
                    message = f"{target.length} logits exceed the {most} of {self.g.name}"
                    require("logits", self.g.slots(target.length) * self.g.columns, most, message)
            for operand, value in one.reads.items():
                relative = int(value in self.loaded or value in self.stored)
                fields = {operand: banks.where[value].address, "rel_" + operand: relative}
                inst = replace(inst, **fields)  # type: ignore[arg-type]
            if inst.source not in (Source.DOT, Source.ROWS) and "b" in one.reads:
                inst = replace(inst, paced=1)
            found.append(inst)
        return found

    def number_weights(self, passes: list[Pass], instructions: list[Instruction]) -> list[Instruction]:
        """Return the instructions with the first weight word and row correction of every matrix."""
        weight = bias = 0
        found = []
        placed: dict[str, tuple[int, int]] = {}
        for one, inst in zip(passes, instructions, strict=True):
            if one.trits is not None and self.g.streams:
                weight += inst.count * inst.words
            elif one.trits is not None:
                if one.trits not in placed:
                    placed[one.trits] = weight, bias
                    weight += inst.count * inst.words
                    bias += inst.count
                inst = replace(inst, weight=placed[one.trits][0], a=placed[one.trits][1])
            found.append(inst)
        self.require("weight words", weight, self.g.weight_depth)
        self.require("row corrections per column", bias, self.g.bias_depth)
        return found

    def set_switches(self, instructions: list[Instruction]) -> list[Instruction]:
        """Return the instructions with the places where another context may run.

        A norm's two passes stay together: the norm unit holds one mantissa. A bank pass follows its own
        context's pass because that is faster: it waits for whatever is in the pipelines, and another
        context's matrix pass would hold it up longer than its own.
        """
        return [
            replace(inst, switch=int(after.barrier and not inst.stat and after.source != Source.BANK))
            for inst, after in zip(instructions, [*instructions[1:], Instruction()], strict=True)
        ]

    def code(self, instructions: list[Instruction], banks: Banks) -> list[int]:
        """Return the microcode of every context: the same passes on bank and x words of its own."""
        found: list[int] = []
        for k in range(self.contexts):
            bank, x = k * banks.own_words, k * (self.g.x_depth // self.contexts)
            for inst in instructions:
                if inst.op in (Opcode.VEC, Opcode.MEM):
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
                elif inst.op == Opcode.LOOP:
                    inst = replace(inst, a=inst.a + k * len(instructions) * WORDS)
                found += inst.encode()
        return found

    def alias(self, value: str) -> str:
        """State values share a place with their state."""
        return (
            "state:" + (self.loaded.get(value) or self.stored[value])
            if (value in self.loaded or value in self.stored)
            else value
        )

    def memories(
        self, passes: list[Pass], instructions: list[Instruction], banks: Banks, rows: Rows
    ) -> dict[Mem, Words]:
        g = self.g
        weights, bias = self.weights(passes, instructions)
        embed = np.zeros((g.memory(Mem.EMBED).blocks, 0), np.uint32)
        for op in self.p.ops:
            if op.kind == "GATHER":
                if embed.shape[1]:
                    raise IllegalProgram(f"GATHER {op.out!r}: one embedding per program on this engine")
                table = self.p.consts[op.text("embed")]
                stride = (g.slots(table.shape[1]) - 1).bit_length()
                embed = embed_blocks(table, g, 1 << stride)
        code = np.array(self.code(instructions, banks), np.uint32)
        tables = np.frombuffer(b"".join(self.fused.tables), np.uint16)
        norms = np.frombuffer(b"".join(self.fused.norms), np.uint8)
        return {
            Mem.PROGRAM: code.reshape(-1, 2).T.copy(),
            Mem.WEIGHT: stream_blocks(weights, g) if g.streams else weight_blocks(weights, g),
            Mem.EMBED: embed,
            Mem.BIAS: bias,
            Mem.TABLE: tables.astype(np.uint32)[None],
            Mem.NORM: norms.astype(np.uint32)[None],
            **({Mem.ROWS: rows.blocks(self.p, g)} if rows.constants else {}),
        }

    def weights(
        self, passes: list[Pass], instructions: list[Instruction]
    ) -> tuple[npt.NDArray[np.int8], Words]:
        """Return all matrices' trits ``[word, column, lane]`` and row corrections ``[column, row]``.

        A row's correction is the number of its -1 weights; there are none where weights stream.
        """
        g = self.g
        parts = [np.zeros((0, g.columns, g.lanes), np.int8)]
        corrections = [np.zeros((g.columns, 0), np.uint32)]
        placed: set[str] = set()
        for one, inst in zip(passes, instructions, strict=False):
            if one.trits is None or (one.trits in placed and not g.streams):
                continue
            placed.add(one.trits)
            trits = self.p.consts[one.trits]
            rows, k = trits.shape
            full = np.zeros((inst.count * g.columns, inst.words * g.lanes), np.int8)
            full[:rows, :k] = trits
            block = full.reshape(inst.count, g.columns, inst.words, g.lanes)
            parts.append(block.transpose(0, 2, 1, 3).reshape(-1, g.columns, g.lanes))
            if g.streams:
                continue
            negatives = (full < 0).sum(1).reshape(inst.count, g.columns)
            most = int(negatives.max(initial=0))
            message = f"{one.name!r}: a row with {most} weights of -1 exceeds {g.bias_bits} bits"
            require("weights of -1 in a row", most, (1 << g.bias_bits) - 1, message)
            corrections.append(negatives.T.astype(np.uint32))
        return np.concatenate(parts), np.concatenate(corrections, axis=1)


def bodies(passes: Sequence[Pass]) -> list[range]:
    """Return the passes of each loop's body, and its LOOP."""
    begins = [i for i, one in enumerate(passes) if one.begins_loop]
    ends = [i for i, one in enumerate(passes) if one.inst.op == Opcode.LOOP]
    return [range(begin, end + 1) for begin, end in zip(begins, ends, strict=True)]


def _follows(writer: Instruction, reader: Instruction, distance: int) -> bool:
    """Return whether every slot of ``reader`` comes `PIPELINE` cycles after the same slot of ``writer``.

    ``reader`` starts ``distance`` cycles or more after ``writer``; slot i of a pass has been issued
    ``(i + 1) * words`` cycles after its start.
    """
    step = reader.words - writer.words
    return (
        writer.source == reader.source == Source.DOT
        and writer.count == reader.count
        and distance + min(step, writer.count * step) >= PIPELINE
    )
