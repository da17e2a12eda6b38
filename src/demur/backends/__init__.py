"""What differs between TensorFlow, JAX and PyTorch: one object for the backend that Keras computes with.

Nothing else in demur that computes asks which backend that is.
"""

import functools
import importlib

import keras

from demur.backends.base import Backend, mapped_deep, probe
from demur.backends.devices import ONE, Devices, Share, Whole, spread

__all__ = ["ONE", "Backend", "Devices", "Share", "Whole", "computes_with", "current", "mapped_deep", "probe", "spread"]

BACKENDS = {"tensorflow": "TensorFlow", "jax": "Jax", "torch": "Torch"}
"""The class of each, in the module of the backend's name; others get what Keras gives on all of them."""


def current() -> Backend:
    """The backend that Keras computes with."""
    return _made(keras.backend.backend())


def computes_with(name: str) -> bool:
    """Whether Keras computes with a backend: "tensorflow", "jax" or "torch"."""
    return current().name == name


@functools.cache
def _made(name: str) -> Backend:
    if name not in BACKENDS:
        return Backend(name)
    return getattr(importlib.import_module(f"demur.backends.{name}"), BACKENDS[name])(name)  # type: ignore[no-any-return]
