"""One setting for every property test: no deadline on shared machines, the same examples on each run; less garbage."""

import gc
import os

from hypothesis import settings

# A build server's: OpenVINO then does not report to its maker, for which it forks amid threads. `CI` would do, too, but
# changes how pytest compares texts when a test fails.
os.environ.setdefault("TF_BUILD", "1")

settings.register_profile("demur", deadline=None, derandomize=True)
settings.load_profile("demur")


def pytest_collection_finish():
    """Leave what was imported, millions of objects that stay, out of each search for garbage."""
    gc.collect()
    gc.freeze()
