"""The detectors: one file each. A new file is found; the lines here let its class be imported from here."""

from typing import TYPE_CHECKING

from demur.lazy import lazy

if TYPE_CHECKING:
    from demur.detectors.adversarial_ae import AdversarialAE
    from demur.detectors.base import Detector
    from demur.detectors.model_distillation import ModelDistillation
    from demur.guards.results import CorrectResult, Meta, PredictResult
    from demur.network.graph import Opinion

__all__ = ["AdversarialAE", "CorrectResult", "Detector", "Meta", "ModelDistillation", "Opinion", "PredictResult"]

_HOMES = {
    "AdversarialAE": "demur.detectors.adversarial_ae",
    "CorrectResult": "demur.guards.results",
    "Detector": "demur.detectors.base",
    "Meta": "demur.guards.results",
    "ModelDistillation": "demur.detectors.model_distillation",
    "Opinion": "demur.network.graph",
    "PredictResult": "demur.guards.results",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
