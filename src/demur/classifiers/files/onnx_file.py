"""`.onnx` files."""

from pathlib import Path
from typing import Any

from demur.classifiers.files.base import Asked
from demur.classifiers.onnx_file import OnnxClassifier
from demur.errors import MissingExtra, WrongType
from demur.guards.description import SHA256


def read(path: Path, asked: Asked) -> Any:
    """Load an ONNX model into a session of onnxruntime.

    Raises:
        WrongType: onnxruntime cannot run the file, or it is an exported guard.
        MissingExtra: onnxruntime is not installed.
    """
    if SHA256.encode() in path.read_bytes():
        raise WrongType(f"{path} is a guard, as demur export writes them, and not a {asked.role}")
    try:
        return OnnxClassifier.resolved(path)
    except MissingExtra:
        raise
    except Exception as error:  # onnxruntime has many
        raise WrongType(f"onnxruntime cannot load the {asked.role} {path}: {str(error).splitlines()[0]}") from error
