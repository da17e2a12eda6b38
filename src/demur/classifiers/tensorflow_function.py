"""A TensorFlow function, or a SavedModel, as a classifier: inside the graph on the TensorFlow backend."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from demur.backends import computes_with, probe
from demur.backends.divergence import Tensor
from demur.classifiers.base import BlackBoxClassifier, GraphClassifier, agreed, digest_of, settle
from demur.classifiers.outputs import class_count, single_output
from demur.errors import NoGraph, ShapeMismatch
from demur.rows.layout import Field, Layout, mapped


def is_saved(model: Any) -> bool:
    """Whether a model is the path of a SavedModel."""
    return isinstance(model, str | Path) and (Path(model) / "saved_model.pb").is_file()


def is_tensorflow(model: Any) -> bool:
    """Whether a model is a `tf.function`, a `tf.Module`, what `tf.saved_model.load` returns, or a SavedModel's path."""
    if is_saved(model):
        return True
    tf = sys.modules.get("tensorflow")
    if tf is None or isinstance(model, keras.layers.Layer):
        return False
    is_function = hasattr(model, "get_concrete_function") or hasattr(model, "structured_input_signature")
    return (
        is_function
        or isinstance(model, tf.Module)
        or (hasattr(model, "signatures") and hasattr(model, "graph_debug_info"))
    )


def loaded(model: Any) -> Any:
    """A SavedModel, loaded if a path was given.

    Raises:
        MissingExtra: TensorFlow is not installed.
    """
    if not isinstance(model, str | Path):
        return model
    try:
        import tensorflow as tf
    except ImportError:
        from demur.errors import MissingExtra

        raise MissingExtra("tensorflow", "tensorflow") from None
    return tf.saved_model.load(str(model))


def function_of(model: Any) -> tuple[Callable[[Any], Any], Layout | None]:
    """What to call, on a batch of tensors, and the layout of its rows if its signature tells.

    Raises:
        ShapeMismatch: a SavedModel can neither be called nor has one signature to be called by.
    """
    if callable(model):
        return model, _layout_of(getattr(model, "input_signature", None))
    signatures = dict(getattr(model, "signatures", {}))
    signature = signatures.get("serving_default") or (next(iter(signatures.values())) if len(signatures) == 1 else None)
    serve = getattr(model, "serve", None)
    if signature is None and serve is not None:
        return serve, None
    if signature is None:
        raise ShapeMismatch(
            "the SavedModel can neither be called nor has it a signature 'serving_default'; pass one of its functions: "
            f"{', '.join(signatures) or 'it has none'}"
        )
    _, specs = signature.structured_input_signature
    names = list(specs)

    def call(x: Any) -> Any:
        output = signature(**(x if isinstance(x, dict) else {names[0]: x}))
        return next(iter(output.values())) if isinstance(output, dict) and len(output) == 1 else output

    fields = {name: _field(spec) for name, spec in specs.items()}
    return call, fields if len(fields) > 1 else next(iter(fields.values()))


def _field(spec: Any) -> Field:
    return Field(tuple(spec.shape[1:]), spec.dtype.name)


def _layout_of(signature: Any) -> Layout | None:
    if not signature or len(signature) != 1 or not hasattr(signature[0], "dtype") or signature[0].shape.rank is None:
        return None
    return _field(signature[0])


def fingerprint(model: Any) -> str | None:
    """The SHA-256 of the variables of a model or of its function; None if no variables are found."""
    model = loaded(model)
    variables = getattr(model, "variables", None)
    if not variables and hasattr(model, "get_concrete_function"):
        try:
            variables = model.get_concrete_function().variables
        except Exception:  # without a signature it was not traced, or more than once
            traced = list(getattr(model, "_list_all_concrete_functions", list)())
            variables = traced[0].variables if traced else None
    if not variables:
        signatures = list(getattr(model, "signatures", {}).values())
        variables = signatures[0].variables if signatures else None
    return digest_of(variable.numpy() for variable in variables) if variables else None


