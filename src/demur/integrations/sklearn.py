"""A detector as a scikit-learn outlier detector, for pipelines, searches and whatever else takes one."""

from numbers import Real
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from demur.detectors.base import check_detector
from demur.detectors.copies import trained
from demur.errors import InvalidSetting, ThresholdNotSet
from demur.extras import extra
from demur.rows.arrays import is_table
from demur.rows.texts import are_texts

with extra("scikit-learn", "sklearn"):
    from sklearn.base import BaseEstimator, OutlierMixin
    from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["DemurOutlierDetector"]
__dir__ = __all__.copy

Scores = npt.NDArray[np.float64]


class DemurOutlierDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Watches a classifier by scikit-learn's conventions: higher scores are more normal, outliers are -1.

    `clone` copies the detector: the classifier is shared, the companion is not.

    Examples:
        >>> outliers = DemurOutlierDetector(ModelDistillation(model=forest), contamination=0.05)
        >>> outliers.fit(rows).predict(new_rows).shape
        (38,)

    Args:
        detector: an `AdversarialAE` or a `ModelDistillation`, which is never changed: if it is not fitted, `fit` trains
            a copy.
        contamination: the share of the training rows that shall be outliers, above 0 and at most 0.5. It says nothing
            about new rows. "auto" keeps the threshold of a fitted detector, whose false-positive rate on new rows
            `infer_threshold(X, fpr=)` promises.
        fit_arguments: passed to the detector's `fit`, such as `{"epochs": 5}`.
        batch_size: rows a forward pass.

    Attributes:
        detector_: the fitted detector.
        offset_: subtracted from the scores to get the decision function; in nats.
        n_features_in_, feature_names_in_: of tables, as everywhere in scikit-learn.
    """

    def __init__(
        self,
        detector: Any = None,
        contamination: float | Literal["auto"] = 0.05,
        *,
        fit_arguments: dict[str, Any] | None = None,
        batch_size: int = 256,
    ) -> None:
        self.detector = detector
        self.contamination = contamination
        self.fit_arguments = fit_arguments
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - for pipelines
        """Train the detector, unless it is fitted, and set the offset.

        Args:
            X: `(n, *input_shape)` or a DataFrame, normal data.
            y: ignored.

        Raises:
            WrongType: `detector` is not a detector of demur.
            InvalidSetting: `contamination` is not a share.
            ThresholdNotSet: `contamination` is "auto", and the detector has no threshold, or one for each class.
        """
        check_detector(self.detector)
        share = self.contamination
        if share != "auto" and not (isinstance(share, Real) and 0 < share <= 0.5):
            raise InvalidSetting(f"contamination is a share above 0 and at most 0.5, or 'auto'; got {share!r}")
        if share == "auto" and (self.detector.threshold is None or np.ndim(self.detector.threshold)):
            raise ThresholdNotSet(
                "contamination='auto' keeps the detector's threshold, and the detector has none or one for each class: "
                "call infer_threshold(X_held_out, fpr=...) on it, or say contamination=0.05"
            )
        X = self._checked(X, reset=True)
        self.detector_ = trained(self.detector, X, self.fit_arguments)
        if share == "auto":
            self.offset_ = -float(self.detector.threshold)
        else:
            self.offset_ = float(np.percentile(self._scores(X), 100 * share))
        return self

    def score_samples(self, X: Any) -> Scores:
        """Return the negated scores of rows: float64 `(n,)`, in nats. The higher, the more normal."""
        check_is_fitted(self)
        return self._scores(self._checked(X, reset=False))

    def decision_function(self, X: Any) -> Scores:
        """Return how far rows are from being outliers: float64 `(n,)`, in nats. Outliers are below 0."""
        scores = self.score_samples(X)
        return np.asarray(scores - self.offset_)

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Return -1 for outliers and 1 for others: int64 `(n,)`."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _scores(self, X: Any) -> Scores:
        return -self.detector_.score(X, batch_size=self.batch_size).astype("float64")

    def _checked(self, X: Any, *, reset: bool) -> Any:
        """The rows, checked by scikit-learn where it can check them."""
        is_structure = isinstance(X, dict | tuple) and not hasattr(X, "toarray")  # SciPy has a sparse dict
        if is_structure or are_texts(X):
            return X
        if is_table(X) and not isinstance(X, np.ndarray):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        # The detector checks for NaN: some classifiers take it.
        return validate_data(self, X, reset=reset, allow_nd=True, ensure_all_finite=False)
