"""Rows that are texts: a list, an array or a column of strings, one a row. NumPy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.errors import EmptyInput, ShapeMismatch, WrongType

Texts = npt.NDArray[np.object_]
"""`(n,)`: a string in each row, or None where there is no text."""


@dataclass(frozen=True)
class Text:
    """The layout of rows that are texts.

    Attributes:
        kind: what the classifier is given, as the first rows were: "list", "array", "pandas" or "polars".
    """

    kind: str = "array"


def is_missing(value: Any) -> bool:
    """Whether a value stands for no value: None, NaN, `pandas.NA`, `pandas.NaT`."""
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return type(value).__name__ in ("NoneType", "NAType", "NaTType")


def are_texts(X: Any) -> bool:
    """Whether `X` is a list, an array or a column of strings, some of which may be missing."""
    if isinstance(X, list | tuple):
        values: Any = X
    elif hasattr(X, "__array__") and not hasattr(X, "detach") and getattr(X, "ndim", 1) == 1:
        values = np.asarray(X)
        if values.ndim != 1 or values.dtype.kind not in "OUT":
            return False
    else:
        return False
    return any(isinstance(value, str) for value in values) and all(isinstance(v, str) or is_missing(v) for v in values)


def kind_of(X: Any) -> str:
    """What holds the texts, as `Text.kind` says it."""
    if isinstance(X, list | tuple):
        return "list"
    package = type(X).__module__.partition(".")[0]
    return package if package in ("pandas", "polars") else "array"


def as_texts(X: Any, name: str = "X") -> Texts:
    """Texts as an array of Python's strings, `(n,)`.

    Raises:
        WrongType: `X` is one string, or holds something else than strings; the message names the row.
        ShapeMismatch: there are several columns.
        EmptyInput: there are no rows.
    """
    if isinstance(X, str | bytes):
        raise WrongType(f"{name} must hold one text a row; got a single {type(X).__name__}: pass a list, [text]")
    if not (isinstance(X, list | tuple) or hasattr(X, "__array__")):
        raise WrongType(f"{name} must be a list, an array or a column of texts; got {type(X).__name__}")
    if isinstance(X, list | tuple):
        found: npt.NDArray[Any] = np.empty(len(X), object)
        found[:] = X
    else:
        found = np.asarray(X).astype(object)
    if found.ndim != 1:
        hint = ": pass X[:, 0]" if found.ndim == 2 and found.size == len(found) else ""
        raise ShapeMismatch(f"{name} must be one column of texts, of shape (n,); got shape {found.shape}{hint}")
    if len(found) == 0:
        raise EmptyInput(f"{name} has no rows; pass at least one")
    texts = np.array([None if is_missing(value) else value for value in found], object)
    wrong = next((i for i, value in enumerate(texts) if not isinstance(value, str | None)), None)
    if wrong is not None:
        hint = ": decode it first, text.decode()" if isinstance(texts[wrong], bytes) else ": make it a string, str(...)"
        raise WrongType(f"{name} must hold texts; row {wrong} is of type {type(texts[wrong]).__name__}{hint}")
    return texts


def as_given(texts: Texts, layout: Text) -> Any:
    """Texts as the classifier is given them."""
    if layout.kind == "list":
        return texts.tolist()
    if layout.kind == "pandas":
        import pandas as pd

        return pd.Series(texts)
    if layout.kind == "polars":
        import polars as pl

        return pl.Series(texts.tolist(), dtype=pl.String)
    return texts
