"""One process of a run, for test_distributed.py: ``spread_worker.py KIND FOLDER SETTINGS``.

Writes the losses of its steps to FOLDER/losses.jsonl. With ``"die": N`` the second process kills itself once,
after step N. With ``"full": N`` files can have at most 3000 bytes after step N.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path

from ternac.model.net.config import ModelConfig, TrainConfig
from ternac.model.training.data import SHAKESPEARE, read_text
from ternac.model.training.distributed import open_trainer
from ternac.model.training.train import Progress

MODEL = ModelConfig(d=16, m=24, layers=2)
SETTINGS = {
    "steps": 12, "batch": 4, "window": 16, "eval_every": 6, "checkpoint_every": 3, "warmup": 2,
    "dropout": 0.2,
}  # fmt: skip


def main() -> None:
    kind, out, more = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    die, until, full = (more.pop(name, None) for name in ("die", "until", "full"))
    trainer = open_trainer(MODEL, TrainConfig(**SETTINGS | more), read_text(SHAKESPEARE)[:4000], out, kind)

    def report(now: Progress) -> None:
        if trainer.leads:
            with (out / "losses.jsonl").open("a") as file:
                file.write(json.dumps([now.step, now.train_nats, now.val_nats]) + "\n")
        if now.step == full:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
        if now.step == die and os.environ.get("RANK") == "1" and not (out / "died").exists():
            (out / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.run(report, until)


if __name__ == "__main__":
    main()
