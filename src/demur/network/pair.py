"""A classifier and its companion: their settings, how they get ready for rows, and their two views."""

import abc
import threading
from typing import Any, ClassVar, Literal, Self

from demur import checks
from demur.backends.divergence import DIVERGENCES, Tensor, divergence_named, sharpen
from demur.backends.forks import computing
from demur.calibration.agreement import Agreement
from demur.calibration.harm import HarmCalibration
from demur.calibration.held_out import KnownRows
from demur.calibration.thresholds import Calibration
from demur.checks import check_whole, is_number
from demur.classifiers import BlackBoxClassifier, GraphClassifier, check_gives_gradients, source_of
from demur.classifiers.keras_model import known_layout
from demur.classifiers.torch_module import is_module
from demur.errors import InvalidSetting, NotFitted, ShapeMismatch
from demur.guards.base import Guard
from demur.network.companion import as_companion, check_companion
from demur.network.graph import BALANCED, Balance, Opinion, Views, balanced_or_weight
from demur.network.routes import InGraph, OutOfGraph, Route
from demur.rows.classes import Classes, Name, Said, class_names, settled_classes
from demur.rows.layout import Layout, as_layout, compatible, describe_layout, shapes_of
from demur.rows.rows import Rows
from demur.rows.sources import first_rows

OnInvalid = Literal["raise", "flag"]
"""What becomes of a row that cannot be judged: an error, or a flag."""

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


