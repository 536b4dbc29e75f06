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
from ternac.model.net.config import Scales
from ternac.model.net.layers import GLU, MLGRU, BitLinear, Norm
from ternac.model.net.memory import Recall
from ternac.model.net.network import Block, TernaryLM
from ternac.program.builder import NormParams
from ternac.program.language_model import LayerParams, LMParams, MemoryParams, build_lm
from ternac.program.program import Program

RESIZED = "memory"
"""Entry of a program's meta: rows and seed of the maps of a memory that was resized at export.

And ``even``, the tokens that they were evened out on, where they were.
"""


def integers(values: Tensor, dtype: type) -> np.ndarray:
    """Return a tensor that holds integer codes as an array of ``dtype``."""
    return values.detach().numpy().astype(dtype)


def trits(linear: BitLinear) -> np.ndarray:
    """Return the ternary matrix int8 [out, in]."""
    return integers(linear.trits(), np.int8)


def norm_params(norm: Norm) -> NormParams:
    """Return the attributes of a norm's op."""
    return NormParams(norm.pre, norm.post, integers(norm.table, np.uint8))


def mlgru_params(mlgru: MLGRU, s: Scales) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return trits and shifts of the recurrent half of a layer, by the names of the language model."""
    weights = {"Wf": trits(mlgru.wf), "Wg": trits(mlgru.wg), "Wc": trits(mlgru.wc), "Wo": trits(mlgru.wo)}
    shifts = {
        "f.pre": mlgru.wf.shift,
        "g.pre": mlgru.wg.shift,
        "g": s.state - s.gate,
        "c.pre": mlgru.wc.shift,
        "o": mlgru.mul_shift,
        "o.res": mlgru.wo.shift,
    }
    return weights, shifts


def glu_params(glu: GLU, s: Scales) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return trits and shifts of the gated half of a layer, by the names of the language model."""
    weights = {"Wgate": trits(glu.wgate), "Wup": trits(glu.wup), "Wdown": trits(glu.wdown)}
    shifts = {
        "a.pre": glu.wgate.shift,
        "a": s.state - s.act,
        "up": glu.wup.shift,
        "z": glu.mul_shift,
        "down": glu.wdown.shift,
    }
    return weights, shifts


def _layer(block: Block, model: TernaryLM) -> LayerParams:
    s, norm = model.config.scales, norm_params(block.norm)
    (mlgru, first), (glu, second) = mlgru_params(block.mlgru, s), glu_params(block.glu, s)
    return LayerParams(norm, norm, mlgru | glu, first | second)


def memory_params(recall: Recall, norm: Norm, s: Scales) -> MemoryParams:
    """Return the parameters of a memory layer."""
    c = recall.config
    a1, a2 = (integers(each, np.int8) for each in recall.maps)
    weights = {
        "Wa1": a1,
        "Wa2": a2,
        "Wv": trits(recall.wv),
        "Wg": trits(recall.wg),
        "Wo": trits(recall.wo),
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
    return MemoryParams(norm_params(norm), c.heads, c.bits, weights, shifts)


def maps_of(program: Program) -> Tensor | None:
    """Return the address maps of a language model's memory, as `Recall` has them; None without a memory."""
    for name in program.memories:
        both = [program.consts.get(name.replace(".rows", f".Wa{half}")) for half in (1, 2)]
        if all(each is not None for each in both):
            return torch.from_numpy(np.stack([each for each in both if each is not None]))
    return None


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
    head = trits(model.head)
    params = LMParams(
        embed=integers(model.embed_codes(), np.int8),
        embed_shift=8 - (s.residual - s.embed),
        layers=[_layer(block, model) for block in model.layers()],
        norm=norm_params(model.last_norm),
        head=head,
        head_shift=model.head.shift,
        sigmoid=tables.sigmoid_table(s.pre, model.config.forget_bias),
        silu=tables.silu_table(s.pre, s.state),
        logit_scale_bits=s.logits,
        memories={r.config.after - 1: memory_params(r, model.norm, s)} if (r := model.recall) else {},
    )
    model.train(was_training)
    reads = {"tokenizer": "bytes"} if model.config.vocab == 256 else {}
    if tokenizer:
        reads = {"tokenizer": "huggingface"}
    return build_lm(params, name, reads | dict(meta or {}), tokenizer)
