"""Simulation: cocotb runner, simulated board, trace and compare."""
