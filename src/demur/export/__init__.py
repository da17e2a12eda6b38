"""A detector as one ONNX file: the networks, the threshold and the calibration scores. One file a concern."""

from demur.export.file import Exported, export

__all__ = ["Exported", "export"]
__dir__ = __all__.copy
