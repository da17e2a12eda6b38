"""A Keras model as a classifier, read in log space, with the feature maps of its hidden layers."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from demur.backends import probe
from demur.backends.divergence import Tensor
from demur.classifiers.base import GraphClassifier, agreed, digest_of, settle
from demur.classifiers.outputs import class_count, several_labels, single_output
from demur.errors import NoGraph, NotADistribution, ShapeMismatch, UnknownLayer, WrongType
from demur.private import functional_of, has_graph, layers_within, made_from, no_calls, nodes_of, operation_of
from demur.rows.layout import Field, Layout


class KerasClassifier(GraphClassifier):
    """Reads a Keras model in log space: `x -> [log probabilities, feature map, ...]`.

    Where the model ends in a softmax or, with one output, in a sigmoid, the logits under it are used, so that nothing
    saturates. Where only probabilities can be had, they are clipped at 1e-7. The model itself is neither copied nor
    changed.

    Examples:
        >>> KerasClassifier.accepts(classifier)
        True

    Args:
        model: the classifier, `(n, *input_shape) -> (n, classes)`, or `(n, 1)` of the second of two classes.
        layout: of the rows, for a model that does not know its own.
        from_logits: whether the model returns logits rather than probabilities.
        hidden: layers, by index or name, whose outputs are wanted too, in that order.
        role: what to call the model in error messages.
        channels_last: not used; Keras models take rows as they are.

    Raises:
        WrongType: `model` is not a Keras model.
        ShapeMismatch: the model's output is not `(n, classes)`, or its input is unknown.
        NotADistribution: the output is not a distribution and `from_logits` is not set, or it is one and it is set.
        NoGraph, UnknownLayer: `hidden` cannot be found.
    """

    kind = "a Keras model"

    def __init__(
        self,
        model: Any,
        *,
        layout: Layout | None = None,
        from_logits: bool = False,
        hidden: Sequence[int | str] = (),
        role: str = "classifier",
        channels_last: bool = False,  # noqa: ARG002 - Keras models take rows as they are
    ) -> None:
        super().__init__(dtype="float32", autocast=False)
        if not isinstance(model, keras.Model):
            raise WrongType(f"the {role} must be a Keras model; got {type(model).__name__}")
        self.role = role
        self.model = model
        graph = graph_of(model)
        known = self.known_layout(model)
        self.layout = agreed(known, layout, role)
        self.vocabulary = next(iter(vocabularies(graph).values()), None) if graph is not None else None
        logits = None if graph is None else _logits_tensor(graph)
        if logits is not None and from_logits and role == "classifier":
            raise NotADistribution(
                f"the {role} ends in a {'sigmoid' if logits.shape[-1] == 1 else 'softmax'}, so it returns "
                "probabilities: leave from_logits at False"
            )
        if graph is not None and logits is None and _is_softmax_of_one(graph):
            raise ShapeMismatch(f"the {role} ends in a softmax over one output, which is always 1: make it a sigmoid")
        if graph is not None and _has_sigmoids(graph):
            raise several_labels(role, int(graph.outputs[0].shape[-1]))
        self.is_logits = logits is not None or from_logits
        self.ends_visibly = logits is not None
        features = _feature_tensors(model, graph, hidden)
        if graph is not None:
            output = single_output(list(graph.outputs), role) if logits is None else logits
            self.network = keras.Model(_inputs(graph), [output, *features])
        else:
            self.network = model
            if known is None:
                self.layout, _ = settle(self.layout, lambda x: model(x, training=False), role)
                self._read_tokens(layout)
        self.classes = self._classes(graph)
        self.feature_shapes = [tuple(feature.shape[1:]) for feature in features]
        self.built = True

    def _read_tokens(self, given: Layout | None) -> None:
        """Take whole numbers, given to a model without a graph that holds an Embedding, for tokens."""
        size = _vocabulary_within(self.model)
        if size is not None and isinstance(given, Field) and np.dtype(given.dtype or "float32").kind in "iu":
            self.layout, self.vocabulary = Field(given.shape, TOKENS), size

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return isinstance(model, keras.Model)

    @classmethod
    def known_layout(cls, model: Any) -> Layout | None:
        """The layout of a Keras model's rows, or None if it does not know it yet."""
        graph = graph_of(model)
        if graph is not None:
            return _layout_of_inputs(graph)
        shape = ((model.get_build_config() or {}) if model.built else {}).get("input_shape")
        return (
            None
            if not shape or isinstance(shape, dict) or isinstance(shape[0], list | tuple | dict)
            else Field(tuple(shape[1:]))
        )

    def outputs(self, x: Any, training: bool = False) -> list[Tensor]:
        found = self.network(x, training=training)
        return list(found) if isinstance(found, list | tuple) else [found]

    @classmethod
    def fingerprint_of(cls, model: Any) -> str:
        return digest_of(model.get_weights())

    def _classes(self, graph: Any) -> int:
        """The number of classes, from the graph or, failing that, from a pass over one row of zeros."""
        if graph is not None and self.is_logits:
            return class_count(graph.outputs[0].shape, self.role)
        output = single_output(self.model(probe(self.layout), training=False), self.role)
        classes = class_count((None, *output.shape[1:]), self.role)
        self.check_outputs(ops.convert_to_numpy(ops.cast(output, "float32")))
        return classes


