"""Verilog for other tools: the engine as lint-clean text, with a testbench that needs nothing of Ternac."""
