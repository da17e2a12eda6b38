"""A guard on many workers: it travels once to each, is loaded once by each, and tasks carry only its hash."""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from demur.errors import CorruptDetector, DetectorNotFound, InvalidSetting, MissingExtra, NotExportable, WrongType
from demur.guards.base import Guard
from demur.onnx.runtime import ExportedGuard, load
from demur.private import without_tensorflow
from demur.rows.layout import Layout, as_json

Runtime = Literal["auto", "onnx", "live"]
"""What answers on the workers: the exported file, the detector itself, or the detector where there is a GPU."""

ONNX, LIVE = "onnx", "live"
KEPT = 4
"""Loaded guards that a process keeps: the last ones used."""

_loaded: dict[tuple[str, str], Guard] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class GuardRef:
    """What a task says of its guard.

    Attributes:
        content: SHA-256 of what it is made of: the file, or weights, settings and calibration.
        kinds: in which forms it travels: "onnx", "live".
        folder: of the process that made it, where its forms lie as files; for what runs in that process.
        backend: what Keras computes a live one with.
    """

    content: str
    kinds: tuple[str, ...]
    folder: str
    backend: str | None = None

    def file_name(self, kind: str) -> str:
        """Of one of its forms."""
        return f"demur-{self.content}.{kind}"


@dataclass(frozen=True)
class Packed:
    """A guard, ready to travel.

    Attributes:
        ref: what tasks carry.
        forms: its bytes, by kind.
        guard: itself, in this process.
    """

    ref: GuardRef
    forms: Mapping[str, bytes] = field(repr=False)
    guard: Guard

    @property
    def layout(self) -> Layout:
        """What one row is."""
        return self.guard.layout


def packed(guard: Any, runtime: Runtime, folder: Path) -> Packed:
    """Pack a guard.

    Args:
        guard: a detector, a `demur.runtime.Guard`, or the path of an exported file.
        runtime: "onnx", "live", or "auto": a detector travels in both forms if it can be exported, and each worker
            takes the one that its hardware is for.
        folder: where to write the forms.

    Raises:
        WrongType, DetectorNotFound, NotADetector, CorruptDetector: it is no guard.
        NotExportable, MissingExtra: `runtime` is "onnx", and the detector cannot be exported.
        InvalidSetting: `runtime` is none, or "live" for a file.
    """
    if runtime not in ("auto", ONNX, LIVE):
        raise InvalidSetting(f"runtime is 'auto', 'onnx' or 'live'; got {runtime!r}")
    if isinstance(guard, str | os.PathLike):
        guard = load(Path(guard), threads=1)
    if isinstance(guard, ExportedGuard):
        if runtime == LIVE:
            raise InvalidSetting("runtime='live' needs the detector itself, as demur.load_detector returns it")
        if guard.takes_reference:
            raise NotExportable(
                f"the classifier is outside of {guard.path.name}, and the workers would have to ask it: pass the "
                "detector itself, as demur.load_detector(folder, model=classifier) returns it"
            )
        forms = {ONNX: guard.path.read_bytes()}
        if hashlib.sha256(forms[ONNX]).hexdigest() != guard.sha256:
            raise CorruptDetector(f"{guard.path} has changed since it was loaded: load it again")
        ref = GuardRef(guard.sha256, (ONNX,), str(folder))
    elif isinstance(guard, Guard):
        _ = guard.layout  # raises an error if it is not known
        guard.check_trained()
        forms = _forms_of(guard, runtime, folder)
        ref = GuardRef(content_of(guard), tuple(forms), str(folder), _backend())
        with _lock:
            _loaded[ref.content, LIVE] = guard  # for what runs in this process
    else:
        raise WrongType(f"guard is a detector, or an exported one and its path; got {type(guard).__name__}")
    for kind, contents in forms.items():
        (folder / ref.file_name(kind)).write_bytes(contents)
    return Packed(ref, forms, guard)


