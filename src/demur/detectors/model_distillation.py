"""ModelDistillation: does a smaller student, distilled on clean data, still agree with the classifier?"""

from typing import Any, ClassVar, Literal, Self

from keras import ops

from demur.backends.divergence import Tensor
from demur.checks import chosen
from demur.classifiers.keras_model import KerasClassifier
from demur.detectors.base import Detector
from demur.errors import InvalidSetting, ShapeMismatch
from demur.network import nets
from demur.network.companion import copy_of, ready_shape
from demur.network.graph import Opinion
from demur.network.pair import OnInvalid
from demur.rows.layout import Field, Layout, mapped
from demur.rows.rows import Rows

COPY = "copy"
"""Stands for a student that starts as the classifier is."""


class ModelDistillation(Detector):
    """Flags inputs on which a distilled student disagrees with the classifier: there its decision is fragile.

    A student, smaller than the classifier `M`, is trained on normal data to return what the classifier returns
    (Hinton et al., 2015, arXiv:1503.02531). The score is how far the two are apart, `KL(M(x)^(1/T) || student(x))` or
    both ways, joined with the classifier's own uncertainty. It is high for inputs that were corrupted or
    have drifted in a way that changes the classifier's prediction, and lower for those that were corrupted harmlessly.

    Examples:
        >>> detector = ModelDistillation(model=forest)
        >>> detector.fit(rows, epochs=1, verbose=False).infer_threshold(new_rows, threshold_perc=95)
        <ModelDistillation on 'RandomForestClassifier', inputs (13,), threshold ...>
        >>> detector.predict(new_rows)["data"]["is_adversarial"].dtype
        dtype('bool')

    Args:
        model: the classifier, `(n, *input_shape) -> (n, classes)` of probabilities, or `(n, 1)` of the second of two
            classes: a Keras model, a PyTorch module, what JAX computes (a pair of a function and its parameters, a Flax
            or Equinox module), a TensorFlow function or SavedModel, an estimator or pipeline with `predict_proba`, an
            ONNX file or session, any function from a batch of rows to probabilities, a `demur.BlackBox`. It is used
            frozen: its weights, its statistics and its layers' `trainable` flags stay exactly as they are.
        distilled_model: the student, a Keras model with the classifier's inputs and number of classes, or on the
            PyTorch backend a `torch.nn.Module`. It is trained in place. `demur.nets.student` builds one by default.
            "copy" starts from a copy of the classifier, which must be such a network, and is for `fit(robust=...)`.
            Where it does not visibly end in a softmax, its output is read as the classifier's is: see `from_logits`.
            Pass a trained one to use it without `fit`: whether it has learned is not checked. The ready student and a
            copy answer after `fit` only.
        threshold: scores strictly above it are flagged; see `infer_threshold`. In nats.
        loss_type: what training minimises: "kld" for the K-L divergence, as published, "xent" for the cross-entropy,
            "jeffreys" for the K-L divergences both ways.
        score_type: what the score measures, of the same three. "kld" is the published score; "jeffreys" catches more,
            by what docs/results/detectors.md measures.
        w_uncertainty: weight `w` of the classifier's own uncertainty `u = -log max M(x)^(1/T)`: with a divergence `D`,
            the score is `sqrt(D^2 + (w u)^2)`, close to the larger of the two. An attack that stops at the decision
            boundary leaves a classifier unsure, and one that goes on leaves the two views apart. "balanced" has `fit`
            choose the weight so that either reaches as far on training rows (the ratio of the 95th percentiles;
            before, it is 0). None is "balanced" with Jeffreys' divergence and 0 with the others.
        temperature: sharpens (below 1) or flattens (above 1) the classifier's distribution before comparing.
        data_type: free text such as "image" or "tabular", kept in the metadata.
        from_logits: whether `model` returns logits instead of probabilities.
        seed: of the default student's weights and the order of the training rows.
        on_invalid: what becomes of rows that cannot be judged, because they hold NaN or infinity or because a network
            returns it for them: "raise" an error that names them, or "flag" them: adversarial, with an infinite score,
            the smallest p-value there is and the classifier's class, their indices listed in `data["invalid"]`.
        input_shape: shape of one row, without the batch (or a tuple or dict of shapes), for a classifier that does not
            know it. Otherwise the first rows tell.
        channels_last: of a PyTorch classifier and images: False where rows are `(n, channels, height, width)`, True
            where they are `(n, height, width, channels)`; a module that does not take them so is given them the other
            way round.
        companion_preprocess: for a classifier outside of Keras's graph, what makes the student's rows of its rows: a
            function, an object with `transform`, or a `demur.TableEncoder` with settings of your own. By default, one
            makes numbers of a DataFrame, of texts, and of a table `(n, features)` given to an estimator, as it learns
            from the training rows; other rows, and those of "passthrough", are taken as they are.
        classes: what the classes are called, in the order of the classifier's outputs, where it does not say so itself
            (estimators do, by `classes_`, and Hugging Face's models, by `config.id2label`). Labels are taken, and
            classes given, by these names. None: 0, 1, 2, ...

    Attributes:
        distilled_model: the student.
        history: after `fit`, the loss and metrics of each epoch by name; among them `agreement`, the share of rows for
            which companion and classifier predict one class.
        agreement: after `fit`, the same of the trained companion, on rows that were held out if there are any.

    Raises:
        InvalidSetting, WrongType, ShapeMismatch, NotADistribution: see `demur.errors`.
    """

    companion_name: ClassVar[str] = "student"
    companion_argument: ClassVar[str] = "distilled_model"

    def __init__(
        self,
        model: Any,
        *,
        distilled_model: Any = None,
        threshold: float | None = None,
        loss_type: str = "kld",
        score_type: str = "jeffreys",
        w_uncertainty: float | Literal["balanced"] | None = None,
        temperature: float = 1.0,
        data_type: str | None = None,
        from_logits: bool = False,
        seed: int = 0,
        on_invalid: OnInvalid = "raise",
        input_shape: Any = None,
        channels_last: bool = False,
        companion_preprocess: Any = None,
        classes: Any = None,
    ) -> None:
        self._is_copy = isinstance(distilled_model, str) and bool(chosen(distilled_model, (COPY,), "distilled_model"))
        super().__init__(
            model,
            companion=distilled_model,
            threshold=threshold,
            temperature=temperature,
            data_type=data_type,
            from_logits=from_logits,
            seed=seed,
            on_invalid=on_invalid,
            input_shape=input_shape,
            channels_last=channels_last,
            loss_type=loss_type,
            score_type=score_type,
            w_uncertainty=w_uncertainty,
            companion_preprocess=companion_preprocess,
            classes=classes,
        )
        self.companion_is_given = self.companion_is_given and not self._is_copy

    def _given(self, companion: Any) -> Any:
        return copy_of(self.model, self.companion_name) if self._is_copy else companion

    @property
    def learns_scales(self) -> bool:
        return super().learns_scales and not self._is_copy

    @property
    def _how_to_train(self) -> str:
        return "call fit(X, robust=...)" if self._is_copy else super()._how_to_train

    def _make_companion(self) -> None:
        super()._make_companion()
        classes, layout = self.classifier.classes, self.companion_layout
        self._student = KerasClassifier(
            self._companion, from_logits=self.from_logits, role=self.companion_name, layout=layout
        )
        if self._student.classes != classes:
            raise ShapeMismatch(
                f"the student must return the classifier's {classes} classes; it returns {self._student.classes}"
            )

    def build(self, layout: Layout) -> Any:
        classes, vocabulary = self.classifier.classes, getattr(self.classifier, "vocabulary", None)
        if vocabulary is not None and isinstance(layout, Field) and len(layout.shape) == 1:
            return nets.token_student(vocabulary, layout.shape[0], classes, seed=self.seed)
        shape = ready_shape(layout, self.companion_name, "distilled_model=")
        return nets.student(shape, classes, channels_first=self.channels_first, seed=self.seed)

    def check_classifier(self, rows: Rows) -> None:
        was_checked = self._probabilities_checked
        super().check_classifier(rows)
        if not (was_checked or self._student.ends_visibly):
            x = self.route.companion_rows(rows[:32]).cast().raw
            output = self._student.outputs(mapped(ops.convert_to_tensor, x))[0]
            self._student.check_outputs(ops.convert_to_numpy(ops.cast(output, "float32")))

    def check_training(self, w_recon: float, robust: Any, preprocess_fn: Any) -> None:
        super().check_training(w_recon, robust, preprocess_fn)
        if self._is_copy and not self.is_fitted and robust is None and preprocess_fn is None:
            raise InvalidSetting(
                "a copy of the classifier agrees with it on every row, and training on these alone changes nothing: "
                "pass robust=, the largest change of a number that it shall resist, or leave the ready student"
            )

    @property
    def own_settings(self) -> dict[str, Any]:
        return {
            **super().own_settings,
            "companion_preprocess": "passthrough" if self.companion_preprocess == "passthrough" else None,
            "is_copy": self._is_copy,
        }

    @classmethod
    def from_parts(cls, parts: dict[str, Any], settings: dict[str, Any]) -> Self:
        settings = dict(settings)
        is_copy = settings.pop("is_copy", False)
        detector = super().from_parts(parts, settings)
        detector._is_copy = is_copy  # noqa: SLF001 - of its own class
        return detector

    def opinion(self, x: Tensor, training: bool) -> Opinion:
        return Opinion(self._student(x, training=training)[:1])
