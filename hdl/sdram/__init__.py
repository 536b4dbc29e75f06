"""Weights from SDRAM."""
