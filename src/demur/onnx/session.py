"""onnxruntime, where it is needed: imported late, and silent. No Keras."""

import os
from typing import Any

from demur.extras import extra

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}
"""Types of tensors as onnxruntime calls them, and as NumPy does."""


def onnxruntime_module() -> Any:
    """Import onnxruntime.

    Its wheels send usage events to their maker from version 1.32 on, unless ORT_DISABLE_TELEMETRY is set before the
    first import. Whoever wants them sends them by setting it to 0.

    Raises:
        MissingExtra: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with extra("onnxruntime", "onnx"):
        import onnxruntime
    return onnxruntime
