"""A detector as a PyOD model, for its combinations, its thresholds and its evaluation."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from demur.detectors.base import check_detector
from demur.detectors.copies import trained
from demur.extras import extra

with extra("pyod", "pyod"):
    from pyod.models.base import BaseDetector
    from sklearn.utils.validation import check_is_fitted

__all__ = ["DemurDetector"]
__dir__ = __all__.copy


class DemurDetector(BaseDetector):  # type: ignore[misc]
    """Watches a classifier by PyOD's conventions: higher scores are more abnormal, outliers are 1.

    Examples:
        >>> found = DemurDetector(ModelDistillation(model=forest), contamination=0.05)
        >>> found.fit(rows).decision_function(new_rows).shape
        (38,)

    Args:
        detector: an `AdversarialAE` or a `ModelDistillation`, which is never changed: if it is not fitted, `fit` trains
            a copy.
        contamination: the share of the training rows that shall be outliers, above 0 and at most 0.5; or a PyThresh
            thresholder, as everywhere in PyOD.
        fit_arguments: passed to the detector's `fit`, such as `{"epochs": 5}`.
        batch_size: rows a forward pass.

    Attributes:
        detector_: the fitted detector.
        decision_scores_: of the training rows, `(n,)`, in nats.
        threshold_: the threshold for `contamination`, in nats.
        labels_: of the training rows, `(n,)`: 1 for outliers.
    """

    def __init__(
        self,
        detector: Any = None,
        contamination: Any = 0.05,
        *,
        fit_arguments: dict[str, Any] | None = None,
        batch_size: int = 256,
    ) -> None:
        super().__init__(contamination=contamination)
        self.detector = detector
        self.fit_arguments = fit_arguments
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the detector, unless it is fitted, and score the training rows.

        Args:
            X: `(n, *input_shape)` or a DataFrame, normal data.
            y: ignored.

        Raises:
            WrongType: `detector` is not a detector of demur.
        """
        check_detector(self.detector)
        self._set_n_classes(y)
        self.detector_ = trained(self.detector, X, self.fit_arguments)
        self.decision_scores_ = self._scores(X)
        self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the scores of rows: float64 `(n,)`, in nats. The higher, the more abnormal."""
        check_is_fitted(self, ["decision_scores_", "threshold_", "labels_"])
        return self._scores(X)

    def _scores(self, X: Any) -> npt.NDArray[np.float64]:
        return np.asarray(self.detector_.score(X, batch_size=self.batch_size), "float64")
