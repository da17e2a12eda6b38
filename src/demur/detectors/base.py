"""The contract of a detector: what a subclass says, and what it gets."""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import keras
import numpy as np
import numpy.typing as npt

from demur import backends, checks
from demur._version import __version__
from demur.calibration.agreement import Agreement, warn_if_poor
from demur.calibration.thresholds import Threshold, as_threshold, check_percentile, rational
from demur.calibration.words import count, number
from demur.detectors import storage
from demur.detectors.copies import copied, made_again, state_of
from demur.errors import InvalidSetting, WrongType
from demur.export import Exported
from demur.extensions import Registry
from demur.guards.base import Guard
from demur.guards.decision import calibrate
from demur.guards.description import Description
from demur.guards.facts import facts
from demur.lazy import above
from demur.network.fit import Learner
from demur.network.live import LiveGuard
from demur.network.pair import Pair
from demur.rows.layout import Field, from_json
from demur.rows.sources import is_collection
from demur.summary import Summary

FOR_USERS = frozenset(
    "agreement calibration classes correct data_type export fit harm history infer_threshold input_shape labels "  # noqa: SIM905
    "meta on_invalid predict save score settings summary temperature threshold".split()
)
"""What `dir(detector)` shows of what all detectors have."""


class Detector(Learner):
    """A second opinion on a classifier: settings in `__init__`, data in methods, `fit` returns the detector.

    A subclass names its companion (`companion_name`), builds one (`build`) and says what the companion says of a batch
    (`opinion`); `load_detector` and the contract tests then know it by the name of its class. See docs/extending.md.

    Examples:
        >>> isinstance(detector, Detector)
        True
        >>> Detector.registry["AdversarialAE"].companion_name
        'autoencoder'
    """

    registry: ClassVar[MutableMapping[str, type["Detector"]]] = Registry("demur.detectors", "demur.detectors")
    """All detectors, by the names of their classes."""
    _inside = frozenset(
        {name for kind in (Guard, Pair, LiveGuard, Learner) for name in (*vars(kind), *kind.__annotations__)}
        - FOR_USERS
        | {"balance", "classifier", "companion_is_given", "description", "registry", "resume", "said_before", "title"}
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

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Detector.registry[cls.__name__] = cls

    def __init__(self, model: Any, *, threshold: float | None = None, **settings: Any) -> None:
        self.threshold = threshold
        super().__init__(model, **settings)

    # What it is ---------------------------------------------------------------------------------------------------

    @property
    def threshold(self) -> Threshold | None:
        """Scores strictly above it are flagged; in nats.

        None until set or inferred; an array `(classes,)` where each predicted class has its own.
        """
        return self._threshold

    @threshold.setter
    def threshold(self, value: float | Sequence[float] | npt.NDArray[Any] | None) -> None:
        known = getattr(self, "classifier", None)  # not before the layout of the rows is known
        classes = None if known is None else known.classes
        self._threshold = None if value is None else as_threshold(value, classes, or_none=True)

    def _check_classes(self) -> None:
        super()._check_classes()
        if isinstance(self._threshold, np.ndarray):
            self.threshold = self._threshold.tolist()  # checked now that the classes are known

    def forget_calibration(self) -> None:
        """Forget what was inferred from scores that training changes; a threshold given by hand stays."""
        if self.calibration is not None and np.array_equal(self.calibration.threshold, np.asarray(self.threshold)):
            self.threshold = None
        super().forget_calibration()

    @property
    def description(self) -> Description:
        """What an exported file and a summary say of the detector; without a digest of the classifier."""
        is_ready = self.is_ready
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
            title=self.title,
            score_type=self.score_type,
            is_trained=self.is_trained,
        )

    def summary(self) -> Summary:
        """What the detector is and what it promises, in some lines: a string, which a notebook shows as HTML.

        Examples:
            >>> print(detector.summary())                                      # doctest: +SKIP
            AdversarialAE on 'classifier'
              classifier  classifier, a Keras model
              rows        (n, 8, 8, 1) float32
              ...
        """
        found = facts(self.description)
        if self.history:
            loss = self.history["loss"]
            found["trained"] = f"{count(len(loss), 'epoch')}, loss {number(loss[0])} to {number(loss[-1])}"
        return Summary(f"{type(self).__name__} on {self.title}", found)

    def __repr__(self) -> str:
        threshold = "not set" if self.threshold is None else np.array2string(np.asarray(self.threshold), precision=4)
        agreement = "" if self.agreement is None else f", {self.agreement}"
        found = f"on {self.classifier_title!r}, inputs {self.input_shape}, threshold {threshold}{agreement}"
        return f"<{type(self).__name__} {found}>"

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
        self.companion_is_given = companion_is_given
        if self.balance is not None:
            self.balance.weight.assign(uncertainty_weight)
        if not self.is_ready and inputs is not None:
            self._prepare(from_json(inputs["classifier"]), saved=inputs)
        self.take_weights(parts)
        if inputs is not None and isinstance(known := from_json(inputs["classifier"]), Field):
            self.remember_columns(replace(self.classifier.layout, columns=known.columns))
        self.is_fitted = fitted

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
                self.check_rows(some)
            self.calibration, self.threshold = calibration, calibration.threshold
            return self
        if labels is not None and hasattr(X, "__array__"):
            self.ready_for(X)
            self.labels.indices(labels, len(X), "labels")
        X = self.ready_for(X)
        passing = self.passing_rows()
        scored = self.scored(X, batch_size=batch_size, verbose=verbose, passing=passing)
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
        self.check_rows(passing.known(), scored.y, labels, X_train, y_train, batch_size)
        self.calibration = found
        self.threshold = self.calibration.threshold
        if self.agreement is None:
            agreement = Agreement.of(scored.y, scored.y_opinion, held_out=True)
            warn_if_poor(agreement, self.companion_name, self.companion_argument)
        return self

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
        storage.save(self, Path(path), include_classifier=include_classifier)

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