class Pair(Guard):
    """A classifier and its companion, and how their two views of a prediction are compared.

    A subclass says what the companion is (`companion_name`, `build`) and what it says of a batch (`opinion`).
    """

    companion_name: ClassVar[str]
    """What the companion is called: in error messages, and as the argument's file in a saved folder."""
    companion_argument: ClassVar[str | None] = None
    """The argument of `__init__` that takes a companion of the caller's, and the attribute that holds the companion."""
    network_arguments: ClassVar[tuple[str, ...]] = ()
    """Other arguments of `__init__` that take networks: `parts` has these networks."""
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

    calibration: Calibration | None = None
    harm: HarmCalibration | None = None
    agreement: Agreement | None = None
    history: dict[str, list[float]] | None = None
    is_ready = False
    """Whether the layout of the rows is known, and with it all networks."""

    def __init__(
        self,
        model: Any,
        *,
        companion: Any = None,
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
        loss_type = divergence_named(loss_type, "loss_type")
        score_type = divergence_named(score_type, "score_type")
        weight = balanced_or_weight(w_uncertainty, score_type)
        if not (is_number(temperature) and temperature > 0):
            raise InvalidSetting(f"temperature is a finite number above 0; got {temperature!r}")
        check_whole("seed", seed, 0)
        self._source_class = source_of(model)
        if self.needs_gradients:
            check_gives_gradients(self._source_class, type(self).__name__)
        self.model = self._source_class.resolved(model)
        self.temperature = float(temperature)
        self.loss_type, self.score_type = loss_type, score_type
        self.w_uncertainty: float | Literal["balanced"] = weight
        self.balance = Balance() if weight == BALANCED else None
        self.data_type = data_type
        self.from_logits = from_logits
        self.seed = int(seed)
        self.on_invalid = checks.chosen(on_invalid, ("raise", "flag"), "on_invalid")
        self.channels_last = bool(channels_last)
        self.companion_preprocess = companion_preprocess
        self._classes = None if classes is None else class_names(classes)
        self.said_before: Said | None = None
        """What the classifier said its classes are called when the detector was saved: some say it with an answer."""
        self.is_fitted = False
        self._layout = None if input_shape is None else as_layout(input_shape)
        self._probabilities_checked = False
        self._lock = threading.RLock()
        given = self._given(companion)
        self._show(given)
        self._companion: Any = None if given is None else as_companion(given, self.companion_name)
        self._prepare_if_known(companion)

    def _given(self, companion: Any) -> Any:
        """The companion that the caller gave, or meant."""
        return companion

    def _show(self, companion: Any) -> None:
        """Keep the companion under the name that it has for users."""
        if self.companion_argument is not None:
            setattr(self, self.companion_argument, companion)

    # Getting ready: what depends on the rows, which not every classifier knows by itself ------------------------------

    def _prepare_if_known(self, *companions: Any) -> None:
        """Get ready now if the layout of the rows is known, so that what is wrong is told at once.

        Outside the graph the first rows are waited for: a black box is not asked about rows that are made up.
        """
        self.companion_is_given = any(companion is not None for companion in companions)
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
        if isinstance(classifier, BlackBoxClassifier):
            route = OutOfGraph(classifier, self.companion_preprocess, self.temperature)
            if saved is not None:
                route.resume(saved)
            elif rows is not None:
                route.learn(rows, self.companion, fitting=fitting)
            self.route = route
        else:
            self.route = InGraph(classifier)
        self.classifier, self._layout = classifier, classifier.layout
        self._check_classes()
        self._make_companion()
        self.is_ready = True

    def _check_classes(self) -> None:
        """Raise InvalidSetting if what was said of the classes does not fit the classifier."""
        _ = self.labels

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
            self._show(self._companion)
        check_companion(self._companion, self.classifier, layout, self.companion_name)

    def ready_for(self, X: Any, *, fitting: bool = False) -> Any:
        """Get ready, if need be, for rows like these; return them as they can be drawn from still."""
        computing()
        with self._lock:
            if self.is_ready:
                return X
            rows, X = first_rows(X)
            if self._layout is not None:
                Rows.of(rows, self._layout, finite=False)
            self._prepare(rows.layout, rows, fitting=fitting)
            return X

    @property
    def is_trained(self) -> bool:
        """Whether the companion has learned: in `fit`, or before the caller passed it, which the caller answers for."""
        return self.is_fitted or self.companion_is_given

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
    def classifier_title(self) -> str:
        """What to call the classifier."""
        return self.classifier.title if self.is_ready else str(getattr(self.model, "name", type(self.model).__name__))

    @property
    def title(self) -> str:
        """The name of the classifier and its kind."""
        return f"{self.classifier_title}, {self._source_class.kind}"

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
        """The arguments of `__init__` that only this kind of detector has and that are no models, for JSON.

        They are kept in attributes of the same names.

        Raises:
            InvalidSetting: one of them is not.
        """
        known = {*checks.arguments_of(Pair), "threshold", self.companion_argument, *self.network_arguments}
        names = [name for name in checks.arguments_of(type(self)) if name not in known]
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise InvalidSetting(
                f"{type(self).__name__} takes {missing[0]}= and does not keep it, so it could not be saved: write "
                f"self.{missing[0]} = {missing[0]} in __init__, before super().__init__(...)"
            )
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_parts(cls, parts: dict[str, Any], settings: dict[str, Any]) -> Self:
        """Make the detector again from what `parts` and `settings` returned."""
        companion = {cls.companion_argument or "companion": parts[cls.companion_name]}
        return cls(parts["classifier"], **companion, **settings)

    def take_weights(self, parts: dict[str, Any]) -> None:
        """Take over, of the saved parts, the weights of what the detector makes by itself."""

    @property
    def companion_layout(self) -> Layout:
        """Of the rows that the companion takes."""
        return self.route.companion_layout

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
        said = self.classifier.said() or self.said_before
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

    @property
    def uncertainty_weight(self) -> float:
        """The weight of the classifier's uncertainty in the score; with "balanced" it is 0 before `fit`."""
        return float(self._w_uncertainty or 0.0) if self.balance is None else float(self.balance.weight.numpy())

    @property
    def _w_uncertainty(self) -> Any:
        """The weight as the graph takes it."""
        if self.balance is None:
            return self.w_uncertainty or None
        return self.balance.weight

    @property
    def input_shape(self) -> Any:
        """The shape of one row, without the batch: a tuple, or a tuple or dict of them, or the names of columns.

        None where the classifier does not know, until the first rows have come.
        """
        return None if self._layout is None else shapes_of(self._layout)

    @property
    def layout(self) -> Layout:
        """What one row is.

        Raises:
            NotFitted: no rows were seen yet, and the classifier does not know.
        """
        if not self.is_ready:
            raise NotFitted(
                f"{type(self).__name__} has not seen rows yet: call fit(X) or, if its {self.companion_name} has "
                "learned already, score(X) with a few rows"
            )
        layout: Layout = self.classifier.layout
        return layout
