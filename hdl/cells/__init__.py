"""Building blocks: memories, carry chains, multiplier-free arithmetic, register pipelines."""
