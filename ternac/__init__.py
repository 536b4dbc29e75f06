"""Ternac: ternary MatMul-free language models, from quantization-aware training to an FPGA, bit for bit."""
