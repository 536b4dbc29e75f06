"""Weights that stream from external memory over AXI4, and the dot engine behind the stream."""
