"""The devices of a `MirroredStrategy`, on TensorFlow."""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from demur.backends.devices import ONE, Devices, Share, Tensor, Whole, each, parts_of, spread
from demur.errors import InvalidSetting
from demur.private import layers_within


class Replicas(Devices):
    """The devices of a `MirroredStrategy`."""

    def __init__(self, strategy: Any) -> None:
        self.strategy, self.count = strategy, strategy.num_replicas_in_sync
        self.axes, self.beside = (self.count, None), ("parts",)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """The strategy's."""
        return self.strategy.scope()  # type: ignore[no-any-return]

    def sent(self, inputs: dict[str, Any], rows: int) -> dict[str, Any]:
        """Shares, `(devices, rows of a share, ...)`: TensorFlow gives one to each device."""
        places = spread(rows, self.count)
        inputs = each(lambda array: array[np.minimum(places, rows - 1)], inputs)
        return {**inputs, "parts": parts_of(places, rows)}

    def received(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Whole]:
        """This device's rows: its own, or one that counts nothing if it has none."""
        inputs = each(lambda array: array[0], inputs)
        own = ops.maximum(ops.sum(ops.cast(inputs["parts"] > 0, "int32")), 1)
        inputs = each(lambda array: array[:own], inputs)
        return inputs, Share(inputs.pop("parts"), self)

    def total(self, value: Tensor) -> Tensor:
        """Their sum over the devices."""
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        value = tf.stop_gradient(value)
        return value if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, value)

    def start(self, trainer: Any, callbacks: Sequence[Any]) -> list[Any]:
        """Make the optimizer's variables, which cannot be made on one of the devices.

        Replicas take turns where they wait for one another, and a layer keeps one list of losses for all of them.

        Raises:
            InvalidSetting: the losses of several replicas would be mixed up, or TensorFlow cannot train so.
        """
        if getattr(trainer.optimizer, "_distribution_strategy", self.strategy) is not self.strategy:
            raise InvalidSetting("the optimizer must be made inside of `with strategy.scope():`, as what it trains")
        if trainer.steps_per_execution > 1 or trainer.jit_compile is True:
            raise InvalidSetting(
                "under a MirroredStrategy, TensorFlow takes neither steps_per_execution nor jit_compile"
            )
        layers = layers_within(trainer.companion)
        if any(getattr(layer, "synchronized", False) for layer in layers) and any(
            layer.activity_regularizer is not None for layer in layers
        ):
            raise InvalidSetting(
                "under a MirroredStrategy, Keras mixes up the activity regularisation of the replicas where a layer is "
                "synchronized=True: leave out either of the two"
            )
        trainer.optimizer.build(trainer.trainable_variables)
        return list(callbacks)


def replicas(companion: Any) -> Devices:
    """The devices of the strategy under which a companion was made; one device if there was no strategy.

    Raises:
        InvalidSetting: of a strategy of another kind, or one that the companion was not made under.
    """
    import tensorflow as tf

    here = [tf.distribute.get_strategy()] if tf.distribute.has_strategy() else []
    made_in = [getattr(variable.value, "distribute_strategy", None) for variable in companion.variables]
    many = [found for found in [*made_in, *here] if found is not None and found.num_replicas_in_sync > 1]
    strategy = next(iter([*many, *here]), None)
    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        if strategy is None or strategy.num_replicas_in_sync == 1:
            return ONE
        raise InvalidSetting(
            f"on TensorFlow, fit trains on several devices under a MirroredStrategy; got a {type(strategy).__name__}"
        )
    if any(found is not strategy for found in [*made_in, *here]):
        raise InvalidSetting(
            "what is trained must be made under the strategy it is trained with: make (or load) the classifier and the "
            "detector, with any network and optimizer that you pass, inside of `with strategy.scope():`"
        )
    return Replicas(strategy)
