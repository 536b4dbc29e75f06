"""Studies: what ternary weights and integers cost."""
