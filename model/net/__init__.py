"""The network: layers, quantizers, recurrence, training kernels."""
