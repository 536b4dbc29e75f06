"""When each pass starts and ends: the engine's cycle count in closed form, equal to the RTL's."""

from __future__ import annotations

from dataclasses import dataclass

from ternac.compile import Image
from ternac.hdl.dot import dot_latency
from ternac.hdl.memory import BlockRam
from ternac.hdl.norm import norm_latency
from ternac.hdl.pass_control import RESULT_OFFSET
from ternac.hdl.sampler import sampler_latency
from ternac.hdl.sequencer import PACE
from ternac.isa import WORDS, Opcode, Source

FETCH = WORDS + BlockRam.LATENCY + 1
"""Cycles from the first fetch address of an instruction until it can start."""


@dataclass(frozen=True)
class PassTime:
    """One instruction: name, cycle of its start, cycles until the next starts, dot words issued."""

    name: str
    start: int
    cycles: int
    dot_words: int


@dataclass(frozen=True)
class Schedule:
    """All passes of one token. ``cycles`` is what the engine's ``cycles`` port reads at ``done``."""

    passes: tuple[PassTime, ...]
    cycles: int

    @property
    def dot_words(self) -> int:
        """Cycles in which the dot units take a word of weights."""
        return sum(p.dot_words for p in self.passes)


def schedule(image: Image, *, emit: bool = True, greedy: bool = True, top_k: int = 0) -> Schedule:
    """Cycle-exact schedule of one token of ``image`` (`emit`: a token is sampled at the end)."""
    g = image.geometry
    delay = dot_latency(g.lanes, g.chain) + g.share - 1
    norm = norm_latency(g.pipelines)
    starts: list[int] = []
    fetch = 1  # first cycle of the instruction's fetch
    taken = finished = issued = 0  # last take-over, last element, last dot word
    empty = 0  # first cycle in which everything has been written
    for inst in image.instructions:
        have = fetch + max(FETCH, 6 + inst.stride)
        if inst.op != Opcode.VEC:
            starts.append(max(have, empty))
            break
        previous = finished
        if inst.source == Source.DOT:
            start = max(have, issued + 1, taken + 1, empty if inst.barrier else 0)
            issued = start + inst.count * inst.words
            taken = max(start + 1, finished)
            finished = issued + delay
        else:
            start = max(have, empty)
            taken = start
            finished = start + inst.count * g.share * (PACE if inst.paced else 1)
        empty = finished + RESULT_OFFSET + (norm + 1 if inst.stat else 0)
        fetch = max(taken + 1, previous + RESULT_OFFSET)  # the place of the pass before is free
        starts.append(start)
    ends = [*starts[1:], starts[-1]]
    passes = tuple(
        PassTime(name, s, e - s, i.count * i.words if i.op == Opcode.VEC and i.source == Source.DOT else 0)
        for name, i, s, e in zip(image.names, image.instructions, starts, ends, strict=True)
    )
    sampling = 0
    if emit:
        vocab = image.logits.length
        sampling = sampler_latency(g.columns, g.sampler_pace, vocab, greedy=greedy, top_k=top_k)
    return Schedule(passes, starts[-1] + sampling)
