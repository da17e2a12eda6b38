"""The contract of a detector, and all the code that detectors share."""

import abc
import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypedDict, overload

import keras
import numpy as np
import numpy.typing as npt

from demur import storage
from demur._version import __version__
from demur.calibration import check_percentile, percentile_threshold
from demur.classifiers.keras_model import KerasClassifier, fits_either, graph_of, row_shape
from demur.data import batches, check_batch_size, check_rows, describe, padded, row_list
from demur.errors import InvalidSetting, NonFinite, NotADetector, ShapeMismatch, ThresholdNotSet, WrongType
from demur.graph import DetectorGraph, Views, compiled
from demur.progress import progress
from demur.training import Objective, Trainer, TrainingBatches, frozen, instance_loss, named_metrics, xla_setting

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Meta(TypedDict):
    """What a result says of the detector it comes from."""

    name: str
    detector_type: str
    data_type: str | None
    online: bool
    version: str


class PredictData(TypedDict):
    """`is_adversarial`: bool `(n,)`; `instance_score`: float32 `(n,)` in nats, or None where not asked for."""

    is_adversarial: npt.NDArray[np.bool_]
    instance_score: Floats | None


class CorrectData(PredictData):
    """Class labels, int64 `(n,)`: `corrected`; `no_defense` and `defense`, or None where not asked for."""

    corrected: Labels
    no_defense: Labels | None
    defense: Labels | None


class PredictResult(TypedDict):
    """What `predict` returns."""

    meta: Meta
    data: PredictData


