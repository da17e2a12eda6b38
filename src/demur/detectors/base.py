"""The contract of a detector, and all the code that detectors share."""

import abc
import functools
import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

import keras
import numpy as np
import numpy.typing as npt

from demur import storage
from demur._version import __version__
from demur.calibration import Calibration, Threshold, check_percentile, rational
from demur.classifiers import BlackBoxClassifier, GraphClassifier, source_of
from demur.classifiers.answers import row_keys
from demur.classifiers.keras_model import known_layout
from demur.classifiers.torch_module import is_module
from demur.copying import copied, made_again, state_of
from demur.data import (
    Field,
    Layout,
    Rows,
    as_layout,
    check_classes,
    check_layout,
    check_whole,
    compatible,
    describe_layout,
    from_json,
    is_number,
    layout_of,
    row_count,
    shapes_of,
    taken,
)
from demur.decision import Control, calibrate, check_control, correction, decide
from demur.devices import Devices, active
from demur.divergence import DIVERGENCES
from demur.errors import (
    InvalidSetting,
    NoGradients,
    NotFitted,
    ShapeMismatch,
    ThresholdNotSet,
    WrongType,
)
from demur.feeding import Drawn, StreamBatches, TrainingBatches, some_of
from demur.graph import Balance, DetectorGraph, Half, Network, Views, compiled
from demur.harm import HarmCalibration
from demur.results import CorrectResult, Floats, Meta, PredictData, PredictResult, Scored
from demur.robustness import Robust, as_robust
from demur.routes import PASSTHROUGH, InGraph, OutOfGraph, Route
from demur.scoring import gathered, over_batches, score_rows, spacious
from demur.sources import ArraySource, CheckedSource, Source, as_source, first_rows, is_collection
from demur.training import (
    Objective,
    Trainer,
    frozen,
    instance_loss,
    interruptible,
    named_metrics,
    steps_together,
    xla_setting,
)

if TYPE_CHECKING:
    from demur.export import Exported

OnInvalid = Literal["raise", "flag"]
"""What becomes of a row that cannot be judged: an error, or a flag."""


BALANCED: Literal["balanced"] = "balanced"
BALANCED_AT = 0.95
"""The quantile of training rows at which divergence and uncertainty weigh the same."""
NO_DOUBT = 1e-3
"""Nats of uncertainty that are none: a classifier that is surer of nearly all training rows than this."""
TINY = 1e-30

SHARED_SETTINGS = (
    "temperature",
    "loss_type",
    "score_type",
    "w_uncertainty",
    "data_type",
    "from_logits",
    "seed",
    "on_invalid",
    "channels_last",
)
"""The arguments of `__init__` that every detector has and that JSON can hold."""


