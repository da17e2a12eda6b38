"""The name that `demur.rows.classes` had in earlier versions."""

from demur.lazy import moved

__getattr__, __dir__ = moved("demur.rows.classes")
