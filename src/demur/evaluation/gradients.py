"""Gradients of any function of a batch, on whichever backend Keras runs: NumPy in, NumPy out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from demur.divergence import Tensor
from demur.forks import computing

Function: TypeAlias = Callable[..., Sequence[Tensor]]
"""`x, *constants -> outputs`, floating-point numbers, each with the rows first."""
Arrays: TypeAlias = list[npt.NDArray[Any]]
Differentiated: TypeAlias = Callable[..., tuple[Arrays, Arrays]]
"""`x, *constants -> (outputs, gradients)`, in NumPy."""


def differentiated(function: Function, count: int = 1, state: Sequence[Any] = ()) -> Differentiated:
    """Compile a function of a batch together with the gradients of its first outputs.

    Rows do not see each other, so the gradient of an output's sum holds each row's own.

    Args:
        function: `x, *constants -> outputs`; the first `count` of them are one number a row, `(n,)`.
        count: of how many outputs, from the first one on, the gradient by `x` is wanted.
        state: Keras variables that the function changes, such as those of random generators: JAX must be told.

    Returns:
        `x, *constants -> (outputs, gradients)`: arrays in, lists of arrays out, each gradient with the shape of `x`.
    """
    make = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[keras.backend.backend()]
    run = make(function, count, state)

    def call(x: npt.NDArray[Any], *constants: npt.NDArray[Any]) -> tuple[Arrays, Arrays]:
        computing()
        outputs, gradients = run(*(ops.convert_to_tensor(array) for array in (x, *constants)))
        return [_numpy(output) for output in outputs], [_numpy(gradient) for gradient in gradients]

    return call


def _numpy(tensor: Tensor) -> npt.NDArray[Any]:
    return np.asarray(ops.convert_to_numpy(ops.stop_gradient(tensor)))


def _on_tensorflow(function: Function, count: int, state: Sequence[Any]) -> Any:  # noqa: ARG001
    import tensorflow as tf

    def run(x: Any, *constants: Any) -> tuple[Any, Any]:
        with tf.GradientTape(persistent=count > 1, watch_accessed_variables=False) as tape:
            tape.watch(x)
            outputs = list(function(x, *constants))
        zero = tf.UnconnectedGradients.ZERO
        return outputs, [tape.gradient(output, x, unconnected_gradients=zero) for output in outputs[:count]]

    xla = None if tf.config.list_physical_devices("GPU") else False

    @functools.cache
    def traced(*signature: Any) -> Any:
        return tf.function(run, input_signature=signature, autograph=False, jit_compile=xla)

    def call(*arrays: Any) -> Any:
        # Traced once for any number of rows.
        return traced(*(tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in arrays))(*arrays)

    return call


def _on_jax(function: Function, count: int, state: Sequence[Any]) -> Any:
    import jax

    @jax.jit  # type: ignore[untyped-decorator]
    def stateless(values: list[Any], x: Any, *constants: Any) -> tuple[Any, Any, Any]:
        def call(x: Any) -> tuple[list[Any], list[Any]]:
            with keras.StatelessScope(state_mapping=list(zip(state, values, strict=True))) as scope:
                outputs = list(function(x, *constants))
            return outputs, [scope.get_current_value(variable) for variable in state]

        outputs, pull_back, after = jax.vjp(call, x, has_aux=True)
        gradients = []
        for i in range(count):
            chosen = [jax.numpy.full_like(output, i == j) for j, output in enumerate(outputs)]
            gradients.append(pull_back(chosen)[0])
        return outputs, gradients, after

    def run(x: Any, *constants: Any) -> tuple[Any, Any]:
        outputs, gradients, after = stateless([variable.value for variable in state], x, *constants)
        for variable, value in zip(state, after, strict=True):
            variable.assign(value)
        return outputs, gradients

    return run


def _on_torch(function: Function, count: int, state: Sequence[Any]) -> Any:  # noqa: ARG001
    import torch

    def run(x: Any, *constants: Any) -> tuple[Any, Any]:
        x = x.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            outputs = list(function(x, *constants))
            gradients = [
                torch.autograd.grad(output.sum(), x, retain_graph=i + 1 < count, allow_unused=True)[0]
                if output.requires_grad
                else None
                for i, output in enumerate(outputs[:count])
            ]
        return outputs, [torch.zeros_like(x) if gradient is None else gradient for gradient in gradients]

    return run
