"""Keras on JAX."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import keras

from demur.backends.base import Backend, Call, Function, Tensor, on_asking, probe
from demur.backends.devices import Devices
from demur.private import lost
from demur.rows.layout import Field


class Jax(Backend):
    """JAX, whose compiled functions get the values of variables as arguments, and hand back what becomes of them."""

    compared = "int32"
    counts_rows = True
    converter = "jax2onnx"

    def compiled(self, call: Call, network: Any, layout: Any) -> Call:
        network(keras.tree.map_structure(probe, layout))  # build
        variables = network.variables

        @jax.jit  # type: ignore[untyped-decorator]
        def stateless(values: list[Any], x: Any) -> list[Any]:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return call(x)

        return lambda x: stateless([variable.value for variable in variables], x)

    def differentiated(self, function: Function, count: int, state: Sequence[Any]) -> Callable[..., tuple[Any, Any]]:
        @jax.jit  # type: ignore[untyped-decorator]
        def stateless(values: list[Any], x: Any, *constants: Any) -> tuple[Any, Any, Any]:
            def call(x: Any) -> tuple[list[Any], list[Any]]:
                with keras.StatelessScope(state_mapping=list(zip(state, values, strict=True))) as scope:
                    outputs = list(function(x, *constants))
                return outputs, [scope.get_current_value(variable) for variable in state]

            outputs, pull_back, after = jax.vjp(call, x, has_aux=True)
            gradients = []
            for i in range(count):
                chosen = [jax.numpy.full_like(output, i == j) for j, output in enumerate(outputs)]
                gradients.append(pull_back(chosen)[0])
            return outputs, gradients, after

        def run(x: Any, *constants: Any) -> tuple[Any, Any]:
            outputs, gradients, after = stateless([variable.value for variable in state], x, *constants)
            for variable, value in zip(state, after, strict=True):
                variable.assign(value)
            return outputs, gradients

        return run

    def input_gradient(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return jax.grad(lambda x: function(x).sum())(x)

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """JAX has no global generator; foolbox draws through eagerpy, which keeps a key of its own."""
        try:
            import eagerpy
        except ImportError:
            yield
            return
        before, eagerpy.JAXTensor.key = eagerpy.JAXTensor.key, jax.random.PRNGKey(seed)
        try:
            yield
        finally:
            eagerpy.JAXTensor.key = before

    def stateless(self) -> contextlib.AbstractContextManager[Any]:
        return keras.StatelessScope()  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def kept(self, variables: Iterable[Any]) -> Iterator[None]:
        """Training takes the weights out of a model during the first step, and loses them if that step fails."""
        before = [(variable, variable.numpy()) for variable in variables]
        try:
            yield
        except BaseException:
            for variable, value in before:
                if lost(variable):
                    variable.assign(value)
            raise

    def devices(self, companion: Any) -> Devices:
        from demur.backends.mesh import mesh

        return mesh()

    def foolbox_model(
        self,
        function: Callable[[Tensor], Tensor],
        layout: Field,
        bounds: tuple[float, float],
        asked: Callable[[], None],
    ) -> Any:
        import foolbox

        return foolbox.JAXModel(on_asking(asked, jax.jit(function)), bounds=bounds)
