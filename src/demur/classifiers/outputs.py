"""Outputs of a classifier: which array holds the predictions, and whether the settings describe it. NumPy only."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from demur import checks
from demur.errors import NotADistribution, ShapeMismatch

SUM_TOLERANCE = 1e-2
"""How far from 1 a row of probabilities may sum: generous enough for float16."""
SAME = 1e-3
"""How far from 1 every row of several must sum for logits to be taken for probabilities."""
ENOUGH = 16
"""Rows by which outputs from 0 to 1 are no coincidence."""
CLASSIFIER = "classifier"
"""The role of the classifier in messages; other roles are networks that only demur uses."""
LOGITS = "logits"
"""The entry of a dict, or the attribute of an object, that is taken where a model returns several."""


def single_output(output: Any, role: str) -> Any:
    """The one array that a model returned: itself, or the only entry of a list or dict, or the one called `logits`.

    Raises:
        ShapeMismatch: there are several, and none is called `logits`.
    """
    found = _named_logits(output)
    if isinstance(found, Mapping):
        entries = list(found.values())
    elif isinstance(found, list | tuple):
        entries = list(found)
    else:
        return found
    if len(entries) == 1:
        return entries[0]
    names = f" ({', '.join(map(str, found))})" if isinstance(found, Mapping) else ""
    raise ShapeMismatch(
        f"the {role} must return one array (n, classes); it has {len(entries)} outputs{names}, as a model with several "
        "heads does. Pass a model or function that returns one of them, and guard each head on its own; of a "
        "functional Keras model, keras.Model(model.inputs, model.outputs[0]) returns the first"
    )


def unwrapped(output: Any) -> Any:
    """What a function returned, without a dict or an object around it; lists are rows, and stay."""
    found = _named_logits(output)
    return next(iter(found.values())) if isinstance(found, Mapping) and len(found) == 1 else found


def _named_logits(output: Any) -> Any:
    if isinstance(output, Mapping):
        return output.get(LOGITS, output)
    return output if hasattr(output, "shape") else getattr(output, LOGITS, output)


def class_count(shape: Any, role: str) -> int:
    """How many classes an output of a shape, with the batch first, tells of; one column counts as two.

    Raises:
        ShapeMismatch: it tells of none.
    """
    if len(shape) not in (1, 2) or (len(shape) == 2 and not shape[1]):
        described = "(" + ", ".join(["n", *("any" if size is None else str(size) for size in shape[1:])]) + ")"
        raise ShapeMismatch(
            f"the {role} must return (n, classes) with at least two classes, or one sigmoid output; got {described}"
        )
    return 2 if len(shape) == 1 else max(2, int(shape[1] or 0))


def check_outputs(outputs: Any, role: str, *, are_logits: bool) -> None:
    """Raise NotADistribution if rows of what a model returned are not what `from_logits` says they are."""
    found = np.asarray(outputs, "float64")
    if np.isfinite(found).all():
        (check_logits if are_logits else check_probabilities)(found, role)


def check_probabilities(p: npt.NDArray[np.float64], role: str) -> None:
    """Raise NotADistribution unless each row is a distribution, or one probability from 0 to 1."""
    if p.ndim == 1 or p.shape[-1] == 1:
        if not _from_0_to_1(p):
            raise NotADistribution(
                f"the {role} has one output, so it must be the second class's probability, from 0 to 1; got numbers "
                f"from {p.min():.4g} to {p.max():.4g}. {_of_one_number(p, role)}"
            )
        return
    sums = p.sum(axis=-1)
    furthest = sums.flat[np.abs(sums - 1).argmax()]
    if p.min() >= -SUM_TOLERANCE and abs(furthest - 1) <= SUM_TOLERANCE:
        return
    if role == CLASSIFIER and _from_0_to_1(p) and len(p) >= ENOUGH:
        raise several_labels(role, p.shape[-1], f": one sums to {furthest:.4g}")
    maybe_labels = role == CLASSIFIER and _from_0_to_1(p)
    raise NotADistribution(
        f"the {role} must return class probabilities: rows of numbers from 0 to 1 that sum to 1; got a row that sums "
        f"to {furthest:.4g} with smallest number {p.min():.4g}. {_if_logits(role)}"
        + (f". If it has one sigmoid for each of several labels, {EACH_LABEL}" if maybe_labels else "")
    )


def check_logits(z: npt.NDArray[np.float64], role: str) -> None:
    """Raise NotADistribution where what are said to be logits are probabilities: every row of several sums to 1.

    Rows of logits from 0 to 1 that all sum to 1 are no coincidence: two of them are enough. One output, or rows of
    another sum, may be logits of an unsure classifier, so that numbers from 0 to 1 alone are a warning.
    """
    if len(z) < 2 or not _from_0_to_1(z):
        return
    if z.ndim == 2 and z.shape[1] > 1 and z.min() >= 0 and np.abs(z.sum(axis=-1) - 1).max() <= SAME:
        raise NotADistribution(
            f"the {role} returns probabilities, rows of numbers from 0 to 1 that sum to 1, and from_logits=True says "
            f"that it returns logits: {_leave_from_logits(role)}"
        )
    if role == CLASSIFIER and len(z) >= ENOUGH and np.ptp(z) > 0:
        checks.warn(
            f"from_logits=True says that the {role} returns logits, and its first {len(z)} rows hold only numbers from "
            f"{z.min():.3g} to {z.max():.3g}, as probabilities do: if they are, leave from_logits at False",
        )


EACH_LABEL = (
    "demur needs one class a row: guard each label on its own, with a model or function that returns only this label's "
    "column, (n, 1)"
)


def several_labels(role: str, count: int, seen: str = "") -> NotADistribution:
    """The error about a model with one sigmoid for each of several labels."""
    if role != CLASSIFIER:
        return NotADistribution(
            f"the {role} ends in a sigmoid for each of {count} classes, and must return rows of numbers from 0 to 1 "
            "that sum to 1: end it in a softmax"
        )
    return NotADistribution(
        f"the {role} returns {count} probabilities a row that do not sum to 1{seen}. It is a multi-label model, with "
        f"one sigmoid for each label, and {EACH_LABEL}"
    )


def _from_0_to_1(p: npt.NDArray[np.float64]) -> bool:
    return bool(p.min() >= -SUM_TOLERANCE and p.max() <= 1 + SUM_TOLERANCE)


def _of_one_number(p: npt.NDArray[np.float64], role: str) -> str:
    """What a model that returns one number out of 0 to 1 may be, and what to do then."""
    if role == CLASSIFIER and len(p) > 1 and (p == np.rint(p)).all():
        return (
            "Whole numbers look like class labels: pass what returns probabilities (predict_proba, not predict). If "
            "they are logits, pass from_logits=True"
        )
    regression = " If it is a regression model, it has no classes, and demur cannot guard it."
    return f"{_if_logits(role)}.{regression if role == CLASSIFIER else ''}"


def _if_logits(role: str) -> str:
    """What to do with a model that returns logits."""
    if role == CLASSIFIER:
        return "If it returns logits, pass from_logits=True"
    return (
        "If it returns logits, put a softmax behind it: keras.Sequential([model, keras.layers.Softmax()]), or "
        "torch.nn.Sequential(module, torch.nn.Softmax(dim=-1))"
    )


def _leave_from_logits(role: str) -> str:
    if role == CLASSIFIER:
        return "leave from_logits at False"
    return f"return logits from the {role}, without its softmax, as the classifier does"
