"""Seeds for code that draws from global generators, which are left as they were found."""

import contextlib
import random
from collections.abc import Iterator

import keras
import numpy as np


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While it lasts, every global generator starts at a seed; afterwards they are as they were."""
    state, python = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        with _backend_seeded(seed):
            yield
    finally:
        np.random.set_state(state)
        random.setstate(python)


@contextlib.contextmanager
def _backend_seeded(seed: int) -> Iterator[None]:
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    elif backend == "jax":
        with _eagerpy_seeded(seed):
            yield
    else:
        import tensorflow as tf
        from tensorflow.python.eager import context  # nothing public tells the seed

        eager = context.context()
        before = {name: getattr(eager, name) for name in ("_seed", "_rng") if hasattr(eager, name)}
        tf.random.set_seed(seed)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(eager, name, value)


@contextlib.contextmanager
def _eagerpy_seeded(seed: int) -> Iterator[None]:
    """Foolbox draws through eagerpy, which keeps a key of its own on JAX."""
    try:
        import eagerpy
        import jax
    except ImportError:
        yield
        return
    before, eagerpy.JAXTensor.key = eagerpy.JAXTensor.key, jax.random.PRNGKey(seed)
    try:
        yield
    finally:
        eagerpy.JAXTensor.key = before
