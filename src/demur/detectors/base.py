"""The contract of a detector, and all the code that detectors share."""

import abc
import functools
import hashlib
import math
import threading
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

import keras
import numpy as np
import numpy.typing as npt

from demur import backends, checks
from demur._version import __version__
from demur.backends import Devices
from demur.backends.divergence import DIVERGENCES, Tensor, sharpen
from demur.backends.forks import computing
from demur.calibration.agreement import Agreement, split, warn_if_poor
from demur.calibration.harm import HarmCalibration
from demur.calibration.held_out import (
    KnownRows,
    PassingRows,
    look_once,
    warn_if_by_chance,
    warn_if_other,
    warn_if_trained_on,
)
from demur.calibration.thresholds import Calibration, Threshold, check_percentile, rational
from demur.calibration.wording import count, number
from demur.checks import check_whole, is_number
from demur.classifiers import BlackBoxClassifier, GraphClassifier, source_of
from demur.classifiers.keras_model import known_layout
from demur.classifiers.torch_module import is_module
from demur.detectors import storage
from demur.detectors.copying import copied, made_again, state_of
from demur.errors import (
    InvalidSetting,
    NoGradients,
    NotFitted,
    ShapeMismatch,
    ThresholdNotSet,
    WrongType,
)
from demur.extensions import Registry
from demur.guards.decision import Control, calibrate, check_control, correction, decide
from demur.guards.description import Description
from demur.guards.facts import facts
from demur.guards.results import CorrectResult, Floats, Meta, PredictData, PredictResult, Scored
from demur.lazy import above
from demur.network import nets
from demur.network.companion import as_companion, check_companion
from demur.network.feeding import Drawn, StreamBatches, TrainingBatches, preprocessed
from demur.network.graph import Balance, DetectorGraph, Half, Network, Opinion, Views, compiled
from demur.network.robustness import Robust, as_robust
from demur.network.routes import InGraph, OutOfGraph, Route, answered, is_own
from demur.network.scoring import gathered, over_batches, score_rows, spacious
from demur.network.training import (
    Objective,
    Trainer,
    instance_loss,
    interruptible,
    named_metrics,
    steps_together,
)
from demur.rows.classes import Classes, Name, Said, class_names, settled_classes
from demur.rows.layout import (
    Field,
    Layout,
    Rows,
    as_array,
    as_layout,
    batches,
    cast,
    check_layout,
    compatible,
    describe_layout,
    from_json,
    layout_of,
    row_count,
    shapes_of,
    taken,
    with_columns,
)
from demur.rows.row_sketch import row_keys
from demur.rows.sources import (
    SOME,
    ArraySource,
    CheckedSource,
    DataSet,
    Source,
    as_source,
    collected,
    first_rows,
    is_collection,
    is_data_set,
    some_of,
)
from demur.summary import Readable, Summary

if TYPE_CHECKING:
    from demur.export import Exported

OnInvalid = Literal["raise", "flag"]
"""What becomes of a row that cannot be judged: an error, or a flag."""


DIVERGENCES_ELSEWHERE = {
    "kl": "kld",
    "kl_divergence": "kld",
    "cross_entropy": "xent",
    "categorical_crossentropy": "xent",
}

BALANCED: Literal["balanced"] = "balanced"
BALANCED_AT = 0.95
"""The quantile of training rows at which divergence and uncertainty weigh the same."""
NO_DOUBT = 1e-3
"""Nats of uncertainty that are none: a classifier that is surer of nearly all training rows than this."""
TINY = 1e-30
NUMBERS_AHEAD, FEWEST_AHEAD = 2**22, 64
"""Numbers of training rows that are looked at before training, about, and rows at least."""
COMPARED = 10_000
"""Training rows on which the classifier's accuracy is compared with that on calibration rows, at most."""

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


