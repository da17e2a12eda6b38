"""ModelDistillation: does a smaller student, distilled on clean data, still agree with the classifier?"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy.typing as npt
from keras import ops

from demur import nets
from demur.calls import chosen
from demur.classifiers.keras_model import KerasClassifier
from demur.companion import as_companion, check_companion, copy_of, ready_shape
from demur.data import Field, Layout, Rows, cast, mapped, taken
from demur.detectors.base import Detector, OnInvalid
from demur.divergence import DIVERGENCES, Tensor, sharpen
from demur.errors import InvalidSetting, ShapeMismatch
from demur.graph import Opinion, Views
from demur.robustness import Robust

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
        super().__init__(
            model=model,
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
        self._is_copy = isinstance(distilled_model, str) and bool(chosen(distilled_model, (COPY,), "distilled_model"))
        if self._is_copy:
            distilled_model = copy_of(self.model, self.companion_name)
        self.distilled_model = distilled_model
        self._companion: Any = None if distilled_model is None else as_companion(distilled_model, self.companion_name)
        self._prepare_if_known(distilled_model)
        self._companion_is_given = self._companion_is_given and not self._is_copy

    @property
    def _learns_scales(self) -> bool:
        return super()._learns_scales and not self._is_copy

    @property
    def _how_to_train(self) -> str:
        return "call fit(X, robust=...)" if self._is_copy else super()._how_to_train

    def _make_companion(self) -> None:
        classes, layout = self.classifier.classes, self.companion_layout
        if self.distilled_model is None:
            self.distilled_model = self._companion = self._ready_student(layout)
        check_companion(self._companion, self.classifier, layout, self.companion_name)
        self._student = KerasClassifier(
            self._companion, from_logits=self.from_logits, role=self.companion_name, layout=layout
        )
        if self._student.classes != classes:
            raise ShapeMismatch(
                f"the student must return the classifier's {classes} classes; it returns {self._student.classes}"
            )

    def _ready_student(self, layout: Layout) -> Any:
        classes, vocabulary = self.classifier.classes, getattr(self.classifier, "vocabulary", None)
        if vocabulary is not None and isinstance(layout, Field) and len(layout.shape) == 1:
            return nets.token_student(vocabulary, layout.shape[0], classes, seed=self.seed)
        shape = ready_shape(layout, self.companion_name, "distilled_model=")
        return nets.student(shape, classes, channels_first=self.channels_first, seed=self.seed)

    def _check_classifier(self, rows: Rows) -> None:
        was_checked = self._probabilities_checked
        super()._check_classifier(rows)
        if not (was_checked or self._student.ends_visibly):
            x = cast(self.route.companion_rows(taken(rows, slice(0, 32))), self.companion_layout)
            output = self._student.outputs(mapped(ops.convert_to_tensor, x))[0]
            self._student.check_outputs(ops.convert_to_numpy(ops.cast(output, "float32")))

    def fit(
        self,
        X: Any,
        loss_fn: Any = None,
        *,
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
        """Distil the classifier into the student on normal data. Called again, training goes on.

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
            loss_fn: a Keras loss (name, instance or function of `y_true, y_pred`: the classifier's and the student's
                probabilities) that takes the place of `loss_type` during training.
            optimizer: a Keras optimizer: class, instance or name. Adam with a learning rate of 1e-3 by default.
            epochs: passes over `X`.
            batch_size: rows a step.
            verbose: Keras's progress bar on or off; Keras's own values (0, 1, 2, "auto") are taken too.
            log_metric: a Keras metric, a `(name, metric)` pair or a list of them, of the student's probabilities
                (`y_pred`) against the classifier's (`y_true`), shown in the progress bar and kept in `.history`.
            callbacks: Keras callbacks. A `ModelCheckpoint` writes the student.
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
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        if self._is_copy and not self.is_fitted and robust is None and preprocess_fn is None:
            raise InvalidSetting(
                "a copy of the classifier agrees with it on every row, and training on these alone changes nothing: "
                "pass robust=, the largest change of a number that it shall resist, or leave the ready student"
            )
        return self._fit(
            X,
            loss_fn=loss_fn,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            verbose=verbose,
            log_metric=log_metric,
            callbacks=callbacks,
            preprocess_fn=preprocess_fn,
            validation_data=validation_data,
            validation_split=validation_split,
            jit_compile=jit_compile,
            steps_per_execution=steps_per_execution,
            robust=robust,
        )

    @property
    def companion(self) -> Any:
        return self._companion

    @property
    def views(self) -> Views:
        return Views(
            self._reference_views,
            self._opinion_views,
            loss=DIVERGENCES[self.loss_type],
            divergence=DIVERGENCES[self.score_type],
            weights=[1.0],
            w_uncertainty=self._w_uncertainty,
        )

    @property
    def parts(self) -> dict[str, Any]:
        return self.given_parts

    @property
    def given_parts(self) -> dict[str, Any]:
        return {"classifier": self.model, self.companion_name: self._companion}

    @property
    def own_settings(self) -> dict[str, Any]:
        return {
            "companion_preprocess": "passthrough" if self.companion_preprocess == "passthrough" else None,
            "is_copy": self._is_copy,
        }

    @classmethod
    def from_parts(cls, parts: dict[str, Any], settings: dict[str, Any]) -> Self:
        settings = dict(settings)
        is_copy = settings.pop("is_copy", False)
        detector = cls(model=parts["classifier"], distilled_model=parts[cls.companion_name], **settings)
        detector._is_copy = is_copy
        return detector

    def _reference_views(self, x: Tensor) -> list[Tensor]:
        return [sharpen(self.classifier(x, training=False)[0], self.temperature)]

    def _opinion_views(self, x: Tensor, training: bool) -> Opinion:
        return Opinion(self._student(x, training=training)[:1])