def known_layout(*models: Any) -> Layout | None:
    """The layout of the rows that the first Keras model with a known input takes."""
    found = (KerasClassifier.known_layout(model) for model in models if isinstance(model, keras.Model))
    return next((layout for layout in found if layout is not None), None)


def _layout_of_inputs(graph: Any) -> Layout:
    struct, sizes = graph.input, vocabularies(graph)
    fields = {id(tensor): _field_of(tensor, sizes.get(place)) for place, tensor in enumerate(graph.inputs)}
    if isinstance(struct, dict):
        return {name: fields[id(tensor)] for name, tensor in struct.items()}
    found = tuple(fields[id(tensor)] for tensor in graph.inputs)
    return found[0] if len(found) == 1 else found


def _field_of(tensor: Any, vocabulary: int | None) -> Field:
    """One input of a graph; numbers that only an Embedding reads are tokens, whatever the input's type says."""
    return Field(tuple(tensor.shape[1:]), str(tensor.dtype) if vocabulary is None else TOKENS)


def vocabularies(graph: Any) -> dict[int, int]:
    """The size of the vocabulary, by the place of each input that an Embedding reads.

    An Embedding of its own, one inside a layer or model that takes the input as it is, and one behind a cast count.
    """
    origin = {id(tensor): place for place, tensor in enumerate(graph.inputs)}
    found: dict[int, int] = {}
    nodes = nodes_of(graph)
    for node in nodes:
        places = [origin[id(tensor)] for tensor in node.input_tensors if id(tensor) in origin]
        if not places:
            continue
        operation = node.operation
        if type(operation) is _CastOperation:
            origin |= {id(tensor): places[0] for tensor in node.outputs}
            continue
        inner = graph_of(operation) if isinstance(operation, keras.Model) else None
        if inner is not None:
            sizes = vocabularies(inner)
            found |= {
                origin[id(t)]: sizes[i] for i, t in enumerate(node.input_tensors) if i in sizes and id(t) in origin
            }
        elif (size := _vocabulary_within(operation)) is not None:
            found |= dict.fromkeys(places, size)
    return found


def _vocabulary_within(operation: Any) -> int | None:
    """The size of the largest Embedding in a layer: besides the words, positions may be embedded too."""
    layers = layers_within(operation) if isinstance(operation, keras.layers.Layer) else []
    return max((layer.input_dim for layer in layers if isinstance(layer, keras.layers.Embedding)), default=None)


def _inputs(graph: Any) -> Any:
    """A graph's inputs, in the structure of its layout."""
    if isinstance(graph.input, dict):
        return dict(graph.input)
    return graph.inputs[0] if len(graph.inputs) == 1 else tuple(graph.inputs)


def graph_of(model: Any) -> Any:
    """The Functional model behind a Keras model: itself, or the one a built Sequential holds. None without a graph."""
    functional = functional_of(model) if isinstance(model, keras.Sequential) else model
    # A subclass of keras.Model has inputs only if it was made from them, as a Functional model is.
    if functional is None or not has_graph(functional):
        return None
    return functional