@checks.explained_methods
class Detector(Readable, abc.ABC):
    """A second opinion on a classifier: settings in `__init__`, data in methods, `fit` returns the detector.

    A subclass names its companion and builds the two halves of its graph in `views`; it is then known to
    `load_detector` and to the contract tests by its class name.

    Examples:
        >>> isinstance(detector, Detector)
        True
        >>> Detector.registry["AdversarialAE"].companion_name
        'autoencoder'
    """

    has_looked = False
    """Whether the scale of rows has been compared with that of the rows of `fit`."""
    _inside = frozenset(
        "build channels_first check_trained classifier companion companion_argument "  # noqa: SIM905
        "companion_layout companion_name description from_parts given_parts graph has_looked "
        "hidden_layers is_ready is_trained needs_gradients opinion own_settings parts "
        "reconstructs reference registry resume route scale table take_weights trained_on "
        "uncertainty_weight view_weights views".split()
    )
    _elsewhere: ClassVar[dict[str, str]] = {
        "autoencoder": "an AdversarialAE's autoencoder is called ae",
        "compile": "fit takes optimizer=, loss_fn= and log_metric=",
        "evaluate": "demur.evaluate(detector, X, y) measures what a guard is worth",
        "load": "demur.load_detector(path) reads what save wrote",
        "predict_proba": "score(X, return_predictions=True) returns both predictions' probabilities with the scores",
        "student": "a ModelDistillation's student is called distilled_model",
        "transform": "reconstruct(X), of an AdversarialAE, returns what its autoencoder makes of rows",
        **dict.fromkeys(
            ("decision_function", "fit_predict", "get_params", "score_samples", "set_params"),
            "demur.sklearn.DemurOutlierDetector(detector) keeps scikit-learn's conventions for outlier detectors",
        ),
        **dict.fromkeys(("eval", "train"), "fit and predict set the networks' modes by themselves"),
        **dict.fromkeys(("load_state_dict", "state_dict"), "save(path) keeps all of it, for demur.load_detector(path)"),
    }

    registry: ClassVar[MutableMapping[str, type["Detector"]]] = Registry("demur.detectors", "demur.detectors")
    companion_name: ClassVar[str]
    """What the companion is called: in error messages, and as the argument's file in a saved folder."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Detector.registry[cls.__name__] = checks.explained_methods(cls)

    companion_argument: ClassVar[str | None] = None
    """The argument of `__init__` that takes a companion of the caller's."""
    reconstructs: ClassVar[bool] = False
    """Whether the companion makes rows of rows."""
    needs_gradients: ClassVar[bool] = False
    """Whether the companion learns through the classifier, which must be in the graph then."""

    classifier: Any
    """The classifier as demur reads it; there once the layout of the rows is known."""
    route: Route
    """How rows reach the classifier and the companion; there from then on, too."""
    table: dict[str, str] | None = None
    """Of a table that the command line made rows of: the columns' kinds by name, in order. See `demur.cli.tables`."""
    scale: float | None = None
    """What the command line multiplied the arrays of `fit` by, and multiplies others by."""
    trained_on: KnownRows | None = None
    """What is remembered of the rows of `fit`."""

    def __init__(
        self,
        model: Any,
        *,
        companion: Any = None,
        threshold: float | None = None,
        temperature: float = 1.0,
        data_type: str | None = None,
        from_logits: bool = False,
        seed: int = 0,
        on_invalid: OnInvalid = "raise",
        input_shape: Any = None,
        channels_last: bool = False,
        loss_type: str = "kld",
        score_type: str = "jeffreys",
        w_uncertainty: float | Literal["balanced"] | None = None,
        companion_preprocess: Any = None,
        classes: Any = None,
    ) -> None:
        computing()
        loss_type = checks.chosen(loss_type, DIVERGENCES, "loss_type", DIVERGENCES_ELSEWHERE)
        score_type = checks.chosen(score_type, DIVERGENCES, "score_type", DIVERGENCES_ELSEWHERE)
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
        self._source_class = source_of(model)
        if self.needs_gradients and not self._source_class.in_graph:
            source = self._source_class
            raise NoGradients(
                f"{type(self).__name__} trains through the classifier, and {source.kind} gives no gradients"
                + (
                    f" while Keras computes with {backends.current().name}: set KERAS_BACKEND={source.native!r} before "
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
        self.on_invalid = checks.chosen(on_invalid, ("raise", "flag"), "on_invalid")
        self.channels_last = bool(channels_last)
        self.companion_preprocess = companion_preprocess
        self._classes = None if classes is None else class_names(classes)
        self._said_before: Said | None = None
        """What the classifier said its classes are called when the detector was saved: some say it with an answer."""
        self.calibration: Calibration | None = None
        self.harm: HarmCalibration | None = None
        self.threshold = threshold
        self.history: dict[str, list[float]] | None = None
        self.agreement: Agreement | None = None
        self.is_fitted = False
        self._layout = None if input_shape is None else as_layout(input_shape)
        self._is_ready = False
        self._probabilities_checked = False
        self._lock = threading.RLock()
        given = self._given(companion)
        setattr(self, self.companion_argument or self.companion_name, given)
        self._companion: Any = None if given is None else as_companion(given, self.companion_name)
        self._prepare_if_known(companion)

    def _given(self, companion: Any) -> Any:
        """The companion that the caller gave, or meant."""
        return companion

    # Getting ready: what depends on the rows, which not every classifier knows by itself ------------------------------

    def _prepare_if_known(self, *companions: Any) -> None:
        """Get ready now if the layout of the rows is known, so that what is wrong is told at once.

        Outside the graph the first rows are waited for: a black box is not asked about rows that are made up.
        """
        self._companion_is_given = any(companion is not None for companion in companions)
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
        _ = self.labels  # raises an error if classes= does not fit the classifier
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

    def _make_companion(self) -> None:
        """Make the companion if it was not given, and check it, now that `classifier` and its layout are known."""
        layout = self.companion_layout
        if self._companion is None:
            self._companion = self.build(layout)
            setattr(self, self.companion_argument or self.companion_name, self._companion)
        check_companion(self._companion, self.classifier, layout, self.companion_name)

    def _ready_for(self, X: Any, *, fitting: bool = False) -> Any:
        """Get ready, if need be, for rows like these; return them as they can be drawn from still."""
        computing()
        with self._lock:
            if self._is_ready:
                return X
            rows, X = first_rows(X)
            if self._layout is not None:
                check_layout(rows, self._layout, finite=False)
            layout = layout_of(rows)
            self._prepare(layout, check_layout(rows, layout, finite=False), fitting=fitting)
            return X

    @property
    def is_trained(self) -> bool:
        """Whether the companion has learned: in `fit`, or before the caller passed it, which the caller answers for."""
        return self.is_fitted or self._companion_is_given

    def check_trained(self) -> None:
        """Raise NotFitted where the companion is one that demur made and that `fit` has not trained yet."""
        if self.is_trained:
            return
        instead = f", or pass a trained {self.companion_name} as {self.companion_argument}="
        raise NotFitted(
            f"the {self.companion_name} of {type(self).__name__} has not been trained yet, so scores would mean "
            f"nothing: {self._how_to_train} on normal rows first{instead if self.companion_argument else ''}"
        )

    @property
    def _how_to_train(self) -> str:
        return "call fit(X)"

    # What a detector is made of -----------------------------------------------------------------------------------

    @property
    def companion(self) -> Any:
        """The Keras model that `fit` trains."""
        return self._companion

    @abc.abstractmethod
    def build(self, layout: Layout) -> Any:
        """Make a companion, a Keras model, for rows of a layout; `classifier` is known by then."""

    @abc.abstractmethod
    def opinion(self, x: Tensor, training: bool) -> Opinion:
        """The companion's view of a batch, in the backend's tensors: log-probabilities, and what else it makes."""

    def reference(self, x: Tensor) -> list[Tensor]:
        """The classifier's view of a batch: log-probabilities, sharpened by the temperature."""
        return [sharpen(self.classifier(x, training=False)[0], self.temperature)]

    @property
    def view_weights(self) -> list[float]:
        """What the divergence of each view counts in the score and in the loss."""
        return [1.0]

    @property
    def views(self) -> Views:
        """The two halves of the graph and how they are compared."""
        return Views(
            self.reference,
            self.opinion,
            loss=DIVERGENCES[self.loss_type],
            divergence=DIVERGENCES[self.score_type],
            weights=self.view_weights,
            w_uncertainty=self._w_uncertainty,
        )

    @property
    def parts(self) -> dict[str, Any]:
        """Every Keras model of the detector, by the name of its file."""
        return self.given_parts

    @property
    def own_settings(self) -> dict[str, Any]:
        """The arguments of `__init__` that only this kind of detector has and that are no models, for JSON."""
        return {}

    @classmethod
    def from_parts(cls, parts: dict[str, Any], settings: dict[str, Any]) -> Self:
        """Make the detector again from what `parts` and `settings` returned."""
        companion = {cls.companion_argument or cls.companion_name: parts[cls.companion_name]}
        return cls(parts["classifier"], **companion, **settings)

    def take_weights(self, parts: dict[str, Any]) -> None:
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
    def given_parts(self) -> dict[str, Any]:
        """The networks that the caller gave, by the names that `parts` has for them."""
        return {"classifier": self.model, self.companion_name: self._companion}

    @property
    def channels_first(self) -> bool:
        """Whether rows are images as PyTorch has them, `(channels, height, width)`."""
        return is_module(self.model) and not self.channels_last

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `__init__` that are no models, as JSON can hold them."""
        classes = {} if self._classes is None else {"classes": list(self._classes)}
        return {**self.own_settings, **{name: getattr(self, name) for name in SHARED_SETTINGS}, **classes}

    @property
    def labels(self) -> Classes:
        """The classifier's classes: how many there are, and what they are called, if that is known."""
        if not hasattr(self, "classifier"):
            return settled_classes(self._classes, self._source_class.said_by(self.model), None)
        said = self.classifier.said() or self._said_before
        return settled_classes(self._classes, said, self.classifier.classes or None)

    @property
    def classes(self) -> tuple[Name, ...] | None:
        """What the classes are called, in the order of the classifier's outputs: as `classes=` or the model says.

        None where nobody says: labels are 0, 1, 2, ... then. It may be set at any time.
        """
        return self.labels.names

    @classes.setter
    def classes(self, names: Any) -> None:
        before, self._classes = self._classes, None if names is None else class_names(names)
        try:
            _ = self.labels
        except InvalidSetting:
            self._classes = before
            raise

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
        is_given = isinstance(value, list | tuple) or hasattr(value, "__array__")
        limits = as_array(value, "threshold").astype("float64") if is_given else np.array(np.nan)
        if limits.ndim == 0 and np.isfinite(limits):
            return float(limits)
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

    @property
    def _description(self) -> Description:
        """What an exported file and a summary say of the detector; without a digest of the classifier."""
        is_ready = self._is_ready
        return Description(
            detector=type(self).__name__,
            threshold=self.threshold,
            layout=self.classifier.layout if is_ready else self._layout,
            inputs=(),
            classes=self.labels.count or 0,
            labels=self.labels,
            temperature=self.temperature,
            on_invalid=self.on_invalid,
            data_type=self.data_type,
            channels_first=self.channels_first,
            classifier=None,
            precision="float32",
            versions={"demur": __version__, "keras": keras.__version__, "backend": backends.current().name},
            calibration=self.calibration,
            harm=self.harm,
            agreement=self.agreement,
            title=self._title,
            score_type=self.score_type,
            is_trained=self.is_trained,
        )

    @property
    def _title(self) -> str:
        name = self.classifier.title if self._is_ready else getattr(self.model, "name", type(self.model).__name__)
        return f"{name}, {self._source_class.kind}"

    def summary(self) -> Summary:
        """What the detector is and what it promises, in some lines: a string, which a notebook shows as HTML.

        Examples:
            >>> print(detector.summary())                                      # doctest: +SKIP
            AdversarialAE on 'classifier'
              classifier  classifier, a Keras model
              rows        (n, 8, 8, 1) float32
              ...
        """
        found = facts(self._description)
        if self.history:
            loss = self.history["loss"]
            found["trained"] = f"{count(len(loss), 'epoch')}, loss {number(loss[0])} to {number(loss[-1])}"
        return Summary(f"{type(self).__name__} on {self._title}", found)

    def __repr__(self) -> str:
        threshold = "not set" if self.threshold is None else np.array2string(np.asarray(self.threshold), precision=4)
        title = self.classifier.title if self._is_ready else str(getattr(self.model, "name", type(self.model).__name__))
        agreement = "" if self.agreement is None else f", {self.agreement}"
        return f"<{type(self).__name__} on {title!r}, inputs {self.input_shape}, threshold {threshold}{agreement}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A detector like it on the same classifier, with a companion of its own."""
        memo[id(self)] = copied(self)
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """For other processes: the classifier is pickled by its own means. To keep a detector, `save` it."""
        return made_again, (state_of(self),)

    def resume(
        self,
        inputs: dict[str, Any] | None,
        parts: dict[str, Any],
        fitted: bool,
        uncertainty_weight: float,
        *,
        companion_is_given: bool = True,
    ) -> None:
        """Become what was saved: for rows of the layout that the detector had learned, with its weights."""
        self._companion_is_given = companion_is_given
        if self._balance is not None:
            self._balance.weight.assign(uncertainty_weight)
        if not self._is_ready and inputs is not None:
            self._prepare(from_json(inputs["classifier"]), saved=inputs)
        self.take_weights(parts)
        if inputs is not None and isinstance(known := from_json(inputs["classifier"]), Field):
            self._remember_columns(replace(self.classifier.layout, columns=known.columns))
        self.is_fitted = fitted

    # Learning -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        loss_fn: Any = None,
        *,
        w_model: float = 1.0,
        w_recon: float = 0.0,
        optimizer: Any = None,
        epochs: int = 20,
        batch_size: int = 128,
        verbose: bool | int | str = True,
        log_metric: Any = None,
        callbacks: Sequence[Any] | None = None,
        preprocess_fn: Callable[[npt.NDArray[Any]], Any] | None = None,
        validation_data: Any = None,
        validation_split: float | None = None,
        jit_compile: bool | str | None = None,
        steps_per_execution: int | None = None,
        robust: Robust | float | None = None,
    ) -> Self:
        """Train the companion on normal data; the classifier stays as it is. Called again, training goes on.

        How well the two agree on held-out rows is reported, and a warning says where it is too little to be of use.
        Training changes the scores, so an inferred threshold and the p-values are forgotten; one of your own stays.
        Of an array, the classifier's side (hidden layers too) is computed once and reused in every epoch. With a
        `preprocess_fn`, which may be random, and of a stream, which may change, it is computed in each step.

        Args:
            X: `(n, *input_shape)`, normal data; no labels. Or a stream of batches of such rows: a `tf.data.Dataset`, a
                PyTorch `DataLoader`, a `keras.utils.PyDataset`, any iterable of arrays. It is drawn anew each epoch, in
                batches and an order of its own; one that can be drawn only once has one epoch. Or a data set that gives
                one row at a time, as PyTorch's and Hugging Face's do: its rows are shuffled. Labels beside rows are
                left.
            loss_fn: a Keras loss (name, instance or function of `y_true, y_pred`: the reference's and the opinion's
                probabilities) that takes the place of `loss_type` during training.
            w_model: weight of the prediction term.
            w_recon: weight of the mean squared reconstruction error, scaled by the ratio of the two terms' standard
                deviations over the batch; of an autoencoder.
            optimizer: a Keras optimizer: class, instance or name. Adam with a learning rate of 1e-3 by default.
            epochs: passes over `X`.
            batch_size: rows a step.
            verbose: Keras's progress bar on or off; Keras's own values (0, 1, 2, "auto") are taken too.
            log_metric: a Keras metric, a `(name, metric)` pair or a list of them, of the opinion's probabilities
                (`y_pred`) against the reference's (`y_true`), shown in the progress bar and kept in `.history`.
            callbacks: Keras callbacks. A `ModelCheckpoint` writes the companion.
            preprocess_fn: applied to each training batch as it is drawn, before both views; may be random. Training
                draws up to two batches ahead; on JAX and PyTorch, Keras draws some more to learn their shape.
            validation_data: `(n, *input_shape)`, to report `val_loss`, `val_agreement` (and metrics) on after each
                epoch, in place of rows of `X`; a stream or a data set is put together in memory.
            validation_split: the share of `X` that is held out for it, chosen by `seed`, and not trained on; 0 for
                none. By default a tenth, at most 1,000 rows, and none of fewer than 50 rows or of a stream.
            jit_compile: Keras's `jit_compile`. By default XLA is off for TensorFlow on a CPU, where it halves the
                speed, and Keras's own choice elsewhere.
            steps_per_execution: Keras's `steps_per_execution`: steps that one compiled call takes, so that callbacks
                are called for the last of each. By default 32 for small networks on tables with TensorFlow, where
                no callback of yours looks at batches and an epoch has at least 128 of them; otherwise 1.
            robust: trains on rows perturbed against the companion too: the largest change of a number, or a
                `demur.Robust` with more settings. The classifier's prediction on the unchanged row is what it shall say
                of them: meant against attackers who know the guard. A step takes about `2 + steps` times as long.

        Returns:
            The detector, with `.history`.

        Raises:
            NoGradients: the companion learns through the classifier, through which no gradient goes; looked at once, on
                a few rows, unless `w_recon` is set.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []
        _check_fit(batch_size, epochs, steps_per_execution, preprocess_fn, callbacks)
        self._check_training(w_recon, robust, preprocess_fn)
        X = self._ready_for(X, fitting=True)
        X = DataSet(X, batch_size, self.seed) if is_data_set(X) else X
        self._remember_columns(with_columns(self.classifier.layout, X))
        source = CheckedSource(self._source(X), self._check_classifier)
        objective = Objective(self.views, instance_loss(loss_fn), w_model, w_recon)
        if w_recon == 0:
            self._check_gradients(source.rows)
        held_out = None if validation_data is None else self._in_memory(validation_data, "validation_data")
        chosen, aside = self._split(source, held_out, validation_split)
        devices = backends.current().devices(self.companion)
        self._check_alike(devices, source, {"epochs": epochs, "batch_size": batch_size, "seed": self.seed})
        verbose = verbose if devices.rank == 0 else False
        show = bool(verbose)

        def in_memory(
            source: Source,
            preprocess_fn: Any,
            shuffle_seed: int | None,
            chosen: npt.NDArray[np.int64] | None = None,
            reference: list[npt.NDArray[Any]] | None = None,
        ) -> TrainingBatches:
            if preprocess_fn is None and reference is None:
                reference = self._reference(source, max(batch_size, 256), show, devices)
            return TrainingBatches(
                self.route.training_rows(source.rows) if preprocess_fn is None else source.rows,
                reference,
                batch_size=batch_size,
                layout=self.companion_layout,
                prepare=self.route.prepare(preprocess_fn, is_answered=reference is not None),
                shuffle_seed=shuffle_seed,
                devices=devices,
                chosen=chosen,
            )

        robust, passing = self._robust(robust), self._passing_rows(source.rows)
        preprocess_fn = None if preprocess_fn is None else self._looked_at(preprocess_fn, passing)
        self._look_ahead(source, preprocess_fn, robust, batch_size, devices)
        with devices.scope():
            trainer = Trainer(self.companion, objective, named_metrics(log_metric), robust, devices)
        fixed = [part for part in self.parts.values() if part is not self.companion and hasattr(part, "parameters")]
        is_stream = source.rows is None
        asking = self.route.prepare(preprocess_fn, is_answered=False)
        batches = (
            StreamBatches(source, self.companion_layout, asking, epochs, devices, passing)
            if is_stream
            else in_memory(source, preprocess_fn, self.seed, chosen)
        )
        batches.reference_shapes = batches.reference_shapes or self.route.reference_shapes
        validation_batches = None
        if held_out is None and len(aside):
            held_out = ArraySource(taken(source.rows, aside))
        if held_out is not None:
            known = batches.reference if isinstance(batches, TrainingBatches) and len(aside) else None
            found = None if known is None else [view[aside] for view in known]
            validation_batches = in_memory(held_out, None, None, reference=found)
        with devices.scope():
            trainer.compile(
                optimizer=_optimizer(optimizer),
                jit_compile=backends.current().xla if jit_compile is None else jit_compile,
                steps_per_execution=steps_per_execution
                or steps_together(self._layers, self.companion_layout, batches, batch_size, callbacks),
            )
        self._forget_calibration()

        try:
            with devices.scope(), backends.current().frozen(fixed), interruptible(devices) as stop:
                trainer.fit(
                    batches,
                    epochs=epochs,
                    verbose=verbose if isinstance(verbose, str) else int(verbose or 0),
                    callbacks=[*callbacks, *stop],
                    validation_data=validation_batches,
                    shuffle=False,  # TrainingBatches shuffles rows, with a seed of its own
                )
        except KeyboardInterrupt:
            self._learned(trainer.history.history, source, held_out, batches, devices, passing.known(), show)
            raise KeyboardInterrupt(
                f"fit was interrupted after {len(trainer.history.epoch)} of {epochs} epochs: the detector is usable "
                f"with the {self.companion_name}'s weights so far, the classifier is as it was, and fit(X) goes on"
            ) from None
        self._learned(trainer.history.history, source, held_out, batches, devices, passing.known(), show)
        self.route.forget()
        if self.agreement is not None:
            warn_if_poor(self.agreement, self.companion_name, self.companion_argument)
        return self

    def _check_training(self, w_recon: float, robust: Any, preprocess_fn: Any) -> None:  # noqa: ARG002
        """Check what `fit` was asked for, where not every detector can do it."""
        if w_recon != 0 and not self.reconstructs:
            raise InvalidSetting(
                f"w_recon weighs the error of a reconstruction, and a {self.companion_name} makes none: leave it out"
            )

    def _passing_rows(self, rows: Rows | None = None) -> PassingRows:
        """What looks at rows, those that are there already among them."""
        passing = PassingRows(self.classifier.layout, channels_first=self.channels_first)
        if rows is not None:
            passing.add(rows)
        return passing

    def _looked_at(self, preprocess_fn: Any, passing: PassingRows) -> Callable[[Any], Any]:
        """A `preprocess_fn`, what it makes of rows being looked at."""

        def looked_at(batch: Any) -> Any:
            finite = not self.route.takes_missing
            rows = preprocessed(preprocess_fn, batch, self.classifier.layout, finite=finite)
            passing.add_made(rows)
            return rows

        return looked_at

    @property
    def _learns_scales(self) -> bool:
        """Whether the companion is a ready one that is to learn how large numbers are."""
        return not (self.is_fitted or self._companion_is_given)

    def _look_ahead(
        self, source: Source, preprocess_fn: Any, robust: Robust | None, batch_size: int, devices: Devices
    ) -> None:
        """Have the numbers of some rows, as the companion takes them, fix its scales; check a perturbation's size."""
        layout = self.companion_layout
        if not isinstance(layout, Field) or not (self._learns_scales or robust is not None):
            return
        size = math.prod(known or 1 for known in layout.shape)
        parts = source.first(min(SOME, max(FEWEST_AHEAD, NUMBERS_AHEAD // max(1, size))))
        parts = [batch for part in parts for batch in batches(part, batch_size)]
        made = parts if preprocess_fn is None else map(preprocess_fn, parts)
        rows = [np.asarray(self.route.companion_rows(cast(part, self.classifier.layout))) for part in made]
        if robust is not None:
            robust.check(rows)
        # Whatever else the rows hold, training complains of, by the numbers of the rows.
        if self._learns_scales and all(part.dtype.kind in "buif" for part in rows):
            with devices.scope():
                nets.set_scales(self.companion, np.concatenate(rows))

    def _remember_columns(self, layout: Layout) -> None:
        """Have tables put in the order of the columns that the first training rows had, wherever rows are read."""
        if isinstance(layout, Field) and layout.columns is not None:
            self.classifier.layout = self._layout = layout

    def _split(
        self, source: Source, held_out: Source | None, share: float | None
    ) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64]]:
        """The numbers of the rows to train on, None for all, and of those that are held out of them."""
        none = np.zeros(0, "int64")
        if held_out is not None and held_out.rows is None:
            raise WrongType("validation_data is an array of inputs")
        if share is not None and held_out is not None:
            raise InvalidSetting("validation_data and validation_split are two ways to hold rows out: pass one of them")
        if share and source.rows is None:
            raise InvalidSetting(
                "validation_split holds out rows of an array, and X is a stream: pass validation_data=, an array "
                "of rows that are not in the stream"
            )
        if held_out is not None or source.rows is None:
            return None, none
        return split(row_count(source.rows), share, self.seed)

    def _learned(
        self,
        history: dict[str, list[float]],
        source: Source,
        held_out: Source | None,
        drawn: Drawn,
        devices: Devices,
        known: KnownRows,
        show: bool,
    ) -> None:
        """Keep what training has led to: its history, the balance of the score, the agreement, what the rows were."""
        self.history, self.is_fitted = history, True
        self.trained_on = known if self.trained_on is None else self.trained_on.and_again(known)
        usual = self._set_balance(_usual_rows(source, drawn), devices, show)
        if held_out is not None:
            usual = self._scored(some_of(held_out.rows), 256, show, flag_invalid=True, probabilities=True)
        able = None if usual is None else np.isfinite(usual.score)
        self.agreement = None
        if usual is not None and able is not None and able.any():
            classes = (view[able].argmax(axis=1) for view in (usual.y, usual.y_opinion))
            self.agreement = Agreement.of(*classes, held_out=held_out is not None)

    def _check_alike(self, devices: Devices, source: Source, settings: dict[str, Any]) -> None:
        """Check that processes which train together were given the same."""
        if devices.processes == 1:
            return
        if source.rows is not None:
            settings["the number of rows"] = row_count(source.rows)
            settings["the rows"] = hashlib.sha256(b"".join(row_keys(some_of(source.rows)))).hexdigest()
        devices.check_alike({**settings, "the classifier's weights": self.classifier.fingerprint()})

    def _set_balance(self, rows: Any, devices: Devices, show: bool) -> Scored | None:
        """Weigh the classifier's uncertainty so that on training rows it reaches as far as the divergence.

        The weight is the ratio of their 95th percentiles: at a threshold that flags a few per cent, each of the two
        flags about half of them. Returns what was found of the rows on the way.
        """
        if rows is None:
            return None
        if self._balance is not None:
            self._balance.weight.assign(0.0)
        found = self._scored(rows, 256, show, flag_invalid=True, probabilities=True)
        if self._balance is None:
            return found
        able = np.isfinite(found.score)
        if able.any():
            doubt = -np.log(np.maximum(found.y[able].max(axis=1), TINY))
            ratio = np.quantile(found.score[able], BALANCED_AT) / max(np.quantile(doubt, BALANCED_AT), NO_DOUBT)
            self._balance.weight.assign(devices.alike(ratio))
        return found

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
        X_train: Any = None,
        y_train: Any = None,
        batch_size: int = 256,
        verbose: bool = False,
    ) -> Self:
        """Set the threshold from the scores of normal data, and keep them, sorted, for p-values.

        With `fpr`, the threshold is split-conformal: on new data exchangeable with `X`, the false-positive rate is at
        most `fpr`, whatever the distribution of the scores. A percentile promises nothing. Rows that the classifier or
        the companion was trained on are not exchangeable with new rows: after calibration on
        such rows the rate does not hold (docs/calibration.md says how far it is off).
        Beyond 10,000 scores a sketch of 10,000 is kept; a p-value from it is too high by less than 1/10,000.

        Examples:
            >>> detector.infer_threshold(X_held_out, fpr=0.05).calibration.fpr
            0.05

        Args:
            X: `(n, *input_shape)` or a stream of such rows, held out from `fit` and from the training of the
                classifier; or a Dask array, bag or DataFrame of them, which is scored where its parts are. NaN in it is
                an error, whatever `on_invalid` says.
            fpr: false-positive rate, above 0 and below 1; takes the place of `threshold_perc`.
            threshold_perc: percentage of `X` that shall not be flagged, 0 to 100: 95 for 95 %.
            margin: added to the threshold, in nats. A negative one breaks what `fpr` promises.
            labels: `(n,)`, true classes, as `classes` calls them: only the instances that the classifier gets right
                calibrate, and the promise is for such instances. The scores of all of them are kept for
                `demur.drift`.
            groups: "predicted" for a threshold, and p-values, of each predicted class (Mondrian conformal prediction):
                the rate holds within each class.
            X_train: rows that the classifier was trained on, to warn if rows of `X` are among them.
            y_train: their true classes, to warn too, with `labels`, if the classifier is as good on `X` as on them.
            batch_size: rows a forward pass.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            The detector.

        Raises:
            TooFewInstances: for so low a rate; says how many are needed, and of which class.
            NotFitted: the companion has not been trained yet, and demur made it.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.

        Warns:
            WrongRows: rows are on another scale than those of `fit`, or among them, or the labels are those of other
                rows; of Dask collections some rows are looked at, and no labels.
            DependentRows: the scores of rows depend on those of the rows before; not looked at in Dask collections.
        """
        check_percentile(threshold_perc, margin)
        if fpr is not None:
            rational(fpr)
            if threshold_perc != 99.0:
                raise InvalidSetting("fpr and threshold_perc are two ways to a threshold: pass one of them")
        if groups is not None:
            checks.chosen(groups, ("predicted",), "groups")
        self.check_trained()
        if X_train is not None and is_collection(X):
            raise InvalidSetting(
                "X_train is not compared with Dask collections: pass X as arrays, a table or a stream, or no X_train"
            )
        if is_collection(X):
            calibration, some = above("calibrated")(
                self,
                X,
                fpr=fpr,
                threshold_perc=threshold_perc,
                margin=margin,
                labels=labels,
                by_class=groups is not None,
                batch_size=batch_size,
            )
            if some is not None:
                self._check_rows(some)
            self.calibration, self.threshold = calibration, calibration.threshold
            return self
        if labels is not None and hasattr(X, "__array__"):
            self._ready_for(X)
            self.labels.indices(labels, len(X), "labels")
        passing: list[PassingRows] = []
        scored = self._scored(X, batch_size, verbose, flag_invalid=False, passing=passing)
        labels = None if labels is None else self.labels.indices(labels, len(scored.score), "labels")
        found = calibrate(
            scored,
            fpr=fpr,
            threshold_perc=threshold_perc,
            margin=margin,
            labels=labels,
            classes=None if groups is None else self.classifier.classes,
            name_of=self.labels.name_of,
        )
        self._check_rows(passing[0].known(), scored.y, labels, X_train, y_train, batch_size)
        self.calibration = found
        self.threshold = self.calibration.threshold
        if self.agreement is None:
            agreement = Agreement.of(scored.y, scored.y_opinion, held_out=True)
            warn_if_poor(agreement, self.companion_name, self.companion_argument)
        return self

    def _check_rows(
        self,
        X: Any,
        predicted: Any = None,
        labels: Any = None,
        X_train: Any = None,
        y_train: Any = None,
        batch_size: int = 256,
    ) -> None:
        """Warn of rows and labels that are not what they should be: like those of `fit`, held out, each with its label.

        Args:
            X: the rows, or what is known of them.
            predicted: `(n,)`, the index of the classifier's class; None if that is not known.
            labels: `(n,)`, the index of the true class, or None.
            X_train: rows that the classifier was trained on; None for no comparison.
            y_train: their true classes, or None.
            batch_size: rows a forward pass.
        """
        layout, wrong_trained = self.classifier.layout, None
        rows = X if isinstance(X, KnownRows) else self._passing_rows(X).known()
        held_out_of: dict[str, KnownRows] = {}
        if X_train is None and y_train is not None:
            raise InvalidSetting("y_train are the true classes of X_train: pass X_train too")
        if X_train is not None:
            X_train = check_layout(collected(X_train, layout, "X_train")[0], layout, "X_train", finite=False)
            held_out_of["the rows of X_train"] = self._passing_rows(X_train).known()
        if y_train is not None:
            true = self.labels.indices(y_train, row_count(X_train), "y_train")
            some = np.random.default_rng(0).permutation(len(true))[:COMPARED]
            wrong_trained = self._judged(taken(X_train, some), batch_size, False).y != true[some]
        if self.trained_on is not None:
            warn_if_other(rows.ranges, self.trained_on.ranges)
            held_out_of["the rows that fit was given"] = self.trained_on
        if labels is not None:
            warn_if_by_chance(predicted, labels)
        warn_if_trained_on(rows, held_out_of, None if labels is None else predicted != labels, wrong_trained)

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
            NotFitted: the companion has not been trained yet, and demur made it; as for all that follows.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        look_once(self, X)
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
                a share of `level` is expected to be normal (Benjamini & Hochberg, 1995, on the p-values). Where nothing
                is flagged and hardly anything could be, for want of calibration rows, `demur.errors.NoPower` is warned
                of.
            level: see `control`.
            verbose: show a progress bar once it takes more than two seconds.

        Returns:
            `{"meta": ..., "data": {"is_adversarial", "instance_score"}}`; from a detector that `infer_threshold` was
            called on, `data` holds `"p_value"` too, with `on_invalid="flag"` also `"invalid"`, and after
            `demur.drift.calibrate_accuracy` also `"harm_probability"`: the chance that the classifier is wrong on a
            row with this score, given that the row is like the labelled rows of that call (or, with its
            `corrupted_share`, is corrupted like their copies with that probability). Nothing is
            promised of rows that have drifted: ask `demur.drift.estimate_accuracy` about a batch of them.

        Raises:
            NotFitted, ThresholdNotSet, NotCalibrated: before any forward pass, if the companion has not been trained,
                or there is no threshold or calibration.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        look_once(self, X)
        _, data, how = self._decided(X, batch_size, verbose, control, level)
        if not return_instance_score:
            data["instance_score"] = None
        return PredictResult.of(self.meta, data, **how)

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
            what `predict` adds. Classes are those of `classes`: strings, say, where the classifier's are. A row that
            cannot be judged keeps the classifier's class.

        Raises:
            NotFitted, ThresholdNotSet, NotCalibrated: before any forward pass, if the companion has not been trained,
                or there is no threshold or calibration.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        look_once(self, X)
        scored, flagged, how = self._decided(X, batch_size, verbose, control, level)
        if not return_instance_score:
            flagged["instance_score"] = None
        data = correction(scored, flagged, self.labels, all_predictions=return_all_predictions)
        return CorrectResult.of(self.meta, data, **how)

    def save(self, path: str | Path, *, include_classifier: bool = True) -> None:
        """Write the detector to a folder: `detector.json`, and files that it names with their SHA-256. No pickle.

        An existing detector there is replaced whole or, if anything fails, stays as it was.

        Args:
            path: the folder; made if it does not exist.
            include_classifier: whether the classifier is written too, if it is a Keras model. Of a PyTorch module the
                state is, as safetensors. For any but a Keras model `load_detector` asks, and checks that it is the
                same: by a SHA-256 of what it has learned and, outside of the graph, by its answers on a few made-up
                rows, which are written with it. For these `save` asks the classifier once, unless it is a `BlackBox`.

        Raises:
            NotFitted: the detector has not seen rows yet, and its classifier does not know their shape.
            NotADetector: the folder exists and holds something else.
            InvalidSetting: a model that is written holds a Python lambda, with which it could not be loaded.
        """
        if not self._is_ready:
            raise NotFitted("there is nothing to save yet: the shape of the rows is not known before fit(X)")
        threshold = self.threshold.tolist() if isinstance(self.threshold, np.ndarray) else self.threshold
        document = {
            "detector": type(self).__name__,
            "threshold": threshold,
            "settings": self.settings,
            "meta": dict(self.meta),
            "classifier": {
                "fingerprint": self.classifier.fingerprint(),
                "source": type(self.classifier).__name__,
                "title": self._title,
                "classes": self.labels.as_json(),
            },
            "inputs": self.route.settings(),
            "fitted": self.is_fitted,
            "companion_is_given": self._companion_is_given,
            "agreement": None if self.agreement is None else vars(self.agreement),
            "uncertainty_weight": self.uncertainty_weight,
            "companion_preprocess": is_own(self.companion_preprocess),
            "table": self.table,
            "scale": self.scale,
            "versions": self._description.versions,
        }
        parts = {name: part for name, part in self.parts.items() if include_classifier or name != "classifier"}
        learned = {
            "calibration": self.calibration,
            "harm": self.harm,
            "probe": answered(self.route),
            "trained_on": self.trained_on,
        }
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

        Of a classifier outside the graph, an ONNX model is put into the file; of any other the answer becomes an input,
        `reference` `(n, classes)`: its probabilities, not sharpened (its logits, with `from_logits=True`). The output
        `reference` is called `sharpened` then. Networks of mixed precision compute in float32 in the file.

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
                file is compared with the detector on made-up rows, about which such a classifier is not asked.
            X_adversarial: `(m, *input_shape)`, rows that should be flagged, to measure on; None for `X` with noise.
            max_loss: how much AUROC, and which share of the answers, less precision may cost.

        Returns:
            What was written: its size, how far it is from the detector, what less precision costs.

        Raises:
            ThresholdNotSet, NotFitted: there is nothing to decide by, the companion has not been trained yet, or the
                shape of the rows is not known yet.
            NotExportable: a network computes something that ONNX has not.
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

    def _in_memory(self, X: Any, name: str) -> Source:
        """Rows from the caller, checked, that can be reached in any order."""
        return self._source(collected(X, self.classifier.layout, name)[0], name)

    def _source(self, X: Any, name: str = "X", *, finite: bool = True) -> Source:
        """Rows from the caller, checked."""
        return as_source(X, self.classifier.layout, name, finite=finite and not self.route.takes_missing)

    def _check_classifier(self, rows: Rows) -> None:
        """Check, the first time, that the classifier returns for rows what it is said to return."""
        classifier = self.classifier
        if isinstance(classifier, GraphClassifier) and not (self._probabilities_checked or classifier.ends_visibly):
            half = Half(lambda x: classifier.outputs(x)[:1], self._layers)
            outputs = compiled(half, classifier.layout)(taken(rows, slice(0, 32)), 32)()
            classifier.check_outputs(outputs[0])
        self._probabilities_checked = True

    def _check_gradients(self, rows: Rows | None) -> None:
        """Check, before training, that gradients reach a companion which learns through the classifier."""

    def _scored(
        self,
        X: Any,
        batch_size: int,
        verbose: bool,
        *,
        flag_invalid: bool,
        probabilities: bool = False,
        passing: list[PassingRows] | None = None,
    ) -> Scored:
        """Score rows; what has looked at them on the way is put into `passing`."""
        check_whole("batch_size", batch_size, 1)
        self.check_trained()
        X = self._ready_for(X)
        look = None
        if passing is not None:
            passing.append(self._passing_rows())
            look = passing[-1].add
        source = CheckedSource(self._source(X, finite=not flag_invalid), self._check_classifier, look)
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
    ) -> tuple[Scored, PredictData, dict[str, Any]]:
        """Score rows and flag them; last, by what."""
        self.check_trained()
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
        return scored, data, {"threshold": self.threshold} if control is None else {"level": level}

    @functools.cached_property
    def _scoring(self) -> Network:
        return self.route.scoring(self.graph)

    def _reference(self, source: Source, batch_size: int, verbose: bool, devices: Devices) -> list[npt.NDArray[Any]]:
        """The reference views' log-probabilities of all rows, computed once for all epochs."""
        network = self.route.reference(self.views, [part for part in self._layers if part is not self.companion])
        rows: Any = source.rows

        def compute(part: slice) -> list[npt.NDArray[Any]]:
            chosen = rows if part == slice(0, row_count(rows)) else taken(rows, part)  # sparse rows stay sparse
            own = CheckedSource(ArraySource(chosen), self._check_classifier)
            passes = over_batches(network, own, batch_size, verbose)
            return gathered(passes, part.stop - part.start, spacious)

        return devices.gathered(row_count(rows), compute, spacious)


