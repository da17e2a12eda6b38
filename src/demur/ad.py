"""The detectors, under the name of the package that alibi-detect has them in."""

from demur.lazy import lazy

__getattr__, __dir__ = lazy(__name__, {"AdversarialAE": "demur.detectors", "ModelDistillation": "demur.detectors"})
