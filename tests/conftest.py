"""What every test runs under: settings of property tests, `--first`, and less garbage.

Property tests have no deadline, since machines are shared, and the same examples on each run.
"""

import gc
import os

from hypothesis import settings

# A build server's: OpenVINO then does not report to its maker, for which it forks amid threads. `CI` would do, too, but
# changes how pytest compares texts when a test fails.
os.environ.setdefault("TF_BUILD", "1")

settings.register_profile("demur", deadline=None, derandomize=True)
settings.load_profile("demur")


def pytest_addoption(parser):
    parser.addoption("--first", action="store_true", help="of each test with parameters, run the first case alone")


def pytest_collection_modifyitems(config, items):
    """Keep the first case of each test where `--first` asks for that."""
    if config.getoption("first"):
        seen = set()
        kept = [item for item in items if (test := item.nodeid.partition("[")[0]) not in seen and not seen.add(test)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept


def pytest_collection_finish():
    """Leave what was imported, millions of objects that stay, out of each search for garbage."""
    gc.collect()
    gc.freeze()
