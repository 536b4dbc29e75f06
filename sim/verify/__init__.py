"""Bit-exact comparison of executors, op by op."""
