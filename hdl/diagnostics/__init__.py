"""Loopback bitstream: tests of a board's line, block RAM and SDRAM without an engine
(docs/board_in_an_hour.md).
"""
