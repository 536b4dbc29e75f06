"""cocotb testbenches of components and of the engine, and their runner."""
