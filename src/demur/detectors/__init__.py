"""The detectors: one file each. A new one is a file and its import line here."""

from demur.detectors.adversarial_ae import AdversarialAE
from demur.detectors.base import Detector
from demur.detectors.model_distillation import ModelDistillation
from demur.results import CorrectResult, Meta, PredictResult

__all__ = ["AdversarialAE", "CorrectResult", "Detector", "Meta", "ModelDistillation", "PredictResult"]
__dir__ = __all__.copy
