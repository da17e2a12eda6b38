"""A guard on many workers: sent once to each, loaded once by each, and named in tasks by a hash alone."""

import contextlib
import functools
import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from demur.atomic import whole
from demur.errors import CorruptDetector, DetectorNotFound, InvalidSetting, MissingExtra, NotExportable, WrongType
from demur.guards.base import Guard
from demur.onnx.runtime import ExportedGuard, load
from demur.private import without_tensorflow
from demur.rows.layout import as_json

Runtime = Literal["auto", "onnx", "live"]
"""What answers on the workers: the exported file, the detector itself, or the detector where there is a GPU."""

ONNX, LIVE = "onnx", "live"
KEPT = 4
"""How many loaded guards a process keeps: the last ones used."""

_loaded: dict[tuple[str, str], Guard] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class GuardRef:
    """What a task says of its guard: a SHA-256 of it, the forms in which it travels, and the backend of a live guard.

    The forms lie in the folder, as files, for what runs in the process that packed the guard.
    """

    content: str
    kinds: tuple[str, ...]
    folder: str
    backend: str | None = None

    def file(self, folder: str | Path, kind: str) -> Path:
        """The file of a form."""
        return Path(folder) / f"demur-{self.content}.{kind}"

    def write(self, forms: Mapping[str, bytes], folder: str | Path) -> None:
        """Write the forms that are not in the folder yet."""
        for kind, contents in forms.items():
            path = self.file(folder, kind)
            if not path.exists():
                with whole(path) as stream:
                    stream.write(contents)


@dataclass(frozen=True)
class Packed:
    """A guard, ready to travel: what tasks carry, the bytes of each form, and the guard itself, in this process."""

    ref: GuardRef
    forms: Mapping[str, bytes] = field(repr=False)
    guard: Guard


def packed(guard: Any, runtime: Runtime, folder: Path | None = None) -> Packed:
    """Pack a guard: a detector, a `demur.runtime.Guard`, or the path of an exported file.

    With the runtime "auto", a detector travels in both forms if it can be exported, and each worker takes the form that
    suits its hardware. The forms are written to the folder; by default to one that ends with the process.

    Raises:
        WrongType, DetectorNotFound, NotADetector, CorruptDetector: `guard` is no guard.
        NotExportable, MissingExtra: `runtime` is "onnx", and the detector cannot be exported.
        InvalidSetting: `runtime` is unknown, or "live" for a file.
    """
    if runtime not in ("auto", ONNX, LIVE):
        raise InvalidSetting(f"runtime is 'auto', 'onnx' or 'live'; got {runtime!r}")
    folder = folder or Path(_process_folder().name)
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
        backend = str(sys.modules["keras"].backend.backend())  # a live detector has imported Keras
        ref = GuardRef(content_of(guard), tuple(forms), str(folder), backend)
        with _lock:
            _loaded[ref.content, LIVE] = guard  # for what runs in this process
    else:
        raise WrongType(f"guard is a detector, or an exported one and its path; got {type(guard).__name__}")
    ref.write(forms, folder)
    return Packed(ref, forms, guard)


@functools.cache
def _process_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the guards that lazy collections of this process will need."""
    return tempfile.TemporaryDirectory(prefix="demur-batch-")


def _forms_of(detector: Any, runtime: Runtime, folder: Path) -> dict[str, bytes]:
    """The forms in which a live detector travels."""
    import cloudpickle

    forms = {}
    if runtime != ONNX:
        with without_tensorflow():
            forms[LIVE] = cloudpickle.dumps(detector)
    # A detector without a threshold cannot be exported, and scores well nevertheless.
    if runtime == ONNX or (runtime != LIVE and detector.threshold is not None):
        with contextlib.nullcontext() if runtime == ONNX else contextlib.suppress(NotExportable, MissingExtra):
            forms[ONNX] = _exported(detector, folder)
    return forms


def _exported(detector: Any, folder: Path) -> bytes:
    with tempfile.TemporaryDirectory(dir=folder) as drafts:
        file = Path(drafts) / "guard.onnx"
        if detector.export(file).takes_reference:
            raise NotExportable(
                "the classifier is outside of the exported file, and the workers would have to ask it: "
                "pass runtime='live' or leave runtime= out"
            )
        return file.read_bytes()


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
        weights = getattr(part, "weights", ())  # an estimator's `weights` may be a setting: None, or a word
        for number, weight in enumerate(weights if isinstance(weights, list | tuple) else ()):
            take(f"{name}/{number}", weight.numpy() if hasattr(weight, "numpy") else weight)
    take("threshold", np.nan if detector.threshold is None else detector.threshold)
    for learned in (detector.calibration, detector.harm):
        for name, array in sorted(({} if learned is None else learned.as_arrays()).items()):
            take(name, array)
    return digest.hexdigest()


# On a worker ----------------------------------------------------------------------------------------------------------


def loaded(ref: GuardRef) -> Guard:
    """The guard, loaded once in each process; raises DetectorNotFound where it was not sent."""
    kind = chosen_kind(ref)
    with _lock:  # the other threads of a worker wait for the first
        guard = _loaded.pop((ref.content, kind), None) or _load(ref, kind)
        _loaded[ref.content, kind] = guard  # now the last one used
        while len(_loaded) > KEPT:
            del _loaded[next(iter(_loaded))]
    return guard


def chosen_kind(ref: GuardRef) -> str:
    """The form of the guard that suits this machine: the detector itself with a GPU, otherwise the exported file."""
    if len(ref.kinds) == 1:
        return ref.kinds[0]
    return LIVE if has_gpu() else ONNX


def has_gpu() -> bool:
    """Whether this process sees an NVIDIA GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return not hidden and any(Path("/dev").glob("nvidia[0-9]*"))


def _load(ref: GuardRef, kind: str) -> Any:
    worker = on_worker()
    file = ref.file(ref.folder if worker is None else worker.local_directory, kind)
    file = file if file.exists() else ref.file(ref.folder, kind)
    if not file.exists():
        raise DetectorNotFound(
            f"the guard {ref.content[:12]} is not on this worker: pass client= to demur.batch.score, so that it is sent"
        )
    if kind == ONNX:
        # One thread a pass: as many passes as the worker has threads run beside each other already.
        return load(file, threads=1)
    import cloudpickle

    if worker is not None:  # a process for this alone, that has not begun to compute
        os.environ.setdefault("KERAS_BACKEND", ref.backend or "tensorflow")
        if not has_gpu():
            # One thread a pass, as above; PyTorch and NumPy follow OMP_NUM_THREADS, which Dask sets by itself.
            os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
            os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    with without_tensorflow():
        return cloudpickle.loads(file.read_bytes())  # only what this job's own client has sent


def on_worker() -> Any:
    """The Dask worker that this runs on, or None."""
    try:
        from distributed import get_worker

        return get_worker()
    except (ImportError, ValueError):
        return None
