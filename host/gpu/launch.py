"""Launches of the Triton kernels, on a GPU or in the interpreter: grids, blocks, warps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ternac.host.gpu.lower import CODE, PARAMS, STATE_AREA, Code, block_of
from ternac.host.gpu.memory import Constants, Rows, Values
from ternac.host.gpu.weights import ROWS, Weights
from ternac.host.gpu.where import kernels
from ternac.program.ops import BYTES
from ternac.run.sampling import EXP

__all__ = ["Blocks", "Kernels"]


@dataclass(frozen=True)
class Blocks:
    """Sizes that decide speed and nothing else.

    ``count``: blocks that a phase is cut into at most, unless a block then holds more than ``most`` words of
    one matrix; ``words`` of these a thread holds. ``tile``: groups, rows and columns of a product's block.
    ``scan``: channels of a scan's block; ``ahead``: tokens whose inputs it asks for at once.
    """

    count: int = 320
    most: int = 16384
    words: int = 16
    tile: tuple[int, int, int] = (32, 64, 64)
    scan: int = 64
    ahead: int = 16

    def groups(self, height: int, words: int) -> int:
        """Groups in a block of a phase over ``height`` groups of ``words`` words."""
        groups = 1
        while -(-height // groups) > self.count and 2 * groups * words <= self.most:
            groups *= 2
        return groups

    def warps(self, words: int) -> int:
        """Warps for a block of a phase that holds as many words of a matrix."""
        wanted = max(1, words // (32 * self.words))
        return min(16, 1 << (wanted - 1).bit_length())


class Kernels:
    """Runs lowered phases by the Triton kernels.

    ``overlap``: a kernel asks for its weights while the one before it ends (compute capability 9 and up).
    """

    def __init__(
        self,
        weights: Weights,
        constants: Constants,
        rows: Rows,
        *,
        interpret: bool,
        blocks: Blocks,
        overlap: bool = False,
    ) -> None:
        self._k = kernels(interpret)
        self.weights, self.constants, self.rows = weights, constants, rows
        self.blocks, self.overlap, self._asm = blocks, overlap, not interpret
        self._exponentials = torch.from_numpy(EXP.astype("int32")).to(rows.device)
        self._params: dict[int, tuple[Code, Tensor]] = {}  # the code is kept, so that its id stays its own
        self._more: dict[str, Any] = {"launch_pdl": True} if overlap else {}

    def prepare(self, code: Code) -> None:
        """Put the phase's numbers into device memory; a graph must find them there."""
        if id(code) not in self._params:
            numbers = torch.tensor([*code.params, 0], dtype=torch.int64)
            self._params[id(code)] = code, numbers.to(self.rows.device)

    def forget(self, code: Code) -> None:
        """Free the phase's numbers."""
        self._params.pop(id(code), None)

    def phase(self, code: Code, values: Values, first: int, count: int) -> None:
        """A phase for ``count`` rows of different sessions, each on its own."""
        self.prepare(code)
        height = -(-code.rows // ROWS) if code.products or code.own else 1
        words = max((product.block for product in code.products), default=1)
        groups = self.blocks.groups(height, words)
        held = max([groups * words, ROWS * groups, *(micro.block for micro in code.whole)])
        counts = tuple(map(len, (code.whole, code.products, code.own, code.whole_stores, code.own_stores)))
        self._k.phase[count, -(-height // groups)](
            values.small, values.small.view(torch.int32), values.middle, values.large, *self._memory(),
            self.weights.memory, self._params[id(code)][1], first,
            whole=code.whole, products=code.products, own=code.own, whole_stores=code.whole_stores,
            own_stores=code.own_stores, counts=counts, at=code.at, rows=code.rows, groups=groups,
            asm=self._asm, overlap=self.overlap, sizes=self._sizes(values),
            num_warps=self.blocks.warps(held), **self._more,
        )  # fmt: skip

    def many(self, code: Code, values: Values, first: int, steps: int, batch: int, scan: bool) -> None:
        """A phase of a split plan for ``steps`` tokens of ``batch`` sessions."""
        self.prepare(code)
        if scan:
            self._scan(code, values, first, steps, batch)
        elif code.products:
            self._product(code, values, first, steps * batch)
        else:
            self.phase(code, values, first, steps * batch)

    def _product(self, code: Code, values: Values, first: int, count: int) -> None:
        place = self.weights.places[code.weights[0]]
        groups, batch, depth = self.blocks.tile
        batch = min(batch, block_of(count))
        grid = (-(-count // batch), -(-place.groups // groups))
        self._k.product[grid](
            values.small, values.middle, values.large, *self._memory(),
            self.weights.memory.view(torch.uint8), self._params[id(code)][1], first, count,
            group_words=place.words, own=code.own, stores=code.own_stores,
            counts=(len(code.own), len(code.own_stores)), at=code.at, rows=code.rows, groups=groups,
            batch=batch, depth=depth, asm=self._asm, sizes=self._sizes(values),
            num_warps=8 if groups * batch > 4096 else 4,
        )  # fmt: skip

    def _scan(self, code: Code, values: Values, first: int, steps: int, batch: int) -> None:
        block = min(self.blocks.scan, block_of(code.rows))
        stored = [i for i, store in enumerate(code.own_stores) if store.area == STATE_AREA]
        read = [i for i, micro in enumerate(code.own) if micro.code == CODE["STATE"]]
        where = code.at.own + PARAMS * read[0] if read else code.at.own_stores + stored[0]
        self._k.scan[batch, -(-code.rows // block)](
            values.small, values.middle, values.large, *self._memory(), self._params[id(code)][1], first,
            steps, batch, own=code.own, stores=code.own_stores, state_of=(bool(stored), where),
            counts=(len(code.own), len(code.own_stores)), at=code.at, rows=code.rows, block=block,
            ahead=self.blocks.ahead, sizes=self._sizes(values), num_warps=max(1, block // 32),
        )  # fmt: skip

    def choose(self, values: Values, place: int, vocab: int, count: int, greedy: bool, some: bool) -> None:
        """The next token of ``count`` rows from their logits, which lie at ``place``."""
        block = block_of(vocab)
        self._k.choose[(count,)](
            values.middle, place, self._exponentials, self.rows.settings, self.rows.tokens, self.rows.rngs,
            self.rows.at, self.rows.chosen, stride=values.middle.shape[1], room=self.rows.chosen.shape[1],
            vocab=vocab, block=block, greedy=greedy, some=some, overlap=self.overlap,
            num_warps=max(1, min(32, block // 512)), **self._more,
        )  # fmt: skip

    def _memory(self) -> tuple[Tensor, ...]:
        rows, constants = self.rows, self.constants
        return rows.states, rows.slots, rows.tokens, constants.bytes, constants.words

    def _sizes(self, values: Values) -> tuple[int, ...]:
        return (*(values.area(name).shape[1] for name in BYTES), self.rows.states.shape[1])


def blocks_for(device: torch.device, interpret: bool) -> Blocks:
    """Sizes for a device: two or three blocks of a phase for each of its multiprocessors.

    From compute capability 9 on, products take 64 groups at a time, which its wgmma instruction needs.
    The interpreter's time is in its calls, so its blocks are large.
    """
    if interpret:
        return Blocks(count=1, most=1 << 20, tile=(16, 16, 64), scan=1 << 16, ahead=2)
    found = torch.cuda.get_device_properties(device)
    tile = (64, 64, 64) if found.major >= 9 else (32, 64, 64)
    return Blocks(count=5 * found.multi_processor_count // 2, tile=tile)
