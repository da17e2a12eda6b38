"""The convention that a caller's things are left as they were found."""

import contextlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from demur.classifiers import source_of
from demur.private import hooks_of, layers_within
from demur.testing.shared import Array, MakeDetector, fit, made


def check_classifier_is_untouched(make_detector: MakeDetector, X: Array) -> None:
    """After any call the classifier is as it was before.

    That is its weights, its BatchNorm statistics and random states, every layer's own `trainable` flag, the state of
    the metrics and of the optimizer it was compiled with, and on PyTorch its gradients, its parameters'
    `requires_grad` and its modules' mode. The same goes for all other networks of the detector but the companion.
    """
    model = made(make_detector).model
    with odd_settings(model):
        states = {"the classifier": (model, state_of(model))}

        def assert_unchanged(call: str) -> None:
            for name, (network, before) in states.items():
                after = state_of(network)
                changed = [what for what in before if not _same(before[what], after.get(what))]
                assert not changed, f"{call} changes {name}: {', '.join(changed[:5])}"
                assert len(after) == len(before), f"{call} adds to {name}: {sorted(set(after) - set(before))[:5]}"

        detector = made(make_detector)
        assert detector.model is model, "make_detector must return detectors on one and the same classifier"
        assert_unchanged("making a detector")
        own = (id(model), id(detector.companion))
        others = {name: part for name, part in detector.parts.items() if id(part) not in own}
        states |= {name: (part, state_of(part)) for name, part in others.items()}
        fit(detector, X)
        assert_unchanged("fit")
        fit(detector, X, preprocess_fn=lambda x: x)
        assert_unchanged("fit with a preprocess_fn")
        detector.infer_threshold(X, threshold_perc=50)
        detector.score(X, return_predictions=True)
        assert_unchanged("score")
        detector.predict(X)
        detector.correct(X)
        assert_unchanged("correct")
        with tempfile.TemporaryDirectory() as folder:
            detector.save(Path(folder) / "detector")
        assert_unchanged("save")


@contextlib.contextmanager
def odd_settings(model: Any) -> Iterator[None]:
    """Give a model states of metrics and its layers `trainable` flags that no code would guess, and put all back after.

    On PyTorch, `requires_grad`, gradients and modes too.
    """
    layers = layers_within(model) if isinstance(model, keras.layers.Layer) else []
    flags = [layer.trainable for layer in layers]
    parameters = list(model.parameters()) if _is_module(model) else []
    required = [parameter.requires_grad for parameter in parameters]
    gradients = [parameter.grad for parameter in parameters]
    modules = list(model.modules()) if parameters else []
    modes = [module.training for module in modules]
    of_metrics = model.metrics_variables if isinstance(model, keras.Model) else []
    metrics = [(variable, np.array(keras.ops.convert_to_numpy(variable))) for variable in of_metrics]
    try:
        for variable, value in metrics:
            variable.assign(value + 1)
        for i, layer in enumerate(layers):
            layer.trainable = i % 3 != 1  # parents come before their children, whose flags they set too
        for i, parameter in enumerate(parameters):
            if parameter.is_floating_point():
                parameter.requires_grad_(i % 3 != 0)
                parameter.grad = parameter.detach().clone()
        for i, module in enumerate(modules):
            module.training = i % 2 == 0
        yield
    finally:
        for variable, value in metrics:
            variable.assign(value)
        for layer, flag in zip(layers, flags, strict=True):
            layer.trainable = flag
        for parameter, requires_grad, gradient in zip(parameters, required, gradients, strict=True):
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def state_of(model: Any) -> dict[str, Any]:
    """Everything of a model that a detector has no business to change, by name."""
    state: dict[str, Any] = {"what it has learned": source_of(model).fingerprint_of(model)}
    if isinstance(model, keras.Model):
        state |= _state_of_keras(model)
    if _is_module(model):
        for name, parameter in model.named_parameters():
            gradient = parameter.grad
            state[f"requires_grad of {name}"] = parameter.requires_grad
            state[f"gradient of {name}"] = "none" if gradient is None else gradient.detach().cpu().numpy().copy()
        for name, buffer in model.named_buffers():
            state[f"buffer {name}"] = buffer.detach().cpu().numpy().copy()
        for name, module in model.named_modules():
            state[f"mode of {name}"] = module.training
            state[f"hooks of {name}"] = hooks_of(module)
    return state


def _is_module(model: Any) -> bool:
    """Whether a model is a PyTorch module; on that backend Keras's are."""
    return hasattr(model, "named_modules") and hasattr(model, "requires_grad_")


def _state_of_keras(model: Any) -> dict[str, Any]:
    optimizer = getattr(model, "optimizer", None)
    variables = {"": model.variables, "metric ": model.metrics_variables}
    variables |= {"optimizer ": optimizer.variables} if optimizer is not None else {}
    state: dict[str, Any] = {}
    for kind, found in variables.items():
        for i, variable in enumerate(found):
            state[f"{kind}{variable.path} ({i})"] = np.array(keras.ops.convert_to_numpy(variable))
    for i, layer in enumerate(layers_within(model)):
        state[f"trainable of {layer.name} ({i})"] = layer.trainable
    return state


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(value, other)
    return type(value) is type(other) and bool(value == other)


def check_arrays_are_unchanged(make_detector: MakeDetector, X: Array) -> None:
    """No call writes to the arrays it is given, not even through a `preprocess_fn` that writes to its batch."""
    rows, held_out = X.copy(), X[::-1].copy()

    def in_place(x: Array) -> Array:
        x *= 0.5
        return x

    detector = made(make_detector)
    fit(detector, rows, preprocess_fn=in_place, validation_data=held_out)
    detector.infer_threshold(rows, threshold_perc=50)
    detector.score(rows)
    detector.predict(rows)
    detector.correct(rows)
    assert np.array_equal(rows, X), "X has been written to"
    assert np.array_equal(held_out, X[::-1]), "validation_data has been written to"


def check_global_random_state_is_unchanged(make_detector: MakeDetector, X: Array) -> None:
    """Making, fitting and scoring draw nothing from Python's and NumPy's global generators, and never seed them."""
    found = random.getstate(), np.random.get_state()
    random.seed(20261123)  # a state that no usual seed would make
    np.random.seed(20261123)
    try:
        before = _global_random_state()

        def assert_unchanged(call: str) -> None:
            changed = [name for name, state in _global_random_state().items() if state != before[name]]
            assert not changed, f"{call} changes the global random state of {', '.join(changed)}"

        detector = made(make_detector)
        assert_unchanged("making a detector")
        fit(detector, X)
        assert_unchanged("fit")
        detector.infer_threshold(X, threshold_perc=50)
        detector.correct(X)
        assert_unchanged("correct")
    finally:
        random.setstate(found[0])
        np.random.set_state(found[1])


def _global_random_state() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {"Python": random.getstate(), "NumPy": (kind, np.asarray(keys).tolist(), *rest)}
