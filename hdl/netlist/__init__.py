"""Netlist passes between synthesis and place and route, and patching of finished bitstreams."""
