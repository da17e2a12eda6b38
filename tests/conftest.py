"""What every test runs under: settings of property tests, `--first`, and less garbage.

Property tests have no deadline, since machines are shared, and the same examples on each run.
"""

import gc
import os

import pytest
from hypothesis import settings

# A build server's: OpenVINO then does not report to its maker, for which it forks amid threads. `CI` would do, too, but
# changes how pytest compares texts when a test fails.
os.environ.setdefault("TF_BUILD", "1")

settings.register_profile("demur", deadline=None, derandomize=True)
settings.load_profile("demur")


def pytest_addoption(parser):
    parser.addoption("--first", action="store_true", help="of each test with parameters, run the first case alone")
    parser.addoption("--traced", action="store_true", help="trace TensorFlow's training steps in all cases of a test")


FIRST = pytest.StashKey[bool]()
"""Whether an item is the first case of a test or, of a test marked `each`, the first with a value of that parameter."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Find the first case of each test, and keep no others where `--first` asks for that."""
    seen = set()
    for item in items:
        each = item.get_closest_marker("each")
        value = None if each is None else item.callspec.params[each.args[0]]
        test = item.nodeid.partition("[")[0], value
        item.stash[FIRST] = test not in seen
        seen.add(test)
    if config.getoption("first"):
        config.hook.pytest_deselected(items=[item for item in items if not item.stash[FIRST]])
        items[:] = [item for item in items if item.stash[FIRST]]


def pytest_collection_finish():
    """Leave what was imported, millions of objects that stay, out of each search for garbage."""
    gc.collect()
    gc.freeze()
