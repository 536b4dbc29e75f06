"""Check a board: identity, line, memories, a program's tokens and states, a soak; and its loopback
bitstream.
"""
