"""The engine and the streaming unit behind AXI, for designs made with other tools."""
