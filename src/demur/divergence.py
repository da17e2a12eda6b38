"""The name that `demur.backends.divergence` had in earlier versions."""

from demur.lazy import moved

__getattr__, __dir__ = moved("demur.backends.divergence")
