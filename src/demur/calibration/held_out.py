"""Warnings of rows on another scale than the training rows, of rows trained on, and of labels of other rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from demur import checks
from demur.calibration.agreement import chance_of
from demur.calibration.metrics import binomial_cdf
from demur.documents import Parts
from demur.errors import WrongRows
from demur.rows.ranges import Numbers, Range, difference, numbers_of
from demur.rows.row_sketch import KEPT, RowSketch, row_hashes
from demur.rows.rows import CHECK_ROWS, Rows

SHARE = 0.05
"""From this share of rows on that are among the training rows, there is a warning."""
LEVEL = 0.05
"""Of the tests on the numbers of errors."""
FEW_ERRORS, NEW_ERRORS = 0.02, 0.01
"""A classifier that errs on at most the first share of its training rows is expected to err on the second share of new
rows, or on twice the share of its training rows."""
BEYOND_CHANCE, SURELY = 0.2, 0.01
"""Cohen's kappa that any classifier has on rows with their own labels, and the level of the tests on that."""
ONE_IN_A_HUNDRED = 2.326
"""A standard normal number exceeds this with a chance of 1 %."""
SAMPLE = 2048
"""Rows whose numbers are looked at."""
TOGETHER = 2**22
"""Numbers that are looked at together, so that large rows take little memory."""

