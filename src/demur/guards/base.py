"""What every guard answers, live or exported: score, predict and correct."""

import abc
from typing import Any, Literal, overload

import numpy as np

from demur._version import __version__
from demur.calibration.harm import HarmCalibration
from demur.calibration.held_out import KnownRows, warn_if_other
from demur.calibration.thresholds import Calibration, Threshold, as_threshold
from demur.checks import explained_methods
from demur.errors import ThresholdNotSet, WrongType
from demur.guards.decision import Control, check_control, correction, decide
from demur.guards.description import Description
from demur.guards.results import CorrectResult, Floats, Meta, PredictData, PredictResult, Scored
from demur.rows.arrays import is_table
from demur.rows.classes import Classes
from demur.rows.layout import Layout
from demur.rows.ranges import ranges_of
from demur.rows.rows import Rows
from demur.rows.sources import is_collection, is_stream
from demur.summary import Readable

FEW = 40
"""The scale of rows is checked once, on so many rows or more."""


@explained_methods
class Guard(Readable, abc.ABC):
    """A second opinion on a classifier: a detector, or an exported guard that `demur.runtime.load` returns.

    A subclass has the facts (classes, threshold, calibration, ...) and scores rows (`scored`); flags, p-values and
    corrected classes follow from the scores here.

    Examples:
        >>> isinstance(detector, Guard)
        True
    """

    calibration: Calibration | None
    """The scores that p-values are read off; None without `infer_threshold`."""
    harm: HarmCalibration | None
    """What scores say of the classifier's errors; None if that was not learned."""
    trained_on: KnownRows | None
    """How large the numbers of the rows of `fit` were; None if that is not known."""
    scale: float | None
    """The factor by which the command line multiplies arrays, as it did for `fit`; None for no factor."""
    temperature: float
    """By which the classifier's distribution is sharpened before it is compared."""
    on_invalid: str
    """What happens to a row that cannot be judged: "raise" or "flag"."""
    data_type: str | None
    """What the data are, in the caller's words."""
    has_looked = False
    """Whether the scale of rows has been compared with the scale of the rows of `fit`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        explained_methods(cls)

    # What is known of it ------------------------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def layout(self) -> Layout:
        """What one row is; NotFitted is raised while that is not known."""

    @property
    @abc.abstractmethod
    def labels(self) -> Classes:
        """How many classes there are and what they are called, in the order of the classifier's outputs."""

    @property
    def n_classes(self) -> int:
        """How many classes there are; 0 while that is not known."""
        return self.labels.count or 0

    @property
    @abc.abstractmethod
    def threshold(self) -> Threshold | None:
        """Scores strictly above it are flagged; in nats. An array `(classes,)` where each class has its own."""

    @property
    @abc.abstractmethod
    def channels_first(self) -> bool:
        """Whether rows are images as PyTorch has them, `(channels, height, width)`."""

    @property
    @abc.abstractmethod
    def description(self) -> Description:
        """All that is known of the guard, as exported files and summaries show it."""

    @property
    def detector(self) -> str:
        """The name of the detector's class."""
        return type(self).__name__

    @property
    def meta(self) -> Meta:
        """Who gives the opinion; a new dict each time."""
        return Meta(
            name=self.detector, detector_type="adversarial", data_type=self.data_type, online=False, version=__version__
        )

    @property
    def takes_reference(self) -> bool:
        """Whether the classifier is outside of the guard, which takes the classifier's answers as `reference`."""
        return False

    @property
    def takes_missing(self) -> bool:
        """Whether rows may lack values."""
        return False

    def check_trained(self) -> None:
        """Raise NotFitted if the companion has not been trained yet."""

    # Answering ----------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def scored(
        self,
        X: Any,
        *,
        reference: Any = None,
        batch_size: int = 256,
        probabilities: bool = False,
        flag_invalid: bool = False,
        verbose: bool = False,
    ) -> Scored:
        """Score rows; all answers follow from the scores. See `score` for the other arguments.

        With `probabilities`, the probabilities of every class are returned instead of the most probable class. With
        `flag_invalid`, rows that cannot be judged have an infinite score and are listed; otherwise NonFinite is raised.
        """

    @overload
    def score(
        self,
        X: Any,
        *,
        batch_size: int = 256,
        return_predictions: Literal[False] = False,
        reference: Any = None,
        verbose: bool = False,
    ) -> Floats: ...

    @overload
    def score(
        self,
        X: Any,
        *,
        batch_size: int = 256,
        return_predictions: Literal[True],
        reference: Any = None,
        verbose: bool = False,
    ) -> tuple[Floats, Floats, Floats]: ...

    def score(
        self,
        X: Any,
        *,
        batch_size: int = 256,
        return_predictions: bool = False,
        reference: Any = None,
        verbose: bool = False,
    ) -> Floats | tuple[Floats, Floats, Floats]:
        """Return how far the opinion is from the classifier's prediction: float32 `(n,)`, in nats.

        Examples:
            >>> score, reference, opinion = detector.score(X_new, return_predictions=True)
            >>> score.shape, reference.shape, opinion.shape
            ((40,), (40, 10), (40, 10))

        Args:
            X: `(n, *input_shape)`, or a stream of batches of such rows, as `fit` takes it.
            reference: `(n, classes)`, what the classifier answers for these rows, where it is outside of an exported
                file (`takes_reference`): its probabilities, not sharpened; logits, if the detector had
                `from_logits=True`. None where the guard asks its classifier itself.
            batch_size: rows a pass; the scores do not depend on it.
            return_predictions: also return `y`, the classifier's probabilities sharpened by the temperature, and
                `y_opinion`, the companion's; float32 `(n, classes)` each.
            verbose: show a progress bar once it takes more than two seconds.

        Raises:
            NotFitted: demur made the companion, and it has not been trained yet.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        self._look_once(X)
        scored = self.scored(
            X,
            reference=reference,
            batch_size=batch_size,
            probabilities=return_predictions,
            flag_invalid=self.on_invalid == "flag",
            verbose=verbose,
        )
        return (scored.score, scored.y, scored.y_opinion) if return_predictions else scored.score

    def predict(
        self,
        X: Any,
        *,
        batch_size: int = 256,
        return_instance_score: bool = True,
        control: Control = None,
        level: float = 0.05,
        threshold: Any = None,
        reference: Any = None,
        verbose: bool = False,
    ) -> PredictResult:
        """Flag the instances whose score lies strictly above the threshold, or those that `control` picks.

        Examples:
            >>> data = detector.predict(X_new)["data"]
            >>> bool((data["is_adversarial"] == (data["instance_score"] > detector.threshold)).all())
            True

        Args:
            X: `(n, *input_shape)`, or a stream of batches of such rows, as `fit` takes it.
            reference: see `score`.
            batch_size: rows a pass.
            return_instance_score: whether the result holds the scores too.
            control: "fdr" to flag, instead of by the threshold, so that of the instances flagged in this batch at most
                a share of `level` is expected to be normal (Benjamini & Hochberg, 1995, on the p-values). If nothing is
                flagged, and hardly anything could be with so few calibration rows, there is a `NoPower` warning.
            level: see `control`.
            threshold: in nats, to use this once: a number, or `(classes,)` for a guard that has one for each predicted
                class; None for the guard's own.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            `{"meta": ..., "data": {"is_adversarial", "instance_score"}}`; from a detector that `infer_threshold` was
            called on, `data` holds `"p_value"` too, with `on_invalid="flag"` also `"invalid"`, and after
            `demur.drift.calibrate_accuracy` also `"harm_probability"`: the chance that the classifier is wrong on a
            row with this score, given that the row is like the labelled rows of that call (or, with its
            `corrupted_share`, is corrupted like their copies with that probability). Nothing is
            promised of rows that have drifted: ask `demur.drift.estimate_accuracy` about a batch of them.

        Raises:
            NotFitted, ThresholdNotSet, NotCalibrated: before any forward pass, if the companion has not been trained,
                or there is no threshold or calibration.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        settings = {"reference": reference, "batch_size": batch_size, "verbose": verbose}
        _, data, how = self.answered(X, control, level, threshold, **settings)
        if not return_instance_score:
            data["instance_score"] = None
        return PredictResult.of(self.meta, data, **how)

    def correct(
        self,
        X: Any,
        *,
        batch_size: int = 256,
        return_instance_score: bool = True,
        return_all_predictions: bool = True,
        control: Control = None,
        level: float = 0.05,
        threshold: Any = None,
        reference: Any = None,
        verbose: bool = False,
    ) -> CorrectResult:
        """Predict classes: the opinion's where an instance is flagged, the classifier's elsewhere.

        Examples:
            >>> data = detector.correct(X_new)["data"]
            >>> expected = np.where(data["is_adversarial"], data["defense"], data["no_defense"])
            >>> bool((data["corrected"] == expected).all())
            True

        Args:
            X: `(n, *input_shape)`, or a stream of batches of such rows, as `fit` takes it.
            reference: see `score`.
            batch_size: rows a pass.
            return_instance_score: whether the result holds the scores too.
            return_all_predictions: whether it holds `no_defense` (the classifier's class for each instance) and
                `defense` (the opinion's) too.
            control: how to flag; see `predict`.
            level: see `predict`.
            threshold: see `predict`.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            `{"meta": ..., "data": {"is_adversarial", "instance_score", "corrected", "no_defense", "defense"}}`, and
            what `predict` adds. Classes are those of `classes`: strings, say, where the classifier's are. A row that
            cannot be judged keeps the classifier's class.

        Raises:
            NotFitted, ThresholdNotSet, NotCalibrated: before any forward pass, if the companion has not been trained,
                or there is no threshold or calibration.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        settings = {"reference": reference, "batch_size": batch_size, "verbose": verbose}
        scored, flagged, how = self.answered(X, control, level, threshold, **settings)
        if not return_instance_score:
            flagged["instance_score"] = None
        data = correction(scored, flagged, self.labels, all_predictions=return_all_predictions)
        return CorrectResult.of(self.meta, data, **how)

    def answered(
        self, X: Any, control: Control = None, level: float = 0.05, threshold: Any = None, **settings: Any
    ) -> tuple[Scored, PredictData, dict[str, Any]]:
        """Score rows and flag them: the scores, the flags, and the threshold or level that the rows were flagged by.

        The arguments are those of `predict`, and as `settings` those of `scored`.
        """
        self.check_trained()
        check_control(control, level, self.calibration)
        limit = self.threshold if threshold is None else self._used_once(threshold)
        if control is None and limit is None:
            raise ThresholdNotSet(
                f"{self.detector} has no threshold yet: call infer_threshold(X) or set detector.threshold"
            )
        self._look_once(X)
        scored = self.scored(X, flag_invalid=self.on_invalid == "flag", **settings)
        how = {"threshold": limit} if control is None else {"level": level}
        return scored, self.decided(scored, limit, control, level), how

    def decided(
        self, scored: Scored, threshold: Threshold | None, control: Control = None, level: float = 0.05
    ) -> PredictData:
        """Flag rows that are scored already; without threshold and control, flag invalid rows only."""
        data = decide(scored, threshold, self.calibration, control, level)
        if self.on_invalid == "flag":
            data["invalid"] = scored.invalid
        if self.harm is not None:
            data["harm_probability"] = self.harm.probability(scored.score)
        return data

    def check_scale(self, X: Any) -> None:
        """Warn if a batch in memory is on another scale than the rows of `fit`."""
        if self.trained_on is None or is_stream(X) or is_collection(X):
            return
        with np.errstate(over="ignore"):  # numbers beyond float32 are an error when they are scored
            rows = Rows.of(X, self.layout, finite=False).some().cast()
        self.has_looked = True
        found = ranges_of(rows, channels_first=self.channels_first)
        warn_if_other(found, self.trained_on.ranges, may_be_alike=True)

    def _look_once(self, X: Any) -> None:
        """Check the scale of the first `FEW` or more rows that are judged."""
        if not self.has_looked and (isinstance(X, np.ndarray) or is_table(X)) and len(X) >= FEW:
            self.check_scale(X)

    def _used_once(self, threshold: Any) -> Threshold:
        """A threshold that the caller gives for one call."""
        by_class = isinstance(self.threshold, np.ndarray)
        limit = as_threshold(threshold, self.n_classes if by_class else 0)
        return np.full(self.n_classes, limit) if by_class and isinstance(limit, float) else limit


def check_guard(guard: Any) -> None:
    """Raise WrongType if something else is given in the place of a guard."""
    if not isinstance(guard, Guard):
        raise WrongType(
            f"guard is a detector, or an exported one that demur.runtime.load returns; got {type(guard).__name__}"
        )