def check_detector(detector: Any) -> None:
    """Raise WrongType where something else is given in the place of a detector."""
    if isinstance(detector, Detector):
        return
    hint = ""
    if hasattr(detector, "takes_reference"):  # a guard of demur.runtime
        hint = ": load the one that was exported, demur.load_detector(folder)"
    elif hasattr(detector, "predict") or hasattr(detector, "forward"):
        hint = ": fit one on this classifier first, such as demur.ModelDistillation(model=classifier)"
    raise WrongType(f"detector is an AdversarialAE or a ModelDistillation; got {type(detector).__name__}{hint}")


def _usual_rows(source: Source, drawn: Drawn) -> Any:
    """Some of the rows that were trained on; None of a stream that gave none."""
    if isinstance(drawn, StreamBatches):
        return drawn.some_rows() if drawn.kept else None
    return some_of(source.rows)


def _check_fit(
    batch_size: int, epochs: int, steps_per_execution: int | None, preprocess_fn: Any, callbacks: Any
) -> None:
    """Check the arguments of `fit` that need no rows."""
    check_whole("batch_size", batch_size, 1)
    check_whole("epochs", epochs, 1)
    if steps_per_execution is not None:
        check_whole("steps_per_execution", steps_per_execution, 1)
        if steps_per_execution > 1 and not backends.current().has_many_steps:
            raise InvalidSetting("steps_per_execution is for TensorFlow and JAX; leave it out on PyTorch")
    if preprocess_fn is not None and not callable(preprocess_fn):
        raise WrongType(f"preprocess_fn is a function from a batch to a batch; got {preprocess_fn!r}")
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            hint = ": call it, to make one" if isinstance(callback, type) else ""
            raise WrongType(f"callbacks is a list of Keras callbacks; got {checks.kind(callback)}{hint}")


def _optimizer(optimizer: Any) -> Any:
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
