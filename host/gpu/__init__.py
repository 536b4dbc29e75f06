"""The GPU executor: whole tokens in Triton kernels on packed trits (docs/gpu.md)."""
