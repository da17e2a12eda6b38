"""`.keras` files."""

import zipfile
from pathlib import Path
from typing import Any

from demur.classifiers.files.base import Asked
from demur.errors import WrongType
from demur.private import without_tensorflow


def read(path: Path, asked: Asked) -> Any:
    """Load a Keras model in safe mode.

    Raises:
        WrongType: it is not a `.keras` file, or Keras cannot make a model from it.
    """
    if not zipfile.is_zipfile(path):
        raise WrongType(f"{path} is not a .keras file: save the {asked.role} with model.save('{path.stem}.keras')")
    import keras

    try:
        with without_tensorflow():
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the file's contents lead to
        raise WrongType(
            f"Keras cannot load the {asked.role} {path}: {reason(error)}. If it holds layers or functions of your "
            "own, use demur from Python, where they can be passed to keras.saving.load_model"
        ) from error


def reason(error: Exception) -> str:
    """The first sentence of what went wrong innermost; Keras wraps it in whole configurations."""
    innermost = str(error).rpartition("Exception encountered: ")[2].strip() or repr(error)
    sentence = innermost.splitlines()[0].partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= 200 else f"{sentence[:200]}..."
