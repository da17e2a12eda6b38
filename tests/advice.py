"""Messages that say what to do: a test provokes the message and then does what it says. test_advice.py counts them."""

import contextlib
import re

import pytest


@contextlib.contextmanager
def advises(error, words):
    """What stands in the block raises `error`, in whose message `words` say what to do; what follows does that."""
    with pytest.raises(error, match=re.escape(words)):
        yield
