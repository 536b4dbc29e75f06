"""Engine core and link controller as one component with a byte link."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.ports import ENGINE_MEMBERS, ByteStream


class LinkedEngine(wiring.Component):
    """An engine core behind its byte link: the simulated board's design, and what boards put behind a UART.

    Parameters: ``core``, a component with the flat ports of ``ENGINE_MEMBERS`` (flipped); ``controller``.
    Members: ``rx`` In(bytes), ``tx`` Out(bytes), ``idle`` Out(1), ``fault`` Out(1) as in LinkController.
    """

    def __init__(self, core: wiring.Component, controller: LinkController) -> None:
        for name in ENGINE_MEMBERS:
            if not hasattr(core, name):
                raise TypeError(f"engine core {type(core).__name__} has no port {name!r}")
        self.core = core
        self.controller = controller
        super().__init__({"rx": In(ByteStream), "tx": Out(ByteStream), "idle": Out(1), "fault": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.link = link = self.controller
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        m.d.comb += [self.idle.eq(link.idle), self.fault.eq(link.fault)]
        for name, member in ENGINE_MEMBERS.items():
            inner, outer = getattr(core, name), getattr(link.engine, name)
            m.d.comb += inner.eq(outer) if member.flow == Out else outer.eq(inner)
        return m
