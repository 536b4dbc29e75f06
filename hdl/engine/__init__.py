"""The engine: sequencer, columns, epilogue, norm and gate unit, sampler, and its cycle count in closed
form.
"""
