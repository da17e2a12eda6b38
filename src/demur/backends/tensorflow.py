"""Keras on TensorFlow."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from demur.backends.base import Backend, Call, Function, Tensor, mapped_deep, no_rows, on_asking
from demur.backends.devices import Devices
from demur.private import tensorflow_seed_kept
from demur.rows.layout import Field, flat


class TensorFlow(Backend):
    """TensorFlow, traced. XLA is left off on a CPU, where it halves the speed of training and of inference."""

    compiles_in_python = True
    converter = "tf2onnx"

    @property
    def xla(self) -> bool | str:
        return "auto" if self._has_gpu else False

    @property
    def _has_gpu(self) -> bool:
        return bool(tf.config.list_physical_devices("GPU"))

    def compiled(self, call: Call, network: Any, layout: Any) -> Call:
        signature = [keras.tree.map_structure(lambda field: tf.TensorSpec([None, *field.shape], field.dtype), layout)]
        xla = None if self._has_gpu else False
        function = tf.function(call, input_signature=signature, jit_compile=xla, autograph=False)
        run = function.get_concrete_function()  # looking it up anew costs 0.15 ms a call
        if isinstance(layout, Field):
            return lambda x: run(tf.constant(x))
        return lambda x: run(mapped_deep(tf.constant, x))

    def differentiated(self, function: Function, count: int, state: Sequence[Any]) -> Callable[..., tuple[Any, Any]]:
        def run(x: Any, *constants: Any) -> tuple[Any, Any]:
            with tf.GradientTape(persistent=count > 1, watch_accessed_variables=False) as tape:
                tape.watch(x)
                outputs = list(function(x, *constants))
            zero = tf.UnconnectedGradients.ZERO
            return outputs, [tape.gradient(output, x, unconnected_gradients=zero) for output in outputs[:count]]

        @functools.cache
        def traced(*signature: Any) -> Any:
            xla = None if self._has_gpu else False
            return tf.function(run, input_signature=signature, autograph=False, jit_compile=xla)

        def call(*arrays: Any) -> Any:
            # Traced once for any number of rows.
            return traced(*(tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in arrays))(*arrays)

        return call

    def input_gradient(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x))
        return tape.gradient(total, x)

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        with tensorflow_seed_kept():
            tf.random.set_seed(seed)
            yield

    def devices(self, companion: Any) -> Devices:
        from demur.backends.replicas import replicas

        return replicas(companion)

    def fed(self, batches: Any) -> Any:
        """A `tf.data.Dataset` that draws the batches, two ahead of the training step.

        Keras would make one by itself, with `from_generator` and autotuning. On TensorFlow 2.21 the first makes the
        whole process return freed memory to the system at once, and the second can hold an epoch up, idle, at its end:
        docs/results/speed.md.
        """
        fields, axes = flat(batches.layout), batches.devices.axes
        beside = batches.devices.beside
        floats = [*batches.reference_shapes, *(() for _ in beside)]
        types = [*(tf.as_dtype(field.dtype) for field in fields), *(tf.float32 for _ in floats)]
        shapes = [[*axes, *shape] for shape in (*(field.shape for field in fields), *floats)]
        once = None if batches.again else batches.once()

        def draw(index: npt.NDArray[Any]) -> list[Any]:
            if once is not None:
                drawn = next(once, None)
                if drawn is None:
                    return [False, *no_rows(shapes, [kind.as_numpy_dtype for kind in types])]
                return [True, *_arrays(drawn[0], beside)]
            (inputs,) = batches[int(index)]
            if index == len(batches) - 1:
                batches.on_epoch_end()
            return [True, *_arrays(inputs, beside)]

        def shaped(_: Any, *arrays: Any) -> Any:
            for array, shape in zip(arrays, shapes, strict=True):
                array.set_shape(shape)
            x, more = arrays[: len(fields)], arrays[len(fields) :]
            reference, others = more[: len(batches.reference_shapes)], more[len(batches.reference_shapes) :]
            names = batches.layout if isinstance(batches.layout, dict) else None
            structure = dict(zip(names, x, strict=True)) if names is not None else tuple(x)
            inputs = {"x": structure if isinstance(batches.layout, dict | tuple) else x[0]}
            inputs |= {"reference": tuple(reference)} if reference else {}
            return ({**inputs, **dict(zip(beside, others, strict=True))},)

        steps = tf.data.Dataset.counter() if once is not None else tf.data.Dataset.range(len(batches))
        dataset = steps.map(lambda index: tuple(tf.numpy_function(draw, [index], [tf.bool, *types])))
        if once is not None:
            dataset = dataset.take_while(lambda more, *_: more)
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.map(shaped).prefetch(2).with_options(options)

    def constants(self) -> Mapping[str, npt.NDArray[Any]]:
        captures = getattr(tf.compat.v1.get_default_graph(), "captures", [])
        return {inner.name: outer.numpy() for outer, inner in captures if inner.dtype not in (tf.resource, tf.variant)}

    def foolbox_model(
        self,
        function: Callable[[Tensor], Tensor],
        layout: Field,
        bounds: tuple[float, float],
        asked: Callable[[], None],
    ) -> Any:
        import foolbox

        # Traced once for any number of rows; and foolbox asks for a GPU in a way that TensorFlow warns of.
        network = tf.function(
            function, input_signature=[tf.TensorSpec([None, *layout.shape], "float32")], autograph=False
        )
        device = "GPU:0" if self._has_gpu else "CPU:0"
        return foolbox.TensorFlowModel(on_asking(asked, network), bounds=bounds, device=device)


def _arrays(inputs: dict[str, Any], beside: Sequence[str]) -> list[npt.NDArray[np.generic]]:
    return [*flat(inputs["x"]), *inputs.get("reference", ()), *(inputs[name] for name in beside)]
