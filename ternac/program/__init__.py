"""The integer program: graph, ops, file format, legality, integer numerics, trit packing, shipped models."""
