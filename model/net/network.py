"""The MatMul-free language model: embedding, blocks of MLGRU and GLU, ternary head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding

from ternac.errors import UsageError
from ternac.model.net import functional as fn
from ternac.model.net import fused
from ternac.model.net.config import MemoryConfig, ModelConfig
from ternac.model.net.layers import GLU, MLGRU, BitLinear, Norm, dropout_mask
from ternac.model.net.memory import Recall
from ternac.model.net.quantizers import activation_quantizer


class Block(nn.Module):
    """One layer: r += MLGRU(NORM(r)); r += GLU(NORM(r))."""

    def __init__(self, config: ModelConfig, norm: Norm) -> None:
        super().__init__()
        self.norm = norm
        self.mlgru = MLGRU(config.d, config.scales, config.forget_bias)
        self.glu = GLU(config.d, config.m, config.scales)

    def forward(
        self, r: Tensor, h0: Tensor, keep: tuple[Tensor, Tensor] | None, compiled: bool = False
    ) -> tuple[Tensor, Tensor]:
        """r i16 [T, B, d], h0 i16 [B, d] -> (r, h [B, d] after the last step)."""
        if compiled:
            return fused.block(self.norm, self.mlgru, self.glu, r, h0, keep)
        acc, h = self.mlgru(self.norm(r), h0)
        r = fn.AddRequant.apply(r, acc, 2.0**-self.mlgru.wo.shift, keep and keep[0])
        acc = self.glu(self.norm(r))
        r = fn.AddRequant.apply(r, acc, 2.0**-self.glu.wdown.shift, keep and keep[1])
        return r, h[-1]


class TernaryLM(nn.Module):
    """Integer-exact QAT model: its logits are those of the exported program, bit for bit.

    forward(tokens i64 [T, B], state) -> (logits [T, B, V] in integer codes of 2**-scales.logits, new state);
    state is one i16 tensor [B, d] per layer (as float32); behind that of the layer before the memory come its
    last digits, two i16 [B, heads], and what it read, i8 [B, width]; its rows, int8 [B, rows, width], are
    last. Dropout (one mask per sequence and branch, shared by all steps of the window) acts in training mode
    only.

    ``fused``: take the compiled way through the blocks (:mod:`ternac.model.net.fused`; CPU only, a compiler
    must be there). The values are the same; hooks on the modules inside the blocks are not called.
    """

    fused = False
    masks: Sequence[torch.Generator] = ()  #: what draws the dropout masks of each stream, if not torch's own
    keeps: Sequence[Tensor] = ()  #: dropout masks of the next window, if they are drawn elsewhere
    share = (0, 1)  #: (number, count) of the parts of a batch that several processes train on; this is one

    def __init__(self, config: ModelConfig, dropout: float = 0.0, sharpen: float = 1.0) -> None:
        super().__init__()
        s = config.scales
        self.config = config
        self.sharpen = sharpen
        self.dropout = dropout
        self.embed = nn.Parameter(torch.randn(config.vocab, config.d) * 0.5)
        self.embed_quant = activation_quantizer(s.embed)
        self.norm = Norm(config.d, s)
        self.last_norm = Norm(config.d, s, config.temper)
        self.blocks = nn.ModuleList(Block(config, self.norm) for _ in range(config.layers))
        self.head = BitLinear(config.d, config.vocab, s.norm, s.logits)
        self.recall = Recall(config.memory, config.d, s) if config.memory else None
        self.frozen: Tensor | None = None

    def train(self, mode: bool = True) -> TernaryLM:
        """Set the mode, as in torch, and drop what :meth:`freeze` kept."""
        self.frozen = None
        super().train(mode)
        return self

    def set_temper(self, gain: float) -> None:
        """Make all logits ``gain`` times as large, by the table of the last norm (see ModelConfig.temper)."""
        self.config = replace(self.config, temper=gain)
        self.last_norm = Norm(self.config.d, self.config.scales, gain).to(self.embed.device)

    def resize_memory(self, rows: int, seed: int, maps: Tensor | None = None) -> None:
        """Give the memory ``rows`` rows and other address maps: ``maps``, or those of ``seed``.

        No weight changes. Raises UsageError if the model has no memory, or none that can have so many rows.
        """
        memory = self.resized_memory(rows, seed)
        self.config = replace(self.config, memory=memory)
        assert self.recall is not None
        self.recall.take(memory, maps)

    def resized_memory(self, rows: int, seed: int) -> MemoryConfig:
        """Return what `resize_memory` makes of the memory, and raise what it raises."""
        if self.recall is None:
            raise UsageError(
                "the model has no memory whose rows could be chosen", "leave --rows and --even out"
            )
        return self.recall.config.resized(rows, seed)

    @torch.no_grad()
    def address_moment(self, tokens: Tensor) -> Tensor:
        """Return the sum of n n' over tokens i64 [T, B], float64 [d, d]: addresses of a memory are made of n.

        Exact while tokens * 128**2 < 2**53; streams begin at a zero state.
        """
        assert self.recall is not None
        r = self._embedded(tokens)
        for block in self.layers()[: self.recall.config.after]:
            r, _ = block(r, r.new_zeros(r.shape[1:]), None, self.fused)
        n = self.norm(r).flatten(0, 1).double()
        return n.T @ n

    def _embedded(self, tokens: Tensor) -> Tensor:
        """Return the residual i16 [T, B, d] before the first block."""
        s = self.config.scales
        return embedding(tokens, self.embed_codes() * 2.0 ** (s.residual - s.embed))

    @torch.no_grad()
    def freeze(self) -> TernaryLM:
        """Quantize embedding and weights once, until the next ``train`` or ``eval``."""
        self.frozen = self.embed_codes()
        for module in self.modules():
            if isinstance(module, BitLinear):
                module.freeze()
        return self

    def embed_codes(self) -> Tensor:
        """Return the i8 embedding [V, d] as float32, with the straight-through gradient."""
        if self.frozen is not None:
            return self.frozen
        value, scale, _, _ = self.embed_quant(self.embed)
        return value / scale

    def layers(self) -> list[Block]:
        """Return the blocks in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def initial_state(self, batch: int) -> list[Tensor]:
        """Return the zero state of ``batch`` streams."""
        shape, device = (batch, self.config.d), self.embed.device
        state = [torch.zeros(shape, device=device) for _ in range(self.config.layers)]
        if self.recall is None:
            return state
        small, rows = self.recall.initial_state(batch)
        after = self.recall.config.after
        return [*state[:after], *small, *state[after:], rows]

    def begin_again(self, state: list[Tensor], fresh: Tensor) -> None:
        """Give the streams ``fresh``, bool [B], the state of a beginning, in place."""
        for part in state:
            part[fresh] = 0

    def draw_keeps(self, batch: int) -> list[Tensor]:
        """Draw the dropout masks of a window, [batch, d] each, in the order in which `forward` takes them."""
        memory = self.config.layers + 1 if self.recall is None else self.recall.config.after
        count = 1 + 2 * self.config.layers + (memory <= self.config.layers)
        drawn = (
            dropout_mask(batch, self.config.d, self.dropout, self.share, self.masks) for _ in range(count)
        )
        return [mask.to(self.embed.device) for mask in drawn]

    def _remember(
        self, r: Tensor, small: list[Tensor], rows: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, tuple[list[Tensor], Tensor]]:
        """r i16 [T, B, d] -> (r with what the memory adds, its state)."""
        assert self.recall is not None
        if self.fused:
            return fused.recall(self.norm, self.recall, r, (small, rows), keep)
        acc, state = self.recall(self.norm(r), (small, rows))
        return fn.AddRequant.apply(r, acc, 2.0**-self.recall.wo.shift, keep), state

    def forward(self, tokens: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        r = self._embedded(tokens)
        batch, drop = tokens.shape[1], self.training and self.dropout > 0.0
        keeps = iter((self.keeps or self.draw_keeps(batch)) if drop else ())
        if drop:
            r = r * next(keeps)
        new_state: list[Tensor] = []
        memory: list[Tensor] = []
        after = self.recall.config.after if self.recall else 0
        for index, block in enumerate(self.layers(), 1):
            keep = (next(keeps), next(keeps)) if drop else None
            r, h = block(r, state[len(new_state)], keep, self.fused)
            new_state.append(h.detach())
            if index == after:
                small = state[after : after + 3]
                r, (small, rows) = self._remember(r, small, state[-1], next(keeps) if drop else None)
                new_state, memory = [*new_state, *small], [rows]
        new_state += memory
        if self.fused:
            return fused.head(self.last_norm, self.head, r), new_state
        acc = self.head.acc(self.last_norm(r))
        return fn.Requant.apply(acc, 2.0**-self.head.shift, *fn.I16), new_state

    def loss(
        self, tokens: Tensor, targets: Tensor, state: list[Tensor], weights: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the mean cross entropy in nats of targets [T, B], and the new state.

        ``weights`` as in `nats`.
        """
        logits, state = self(tokens, state)
        return self.nats(logits, targets, weights), state

    def nats(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean cross entropy of logits [T, B, V] in codes against targets [T, B].

        ``weights`` [T, B]: how often each counts; their mean over the whole batch is 1.

        In training the logits count ``sharpen`` times: a model that overfits is too sure of itself on other
        text by such a factor, and this takes it out of the weights.
        """
        scale = 2.0**-self.config.scales.logits * (self.sharpen if self.training else 1.0)
        scaled = logits.view(-1, logits.shape[-1]) * scale
        if weights is None:
            return cross_entropy(scaled, targets.reshape(-1))
        each = cross_entropy(scaled, targets.reshape(-1), reduction="none")
        return (each * weights.reshape(-1)).mean()
