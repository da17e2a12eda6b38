"""Exported guards in MLServer."""

from demur.integrations.mlserver import GuardRuntime

__all__ = ["GuardRuntime"]
__dir__ = __all__.copy
