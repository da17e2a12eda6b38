"""What JAX computes as a classifier: a function with parameters, a Flax linen or NNX module, an Equinox module.

Each is reduced to a pure function `parameters, x -> output`: inside the graph on the JAX backend, else outside.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from demur.backends import computes_with
from demur.backends.divergence import Tensor
from demur.classifiers.base import BlackBoxClassifier, GraphClassifier, digest_of, settle
from demur.classifiers.outputs import class_count, single_output
from demur.errors import NoGraph
from demur.rows.layout import Layout, mapped

Pure = tuple[Callable[[Any, Any], Any], Any]
"""A function `parameters, x -> output`, and its parameters."""

INFERENCE = {"train": False, "training": False, "is_training": False, "deterministic": True, "inference": True}
"""What arguments that choose between training and inference are called, and their value in inference."""


def _is_a(model: Any, module: str, name: str) -> bool:
    found = sys.modules.get(module)
    return found is not None and isinstance(model, getattr(found, name))


def _is_pair(model: Any) -> bool:
    return (
        "jax" in sys.modules
        and isinstance(model, tuple)
        and len(model) == 2
        and (callable(model[0]) or _is_a(model[0], "flax.linen", "Module"))
    )


def is_jax(model: Any) -> bool:
    """Whether a model is a function (or linen module) with its parameters, or a module of Flax or Equinox."""
    return (
        _is_pair(model)
        or _is_a(model, "flax.linen", "Module")
        or _is_a(model, "flax.nnx", "Module")
        or (_is_a(model, "equinox", "Module") and callable(model))
    )


def pure(model: Any) -> Pure:
    """A model as a pure function in inference mode, and its parameters.

    Raises:
        NoGraph: it is a linen module without parameters.
    """
    if _is_a(model, "flax.linen", "Module"):
        if model.scope is None:
            raise NoGraph(
                "a Flax linen module has no parameters of its own: pass model=(module, variables), or "
                "model=module.bind(variables)"
            )
        model = model.unbind()
    if isinstance(model, tuple):
        function, parameters = model
        if _is_a(function, "flax.linen", "Module"):
            settings = _inference_arguments(type(function).__call__)
            return lambda variables, x: function.apply(variables, x, **settings), parameters
        settings = _inference_arguments(function)
        return (lambda values, x: function(values, x, **settings)), parameters
    if _is_a(model, "flax.nnx", "Module"):
        return _pure_nnx(model)
    return _pure_equinox(model)


def _inference_arguments(function: Any) -> dict[str, bool]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in INFERENCE.items() if name in parameters}


def _pure_nnx(model: Any) -> Pure:
    from flax import nnx

    graph, state = nnx.split(model)
    settings = _inference_arguments(type(model).__call__)

    def apply(values: Any, x: Any) -> Any:
        module = nnx.merge(graph, values)
        module.eval()  # of this copy: Dropout and BatchNorm
        return module(x, **settings)

    return apply, state


def _pure_equinox(model: Any) -> Pure:
    import equinox
    import jax

    arrays, rest = equinox.partition(model, equinox.is_array)
    settings = _inference_arguments(type(model).__call__)

    def apply(values: Any, x: Any) -> Any:
        module = equinox.nn.inference_mode(equinox.combine(values, rest))
        return jax.vmap(functools.partial(module, **settings))(x)  # Equinox's modules take one row

    return apply, arrays


class JaxClassifier(GraphClassifier):
    """Reads what JAX computes in log space. Equinox modules, which take one row, are mapped over the batch.

    Args:
        model: `(function, parameters)` with `function(parameters, x)`; `(linen module, variables)` or a bound linen
            module; an NNX module; an Equinox module. Arguments called `train`, `training`, `is_training`,
            `deterministic` or `inference` are given their value in inference. Several inputs come as one tuple or dict.
        layout: of the rows.
        from_logits: whether it returns logits rather than probabilities.
        hidden: must be empty.
        role: what to call it in error messages.
        channels_last: not used; rows are given as they are.
    """

    kind = "a JAX function"

    def __init__(
        self,
        model: Any,
        *,
        layout: Layout,
        from_logits: bool = False,
        hidden: Sequence[int | str] = (),
        role: str = "classifier",
        channels_last: bool = False,  # noqa: ARG002 - rows are given as they are
    ) -> None:
        import jax

        super().__init__(dtype="float32", autocast=False)
        _refuse_hidden(hidden)
        self.role = role
        self.__dict__["model"] = model
        function, parameters = pure(model)
        leaves, structure = jax.tree_util.tree_flatten(parameters)
        are_arrays = [isinstance(leaf, jax.Array | np.ndarray) and not _is_key(leaf) for leaf in leaves]
        # Variables of Keras, so that compiled programs take the parameters as arguments and do not hold copies of them.
        self.held = [
            keras.Variable(leaf, dtype=str(leaf.dtype), trainable=False, name=f"parameter_{i}")
            for i, (leaf, is_array) in enumerate(zip(leaves, are_arrays, strict=True))
            if is_array
        ]
        others = [None if is_array else leaf for leaf, is_array in zip(leaves, are_arrays, strict=True)]

        def apply(x: Any) -> Any:
            arrays = iter(self.held)
            values = [next(arrays).value if is_array else o for o, is_array in zip(others, are_arrays, strict=True)]
            return single_output(function(jax.tree_util.tree_unflatten(structure, values), x), role)

        self.__dict__["apply"] = apply
        self.layout, output = settle(layout, apply, role)
        self.is_logits = from_logits
        self.classes = class_count((None, *output.shape[1:]), role)
        self.check_outputs(ops.convert_to_numpy(ops.cast(output, "float32")))
        self.feature_shapes = []
        self.built = True

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return computes_with("jax") and is_jax(model)

    @property
    def title(self) -> str:
        return title(self.model)

    def outputs(self, x: Any, training: bool = False) -> list[Tensor]:  # noqa: ARG002 - it is never trained
        return [self.apply(x)]

    @classmethod
    def fingerprint_of(cls, model: Any) -> str:
        return fingerprint(model)

    def tracked(self) -> list[Any]:
        return [self]


class JaxBlackBox(BlackBoxClassifier):
    """Asks what JAX computes where Keras computes with another framework."""

    kind = "a JAX function"
    native = "jax"

    def __init__(self, model: Any, *, layout: Layout, **settings: Any) -> None:
        import jax

        _refuse_hidden(settings.pop("hidden", ()))
        function, parameters = pure(model)
        compiled = jax.jit(function)
        self.apply: Callable[[Any], Any] = lambda x: compiled(parameters, x)
        role = settings.get("role", "classifier")
        self.taken, output = settle(
            layout, lambda x: self.apply(mapped(lambda t: np.array(ops.convert_to_numpy(t)), x)), role
        )
        self.output_shape = tuple(single_output(output, role).shape[1:])
        super().__init__(model, layout=layout, **settings)

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return not computes_with("jax") and is_jax(model)

    @property
    def title(self) -> str:
        return title(self.model)

    def settled(self, layout: Layout) -> Layout:  # noqa: ARG002 - the function has told which types it takes
        return self.taken

    def known_classes(self) -> int | None:
        return class_count((None, *self.output_shape), self.role)

    def ask(self, rows: Any) -> Any:
        output = self.apply(mapped(lambda x, field: np.asarray(x, field.dtype), rows, self.taken))
        return np.asarray(single_output(output, self.role), "float32")

    @classmethod
    def fingerprint_of(cls, model: Any) -> str:
        return fingerprint(model)


def title(model: Any) -> str:
    """What to call a model."""
    return (
        str(getattr(model[0], "__name__", type(model[0]).__name__))
        if isinstance(model, tuple)
        else type(model).__name__
    )


def fingerprint(model: Any) -> str:
    """The SHA-256 of a model's parameters, in the order of their tree."""
    import jax

    _, parameters = pure(model)
    leaves = (leaf for leaf in jax.tree_util.tree_leaves(parameters) if hasattr(leaf, "dtype"))
    return digest_of(jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in leaves)


def _is_key(leaf: Any) -> bool:
    import jax

    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _refuse_hidden(hidden: Sequence[int | str]) -> None:
    if hidden:
        raise NoGraph(
            "hidden_layer_kld needs a graph of layers, and a JAX function has none. Pass model_hl=[...], Keras models "
            "of your own from the input to a distribution, instead"
        )
