"""Building a bitstream: plan, tools, resumable steps, flashing."""
