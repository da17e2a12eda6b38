"""A Keras model as a classifier, read in log space, with the feature maps of its hidden layers."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from demur.data import Shape, describe
from demur.divergence import Tensor, log_probabilities, log_softmax
from demur.errors import NoGraph, NotADistribution, ShapeMismatch, UnknownLayer, WrongType

SUM_TOLERANCE = 1e-2
"""How far from 1 a row of probabilities may sum: generous enough for float16."""


class KerasClassifier(keras.layers.Layer):  # type: ignore[misc]
    """Reads a Keras model in log space: `x -> [log probabilities, feature map, ...]`.

    Where the model ends in a softmax, the logits under it are used, so that nothing saturates. Where only
    probabilities can be had, they are clipped at 1e-7. The model itself is neither copied nor changed.

    Args:
        model: the classifier, `(n, *input_shape) -> (n, classes)`.
        from_logits: whether the model returns logits rather than probabilities.
        hidden: layers, by index or name, whose outputs are wanted too, in that order.
        role: what to call the model in error messages.
        fallback_shape: the shape of one row, for a model that does not know its own.

    Raises:
        WrongType: `model` is not a Keras model.
        ShapeMismatch: the model's output is not `(n, classes)` with at least two classes, or its input is unknown.
        NotADistribution: the output is not a distribution and `from_logits` is not set, or it is one and it is set.
        NoGraph, UnknownLayer: `hidden` cannot be found.
    """

    def __init__(
        self,
        model: Any,
        *,
        from_logits: bool = False,
        hidden: Sequence[int | str] = (),
        role: str = "classifier",
        fallback_shape: Shape | None = None,
    ) -> None:
        super().__init__(dtype="float32", autocast=False)
        if not isinstance(model, keras.Model):
            raise WrongType(f"the {role} must be a Keras model; got {type(model).__name__}")
        self.role = role
        self.model = model
        graph = graph_of(model)
        self.row_shape = _row_shape(model, graph, role, fallback_shape)
        self.row_dtype = str(graph.inputs[0].dtype) if graph is not None else "float32"
        logits = None if graph is None else _logits_tensor(graph)
        if logits is not None and from_logits and role == "classifier":
            raise NotADistribution(
                f"the {role} ends in a softmax, so it returns probabilities: leave from_logits at False"
            )
        self.is_logits = logits is not None or from_logits
        features = _feature_tensors(model, graph, hidden)
        if graph is not None:
            output = graph.outputs[0] if logits is None else logits
            self.network = keras.Model(graph.inputs[0], [output, *features])
        else:
            self.network = model
        self.classes = self._classes(graph)
        self.feature_shapes: list[Shape] = [tuple(feature.shape[1:]) for feature in features]
        self.built = True

    def call(self, x: Tensor, training: bool = False) -> list[Tensor]:
        """Return the log-probabilities `(n, classes)`, float32, and the feature maps that were asked for."""
        outputs = self.network(x, training=training)
        output, *features = outputs if isinstance(outputs, list | tuple) else [outputs]
        return [log_softmax(output) if self.is_logits else log_probabilities(output), *features]

    def probe(self) -> Any:
        """One row of zeros that the model accepts."""
        return ops.zeros([1, *(32 if size is None else size for size in self.row_shape)], dtype=self.row_dtype)

    def check_probabilities(self, probabilities: Any) -> None:
        """Raise NotADistribution unless each row of what the model returned is one (logits always are)."""
        if self.is_logits:
            return
        p = np.asarray(probabilities, dtype="float64")
        if np.isfinite(p).all() and (p.min() < -SUM_TOLERANCE or np.abs(p.sum(axis=-1) - 1).max() > SUM_TOLERANCE):
            raise NotADistribution(
                f"the {self.role} must return class probabilities: rows of numbers from 0 to 1 that sum to 1; "
                f"got a row that sums to {p.sum(axis=-1).flat[np.abs(p.sum(axis=-1) - 1).argmax()]:.4g} with smallest "
                f"number {p.min():.4g}. If it returns logits, pass from_logits=True"
            )

    def _classes(self, graph: Any) -> int:
        """The number of classes, from the graph or, failing that, from a pass over one row of zeros."""
        if graph is not None and len(graph.outputs) != 1:
            raise ShapeMismatch(f"the {self.role} must return one array (n, classes); got {len(graph.outputs)} outputs")
        if graph is not None and self.is_logits:
            shape = tuple(graph.outputs[0].shape)
        else:
            output = self.model(self.probe(), training=False)
            if isinstance(output, list | tuple | dict):
                raise ShapeMismatch(f"the {self.role} must return one array (n, classes); got {len(output)} outputs")
            shape = (None, *output.shape[1:])
            if len(shape) == 2 and shape[1] is not None and shape[1] > 1:
                self.check_probabilities(ops.convert_to_numpy(ops.cast(output, "float32")))
        if len(shape) != 2 or shape[1] is None or shape[1] < 2:
            raise ShapeMismatch(
                f"the {self.role} must return (n, classes) with at least two classes; got {describe(shape[1:])}"
            )
        return int(shape[1])


def graph_of(model: Any) -> Any:
    """The Functional model behind a Keras model: itself, or the one a built Sequential holds. None without a graph."""
    functional = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    # A subclass of keras.Model has inputs only if it was made from them, as a Functional model is.
    if functional is None or not getattr(functional, "_nodes_by_depth", None):
        return None
    return functional


def row_shape(model: Any) -> Shape | None:
    """The shape of one input row of a Keras model, or None if it does not know it yet."""
    graph = graph_of(model)
    if graph is not None:
        return tuple(graph.inputs[0].shape[1:]) if len(graph.inputs) == 1 else None
    shape = ((model.get_build_config() or {}) if model.built else {}).get("input_shape")
    return None if shape is None or isinstance(shape[0], list | tuple | dict) else tuple(shape[1:])


def _row_shape(model: Any, graph: Any, role: str, fallback: Shape | None) -> Shape:
    if graph is not None and len(graph.inputs) != 1:
        raise ShapeMismatch(f"the {role} must take one array; got {len(graph.inputs)} inputs")
    shape = row_shape(model) or fallback
    if shape is None:
        raise ShapeMismatch(
            f"the {role} {type(model).__name__} does not know the shape of its input yet: call it once on a batch, "
            "model(X[:1])"
        )
    if fallback is not None and not fits_either(shape, fallback):
        raise ShapeMismatch(f"the {role} must take inputs of shape {describe(fallback)}; it takes {describe(shape)}")
    return shape


def fits_either(shape: Shape, other: Shape) -> bool:
    """Whether two row shapes, each with unknown sizes perhaps, can be the same."""
    return len(shape) == len(other) and all(a is None or b is None or a == b for a, b in zip(shape, other, strict=True))


def _logits_tensor(graph: Any) -> Any:  # noqa: PLR0911 - one return for each way a model can end
    """The symbolic tensor under the softmax a graph ends in, or None if it ends otherwise."""
    if len(graph.outputs) != 1 or len(graph.outputs[0].shape) != 2:
        return None
    operation, node_index, _ = graph.outputs[0]._keras_history
    arguments = operation._inbound_nodes[node_index].input_tensors
    if len(arguments) != 1:
        return None
    (below,) = arguments
    inner = graph_of(operation) if isinstance(operation, keras.Model) else None
    if inner is not None:
        logits = _logits_tensor(inner)
        return None if logits is None else keras.Model(inner.inputs[0], logits)(below)
    if type(operation) in (keras.layers.Softmax, _SoftmaxOperation):
        return below if operation.axis in (-1, 1) else None
    if not is_softmax(getattr(operation, "activation", None)):
        return None
    if type(operation) is keras.layers.Activation:
        return below
    if isinstance(operation, keras.layers.Dense) and type(operation).call is keras.layers.Dense.call:
        return without_activation(operation)(below)
    return None


_SoftmaxOperation = type(ops.softmax(keras.KerasTensor((None, 2)))._keras_history.operation)


def is_softmax(activation: Any) -> bool:
    """Whether an activation function, of whatever framework, computes the softmax over the last axis."""
    if activation is None:
        return False
    logits = ops.convert_to_tensor([[0.5, -1.0, 3.0], [20.0, 18.0, -5.0]], dtype="float32")
    try:
        result = activation(logits)
        return bool(np.allclose(ops.convert_to_numpy(result), ops.convert_to_numpy(ops.softmax(logits)), atol=1e-6))
    except Exception:  # a function of the user's: whatever it does here, it is not a softmax
        return False


def without_activation(layer: Any) -> Any:
    """A view of a layer that shares its weights and leaves out its activation; the layer itself stays as it is."""
    # copy.copy would not do: Keras layers copy by saving and loading, which makes weights of their own.
    view = object.__new__(type(layer))
    vars(view).update(vars(layer))
    vars(view).update(
        name=f"{layer.name}_logits", activation=keras.activations.linear, _inbound_nodes=[], _outbound_nodes=[]
    )
    return view


def _feature_tensors(model: Any, graph: Any, hidden: Sequence[int | str]) -> list[Any]:
    if not hidden:
        return []
    if graph is None:
        raise NoGraph(
            f"hidden_layer_kld needs a functional or sequential classifier; {type(model).__name__} is subclassed and "
            "has no graph of layers. Pass model_hl=[...], models of your own from the input to a distribution, instead"
        )
    return [_feature_tensor(model, graph, key) for key in hidden]


def _feature_tensor(model: Any, graph: Any, key: int | str) -> Any:
    names = [layer.name for layer in model.layers]
    found = [layer for layer in model.layers if layer.name == key] if isinstance(key, str) else model.layers[key:][:1]
    if not found or (isinstance(key, int) and not -len(names) <= key < len(names)):
        listed = ", ".join(f"{index}: {name}" for index, name in enumerate(names))
        raise UnknownLayer(f"the classifier has no layer {key!r}; its layers are {listed}")
    outputs = [node.outputs for nodes in graph._nodes_by_depth.values() for node in nodes if node.operation is found[0]]
    if not outputs or len(outputs[-1]) != 1:
        raise UnknownLayer(f"layer {key!r} of the classifier has no single output in its graph; choose another layer")
    return outputs[-1][0]
