"""Runs exported guards without Keras."""

from demur.onnx.runtime import ExportedGuard as Guard
from demur.onnx.runtime import load

__all__ = ["Guard", "load"]
__dir__ = __all__.copy
