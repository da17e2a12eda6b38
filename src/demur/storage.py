"""A detector as a folder: `detector.json`, which names the `.keras` file of each model and its SHA-256. No pickle.

Saving over a detector is safe at every instant: model files are named by their contents and written beside the old
ones, and the save takes effect in one atomic step, when `detector.json` is replaced. Then the old files are removed.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras

from demur._version import __version__
from demur.errors import CorruptDetector, DetectorNotFound, NotADetector

FORMAT = 1
DOCUMENT = "detector.json"
TEMPORARY = ".saving-"


def write(path: Path, document: dict[str, Any], models: dict[str, Any]) -> None:
    """Write a document and its Keras models, whole or not at all.

    Args:
        path: the folder; made if it does not exist.
        document: what `detector.json` shall hold, beside the format, the versions and the files.
        models: Keras models by name.

    Raises:
        NotADetector: the folder exists and holds something else, or is a file.
    """
    check_destination(path)
    before = _file_names(path)
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path))
    try:
        files = {name: _place(model, name, temporary, path) for name, model in models.items()}
        versions = {"demur": __version__, "keras": keras.__version__, "backend": keras.backend.backend()}
        text = json.dumps({"format": FORMAT, **document, "versions": versions, "files": files}, indent=2) + "\n"
        draft = temporary / DOCUMENT
        draft.write_text(text, encoding="utf-8")
        _flush(draft)
        draft.replace(path / DOCUMENT)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_models(path, keep=before)
        if is_new:
            shutil.rmtree(path, ignore_errors=True)
        raise
    _flush(path)
    for leftover in path.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    _remove_models(path, keep={entry["file"] for entry in files.values()})


def check_destination(path: Path) -> None:
    """Raise NotADetector if `path` is something else than a detector's folder, an empty one or nothing yet."""
    if path.exists() and not path.is_dir():
        raise NotADetector(f"{path} is a file; a detector is saved to a folder")
    if path.is_dir() and not (path / DOCUMENT).exists() and not _interrupted(path):
        raise NotADetector(f"{path} holds other files and no {DOCUMENT}; save to a new or an empty folder")


def read(path: Path, custom_objects: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `write` wrote: the document and the Keras models by name. Runs no code from the folder.

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
        version, files = document["format"], {name: dict(entry) for name, entry in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotADetector(f"{path / DOCUMENT} is not a detector's description: {error!r}") from error
    if version != FORMAT:
        raise NotADetector(f"{path} has format {version}; this demur {__version__} reads {FORMAT}: upgrade demur")
    for entry in files.values():
        _verify(path / entry["file"], entry["sha256"])
    return document, {name: _load(path / entry["file"], custom_objects) for name, entry in files.items()}


def _place(model: Any, name: str, temporary: Path, path: Path) -> dict[str, str]:
    draft = temporary / f"{name}.keras"
    model.save(draft)
    _flush(draft)
    sha256 = _sha256(draft)
    file = f"{name}-{sha256[:12]}.keras"
    draft.replace(path / file)
    return {"file": file, "sha256": sha256}


def _load(file: Path, custom_objects: dict[str, Any] | None) -> Any:
    try:
        return keras.saving.load_model(file, custom_objects=custom_objects, compile=False, safe_mode=True)
    except Exception as error:
        raise CorruptDetector(
            f"{file.name} cannot be made into a model: {reason(error)}. "
            "If it holds layers or models of your own, pass load_detector(path, custom_objects={'Name': Class})"
        ) from error


def reason(error: Exception) -> str:
    """The first sentence of what went wrong innermost; Keras wraps it in whole configurations."""
    innermost = str(error).rpartition("Exception encountered: ")[2].strip() or repr(error)
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
        return {entry["file"] for entry in files.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _interrupted(path: Path) -> bool:
    """Whether a folder holds nothing but what a first save left when it was killed."""
    return all(entry.name.startswith(TEMPORARY) or entry.suffix == ".keras" for entry in path.iterdir())


def _remove_models(path: Path, keep: set[str]) -> None:
    for file in path.glob("*-????????????.keras"):
        if file.name not in keep:
            file.unlink(missing_ok=True)
