"""The wide unit beside the weight stream: 16-bit vector lanes, digit recurrences, and its schedule."""
