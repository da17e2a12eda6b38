"""The contract of a detector, and all the code that detectors share."""

import abc
import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, overload

import keras
import numpy as np
import numpy.typing as npt

from demur import storage
from demur._version import __version__
from demur.calibration import Calibration, Threshold, check_percentile, rational
from demur.classifiers.keras_model import KerasClassifier
from demur.data import check_whole, is_number
from demur.decision import Control, calibrate, check_control, decide
from demur.errors import InvalidSetting, ShapeMismatch, ThresholdNotSet, WrongType
from demur.feeding import Drawn, StreamBatches, TrainingBatches
from demur.graph import DetectorGraph, Network, Views, compiled
from demur.results import CorrectData, CorrectResult, Floats, Meta, PredictData, PredictResult
from demur.scoring import Scored, gathered, over_batches, score_rows, spacious
from demur.sources import CheckedSource, Source, as_source
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

OnInvalid = Literal["raise", "flag"]
"""What becomes of a row that cannot be judged: an error, or a flag."""


class Detector(abc.ABC):
    """A second opinion on a classifier: settings in `__init__`, data in methods, `fit` returns the detector.

    A subclass names its companion and builds the two halves of its graph in `views`; it is then known to
    `load_detector` and to the contract tests by its class name.
    """

    registry: ClassVar[dict[str, type["Detector"]]] = {}
    companion_name: ClassVar[str]
    """What the companion is called: in error messages, and as the argument's file in a saved folder."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Detector.registry[cls.__name__] = cls

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
        hidden: Sequence[int | str] = (),
        fallback_shape: Any = None,
    ) -> None:
        if not (is_number(temperature) and temperature > 0):
            raise InvalidSetting(f"temperature is a finite number above 0; got {temperature!r}")
        check_whole("seed", seed, 0)
        self.classifier = KerasClassifier(model, from_logits=from_logits, hidden=hidden, fallback_shape=fallback_shape)
        self.model = model
        self.temperature = float(temperature)
        self.data_type = data_type
        self.from_logits = from_logits
        self.seed = int(seed)
        if on_invalid not in ("raise", "flag"):
            raise InvalidSetting(f"on_invalid is 'raise' or 'flag'; got {on_invalid!r}")
        self.on_invalid = on_invalid
        self.calibration: Calibration | None = None
        self.threshold = threshold
        self.history: dict[str, list[float]] | None = None
        self._probabilities_checked = False
        self._lock = threading.Lock()

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

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `__init__` that are no models, as JSON can hold them."""
        shared = ("temperature", "data_type", "from_logits", "seed", "on_invalid")
        return {**self.own_settings, **{name: getattr(self, name) for name in shared}}

    @functools.cached_property
    def graph(self) -> DetectorGraph:
        """The detector as one Keras model, `x -> [score, reference probabilities, opinion probabilities]`."""
        return DetectorGraph(self.views, list(self.parts.values()))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of one row, without the batch."""
        return self.classifier.row_shape

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
        classes = self.classifier.classes
        limits = np.array(value, "float64") if isinstance(value, list | tuple | np.ndarray) else np.array(np.nan)
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
        return f"<{type(self).__name__} on {self.model.name!r}, inputs {self.input_shape}, threshold {threshold}>"

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
        source = CheckedSource(self._source(X), self._check_classifier)
        held_out = None if validation_data is None else self._source(validation_data, "validation_data")
        if held_out is not None and held_out.rows is None:
            raise WrongType("validation_data is an array of inputs")
        objective = Objective(self.views, instance_loss(loss_fn), w_model, w_recon)
        dtype = self.classifier.row_dtype

        def in_memory(source: Source, preprocess_fn: Any, shuffle_seed: int | None) -> Drawn:
            return TrainingBatches(
                np.asarray(source.rows),
                self._reference(source, max(batch_size, 256)) if preprocess_fn is None else None,
                batch_size=batch_size,
                shape=self.input_shape,
                dtype=dtype,
                preprocess_fn=preprocess_fn,
                shuffle_seed=shuffle_seed,
            )

        trainer = Trainer(self.companion, objective, named_metrics(log_metric))
        fixed = [part for part in self.parts.values() if part is not self.companion]
        is_stream = source.rows is None
        batches = (
            StreamBatches(source, self.input_shape, dtype, preprocess_fn, epochs)
            if is_stream
            else in_memory(source, preprocess_fn, self.seed)
        )
        validation_batches = None if held_out is None else in_memory(held_out, None, None)
        trainer.compile(
            optimizer=_optimizer(optimizer),
            jit_compile=xla_setting() if jit_compile is None else jit_compile,
            steps_per_execution=steps_per_execution
            or steps_together(self.parts.values(), self.input_shape, batches, batch_size, callbacks),
        )
        self._forget_calibration()
        try:
            with frozen(fixed), interruptible() as stop:
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
            raise KeyboardInterrupt(
                f"fit was interrupted after {len(trainer.history.epoch)} of {epochs} epochs: the detector is usable "
                f"with the {self.companion_name}'s weights so far, the classifier is as it was, and fit(X) goes on"
            ) from None
        self.history = trainer.history.history
        return self

    def _forget_calibration(self) -> None:
        """Forget what was inferred from scores that training changes; a threshold given by hand stays."""
        if self.calibration is not None and np.array_equal(self.calibration.threshold, np.asarray(self.threshold)):
            self.threshold = None
        self.calibration = None

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

        Args:
            X: `(n, *input_shape)` or a stream of such rows, held out from `fit`. NaN in it is an error, whatever
                `on_invalid` says.
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
        if labels is not None and hasattr(X, "__array__"):
            _checked_labels(labels, len(X))
        scored = self._scored(X, batch_size, verbose, flag_invalid=False)
        self.calibration = calibrate(
            scored,
            fpr=fpr,
            threshold_perc=threshold_perc,
            margin=margin,
            labels=None if labels is None else _checked_labels(labels, len(scored.score)),
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
            called on, `data` holds `"p_value"` too, and with `on_invalid="flag"` also `"invalid"`.

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
        no_defense, defense = scored.y, scored.y_opinion
        corrected = np.where(flagged["is_adversarial"], defense, no_defense)
        corrected[scored.invalid] = no_defense[scored.invalid]
        data = CorrectData(
            **flagged,
            corrected=corrected,
            no_defense=no_defense if return_all_predictions else None,
            defense=defense if return_all_predictions else None,
        )
        return {"meta": self.meta, "data": data}

    def save(self, path: str | Path, *, include_classifier: bool = True) -> None:
        """Write the detector to a folder: `detector.json`, and files that it names with their SHA-256. No pickle.

        An existing detector there is replaced whole or, if anything fails, stays as it was.

        Args:
            path: the folder; made if it does not exist.
            include_classifier: whether the classifier is written too; if not, `load_detector` asks for it and checks,
                by the SHA-256 of its weights, that it is the same.

        Raises:
            NotADetector: the folder exists and holds something else.
        """
        threshold = self.threshold.tolist() if isinstance(self.threshold, np.ndarray) else self.threshold
        document = {
            "detector": type(self).__name__,
            "threshold": threshold,
            "settings": self.settings,
            "meta": dict(self.meta),
            "classifier": {"fingerprint": storage.fingerprint(self.model)},
        }
        parts = {name: part for name, part in self.parts.items() if include_classifier or name != "classifier"}
        arrays = {} if self.calibration is None else {"calibration": self.calibration.as_arrays()}
        storage.write(Path(path), document, parts, arrays)

    # Shared by the methods above ----------------------------------------------------------------------------------

    def _source(self, X: Any, name: str = "X", *, finite: bool = True) -> Source:
        """Rows from the caller, checked."""
        return as_source(X, self.input_shape, name, finite=finite)

    def _check_classifier(self, rows: npt.NDArray[Any]) -> None:
        """Check, the first time, that the classifier returns distributions for rows."""
        if not self._probabilities_checked and not self.classifier.is_logits:
            x = rows[:32].astype(self.classifier.row_dtype, copy=False)
            self.classifier.check_probabilities(self._compiled(self.model)(x)()[0])
        self._probabilities_checked = True

    def _compiled(self, network: Any) -> Network:
        return compiled(network, self.input_shape, self.classifier.row_dtype)

    @functools.cached_property
    def _scoring(self) -> Network:
        return self._compiled(self.graph)

    def _scored(
        self, X: Any, batch_size: int, verbose: bool, *, flag_invalid: bool, probabilities: bool = False
    ) -> Scored:
        check_whole("batch_size", batch_size, 1)
        source = CheckedSource(self._source(X, finite=not flag_invalid), self._check_classifier)
        with self._lock:
            scoring = self._scoring
        return score_rows(
            scoring,
            source,
            batch_size,
            self.classifier.row_dtype,
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
        return scored, data

    def _reference(self, rows: Source, batch_size: int) -> list[npt.NDArray[Any]]:
        """The reference views' log-probabilities of all rows, computed once for all epochs."""
        half = ReferenceHalf(self.views.reference, [part for part in self.parts.values() if part is not self.companion])
        passes = over_batches(self._compiled(half), rows, batch_size, self.classifier.row_dtype)
        return gathered(passes, 0 if rows.rows is None else len(rows.rows), spacious)


class ReferenceHalf(keras.layers.Layer):  # type: ignore[misc]
    """One half of a graph, with the Keras layers it uses."""

    def __init__(self, reference: Callable[[Any], list[Any]], parts: Iterable[Any]) -> None:
        super().__init__(dtype="float32", autocast=False)
        self.reference, self.parts = reference, list(parts)

    def call(self, x: Any) -> list[Any]:
        return self.reference(x)


def _checked_labels(labels: Any, n: int) -> npt.NDArray[np.integer[Any]]:
    classes = np.asarray(labels)
    if classes.shape != (n,) or classes.dtype.kind not in "iu":
        raise ShapeMismatch(
            f"labels must hold one whole number, the true class, for each of the {n} rows; "
            f"got shape {classes.shape} of {classes.dtype}"
        )
    return classes


def _optimizer(optimizer: Any) -> Any:
    if optimizer is None:
        return keras.optimizers.Adam(1e-3)
    try:
        return optimizer() if isinstance(optimizer, type) else keras.optimizers.get(optimizer)
    except ValueError as error:
        raise InvalidSetting(f"optimizer is a Keras optimizer: class, instance or name; got {optimizer!r}") from error
