"""Messages that say what to do: a test provokes the message and then does what it says. test_advice.py counts them."""

import contextlib
import re

import pytest

from demur import cli


@contextlib.contextmanager
def advises(error, words):
    """What stands in the block raises `error`, or warns of it, whose `words` say what to do; what follows does that."""
    with (pytest.warns if issubclass(error, Warning) else pytest.raises)(error, match=re.escape(words)) as caught:
        yield caught


def run_raising(*arguments):
    """Run a command of the command line; its error comes through as it was raised."""
    args = cli.build_parser().parse_args([str(argument) for argument in arguments])
    return args.run(args)
