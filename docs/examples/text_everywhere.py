"""The same text from several executors: ``python text_everywhere.py numpy native sim``.

Without arguments the NumPy and the native executor; ``sim`` is the complete RTL (its first use compiles it,
about two minutes), ``/dev/ttyUSB0`` a board.
"""

import sys

from ternac import Device, Session


def write(session: Session) -> str:
    """Sixty tokens, drawn with temperature 0.8 from the session's seed."""
    return "".join(session.generate("ROMEO:", 60, temperature=0.8))


texts = {}
for name in sys.argv[1:] or ["numpy", "native"]:
    with Device.open(name, "shakespeare-small") as device, device.session(seed=7) as session:
        texts[name] = write(session)
        print(f"{name}: {texts[name]!r}")

assert len(set(texts.values())) == 1, "executors differ"
