"""Fitting a companion: the Keras model whose `fit` is the training loop."""

import contextlib
import inspect
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import keras
from keras import ops

from demur import backends, checks
from demur.backends import ONE, Devices, Whole
from demur.backends.divergence import Tensor
from demur.checks import is_number
from demur.errors import InvalidSetting, ShapeMismatch, WrongType
from demur.network.feed import Drawn, TrainingBatches
from demur.network.graph import Views
from demur.network.robustness import Robust
from demur.private import without_tensorflow
from demur.rows.layout import Field, Layout, flat, mapped

EPSILON = 1e-10
ROUNDING = 1e-6
"""The spread, relative to the mean, that rounding alone makes of equal numbers in float32."""

OPTIMIZER = "optimizer_of_the_trainer"
"""Where in a file of weights the optimizer's state is."""


@dataclass(frozen=True)
class Objective:
    """What training minimises: `w_model * mean(S) + w_recon * std(S) / (std(E) + 1e-10) * mean(E)`.

    `S` is the divergence of each instance (or, in its place, `loss_fn` summed over the views), `E` the mean squared
    error of its reconstruction. The factor that brings the two to one scale is treated as a constant by the gradient.
    """

    views: Views
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None
    w_model: float = 1.0
    w_recon: float = 0.0

    def __post_init__(self) -> None:
        for name in ("w_model", "w_recon"):
            if not (is_number(getattr(self, name)) and getattr(self, name) >= 0):
                raise InvalidSetting(f"{name} is a finite number not below 0; got {getattr(self, name)!r}")

    def __call__(
        self, x: Any, reference: list[Tensor], opinion: list[Tensor], reconstruction: Any, batch: Whole
    ) -> Tensor:
        """Return the scalar loss of a batch, from log-probabilities; or a device's part of it, of its share of one."""
        compared = self._compare(reference, opinion)
        loss = self.w_model * batch.mean(compared)
        if self.w_recon > 0:
            if len(compared.shape) == 0:
                raise ShapeMismatch(
                    "with w_recon, loss_fn must return one value for each instance; it returns a scalar"
                )
            errors = flat(mapped(_squared_error, x, reconstruction))
            error = add_up(errors) / len(errors)
            mean, spread = batch.mean(error), batch.std(error)
            # Errors that differ by rounding alone give no scale: divided by, their spread would make any number of it.
            scale = ops.where(spread > ROUNDING * mean, batch.std(compared) / (spread + EPSILON), 0.0)
            loss = loss + self.w_recon * ops.stop_gradient(scale) * mean
        return loss

    def _compare(self, reference: list[Tensor], opinion: list[Tensor]) -> Tensor:
        if self.loss_fn is None:
            return self.views.losses(reference, opinion)
        loss_fn = self.loss_fn
        in_place = self.views._replace(loss=lambda r, o: loss_fn(ops.exp(r), ops.exp(o)))
        return in_place.losses(reference, opinion)


def _squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """The mean squared error of each instance: `(n,)`."""
    square = ops.square(ops.cast(x, "float32") - ops.cast(reconstruction, "float32"))
    return ops.mean(square, axis=list(range(1, len(x.shape))))


