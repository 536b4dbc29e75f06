"""cocotb testbenches. Each test module wires a driver, a monitor, a model and a checker that live apart."""
