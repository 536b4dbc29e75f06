"""Float and QAT model, training, data, export to a program."""