def instance_loss(loss_fn: Any) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return a Keras loss, given by name, instance or function, as a function to one value for each instance."""
    if loss_fn is None:
        return None
    wanted = "loss_fn is a Keras loss, its name or a function of y_true and y_pred"
    if isinstance(loss_fn, list | tuple) or hasattr(loss_fn, "__array__"):
        raise WrongType("fit takes no labels, as the companion learns from the classifier's answers: call fit(X)")
    if not (isinstance(loss_fn, str) or callable(loss_fn)):
        raise WrongType(f"{wanted}; got {loss_fn!r}")
    try:
        is_class = isinstance(loss_fn, type) and issubclass(loss_fn, keras.losses.Loss)
        loss = loss_fn() if is_class else keras.losses.get(loss_fn)
    except ValueError as error:
        raise InvalidSetting(f"{wanted}; got {loss_fn!r}") from error
    _check_takes_probabilities(loss)
    per_instance: Callable[[Tensor, Tensor], Tensor] = loss.call if isinstance(loss, keras.losses.Loss) else loss
    return per_instance


def _check_takes_probabilities(loss: Any) -> None:
    """Raise WrongType where a loss is to be called in another way, as other libraries call theirs."""
    if isinstance(loss, keras.losses.Loss):
        return
    kind = loss if hasattr(loss, "__name__") else type(loss)
    is_of_torch = kind.__module__.startswith("torch.nn.")
    try:
        parameters = [p for p in inspect.signature(loss).parameters.values() if p.kind is not p.VAR_KEYWORD]
    except (TypeError, ValueError):  # Python cannot tell of everything that is compiled
        parameters = []
    named = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if is_of_torch or len(needed) > 2 or "model" in named:
        takes = f"takes {', '.join(named)}" if named else "is PyTorch's"
        raise WrongType(
            f"loss_fn is called with y_true and y_pred, the classifier's and the companion's probabilities, and "
            f"{kind.__name__} {takes}: pass a function of these two, such as keras.losses.kl_divergence"
        )


def named_metrics(log_metric: Any) -> dict[str, Any]:
    """Return `log_metric` (a metric, a `(name, metric)` pair or a list of them) as metrics by name."""
    if log_metric is None:
        return {}
    is_pair = isinstance(log_metric, tuple) and len(log_metric) == 2 and isinstance(log_metric[0], str)
    entries = list(log_metric) if isinstance(log_metric, list | tuple) and not is_pair else [log_metric]
    metrics = {}
    for entry in entries:
        name, metric = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)
        if isinstance(metric, str) or (isinstance(metric, type) and issubclass(metric, keras.metrics.Metric)):
            try:
                metric = keras.metrics.get(metric)
            except ValueError as error:
                raise InvalidSetting(f"log_metric takes Keras metrics or their names; got {entry!r}") from error
        if not isinstance(metric, keras.metrics.Metric):
            if not callable(metric):
                raise WrongType(f"log_metric takes Keras metrics or (name, metric) pairs; got {entry!r}")
            name = name or getattr(metric, "__name__", "metric")
            metric = keras.metrics.MeanMetricWrapper(metric, name=name)
        metrics[name or metric.name] = metric
    return metrics


class Trainer(keras.Model):  # type: ignore[misc]
    """Its `fit` trains the companion to agree with the reference; its weights are the companion's, and no others.

    The classifier and the heads are reached through `objective.views` and are not tracked, so nothing of theirs can be
    trained, checkpointed or reset.

    Args:
        companion: the Keras model to train.
        objective: what to minimise.
        metrics: Keras metrics by the name to show them under, of the opinion against the reference. Beside them stands
            `agreement`, the share of rows for which the two predict one class.
        robust: how to perturb the rows that count besides the unchanged ones; None for not at all.
        devices: the devices to train on.
    """

    def __init__(
        self,
        companion: Any,
        objective: Objective,
        metrics: dict[str, Any],
        robust: Robust | None = None,
        devices: Devices = ONE,
    ) -> None:
        super().__init__(dtype="float32", autocast=False, name="trainer")
        self.companion = companion
        self.objective = objective
        self.robust = robust
        self.shown = {"agreement": keras.metrics.CategoricalAccuracy(name="agreement"), **metrics}
        self.devices = devices
        # On several devices Keras would weigh a batch's loss by all rows of a share; padding must not count.
        self.losses_shown = None if devices is ONE else keras.metrics.Mean(name="loss")
        self.built = companion.built

    def fit(self, x: Drawn, validation_data: Drawn | None = None, **kwargs: Any) -> Any:
        """Train. If training fails, the companion keeps its weights; errors in drawing a batch are not wrapped.

        TensorFlow wraps errors from its data pipeline in one of its own.
        """
        backend = backends.current()
        held_out = None if validation_data is None else backend.fed(validation_data)
        kwargs["callbacks"] = self.devices.start(self, kwargs.get("callbacks") or [])
        try:
            with warnings.catch_warnings(), backend.kept(self.companion.variables):
                if not x.again:  # that it runs out of data is what a stream is expected to do
                    warnings.filterwarnings("ignore", message="Your input ran out of data")
                return super().fit(backend.fed(x), validation_data=held_out, **kwargs)
        except BaseException as error:
            if x.error is not None and isinstance(error, Exception):
                raise x.error from None
            raise

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Tensor]:
        """Return the loss of a batch, scalar, and both views of its prediction."""
        inputs, batch = self.devices.received(inputs)
        x = inputs["x"]
        reference = inputs.get("reference") or self.objective.views.reference(x)
        reference = [ops.stop_gradient(log_p) for log_p in reference]
        opinion, reconstruction = self.objective.views.opinion(x, training)
        terms = []
        if self.robust is not None and training:
            terms.append(self.robust.weight * self._loss_nearby(self.robust, x, reference, batch))
        # Read here and not in compute_loss: JAX shows a layer's regularisation losses only inside the call. And before
        # replicas wait for one another, as the objective may have them do: they share the layers, and these the list.
        terms += batch.losses(self.companion)
        loss = add_up([self.objective(x, reference, opinion, reconstruction, batch), *terms])
        if self.devices is ONE:
            return {"loss": loss, "reference": ops.exp(reference[0]), "opinion": ops.exp(opinion[0])}
        views = {"reference": ops.exp(reference[0]), "opinion": ops.exp(opinion[0])}
        loss, rows = batch.shown(loss, reference[0])
        return {"loss": loss, "rows": rows, **{name: batch.counted(view) for name, view in views.items()}}

    def _loss_nearby(self, robust: Robust, x: Tensor, reference: list[Tensor], batch: Whole) -> Tensor:
        """The mean score of neighbouring rows on which the companion is least sure, with the reference of `x`."""
        views = self.objective.views
        nearby = robust.perturbed(lambda x: views.losses(reference, views.opinion(x, False).log_probabilities), x)
        return batch.mean(views.losses(reference, views.opinion(nearby, True).log_probabilities))

    def train_step(self, *arguments: Any) -> Any:
        """Take a step, as Keras does or as the devices need it."""
        return self.devices.step(self, arguments, super().train_step)

    def _maybe_symbolic_build(self, *arguments: Any, **settings: Any) -> None:
        """Not under a strategy, where all is built: TensorFlow would draw batches for it, and change their order."""
        if self.devices is ONE:
            super()._maybe_symbolic_build(*arguments, **settings)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the loss that the call has computed."""
        return y_pred["loss"]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Update the metrics of the opinion against the reference."""
        if self.losses_shown is not None:
            self.losses_shown.update_state(y_pred["loss"], sample_weight=y_pred["rows"])
        views = [y_pred["reference"], y_pred["opinion"]]
        views = self.devices.all_rows(views) if self.shown else views
        for metric in self.shown.values():
            metric.update_state(*views)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the loss and the metrics by name."""
        losses = self._loss_tracker if self.losses_shown is None else self.losses_shown
        return {"loss": losses.result(), **{name: metric.result() for name, metric in self.shown.items()}}

    @property
    def metrics(self) -> list[Any]:
        """The trainer's own metrics; the metrics that the companion was compiled with are not touched."""
        losses = [] if self.losses_shown is None else [self.losses_shown]
        return [*([self._loss_tracker] if self.compiled else []), *losses, *self.shown.values()]

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Save the companion: what a `ModelCheckpoint` writes is the model that is being trained."""
        with without_tensorflow():
            self.companion.save(filepath, overwrite=overwrite, **kwargs)

    def save_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Save the companion's weights, in a file that the companion can load, and the optimizer's state with them."""
        self.companion.save_weights(filepath, **kwargs)
        if self.optimizer.built and h5py.is_hdf5(filepath):
            with h5py.File(filepath, "a") as file:
                group = file.create_group(OPTIMIZER)
                for i, variable in enumerate(self.optimizer.variables):
                    group[str(i)] = ops.convert_to_numpy(variable)

    def load_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Load what `save_weights` saved, so that a `BackupAndRestore` goes on where training stopped."""
        self.companion.load_weights(filepath, **kwargs)
        if not h5py.is_hdf5(filepath):
            return
        with h5py.File(filepath, "r") as file:
            group = file.get(OPTIMIZER, {})
            if len(group) == len(self.optimizer.variables):
                for i, variable in enumerate(self.optimizer.variables):
                    variable.assign(group[str(i)][()])


def add_up(terms: Sequence[Tensor]) -> Tensor:
    """Add tensors up."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class StopBetweenSteps(keras.callbacks.Callback):  # type: ignore[misc]
    """Raises KeyboardInterrupt after the training step during which it was asked to.

    In the middle of a step the weights may be in the backend's hands (JAX has given their buffers away). Processes that
    train together stop after the same step.
    """

    asked = False

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self.devices = devices

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop, if asked to."""
        if self.devices.any(self.asked):
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible(devices: Devices) -> Iterator[list[Any]]:
    """While it lasts, a first Ctrl-C stops training between two steps; a second one at once. Yields callbacks."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield []  # Ctrl-C is somebody else's business
        return
    stop = StopBetweenSteps(devices)

    def ask(number: int, frame: Any) -> None:
        if stop.asked:
            signal.default_int_handler(number, frame)
        stop.asked = True

    signal.signal(signal.SIGINT, ask)
    try:
        yield [stop]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


