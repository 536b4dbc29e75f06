"""Boards: pins, clocks and the complete design of a bitstream."""
