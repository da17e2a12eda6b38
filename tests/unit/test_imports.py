"""What needs no Keras does not import it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["demur", "demur.errors", "demur.calibration", "demur.metrics", "demur.data", "demur.cli"]
)
def test_import_leaves_keras_alone(module):
    code = f"import sys, {module}; print(sorted({{'keras', 'tensorflow', 'torch', 'jax'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_there_and_listed():
    import demur

    for name in demur.__all__:
        assert getattr(demur, name) is not None
        assert name in dir(demur)
    with pytest.raises(AttributeError, match="no attribute 'Detectors'"):
        _ = demur.Detectors
