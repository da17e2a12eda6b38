"""Networks of mixed precision, computed in float32 for a while."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from demur.private import layers_within

FULL = "float32"


class _InFull(keras.DTypePolicy):  # type: ignore[misc]
    """Computes in float32 with weights of another type, which Keras then casts."""

    def __init__(self, variable_dtype: str) -> None:
        super().__init__(FULL)
        self._variable_dtype = variable_dtype


@contextlib.contextmanager
def in_float32(layers: Iterable[Any]) -> Iterator[bool]:
    """Have layers, and the layers within them, compute in float32; their weights stay as they are.

    Yields:
        Whether any of them computes in another type otherwise.
    """
    every = {id(layer): layer for outer in layers for layer in layers_within(outer)}
    changed = [(layer, layer.dtype_policy) for layer in every.values() if _is_mixed(layer)]
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(FULL)
        for layer, policy in changed:
            layer.dtype_policy = _InFull(policy.variable_dtype)
        yield bool(changed)
    finally:
        keras.config.set_dtype_policy(before)
        for layer, policy in changed:
            layer.dtype_policy = policy


def _is_mixed(layer: Any) -> bool:
    return str(layer.compute_dtype) in ("float16", "bfloat16")
