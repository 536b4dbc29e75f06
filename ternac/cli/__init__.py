"""The command line: one module per verb. Only this package parses arguments and prints."""
