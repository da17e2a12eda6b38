"""The name that `demur.network.graph` had in earlier versions."""

from demur.lazy import moved

__getattr__, __dir__ = moved("demur.network.graph")
