"""Compare a board with NumPy after every token: logits, session state, and the clock cycles that it took.

``python verify_board.py sim`` runs the complete RTL in Verilator (its first use compiles it), ``isa`` the
compiled instructions in NumPy, ``/dev/ttyUSB0`` a board.
"""

import sys

import numpy as np

from ternac import Device, load

name = (*sys.argv[1:], "sim")[0]
program = load("shakespeare-small")
with Device.open("numpy", program) as reference, Device.open(name, program) as board:
    ours, theirs = reference.session(), board.session()
    for count, token in enumerate(b"To be, or not to be", start=1):
        np.testing.assert_array_equal(theirs.step(token), ours.step(token), f"logits of token {count}")
        np.testing.assert_array_equal(theirs.state, ours.state, f"state after token {count}")
    print(f"{count} tokens equal, {program.vocab} logits and {program.state_words} state words each")
    if board.meter.cycles:
        print(f"{board.meter.cycles / count:,.0f} cycles a token")
