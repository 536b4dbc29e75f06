"""Sizes of engines for whole imported models: those that fit a device, by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from ternac.errors import UsageError
from ternac.hdl.cells.tech import Technology
from ternac.hdl.wide.engine import WideEngine

GEOMETRY_HASH_BYTES = 8

__all__ = ["WIDE_SHAPES", "WideShape", "wide_shape"]


@dataclass(frozen=True, kw_only=True)
class WideShape:
    """What is fixed when a `WideEngine` is built; parameters of the same names there."""

    name: str
    text: str
    """The largest models that it holds, for people."""
    port_bits: int
    lanes: int
    depth: int
    x_depth: int
    code_depth: int
    matrices: int
    vocab: int
    """Logits that a sampler behind it has room for."""
    slots: int = 2
    fifo: int = 512
    address_bits: int = 32

    def engine(self, tech: Technology = Technology.PORTABLE) -> WideEngine:
        """Build the engine."""
        return WideEngine(
            port_bits=self.port_bits, lanes=self.lanes, depth=self.depth, x_depth=self.x_depth,
            code_depth=self.code_depth, matrices=self.matrices, slots=self.slots, fifo=self.fifo,
            address_bits=self.address_bits, tech=tech,
        )  # fmt: skip

    @property
    def numbers(self) -> dict[str, int]:
        """Its numbers, by name."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}

    @property
    def hash(self) -> bytes:
        """Names its numbers, as `Geometry.hash` does; what HELLO answers."""
        return hashlib.sha256(json.dumps(self.numbers).encode()).digest()[:GEOMETRY_HASH_BYTES]


_KV260 = WideShape(
    name="kv260-wide",
    text="370M and 1.3B of MatMul-free LM",
    port_bits=128,
    lanes=8,
    depth=9216,
    x_depth=512,
    code_depth=2048,
    matrices=256,
    vocab=32_000,
)

WIDE_SHAPES: dict[str, WideShape] = {
    shape.name: shape
    for shape in (
        WideShape(
            name="tiny-wide",
            text="models of a few thousand weights, for tests",
            port_bits=32,
            lanes=2,
            depth=512,
            x_depth=32,
            code_depth=128,
            matrices=16,
            vocab=512,
            fifo=128,
            address_bits=24,
        ),
        WideShape(
            name="ulx3s-85f-wide",
            text="100 M weights of width 768, 13 layers, beside a vocabulary of 8,192",
            port_bits=32,
            lanes=2,
            depth=9728,
            x_depth=576,
            code_depth=1024,
            matrices=128,
            vocab=8192,
            address_bits=25,
        ),
        _KV260,
        replace(_KV260, name="u250-wide", text="370M, 1.3B and 2.7B of MatMul-free LM", depth=13824),
    )
}
"""Engines by name: that of their device, and ``-wide``."""


def wide_shape(name: str) -> WideShape:
    """Return a shape by name. Raises UsageError if there is none."""
    try:
        return WIDE_SHAPES[name]
    except KeyError:
        raise UsageError(
            f"no engine for whole models is called {name!r}", f"there are {', '.join(WIDE_SHAPES)}"
        ) from None
