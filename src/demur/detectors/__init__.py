"""The detectors: one file each. A new one is a file and its import line here."""

from demur.detectors.adversarial_ae import AdversarialAE
from demur.detectors.base import CorrectResult, Detector, Meta, PredictResult
from demur.detectors.model_distillation import ModelDistillation

__all__ = ["AdversarialAE", "CorrectResult", "Detector", "Meta", "ModelDistillation", "PredictResult"]
