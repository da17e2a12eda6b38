"""Classifiers from files, for the command line."""

import zipfile
from pathlib import Path
from typing import Any

from demur.errors import WrongType


def load_model(path: Path, role: str) -> Any:
    """Load a Keras model from a `.keras` file, in safe mode: no code in the file is run.

    Raises:
        FileNotFoundError: there is no such file.
        WrongType: it is not a `.keras` file, or Keras cannot make a model from it.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {role} at {path}: no such file")
    # Other formats that Keras reads, such as .h5, may run code.
    if path.suffix != ".keras" or not path.is_file() or not zipfile.is_zipfile(path):
        raise WrongType(f"{path} is not a .keras file: save the {role} with model.save('{path.stem}.keras')")
    import keras

    from demur import storage

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the file's contents lead to
        raise WrongType(
            f"Keras cannot load the {role} {path}: {storage.reason(error)}. If it holds layers or functions of your "
            "own, use demur from Python, where they can be passed to keras.saving.load_model"
        ) from error
