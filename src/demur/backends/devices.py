"""What training asks of the devices it runs on, and what a step knows of a batch: all of it, or a share."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from demur.rows.layout import mapped

Tensor = Any


class Whole:
    """A batch on one device: each training step sees every row."""

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the batch."""
        return ops.mean(values)

    def std(self, values: Tensor) -> Tensor:
        """The standard deviation over the batch; of no use to a gradient."""
        return ops.std(values)

    def losses(self, companion: Any) -> list[Tensor]:
        """What the companion's layers add to the loss."""
        return list(companion.losses)

    def counted(self, view: Tensor) -> Tensor:
        """The rows of a view that count."""
        return view

    def shown(self, loss: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the batch, and how many rows it counts for in the loss of an epoch."""
        return loss, ops.cast(ops.shape(view)[0], "float32")


class Share(Whole):
    """Some rows of a batch: its means are this share's part of those over the batch, which all shares add up to.

    Args:
        parts: `(n,)`, what each row counts in a mean over the batch: one by all rows of the batch, or 0.
        devices: those that have the other shares.
    """

    def __init__(self, parts: Tensor, devices: "Devices") -> None:
        self.parts, self.devices = parts, devices

    def mean(self, values: Tensor) -> Tensor:
        """This share's part of the mean; of a single value, its part by the number of rows."""
        if len(values.shape) > 1:
            values = ops.mean(values, axis=list(range(1, len(values.shape))))
        return ops.sum(values * self.parts)

    def std(self, values: Tensor) -> Tensor:
        """The standard deviation over the whole batch."""
        center = self.devices.total(self.mean(values))
        return ops.sqrt(self.devices.total(self.mean(ops.square(values - center))))

    def losses(self, companion: Any) -> list[Tensor]:
        """This share's part: of weights' penalties the same on each device, of what a layer adds by its rows.

        Keras divides an activity regularisation by the rows it was computed from: it is a mean, as `add_loss` should
        be given.
        """
        losses = companion.losses  # those of weights come last
        of_layers = len(losses) - sum(weight.regularizer is not None for weight in companion.trainable_weights)
        rows = ops.sum(self.parts)
        return [*(loss * rows for loss in losses[:of_layers]), *(x / self.devices.count for x in losses[of_layers:])]

    def counted(self, view: Tensor) -> Tensor:
        """The rows of a view that count: none of a share that was empty."""
        return view[: ops.sum(ops.cast(self.parts > 0, "int32"))]

    def shown(self, loss: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the whole batch, with the gradient of this share's part."""
        rows = self.devices.weight(ops.sum(ops.cast(self.parts > 0, "float32")))
        return loss + ops.stop_gradient(self.devices.total(loss) - loss), rows


class Devices:
    """One device: nothing is shared out."""

    count = 1
    """How many there are."""
    rank = 0
    """The number of this process among the processes that train together."""
    processes = 1
    """How many processes train together."""
    axes: tuple[int | None, ...] = (None,)
    """The leading axes of every array that is sent."""
    beside: tuple[str, ...] = ()
    """Arrays that are sent beside the rows and their reference, with these leading axes as their shape."""

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, training's own variables are made."""
        return contextlib.nullcontext()

    def own(self, chosen: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rows of a batch that this process draws."""
        return chosen

    def sent(self, inputs: dict[str, Any], rows: int) -> dict[str, Any]:
        """What `own` rows of a batch of so many are sent to the devices as."""
        return inputs

    def received(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Whole]:
        """What was sent, in the step, on one device: its rows, and what they are of the batch."""
        return inputs, Whole()

    def total(self, value: Tensor) -> Tensor:
        """The sum of a value over all devices, in the step; no gradient goes through it."""
        return value

    def weight(self, rows: Tensor) -> Tensor:
        """The weight of a batch in a metric that each device updates, given the rows on each device."""
        return rows

    def all_rows(self, views: list[Tensor]) -> list[Tensor]:
        """What there is of a batch for metrics, `(n, classes)` each, in the step."""
        return views

    def start(self, trainer: Any, callbacks: Sequence[Any]) -> list[Any]:
        """Prepare a trainer and return the callbacks of this process; some are for the first process only."""
        return list(callbacks)

    def step(self, trainer: Any, arguments: Sequence[Any], usual: Callable[..., Any]) -> Any:
        """One training step."""
        return usual(*arguments)

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process."""
        return flag

    def alike(self, value: float) -> float:
        """The first process's value."""
        return value

    def check_alike(self, settings: dict[str, Any]) -> None:
        """Raise InvalidSetting unless all processes have the same settings."""

    def gathered(self, rows: int, compute: Callable[[slice], list[Any]], allocate: Any) -> list[Any]:
        """What is computed of so many rows, each by one process, in all of them; `allocate(shape, dtype)`s arrays."""
        return compute(slice(0, rows))


ONE = Devices()


def spread(rows: int, devices: int) -> npt.NDArray[np.int64]:
    """Which rows of a batch each device gets, `(devices, rows of a share)`, in order; `rows` stands for padding.

    The last shares may have fewer rows than the others, or none.
    """
    share = math.ceil(rows / devices)
    return np.minimum(np.arange(devices * share), rows).reshape(devices, share)


def parts_of(places: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.float32]:
    """What each of these rows counts in a mean over the batch."""
    return np.where(places < rows, np.float32(1 / rows), np.float32(0)).astype("float32")


def each(function: Callable[[Any], Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """Apply a function to each array of a trainer's inputs."""
    return {name: mapped(function, value) for name, value in inputs.items()}
