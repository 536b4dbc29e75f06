"""Makes property tests the same in every mutant, and short: fixed examples, which are not made smaller."""

from hypothesis import Phase, settings

settings.register_profile(
    "mutants", derandomize=True, database=None, deadline=None, max_examples=50,
    phases=(Phase.explicit, Phase.generate), print_blob=False,
)  # fmt: skip
