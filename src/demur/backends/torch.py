"""Keras on PyTorch."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from keras import ops

from demur.backends.base import Backend, Call, Function, Tensor, mapped_deep
from demur.backends.devices import Devices
from demur.private import torch_device
from demur.rows.layout import Field


class Torch(Backend):
    """PyTorch, which computes as it goes."""

    whole = "int64"
    has_many_steps = False
    convolves_channels_first = True
    converter = "onnxscript"

    def compiled(self, call: Call, network: Any, layout: Any) -> Call:
        def eager(x: Any) -> list[Tensor]:
            with torch.no_grad():
                return call(mapped_deep(ops.convert_to_tensor, x))

        return eager

    def differentiated(self, function: Function, count: int, state: Sequence[Any]) -> Callable[..., tuple[Any, Any]]:
        def run(x: Any, *constants: Any) -> tuple[Any, Any]:
            x = x.detach().clone().requires_grad_(True)
            with torch.enable_grad():
                outputs = list(function(x, *constants))
                gradients = [
                    torch.autograd.grad(output.sum(), x, retain_graph=i + 1 < count, allow_unused=True)[0]
                    if output.requires_grad
                    else None
                    for i, output in enumerate(outputs[:count])
                ]
            return outputs, [torch.zeros_like(x) if gradient is None else gradient for gradient in gradients]

        return run

    def input_gradient(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_(True)
            return torch.autograd.grad(function(x).sum(), x)[0]

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield

    @contextlib.contextmanager
    def frozen(self, models: Iterable[Any]) -> Iterator[None]:
        """Weights that no trainer tracks are never updated; their gradients would still be computed and stored."""
        models = list(models)
        parameters = [parameter for model in models for parameter in model.parameters()]
        before = [parameter.requires_grad for parameter in parameters]
        modes = [(module, module.training) for model in models for module in model.modules()]
        try:
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, requires_grad in zip(parameters, before, strict=True):
                parameter.requires_grad_(requires_grad)
            for module, mode in modes:
                module.training = mode

    def devices(self, companion: Any) -> Devices:
        from demur.backends.ranks import ranks

        return ranks()

    def foolbox_model(
        self,
        function: Callable[[Tensor], Tensor],
        layout: Field,
        bounds: tuple[float, float],
        asked: Callable[[], None],
    ) -> Any:
        import foolbox

        class Module(torch.nn.Module):  # type: ignore[misc]
            def forward(self, x: Any) -> Any:
                asked()
                return function(x)

        return foolbox.PyTorchModel(Module().eval(), bounds=bounds, device=torch_device())
