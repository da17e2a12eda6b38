"""What a classifier's classes are called, in the order of its outputs: from labels to indices and back. NumPy only."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from demur.documents import as_type
from demur.errors import InvalidSetting, ShapeMismatch
from demur.rows.arrays import as_array, row_list
from demur.rows.layout import Labels

Name: TypeAlias = str | int | float | bool
"""What one class is called."""
Said: TypeAlias = tuple[tuple[Name, ...], bool]
"""What a model says its classes are called, and whether labels beside it may be indices too."""

GENERIC = re.compile(r"LABEL_\d+")
"""What Hugging Face's configurations call classes that nobody has named."""
TRUE_CLASS = "the true class, for each of the {n} rows"
SAY_THEM = (
    "Where they are called otherwise, say so: detector.classes = [...], in the order of the classifier's outputs (or "
    "classes=[...] when the detector is made)"
)
SHOWN = 10


@dataclass(frozen=True)
class Classes:
    """The classes of one classifier.

    Examples:
        >>> classes = Classes(2, ("ham", "spam"))
        >>> classes.indices(["spam", "ham", "spam"], 3)
        array([1, 0, 1])
        >>> classes.named(np.array([0, 1]))
        array(['ham', 'spam'], dtype='<U4')

    Attributes:
        count: how many classes there are; None where that is not known.
        names: what they are called, in the order of the classifier's outputs; None for 0, 1, 2, ...
        or_indices: whether a label may be an index too, as data sets beside an `id2label` have them.
    """

    count: int | None
    names: tuple[Name, ...] | None = None
    or_indices: bool = False

    def indices(self, labels: Any, n: int, name: str = "y", what: str = TRUE_CLASS) -> Labels:
        """Labels as indices of the classifier's outputs: int64 `(n,)`.

        Args:
            labels: `(n,)`: an array, a list, a Series, a categorical column.
            n: how many there must be.
            name: what to call the labels in error messages.
            what: each of them is, and for what.

        Raises:
            ShapeMismatch: there are fewer or more labels, one has several numbers, or they are not whole numbers.
            InvalidSetting: a label is not one of the classes, or is missing.
        """
        values = _column(labels, n, name, what, indices_do=self.names is None or self.or_indices)
        if values.dtype.kind == "b" and not self._takes_booleans:
            raise InvalidSetting(
                f"{name} holds True and False, and the classes are {self.described}: pass labels that are these classes"
            )
        if self.names is None or (self.or_indices and values.dtype.kind in "iu"):
            return self._whole(values, name, what)
        places = {label: index for index, label in enumerate(self.names)}
        found, rows = _distinct(values)
        unknown = [label for label in found if label not in places]
        if unknown:
            shown = ", ".join(map(repr, unknown[:SHOWN])) + (", ..." if len(unknown) > SHOWN else "")
            raise InvalidSetting(
                f"{name} holds {shown}; the classes are {self.described}. Pass labels that are these classes, or say "
                "what they are called: detector.classes = [...], in the order of the classifier's outputs"
            )
        return np.array([places[label] for label in found], "int64")[rows]

    def named(self, indices: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the classes of these indices are called: an array of the same shape."""
        return indices if self._is_range else self._array[indices]

    def name_of(self, index: int) -> str:
        """What one class is called, for messages."""
        return str(index) if self.names is None else str(self.names[index])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `named` returns."""
        return np.dtype("int64") if self._is_range else self._array.dtype

    @property
    def described(self) -> str:
        """The classes, for messages; the first of many."""
        if self.names is None:
            return "0, 1, 2, ..." if self.count is None else f"0 to {self.count - 1}"
        return ", ".join(map(repr, self.names[:SHOWN])) + (", ..." if len(self.names) > SHOWN else "")

    @property
    def all_names(self) -> list[str]:
        """The name of each class, as text; () where the number of classes is not known."""
        return [self.name_of(index) for index in range(self.count or 0)]

    def as_json(self) -> Any:
        """The classes' names as JSON can hold them; None where they have none."""
        return None if self.names is None else {"names": list(self.names), "or_indices": self.or_indices}

    @classmethod
    def from_json(cls, data: Any, count: int | None) -> Self:
        """The classes from what `as_json` returned, of `count` classes; None was written before there were names."""
        return cast("Self", as_type({"count": count, **as_type(data or {}, dict)}, cls))

    @property
    def _takes_booleans(self) -> bool:
        """Whether True and False are two classes, or 1 and 0, and nothing else."""
        return self.count in (2, None) if self.names is None else set(self.names) == {0, 1}

    @property
    def _is_range(self) -> bool:
        """Whether the classes are called as their indices are."""
        names = self.names
        return names is None or (names == tuple(range(len(names))) and type(names[0]) is int)

    @functools.cached_property
    def _array(self) -> npt.NDArray[Any]:
        return np.array(self.names)

    def _whole(self, values: npt.NDArray[Any], name: str, what: str) -> Labels:
        """Labels that are indices themselves, checked."""
        if values.dtype.kind == "O":
            values = np.array(values.tolist())
        n = len(values)
        if values.dtype.kind in "USO":
            raise ShapeMismatch(
                f"{name} must hold one whole number, {what.format(n=n)}; got {values[:1].tolist()[0]!r}, and the "
                f"classifier does not say what its classes are called. {SAY_THEM}"
            )
        if values.dtype.kind not in "biuf" or (values != np.floor(values)).any():
            odd = "" if values.dtype.kind not in "f" else f", such as {values[values != np.floor(values)][0]}"
            raise ShapeMismatch(
                f"{name} must hold one whole number, {what.format(n=n)}; got shape {values.shape} of {values.dtype}"
                f"{odd}. {SAY_THEM}"
            )
        low, high = (int(values.min()), int(values.max())) if n else (0, 0)
        if low < 0 or (self.count is not None and high >= self.count):
            limit = "0, 1, 2, ..." if self.count is None else f"from 0 to {self.count - 1}"
            raise InvalidSetting(f"{name} holds classes {limit}; got {low} to {high}. {SAY_THEM}")
        return values.astype("int64")


UNKNOWN = Classes(None)
"""Of classes nothing is known but their indices."""


def class_names(given: Any) -> tuple[Name, ...]:
    """Names of classes as Python has them, from a list, an array, a Series or an Index.

    Raises:
        InvalidSetting: there are fewer than two, two are the same, or they are not all text, numbers or booleans.
    """
    names = _names(given)
    if names is None:
        raise InvalidSetting(
            "classes is a list of what the classes are called, in the order of the classifier's outputs: at least two "
            f"that differ, all of them text, all numbers or all booleans; got {given!r}"
        )
    return names


def classes_said_by(model: Any) -> Said | None:
    """What a model says its classes are called; None if it does not.

    Estimators have `classes_`, Hugging Face's models `config.id2label`, where LABEL_0, LABEL_1 and so on are no names.
    """
    model = getattr(model, "__self__", model)  # of a method such as forest.predict_proba, what it belongs to
    try:
        own = getattr(model, "classes_", None)
    except Exception:  # an estimator that is not fitted raises errors of many kinds
        own = None
    names = None if own is None else _names(own)
    if names is not None:
        return names, False
    by_index = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(by_index, Mapping) or len(by_index) < 2:
        return None
    try:
        ordered = {int(index): str(name) for index, name in by_index.items()}
    except (TypeError, ValueError):
        return None
    names = _names([ordered[index] for index in range(len(ordered)) if index in ordered])
    if names is None or len(names) != len(by_index) or all(GENERIC.fullmatch(str(name)) for name in names):
        return None
    return names, True


def settled_classes(given: tuple[Name, ...] | None, said: Said | None, count: int | None) -> Classes:
    """The classes of a classifier: as the caller calls them or else as it does itself.

    Args:
        given: by the caller.
        said: by the model; see `classes_said_by`.
        count: how many classes there are; None where that is not known yet.

    Raises:
        InvalidSetting: the caller names fewer or more classes, or the classifier's own in another order.
    """
    if said is not None and count is not None and len(said[0]) != count:
        said = None  # they are names of something else
    if given is None:
        return Classes(count) if said is None else Classes(count, *said)
    if count is not None and len(given) != count:
        raise InvalidSetting(f"classes names each of the classifier's {count} classes; got {len(given)}: {list(given)}")
    if said is not None and set(given) == set(said[0]) and given != said[0]:
        raise InvalidSetting(
            f"classes are in the order of the classifier's outputs, which is {list(said[0])}; got {list(given)}. Leave "
            "classes out: the classifier says them itself"
        )
    return Classes(count, given)


def _names(given: Any) -> tuple[Name, ...] | None:
    """Names of classes as strings, integers or booleans of Python; None if they are anything else."""
    if isinstance(given, str | bytes | Mapping):
        return None
    try:
        array = np.asarray(given)
    except ValueError:  # lists of several lengths, of an estimator with several targets
        return None
    if array.ndim != 1 or len(array) < 2:
        return None
    values = list(given) if isinstance(given, list | tuple) else array.tolist()
    names = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
    alike = any(all(_is(name, kind) for name in names) for kind in (str, bool, (int, float)))
    if not alike or len(set(names)) < len(names) or any(_is_missing(name) for name in names):
        return None
    return names


def _is(name: Any, kind: Any) -> bool:
    return isinstance(name, kind) and isinstance(name, bool) == (kind is bool)


def _column(labels: Any, n: int, name: str, what: str, *, indices_do: bool) -> npt.NDArray[Any]:
    """Labels as an array `(n,)`, none of them missing."""
    values = as_array(labels.to_numpy() if hasattr(labels, "to_numpy") else labels, name)
    if values.ndim == 2 and values.shape == (n, 1):
        values = values[:, 0]
    if values.ndim == 2 and len(values) == n:
        advice = f"np.asarray({name}).argmax(axis=1)"
        advice = advice if indices_do else f"np.array(detector.classes)[{advice}]"
        raise ShapeMismatch(
            f"{name} must hold one class, {what.format(n=n)}; got shape {values.shape}. Where each row has a 1 at its "
            f"class, pass {advice}"
        )
    if values.shape != (n,):
        raise ShapeMismatch(
            f"{name} must hold one whole number or name, {what.format(n=n)}; got shape {values.shape} of {values.dtype}"
        )
    missing = np.flatnonzero(_missing(values))
    if len(missing):
        raise InvalidSetting(f"{name} lacks {len(missing)} of {n} classes: {row_list(missing)}; leave such rows out")
    return values


def _missing(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    if values.dtype.kind != "O":
        return np.zeros(len(values), bool)
    return np.fromiter(map(_is_missing, values), bool, len(values))


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or what pandas has in the place of these."""
    is_nan = isinstance(value, float | np.floating) and bool(np.isnan(value))
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _distinct(values: npt.NDArray[Any]) -> tuple[Sequence[Any], npt.NDArray[np.int64]]:
    """The labels that occur, and for each row which of them it has."""
    if values.dtype.kind != "O":
        found, rows = np.unique(values, return_inverse=True)
        return found.tolist(), rows
    order: dict[Any, int] = {}
    rows = np.fromiter((order.setdefault(value, len(order)) for value in values), "int64", len(values))
    return list(order), rows
