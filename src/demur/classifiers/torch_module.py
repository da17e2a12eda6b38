"""A PyTorch module as a classifier: inside the graph on the PyTorch backend, outside of it on the others."""

import copy
import sys
import threading
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from demur.backends import computes_with
from demur.backends.divergence import Tensor
from demur.classifiers.base import BlackBoxClassifier, GraphClassifier, check_arrays, digest_of, settle
from demur.classifiers.outputs import class_count, several_labels, single_output
from demur.errors import NoGraph, NotADistribution, UnknownLayer, WrongType
from demur.rows.layout import Field, Layout, flat, mapped, probe_rows


def is_module(model: Any) -> bool:
    """Whether a model is a `torch.nn.Module` that Keras did not make."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module) and not isinstance(model, keras.layers.Layer)


def fingerprint(module: Any) -> str:
    """The SHA-256 of a module's parameters and buffers, in the module's order."""
    return digest_of(bits(value) for value in module.state_dict().values() if hasattr(value, "detach"))


def bits(tensor: Any) -> npt.NDArray[Any]:
    """A tensor's values, in NumPy; as bytes where NumPy does not have its type."""
    tensor = tensor.detach().cpu().contiguous()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:  # a type that NumPy does not have, such as bfloat16
        import torch

        return np.asarray(tensor.view(torch.uint8).numpy())


class TorchClassifier(GraphClassifier):
    """Reads a PyTorch module in log space, and hidden layers by their submodules' names, in one pass.

    The module is used through a view that shares its parameters and buffers and is in inference mode for good: the
    module's own modes are never touched, and several threads may use it. Where it returns what a `Softmax`, or with one
    output a `Sigmoid`, of its own returns, the logits under it are used.

    Args:
        model: a `torch.nn.Module`. Several inputs are passed by position (a tuple) or by name (a dict).
        layout: of the rows.
        from_logits: whether the module returns logits rather than probabilities.
        hidden: names of submodules, as `named_modules` has them, whose outputs are wanted too.
        role: what to call the module in error messages.
        channels_last: whether images come as `(n, height, width, channels)`; a module that does not take them so is
            given `(n, channels, height, width)`.
    """

    kind = "a PyTorch module"

    def __init__(
        self,
        model: Any,
        *,
        layout: Layout,
        from_logits: bool = False,
        hidden: Sequence[int | str] = (),
        role: str = "classifier",
        channels_last: bool = False,
    ) -> None:
        super().__init__(dtype="float32", autocast=False)
        self.role = role
        # Set past Keras, which would wrap modules and count their parameters as its own.
        reader = Reader(model, layout, hidden=list(hidden), role=role, channels_last=channels_last)
        self.__dict__.update(model=model, reader=reader)
        reader.check_from_logits(from_logits)
        self.layout = reader.layout
        self.is_logits, self.ends_visibly = from_logits or bool(reader.ends_in), bool(reader.ends_in)
        self.classes = class_count((None, *reader.output_shape), role)
        self.feature_shapes = reader.feature_shapes
        self.built = True

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return computes_with("torch") and is_module(model)

    def outputs(self, x: Any, training: bool = False) -> list[Tensor]:  # noqa: ARG002 - it is never trained
        return self.reader(x)  # type: ignore[no-any-return]

    @classmethod
    def fingerprint_of(cls, model: Any) -> str:
        return fingerprint(model)


class TorchBlackBox(BlackBoxClassifier):
    """Asks a PyTorch module where Keras computes with another framework."""

    kind = "a PyTorch module"
    native = "torch"

    def __init__(self, model: Any, *, layout: Layout, from_logits: bool = False, **settings: Any) -> None:
        channels_last = settings.pop("channels_last", False)
        hidden = settings.pop("hidden", ())
        role = settings.get("role", "classifier")
        self.reader = Reader(model, layout, hidden=[], role=role, channels_last=channels_last)
        self.reader.check_from_logits(from_logits)
        super().__init__(model, layout=layout, from_logits=from_logits or bool(self.reader.ends_in), **settings)
        self.ends_visibly = bool(self.reader.ends_in)
        if hidden:
            raise NoGraph("the hidden layers of a PyTorch module are reached on Keras's PyTorch backend only")

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return not computes_with("torch") and is_module(model)

    def settled(self, layout: Layout) -> Layout:  # noqa: ARG002 - the module has told which types it takes
        return self.reader.layout

    def known_classes(self) -> int | None:
        return class_count((None, *self.reader.output_shape), self.role)

    def ask(self, rows: Any) -> Any:
        import torch

        cast = mapped(lambda x, field: torch.from_numpy(np.array(x, field.dtype, order="C")), rows, self.reader.layout)
        with torch.no_grad():
            return self.reader(cast)[0].float().cpu().numpy()

    @classmethod
    def fingerprint_of(cls, model: Any) -> str:
        return fingerprint(model)


