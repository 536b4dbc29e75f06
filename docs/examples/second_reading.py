"""The board remembers what it read: the nats of a passage that a session reads twice, and of a fresh session.

``python second_reading.py`` takes the executor that is there, native or NumPy; ``python second_reading.py
/dev/ttyUSB0`` a ULX3S with the bitstream ``ulx3s-85f-rows``. They agree to the last bit.
"""

import sys

import numpy as np

from ternac import Device, Session
from ternac.program.zoo import TEXT
from ternac.run.evaluate import nats, read_text, split

passage = np.frombuffer(split(read_text(TEXT), "val"), np.uint8)[:256]


def read(session: Session) -> float:
    """Mean nats a character, but for the first ones: they cannot tell which passage it is."""
    logits = np.stack([session.step(int(token)) for token in passage[:-1]])
    scaled = logits * 2.0**-session.program.logit_scale_bits
    return float(nats(scaled, passage[1:].astype(int), np.arange(len(scaled)))[24:].mean())


with Device.open((*sys.argv[1:], "auto")[0], "hybrid", board="ulx3s-85f-rows") as device:
    with device.session() as session:
        first, second = read(session), read(session)
    with device.session() as session:
        fresh = read(session)
    print(f"{device.kind}: first reading {first:.3f} nats a character, second {second:.3f}")
    print(f"a session that was opened later reads it for the first time: {fresh:.3f}")
assert fresh == first
