"""Streams that never end: what tells, before anything is drawn in vain. Python alone."""

import dis
import inspect
import itertools
from collections.abc import Iterator
from types import CodeType
from typing import Any

from demur import checks
from demur.errors import InvalidSetting

UNTOLD = 10_000
"""Batches after which a stream that does not say how many it has is worth a word."""


def check_ends(stream: Any, name: str = "X") -> None:
    """Raise InvalidSetting if a stream is known to be endless.

    Args:
        stream: of batches.
        name: what to call it in error messages.
    """
    advice = _advice_for(stream, name)
    if advice is not None:
        raise InvalidSetting(
            f"{name} is a stream that never ends, and all of it is wanted: pass as many batches as are wanted, {advice}"
        )


def _advice_for(stream: Any, name: str) -> str | None:
    """How to end a stream that is known to be endless; None for any other stream."""
    if callable(getattr(stream, "cardinality", None)):  # tf.data.Dataset: -1 is tf.data.INFINITE_CARDINALITY
        return f"{name}.take(n)" if int(stream.cardinality()) == -1 else None
    if hasattr(stream, "num_batches") and hasattr(stream, "__getitem__"):
        return "by giving it a length: def __len__(self)" if stream.num_batches is None else None
    return f"itertools.islice({name}, n)" if _never_ends(stream) else None


def _never_ends(stream: Any) -> bool:
    """Whether a Python iterable cannot end: of `itertools`, or a generator whose code has no way out of its loop."""
    if isinstance(stream, itertools.cycle | itertools.count):
        return True
    if isinstance(stream, itertools.repeat):
        return stream.__reduce__()[1][1:] == ()
    if inspect.isgenerator(stream):
        over = stream.gi_frame.f_locals.get(".0") if stream.gi_frame is not None else None  # of a generator expression
        return not _returns(stream.gi_code) or (over is not None and _never_ends(over))
    iterate = getattr(type(stream), "__iter__", None)
    if inspect.isgeneratorfunction(iterate):
        return not _returns(iterate.__code__)
    # A DataLoader of PyTorch goes as far as its data set does.
    return "torch" in type(stream).__module__ and hasattr(stream, "dataset") and _never_ends(stream.dataset)


def _returns(code: CodeType) -> bool:
    """Whether a function can end otherwise than by an error: Python compiles no return behind `while True`."""
    return any(step.opname in ("RETURN_VALUE", "RETURN_CONST") for step in dis.get_instructions(code))


def watched(batches: Iterator[Any], name: str) -> Iterator[Any]:
    """Yield the batches of a stream that does not say how many it has; warn once if they are very many."""
    for drawn, batch in enumerate(batches):
        if drawn == UNTOLD:
            checks.warn(
                f"{name} has given {UNTOLD:,} batches and does not say how many it has. If it never ends, stop this "
                f"and pass as many batches as are wanted: itertools.islice({name}, n)",
            )
        yield batch
