"""The conventions of `save` and `load_detector`."""

import copy
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np

from demur.detectors.saved import load_detector
from demur.testing.shared import Array, MakeDetector, assert_same_scores, fit, made


def check_save_and_load_give_the_same_detector(make_detector: MakeDetector, X: Array) -> None:
    """Saved and loaded, round after round, a detector scores the same to 1e-6 and keeps its settings and threshold.

    The folder holds `detector.json`, `.keras` files, which in turn hold JSON and HDF5, `.safetensors` files of what
    PyTorch learned, and one `.npz` file of arrays of numbers, the calibration: no pickle, nothing else. A classifier
    that is no Keras model is given when loading.
    """
    detector = made(make_detector).infer_threshold(X, threshold_perc=80)
    scores, settings, p_values = detector.score(X), detector.settings, detector.predict(X)["data"]["p_value"]
    loaded = detector
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(3):
            path = Path(folder) / f"round {round_}"
            loaded.save(path)
            _check_files(path)
            loaded = loaded_as(path, detector)
            assert type(loaded) is type(detector), f"a {type(detector).__name__} loads as a {type(loaded).__name__}"
            what = f"after {round_ + 1} rounds of saving and loading"
            assert_same_scores(loaded.score(X), scores, f"other scores {what}", tolerance=1e-6)
            assert loaded.threshold == detector.threshold, f"the threshold is {loaded.threshold} {what}"
            one_step = 1.001 / (len(X) + 1)  # a score that rounding moves past its like moves a p-value by one instance
            found = loaded.predict(X)["data"]["p_value"]
            assert_same_scores(found, p_values, f"other p-values {what}", tolerance=one_step)
            assert loaded.settings == settings, f"the settings are {loaded.settings} {what}"
            assert loaded.meta == detector.meta, f"meta is {loaded.meta} {what}"


def loaded_as(path: Path, detector: Any) -> Any:
    """Load a detector, giving what is not saved of one like it."""
    model = None if isinstance(detector.model, keras.Model) else detector.model
    module = getattr(detector.companion, "module", None)
    companion = None if module is None else copy.deepcopy(module)
    own = detector.companion_preprocess
    return load_detector(path, model=model, companion=companion, companion_preprocess=own)


def _check_files(path: Path) -> None:
    found = sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))
    document = json.loads((path / "detector.json").read_text(encoding="utf-8"))
    named = sorted(["detector.json", *(entry["file"] for entry in document["files"].values())])
    assert found == named, f"the folder holds {found}; detector.json names {named}"
    assert document["versions"]["keras"] == keras.__version__, "detector.json does not name the Keras version"
    for name in found:
        if name == "detector.json":
            continue
        if name.endswith(".safetensors"):
            continue  # numbers and their names: nothing else fits in
        assert name.endswith((".keras", ".npz")), f"{name} is neither detector.json nor a .keras or .npz file"
        with zipfile.ZipFile(path / name) as archive:
            members = archive.namelist()
        plain = (".json", ".h5") if name.endswith(".keras") else (".npy",)
        odd = [member for member in members if not member.endswith(plain)]
        assert not odd, f"{name} holds {odd}: neither of {', '.join(plain)}"
        if name.endswith(".npz"):
            with np.load(path / name, allow_pickle=False) as arrays:
                kinds = {arrays[key].dtype.kind for key in arrays}
                assert kinds <= set("biufU"), f"{name} holds more than numbers and text"


def check_save_replaces_the_old_detector(make_detector: MakeDetector, X: Array) -> None:
    """Saving over a detector leaves the new one alone in the folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector"
        detector = made(make_detector)
        detector.save(path)
        old = detector.score(X)
        # a large step, so that the new scores are others for sure
        fit(detector, X, optimizer=keras.optimizers.Adam(0.02)).infer_threshold(X)
        new = detector.score(X)
        assert abs(new - old).max() > 1e-3, "an epoch of training at a high rate does not change the scores"
        detector.save(path)
        _check_files(path)
        loaded = loaded_as(path, detector)
        assert_same_scores(loaded.score(X), new, "saving over a detector does not replace it", tolerance=1e-6)
        assert loaded.threshold == detector.threshold, "saving over a detector keeps the old threshold"


def check_a_failed_save_leaves_the_old_detector(make_detector: MakeDetector, X: Array) -> None:
    """A save that fails half-way leaves the detector that was there as it was, and nothing where nothing was."""
    detector = made(make_detector).infer_threshold(X, threshold_perc=80)
    saved, calls = keras.Model.save, []
    written = sum(isinstance(part, keras.Model) for part in detector.parts.values())

    def failing(model: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(model)
        if len(calls) == written:
            raise OSError("the disk is full")
        saved(model, *args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder) / "old", Path(folder) / "new"
        detector.save(old)
        before = {file: file.read_bytes() for file in old.rglob("*")}
        detector.threshold, threshold = 1e9, detector.threshold
        for path in (old, new):
            calls.clear()
            message = None
            try:
                with mock.patch.object(keras.Model, "save", failing):
                    detector.save(path)
            except OSError as error:
                message = str(error)
            assert message is not None, "save swallows a failure"
            assert "the disk is full" in message, f"the failure is reported as another: {message}"
        after = {file: file.read_bytes() for file in old.rglob("*")}
        assert after == before, "a failed save changes the folder of the detector that was there"
        assert loaded_as(old, detector).threshold == threshold, "a failed save changes the detector that was there"
        assert not new.exists(), "a failed save to a new place leaves something there"
