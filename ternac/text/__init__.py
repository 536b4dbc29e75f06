"""Text to tokens and back: tokenizers, and how one is trained."""
