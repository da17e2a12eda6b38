"""A detector as a folder: `detector.json` names the files of its models and arrays, and their SHA-256. No pickle.

Saving over a detector is safe at every instant: files are named by their contents and written beside the old
ones, and the save takes effect in one atomic step, when `detector.json` is replaced. Then the old files are removed.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from demur._version import __version__
from demur.classifiers.torch_module import is_module
from demur.companion import is_wrapped, save_module
from demur.errors import CorruptDetector, DetectorNotFound, InvalidSetting, NotADetector

FORMAT = 1
DOCUMENT = "detector.json"
TEMPORARY = ".saving-"
OURS = re.compile(r"\w+-[0-9a-f]{12}\.(keras|npz|safetensors)")
"""The names of the files that are written beside the document."""


Arrays = dict[str, npt.NDArray[Any]]


def write(
    path: Path, document: dict[str, Any], models: dict[str, Any], arrays: dict[str, Arrays] | None = None
) -> None:
    """Write a document, its models and its arrays, whole or not at all.

    Args:
        path: the folder; made if it does not exist.
        document: what `detector.json` shall hold, beside the format, the versions and the files.
        models: models by name: of Keras, one `.keras` file each; of PyTorch, their state, one `.safetensors` file each.
            Others are left out.
        arrays: groups of arrays by name, one `.npz` file each.

    Raises:
        NotADetector: the folder exists and holds something else, or is a file.
        InvalidSetting: a Keras model holds a Python lambda, with which it could be saved and not be loaded.
    """
    check_destination(path)
    for name, model in models.items():
        _check_no_lambda(name, model)
    before = _file_names(path)
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path))
    try:
        savers = {name: _saver(model) for name, model in models.items()}
        files = {
            name: _place(temporary / f"{name}.{saver[0]}", saver[1], path)
            for name, saver in savers.items()
            if saver is not None
        }
        for name, group in (arrays or {}).items():
            files[name] = _place(temporary / f"{name}.npz", functools.partial(_save_arrays, group), path)
        versions = {"demur": __version__, "keras": keras.__version__, "backend": keras.backend.backend()}
        text = json.dumps({"format": FORMAT, **document, "versions": versions, "files": files}, indent=2) + "\n"
        draft = temporary / DOCUMENT
        draft.write_text(text, encoding="utf-8")
        _flush(draft)
        draft.replace(path / DOCUMENT)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_files(path, keep=before)
        if is_new:
            shutil.rmtree(path, ignore_errors=True)
        raise
    _flush(path)
    for leftover in path.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    now = {entry["file"] for entry in files.values()}
    for file in before - now:  # by name: what is damaged no longer looks like ours
        (path / file).unlink(missing_ok=True)
    _remove_files(path, keep=now)


def check_destination(path: Path) -> None:
    """Raise NotADetector if `path` is something else than a detector's folder, an empty one or nothing yet."""
    if path.exists() and not path.is_dir():
        raise NotADetector(f"{path} is a file; a detector is saved to a folder")
    if path.is_dir() and not (path / DOCUMENT).exists() and not _interrupted(path):
        raise NotADetector(f"{path} holds other files and no {DOCUMENT}; save to a new or an empty folder")