class TensorFlowClassifier(GraphClassifier):
    """Reads a TensorFlow function or a SavedModel in log space.

    Args:
        model: a `tf.function`, a `tf.Module` with `__call__`, what `tf.saved_model.load` returns (its `__call__` or the
            signature `serving_default`), or the path of a SavedModel.
        layout: of the rows, where the signature does not tell.
        from_logits: whether it returns logits rather than probabilities.
        hidden: must be empty.
        role: what to call it in error messages.
        channels_last: not used; rows are given as they are.
    """

    kind = "a TensorFlow function"

    def __init__(
        self,
        model: Any,
        *,
        layout: Layout | None = None,
        from_logits: bool = False,
        hidden: Sequence[int | str] = (),
        role: str = "classifier",
        channels_last: bool = False,  # noqa: ARG002 - rows are given as they are
    ) -> None:
        super().__init__(dtype="float32", autocast=False)
        _refuse_hidden(hidden)
        self.role = role
        function, known = function_of(model)
        self.__dict__.update(model=model, function=function)
        self.layout, output = _settled(function, agreed(known, layout, role), known is not None, role)
        self.is_logits = from_logits
        self.classes = class_count((None, *output.shape[1:]), role)
        self.check_outputs(ops.convert_to_numpy(ops.cast(output, "float32")))
        self.feature_shapes = []
        self.built = True

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return computes_with("tensorflow") and is_tensorflow(model)

    @classmethod
    def resolved(cls, model: Any) -> Any:
        return loaded(model)

    @classmethod
    def known_layout(cls, model: Any) -> Layout | None:
        return function_of(model)[1]

    def outputs(self, x: Any, training: bool = False) -> list[Tensor]:  # noqa: ARG002 - it is never trained
        return [single_output(self.function(x), self.role)]

    @classmethod
    def fingerprint_of(cls, model: Any) -> str | None:
        return fingerprint(model)


class TensorFlowBlackBox(BlackBoxClassifier):
    """Asks a TensorFlow function where Keras computes with another framework."""

    kind = "a TensorFlow function"
    native = "tensorflow"

    def __init__(self, model: Any, *, layout: Layout, **settings: Any) -> None:
        _refuse_hidden(settings.pop("hidden", ()))
        self.role = role = settings.get("role", "classifier")
        self.function, known = function_of(model)

        def run(x: Any) -> Any:
            return self._called(mapped(lambda tensor: np.array(ops.convert_to_numpy(tensor)), x))

        self.taken, output = _settled(run, agreed(known, layout, role), known is not None, role)
        self.output_shape = tuple(output.shape[1:])
        super().__init__(model, layout=layout, **settings)

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return not computes_with("tensorflow") and is_tensorflow(model)

    @classmethod
    def resolved(cls, model: Any) -> Any:
        return loaded(model)

    @classmethod
    def known_layout(cls, model: Any) -> Layout | None:
        return function_of(model)[1]

    def settled(self, layout: Layout) -> Layout:  # noqa: ARG002 - the function has told which types it takes
        return self.taken

    def known_classes(self) -> int | None:
        return class_count((None, *self.output_shape), self.role)

    def ask(self, rows: Any) -> Any:
        return self._called(mapped(lambda x, field: np.asarray(x, field.dtype), rows, self.taken))

    def _called(self, rows: Any) -> Any:
        import tensorflow as tf

        return single_output(self.function(mapped(tf.constant, rows)), self.role).numpy()

    @classmethod
    def fingerprint_of(cls, model: Any) -> str | None:
        return fingerprint(model)


def _settled(function: Any, layout: Layout, is_typed: bool, role: str) -> tuple[Layout, Any]:
    if is_typed:
        return layout, single_output(function(probe(layout)), role)
    layout, output = settle(layout, function, role)
    return layout, single_output(output, role)


def _refuse_hidden(hidden: Sequence[int | str]) -> None:
    if hidden:
        raise NoGraph(
            "hidden_layer_kld needs a graph of layers, and a TensorFlow function has none. Pass model_hl=[...], Keras "
            "models of your own from the input to a distribution, instead"
        )
