"""What several files of the contract share."""

import os
import tempfile

if os.environ.get("KERAS_BACKEND") == "jax":
    # Most of these tests' time on JAX is compilation, of the same programs again and again, for a few small batches.
    _compiled = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if os.environ.get("KERAS_BACKEND") == "torch":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks so small are slower on two threads than on one

import torch  # noqa: F401, I001 - before TensorFlow, which must not be the first where both are in one process
import contract_models
import pytest


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
