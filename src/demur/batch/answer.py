"""From a batch of rows to columns of answers: the core of every engine. A pure function; NumPy only."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.checks import check_whole
from demur.errors import DemurError, InvalidSetting, NonFinite, NotCalibrated, RowsFailed, ThresholdNotSet
from demur.guards.base import Guard, check_guard
from demur.guards.decision import correction
from demur.guards.results import Scored
from demur.rows.rows import Rows

OnError = Literal["raise", "skip"]
"""What becomes of rows that cannot be answered: an error, or a row without an answer and with the reason."""

OUTPUTS: Mapping[str, str] = {
    "instance_score": "float32",
    "is_adversarial": "bool",
    "p_value": "float64",
    "harm_probability": "float64",
    "corrected": "int64",
    "no_defense": "int64",
    "defense": "int64",
    "reference": "float32",
    "opinion": "float32",
}
"""What can be asked for, and its type: one value a row, except `reference` and `opinion`, which are `(classes,)`."""

DISTRIBUTIONS = ("reference", "opinion")
CLASSES = ("corrected", "no_defense", "defense")
"""Outputs that are classes, of the type of the classes' names where the guard knows these."""
DECIDED = ("is_adversarial", "corrected")
ROWS_AT_ONCE = 256


class Answers(NamedTuple):
    """The answers for `n` rows.

    Attributes:
        columns: by output, `(n,)` or `(n, classes)`; the values of rows in `faults` mean nothing.
        faults: rows that cannot be answered, by number, and why.
    """

    columns: dict[str, npt.NDArray[Any]]
    faults: dict[int, str]


def default_outputs(guard: Guard) -> tuple[str, ...]:
    """All outputs that the guard can give, except whole distributions."""
    return tuple(name for name in OUTPUTS if name not in DISTRIBUTIONS and _reason_against(guard, name) is None)


