"""The name that `demur.guards.results` had in earlier versions."""

from demur.lazy import moved

__getattr__, __dir__ = moved("demur.guards.results")
