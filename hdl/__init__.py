"""The engine in Amaranth: components, ISA, boards, builds."""
