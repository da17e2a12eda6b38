"""A guard as its calibration alone, which knows the guard's scores without Keras and the classifier."""

import argparse
import functools
from pathlib import Path
from typing import Any

from demur.cli.guards import described, first_threshold, opened
from demur.errors import NotCalibrated
from demur.guards.results import Scored
from demur.guards.tensors import DescribedGuard


class Calibrated(DescribedGuard):
    """A guard's calibration, for ready scores. Keras and the classifier are loaded if rows are to be scored after all.

    Args:
        path: a guard's folder, or an exported guard.
        args: the options of the command.

    Raises:
        NotCalibrated: the guard has no calibration.
        DetectorNotFound, NotADetector, CorruptDetector, MissingExtra: see `demur.errors`.
    """

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        super().__init__(described(path))
        if self.calibration is None:
            raise NotCalibrated(f"{path} has no calibration scores to compare with; first: {first_threshold(path)}")
        self._open = functools.cache(lambda: opened(path, args))

    def scored(self, X: Any, **settings: Any) -> Scored:
        """Score rows, by the guard itself."""
        scored: Scored = self._open().scored(X, **settings)
        return scored
