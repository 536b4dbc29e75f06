"""An MMfreeLM trained for real, on bytes or a tokenizer's tokens: activations and scales of a trained model.

    python -m tests.model.imports.mmfreelm_train FOLDER 400
    python -m tests.model.imports.mmfreelm_train FOLDER 4000 --medium --text TEXT --tokenizer tokenizer.json

Repeat the command to go on where it stopped. Written from the published formulas in torch with
straight-through gradients, apart from the float reference of `ternac.model.imports.mmfreelm_reference`;
`test_mmfreelm` compares the two.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.model.imports import mmfreelm_files as files

SMALL = {"vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 176}
MEDIUM = {"vocab_size": 4096, "hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 704}


@dataclass(frozen=True)
class Pace:
    """Windows a step, their tokens, the highest learning rate, products in bfloat16 or not."""

    batch: int = 16
    window: int = 64
    lr: float = 4e-3
    bfloat16: bool = False


def rms_norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    return y if weight is None else y * weight


def straight(real: Tensor, rounded: Tensor) -> Tensor:
    return real + (rounded - real).detach()


class BitLinear(nn.Module):
    """Ternary weights, 8-bit activations with one scale per token, a norm of its own."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, columns) * 0.02)
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.ones(columns))

    def forward(self, x: Tensor) -> Tensor:
        y = rms_norm(x, self.norm.weight)
        s_x = 127 / y.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        s_w = 1 / self.weight.abs().mean().clamp(min=1e-5)
        q = (y * s_x).round().clamp(-128, 127) / s_x
        w = (self.weight * s_w).round().clamp(-1, 1) / s_w
        return F.linear(straight(y, q), straight(self.weight, w))


class Layer(nn.Module):
    def __init__(self, d: int, m: int) -> None:
        super().__init__()
        self.attn_norm, self.mlp_norm, self.attn, self.mlp = (
            nn.Module(),
            nn.Module(),
            nn.Module(),
            nn.Module(),
        )
        self.attn_norm.weight = nn.Parameter(torch.ones(d))
        self.mlp_norm.weight = nn.Parameter(torch.ones(d))
        for name in ("i", "f", "g", "o"):
            setattr(self.attn, f"{name}_proj", BitLinear(d, d))
        self.attn.g_norm = nn.Module()
        self.attn.g_norm.weight = nn.Parameter(torch.ones(d))
        self.mlp.gate_proj, self.mlp.down_proj = BitLinear(d, 2 * m), BitLinear(m, d)

    def forward(self, r: Tensor, lb: Tensor) -> Tensor:
        h = rms_norm(r, self.attn_norm.weight)
        f = lb + (1 - lb) * torch.sigmoid(self.attn.f_proj(h))
        i = F.silu(self.attn.i_proj(h)) * (1 - f)
        state, states = torch.zeros_like(i[:, 0]), []
        for t in range(i.shape[1]):
            state = f[:, t] * state + i[:, t]
            states.append(state)
        gate = rms_norm(self.attn.g_proj(h), self.attn.g_norm.weight)
        r = r + self.attn.o_proj(gate * F.silu(torch.stack(states, 1)))
        g, u = self.mlp.gate_proj(rms_norm(r, self.mlp_norm.weight)).chunk(2, -1)
        return r + self.mlp.down_proj(F.silu(g) * u)


class Model(nn.Module):
    """Its parameters, with ``model.`` put before all but the head's, are named as in a checkpoint."""

    def __init__(self, vocab: int, d: int, layers: int, m: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocab, d)
        nn.init.normal_(self.embeddings.weight, std=0.02)
        self.lower_bounds = nn.Parameter(torch.zeros(layers, d))
        self.layers = nn.ModuleList(Layer(d, m) for _ in range(layers))
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.ones(d))
        self.lm_head = BitLinear(d, vocab)

    def forward(self, ids: Tensor) -> Tensor:
        part = self.lower_bounds.softmax(0)
        bounds = part.cumsum(0) - part[0]
        r = self.embeddings(ids)
        for layer, lb in zip(self.layers, bounds, strict=True):
            r = layer(r, lb)
        return self.lm_head(rms_norm(r, self.norm.weight))

    def tensors(self) -> dict[str, Tensor]:
        return {
            name if name.startswith("lm_head") else f"model.{name}": values.detach()
            for name, values in self.state_dict().items()
        }


def train(
    tokens: npt.NDArray[np.uint16],
    sizes: dict[str, int],
    steps: int,
    pace: Pace,
    kept: Path,
    report: int = 50,
) -> Model:
    """Return a model after some steps; ``kept`` is the file that a stopped run goes on from."""
    torch.manual_seed(0)
    model = Model(*sizes.values())
    data = torch.from_numpy(tokens.astype(np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=pace.lr, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    begin = 0
    if kept.exists():
        saved = torch.load(kept, weights_only=True)
        begin = saved.pop("step")
        torch.set_rng_state(saved.pop("random"))
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for step in range(begin, steps):
        at = torch.randint(0, len(data) - pace.window - 1, (pace.batch,))
        window = torch.stack([data[a : a + pace.window + 1] for a in at])
        with torch.autocast("cpu", torch.bfloat16, enabled=pace.bfloat16):
            logits = model(window[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % report == 0:
            sys.stderr.write(f"step {step}: {loss.item():.3f} nats per token\n")
        if (step + 1) % (10 * report) == 0:
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save({"step": step + 1, "random": torch.get_rng_state(), **state}, kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)
    return model.eval()


def main() -> None:
    """Train on Tiny Shakespeare's training part, or on ``--text``, and write a checkpoint folder."""
    from ternac.program.zoo import TEXT
    from ternac.run.evaluate import read_text, split
    from ternac.text.tokenizer import HuggingFaceTokenizer

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int, nargs="?", default=600)
    parser.add_argument("--medium", action="store_true", help=f"a model of {MEDIUM} in bfloat16")
    parser.add_argument("--text", type=Path, help="read whole; only --medium needs one")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json (default: bytes)")
    args = parser.parse_args()
    data = read_text(args.text) if args.text else split(read_text(TEXT), "train")
    if args.tokenizer:
        tokens = np.asarray(HuggingFaceTokenizer(args.tokenizer.read_bytes()).encode(data).ids, np.uint16)
    else:
        tokens = np.frombuffer(data, np.uint8).astype(np.uint16)
    sizes, pace = (MEDIUM, Pace(16, 128, 4e-3, True)) if args.medium else (SMALL, Pace())
    args.folder.mkdir(parents=True, exist_ok=True)
    model = train(tokens, sizes, args.steps, pace, args.folder / "run.pt")
    config: dict[str, Any] = files.config_json(**sizes)
    if args.tokenizer:  # whose tokens 1 and 2 begin and end nothing
        config |= {"bos_token_id": None, "eos_token_id": None}
    files.write(args.folder, model.tensors(), config)
    if args.tokenizer:
        shutil.copyfile(args.tokenizer, args.folder / "tokenizer.json")


if __name__ == "__main__":
    main()
