"""demur: a second opinion on a trained classifier.

Detects inputs that are adversarial, corrupted or drifted in a way that hurts the classifier, and corrects what it can.
"""

from typing import TYPE_CHECKING

from demur._version import __version__
from demur.lazy import ABOVE, lazy

if TYPE_CHECKING:
    from demur.calibration.metrics import evaluate_scores
    from demur.classifiers import BlackBox
    from demur.detectors import AdversarialAE, ModelDistillation
    from demur.detectors.saved import load_detector, save_detector
    from demur.evaluation.result import Evaluation
    from demur.evaluation.run import evaluate
    from demur.network.robustness import Robust
    from demur.rows.encoder import TableEncoder

__all__ = [
    "AdversarialAE",
    "BlackBox",
    "Evaluation",
    "ModelDistillation",
    "Robust",
    "TableEncoder",
    "__version__",
    "evaluate",
    "evaluate_scores",
    "load_detector",
    "save_detector",
]

_HOMES = {
    "AdversarialAE": "demur.detectors",
    "BlackBox": "demur.classifiers",
    "Evaluation": "demur.evaluation.result",
    "ModelDistillation": "demur.detectors",
    "Robust": "demur.network.robustness",
    "TableEncoder": "demur.rows.encoder",
    "__version__": "demur._version",
    "evaluate": "demur.evaluation.run",
    "evaluate_scores": "demur.metrics",
    "load_detector": "demur.detectors.saved",
    "save_detector": "demur.detectors.saved",
}


_MODULES = (
    "batch",
    "calibration",
    "classifiers",
    "datasets",
    "detectors",
    "drift",
    "errors",
    "evaluation",
    "export",
    "metrics",
    "mlflow",
    "mlserver",
    "nets",
    "plots",
    "pyod",
    "report",
    "runtime",
    "serve",
    "sklearn",
    "testing",
)

_ELSEWHERE = {
    "Attack": "demur.evaluation.attacks.Attack",
    "Detector": "demur.detectors.Detector",
    "Guard": "demur.runtime.Guard",
    "Monitor": "demur.drift.Monitor",
    "load": "demur.load_detector for a saved detector, demur.runtime.load for an exported one",
    "save": "detector.save(path)",
    "score": "detector.score(X), or demur.batch.score for many files",
    "write_report": "demur.report.write_report",
}


def _choose_backend(name: str) -> None:
    """Before Keras is imported: the installed backend, where the one that Keras would take is not."""
    if name in _ON_KERAS:
        from demur.starting import take_an_installed_backend

        take_an_installed_backend()


_ON_KERAS = ("AdversarialAE", "BlackBox", "ModelDistillation", "Robust", "evaluate", "load_detector", "save_detector")
ABOVE.update(calibrated="demur.batch.collections", gathered="demur.batch.collections")

__getattr__, __dir__ = lazy(__name__, _HOMES, _MODULES, _ELSEWHERE, _choose_backend)
