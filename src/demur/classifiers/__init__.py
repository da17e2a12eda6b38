"""Anything a user calls a classifier, read through one interface: one file a source.

A source is a class that says which models it `accepts`, by their type, and how they are read. One of your own:

    @demur.classifiers.register
    class TritonClassifier(BlackBoxClassifier):
        @classmethod
        def accepts(cls, model): return isinstance(model, TritonModel)
        def ask(self, rows): return self.model.infer(rows)  # (n, classes) probabilities
"""

from collections.abc import MutableSequence
from typing import Any, TypeVar

from demur import backends
from demur.classifiers.base import BlackBoxClassifier, Classifier, GraphClassifier
from demur.classifiers.estimator import EstimatorClassifier
from demur.classifiers.function import BlackBox, FunctionClassifier, PatientClassifier
from demur.classifiers.jax_function import JaxBlackBox, JaxClassifier
from demur.classifiers.keras_model import KerasClassifier
from demur.classifiers.onnx_file import OnnxClassifier
from demur.classifiers.tensorflow_function import TensorFlowBlackBox, TensorFlowClassifier
from demur.classifiers.torch_module import TorchBlackBox, TorchClassifier
from demur.errors import NoGradients, WrongType
from demur.extensions import OrderedRegistry

__all__ = [
    "SOURCES",
    "BlackBox",
    "BlackBoxClassifier",
    "Classifier",
    "GraphClassifier",
    "KerasClassifier",
    "register",
    "source_of",
]
__dir__ = __all__.copy

SOURCES: MutableSequence[type[Classifier]] = OrderedRegistry(
    "demur.classifiers",
    names=lambda source: (source.__name__,),
    known=[
        KerasClassifier,
        TorchClassifier,
        TorchBlackBox,
        JaxClassifier,
        JaxBlackBox,
        TensorFlowClassifier,
        TensorFlowBlackBox,
        OnnxClassifier,
        PatientClassifier,
        EstimatorClassifier,
        FunctionClassifier,
    ],
)
"""The first that accepts a model reads it."""

C = TypeVar("C", bound=type[Classifier])


def register(source: C) -> C:
    """Have a source asked before all others, from now on; a class decorator.

    Examples:
        >>> @register
        ... class Lookup(BlackBoxClassifier):
        ...     @classmethod
        ...     def accepts(cls, model):
        ...         return isinstance(model, dict)
        ...     def ask(self, rows):
        ...         return np.array([self.model[int(row[0])] for row in rows])
        >>> source_of({0: [0.9, 0.1], 1: [0.2, 0.8]}).__name__
        'Lookup'
    """
    SOURCES.insert(0, source)
    return source


def source_of(model: Any) -> type[Classifier]:
    """The source that reads a model.

    Examples:
        >>> source_of(classifier).__name__, source_of(forest).__name__
        ('KerasClassifier', 'EstimatorClassifier')

    Raises:
        WrongType: no source reads such a model.
    """
    for source in SOURCES:
        if source.accepts(model):
            return source
    hint = (
        ". It has predict alone: scikit-learn's CalibratedClassifierCV gives a classifier predict_proba; a regression "
        "model has no classes, and demur cannot guard it"
        if hasattr(model, "predict")
        else ""
    )
    raise WrongType(
        "the classifier must be a Keras model, a torch.nn.Module, a JAX function as (function, parameters), a Flax or "
        "Equinox module, a TensorFlow function or SavedModel, an estimator with predict_proba, an ONNX file or "
        f"session, or a function from a batch of rows to probabilities; got {type(model).__name__}{hint}"
    )


def check_gives_gradients(source: type[Classifier], detector: str) -> None:
    """Raise NoGradients where no gradient goes through the classifiers of a source."""
    if source.in_graph:
        return
    instead = (
        f" while Keras computes with {backends.current().name}: set KERAS_BACKEND={source.native!r} before Keras is "
        "imported, or use ModelDistillation"
        if source.native
        else ": use ModelDistillation, or pass a Keras, PyTorch, JAX or TensorFlow model"
    )
    raise NoGradients(f"{detector} trains through the classifier, and {source.kind} gives no gradients{instead}")
