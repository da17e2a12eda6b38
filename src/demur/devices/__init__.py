"""Training on several devices: how a batch is shared out among them, and what is added up over the shares.

There is one class for each way in which Keras does it, and one for a single device:

- `Mesh`, a `keras.distribution` on JAX: one program on a batch that lies on all devices; its means are over all rows.
- `Replicas`, TensorFlow's `MirroredStrategy`: one process, and the step runs on every device, on its share of the rows.
- `Ranks`, PyTorch's `torch.distributed`: one process a device, each on its share of the rows.

A batch has the same rows as on one device, so that it has the same loss. It goes out in shares of one size, filled up
with rows that the step cuts off again.
"""

from typing import Any

import keras

from demur.devices.base import ONE, Devices, Share, Whole, spread

__all__ = ["ONE", "Devices", "Share", "Whole", "active", "spread"]


def active(companion: Any) -> Devices:
    """The devices that training shall use, as the caller has said by the means of Keras's backend.

    Args:
        companion: the Keras model to train.

    Raises:
        InvalidSetting: they are of a kind that `fit` does not train on, or the companion does not lie on them.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        from demur.devices.mesh import mesh

        return mesh()
    if backend == "tensorflow":
        from demur.devices.replicas import replicas

        return replicas(companion)
    if backend == "torch":
        from demur.devices.ranks import ranks

        return ranks()
    return ONE
