"""Verbs of a physical board."""
