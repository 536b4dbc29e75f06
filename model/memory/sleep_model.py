"""The models of the system `sleep`: that of the session cache, and what replay makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ternac.model.memory.sleep import BASE_LENGTH, BEFORE, base_texts, session_texts
from ternac.model.memory.system import Report, open_system
from ternac.model.net.config import SleepConfig
from ternac.model.training.sleep import META, Sleeper, record, replay
from ternac.program.program import Program

SETTINGS = SleepConfig(steps=400, batch=64, window=BASE_LENGTH, lr=7e-4, share=0.92, heard=0.0)
_trained: dict[int, Program] = {}
"""By seed: both parts begin with the same training."""


def train(part: str, seed: int, report: Report) -> Program:
    """Train the cache's model on the world as it was; for the part after, let it sleep, too."""
    if seed not in _trained:
        _trained[seed] = open_system("cache").train("cache", seed, report)
    before = _trained[seed]
    return before if part == BEFORE else asleep(before, seed, report)


def asleep(before: Program, seed: int, report: Report) -> Program:
    """Replay the closed sessions into a program of the cache."""
    sleeper = Sleeper.open(before, Path())
    sessions, base = ([np.array(each) for each in texts] for texts in (session_texts(), base_texts()))
    settings = replace(SETTINGS, seed=seed)
    replay(sleeper.model, sessions, base, settings, report)
    return sleeper.export({META: record(before, sessions, settings)})
