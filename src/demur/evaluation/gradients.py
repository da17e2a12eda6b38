"""Gradients of any function of a batch, on whichever backend Keras runs: NumPy in, NumPy out."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from keras import ops

from demur import backends
from demur.backends.base import Function, Tensor
from demur.backends.forks import computing

Arrays: TypeAlias = list[npt.NDArray[Any]]
Differentiated: TypeAlias = Callable[..., tuple[Arrays, Arrays]]
"""`x, *constants -> (outputs, gradients)`, in NumPy."""


def differentiated(function: Function, count: int = 1, state: Sequence[Any] = ()) -> Differentiated:
    """Compile a function of a batch together with the gradients of the first outputs.

    Rows do not depend on each other, so the gradient of the sum of an output holds the gradient of each row.

    Args:
        function: `x, *constants -> outputs`; the first `count` outputs are `(n,)`.
        count: of how many outputs, from the first on, the gradient by `x` is wanted.
        state: Keras variables that the function changes, such as the states of random generators: JAX must be told.

    Returns:
        `x, *constants -> (outputs, gradients)`: arrays in, lists of arrays out, each gradient with the shape of `x`.
    """
    run = backends.current().differentiated(function, count, state)

    def call(x: npt.NDArray[Any], *constants: npt.NDArray[Any]) -> tuple[Arrays, Arrays]:
        computing()
        outputs, gradients = run(*(ops.convert_to_tensor(array) for array in (x, *constants)))
        return [_numpy(output) for output in outputs], [_numpy(gradient) for gradient in gradients]

    return call


def _numpy(tensor: Tensor) -> npt.NDArray[Any]:
    return np.asarray(ops.convert_to_numpy(ops.stop_gradient(tensor)))
