"""One setting for every property test: no deadline on shared machines, the same examples on each run."""

from hypothesis import settings

settings.register_profile("demur", deadline=None, derandomize=True)
settings.load_profile("demur")
