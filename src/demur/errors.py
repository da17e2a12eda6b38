"""Every error demur raises on purpose, in one tree.

    DemurError
     ├── InvalidSetting    (ValueError)         an argument outside what it can mean
     ├── NameTaken         (ValueError)         a detector, an attack or the like with the name of another
     ├── WrongType         (TypeError)          an object of a kind demur cannot use
     ├── NoGradients       (TypeError)          a detector that needs gradients, a classifier that has none
     ├── ClassifierFailed  (RuntimeError)       a classifier that raised, or did not answer in time
     ├── ForkedProcess     (RuntimeError)       a process forked from one that computes, which would wait for ever
     ├── ShapeMismatch     (ValueError)         an array or a network of the wrong shape
     ├── EmptyInput        (ValueError)         no rows
     ├── TooFewInstances   (ValueError)         fewer rows than a promise needs
     ├── NonFinite         (ValueError)         NaN or infinity, in the data or in a score
     ├── RowsFailed        (ValueError)         single rows of many that cannot be answered; it names them
     ├── UnfinishedBatch   (RuntimeError)       a batch job that workers died of
     ├── NotADistribution  (ValueError)         outputs that are no class probabilities
     ├── UnknownLayer      (ValueError)         a layer that the classifier does not have
     ├── NoGraph           (ValueError)         hidden layers asked of a model without a graph
     ├── NotFitted         (ValueError)         scores asked of a companion that has not been trained
     ├── ThresholdNotSet   (ValueError)         a decision asked of a detector without a threshold
     ├── NotCalibrated     (ValueError)         p-values asked of a detector without calibration scores
     ├── DetectorNotFound  (FileNotFoundError)  nothing at that path
     ├── NotADetector      (ValueError)         something at that path, but no detector
     ├── CorruptDetector   (ValueError)         a detector whose files are missing, changed or unreadable
     ├── CorruptEvaluation (ValueError)         no evaluation, an unreadable one, or attacked rows of something else
     ├── CorruptMonitor    (ValueError)         the file of a drift monitor cannot be read
     ├── WrongClassifier   (ValueError)         a classifier that is not the one a detector was saved with
     ├── NotExportable     (ValueError)         a detector that cannot be written as one ONNX file
     ├── ExportDiffers     (RuntimeError)       an exported file that does not answer as the detector does
     ├── LossTooLarge      (ValueError)         a file of less precision that loses more than may be lost
     ├── WrongDetector     (ValueError)         a detector that is not the one a monitor watched
     └── MissingExtra      (ImportError)        an optional package that is not installed

Each also is the builtin that people already catch, and its message says what was expected, what came and what to do.
Warnings are DemurWarning (UserWarning): DependentRows, NoPower and WrongRows.
"""

from collections.abc import Mapping
from typing import Any


class DemurError(Exception):
    """Base of all errors raised by demur.

    Examples:
        >>> try:
        ...     detector.predict(X_new[:, :4])
        ... except DemurError as error:
        ...     print(type(error).__name__, isinstance(error, ValueError))
        ShapeMismatch True
    """


class DemurWarning(UserWarning):
    """Base of all warnings by demur."""


class DependentRows(DemurWarning):
    """The scores of successive rows depend on each other; promised rates are for independent rows."""


class WrongRows(DemurWarning):
    """Rows or labels are not what the call takes them for.

    Rows on another scale than those of `fit`, rows that should be held out and are not, labels of other rows.
    """


class NoPower(DemurWarning):
    """So few calibration rows stand beside so large a batch that hardly anything in it could be flagged."""


class InvalidSetting(DemurError, ValueError):
    """An argument has a value outside what it can mean."""


class NameTaken(DemurError, ValueError):
    """A detector, an attack or another extension has the name of one that is known already."""


class WrongType(DemurError, TypeError):
    """An argument is an object of a kind that cannot be used here."""


class NoGradients(DemurError, TypeError):
    """A detector needs gradients through the classifier, and the classifier has no gradients."""


class ClassifierFailed(DemurError, RuntimeError):
    """A classifier outside the graph raised an error, or did not answer in time."""


class ForkedProcess(DemurError, RuntimeError):
    """A process was forked from one that computes; it would wait for ever for threads that stayed behind."""


class ShapeMismatch(DemurError, ValueError):
    """An array or a network has another shape than its place asks for."""


class EmptyInput(DemurError, ValueError):
    """There are no rows to work on."""


class TooFewInstances(DemurError, ValueError):
    """There are fewer rows than it takes to promise what was asked for."""


class NonFinite(DemurError, ValueError):
    """NaN or infinity where a finite number is needed."""


class RowsFailed(DemurError, ValueError):
    """Single rows of many cannot be answered.

    Attributes:
        faults: by the row's id, why.
        advice: what to do with such rows.
    """

    def __init__(self, faults: Mapping[Any, str], advice: str = "on_error='skip' goes on without them") -> None:
        super().__init__(dict(faults), advice)  # what pickle makes it of again
        self.faults, self.advice = dict(faults), advice

    def __str__(self) -> str:
        shown = [f"{name}: {reason}" for name, reason in list(self.faults.items())[:10]]
        more = "" if len(self.faults) <= 10 else f"; and {len(self.faults) - 10} more"
        rows = "1 row" if len(self.faults) == 1 else f"{len(self.faults)} rows"
        return f"{rows} cannot be answered: {'; '.join(shown)}{more}. {self.advice}"


class UnfinishedBatch(DemurError, RuntimeError):
    """A batch job ended because workers died, again and again, of the same rows."""


class NotADistribution(DemurError, ValueError):
    """A classifier's outputs are not class probabilities."""


class UnknownLayer(DemurError, ValueError):
    """The classifier has no layer of that name or index."""


class NoGraph(DemurError, ValueError):
    """Hidden layers cannot be reached in a model that has no graph of layers."""


class NotFitted(DemurError, ValueError):
    """A detector must see training rows before it can score: its companion has learned nothing yet."""


class ThresholdNotSet(DemurError, ValueError):
    """A decision needs a threshold, and the detector has none yet."""


class NotCalibrated(DemurError, ValueError):
    """A decision needs p-values, and the detector has no calibration scores."""


class DetectorNotFound(DemurError, FileNotFoundError):
    """There is nothing at the given path."""


class NotADetector(DemurError, ValueError):
    """What lies at the given path is not a saved detector."""


class CorruptDetector(DemurError, ValueError):
    """A saved detector whose files are missing, changed or cannot be read."""


class CorruptEvaluation(DemurError, ValueError):
    """A file of an evaluation cannot be read, or its attacked rows belong to another evaluation."""


class CorruptMonitor(DemurError, ValueError):
    """A file of a drift monitor's state cannot be read."""


class WrongClassifier(DemurError, ValueError):
    """The classifier given, or none, is not the one that the detector was saved with."""


class WrongDetector(DemurError, ValueError):
    """The detector given is not the one, calibrated as it was, that the monitor watched."""


class NotExportable(DemurError, ValueError):
    """A detector cannot be written as one ONNX file."""


class ExportDiffers(DemurError, RuntimeError):
    """An exported file does not answer as the detector does."""


class LossTooLarge(DemurError, ValueError):
    """A file of less precision would lose more than it may."""


class MissingExtra(DemurError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}, which is not installed: pip install 'demur[{extra}]'")
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra)


__all__ = [name for name, found in globals().items() if isinstance(found, type) and found.__module__ == __name__]
__dir__ = __all__.copy
