"""Classifiers from files, in formats that run no code when they are read: one file a format.

A format is a function from a path to a model, in `FORMATS` by its suffix. Pickles (`.pkl`, `.joblib`, `.pt`) run code,
and are refused; the error has the line that converts them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from demur.classifiers.files import keras_file, lightgbm_file, onnx_file, skops_file, torch_weights, xgboost_file
from demur.classifiers.files.base import Asked
from demur.errors import WrongType
from demur.extensions import Registry
from demur.starting import check_there

__all__ = ["FORMATS", "Format", "load_classifier"]


class Format(NamedTuple):
    """How files of one kind are read.

    Attributes:
        what: the kind, for messages.
        read: makes a model.
    """

    what: str
    read: Callable[[Path, Asked], Any]


FORMATS: Registry[Format] = Registry(
    "demur.classifier_files",
    definition=lambda form: form.read,
    known={
        ".keras": Format("Keras", keras_file.read),
        ".onnx": Format("ONNX", onnx_file.read),
        ".safetensors": Format("PyTorch weights", torch_weights.read),
        ".json": Format("XGBoost", xgboost_file.read),
        ".ubj": Format("XGBoost", xgboost_file.read),
        ".txt": Format("LightGBM", lightgbm_file.read),
        ".skops": Format("scikit-learn", skops_file.read),
    },
)
"""By suffix."""

ESTIMATOR = (
    "{path} is a pickle, and reading a pickle runs the code in it. If you trust it, convert it once: "
    "python -c \"import joblib, skops.io; skops.io.dump(joblib.load('{path}'), '{stem}.skops')\""
)
MODULE = (
    "{path} is a pickle, and reading a pickle can run the code in it. Write the module's weights instead: "
    "safetensors.torch.save_model(module, '{stem}.safetensors'), and pass that with --module"
)
CONVERT = {
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".sav"), ESTIMATOR),
    **dict.fromkeys((".pt", ".pth", ".ckpt"), MODULE),
    **dict.fromkeys((".h5", ".hdf5"), "{path} is not a .keras file: save the {role} with model.save('{stem}.keras')"),
    ".cbm": "{path} is CatBoost's own format: write ONNX with model.save_model('{stem}.onnx', format='onnx')",
}
"""What to do with files of formats that are not read, by suffix."""


def load_classifier(
    path: str | Path, *, module: str | None = None, trust: Sequence[str] = (), role: str = "classifier"
) -> Any:
    """Load a classifier from a file; no code in the file is run.

    Examples:
        >>> classifier.save("classifier.keras")
        >>> type(load_classifier("classifier.keras")).__name__
        'Sequential'

    Args:
        path: `.keras`; `.onnx`; `.safetensors` with the weights of a PyTorch module; `.json` or `.ubj` of XGBoost;
            `.txt` of LightGBM; `.skops` of scikit-learn.
        module: for `.safetensors`, what makes the module without its weights, as "package.module:function". It is
            imported, from the current folder too, because you name it.
        trust: for `.skops`, names of types that skops does not trust by itself and that you do.
        role: what to call the model in error messages.

    Returns:
        What detectors take as `model=`.

    Raises:
        FileNotFoundError: there is no such file.
        WrongType: the file is of another format, damaged, of types that are not trusted, or no classifier.
        InvalidSetting: `module` cannot be imported, or the format needs none.
        MissingExtra: the library of the format is not installed.
    """
    if not isinstance(path, str | Path):
        raise WrongType(f"path is that of a {role}'s file; got {type(path).__name__}")
    file = Path(path)
    suffix = file.suffix.lower()
    found = FORMATS.get(suffix)
    check_there(file, role)
    if found is None and suffix in CONVERT:
        raise WrongType(CONVERT[suffix].format(path=file, stem=file.stem, role=role))
    if found is None:
        known = ", ".join(f"{suffix} ({form.what})" for suffix, form in FORMATS.items())
        raise WrongType(f"a {role} is read from {known}; got {file}")
    if not file.is_file():
        raise WrongType(f"{file} is not a {suffix} file: it is a folder")
    return found.read(file, Asked(role, module, tuple(trust)))
