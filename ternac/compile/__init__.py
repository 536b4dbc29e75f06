"""Compiling a program for an engine: geometry, instruction set, memory layout, image."""
