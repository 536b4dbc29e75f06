"""Import of models trained elsewhere (MMfreeLM)."""
