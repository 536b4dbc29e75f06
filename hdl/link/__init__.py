"""The byte link: framing, checks, loader, UART."""