class CorrectResult(TypedDict):
    """What `correct` returns."""

    meta: Meta
    data: CorrectData


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
        hidden: Sequence[int | str] = (),
        fallback_shape: Any = None,
    ) -> None:
        if not (_is_number(temperature) and temperature > 0):
            raise InvalidSetting(f"temperature is a finite number above 0; got {temperature!r}")
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise InvalidSetting(f"seed is a whole number not below 0; got {seed!r}")
        self.classifier = KerasClassifier(model, from_logits=from_logits, hidden=hidden, fallback_shape=fallback_shape)
        self.model = model
        self.temperature = float(temperature)
        self.data_type = data_type
        self.from_logits = from_logits
        self.seed = int(seed)
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
    def settings(self) -> dict[str, Any]:
        """The arguments of `__init__` that are no models, as JSON can hold them."""

    @classmethod
    @abc.abstractmethod
    def from_parts(cls, parts: dict[str, Any], settings: dict[str, Any]) -> Self:
        """Make the detector again from what `parts` and `settings` returned."""

    @functools.cached_property
    def graph(self) -> DetectorGraph:
        """The detector as one Keras model, `x -> [score, reference probabilities, opinion probabilities]`."""
        return DetectorGraph(self.views, list(self.parts.values()))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of one row, without the batch."""
        return self.classifier.row_shape

    @property
    def threshold(self) -> float | None:
        """Scores strictly above it are flagged; None until set or inferred. In nats."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float | None) -> None:
        if value is not None and not _is_number(value):
            raise InvalidSetting(f"threshold is a finite number of nats or None; got {value!r}")
        self._threshold = None if value is None else float(value)

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
        threshold = "not set" if self.threshold is None else f"{self.threshold:.4g}"
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
    ) -> Self:
        check_batch_size(batch_size)
        if not isinstance(epochs, int | np.integer) or epochs < 1:
            raise InvalidSetting(f"epochs is a whole number of at least 1; got {epochs!r}")
        if isinstance(validation_data, tuple):
            raise WrongType("validation_data is an array of inputs alone: no labels are needed")
        rows = self._check(X)
        held_out = None if validation_data is None else self._check(validation_data, "validation_data")
        objective = Objective(self.views, instance_loss(loss_fn), w_model, w_recon)

        def drawn(rows: npt.NDArray[Any], preprocess_fn: Any, shuffle_seed: int | None) -> TrainingBatches:
            return TrainingBatches(
                rows,
                self._reference(rows, max(batch_size, 256)) if preprocess_fn is None else None,
                batch_size=batch_size,
                dtype=self.classifier.row_dtype,
                preprocess_fn=preprocess_fn,
                shuffle_seed=shuffle_seed,
            )

        trainer = Trainer(self.companion, objective, named_metrics(log_metric))
        trainer.compile(optimizer=_optimizer(optimizer), jit_compile=xla_setting())
        fixed = [part for part in self.parts.values() if part is not self.companion]
        with frozen(fixed):
            history = trainer.fit(
                drawn(rows, preprocess_fn, self.seed),
                epochs=epochs,
                verbose=verbose if isinstance(verbose, str) else int(verbose),
                callbacks=list(callbacks) if callbacks else None,
                validation_data=None if held_out is None else drawn(held_out, None, None),
                shuffle=False,  # TrainingBatches shuffles rows, with a seed of its own
            )
        self.history = history.history
        return self

    def infer_threshold(
        self,
        X: Any,
        *,
        threshold_perc: float = 99.0,
        margin: float = 0.0,
        batch_size: int = 256,
        verbose: bool = False,
    ) -> Self:
        """Set the threshold to a percentile of the scores of normal data, best held out from `fit`.

        Args:
            X: `(n, *input_shape)`.
            threshold_perc: percentage of `X` that shall not be flagged, 0 to 100.
            margin: added to the percentile, in nats.
            batch_size: rows a forward pass.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            The detector.

        Raises:
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        check_percentile(threshold_perc, margin)
        score = self._run(X, batch_size, verbose)[0]
        self.threshold = percentile_threshold(score, threshold_perc, margin)
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
            X: `(n, *input_shape)`.
            batch_size: rows a forward pass; the result does not depend on it.
            return_predictions: also return `y`, the classifier's probabilities sharpened by the temperature, and
                `y_opinion`, the companion's; float32 `(n, classes)` each.
            verbose: show a progress bar once it takes more than two seconds.

        Raises:
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        score, y, y_opinion = self._run(X, batch_size, verbose)
        return (score, y, y_opinion) if return_predictions else score

    def predict(
        self, X: Any, *, batch_size: int = 256, return_instance_score: bool = True, verbose: bool = False
    ) -> PredictResult:
        """Flag the instances whose score lies strictly above the threshold.

        Args:
            X: `(n, *input_shape)`.
            batch_size: rows a forward pass.
            return_instance_score: whether the result holds the scores too.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            `{"meta": ..., "data": {"is_adversarial", "instance_score"}}`.

        Raises:
            ThresholdNotSet: before any forward pass, if there is no threshold.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        threshold = self._required_threshold()
        score = self._run(X, batch_size, verbose)[0]
        return {"meta": self.meta, "data": _flagged(score, threshold, return_instance_score)}

    def correct(
        self,
        X: Any,
        *,
        batch_size: int = 256,
        return_instance_score: bool = True,
        return_all_predictions: bool = True,
        verbose: bool = False,
    ) -> CorrectResult:
        """Predict classes: the opinion's where an instance is flagged, the classifier's elsewhere.

        Args:
            X: `(n, *input_shape)`.
            batch_size: rows a forward pass.
            return_instance_score: whether the result holds the scores too.
            return_all_predictions: whether it holds `no_defense` (the classifier's class for each instance) and
                `defense` (the opinion's) too.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            `{"meta": ..., "data": {"is_adversarial", "instance_score", "corrected", "no_defense", "defense"}}`.

        Raises:
            ThresholdNotSet: before any forward pass, if there is no threshold.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        threshold = self._required_threshold()
        score, y, y_opinion = self._run(X, batch_size, verbose)
        flagged = _flagged(score, threshold, return_instance_score)
        no_defense, defense = y.argmax(axis=-1).astype("int64"), y_opinion.argmax(axis=-1).astype("int64")
        data = CorrectData(
            **flagged,
            corrected=np.where(flagged["is_adversarial"], defense, no_defense),
            no_defense=no_defense if return_all_predictions else None,
            defense=defense if return_all_predictions else None,
        )
        return {"meta": self.meta, "data": data}

    def save(self, path: str | Path) -> None:
        """Write the detector to a folder: `detector.json` and one `.keras` file for each model, no pickle.

        An existing detector there is replaced whole or, if anything fails, stays as it was.

        Args:
            path: the folder; made if it does not exist.

        Raises:
            NotADetector: the folder exists and holds something else.
        """
        document = {
            "detector": type(self).__name__,
            "threshold": self.threshold,
            "settings": self.settings,
            "meta": dict(self.meta),
        }
        storage.write(Path(path), document, self.parts)

    # Shared by the methods above ----------------------------------------------------------------------------------

    def _check(self, X: Any, name: str = "X") -> npt.NDArray[Any]:
        """Check rows from the caller and, the first time, that the classifier returns distributions for them."""
        rows = check_rows(X, self.input_shape, name)
        if not self._probabilities_checked and not self.classifier.is_logits:
            x = rows[:32].astype(self.classifier.row_dtype, copy=False)
            self.classifier.check_probabilities(self._compiled(self.model)(x)[0])
        self._probabilities_checked = True
        return rows

    @functools.cached_property
    def _scoring(self) -> Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
        return self._compiled(self.graph)

    def _compiled(self, network: Any) -> Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
        return compiled(network, self.input_shape, self.classifier.row_dtype)

    def _run(self, X: Any, batch_size: int, verbose: bool) -> tuple[Floats, Floats, Floats]:
        """Run the graph over all rows: score `(n,)`, reference and opinion probabilities `(n, classes)`."""
        check_batch_size(batch_size)
        rows = self._check(X)
        with self._lock:
            scoring = self._scoring
        score, y, y_opinion = self._over_batches(scoring, rows, batch_size, verbose)
        bad = np.flatnonzero(~np.isfinite(score))
        if len(bad):
            raise NonFinite(
                f"the score of {len(bad)} of {len(rows)} rows is not finite: {row_list(bad)}; the classifier or "
                f"the {self.companion_name} returns NaN or infinity for them, which training with too high a learning "
                "rate can cause"
            )
        return score, y, y_opinion

    def _reference(self, rows: npt.NDArray[Any], batch_size: int) -> list[npt.NDArray[Any]]:
        """The reference views' log-probabilities of all rows, computed once for all epochs."""
        half = ReferenceHalf(self.views.reference, [part for part in self.parts.values() if part is not self.companion])
        return self._over_batches(self._compiled(half), rows, batch_size, False)

    def _over_batches(
        self, network: Callable[..., list[Any]], rows: npt.NDArray[Any], batch_size: int, verbose: bool
    ) -> list[Any]:
        results: list[list[npt.NDArray[Any]]] = []
        for batch in progress(batches(rows, batch_size), -(-len(rows) // batch_size), verbose):
            x = padded(batch, batch_size).astype(self.classifier.row_dtype, copy=False)
            results.append([output[: len(batch)] for output in network(x)])
        return [np.concatenate(outputs) for outputs in zip(*results, strict=True)]

    def _required_threshold(self) -> float:
        if self.threshold is None:
            raise ThresholdNotSet(
                f"{type(self).__name__} has no threshold yet: call infer_threshold(X) or set detector.threshold"
            )
        return self.threshold


class ReferenceHalf(keras.layers.Layer):  # type: ignore[misc]
    """One half of a graph, with the Keras layers it uses."""

    def __init__(self, reference: Callable[[Any], list[Any]], parts: Iterable[Any]) -> None:
        super().__init__(dtype="float32", autocast=False)
        self.reference, self.parts = reference, list(parts)

    def call(self, x: Any) -> list[Any]:
        return self.reference(x)


def check_companion(companion: Any, classifier: KerasClassifier, name: str) -> None:
    """Raise unless the companion is a Keras model for the classifier's inputs with weights of its own."""
    if not isinstance(companion, keras.Model):
        raise WrongType(f"the {name} must be a Keras model; got {type(companion).__name__}")
    taken = row_shape(companion)
    if taken is not None and not fits_either(taken, classifier.row_shape):
        raise ShapeMismatch(
            f"the {name} must take the classifier's inputs, {describe(classifier.row_shape)}; "
            f"it takes {describe(taken)}"
        )
    if graph_of(companion) is None:
        with contextlib.suppress(Exception):  # builds it; what is wrong with it, if anything, shows below
            companion(classifier.probe(), training=False)
    theirs = {id(variable) for variable in classifier.model.variables}
    shared = [variable.path for variable in companion.trainable_variables if id(variable) in theirs]
    if shared:
        raise InvalidSetting(
            f"the {name} shares trainable weights with the classifier, which fit must not change: "
            f"{', '.join(shared[:5])}. Give it layers of its own, or set trainable = False on the shared ones"
        )


def known_shape(*models: Any) -> tuple[int | None, ...] | None:
    """The row shape that the first model with a known input gives."""
    shapes = (row_shape(model) for model in models if isinstance(model, keras.Model))
    return next((shape for shape in shapes if shape is not None), None)


def _flagged(score: Floats, threshold: float, return_instance_score: bool) -> PredictData:
    return PredictData(is_adversarial=score > threshold, instance_score=score if return_instance_score else None)


def _optimizer(optimizer: Any) -> Any:
    if optimizer is None:
        return keras.optimizers.Adam(1e-3)
    return optimizer() if isinstance(optimizer, type) else keras.optimizers.get(optimizer)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and bool(np.isfinite(value))


def load_detector(path: str | Path, *, custom_objects: dict[str, Any] | None = None) -> Detector:
    """Load a detector that `save` has written, on whichever Keras backend is in use. Runs no code from the folder.

    Args:
        path: the folder.
        custom_objects: classes and functions of your own that the models use, by name; passed to Keras.

    Raises:
        DetectorNotFound, NotADetector, CorruptDetector: see `demur.errors`.
    """
    document, parts = storage.read(Path(path), custom_objects)
    try:
        detector_class = Detector.registry[document["detector"]]
        detector = detector_class.from_parts(parts, document["settings"])
        detector.threshold = document["threshold"]
    except (KeyError, TypeError) as error:
        raise NotADetector(f"{path} does not describe a detector that is known here: {error!r}") from error
    return detector
