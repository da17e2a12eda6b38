"""demur: a second opinion on a trained classifier.

Detects inputs that are adversarial, corrupted or drifted in a way that hurts the classifier, and corrects what it can.
"""

from typing import TYPE_CHECKING, Any

from demur._version import __version__

if TYPE_CHECKING:
    from demur.classifiers import BlackBox
    from demur.detectors import AdversarialAE, ModelDistillation
    from demur.encoding import TableEncoder
    from demur.evaluation.result import Evaluation
    from demur.evaluation.running import evaluate
    from demur.loading import load_detector
    from demur.metrics import evaluate_scores
    from demur.robustness import Robust

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
]

_HOMES = {
    "AdversarialAE": "demur.detectors",
    "BlackBox": "demur.classifiers",
    "Evaluation": "demur.evaluation.result",
    "ModelDistillation": "demur.detectors",
    "Robust": "demur.robustness",
    "TableEncoder": "demur.encoding",
    "evaluate": "demur.evaluation.running",
    "evaluate_scores": "demur.metrics",
    "load_detector": "demur.loading",
}


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import and fixes the backend: it is imported when a detector is first asked for.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'demur' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
