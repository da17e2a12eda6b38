"""What a companion must be, whichever detector it serves, and a PyTorch module as one."""

import contextlib
import copy
import stat
import tempfile
from pathlib import Path
from typing import Any

import keras

from demur.backends import computes_with, current, probe
from demur.classifiers.base import Classifier
from demur.classifiers.keras_model import KerasClassifier, graph_of
from demur.classifiers.torch_module import is_module
from demur.errors import CorruptDetector, InvalidSetting, ShapeMismatch, WrongType
from demur.extras import extra
from demur.private import layers_within, without_tensorflow
from demur.rows.layout import Field, Layout, Shape, compatible, describe_layout, mapped


def check_companion(companion: Any, classifier: Classifier, layout: Layout, name: str) -> None:
    """Raise unless the companion is a Keras model for rows of a layout with weights of its own."""
    if not isinstance(companion, keras.Model):
        raise WrongType(
            f"the {name} must be a Keras model or, on the PyTorch backend, a torch.nn.Module; got "
            f"{type(companion).__name__}"
        )
    taken = KerasClassifier.known_layout(companion)
    if taken is not None and not compatible(taken, layout):
        raise ShapeMismatch(
            f"the {name} must take the classifier's inputs, {describe_layout(layout)}; "
            f"it takes {describe_layout(taken)}"
        )
    if graph_of(companion) is None and not isinstance(companion, ModuleCompanion):
        with contextlib.suppress(Exception):  # builds it; what is wrong with it, if anything, shows below
            companion(probe(layout), training=False)
    shared = _shared_weights(companion, classifier.model)
    if shared:
        raise InvalidSetting(
            f"the {name} shares trainable weights with the classifier, which fit must not change: "
            f"{', '.join(shared[:5])}. Give it layers of its own, or set trainable = False on the shared ones"
        )


def _shared_weights(companion: Any, model: Any) -> list[str]:
    if isinstance(model, keras.Model):
        theirs = {id(variable) for variable in model.variables}
        return [variable.path for variable in companion.trainable_variables if id(variable) in theirs]
    if isinstance(companion, ModuleCompanion) and is_module(model):
        theirs = {id(parameter) for parameter in model.parameters()}
        named = companion.module.named_parameters()
        return [name for name, parameter in named if parameter.requires_grad and id(parameter) in theirs]
    return []


def copy_of(model: Any, name: str) -> Any:
    """A companion that starts as the classifier is, all of it to be trained.

    Raises:
        WrongType: the classifier is no network that can be trained here, or it cannot be copied.
    """
    if isinstance(model, keras.Model):
        try:
            companion = _through_a_file(model)
        except Exception as error:
            raise WrongType(
                f"the classifier cannot be copied for a {name}: {error}. If it is a Keras model of your own class, "
                "register that with keras.saving.register_keras_serializable"
            ) from error
        for layer in layers_within(companion):  # of a model that was loaded, Keras does not reach them all by itself
            layer.trainable = True
        return companion
    if is_module(model) and computes_with("torch"):
        module = copy.deepcopy(model)
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        return module
    raise WrongType(
        f"a {name} that starts as a copy needs a classifier that is a Keras model or, on the PyTorch backend, a "
        f"torch.nn.Module; got {type(model).__name__}: leave the ready {name}, or pass one of your own"
    )


def _through_a_file(model: Any) -> Any:
    """A copy of a Keras model without its compile settings: copying these fails where layers are frozen."""
    scope = keras.saving.custom_object_scope({type(model).__name__: type(model)})
    with tempfile.TemporaryDirectory() as folder, scope, without_tensorflow():
        file = Path(folder) / "model.keras"
        model.save(file, include_optimizer=False)
        return keras.models.load_model(file, compile=False, safe_mode=False)  # it was written here and now


def as_companion(companion: Any, name: str) -> Any:
    """A companion that Keras can train: a Keras model unchanged, a PyTorch module wrapped.

    Raises:
        WrongType: a PyTorch module on another backend.
    """
    if not is_module(companion):
        return companion
    if not computes_with("torch"):
        raise WrongType(
            f"the {name} is a PyTorch module, and Keras computes with {current().name}: set "
            'KERAS_BACKEND="torch" before Keras is imported, or pass a Keras model'
        )
    return ModuleCompanion(companion)


class ModuleCompanion(keras.Model):  # type: ignore[misc]
    """A PyTorch module that Keras trains in place. Several inputs are passed by position or by name.

    Args:
        module: a `torch.nn.Module`; its parameters and buffers stay its own.
    """

    def __init__(self, module: Any) -> None:
        super().__init__(dtype="float32", autocast=False, name=type(module).__name__.lower())
        self.__dict__["module"] = module
        self.wrapped = keras.layers.TorchModuleWrapper(module, name="module")
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """Pass a batch through the module, in training or in inference mode."""
        if isinstance(x, dict):
            return self.wrapped(training=training, **x)
        return (
            self.wrapped(*x, training=training) if isinstance(x, tuple | list) else self.wrapped(x, training=training)
        )

    def save(self, filepath: Any, overwrite: bool = True, **_: Any) -> None:
        """Write the module's parameters and buffers as safetensors, whatever the file is called."""
        if not overwrite and Path(filepath).exists():
            raise FileExistsError(f"{filepath} exists")
        save_module(self.module, filepath)

    def get_config(self) -> dict[str, Any]:
        """Nothing: a module is not made again from a configuration."""
        return {}


def is_wrapped(part: Any) -> bool:
    """Whether a companion is a PyTorch module."""
    return isinstance(part, ModuleCompanion)


def save_module(module: Any, path: Any) -> None:
    """Write a PyTorch module's parameters and buffers as safetensors."""
    _safetensors()
    from safetensors.torch import save_model

    file = Path(path)
    file.touch()
    mode = file.stat().st_mode
    save_model(module, str(path))  # in a new file, which its owner alone may read
    file.chmod(stat.S_IMODE(mode))


def _safetensors() -> None:
    with extra("safetensors", "torch"):
        import safetensors  # noqa: F401


def load_module(module: Any, path: Any) -> None:
    """Load what `save_module` wrote into a PyTorch module.

    Raises:
        CorruptDetector: it is the state of another kind of module.
    """
    _safetensors()
    from safetensors.torch import load_model

    try:
        load_model(module, str(path))
    except (RuntimeError, ValueError) as error:
        raise CorruptDetector(f"{path} holds no state of such a {type(module).__name__}: {error}") from error


def structure_of(companion: Any, layout: Layout) -> Any:
    """What a companion returns for one row of zeros, as shapes without the batch."""
    graph = graph_of(companion)
    if graph is not None:
        output = graph.output
        if isinstance(output, list) and len(output) == 1:
            output = output[0]
        return mapped(lambda tensor: tuple(tensor.shape[1:]), output)
    return mapped(lambda tensor: tuple(tensor.shape[1:]), companion(probe(layout), training=False))


def ready_shape(layout: Layout, what: str, instead: str) -> Shape:
    """The row shape that a ready companion can be built for.

    Raises:
        ShapeMismatch: rows are several arrays, or whole numbers that stand for something.
    """
    if not isinstance(layout, Field):
        raise ShapeMismatch(f"no {what} can be built for rows {describe_layout(layout)}: pass your own as {instead}")
    if layout.dtype is not None and layout.dtype in ("int32", "int64"):
        raise ShapeMismatch(
            f"no {what} can be built for rows of whole numbers, such as tokens: pass your own as {instead}"
        )
    return layout.shape
