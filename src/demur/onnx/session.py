"""onnxruntime, imported late and without telemetry. No Keras."""

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
"""Names of the types of tensors in onnxruntime and in NumPy."""


def onnxruntime_module() -> Any:
    """Import onnxruntime; MissingExtra if it is not installed.

    From version 1.32 on, the wheels of onnxruntime send usage events to their maker, unless ORT_DISABLE_TELEMETRY is
    set before the first import. Set it to 0 to send them.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with extra("onnxruntime", "onnx"):
        import onnxruntime
    return onnxruntime
