"""Train a small model, export it, and see that the program has the loss that training printed.

``python train_and_export.py FOLDER [STEPS]``; 40 steps take a few seconds and learn little more than spaces.
"""

import sys
from dataclasses import replace
from pathlib import Path

from ternac import Device
from ternac.model.export.export import to_program
from ternac.model.net.config import PRESETS
from ternac.model.training.data import SHAKESPEARE, read_corpus
from ternac.model.training.train import Trainer
from ternac.program.file import save

folder, steps = Path(sys.argv[1]), int((*sys.argv[2:], 40)[0])
shape, recipe = PRESETS["smoke"]
trainer = Trainer(shape, replace(recipe, steps=steps), read_corpus(SHAKESPEARE).tokens, folder / "run")
loss = trainer.run(lambda now: None)

program = to_program(trainer.model, "mine")
save(program, folder / "mine.safetensors")
print(f"{program.trits:,} trits, validation loss {loss:.4f}, hash {program.hash[:16]}")
with Device.open("numpy", folder / "mine.safetensors") as device, device.session() as session:
    print("".join(session.generate("ROMEO:", 40)))
