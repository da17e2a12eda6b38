"""The guards that are served: loaded from files, and replaced while they serve."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from demur.errors import DetectorNotFound, InvalidSetting, NotADetector
from demur.guards.tensors import Array, TensorGuard
from demur.serve.serving.batcher import Batcher

logger = logging.getLogger("demur.serve.models")

DOCUMENT = "detector.json"
"""The file of a saved detector's folder that lists all others, with their checksums."""
VERSION_LENGTH = 12
POLL_SECONDS = 1.0

Loader = Callable[[Path], Any]


def load_guard(path: Path, threads: int | None = None, load_model: Callable[[], Any] | None = None) -> Any:
    """Load a guard from an ONNX file, or a detector from a folder, which takes Keras.

    Args:
        path: the file or folder.
        threads: threads that a pass of an ONNX guard may use; None for one a core.
        load_model: loads the classifier of a detector that was saved without it.

    Raises:
        DetectorNotFound, NotADetector, CorruptDetector, MissingExtra: see `demur.errors`.
    """
    if path.is_dir():
        from demur.serve.serving.detector import ServedDetector

        return ServedDetector(path, load_model)
    if not path.exists():
        raise DetectorNotFound(f"there is no guard at {path}: no such file; detector.export({path.name!r}) writes one")
    if path.suffix.lower() != ".onnx":
        raise NotADetector(f"{path} is no .onnx file, and not the folder of a saved detector")
    from demur.onnx import runtime

    return runtime.load(path, threads=threads)


def stamp(path: Path) -> tuple[int, ...] | None:
    """A value that changes when a file is written anew; None if there is no file."""
    try:
        found = (path / DOCUMENT if path.is_dir() else path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def one_row(guard: TensorGuard) -> dict[str, Array]:
    """One row of zeros for a guard; sizes that may be any are 1."""
    return {
        name: np.zeros((1, *(size or 1 for size in field.shape)), field.dtype or "float32")
        for name, field in guard.inputs.items()
    }


def named(text: str) -> tuple[str, Path]:
    """The name of a model and the path, from a path or NAME=PATH; InvalidSetting if NAME or PATH is empty."""
    name, sign, rest = text.partition("=")
    if not sign or "/" in name or Path(text).exists():  # a path may have an equals sign, too
        path = Path(text)
        return path.resolve().name if path.is_dir() else path.stem, path
    if not name or not rest:
        raise InvalidSetting(f"write NAME=PATH to serve a guard by another name; got {text!r}")
    return name, Path(rest)


class Served:
    """A model that is served: `guard` answers new requests; the service adds the batcher and the watch.

    `seen` is the stamp of the file that was last loaded, even if that failed.
    """

    def __init__(self, name: str, path: Path, guard: TensorGuard, seen: tuple[int, ...] | None = None) -> None:
        self.name, self.path, self.guard = name, path, guard
        self.seen = stamp(path) if seen is None else seen
        self.batcher: Batcher = None  # type: ignore[assignment]
        self.watch: Any = None

    @property
    def version(self) -> str:
        """The version of the guard: the beginning of its checksum."""
        return version_of(self.guard)


def version_of(guard: TensorGuard) -> str:
    """The version of a guard: the beginning of its checksum."""
    return str(guard.sha256)[:VERSION_LENGTH]


class Models(dict[str, Served]):
    """The models by name; InvalidSetting if there are none, or two have one name."""

    def __init__(self, served: Iterable[Served], load: Loader = load_guard) -> None:
        super().__init__()
        for one in served:
            if one.name in self:
                raise InvalidSetting(
                    f"{self[one.name].path} and {one.path} are both called {one.name}: rename one of them, or write "
                    "NAME=PATH"
                )
            self[one.name] = one
        if not self:
            raise InvalidSetting("there is nothing to serve: name a guard")
        self._load = load

    @classmethod
    def load(cls, paths: Iterable[str | Path], load: Loader = load_guard) -> "Models":
        """Load guards from paths or NAME=PATH, each named as its file or folder or NAME, and run each once.

        Raises:
            InvalidSetting: there are no paths, or two guards have one name.
            DetectorNotFound, NotADetector, CorruptDetector, MissingExtra: see `demur.errors`.
        """
        found = []
        for name, path in map(named, map(str, paths)):
            seen = stamp(path)
            guard = load(path)
            guard.run(one_row(guard))  # the first pass is slow: nobody shall wait for it
            found.append(Served(name, path, guard, seen))
        return cls(found, load)

    async def refresh(self, *, force: bool = False) -> list[str]:
        """Load the files that were written anew, and return the names of the models that have a new guard.

        A file that cannot be loaded changes nothing. Requests that have begun end with the guard that they began with.

        Args:
            force: load also files that look the same.
        """
        replaced = []
        for served in self.values():
            seen = stamp(served.path)
            if seen is None or (seen == served.seen and not force):
                continue
            served.seen = seen
            try:
                guard = await asyncio.to_thread(self._ready, served)
            except Exception as error:  # whatever is wrong with the new file, the old guard stays
                logger.error("model %s: the new file is not served, the old one is still: %s", served.name, error)
                continue
            if guard is None:
                continue
            before, served.guard = served.version, guard
            replaced.append(served.name)
            logger.info("model %s: version %s takes the place of %s", served.name, served.version, before)
        return replaced

    def _ready(self, served: Served) -> Any:
        """The guard of a new file, after a first run; None if it is the same guard."""
        guard = self._load(served.path)
        if guard.sha256 == served.guard.sha256:
            return None
        guard.run(one_row(guard))
        return guard
