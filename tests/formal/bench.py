"""A bench for proofs: a component between free inputs and the properties that it shall keep.

The component is elaborated as it is and then only looked at: `Bench.inner` and `Bench.word` read its
registers and memories by name from the outside, so that the product carries no property and its RTLIL stays
what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Const,
    Cover,
    Fragment,
    Module,
    Mux,
    Shape,
    ShapeLike,
    Signal,
    Value,
    ValueLike,
)
from amaranth.hdl._ast import Switch
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["MARK", "Bench", "Fault", "Watch"]

DUT = "dut"
MARK = "property:"
"""Before the name of a property in those of cells."""


@dataclass(frozen=True)
class Fault:
    """A planted bug: ``signal`` of the component gets ``value`` where ``when`` holds.

    Parameters
    ----------
    signal : path below the component, as for `Bench.inner`.
    value : a number, or what makes it from the bench.
    when : likewise a bit; always if left out.
    domain : where the signal is driven, as for `Bench.inner`.
    start : where the search for the counterexample starts, as for `Bench`.
    """

    signal: str
    value: int | Callable[[Bench], ValueLike]
    when: Callable[[Bench], ValueLike] | None = None
    domain: str | None = None
    start: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """The item that `Bench.watch` follows.

    Members
    -------
    inside : items that came in and did not go out.
    marked : one of them is the watched one.
    ahead : items that go out before it.
    item : its payload.
    """

    inside: Signal
    marked: Signal
    ahead: Signal
    item: Signal


class Bench:
    """One component, with all of its inputs free unless ``m`` drives them.

    Names of properties are those that a failure is reported with.

    Parameters
    ----------
    dut : the component.
    fault : planted into it.
    only : names of the claims and invariants to check (default: all).
    start : by path, the number that a register starts with, or the state that an FSM starts in, instead of
        that after a reset.
    any_memory : memories start with any words in them, as after any load, and not with those of a reset.
    """

    def __init__(
        self,
        dut: Any,
        *,
        fault: Fault | None = None,
        only: set[str] | None = None,
        start: Mapping[str, str | int] | None = None,
        any_memory: bool = False,
    ) -> None:
        self.dut, self.only, self.any_memory = dut, only, any_memory
        self.m = Module()
        self.m.domains.sync = domain = ClockDomain("sync", reset_less=True)
        self.fragment = Fragment.get(dut, None)
        self.m.submodules[DUT] = self.fragment
        members = dut.signature.flatten(dut)
        self.inputs = [Value.cast(value) for _, member, value in members if member.flow is In]
        self.inputs.append(domain.clk)
        self.claims: list[str] = []
        self.invariants: list[str] = []
        self.covers: list[str] = []
        self._names = 0
        self.start = (fault.start if fault is not None else None) or start or {}
        for path, value in self.start.items():
            if isinstance(value, str):
                self.inner(f"{path}.fsm_state".lstrip("."))._init = self.codes(path)[value]
            else:
                self.inner(path)._init = value
        if fault is not None:
            self._plant(fault)

    # --- what a property speaks of -------------------------------------------------------------------------

    def inner(self, path: str, domain: str | None = None) -> Any:
        """Return the signal that a submodule drives, by submodules' names and its own, as ``before.full``;
        or an input of it.

        ``domain``: where it is driven, ``comb`` or ``sync``, for a name that is there twice.
        """
        where, _, name = path.rpartition(".")
        fragment = self._find(where)
        found = {}
        for driver, statements in fragment.statements.items():
            for statement in statements if domain in (None, driver) else ():
                for signal in statement._lhs_signals():
                    if signal.name == name:
                        found[id(signal)] = signal
        for component in (fragment.origins or ()) if not found else ():
            port = getattr(component, name, None)
            if isinstance(port, Signal):
                return port
        if len(found) != 1:
            raise LookupError(f"{len(found)} signals are named {path!r}")
        return next(iter(found.values()))

    def state(self, path: str, *names: str) -> Value:
        """Return whether the FSM of submodule ``path`` is in one of the states."""
        signal = self.inner(f"{path}.fsm_state")
        codes = self.codes(path)
        value: Value = Const(0)
        for name in names:
            value = value | (signal == codes[name])
        return value

    def codes(self, path: str) -> dict[str, int]:
        """Return the code of each state of the FSM of submodule ``path``."""
        signal, codes = self.inner(f"{path}.fsm_state".lstrip(".")), {}
        for code in range(1 << len(signal)):
            try:
                codes[signal.decoder(code).rpartition("/")[0]] = code
            except KeyError:
                break
        return codes

    def word(self, path: str, address: ValueLike) -> Signal:
        """Return the word of memory ``path`` at ``address``, through a port that only the bench has."""
        memory = self._memory(path)
        width, depth = Shape.cast(memory._data.shape).width, memory._data.depth
        where, word = Signal(ceil_log2(depth), name=self._name("at")), Signal(width, name=self._name("word"))
        self.m.d.comb += where.eq(address)
        memory.read_port(domain="comb", addr=where, data=word, en=Const(1), transparent_for=())
        return word

    def read_data(self, path: str) -> Value:
        """Return what the clocked read port of memory ``path`` gives."""
        (data,) = [port._data for port in self._memory(path)._read_ports if port._domain != "comb"]
        return Value.cast(data)

    def free(self, shape: ShapeLike = 1, name: str = "free") -> Any:
        """Return a signal that may have any value in each cycle."""
        signal = Signal(shape, name=self._name(name))
        self.inputs.append(Value.cast(signal))
        return signal

    def constant(self, width: int = 1, name: str = "constant") -> Signal:
        """Return a signal with any value, the same in every cycle."""
        signal = self.free(width, name)
        self.given(self._name(f"{name}_stays"), ~self.past(1) | (signal == self.past(signal)))
        return signal

    def leave_open(self, component: Any) -> None:
        """Leave the outputs of an empty component free, which stands for any that has its ports."""
        members = component.signature.flatten(component)
        self.inputs += [Value.cast(value) for _, member, value in members if member.flow is Out]

    def cut(self, path: str) -> None:
        """Let a register take any value in each cycle: what holds then holds with what drives it, too."""
        free = self.free(len(self.inner(path)), "cut")
        self._plant(Fault(path, lambda _: free))

    def past(self, value: ValueLike, init: int = 0) -> Signal:
        """Return ``value`` of the cycle before, ``init`` in the first one."""
        value = Value.cast(value)
        signal = Signal(value.shape(), name=self._name("past"), init=init)
        self.m.d.sync += signal.eq(value)
        return signal

    def count(self, up: ValueLike, down: ValueLike, width: int, name: str) -> Signal:
        """Return a counter of the pulses ``up`` less those of ``down``."""
        counter = Signal(width, name=name)
        self.m.d.sync += counter.eq(counter + up - down)
        return counter

    # --- properties ----------------------------------------------------------------------------------------

    def claim(self, name: str, holds: ValueLike) -> None:
        """State what a reader of the table is promised."""
        self.claims.append(name)
        self._assert(name, holds)

    def invariant(self, name: str, holds: ValueLike) -> None:
        """State what the registers keep, so that the claims follow by induction. It is proven with them."""
        self.invariants.append(name)
        self._assert(name, holds)

    def given(self, name: str, holds: ValueLike) -> None:
        """Assume what the neighbours of the component do."""
        self.m.d.comb += Assume(self._bit(holds), name)

    def reached(self, name: str, happens: ValueLike) -> None:
        """State what must be able to happen."""
        self.covers.append(name)
        if self.only is None:
            self.m.d.comb += Cover(self._bit(happens), name)

    def held(self, name: str, stream: Any, *, given: bool = False) -> None:
        """State that a stream keeps an item that it offers until it is taken; ``given``: assume it."""
        waits = self.past(stream.valid & ~stream.ready)
        payload = Value.cast(stream.payload)
        holds = ~waits | (stream.valid & (payload == self.past(payload)))
        (self.given if given else self.claim)(name, holds)

    def watch(self, i: Any, o: Any, level: ValueLike, width: int) -> Watch:
        """Follow one item, any one, from stream ``i`` to stream ``o`` of a block that keeps items in order.

        ``level``: items inside, as the block's registers say; less than ``2**width``. Claims that no item is
        invented, and that the watched one comes out unchanged when those before it are out. As it may be any
        one, all items come out, each once, in order.
        """
        comes, goes = i.valid & i.ready, o.valid & o.ready
        inside = self.count(comes, goes, width, "inside")
        marked, ahead = Signal(name="marked"), Signal(width, name="ahead")
        item = Signal(len(Value.cast(i.payload)), name="item")
        mark = self.free(name="mark")
        with self.m.If(comes & mark & ~marked):
            self.m.d.sync += [marked.eq(1), ahead.eq(inside - goes), item.eq(i.payload)]
        with self.m.Elif(marked & goes):
            self.m.d.sync += [ahead.eq(ahead - 1), marked.eq(ahead != 0)]
        self.claim("nothing_invented", ~o.valid | (inside != 0))
        self.claim("in_order_unchanged", ~(o.valid & marked & (ahead == 0)) | (Value.cast(o.payload) == item))
        self.invariant("level", inside == level)
        self.invariant("watched_inside", ~marked | (ahead < inside))
        self.reached("watched_one_out", goes & marked & (ahead == 0))
        return Watch(inside, marked, ahead, item)

    # --- output --------------------------------------------------------------------------------------------

    def rtlil(self) -> str:
        """Return bench and component as RTLIL, each property's cell named as it is."""
        text = rtlil.convert(self.m, name="top", ports=self.inputs, emit_src=False)
        return re.sub(
            r'cell \$check \S+\n(\s+parameter \\FORMAT "([^"]+)")', rf"cell $check \\{MARK}\2\n\1", text
        )

    def _assert(self, name: str, holds: ValueLike) -> None:
        if self.only is None or name in self.only:
            self.m.d.comb += Assert(self._bit(holds), name)

    def _bit(self, value: ValueLike) -> Value:
        return Value.cast(value).bool()

    def _name(self, name: str) -> str:
        self._names += 1
        return f"{name}_{self._names}"

    def _find(self, path: str) -> Fragment:
        fragment = self.fragment
        for part in path.split(".") if path else ():
            fragment = fragment.find_subfragment(part)
        return fragment

    def _memory(self, path: str) -> MemoryInstance:
        memory = self._find(path)
        while not isinstance(memory, MemoryInstance):
            (memory,) = [each for each, _, _ in memory.subfragments]
        return memory

    def _plant(self, fault: Fault) -> None:
        signal = self.inner(fault.signal, fault.domain)
        fragment = self._find(fault.signal.rpartition(".")[0])
        (domain,) = [
            domain
            for domain, statements in fragment.statements.items()
            if any(signal in statement._lhs_signals() for statement in statements)
        ]
        value = fault.value(self) if callable(fault.value) else fault.value
        change = signal.eq(value)
        when = Const(1) if fault.when is None else Mux(fault.when(self), 1, 0)
        fragment.add_statements(domain, Switch(when, [("1", [change], None)]))