def _forms_of(detector: Any, runtime: Runtime, folder: Path) -> dict[str, bytes]:
    import cloudpickle

    forms = {}
    if runtime != ONNX:
        with without_tensorflow():
            forms[LIVE] = cloudpickle.dumps(detector)
    if runtime != LIVE:
        with contextlib.nullcontext() if runtime == ONNX else contextlib.suppress(NotExportable, MissingExtra):
            # Without a threshold it cannot be exported, and scores well nevertheless.
            if runtime == ONNX or detector.threshold is not None:
                with tempfile.TemporaryDirectory(dir=folder) as drafts:
                    file = Path(drafts) / "guard.onnx"
                    if detector.export(file).takes_reference:
                        raise NotExportable(
                            "the classifier is outside of the exported file, and the workers would have to ask it: "
                            "pass runtime='live' or leave runtime= out"
                        )
                    forms[ONNX] = file.read_bytes()
    return forms


def content_of(detector: Any) -> str:
    """A SHA-256 of what a live detector's answers follow from: weights, settings, threshold, calibration."""
    digest = hashlib.sha256()

    def take(name: str, array: Any) -> None:
        values = np.ascontiguousarray(array)
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())

    settings = {
        "class": type(detector).__name__,
        "settings": detector.settings,
        "classifier": detector.classifier.fingerprint(),
        "layout": as_json(detector.layout),
        "classes": [detector.n_classes, detector.labels.as_json()],
        "uncertainty_weight": detector.uncertainty_weight,
    }
    digest.update(json.dumps(settings, sort_keys=True, default=repr).encode())
    for name, part in sorted(detector.parts.items()):
        weights = getattr(part, "weights", ())  # of an estimator, a setting: None, or a word
        for number, weight in enumerate(weights if isinstance(weights, list | tuple) else ()):
            take(f"{name}/{number}", weight.numpy() if hasattr(weight, "numpy") else weight)
    take("threshold", np.nan if detector.threshold is None else detector.threshold)
    for learned in (detector.calibration, detector.harm):
        for name, array in sorted(({} if learned is None else learned.as_arrays()).items()):
            take(name, array)
    return digest.hexdigest()


def _backend() -> str:
    return str(sys.modules["keras"].backend.backend())  # a live detector has brought it along


# On a worker ----------------------------------------------------------------------------------------------------------


def loaded(ref: GuardRef) -> Guard:
    """The guard, loaded once in each process.

    Raises:
        DetectorNotFound: it has not come here.
    """
    kind = chosen_kind(ref)
    with _lock:  # the other threads of a worker wait for the first
        guard = _loaded.pop((ref.content, kind), None)
        if guard is None:
            guard = _load(ref, kind)
        _loaded[ref.content, kind] = guard  # now the last one used
        while len(_loaded) > KEPT:
            del _loaded[next(iter(_loaded))]
    return guard


def chosen_kind(ref: GuardRef) -> str:
    """Which form of the guard this machine is for: the detector itself with a GPU, otherwise the exported file."""
    if len(ref.kinds) == 1:
        return ref.kinds[0]
    return LIVE if has_gpu() else ONNX


def has_gpu() -> bool:
    """Whether this process sees an NVIDIA GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return not hidden and any(Path("/dev").glob("nvidia[0-9]*"))


def _load(ref: GuardRef, kind: str) -> Any:
    name = ref.file_name(kind)
    file = next((path for path in (folder / name for folder in _folders(ref)) if path.exists()), None)
    if file is None:
        raise DetectorNotFound(
            f"the guard {ref.content[:12]} is not on this worker: pass client= to demur.batch.score, so that it is sent"
        )
    if kind == ONNX:
        # One thread a pass: as many passes as the worker has threads run beside each other already.
        return load(file, threads=1)
    return _live(file, ref)


def _live(file: Path, ref: GuardRef) -> Any:
    # Only what this job's own client has sent is read here.
    import cloudpickle

    if on_worker() is not None:  # a process for this alone, that has not begun to compute
        os.environ.setdefault("KERAS_BACKEND", ref.backend or "tensorflow")
        if not has_gpu():
            # One thread a pass, as above; PyTorch and NumPy follow OMP_NUM_THREADS, which Dask sets by itself.
            os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
            os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    with without_tensorflow():
        return cloudpickle.loads(file.read_bytes())


def _folders(ref: GuardRef) -> Iterator[Path]:
    worker = on_worker()
    if worker is not None:
        yield Path(worker.local_directory)
    yield Path(ref.folder)


def on_worker() -> Any:
    """The Dask worker that this runs on, or None."""
    try:
        from distributed import get_worker
    except ImportError:
        return None
    try:
        return get_worker()
    except ValueError:
        return None