class Reader:
    """A module's view in inference mode, called on rows: returns the output, or the logits, and feature maps."""

    def __init__(self, module: Any, layout: Layout, *, hidden: list[Any], role: str, channels_last: bool) -> None:
        import torch

        check_arrays(layout, role)
        self.role, self.permutes, self.ends_in = role, False, ""
        self.view = inference_view(module)
        self.device = next((tensor.device for tensor in _tensors(self.view)), torch.device("cpu"))
        self._seen = threading.local()
        types = {str(p.dtype).removeprefix("torch.") for p in self.view.parameters() if p.is_floating_point()}
        floating = types.pop() if len(types) == 1 and "bfloat16" not in types else "float32"
        self.floating = getattr(torch, floating)
        self.layout, output = self._settled(layout, floating, channels_last)
        self.output_shape = tuple(single_output(output, role).shape[1:])
        self.features = self._hooked(hidden)
        self._look_under_the_end()
        with torch.no_grad():
            output, *features = self(self._probe(self.layout))
        self.feature_shapes = [tuple(feature.shape[1:]) for feature in features]

    def __call__(self, x: Any) -> list[Any]:
        """Pass a batch through the view, once."""
        self._seen.features = {}
        output = single_output(self._forward(x), self.role)
        features = self._seen.features
        self._seen.features = {}
        return [output, *(features[name] for name in self.features)]

    def check_from_logits(self, from_logits: bool) -> None:
        """Raise NotADistribution if a module is said to return logits and visibly returns probabilities."""
        if from_logits and self.ends_in in ("softmax", "sigmoid"):
            raise NotADistribution(
                f"the {self.role} ends in a {self.ends_in}, so it returns probabilities: leave from_logits at False"
            )

    def _forward(self, x: Any) -> Any:
        x = mapped(lambda tensor: self._as_taken(tensor.to(self.device)), x)
        if isinstance(x, dict):
            return self.view(**x)
        return self.view(*x) if isinstance(x, tuple) else self.view(x)

    def _as_taken(self, tensor: Any) -> Any:
        if tensor.is_floating_point() and tensor.dtype != self.floating:
            tensor = tensor.to(self.floating)
        return tensor.permute(0, 3, 1, 2) if self.permutes and tensor.ndim == 4 else tensor

    def _probe(self, layout: Layout) -> Any:
        import torch

        return mapped(torch.from_numpy, probe_rows(layout))

    def _settled(self, layout: Layout, floating: str, channels_last: bool) -> tuple[Layout, Any]:
        import torch

        def attempt(candidate: Any) -> Any:
            with torch.no_grad():
                return self._forward(mapped(lambda x: torch.as_tensor(np.array(ops.convert_to_numpy(x))), candidate))

        images = any(len(field.shape) == 3 for field in flat(layout) if isinstance(field, Field))
        for self.permutes in (False, True) if channels_last and images else (False,):
            try:
                return settle(layout, attempt, self.role, floating)
            except Exception:
                if self.permutes or not (channels_last and images):
                    raise
        raise AssertionError("unreachable")

    def _hooked(self, hidden: list[Any]) -> list[str]:
        """Have submodules leave their outputs where a call finds them."""
        modules = dict(self.view.named_modules())
        for name in hidden:
            if name not in modules or name == "":
                listed = ", ".join(key for key in modules if key)
                raise UnknownLayer(f"the classifier has no submodule {name!r}; its submodules are {listed}")

            def keep(_module: Any, _inputs: Any, output: Any, name: str = name) -> None:
                if not hasattr(output, "detach"):
                    raise UnknownLayer(f"submodule {name!r} returns no single tensor; choose another")
                # Cloned, as what follows may write into it: ReLU(inplace=True), or a residual `out += x`.
                getattr(self._seen, "features", {})[name] = output.clone()

            modules[name].register_forward_hook(keep)
        if hidden:
            import torch

            self._seen.features = {}
            with torch.no_grad():
                self._forward(self._probe(self.layout))
            silent = [name for name in hidden if name not in self._seen.features]
            if silent:
                raise UnknownLayer(f"submodule {silent[0]!r} is not called by the classifier's forward; choose another")
        return hidden

    def _look_under_the_end(self) -> None:
        """Where the module returns what a Softmax or a Sigmoid of its own returned, make that return what it took."""
        import torch

        ends = (torch.nn.Softmax, torch.nn.Sigmoid, torch.nn.LogSoftmax)
        calls: list[tuple[Any, Any]] = []
        watched = [
            module.register_forward_hook(lambda m, _inputs, output: calls.append((m, output)))
            for module in self.view.modules()
            if type(module) in ends
        ]
        with torch.no_grad():
            output = single_output(self._forward(self._probe(self.layout)), self.role)
        for handle in watched:
            handle.remove()
        last = [module for module, returned in calls if returned is output]
        if len(last) != 1 or sum(module is last[0] for module, _ in calls) != 1:
            return
        (end,) = last
        several = output.ndim == 2 and output.shape[1] > 1
        if type(end) is torch.nn.Sigmoid and several:
            raise several_labels(self.role, output.shape[1])
        if type(end) is torch.nn.Sigmoid:
            self.ends_in = "sigmoid"
        elif type(end) is torch.nn.Softmax and several and end.dim in (-1, 1):
            self.ends_in = "softmax"
        elif type(end) is torch.nn.LogSoftmax and several:
            self.ends_in = "log-softmax"  # which is logits already
            return
        else:
            return
        end.register_forward_hook(lambda _module, inputs, _output: inputs[0])


def _tensors(module: Any) -> list[Any]:
    return [*module.parameters(), *module.buffers()]


def inference_view(module: Any) -> Any:
    """A copy of a module's structure, in inference mode, on the very same parameters and buffers.

    Raises:
        WrongType: the module holds something that cannot be copied.
    """
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    shared = {id(tensor): tensor for tensor in _tensors(module)}
    try:
        view = copy.deepcopy(module, shared)
    except Exception as error:
        raise WrongType(
            f"the module {type(module).__name__} cannot be read in inference mode without being changed, because it "
            f"cannot be copied: {error}. Pass a function of NumPy arrays instead, for ModelDistillation"
        ) from error
    return view.eval()
