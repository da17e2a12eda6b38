"""What several files of the contract share."""

from tests.scaffold import compilation  # noqa: I001 - before any of Keras's backends
import torch  # noqa: F401 - before TensorFlow, which must not be the first where both are in one process
from tests.scaffold import models
from tests.conftest import FIRST
import keras
import pytest

if keras.backend.backend() == "tensorflow":
    compilation.less_for_each_trace()


@pytest.fixture(scope="session")
def cnn():
    return models.cnn()


@pytest.fixture(scope="session")
def tabular():
    return models.tabular()


@pytest.fixture(scope="session")
def images():
    """48 normal rows, 8x8x1."""
    return models.digits()[0][:48]


@pytest.fixture(scope="session")
def rows():
    """48 normal rows of 13 features."""
    return models.wine()[0][:48]


@pytest.fixture(autouse=True)
def eager_steps(request, monkeypatch):
    """Have all but the first case of each test take TensorFlow's training steps eagerly, unless `--traced` is given.

    To trace a step takes as long as ten steps, and most tests train for fewer.
    """
    if keras.backend.backend() != "tensorflow" or request.node.stash[FIRST] or request.config.getoption("traced"):
        return
    from demur.network.trainer import Trainer

    compiled = Trainer.compile
    eager = {"run_eagerly": True, "jit_compile": False}
    monkeypatch.setattr(Trainer, "compile", lambda self, **settings: compiled(self, **{**settings, **eager}))