CONSEQUENCE = (
    "Classifier and companion answer differently on their training rows than on new rows: the false-positive rate of a "
    "threshold from training rows does not hold, and accuracies on training rows are too high"
)
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KnownRows:
    """What is remembered of rows: hashes of them and how large their numbers are, but no row.

    Attributes:
        sketch: hashes of the rows; None where they were left out.
        ranges: of each array, or of the numeric columns of a table.
    """

    sketch: RowSketch | None
    ranges: list[Range]

    def and_again(self, other: "KnownRows") -> "KnownRows":
        """What is known after training has gone on with `other`, perhaps the same rows."""
        sketch = self.sketch if other.sketch is None else other.sketch
        if self.sketch is not None and other.sketch is not None:
            sketch = self.sketch.and_again(other.sketch)
        return KnownRows(sketch, other.ranges)

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, for saving."""
        parts = {} if self.sketch is None else {"sketch": self.sketch.as_arrays()}
        parts |= {f"range_{i}": found.as_arrays() for i, found in enumerate(self.ranges)}
        return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "KnownRows":
        """What `as_arrays` described."""
        parts: Parts[Parts[npt.NDArray[Any]]] = Parts()
        for name, array in arrays.items():
            part, _, own = name.partition(".")
            parts.setdefault(part, Parts())[own] = array
        sketch = parts.pop("sketch", None)
        ranges = [Range.from_arrays(parts[f"range_{i}"]) for i in range(len(parts))]
        return cls(None if sketch is None else RowSketch.from_arrays(sketch), ranges)


class PassingRows:
    """Looks at rows as they pass, and keeps hashes of them and the numbers of a sample; `rows` counts them.

    Args:
        channels_first: whether images are `(channels, height, width)`.
    """

    def __init__(self, *, channels_first: bool = False) -> None:
        self.channels_first = channels_first
        self._made: PassingRows | None = None
        self.restart()

    def restart(self) -> None:
        """Forget all rows: they come again."""
        self.rows = 0
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._sketch: RowSketch | None = None
        self._sample: list[tuple[npt.NDArray[np.uint64], list[Numbers]]] = []
        self._highest = np.uint64(2**64 - 1)

    def add(self, rows: Rows) -> None:
        """Look at a batch."""
        numbers = 1 if rows.is_table else sum(np.asarray(array[:1]).size for array in rows.arrays)
        for part in rows.batches(max(1, min(CHECK_ROWS, TOGETHER // max(1, numbers)))):
            batch = part.cast()
            hashes = row_hashes(batch)
            self._hashes.append(hashes)
            self.rows += len(hashes)
            if sum(map(len, self._hashes)) > KEPT:
                self._fold()
            # The rows with the smallest hashes are a random sample of the distinct rows, whatever their order.
            chosen = np.flatnonzero(hashes <= self._highest)
            if len(chosen):
                found = numbers_of(batch[chosen], channels_first=self.channels_first)
                self._sample.append((hashes[chosen], found))
                if sum(len(known) for known, _ in self._sample) > 4 * SAMPLE:
                    self._thin()

    def add_made(self, rows: Rows) -> None:
        """Look at what training makes of the rows, of each row once."""
        if self._made is None:
            self._made = PassingRows(channels_first=self.channels_first)
        if self._made.rows < self.rows:
            self._made.add(rows)

    def known(self) -> KnownRows:
        """What is known of the rows so far, with the ranges of what training made of them, if it did."""
        self._fold()
        self._thin()
        ranges = [part.range() for part in self._sample[0][1]] if self._sample else []
        found = KnownRows(self._sketch, ranges)
        if self._made is None:
            return found
        made = self._made.known()
        return found.and_again(KnownRows(None if made.sketch is None else made.sketch.distinct(), made.ranges))

    def _fold(self) -> None:
        if self._hashes:
            found = RowSketch.of_hashes(np.concatenate(self._hashes))
            self._sketch = found if self._sketch is None else self._sketch.and_others(found)
            self._hashes = []

    def _thin(self) -> None:
        if not self._sample:
            return
        hashes = np.concatenate([found for found, _ in self._sample])
        numbers = [Numbers.joined(parts) for parts in zip(*(parts for _, parts in self._sample), strict=True)]
        chosen = np.argsort(hashes, kind="stable")[:SAMPLE]
        if len(hashes) > SAMPLE:
            self._highest = hashes[chosen[-1]]
        self._sample = [(hashes[chosen], [part.taken(chosen) for part in numbers])]


def warn_if_other(rows: list[Range], trained_on: list[Range], *, may_be_alike: bool = False) -> None:
    """Warn if rows are on another scale than the rows of `fit`, or in another order; see `difference`."""
    found = difference(trained_on, rows, may_be_alike=may_be_alike)
    if found is not None:
        checks.warn(
            f"{found}. Answers for such rows mean nothing: pass rows that were made (scaled, standardised, ordered) as "
            "those of fit were. If these were, and have really changed so much, ignore this warning",
            WrongRows,
        )


def warn_if_trained_on(
    rows: KnownRows,
    trained_on: Mapping[str, KnownRows],
    wrong: Flags | None = None,
    wrong_trained: Flags | None = None,
) -> None:
    """Warn if rows that should be held out are among training rows, or look as if they were.

    Args:
        rows: rows that should be held out.
        trained_on: rows of the same layout that classifier or companion were trained on, by what to call them.
        wrong: `(n,)`, whether the classifier is wrong on the rows; None if that is not known.
        wrong_trained: `(m,)`, whether the classifier is wrong on rows that it was trained on.
    """
    for name, known in trained_on.items():
        share = shared_share(rows, known)
        if share:
            n = 0 if rows.sketch is None else rows.sketch.rows
            checks.warn(
                f"{round(share * n):,} of the {n:,} rows ({share:.0%}) are among {name}. {CONSEQUENCE}: pass rows that "
                f"are not among {name}",
                WrongRows,
            )
            return
    if wrong is not None and wrong_trained is not None and is_like_training(wrong, wrong_trained):
        checks.warn(
            f"the classifier is right on {1 - wrong_trained.mean():.1%} of X_train and on {1 - wrong.mean():.1%} of "
            f"the {len(wrong):,} other rows, as if it had been trained on both. {CONSEQUENCE}: pass rows that the "
            "classifier was not trained on; if it was not trained on these, ignore this warning",
            WrongRows,
        )


def shared_share(rows: KnownRows, trained_on: KnownRows) -> float:
    """The share of rows that are among the training rows; 0 where it is small.

    It is also 0 where training rows are as often equal to each other, as in tables of few categories: new rows like
    these are equal to some of them, too.
    """
    if rows.sketch is None or trained_on.sketch is None:
        return 0.0
    shared, known = trained_on.sketch.shared_with(rows.sketch)
    usual = trained_on.sketch.repeated + SHARE
    if not known or shared <= usual * known or 1 - binomial_cdf(shared - 1, known, usual) > LEVEL:
        return 0.0
    return shared / known


def warn_if_by_chance(predicted: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
    """Warn if labels look like the labels of other rows: the classifier is right on no more of them than by chance."""
    right, chance = float(np.mean(predicted == labels)), chance_of(predicted, labels)
    if is_by_chance(predicted, labels):
        checks.warn(
            f"the classifier is right on {right:.1%} of the {len(labels):,} rows, and on {chance:.1%} it would be "
            "right with the labels of other rows: these are not the labels of the rows, or not in the order of the "
            "rows, or the classes are in another order than the classifier's outputs. Pass each row's own label; "
            "detector.classes says what the classes are called",
            WrongRows,
        )


def is_by_chance(predicted: npt.NDArray[Any], labels: npt.NDArray[Any]) -> bool:
    """Whether a classifier is right no more often than on shuffled labels, and significantly less than any classifier.

    True if Cohen's kappa is not above 0, by the standard error under chance (Fleiss, Cohen & Everitt, 1969), and if
    there are significantly more errors than a classifier makes with a kappa of 0.2, which is little better than chance.
    False where there are too few rows, or too few rows of a rare class, to tell.
    """
    n, chance, errors = len(labels), chance_of(predicted, labels), int((predicted != labels).sum())
    shares = [(float(np.mean(predicted == c)), float(np.mean(labels == c))) for c in np.unique(labels)]
    variance = (chance + chance**2 - sum(p * q * (p + q) for p, q in shares)) / n
    if not 0 < chance < 1 or variance <= 0 or len(shares) == 1:
        return False  # shuffling changes nothing
    is_better = (1 - errors / n - chance) / math.sqrt(variance) >= ONE_IN_A_HUNDRED
    return not is_better and 1 - binomial_cdf(errors - 1, n, (1 - BEYOND_CHANCE) * (1 - chance)) <= SURELY


def is_like_training(wrong: Flags, wrong_trained: Flags) -> bool:
    """Whether a classifier errs as seldom on rows as on its training rows, as if it had been trained on both.

    True if the classifier hardly errs on the training rows, does not err significantly more often on the others, and
    errs on the others significantly less often than is to be expected of new rows. A classifier that errs on more of
    the training rows may simply not overfit: then nothing can be told.
    """
    errors, errors_trained = int(wrong.sum()), int(wrong_trained.sum())
    share = errors_trained / len(wrong_trained)
    if share > FEW_ERRORS:
        return False
    # If all rows are alike, the errors fall on both kinds of rows in proportion to the numbers of rows.
    part = len(wrong) / (len(wrong) + len(wrong_trained))
    is_worse = 1 - binomial_cdf(errors - 1, errors + errors_trained, part) <= LEVEL
    return not is_worse and binomial_cdf(errors, len(wrong), max(NEW_ERRORS, 2 * share)) <= LEVEL
