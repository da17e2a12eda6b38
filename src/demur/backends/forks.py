"""A process that was forked from one that computes cannot compute: the threads that work for it stayed behind."""

import os

from demur.errors import ForkedProcess
from demur.private import has_begun_to_compute

ADVICE = (
    "Start the process afresh, multiprocessing.get_context('spawn') or 'forkserver', and load the detector in it; or "
    "fork before the parent process makes or loads its first model"
)

_process: int | None = None
"""The first process that computed: this one, or an ancestor that it was forked from."""


def computing() -> None:
    """Say that this process computes; to be called before it does.

    Raises:
        ForkedProcess: a process that this one was forked from has computed already.
    """
    global _process  # noqa: PLW0603 - a fact about the process
    here = os.getpid()
    if _process is None:
        _process = here
    if _process != here:
        raise ForkedProcess(
            f"this process ({here}) was forked from one ({_process}) in which computing had begun. The threads "
            f"that compute do not come along, and waiting for them would never end. {ADVICE}"
        )


def _note() -> None:
    """Before a fork: whether TensorFlow or JAX computes already, though demur did not ask for it."""
    global _process  # noqa: PLW0603 - a fact about the process
    if _process is None and has_begun_to_compute():
        _process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note)
