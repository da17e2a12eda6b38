"""What the server does over any transport: checks requests, runs them, and describes what is served."""

import asyncio
import logging
import time
from typing import Any

import numpy as np

from demur._version import __version__
from demur.errors import DemurError
from demur.guards.tensors import Array, Arrays, TensorGuard
from demur.rows.layout import Field, fits
from demur.serve.serving.batcher import Batcher
from demur.serve.serving.detector import verdicts
from demur.serve.serving.models import POLL_SECONDS, Models, Served, version_of
from demur.serve.serving.protocol import (
    CLIENT_GONE,
    BadRequest,
    InferRequest,
    InferResponse,
    ProtocolError,
    check_judged,
    check_outputs,
    check_whole,
    described,
    shape_of,
    shown,
    threshold_of,
)
from demur.serve.settings import Settings
from demur.serve.watching.telemetry import Telemetry
from demur.serve.watching.watch import Watch

logger = logging.getLogger("demur.serve.service")

EXTENSIONS = ["binary_tensor_data"]


class Service:
    """Answers requests to the models; made and used in one event loop.

    Examples:
        >>> from demur.serve.models import Models, load_guard
        >>> service = Service(Models.load(["guard.onnx"], load_guard), Settings(monitor=False))
        >>> [served.name for served in service.models.values()]
        ['guard']

    Args:
        models: what is served.
        settings: how; None for the defaults.

    Attributes:
        telemetry: counts what happens.
        is_stopping: whether the server shuts down.
    """

    def __init__(self, models: Models, settings: Settings | None = None) -> None:
        self.models = models
        self.settings = Settings() if settings is None else settings
        self.telemetry = Telemetry()
        self.is_stopping = False
        self._polling: asyncio.Task[None] | None = None
        self._refreshing = asyncio.Lock()
        for served in models.values():
            served.watch = Watch(served.guard, served.name, self.telemetry, self.settings, version=served.version)
            served.batcher = self._batcher(served)

    def _batcher(self, served: Served) -> Batcher:
        name = served.name

        def observe(guard: TensorGuard, feed: Arrays, outputs: Arrays, threshold: float | None) -> None:
            if guard is not served.guard:
                return  # the last requests to a guard that was replaced say nothing about the new one
            if threshold is not None:  # the verdicts follow the threshold of the request: watch the guard's instead
                scores, classes, others = (outputs[key] for key in ("instance_score", "no_defense", "defense"))
                flagged, corrected = verdicts(scores, classes, others, guard.threshold)
                outputs = outputs | {"is_adversarial": flagged, "corrected": corrected}
            served.watch.saw(feed, outputs)

        return Batcher(
            name,
            max_batch=self.settings.max_batch,
            max_queue=self.settings.max_queue,
            observe=observe,
            ran=lambda rows, seconds: self.telemetry.batch(name, rows, seconds),
            waits=lambda rows: self.telemetry.queue(name, rows),
        )

    # Health and metadata ------------------------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether the server takes requests: models are there from the start, so until the server shuts down."""
        return not self.is_stopping

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether a model takes requests; ProtocolError if there is no such model or version."""
        self.served(name, version)
        return self.is_ready()

    def server_metadata(self) -> dict[str, Any]:
        """The server as the protocol describes it."""
        return {"name": "demur", "version": __version__, "extensions": EXTENSIONS}

    def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """A model as the protocol describes it; sizes that may be any are -1.

        Beyond the protocol, `classes` lists the names of the classes, where the guard knows them: the tensors
        `corrected`, `no_defense` and `defense` are indices in that list.
        """
        served = self.served(name, version)
        guard = served.guard
        called = {} if guard.labels.names is None else {"classes": list(guard.labels.names)}
        return {
            "name": name,
            "versions": [served.version],
            "platform": "onnx_onnxv1" if served.path.suffix.lower() == ".onnx" else "keras",
            "inputs": described(guard.inputs),
            "outputs": described(guard.outputs),
            **called,
        }

    def served(self, name: str, version: str | None = None) -> Served:
        """A model; ProtocolError if there is no such model or version."""
        served = self.models.get(name)
        if served is None:
            raise ProtocolError(404, f"there is no model {shown(name)}; there are {', '.join(self.models)}")
        if version is not None and version != served.version:
            raise ProtocolError(404, f"there is no version {shown(version)} of {name}; there is {served.version}")
        return served

    # Answering ----------------------------------------------------------------------------------------------------

    async def infer(
        self, name: str, version: str | None, request: InferRequest, *, protocol: str = "http"
    ) -> InferResponse:
        """Answer a request to a model, with None for any version; ProtocolError if there is no answer.

        Numbers of another type than the guard's are cast, never rescaled. `protocol` is for the metrics.
        """
        begun = time.perf_counter()
        status = 500
        try:
            response = await self._infer(name, version, request)
            status = 200
            return response
        except ProtocolError as error:
            status = error.status
            raise
        except asyncio.CancelledError:
            status = CLIENT_GONE
            raise
        finally:
            self.telemetry.request(name, protocol, status, time.perf_counter() - begun)

    async def _infer(self, name: str, version: str | None, request: InferRequest) -> InferResponse:
        served = self.served(name, version)
        guard = served.guard
        feed, rows = self._feed(guard, request.inputs)
        names = tuple(output.name for output in request.outputs) or guard.default_outputs
        extra = tuple(output for output in names if output not in guard.default_outputs)
        check_outputs(extra, guard)
        threshold = threshold_of(request.parameters.get("threshold"), is_allowed=self.settings.allow_threshold)
        try:
            async with asyncio.timeout(self.settings.request_seconds):
                outputs = await served.batcher.run(guard, feed, rows, extra=extra, threshold=threshold)
        except TimeoutError:
            raise ProtocolError(504, f"there was no answer within {self.settings.request_seconds:g} seconds") from None
        check_judged(outputs["instance_score"], guard)
        chosen = {output: outputs[output] for output in names}
        flagged = int(np.count_nonzero(outputs["is_adversarial"]))
        return InferResponse(name, version_of(guard), request.id, chosen, rows, flagged)

    def _feed(self, guard: TensorGuard, inputs: dict[str, Array]) -> tuple[Arrays, int]:
        """The arrays, cast to what the guard takes, and how many rows they have."""
        if inputs.keys() != guard.inputs.keys():
            raise BadRequest(f"the inputs are {', '.join(guard.inputs)}; got {', '.join(name[:80] for name in inputs)}")
        feed = {name: _cast(name, inputs[name], field) for name, field in guard.inputs.items()}
        sizes = {len(array) for array in feed.values()}
        if len(sizes) > 1:
            raise BadRequest(f"the inputs must have as many rows; got {', '.join(map(str, sorted(sizes)))}")
        rows = sizes.pop()
        if rows == 0:
            raise BadRequest("there are no rows; send at least one")
        if rows > self.settings.max_queue:
            raise ProtocolError(413, f"a request may have {self.settings.max_queue} rows; got {rows}: send several")
        if guard.takes_reference:
            try:
                feed = guard.checked(feed)
            except DemurError as error:
                raise BadRequest(str(error)) from None
        return feed, rows

    # Living -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look for new files from now on, unless the settings say otherwise."""
        if self.settings.reload and self._polling is None:
            self._polling = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except Exception:
                logger.exception("looking for new files failed")

    async def refresh(self, *, force: bool = False) -> list[str]:
        """Serve the files that were written anew; see `Models.refresh`."""
        async with self._refreshing:
            replaced = await self.models.refresh(force=force)
            for name in replaced:
                served = self.models[name]
                served.watch.version = served.version
                await asyncio.to_thread(served.watch.replaced, served.guard)
            return replaced

    async def close(self) -> None:
        """Finish what was accepted, and save the state of the monitors."""
        self.is_stopping = True
        if self._polling is not None:
            self._polling.cancel()
        try:
            await asyncio.gather(*(served.batcher.close() for served in self.models.values()))
        finally:
            for served in self.models.values():
                await asyncio.to_thread(served.watch.close)


def _cast(name: str, array: Array, field: Field) -> Array:
    """An input, cast to the type that the guard takes."""
    if array.ndim == 0 or not fits(array.shape[1:], field.shape):
        hint = f"; a single row is sent as {[1, *array.shape]}" if fits(array.shape, field.shape) else ""
        raise BadRequest(f"input {name!r} must have shape {shape_of(field)}; got {list(array.shape)}{hint}")
    dtype = np.dtype(field.dtype or "float32")
    if array.dtype == dtype:
        return array
    check_whole(name, array, dtype)
    if dtype.kind == "b" and not np.isin(array, (0, 1)).all():
        raise BadRequest(f"input {name!r} must be BOOL: 0 and 1, or true and false")
    with np.errstate(over="ignore"):  # numbers beyond the range become infinite, and the row is reported
        return array.astype(dtype)
