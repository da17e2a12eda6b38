"""What several files of the contract share."""

from tests.scaffold import compilation  # noqa: I001 - before any of Keras's backends
import torch  # noqa: F401 - before TensorFlow, which must not be the first where both are in one process
from tests.scaffold import models
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
