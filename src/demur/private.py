"""Names of Keras, TensorFlow, JAX and uvicorn that are not public and that demur needs: each once, with what is public.

A new release of one of them that has other names breaks this file, and no other. `tests/unit/test_private.py` finds
such names elsewhere. Nothing is imported here that is not imported already.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any


def layers_within(layer: Any) -> list[Any]:
    """A Keras layer and all layers inside it.

    `Model.layers` has the outermost ones only, and none of those that a layer which is no model holds.
    """
    return list(layer._flatten_layers())


def functional_of(sequential: Any) -> Any:
    """The Functional model that a built Sequential holds, or None: `Sequential.layers` has no tensors."""
    return getattr(sequential, "_functional", None)


def has_graph(model: Any) -> bool:
    """Whether a Keras model was made from its inputs and outputs, as a Functional one is.

    `keras.models.Functional` is the class of some of them: a subclass may be made so, and may be not.
    """
    return bool(getattr(model, "_nodes_by_depth", None))


def nodes_of(graph: Any) -> list[Any]:
    """The calls that a Functional model is made of, from its inputs to its outputs; `Model.layers` has no tensors."""
    return [node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]]


def operation_of(tensor: Any) -> Any:
    """The operation that made a symbolic tensor."""
    return tensor._keras_history.operation


def made_from(tensor: Any) -> tuple[Any, list[Any]]:
    """The operation that made a symbolic tensor, and the tensors that it made it from.

    `Operation.input` is for operations that are called once.
    """
    operation, node, _ = tensor._keras_history
    return operation, operation._inbound_nodes[node].input_tensors


def no_calls() -> dict[str, Any]:
    """The attributes of an operation with which no tensor has been made yet: cloning a layer makes other weights."""
    return {"_inbound_nodes": [], "_outbound_nodes": []}


def lost(variable: Any) -> bool:
    """Whether a variable's value has gone into a compiled step: reading `Variable.value` fails where it has."""
    return variable._value is None


def lay_out(variable: Any, distribution: Any) -> None:
    """Put a variable that was made before a `keras.distribution` was set where that wants it."""
    variable._layout = None
    variable._layout = distribution.get_variable_layout(variable)
    variable.assign(variable.value)


def torch_device() -> str:
    """Where Keras puts tensors on PyTorch: `torch.get_default_device` knows nothing of it."""
    return str(sys.modules["keras"].src.backend.torch.core.get_device())


@contextlib.contextmanager
def tensorflow_seed_kept() -> Iterator[None]:
    """Leave TensorFlow's global seed and generator as they were: `tf.random` only sets them."""
    eager = sys.modules["tensorflow.python.eager.context"].context()
    before = {name: getattr(eager, name) for name in ("_seed", "_rng") if hasattr(eager, name)}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(eager, name, value)


def has_begun_to_compute() -> bool:
    """Whether TensorFlow or JAX has started the threads that a forked process lacks: asking them would start them."""
    tensorflow = getattr(sys.modules.get("tensorflow.python.eager.context"), "context_safe", lambda: None)()
    jax = getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None)
    return bool(getattr(tensorflow, "_initialized", False) or jax)


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Keep Keras from importing TensorFlow, which takes seconds, while it saves, loads or copies on another backend.

    Keras asks of each thing that it writes whether it is TensorFlow's, and imports TensorFlow to ask; as long as
    nobody else has imported TensorFlow, nothing is.
    """
    lazy = None
    if "tensorflow" not in sys.modules:
        with contextlib.suppress(ImportError, AttributeError):  # parts of Keras that may have another name one day
            lazy = importlib.import_module("keras.src.utils.module_utils").tensorflow
            before, lazy._available = lazy._available, False
    try:
        yield
    finally:
        if lazy is not None:
            lazy._available = before


def first_epoch(trainer: Any) -> int:
    """The epoch at which a Keras trainer begins; an optimizer's steps do not tell it."""
    return int(trainer._initial_epoch or 0)


def begin_at(trainer: Any, epoch: int) -> None:
    """Have a Keras trainer begin at an epoch: `fit(initial_epoch=)` is overridden by what it found in a backup."""
    trainer._initial_epoch = epoch or None


def hooks_of(module: Any) -> int:
    """How many hooks a PyTorch module has: there is no public way to ask."""
    return len(module._forward_hooks) + len(module._forward_pre_hooks)


def columns_of(frame: Any) -> Any:
    """An empty DataFrame with the columns of one of Dask; `DataFrame.dtypes` has no index."""
    return frame._meta
