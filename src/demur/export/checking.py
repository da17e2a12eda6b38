"""Whether a file answers as the detector does that it was made of."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from demur.data import Field, Layout, Rows, mapped, row_count, taken
from demur.decision import decide
from demur.errors import ExportDiffers
from demur.guard_file import OPINION, REFERENCE
from demur.results import Scored
from demur.runtime import Guard

if TYPE_CHECKING:
    from demur.detectors.base import Detector

TOLERANCE = 1e-5
"""How far scores and probabilities may be from the detector's; of a score above 1, that share of it."""
SIZES = (1, 7)
"""Rows that are compared at once."""


def made_up_rows(layout: Layout) -> Rows:
    """Some rows of a layout, from 0 to 1, for want of real ones."""
    rng = np.random.default_rng(0)

    def some(field: Field) -> npt.NDArray[Any]:
        shape = [max(SIZES), *(4 if size is None else size for size in field.shape)]
        dtype = np.dtype(field.dtype or "float32")
        return rng.random(shape).astype(dtype) if dtype.kind == "f" else rng.integers(0, 2, shape).astype(dtype)

    return mapped(some, layout)


def check_same(detector: "Detector", guard: Guard, rows: Rows) -> float:
    """Compare a file with its detector, at two batch sizes.

    Args:
        detector: as it lives.
        guard: the file, loaded.
        rows: to compare on.

    Returns:
        The largest difference of a score (of one above 1, relative to it) or a probability.

    Raises:
        ExportDiffers: it is above `TOLERANCE`, or the file decides otherwise.
    """
    largest = 0.0
    for size in sorted({min(size, row_count(rows)) for size in SIZES}):
        some = taken(rows, slice(0, size))
        live = dict(zip(("instance_score", REFERENCE, OPINION), live_scores(detector, some), strict=True))
        found = guard.run(guard.feed(some), tuple(guard.outputs))
        for name, expected in live.items():
            off = np.abs(found[name] - expected) / np.maximum(1.0, np.abs(expected))
            largest = max(largest, float(off.max()))
            if not off.max() <= TOLERANCE:
                raise ExportDiffers(
                    f"the file's {name} is {off.max():.3g} from the detector's in a batch of {size}, and at most "
                    f"{TOLERANCE:g} is rounding: nothing was written. Another operation set (opset=) may help; please "
                    "report which layers the networks have"
                )
        check_decisions(guard, found)
    return largest


def check_decisions(guard: Guard, found: dict[str, npt.NDArray[Any]]) -> None:
    """Raise ExportDiffers unless the file makes of its own scores what the detector would."""
    y, y_opinion = found[REFERENCE].argmax(axis=1), found[OPINION].argmax(axis=1)
    scored = Scored(found["instance_score"], y, y_opinion, np.flatnonzero(~np.isfinite(found["instance_score"])))
    decided = decide(scored, guard.threshold, guard.calibration, None, 0.05)
    flagged = decided["is_adversarial"]
    expected: dict[str, npt.NDArray[Any]] = {
        "is_adversarial": flagged,
        "no_defense": y,
        "defense": y_opinion,
        "corrected": np.where(flagged & np.isfinite(scored.score), y_opinion, y),
    }
    if "p_value" in decided:
        expected["p_value"] = decided["p_value"]
    for name, values in expected.items():
        if not np.array_equal(found[name], values):
            raise ExportDiffers(f"the file's {name} is not what its scores make it: nothing was written; please report")
    if not np.allclose(found["probabilities"].sum(axis=1), 1.0, atol=1e-3):
        raise ExportDiffers("the file's probabilities do not sum to 1: nothing was written; please report")


def live_scores(detector: "Detector", rows: Rows) -> tuple[npt.NDArray[Any], ...]:
    """Scores, and the probabilities of both sides."""
    return detector.score(rows, return_predictions=True)