def check_outputs(guard: Guard, outputs: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the outputs that are asked for; None asks for `default_outputs`.

    Raises:
        InvalidSetting: a name is unknown or there twice, or there is no name.
        ThresholdNotSet, NotCalibrated: an output needs a threshold or a calibration, and the guard has none.
    """
    if outputs is None:
        return default_outputs(guard)
    names = as_names(outputs, "outputs")
    if not names or not set(names) <= set(OUTPUTS) or len(set(names)) < len(names):
        raise InvalidSetting(f"outputs are some of {', '.join(OUTPUTS)}, each once; got {outputs!r}")
    for name in names:
        reason = _reason_against(guard, name)
        if reason is not None:
            raise reason
    return names


def as_names(given: Any, name: str) -> tuple[str, ...]:
    """One name or several as a tuple; raises InvalidSetting for anything else."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise InvalidSetting(f"{name} is a name or a list of names; got {given!r}")
    return tuple(names)


def check_on_error(on_error: Any) -> None:
    """Raise InvalidSetting unless `on_error` is one of the two."""
    if on_error not in ("raise", "skip"):
        raise InvalidSetting(f"on_error is 'raise' or 'skip'; got {on_error!r}")


def _reason_against(guard: Guard, name: str) -> DemurError | None:
    """Why the guard cannot give an output; None if it can."""
    if name in DECIDED and guard.threshold is None:
        return ThresholdNotSet(f"{name} needs a threshold, and there is none: call infer_threshold(X) first")
    if name == "p_value" and guard.calibration is None:
        return NotCalibrated("p_value needs calibration scores, and there are none: call infer_threshold(X) first")
    if name == "harm_probability" and guard.harm is None:
        return NotCalibrated("harm_probability is learned by demur.drift.calibrate_accuracy, which was not called")
    return None


def answers(
    guard: Guard,
    X: Any,
    outputs: Sequence[str] | None = None,
    *,
    batch_size: int = ROWS_AT_ONCE,
    on_error: OnError = "raise",
    names: Any = None,
    faults: Mapping[int, str] | None = None,
) -> Answers:
    """Answer for rows. A row that makes the networks fail is found by halving its batch; the others keep their answers.

    Examples:
        >>> found = answers(detector, X_new, ["instance_score", "corrected"])
        >>> found.columns["corrected"].shape, found.faults
        ((40,), {})

    Args:
        guard: a detector, live or exported (`demur.runtime.load`).
        X: `(n, *input_shape)`.
        outputs: names in `OUTPUTS`; None for all that the guard can say of a row in one value.
        batch_size: rows a pass; fewer where memory runs out.
        on_error: "raise", or "skip" to list rows that cannot be answered in `faults`. A detector with
            `on_invalid="flag"` flags rows that hold NaN, and they are no error.
        names: what to call rows, by number, in the error message; None for their numbers.
        faults: rows that are known to be unusable, by number, and why; they are not looked at.

    Raises:
        RowsFailed: rows cannot be answered, and `on_error` is "raise"; names up to ten of them.
        InvalidSetting, ThresholdNotSet, NotCalibrated: see `check_outputs`.
        WrongType, ShapeMismatch, EmptyInput: the rows do not match the guard's layout; see `demur.errors`.
    """
    check_on_error(on_error)
    check_guard(guard)
    check_whole("batch_size", batch_size, 1)
    wanted = check_outputs(guard, outputs)
    rows = Rows.of(X, guard.layout, finite=False)
    found = Answers(empty_columns(guard, wanted, len(rows)), dict(faults or {}))
    start = 0
    for batch in rows.batches(batch_size):
        end = start + len(batch)
        usable = np.array([number for number in range(start, end) if number not in found.faults], int)
        if len(usable):
            _answer(guard, batch if len(usable) == end - start else batch[usable - start], usable, found)
        start = end
        if found.faults and on_error == "raise":
            raise RowsFailed({i if names is None else names[i]: reason for i, reason in found.faults.items()})
    return found


def empty_columns(guard: Guard, outputs: Sequence[str], n: int) -> dict[str, npt.NDArray[Any]]:
    """Columns of zeros for `n` rows, of the shapes and types of the outputs."""
    return {
        name: np.zeros(
            (n, guard.n_classes) if name in DISTRIBUTIONS else n,
            guard.labels.dtype if name in CLASSES else OUTPUTS[name],
        )
        for name in outputs
    }


def indexed(guard: Guard, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The columns with indices in the place of the classes' names, for engines that take numbers alone."""
    labels = guard.labels
    return {name: labels.indices(value, len(value)) if name in CLASSES else value for name, value in columns.items()}


def _answer(guard: Guard, rows: Rows, numbers: npt.NDArray[np.int_], found: Answers) -> None:
    """Answer for rows whose numbers are these; if that fails, for each half of them."""
    try:
        answered = _asked(guard, rows, list(found.columns))
    except Exception as error:  # whatever a classifier, a runtime or a lack of memory raises
        is_rejected = isinstance(error, NonFinite) and not rows.is_table and not guard.takes_missing
        if is_rejected and not (usable := rows.are_finite()).all():
            found.faults.update(dict.fromkeys(numbers[~usable].tolist(), "it holds NaN or infinity"))
            if usable.any():
                _answer(guard, rows[usable], numbers[usable], found)
            return
        if len(numbers) == 1:
            found.faults[int(numbers[0])] = _reason(error)
            return
        middle = len(numbers) // 2
        for half in (slice(0, middle), slice(middle, None)):
            _answer(guard, rows[half], numbers[half], found)
    else:
        for name, column in found.columns.items():
            column[numbers] = answered[name]


def _asked(guard: Guard, rows: Rows, names: list[str]) -> Mapping[str, Any]:
    """The columns of these names, and perhaps others, from one pass."""
    n, X = len(rows), rows.raw
    if names == ["instance_score"]:
        return {"instance_score": guard.score(X, batch_size=n)}
    if guard.threshold is not None and not set(names) & set(DISTRIBUTIONS):
        answer: Mapping[str, Any] = guard.correct(X, batch_size=n)["data"]
        return answer
    score, reference, opinion = guard.score(X, batch_size=n, return_predictions=True)
    invalid = np.flatnonzero(~np.isfinite(score))
    scored = Scored(score, reference.argmax(axis=1), opinion.argmax(axis=1), invalid)
    data = correction(scored, guard.decided(scored, guard.threshold), guard.labels, all_predictions=True)
    return {**data, "reference": reference, "opinion": opinion}


def _reason(error: Exception) -> str:
    """Why one row failed, in one line."""
    if isinstance(error, NonFinite):
        return "the classifier or the companion returns NaN or infinity for it"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
