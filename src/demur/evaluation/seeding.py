"""Seeds for code that draws from global generators, which are left as they were found."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np

from demur import backends


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While it lasts, every global generator starts at a seed; afterwards they are as they were."""
    state, python = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        with backends.current().seeded(seed):
            yield
    finally:
        np.random.set_state(state)
        random.setstate(python)
