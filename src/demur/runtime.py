"""Runs exported guards without Keras."""

from demur.onnx.runtime import Guard, load

__all__ = ["Guard", "load"]
__dir__ = __all__.copy