class Detector(abc.ABC):
    """A second opinion on a classifier: settings in `__init__`, data in methods, `fit` returns the detector.

    A subclass names its companion and builds the two halves of its graph in `views`; it is then known to
    `load_detector` and to the contract tests by its class name.

    Examples:
        >>> isinstance(detector, Detector)
        True
        >>> Detector.registry["AdversarialAE"].companion_name
        'autoencoder'
    """

    registry: ClassVar[dict[str, type["Detector"]]] = {}
    companion_name: ClassVar[str]
    """What the companion is called: in error messages, and as the argument's file in a saved folder."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Detector.registry[cls.__name__] = cls

    needs_gradients: ClassVar[bool] = False
    """Whether the companion learns through the classifier, which must be in the graph then."""

    classifier: Any
    """The classifier as demur reads it; there once the layout of the rows is known."""
    route: Route
    """How rows reach the classifier and the companion; there from then on, too."""
    table: dict[str, str] | None = None
    """Of a table that the command line made rows of: the columns' kinds by name, in order. See `demur.cli.tables`."""

    def __init__(
        self,
        *,
        model: Any,
        threshold: float | None,
        temperature: float,
        data_type: str | None,
        from_logits: bool,
        seed: int,
        on_invalid: OnInvalid,
        input_shape: Any,
        channels_last: bool,
        loss_type: str,
        score_type: str,
        w_uncertainty: float | Literal["balanced"] | None,
        companion_preprocess: Any = None,
    ) -> None:
        for name, value in {"loss_type": loss_type, "score_type": score_type}.items():
            if not isinstance(value, str) or value not in DIVERGENCES:
                raise InvalidSetting(f"{name} is one of {', '.join(map(repr, DIVERGENCES))}; got {value!r}")
        if w_uncertainty is None:
            w_uncertainty = BALANCED if score_type == "jeffreys" else 0.0
        is_balanced = isinstance(w_uncertainty, str) and w_uncertainty == BALANCED
        if not is_balanced and not (is_number(w_uncertainty) and float(w_uncertainty) >= 0):
            raise InvalidSetting(
                f"w_uncertainty is a finite number not below 0, {BALANCED!r} or None; got {w_uncertainty!r}"
            )
        if not (is_number(temperature) and temperature > 0):
            raise InvalidSetting(f"temperature is a finite number above 0; got {temperature!r}")
        check_whole("seed", seed, 0)
        if on_invalid not in ("raise", "flag"):
            raise InvalidSetting(f"on_invalid is 'raise' or 'flag'; got {on_invalid!r}")
        self._source_class = source_of(model)
        if self.needs_gradients and not self._source_class.in_graph:
            source = self._source_class
            raise NoGradients(
                f"{type(self).__name__} trains through the classifier, and {source.kind} gives no gradients"
                + (
                    f" while Keras computes with {keras.backend.backend()}: set KERAS_BACKEND={source.native!r} before "
                    "Keras is imported, or use ModelDistillation"
                    if source.native
                    else ": use ModelDistillation, or pass a Keras, PyTorch, JAX or TensorFlow model"
                )
            )
        self.model = self._source_class.resolved(model)
        self.temperature = float(temperature)
        self.loss_type, self.score_type = loss_type, score_type
        self.w_uncertainty: float | Literal["balanced"] = BALANCED if is_balanced else float(w_uncertainty)
        self._balance = Balance() if is_balanced else None
        self.data_type = data_type
        self.from_logits = from_logits
        self.seed = int(seed)
        self.on_invalid = on_invalid
        self.channels_last = bool(channels_last)
        self.companion_preprocess = companion_preprocess
        self.calibration: Calibration | None = None
        self.harm: HarmCalibration | None = None
        self.threshold = threshold
        self.history: dict[str, list[float]] | None = None
        self.is_fitted = False
        self._layout = None if input_shape is None else as_layout(input_shape)
        self._is_ready = False
        self._probabilities_checked = False
        self._lock = threading.RLock()

    # Getting ready: what depends on the rows, which not every classifier knows by itself ------------------------------

    def _prepare_if_known(self, *companions: Any) -> None:
        """Get ready now if the layout of the rows is known, so that what is wrong is told at once.

        Outside the graph the first rows are waited for: a black box is not asked about rows that are made up.
        """
        in_graph = self._source_class.in_graph
        known = self._source_class.known_layout(self.model) or (known_layout(*companions) if in_graph else None)
        if known is not None and self._layout is not None and not compatible(self._layout, known):
            raise ShapeMismatch(
                f"the classifier takes inputs of shape {describe_layout(known)}; input_shape says "
                f"{describe_layout(self._layout)}"
            )
        self._layout = known or self._layout
        if in_graph and self._layout is not None:
            self._prepare(self._layout)

    def _prepare(
        self,
        layout: Layout,
        rows: Rows | None = None,
        *,
        fitting: bool = False,
        saved: dict[str, Any] | None = None,
    ) -> None:
        """Read the classifier and make the companion for rows of a layout, or as they were saved."""
        classifier = self._read_classifier(layout)
        self.route = (
            OutOfGraph(
                classifier,
                self.companion,
                self.companion_preprocess,
                self.temperature,
                rows=rows,
                fitting=fitting,
                saved=saved,
            )
            if isinstance(classifier, BlackBoxClassifier)
            else InGraph(classifier)
        )
        self.classifier, self._layout = classifier, classifier.layout
        if isinstance(self._threshold, np.ndarray):
            self.threshold = self._threshold.tolist()  # checked now that the classes are known
        self._make_companion()
        self._is_ready = True

    def _read_classifier(self, layout: Layout) -> GraphClassifier | BlackBoxClassifier:
        make: Any = self._source_class
        reader: GraphClassifier | BlackBoxClassifier = make(
            self.model,
            layout=layout,
            from_logits=self.from_logits,
            hidden=self.hidden_layers,
            channels_last=self.channels_last,
        )
        return reader

    @property
    def hidden_layers(self) -> list[int | str]:
        """The classifier's hidden layers that the detector looks at."""
        return []

    @abc.abstractmethod
    def _make_companion(self) -> None:
        """Make what is missing of the companion, and check it, now that `classifier` and its layout are known."""

    def _ready_for(self, X: Any, *, fitting: bool = False) -> Any:
        """Get ready, if need be, for rows like these; return them as they can be drawn from still."""
        with self._lock:
            if self._is_ready:
                return X
            rows, X = first_rows(X)
            if self._layout is not None:
                check_layout(rows, self._layout, finite=False)
            self._prepare(layout_of(rows), rows, fitting=fitting)
            return X

    # What a detector is made of -----------------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def companion(self) -> Any:
        """The Keras model that `fit` trains."""

    @property
    @abc.abstractmethod
    def views(self) -> Views:
        """The two halves of the graph and how they are compared."""

    @property
    @abc.abstractmethod
    def parts(self) -> dict[str, Any]:
        """Every Keras model of the detector, by the name of its file."""

    @property
    @abc.abstractmethod
    def own_settings(self) -> dict[str, Any]:
        """The arguments of `__init__` that only this kind of detector has and that are no models, for JSON."""

    @classmethod
    @abc.abstractmethod
    def from_parts(cls, parts: dict[str, Any], settings: dict[str, Any]) -> Self:
        """Make the detector again from what `parts` and `settings` returned."""

    def take_weights(self, parts: dict[str, Any]) -> None:  # noqa: B027 - most detectors make nothing by themselves
        """Take over, of the saved parts, the weights of what the detector makes by itself."""

    @property
    def companion_layout(self) -> Layout:
        """Of the rows that the companion takes."""
        return self.route.companion_layout

    @property
    def is_ready(self) -> bool:
        """Whether the layout of the rows is known, and with it all networks."""
        return self._is_ready

    @property
    @abc.abstractmethod
    def given_parts(self) -> dict[str, Any]:
        """The networks that the caller gave, by the names that `parts` has for them."""

    @property
    def channels_first(self) -> bool:
        """Whether rows are images as PyTorch has them, `(channels, height, width)`."""
        return is_module(self.model) and not self.channels_last

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `__init__` that are no models, as JSON can hold them."""
        return {**self.own_settings, **{name: getattr(self, name) for name in SHARED_SETTINGS}}

    @functools.cached_property
    def graph(self) -> DetectorGraph:
        """The detector as one Keras model, `x -> [score, reference probabilities, opinion probabilities]`."""
        return self.route.graph(self.views, self._layers)

    @property
    def _layers(self) -> list[Any]:
        """Every Keras layer with weights that the graph uses."""
        parts = [part for part in self.parts.values() if isinstance(part, keras.layers.Layer)]
        return [*parts, *self.classifier.tracked(), *([] if self._balance is None else [self._balance])]

    @property
    def uncertainty_weight(self) -> float:
        """What the classifier's uncertainty is multiplied by in the score; "balanced", it is 0 before `fit`."""
        return float(self._w_uncertainty or 0.0) if self._balance is None else float(self._balance.weight.numpy())

    @property
    def _w_uncertainty(self) -> Any:
        """The weight as the graph takes it."""
        if self._balance is None:
            return self.w_uncertainty or None
        return self._balance.weight

    @property
    def input_shape(self) -> Any:
        """The shape of one row, without the batch: a tuple, or a tuple or dict of them, or the names of columns.

        None where the classifier does not know, until the first rows have come.
        """
        return None if self._layout is None else shapes_of(self._layout)

    @property
    def threshold(self) -> Threshold | None:
        """Scores strictly above it are flagged; in nats.

        None until set or inferred; an array `(classes,)` where each predicted class has its own.
        """
        return self._threshold

    @threshold.setter
    def threshold(self, value: float | Sequence[float] | npt.NDArray[Any] | None) -> None:
        self._threshold = None if value is None else self._checked_threshold(value)

    def _checked_threshold(self, value: Any) -> Threshold:
        if is_number(value):
            return float(value)
        limits = np.array(value, "float64") if isinstance(value, list | tuple | np.ndarray) else np.array(np.nan)
        known = getattr(self, "classifier", None)  # not before the layout of the rows is
        classes = limits.size if known is None else known.classes
        if limits.shape != (classes,) or not np.isfinite(limits).all():
            raise InvalidSetting(
                f"threshold is a finite number of nats, {classes} of them (one for each predicted class) or None; "
                f"got {value!r}"
            )
        return limits

    @property
    def meta(self) -> Meta:
        """Who gives the opinion; a copy."""
        return Meta(
            name=type(self).__name__,
            detector_type="adversarial",
            data_type=self.data_type,
            online=False,
            version=__version__,
        )

    def __repr__(self) -> str:
        threshold = "not set" if self.threshold is None else np.array2string(np.asarray(self.threshold), precision=4)
        title = self.classifier.title if self._is_ready else str(getattr(self.model, "name", type(self.model).__name__))
        return f"<{type(self).__name__} on {title!r}, inputs {self.input_shape}, threshold {threshold}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A detector like it on the same classifier, with a companion of its own."""
        memo[id(self)] = copied(self)
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """For other processes: the classifier is pickled by its own means. To keep a detector, `save` it."""
        return made_again, (state_of(self),)

    def resume(
        self, inputs: dict[str, Any] | None, parts: dict[str, Any], fitted: bool, uncertainty_weight: float
    ) -> None:
        """Become what was saved: for rows of the layout that the detector had learned, with its weights."""
        if self._balance is not None:
            self._balance.weight.assign(uncertainty_weight)
        if not self._is_ready and inputs is not None:
            self._prepare(from_json(inputs["classifier"]), saved=inputs)
        self.take_weights(parts)
        self.is_fitted = fitted

    # Learning -----------------------------------------------------------------------------------------------------

    def _fit(
        self,
        X: Any,
        *,
        loss_fn: Any,
        w_model: float = 1.0,
        w_recon: float = 0.0,
        optimizer: Any,
        epochs: int,
        batch_size: int,
        verbose: bool | int | str,
        log_metric: Any,
        callbacks: Sequence[Any] | None,
        preprocess_fn: Callable[[npt.NDArray[Any]], Any] | None,
        validation_data: Any,
        jit_compile: bool | str | None,
        steps_per_execution: int | None,
        robust: Any,
    ) -> Self:
        check_whole("batch_size", batch_size, 1)
        check_whole("epochs", epochs, 1)
        if steps_per_execution is not None:
            check_whole("steps_per_execution", steps_per_execution, 1)
            if steps_per_execution > 1 and keras.backend.backend() == "torch":
                raise InvalidSetting("steps_per_execution is for TensorFlow and JAX; leave it out on PyTorch")
        if preprocess_fn is not None and not callable(preprocess_fn):
            raise WrongType(f"preprocess_fn is a function from a batch to a batch; got {preprocess_fn!r}")
        if callbacks is not None and not isinstance(callbacks, list | tuple):
            raise WrongType(f"callbacks is a list of Keras callbacks; got {type(callbacks).__name__}")
        if isinstance(validation_data, tuple):
            raise WrongType("validation_data is an array of inputs alone: no labels are needed")
        X = self._ready_for(X, fitting=True)
        source = CheckedSource(self._source(X), self._check_classifier)
        held_out = None if validation_data is None else self._source(validation_data, "validation_data")
        if held_out is not None and held_out.rows is None:
            raise WrongType("validation_data is an array of inputs")
        objective = Objective(self.views, instance_loss(loss_fn), w_model, w_recon)
        devices = active(self.companion)
        self._check_alike(devices, source, {"epochs": epochs, "batch_size": batch_size, "seed": self.seed})
        verbose = verbose if devices.rank == 0 else False
        show = bool(verbose)

        def in_memory(source: Source, preprocess_fn: Any, shuffle_seed: int | None) -> Drawn:
            size = max(batch_size, 256)
            reference = self._reference(source, size, show, devices) if preprocess_fn is None else None
            return TrainingBatches(
                self.route.training_rows(source.rows) if preprocess_fn is None else source.rows,
                reference,
                batch_size=batch_size,
                layout=self.companion_layout,
                prepare=self.route.prepare(preprocess_fn, is_answered=reference is not None),
                shuffle_seed=shuffle_seed,
                devices=devices,
            )

        with devices.scope():
            trainer = Trainer(self.companion, objective, named_metrics(log_metric), self._robust(robust), devices)
        fixed = [part for part in self.parts.values() if part is not self.companion and hasattr(part, "parameters")]
        is_stream = source.rows is None
        asking = self.route.prepare(preprocess_fn, is_answered=False)
        batches = (
            StreamBatches(source, self.companion_layout, asking, epochs, devices)
            if is_stream
            else in_memory(source, preprocess_fn, self.seed)
        )
        batches.reference_shapes = batches.reference_shapes or self.route.reference_shapes
        validation_batches = None if held_out is None else in_memory(held_out, None, None)
        with devices.scope():
            trainer.compile(
                optimizer=_optimizer(optimizer),
                jit_compile=xla_setting() if jit_compile is None else jit_compile,
                steps_per_execution=steps_per_execution
                or steps_together(self._layers, self.companion_layout, batches, batch_size, callbacks),
            )
        self._forget_calibration()
        try:
            with devices.scope(), frozen(fixed), interruptible(devices) as stop:
                trainer.fit(
                    batches,
                    epochs=epochs,
                    verbose=verbose if isinstance(verbose, str) else int(verbose),
                    callbacks=[*(callbacks or []), *stop],
                    validation_data=validation_batches,
                    shuffle=False,  # TrainingBatches shuffles rows, with a seed of its own
                )
        except KeyboardInterrupt:
            self.history = trainer.history.history
            self._set_balance(source, batches, devices)
            raise KeyboardInterrupt(
                f"fit was interrupted after {len(trainer.history.epoch)} of {epochs} epochs: the detector is usable "
                f"with the {self.companion_name}'s weights so far, the classifier is as it was, and fit(X) goes on"
            ) from None
        self.history = trainer.history.history
        self.is_fitted = True
        self._set_balance(source, batches, devices)
        self.route.forget()
        return self

    def _check_alike(self, devices: Devices, source: Source, settings: dict[str, Any]) -> None:
        """Check that processes which train together were given the same."""
        if devices.processes == 1:
            return
        if source.rows is not None:
            settings["the number of rows"] = row_count(source.rows)
            settings["the rows"] = hashlib.sha256(b"".join(row_keys(some_of(source.rows)))).hexdigest()
        devices.check_alike({**settings, "the classifier's weights": self.classifier.fingerprint()})

    def _set_balance(self, source: Source, drawn: Drawn, devices: Devices) -> None:
        """Weigh the classifier's uncertainty so that on training rows it reaches as far as the divergence.

        The weight is the ratio of their 95th percentiles: at a threshold that flags a few per cent, each of the two
        flags about half of them.
        """
        if self._balance is None:
            return
        if isinstance(drawn, StreamBatches) and not drawn.kept:
            return
        rows = drawn.some_rows() if isinstance(drawn, StreamBatches) else some_of(source.rows)
        self._balance.weight.assign(0.0)
        found = self._scored(rows, 256, False, flag_invalid=True, probabilities=True)
        able = np.isfinite(found.score)
        if able.any():
            doubt = -np.log(np.maximum(found.y[able].max(axis=1), TINY))
            ratio = np.quantile(found.score[able], BALANCED_AT) / max(np.quantile(doubt, BALANCED_AT), NO_DOUBT)
            self._balance.weight.assign(devices.alike(ratio))

    def _robust(self, robust: Any) -> Robust | None:
        found, layout = as_robust(robust), self.companion_layout
        if found is not None and not (isinstance(layout, Field) and str(layout.dtype or "float32").startswith("float")):
            raise InvalidSetting(
                "robust perturbs rows that are one array of floating-point numbers; these are "
                f"{describe_layout(layout)}"
            )
        return found

    def _forget_calibration(self) -> None:
        """Forget what was inferred from scores that training changes; a threshold given by hand stays."""
        if self.calibration is not None and np.array_equal(self.calibration.threshold, np.asarray(self.threshold)):
            self.threshold = None
        self.calibration = self.harm = None

    def infer_threshold(
        self,
        X: Any,
        *,
        fpr: float | None = None,
        threshold_perc: float = 99.0,
        margin: float = 0.0,
        labels: Any = None,
        groups: Literal["predicted"] | None = None,
        batch_size: int = 256,
        verbose: bool = False,
    ) -> Self:
        """Set the threshold from the scores of normal data, and keep them, sorted, for p-values.

        With `fpr`, the threshold is split-conformal: on new data exchangeable with `X`, and `X` not trained on, the
        false-positive rate is at most `fpr`, whatever the distribution of the scores. A percentile promises nothing.
        Beyond 10,000 scores a sketch of 10,000 is kept; a p-value from it is too high by less than 1/10,000.

        Examples:
            >>> detector.infer_threshold(X_held_out, fpr=0.05).calibration.fpr
            0.05

        Args:
            X: `(n, *input_shape)` or a stream of such rows, held out from `fit`; or a Dask array, bag or DataFrame of
                them, which is scored where its parts are. NaN in it is an error, whatever `on_invalid` says.
            fpr: false-positive rate, above 0 and below 1; takes the place of `threshold_perc`.
            threshold_perc: percentage of `X` that shall not be flagged, 0 to 100.
            margin: added to the threshold, in nats. A negative one breaks what `fpr` promises.
            labels: `(n,)`, true classes: only the instances that the classifier gets right calibrate, and the promise
                is for such instances.
            groups: "predicted" for a threshold, and p-values, of each predicted class (Mondrian conformal prediction):
                the rate holds within each class.
            batch_size: rows a forward pass.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            The detector.

        Raises:
            TooFewInstances: for so low a rate; says how many are needed, and of which class.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        check_percentile(threshold_perc, margin)
        if fpr is not None:
            rational(fpr)
            if threshold_perc != 99.0:
                raise InvalidSetting("fpr and threshold_perc are two ways to a threshold: pass one of them")
        if groups not in (None, "predicted"):
            raise InvalidSetting(f"groups is 'predicted' or None; got {groups!r}")
        if is_collection(X):
            from demur.batch.calibrating import calibrated

            self.calibration = calibrated(
                self,
                X,
                fpr=fpr,
                threshold_perc=threshold_perc,
                margin=margin,
                labels=labels,
                by_class=groups == "predicted",
                batch_size=batch_size,
            )
            self.threshold = self.calibration.threshold
            return self
        if labels is not None and hasattr(X, "__array__"):
            check_classes(labels, len(X), "labels")
        scored = self._scored(X, batch_size, verbose, flag_invalid=False)
        self.calibration = calibrate(
            scored,
            fpr=fpr,
            threshold_perc=threshold_perc,
            margin=margin,
            labels=None if labels is None else check_classes(labels, len(scored.score), "labels"),
            classes=self.classifier.classes if groups == "predicted" else None,
        )
        self.threshold = self.calibration.threshold
        return self

    # Answering ----------------------------------------------------------------------------------------------------

    @overload
    def score(
        self, X: Any, *, batch_size: int = 256, return_predictions: Literal[False] = False, verbose: bool = False
    ) -> Floats: ...

    @overload
    def score(
        self, X: Any, *, batch_size: int = 256, return_predictions: Literal[True], verbose: bool = False
    ) -> tuple[Floats, Floats, Floats]: ...

    def score(
        self, X: Any, *, batch_size: int = 256, return_predictions: bool = False, verbose: bool = False
    ) -> Floats | tuple[Floats, Floats, Floats]:
        """Return how far the opinion is from the classifier's prediction: float32 `(n,)`, in nats.

        Examples:
            >>> score, reference, opinion = detector.score(X_new, return_predictions=True)
            >>> score.shape, reference.shape, opinion.shape
            ((40,), (40, 10), (40, 10))

        Args:
            X: `(n, *input_shape)`, or a stream of batches of such rows, as `fit` takes it.
            batch_size: rows a forward pass; the result does not depend on it.
            return_predictions: also return `y`, the classifier's probabilities sharpened by the temperature, and
                `y_opinion`, the companion's; float32 `(n, classes)` each.
            verbose: show a progress bar once it takes more than two seconds.

        Raises:
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        scored = self._judged(X, batch_size, verbose, probabilities=return_predictions)
        return (scored.score, scored.y, scored.y_opinion) if return_predictions else scored.score

    def predict(
        self,
        X: Any,
        *,
        batch_size: int = 256,
        return_instance_score: bool = True,
        control: Control = None,
        level: float = 0.05,
        verbose: bool = False,
    ) -> PredictResult:
        """Flag the instances whose score lies strictly above the threshold, or those that `control` picks.

        Examples:
            >>> data = detector.predict(X_new)["data"]
            >>> bool((data["is_adversarial"] == (data["instance_score"] > detector.threshold)).all())
            True

        Args:
            X: `(n, *input_shape)`, or a stream of batches of such rows, as `fit` takes it.
            batch_size: rows a forward pass.
            return_instance_score: whether the result holds the scores too.
            control: "fdr" to flag, instead of by the threshold, so that of the instances flagged in this batch at most
                a share of `level` is expected to be normal (Benjamini & Hochberg, 1995, on the p-values).
            level: see `control`.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            `{"meta": ..., "data": {"is_adversarial", "instance_score"}}`; from a detector that `infer_threshold` was
            called on, `data` holds `"p_value"` too, with `on_invalid="flag"` also `"invalid"`, and after
            `demur.drift.calibrate_accuracy` also `"harm_probability"`.

        Raises:
            ThresholdNotSet, NotCalibrated: before any forward pass, if there is no threshold or calibration.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        _, data = self._decided(X, batch_size, verbose, control, level)
        if not return_instance_score:
            data["instance_score"] = None
        return {"meta": self.meta, "data": data}

    def correct(
        self,
        X: Any,
        *,
        batch_size: int = 256,
        return_instance_score: bool = True,
        return_all_predictions: bool = True,
        control: Control = None,
        level: float = 0.05,
        verbose: bool = False,
    ) -> CorrectResult:
        """Predict classes: the opinion's where an instance is flagged, the classifier's elsewhere.

        Examples:
            >>> data = detector.correct(X_new)["data"]
            >>> expected = np.where(data["is_adversarial"], data["defense"], data["no_defense"])
            >>> bool((data["corrected"] == expected).all())
            True

        Args:
            X: `(n, *input_shape)`, or a stream of batches of such rows, as `fit` takes it.
            batch_size: rows a forward pass.
            return_instance_score: whether the result holds the scores too.
            return_all_predictions: whether it holds `no_defense` (the classifier's class for each instance) and
                `defense` (the opinion's) too.
            control: how to flag; see `predict`.
            level: see `predict`.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            `{"meta": ..., "data": {"is_adversarial", "instance_score", "corrected", "no_defense", "defense"}}`, and
            what `predict` adds. A row that cannot be judged keeps the classifier's class.

        Raises:
            ThresholdNotSet, NotCalibrated: before any forward pass, if there is no threshold or calibration.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        scored, flagged = self._decided(X, batch_size, verbose, control, level)
        if not return_instance_score:
            flagged["instance_score"] = None
        data = correction(scored, flagged, all_predictions=return_all_predictions)
        return {"meta": self.meta, "data": data}

    def save(self, path: str | Path, *, include_classifier: bool = True) -> None:
        """Write the detector to a folder: `detector.json`, and files that it names with their SHA-256. No pickle.

        An existing detector there is replaced whole or, if anything fails, stays as it was.

        Args:
            path: the folder; made if it does not exist.
            include_classifier: whether the classifier is written too, if it is a Keras model. Of a PyTorch module the
                state is, as safetensors. For any but a Keras model `load_detector` asks, and checks by the SHA-256 of
                what it has learned that it is the same.

        Raises:
            NotFitted: the detector has not seen rows yet, and its classifier does not know their shape.
            NotADetector: the folder exists and holds something else.
        """
        if not self._is_ready:
            raise NotFitted("there is nothing to save yet: the shape of the rows is not known before fit(X)")
        threshold = self.threshold.tolist() if isinstance(self.threshold, np.ndarray) else self.threshold
        document = {
            "detector": type(self).__name__,
            "threshold": threshold,
            "settings": self.settings,
            "meta": dict(self.meta),
            "classifier": {"fingerprint": self.classifier.fingerprint(), "source": type(self.classifier).__name__},
            "inputs": self.route.settings(),
            "fitted": self.is_fitted,
            "uncertainty_weight": self.uncertainty_weight,
            "companion_preprocess": self.companion_preprocess not in (None, PASSTHROUGH),
            "table": self.table,
        }
        parts = {name: part for name, part in self.parts.items() if include_classifier or name != "classifier"}
        learned = {"calibration": self.calibration, "harm": self.harm}
        arrays = {name: part.as_arrays() for name, part in learned.items() if part is not None}
        storage.write(Path(path), document, parts, arrays)

    def export(
        self,
        path: str | Path,
        *,
        opset: int = 18,
        float16: bool = False,
        int8: bool = False,
        X: Any = None,
        X_adversarial: Any = None,
        max_loss: float = 0.01,
    ) -> "Exported":
        """Write the whole procedure as one ONNX file: networks, threshold and calibration scores, for any batch size.

        Its input is called `x` (or by the names of a dict of inputs), and `threshold` is another with the detector's as
        its default. Its outputs: `instance_score`, `is_adversarial`, `p_value` (of a calibrated detector), `corrected`,
        `no_defense`, `defense`, and `probabilities`, those of the class that `corrected` names: the opinion's where
        flagged, elsewhere the classifier's own, not sharpened by a temperature. For those who ask: `reference`,
        `opinion` and, of an autoencoder, `reconstruction`. A row that cannot be judged has a score of infinity and is
        flagged. `demur.runtime.load` runs the file without Keras. It is loaded and compared with the detector before
        it takes the place of what was there.

        Examples:
            >>> detector.export("exported.onnx").precision                     # doctest: +SKIP
            'float32'

        Args:
            path: the file, `.onnx`.
            opset: ONNX's operation set, 13 or more.
            float16: compute the networks in half precision: half the size, and quicker where the hardware has it.
            int8: weights of convolutions and dense layers as bytes (dynamic quantisation): a quarter of the size.
            X: `(n, *input_shape)`, normal rows as `infer_threshold` takes them. Needed with less precision, to infer
                the threshold and p-values anew from the file's scores and to measure what is lost; without it, the
                file is compared with the detector on made-up rows.
            X_adversarial: `(m, *input_shape)`, rows that should be flagged, to measure on; None for `X` with noise.
            max_loss: how much AUROC, and which share of the answers, less precision may cost.

        Returns:
            What was written: its size, how far it is from the detector, what less precision costs.

        Raises:
            ThresholdNotSet, NotFitted: there is nothing to decide by, or the shape of the rows is not known yet.
            NotExportable: the classifier is outside of the graph, or uses something that ONNX has not.
            ExportDiffers: the file does not answer as the detector does. Nothing is written.
            LossTooLarge: less precision costs more than `max_loss`. Nothing is written.
            MissingExtra, InvalidSetting, FileNotFoundError: see `demur.errors`.
        """
        from demur.export import export

        return export(
            self,
            path,
            opset=opset,
            float16=float16,
            int8=int8,
            X=X,
            X_adversarial=X_adversarial,
            max_loss=max_loss,
        )

    # Shared by the methods above ----------------------------------------------------------------------------------

    def _source(self, X: Any, name: str = "X", *, finite: bool = True) -> Source:
        """Rows from the caller, checked."""
        return as_source(X, self.classifier.layout, name, finite=finite)

    def _check_classifier(self, rows: Rows) -> None:
        """Check, the first time, that the classifier returns distributions for rows."""
        classifier = self.classifier
        if isinstance(classifier, GraphClassifier) and not (self._probabilities_checked or classifier.is_logits):
            half = Half(lambda x: classifier.outputs(x)[:1], self._layers)
            outputs = compiled(half, classifier.layout)(taken(rows, slice(0, 32)), 32)()
            classifier.check_probabilities(outputs[0])
        self._probabilities_checked = True

    def _scored(
        self, X: Any, batch_size: int, verbose: bool, *, flag_invalid: bool, probabilities: bool = False
    ) -> Scored:
        check_whole("batch_size", batch_size, 1)
        X = self._ready_for(X)
        source = CheckedSource(self._source(X, finite=not flag_invalid), self._check_classifier)
        with self._lock:
            scoring = self._scoring
        return score_rows(
            self.route.kept_apart(scoring) if flag_invalid else scoring,
            source,
            batch_size,
            verbose=verbose,
            flag_invalid=flag_invalid,
            probabilities=probabilities,
        )

    def _judged(self, X: Any, batch_size: int, verbose: bool, *, probabilities: bool = False) -> Scored:
        """Score rows, those that cannot be judged as `on_invalid` says."""
        flag_invalid = self.on_invalid == "flag"
        return self._scored(X, batch_size, verbose, flag_invalid=flag_invalid, probabilities=probabilities)

    def _decided(
        self, X: Any, batch_size: int, verbose: bool, control: Control, level: float
    ) -> tuple[Scored, PredictData]:
        """Score rows and flag them."""
        check_control(control, level, self.calibration)
        if control is None and self.threshold is None:
            raise ThresholdNotSet(
                f"{type(self).__name__} has no threshold yet: call infer_threshold(X) or set detector.threshold"
            )
        scored = self._judged(X, batch_size, verbose)
        data = decide(scored, self.threshold, self.calibration, control, level)
        if self.on_invalid == "flag":
            data["invalid"] = scored.invalid
        if self.harm is not None:
            data["harm_probability"] = self.harm.probability(scored.score)
        return scored, data

    @functools.cached_property
    def _scoring(self) -> Network:
        return self.route.scoring(self.graph)

    def _reference(self, source: Source, batch_size: int, verbose: bool, devices: Devices) -> list[npt.NDArray[Any]]:
        """The reference views' log-probabilities of all rows, computed once for all epochs."""
        network = self.route.reference(self.views, [part for part in self._layers if part is not self.companion])
        rows: Any = source.rows

        def compute(part: slice) -> list[npt.NDArray[Any]]:
            own = CheckedSource(ArraySource(taken(rows, part)), self._check_classifier)
            passes = over_batches(network, own, batch_size, verbose and not self.classifier.in_graph)
            return gathered(passes, part.stop - part.start, spacious)

        return devices.gathered(row_count(rows), compute, spacious)


def _optimizer(optimizer: Any) -> Any:
    if optimizer is None:
        return keras.optimizers.Adam(1e-3)
    try:
        return optimizer() if isinstance(optimizer, type) else keras.optimizers.get(optimizer)
    except ValueError as error:
        raise InvalidSetting(f"optimizer is a Keras optimizer: class, instance or name; got {optimizer!r}") from error