def _logits_tensor(graph: Any) -> Any:  # noqa: PLR0911 - one return for each way a model can end
    """The symbolic tensor under the softmax, or the one sigmoid, that a graph ends in; None if it ends otherwise."""
    if len(graph.outputs) != 1 or len(graph.outputs[0].shape) != 2:
        return None
    operation, arguments = made_from(graph.outputs[0])
    if len(arguments) != 1:
        return None
    (below,) = arguments
    inner = graph_of(operation) if isinstance(operation, keras.Model) else None
    if inner is not None:
        logits = _logits_tensor(inner)
        return None if logits is None else keras.Model(_inputs(inner), logits)(below)
    if type(operation) in (keras.layers.Softmax, _SoftmaxOperation):
        if graph.outputs[0].shape[-1] == 1:
            return None  # the softmax of one number is 1
        return below if operation.axis in (-1, 1) else None
    is_last = is_sigmoid if graph.outputs[0].shape[-1] == 1 else is_softmax
    if type(operation) is _SigmoidOperation and graph.outputs[0].shape[-1] == 1:
        return below
    if not is_last(getattr(operation, "activation", None)):
        return None
    if type(operation) is keras.layers.Activation:
        return below
    if isinstance(operation, keras.layers.Dense) and type(operation).call is keras.layers.Dense.call:
        return without_activation(operation)(below)
    return None


def _has_sigmoids(graph: Any) -> bool:
    """Whether a graph visibly ends in a sigmoid for each of several labels."""
    output = graph.outputs[0]
    operation = operation_of(output)
    several = len(graph.outputs) == 1 and len(output.shape) == 2 and (output.shape[-1] or 0) > 1
    inner = graph_of(operation) if isinstance(operation, keras.Model) else None
    if not several or inner is not None:
        return several and _has_sigmoids(inner)
    return type(operation) is _SigmoidOperation or is_sigmoid(getattr(operation, "activation", None))


def _is_softmax_of_one(graph: Any) -> bool:
    output = graph.outputs[0]
    operation = operation_of(output)
    is_one = len(graph.outputs) == 1 and output.shape[-1] == 1
    is_layer = isinstance(operation, keras.layers.Softmax | _SoftmaxOperation)
    return is_one and (is_layer or getattr(operation, "activation", None) is keras.activations.softmax)


TOKENS = "int32"
"""The type of numbers that an Embedding reads."""
_CastOperation = type(operation_of(ops.cast(keras.KerasTensor((None, 2)), "int32")))
_SoftmaxOperation = type(operation_of(ops.softmax(keras.KerasTensor((None, 2)))))
_SigmoidOperation = type(operation_of(ops.sigmoid(keras.KerasTensor((None, 2)))))


def is_softmax(activation: Any) -> bool:
    """Whether an activation function, of whatever framework, computes the softmax over the last axis."""
    return _computes(activation, ops.softmax)


def is_sigmoid(activation: Any) -> bool:
    """Whether an activation function, of whatever framework, computes the logistic sigmoid."""
    return _computes(activation, ops.sigmoid)


def _computes(activation: Any, expected: Any) -> bool:
    if activation is None:
        return False
    logits = ops.convert_to_tensor([[0.5, -1.0, 3.0], [20.0, 18.0, -5.0]], dtype="float32")
    try:
        result = activation(logits)
        return bool(np.allclose(ops.convert_to_numpy(result), ops.convert_to_numpy(expected(logits)), atol=1e-6))
    except Exception:  # a function of the user's: whatever it does here, it is not that one
        return False


def without_activation(layer: Any) -> Any:
    """A copy of a layer without its activation that shares the weights; the layer is not changed."""
    # copy.copy would not do: Keras layers copy by saving and loading, which makes weights of their own.
    view = object.__new__(type(layer))
    vars(view).update(vars(layer))
    vars(view).update({"name": f"{layer.name}_logits", "activation": keras.activations.linear} | no_calls())
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
    outputs = [node.outputs for node in nodes_of(graph) if node.operation is found[0]]
    if not outputs or len(outputs[0]) != 1:
        raise UnknownLayer(f"layer {key!r} of the classifier has no single output in its graph; choose another layer")
    return outputs[0][0]
