"""Export: checkpoint to program, GGUF and QONNX; shipping a model."""
