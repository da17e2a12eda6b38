"""The devices of a `keras.distribution`, on JAX."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from demur.backends.devices import ONE, Devices, Whole, each, spread
from demur.errors import InvalidSetting
from demur.private import lay_out


class Mesh(Devices):
    """The devices of a `keras.distribution` on JAX.

    The step cuts off what a batch was filled up with and computes on the rows that one device would compute on: the
    compiler shares the work out, and adds up. So whatever looks at several rows (BatchNormalization) or draws random
    numbers does as on one device.
    """

    def __init__(self, distribution: Any) -> None:
        mesh = distribution.device_mesh
        self.distribution = distribution
        self.count = int(mesh.shape[list(mesh.axis_names).index(distribution.batch_dim_name)])

    def sent(self, inputs: dict[str, Any], rows: int) -> dict[str, Any]:
        """Rows filled up to a multiple of the devices; the shape of `filling` tells by how many."""
        places = np.minimum(spread(rows, self.count).reshape(-1), rows - 1)
        missing = len(places) - rows
        if missing:
            inputs = each(lambda array: array[places], inputs)
        return {**inputs, "filling": np.zeros((self.count, missing), "float32")}

    def received(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Whole]:
        """The batch's own rows."""
        inputs = dict(inputs)
        missing = inputs.pop("filling").shape[1]
        if missing:
            inputs = each(lambda array: array[: array.shape[0] - missing], inputs)
        return inputs, Whole()

    def start(self, trainer: Any, callbacks: Sequence[Any]) -> list[Any]:
        """Put what was made before the distribution was set on all devices."""
        for variable in [*trainer.companion.variables, *trainer.optimizer.variables, *trainer.metrics_variables]:
            lay_out(variable, self.distribution)
        return list(callbacks)


def mesh() -> Devices:
    """The devices that a distribution names; one if none is set.

    Raises:
        InvalidSetting: this is one of several processes.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return ONE
    import jax

    if jax.process_count() > 1:
        raise InvalidSetting(
            f"on JAX, fit trains on the devices of one process, and this is one of {jax.process_count()}: for several "
            "hosts use PyTorch, with torchrun"
        )
    return Mesh(distribution)
