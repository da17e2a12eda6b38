"""A real guard, exported once from the small detector that is in the repository."""

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "parity" / "data" / "adversarial_ae"


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory):
    """A saved detector, calibrated; importing Keras takes seconds."""
    pytest.importorskip("onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        from demur.starting import start_keras

        start_keras()
        from demur import load_detector

        detector = load_detector(FOLDER)
        rows = np.random.default_rng(0).random((200, *detector.input_shape), "float32")
        detector.infer_threshold(rows, fpr=0.05)
        path = tmp_path_factory.mktemp("serve") / "digits"
        detector.save(path)
        detector.export(path.with_suffix(".onnx"))
    return path


@pytest.fixture(scope="session")
def guard_file(detector_folder):
    """The same as a guard in an ONNX file."""
    return detector_folder.with_suffix(".onnx")