TOGETHER = 32
"""Steps that one compiled call takes where a step costs less than Keras's loop around it."""

SMALL_STEP = 30_000_000
"""Multiplications in a batch's forward pass up to which a training step takes a few milliseconds on a CPU."""


def steps_together(parts: Iterable[Any], layout: Layout, batches: Drawn, batch_size: int, callbacks: Any) -> int:
    """How many steps to compile into one call: `TOGETHER` for small networks on tables with TensorFlow, otherwise 1.

    Keras's loop costs about 0.4 ms a step, as much as the whole step of a small network on a table. Where a step takes
    longer, or there are few, there is nothing to gain; where a callback looks at each batch, it shall see each.
    """
    if not (backends.current().compiles_in_python and isinstance(layout, Field) and len(layout.shape) == 1):
        return 1
    if batches.devices is not ONE:
        return 1
    if not isinstance(batches, TrainingBatches) or len(batches) < 4 * TOGETHER:
        return 1
    if any(_watches_batches(callback) for callback in callbacks or ()):
        return 1
    operations = batch_size * sum(part.count_params() for part in parts)
    return TOGETHER if operations <= SMALL_STEP else 1


def _watches_batches(callback: Any) -> bool:
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    return any(
        name in vars(callback) or getattr(type(callback), name, None) is not getattr(keras.callbacks.Callback, name)
        for name in hooks
    )


def optimizer_of(optimizer: Any) -> Any:
    """A Keras optimizer, as an instance.

    Raises:
        InvalidSetting: `optimizer` is not a Keras optimizer, or its name.
    """
    if optimizer is None:
        return keras.optimizers.Adam(1e-3)
    try:
        is_class = isinstance(optimizer, type) and issubclass(optimizer, keras.optimizers.Optimizer)
        return optimizer() if is_class else keras.optimizers.get(optimizer)
    except (ValueError, TypeError) as error:
        got = repr(optimizer) if isinstance(optimizer, str | dict) else checks.kind(optimizer)
        raise InvalidSetting(
            f"optimizer is a Keras optimizer (class, instance or name); got {got}: pass one, such as "
            "keras.optimizers.Adam(1e-3)"
        ) from error
