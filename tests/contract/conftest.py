"""What several files of the contract share."""

import contract_quickly  # noqa: I001 - before any of Keras's backends
import torch  # noqa: F401 - before TensorFlow, which must not be the first where both are in one process
import contract_models
import keras
import pytest

if keras.backend.backend() == "tensorflow":
    contract_quickly.less_for_each_trace()


@pytest.fixture(scope="session")
def cnn():
    return contract_models.cnn()


@pytest.fixture(scope="session")
def tabular():
    return contract_models.tabular()


@pytest.fixture(scope="session")
def images():
    """48 normal rows, 8x8x1."""
    return contract_models.digits()[0][:48]


@pytest.fixture(scope="session")
def rows():
    """48 normal rows of 13 features."""
    return contract_models.wine()[0][:48]
