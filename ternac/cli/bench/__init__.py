"""Benchmarks: each prints its figures with their origin."""