def read(
    path: Path, custom_objects: dict[str, Any] | None = None, skip: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Arrays]]:
    """Read what `write` wrote: the document, the Keras models and the arrays by name. Runs no code from the folder.

    Args:
        path: the folder.
        custom_objects: passed to Keras.
        skip: names of models that are not wanted; their files need not be there.

    Returns:
        The document, the models (of a PyTorch module, the path of its state) and the arrays.

    Raises:
        DetectorNotFound: there is nothing at `path`.
        NotADetector: it is not a detector's folder, or of a newer format.
        CorruptDetector: a file is missing or changed, or a model cannot be made from it.
    """
    if not path.exists():
        raise DetectorNotFound(f"there is no detector at {path}: no such folder")
    if not (path / DOCUMENT).is_file():
        raise NotADetector(
            f"{path} is not a detector: it holds no {DOCUMENT}. Detectors are written by detector.save(path)"
        )
    try:
        document = json.loads((path / DOCUMENT).read_text(encoding="utf-8"))
        version = document["format"]
        entries = document["files"].items() if version == FORMAT else ()
        files = {name: {"file": entry["file"], "sha256": entry["sha256"]} for name, entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotADetector(f"{path / DOCUMENT} is not a detector's description: {error!r}") from error
    if any(not OURS.fullmatch(entry["file"]) for entry in files.values()):
        raise NotADetector(f"{path / DOCUMENT} names files that no detector has, or that lie elsewhere")
    if version != FORMAT:
        raise NotADetector(f"{path} has format {version}; this demur {__version__} reads {FORMAT}: upgrade demur")
    wanted = {name: path / entry["file"] for name, entry in files.items() if name not in skip}
    for name, file in wanted.items():
        _verify(file, files[name]["sha256"])
    arrays = {name: _load_arrays(file) for name, file in wanted.items() if file.suffix == ".npz"}
    saved_with = str((document.get("versions") or {}).get("keras", "unknown"))
    models = {
        name: file if file.suffix == ".safetensors" else _load(file, custom_objects, saved_with)
        for name, file in wanted.items()
        if name not in arrays
    }
    return document, models, arrays


def _saver(model: Any) -> tuple[str, Callable[[Path], Any]] | None:
    """How a model is written, and with which suffix; None if it is not."""
    if is_wrapped(model) or is_module(model):
        module = model.module if is_wrapped(model) else model
        return "safetensors", functools.partial(save_module, module)
    return ("keras", model.save) if isinstance(model, keras.Model) else None


def _check_no_lambda(name: str, model: Any) -> None:
    """Raise InvalidSetting if a Keras model holds a Python lambda: it is saved as code, and `read` runs no code."""
    if is_wrapped(model) or not isinstance(model, keras.Model):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of lambdas, too
            found = _lambda_in(model.get_config(), name)
    except NotImplementedError:  # a model of the caller's class, whose configuration Keras does not know
        return
    if found is not None:
        apart = "; or save(path, include_classifier=False), and load_detector(path, model=...)"
        raise InvalidSetting(
            f"{found!r} in the {name} holds a Python lambda. It would be saved as code, which is never run when a "
            "detector is loaded: make it a function with a name, decorated with "
            f"@keras.saving.register_keras_serializable(){apart if name == 'classifier' else ''}"
        )


def _lambda_in(config: Any, name: str) -> str | None:
    """The name of the layer whose configuration holds a Python lambda; None if there is none."""
    if isinstance(config, dict):
        # An activation is written without its class: the code as text, defaults and closure alone.
        is_code = (
            set(config) == {"value"} and isinstance(config["value"], tuple) and isinstance(config["value"][0], str)
        )
        if is_code or config.get("class_name") == "__lambda__":
            return name
        own = config.get("name")
        parts, name = list(config.values()), own if isinstance(own, str) else name
    else:
        parts = list(config) if isinstance(config, list | tuple) else []
    return next((found for part in parts if (found := _lambda_in(part, name)) is not None), None)


def _place(draft: Path, save: Callable[[Path], Any], path: Path) -> dict[str, str]:
    """Write a file and name it by its contents."""
    save(draft)
    _flush(draft)
    sha256 = _sha256(draft)
    file = f"{draft.stem}-{sha256[:12]}{draft.suffix}"
    draft.replace(path / file)
    return {"file": file, "sha256": sha256}


def _load(file: Path, custom_objects: dict[str, Any] | None, saved_with: str) -> Any:
    known = {"softmax_v2": keras.activations.softmax, **(custom_objects or {})}  # what tf.nn.softmax calls itself
    try:
        return keras.saving.load_model(file, custom_objects=known, compile=False, safe_mode=True)
    except Exception as error:
        other = f" It was saved with Keras {saved_with}, and this is {keras.__version__}."
        raise CorruptDetector(
            f"{file.name} cannot be made into a model: {reason(error)}."
            f"{other if saved_with != keras.__version__ else ''} "
            "If it holds layers or models of your own, pass load_detector(path, custom_objects={'Name': Class})"
        ) from error


def _save_arrays(arrays: Arrays, file: Path) -> None:
    np.savez(file, allow_pickle=False, **arrays)


def _load_arrays(file: Path) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CorruptDetector(f"{file.name} cannot be read: {error}") from error


def reason(error: Exception) -> str:
    """The first sentence of what went wrong innermost; Keras wraps it in whole configurations."""
    in_bold = re.search("\x1b\\[1m(.+?)\x1b\\[0m", str(error), re.DOTALL)  # of an error in a layer's call
    text = in_bold[1] if in_bold else str(error).rpartition("Exception encountered: ")[2]
    innermost = text.strip() or repr(error)
    sentence = innermost.splitlines()[0].partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= 200 else f"{sentence[:200]}..."


def _verify(file: Path, sha256: str) -> None:
    if not file.is_file():
        raise CorruptDetector(f"{file.parent} is incomplete: {file.name} is missing")
    if _sha256(file) != sha256:
        raise CorruptDetector(f"{file} is not the file that was saved: its SHA-256 has changed")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Have the operating system put a file, or a folder's list of files, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # folders cannot be flushed everywhere
        if path.is_file():
            raise
    finally:
        os.close(descriptor)


def _file_names(path: Path) -> set[str]:
    """The model files of the detector that is at `path` now."""
    try:
        files = json.loads((path / DOCUMENT).read_text(encoding="utf-8"))["files"]
        return {entry["file"] for entry in files.values() if OURS.fullmatch(entry["file"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _interrupted(path: Path) -> bool:
    """Whether a folder holds nothing but what a first save left when it was killed."""
    return all(entry.name.startswith(TEMPORARY) or _is_ours(entry) for entry in path.iterdir())


def _is_ours(file: Path) -> bool:
    """Whether a file is named by its contents; a user's `best-202601312359.keras` only looks so."""
    return bool(OURS.fullmatch(file.name)) and file.is_file() and _sha256(file).startswith(file.stem.rpartition("-")[2])


def _remove_files(path: Path, keep: set[str]) -> None:
    for file in path.iterdir():
        if file.name not in keep and _is_ours(file):
            file.unlink(missing_ok=True)
