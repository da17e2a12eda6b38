"""An exported guard as a runtime of MLServer, which names it in `model-settings.json`. No Keras.

{"name": "digits", "implementation": "demur.mlserver.GuardRuntime", "parameters": {"uri": "./guard.onnx"}}
"""

import asyncio

import numpy as np

from demur.errors import DemurError, MissingExtra
from demur.guards.tensors import Array
from demur.onnx import runtime
from demur.rows.layout import Field, flat, mapped
from demur.rows.rows import Rows
from demur.serve.serving.protocol import (
    BadRequest,
    check_judged,
    check_outputs,
    check_whole,
    datatype_of,
    described,
    threshold_of,
)

try:
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.errors import InferenceError, MLServerError
    from mlserver.types import (
        Datatype,
        InferenceRequest,
        InferenceResponse,
        MetadataModelResponse,
        MetadataTensor,
        Parameters,
        RequestInput,
        ResponseOutput,
    )
    from mlserver.utils import get_model_uri
except ImportError:
    raise MissingExtra("mlserver", "mlserver") from None

__all__ = ["GuardRuntime"]
__dir__ = __all__.copy

FILE = "guard.onnx"
"""What is loaded where the URI is a folder."""
PLATFORM = "onnx_onnxv1"


class GuardRuntime(MLModel):  # type: ignore[misc]
    """Answers requests of the Open Inference Protocol with what a guard says of each row.

    `parameters.uri` is the guard's file, or a folder with a `guard.onnx`. `parameters.extra` may have:

    - `allow_threshold`: true lets requests bring a threshold, in nats, as the parameter `threshold`. It cannot go with
      MLServer's adaptive batching, which merges the parameters of several requests into one.
    - `threads`: threads that one pass may use; by default one a core, in each of MLServer's workers.

    Examples:
        >>> settings = {"name": "digits", "implementation": "demur.mlserver.GuardRuntime",
        ...             "parameters": {"uri": "./guard.onnx", "extra": {"threads": 1}}}
        >>> _ = Path("model-settings.json").write_text(json.dumps(settings))
    """

    async def load(self) -> bool:
        """Load the guard; MLServerError if there is no guard at the URI, or a setting is wrong."""
        path = await get_model_uri(self._settings, wellknown_filenames=[FILE])
        extra = self._settings.parameters.extra or {}
        self._allows_threshold = extra.get("allow_threshold", False)
        if self._allows_threshold not in (True, False):
            raise MLServerError(f"allow_threshold is true or false; got {self._allows_threshold!r}", 422)
        if self._allows_threshold and self._settings.max_batch_size > 1 and self._settings.max_batch_time > 0:
            raise MLServerError(
                "allow_threshold cannot go with adaptive batching, which gives one request's threshold to others: "
                "leave one of allow_threshold and max_batch_time out",
                422,
            )
        try:
            self.guard = await asyncio.to_thread(runtime.load, path, threads=extra.get("threads"))
        except (DemurError, OSError) as error:
            raise MLServerError(str(error), 422) from error
        self.inputs = [MetadataTensor(**entry) for entry in described(self.guard.inputs)]
        self.outputs = [MetadataTensor(**entry) for entry in described(self.guard.outputs)]
        return True

    async def metadata(self) -> MetadataModelResponse:
        """The inputs and outputs of the guard, and which guard it is."""
        found = await super().metadata()
        found.platform = found.platform or PLATFORM
        threshold, names = self.guard.threshold, self.guard.labels.names
        found.parameters = Parameters(
            detector=self.guard.detector,
            sha256=self.guard.sha256,
            threshold=threshold if isinstance(threshold, float) else threshold.tolist(),
            **({} if names is None else {"classes": list(names)}),  # what corrected and the like are indices in
        )
        return found

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a request; InferenceError, with the reason, if there is no answer."""
        guard = self.guard
        names = [output.name for output in payload.outputs or ()] or list(guard.default_outputs)
        try:
            check_outputs(names, guard)
            threshold = threshold_of(getattr(payload.parameters, "threshold", None), is_allowed=self._allows_threshold)
            feed = self._feed(payload.inputs)
            # The score is checked, asked for or not. onnxruntime lets other threads work, so this one can listen.
            found = await asyncio.to_thread(guard.run, feed, list({*names, "instance_score"}), threshold)
            check_judged(found["instance_score"], guard)
        except (BadRequest, DemurError) as error:
            raise InferenceError(str(error)) from error
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[_encoded(name, found[name]) for name in names],
        )

    def _feed(self, inputs: list[RequestInput]) -> dict[str, Array]:
        """The arrays as the guard takes them, checked and cast."""
        guard = self.guard
        given = {entry.name: entry for entry in inputs}
        if given.keys() != guard.inputs.keys() or len(given) < len(inputs):
            got = ", ".join(entry.name[:80] for entry in inputs) or "none"
            raise BadRequest(f"the inputs are {', '.join(guard.inputs)}; got {got}")
        arrays = (_decoded(given[name], field) for name, field in guard.inputs.items())
        # Beside the answers of a classifier outside of the file, rows come as the graph takes them.
        layout = guard.inputs if guard.takes_reference else guard.layout
        decoded = mapped(lambda _: next(arrays), layout)
        # Messages name the one input, or all of them.
        name = next(iter(guard.inputs)) if len(flat(guard.layout)) == 1 else "the inputs"
        rows = Rows.of(decoded, layout, name, finite=guard.on_invalid == "raise")
        return guard.checked(rows.cast().raw) if guard.takes_reference else guard.feed(rows.raw)


def _decoded(entry: RequestInput, field: Field) -> Array:
    name, datatype = entry.name, Datatype(entry.datatype).value  # it may come as a string
    wanted = np.dtype(field.dtype or "float32")
    if datatype == "BYTES":
        raise BadRequest(f"input {name!r} holds numbers, {datatype_of(wanted)}; got BYTES")
    try:
        array: Array = NumpyCodec.decode_input(entry)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRequest(f"input {name!r} is not {datatype} of shape {entry.shape}: {str(error)[:200]}") from error
    check_whole(name, array, wanted)
    return array


def _encoded(name: str, array: Array) -> ResponseOutput:
    return ResponseOutput(
        name=name,
        datatype=datatype_of(array.dtype),
        shape=list(array.shape),
        data=array.ravel().tolist(),
        parameters=Parameters(content_type=NumpyCodec.ContentType),
    )
