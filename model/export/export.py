"""Checkpoint to integer program: the only place where float becomes integer.

Trits come from the model's own quantizer, shifts from its power-of-two scales, tables from ``tables.py``; the
op sequence is that of :mod:`ternac.program.language_model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ternac.model.net import tables
from ternac.model.net.layers import BitLinear, Norm
from ternac.model.net.memory import Recall
from ternac.model.net.network import Block, TernaryLM
from ternac.program.language_model import LayerParams, LMParams, MemoryParams, NormParams, build_lm
from ternac.program.program import Program

RESIZED = "memory"
"""Entry of a program's meta: rows and seed of the maps of a memory that was resized at export."""


def _integers(values: Tensor, dtype: type) -> np.ndarray:
    return values.detach().numpy().astype(dtype)


def _trits(linear: BitLinear) -> np.ndarray:
    return _integers(linear.trits(), np.int8)


def _norm(norm: Norm) -> NormParams:
    return NormParams(norm.pre, norm.post, _integers(norm.table, np.uint8))


def _layer(block: Block, model: TernaryLM) -> LayerParams:
    s, mlgru, glu = model.config.scales, block.mlgru, block.glu
    linears = {
        "Wf": mlgru.wf,
        "Wg": mlgru.wg,
        "Wc": mlgru.wc,
        "Wo": mlgru.wo,
        "Wgate": glu.wgate,
        "Wup": glu.wup,
        "Wdown": glu.wdown,
    }
    weights = {name: _trits(linear) for name, linear in linears.items()}
    shifts = {
        "f.pre": mlgru.wf.shift,
        "g.pre": mlgru.wg.shift,
        "g": s.state - s.gate,
        "c.pre": mlgru.wc.shift,
        "o": mlgru.mul_shift,
        "o.res": mlgru.wo.shift,
        "a.pre": glu.wgate.shift,
        "a": s.state - s.act,
        "up": glu.wup.shift,
        "z": glu.mul_shift,
        "down": glu.wdown.shift,
    }
    return LayerParams(_norm(block.norm), _norm(block.norm), weights, shifts)


def _memory(recall: Recall, model: TernaryLM) -> MemoryParams:
    s, c = model.config.scales, recall.config
    a1, a2 = (_integers(each, np.int8) for each in recall.maps)
    weights = {
        "Wa1": a1,
        "Wa2": a2,
        "Wv": _trits(recall.wv),
        "Wg": _trits(recall.wg),
        "Wo": _trits(recall.wo),
    }
    shifts = {
        "v": recall.wv.shift,
        "e": c.rate,
        "o": c.heads.bit_length() - 1,
        "g.pre": recall.wg.shift,
        "g": s.state - s.gate,
        "z": recall.mul_shift,
        "res": recall.wo.shift,
    }
    return MemoryParams(_norm(model.norm), c.heads, c.bits, weights, shifts)


@torch.no_grad()
def to_program(
    model: TernaryLM, name: str, meta: Mapping[str, Any] | None = None, tokenizer: bytes = b""
) -> Program:
    """Return the program of a model, with its ``tokenizer.json`` where tokens are not bytes.

    Raises:
        IllegalProgram: where the model's shape or scales break a rule.
    """
    was_training = model.training
    model.eval()
    s = model.config.scales
    head = _trits(model.head)
    params = LMParams(
        embed=_integers(model.embed_codes(), np.int8),
        embed_shift=8 - (s.residual - s.embed),
        layers=[_layer(block, model) for block in model.layers()],
        norm=_norm(model.last_norm),
        head=head,
        head_shift=model.head.shift,
        sigmoid=tables.sigmoid_table(s.pre),
        silu=tables.silu_table(s.pre, s.state),
        logit_scale_bits=s.logits,
        memories={r.config.after - 1: _memory(r, model)} if (r := model.recall) else {},
    )
    model.train(was_training)
    reads = {"tokenizer": "bytes"} if model.config.vocab == 256 else {}
    if tokenizer:
        reads = {"tokenizer": "huggingface"}
    return build_lm(params, name, reads | dict(meta or {}), tokenizer)
