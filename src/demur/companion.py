"""The name that `demur.network.companion` had in earlier versions."""

from demur.lazy import moved

__getattr__, __dir__ = moved("demur.network.companion")
