"""What demur needs of a backend, as Keras gives it on all of them; each backend's own file says what it does better."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from demur.backends.devices import ONE, Devices
from demur.rows.layout import Field, Layout, mapped, probe_rows

Tensor: TypeAlias = Any
Call: TypeAlias = Callable[[Any], list[Tensor]]
"""A batch in, tensors out."""
Function: TypeAlias = Callable[..., Sequence[Tensor]]
"""`x, *constants -> outputs`, floating-point numbers, each with the rows first."""


class Backend:
    """A backend of Keras.

    Args:
        name: as Keras calls it.

    Attributes:
        whole: the type of whole numbers that classes and tokens have.
        compared: the type of those that the backend's own argmax returns.
        has_many_steps: whether `steps_per_execution` is known.
        compiles_in_python: whether Keras's loop around a training step costs as much as a small step.
        counts_rows: whether what is compiled is compiled anew for each number of rows.
        convolves_channels_first: whether convolutions take `(channels, height, width)`.
        converter: the package that writes ONNX files.
    """

    whole = "int32"
    compared = "int64"
    has_many_steps = True
    compiles_in_python = False
    counts_rows = False
    convolves_channels_first = False
    converter = "onnx"

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def xla(self) -> bool | str:
        """`jit_compile` for Keras: its own choice, but where that is slow."""
        return "auto"

    def compiled(self, call: Call, network: Any, layout: Any) -> Call:
        """Compile a call of a network for inference: a batch, cast already, in; tensors out.

        Args:
            call: the network's call, without training.
            network: a Keras layer or model.
            layout: of the batch, a structure of fields that may be nested.
        """
        return lambda x: call(keras.tree.map_structure(ops.convert_to_tensor, x))

    def differentiated(self, function: Function, count: int, state: Sequence[Any]) -> Callable[..., tuple[Any, Any]]:
        """Compile a function of a batch with the gradients of its first outputs; see `demur.evaluation.gradients`."""
        raise NotImplementedError(f"there are no gradients on {self.name}")

    def input_gradient(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """The gradient of a function's sum by its argument, inside whatever the backend is compiling."""
        raise NotImplementedError(f"there are no gradients on {self.name}")

    def seeded(self, seed: int) -> contextlib.AbstractContextManager[None]:
        """Start the backend's global generator at a seed; afterwards restore its state."""
        return contextlib.nullcontext()

    def stateless(self) -> contextlib.AbstractContextManager[Any]:
        """What a gradient is asked for in, outside of any training."""
        return contextlib.nullcontext()

    def frozen(self, models: Iterable[Any]) -> contextlib.AbstractContextManager[None]:
        """Keep gradients away from models for a while, and leave everything as it was found."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def kept(self, variables: Iterable[Any]) -> Iterator[None]:
        """Have variables keep their values where training fails in the middle of a step."""
        yield

    def devices(self, companion: Any) -> Devices:
        """The devices that training shall use, as the caller has said by the means of the backend.

        Args:
            companion: the Keras model to train.

        Raises:
            InvalidSetting: they are of a kind that `fit` does not train on, or the companion does not lie on them.
        """
        return ONE

    def fed(self, batches: Any) -> Any:
        """Batches (`demur.network.feed.Drawn`) as Keras's `fit` shall take them."""
        return batches if batches.again else batches.once()

    def constants(self) -> Mapping[str, npt.NDArray[Any]]:
        """The tensors from outside that the graph in the making has taken for inputs, by name."""
        return {}

    def foolbox_model(
        self,
        function: Callable[[Tensor], Tensor],
        layout: Field,
        bounds: tuple[float, float],
        asked: Callable[[], None],
    ) -> Any:
        """A function of a batch that returns logits, as foolbox takes it; `asked` is called before each batch."""
        raise NotImplementedError(f"foolbox has no models on {self.name}")


def probe(layout: Layout) -> Any:
    """One row of zeros, in the backend's tensors."""
    return mapped(ops.convert_to_tensor, probe_rows(layout))


def mapped_deep(function: Callable[[Any], Any], structure: Any) -> Any:
    """Apply a function to each array of a nested structure; lists and tuples become tuples."""
    if isinstance(structure, dict | list | tuple):
        return mapped(lambda part: mapped_deep(function, part), structure)
    return function(structure)


def on_asking(asked: Callable[[], None], network: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A network that calls a function whenever it is asked."""

    def call(x: Any) -> Any:
        asked()
        return network(x)

    return call


def no_rows(shapes: Iterable[Sequence[int | None]], types: Iterable[Any]) -> list[npt.NDArray[Any]]:
    """Arrays of no rows, of these shapes."""
    return [np.zeros((0, *(size or 0 for size in shape[1:])), kind) for shape, kind in zip(shapes, types, strict=True)]
