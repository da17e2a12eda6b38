"""Training a live guard's companion: the guard's `fit`."""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt

from demur import backends, checks
from demur.backends import Devices
from demur.calibration.agreement import Agreement, split, warn_if_poor
from demur.calibration.held_out import KnownRows, PassingRows
from demur.checks import check_whole
from demur.errors import InvalidSetting, WrongType
from demur.guards.results import Scored
from demur.network import nets
from demur.network.feed import Drawn, Remake, StreamBatches, TrainingBatches, preprocessed
from demur.network.live import LiveGuard
from demur.network.passes import gathered, over_batches, spacious
from demur.network.robustness import Robust, as_robust
from demur.network.trainer import (
    Objective,
    Trainer,
    instance_loss,
    interruptible,
    named_metrics,
    optimizer_of,
    steps_together,
)
from demur.rows.layout import Field, Layout
from demur.rows.row_sketch import row_keys
from demur.rows.rows import SOME, Rows, with_columns
from demur.rows.sources import ArraySource, CheckedSource, DataSet, Source, is_data_set

BALANCED_AT = 0.95
"""The quantile of training rows at which divergence and uncertainty weigh the same."""
NO_DOUBT = 1e-3
"""Below this many nats of uncertainty the classifier counts as certain."""
TINY = 1e-30
NUMBERS_AHEAD, FEWEST_AHEAD = 2**22, 64
"""Numbers of training rows that are looked at before training, about, and rows at least."""


class Learner(LiveGuard):
    """A live guard whose companion learns from normal data."""

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
        w_model: float = 1.0,
        w_recon: float = 0.0,
    ) -> Self:
        """Train the companion on normal data; the classifier is not changed. Called again, training goes on.

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
            w_model: weight of the prediction term.
            w_recon: weight of the mean squared reconstruction error, scaled by the ratio of the two terms' standard
                deviations over the batch; of an autoencoder.

        Returns:
            The detector, with `.history`.

        Raises:
            NoGradients: the companion learns through the classifier, through which no gradient goes; looked at once, on
                a few rows, unless `w_recon` is set.
            InvalidSetting, WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
        """
        callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []
        _check_fit(batch_size, epochs, steps_per_execution, preprocess_fn, callbacks)
        self.check_training(w_recon, robust, preprocess_fn)
        X = self.ready_for(X, fitting=True)
        X = DataSet(X, batch_size, self.seed) if is_data_set(X) else X
        self.remember_columns(with_columns(self.classifier.layout, X))
        source = CheckedSource(self.source(X), self.check_classifier)
        objective = Objective(self.views, instance_loss(loss_fn), w_model, w_recon)
        if w_recon == 0:
            self.check_gradients(source.rows)
        held_out = None if validation_data is None else self.in_memory(validation_data, "validation_data")
        chosen, aside = self._split(source, held_out, validation_split)
        devices = backends.current().devices(self.companion)
        self._check_alike(devices, source, {"epochs": epochs, "batch_size": batch_size, "seed": self.seed})
        verbose = verbose if devices.rank == 0 else False
        show = bool(verbose)

        def in_memory(
            rows: Rows,
            remake: Remake | None,
            shuffle_seed: int | None,
            chosen: npt.NDArray[np.int64] | None = None,
            reference: list[npt.NDArray[Any]] | None = None,
        ) -> TrainingBatches:
            if remake is None and reference is None:
                reference = self.all_references(rows, max(batch_size, 256), show, devices)
            return TrainingBatches(
                self.route.training_rows(rows) if remake is None else rows,
                reference,
                batch_size=batch_size,
                layout=self.companion_layout,
                prepare=self.route.prepare(remake, is_answered=reference is not None),
                shuffle_seed=shuffle_seed,
                devices=devices,
                chosen=chosen,
            )

        robust, passing = as_robust(robust, self.companion_layout), self.passing_rows(source.rows)
        remake = None if preprocess_fn is None else self._looked_at(preprocess_fn, passing)
        self._look_ahead(source, remake, robust, batch_size, devices)
        with devices.scope():
            trainer = Trainer(self.companion, objective, named_metrics(log_metric), robust, devices)
        fixed = [part for part in self.parts.values() if part is not self.companion and hasattr(part, "parameters")]
        asking = self.route.prepare(remake, is_answered=False)
        batches = (
            StreamBatches(source, self.companion_layout, asking, epochs, devices, passing)
            if source.rows is None
            else in_memory(source.rows, remake, self.seed, chosen)
        )
        batches.reference_shapes = batches.reference_shapes or self.route.reference_shapes
        validation_batches = None
        if source.rows is not None and len(aside):
            held_out = source.rows[aside]
        if held_out is not None:
            known = batches.reference if isinstance(batches, TrainingBatches) and len(aside) else None
            found = None if known is None else [view[aside] for view in known]
            validation_batches = in_memory(held_out, None, None, reference=found)
        with devices.scope():
            trainer.compile(
                optimizer=optimizer_of(optimizer),
                jit_compile=backends.current().xla if jit_compile is None else jit_compile,
                steps_per_execution=steps_per_execution
                or steps_together(self.layers, self.companion_layout, batches, batch_size, callbacks),
            )
        self.forget_calibration()

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

    def check_training(self, w_recon: float, robust: Any, preprocess_fn: Any) -> None:  # noqa: ARG002
        """Check what `fit` was asked for, where not every detector can do it."""
        if w_recon != 0 and not self.reconstructs:
            raise InvalidSetting(
                f"w_recon weighs the error of a reconstruction, and a {self.companion_name} makes none: leave it out"
            )

    def _looked_at(self, preprocess_fn: Callable[[Any], Any], passing: PassingRows) -> Remake:
        """Apply a `preprocess_fn`, and look at the rows that it makes."""

        def looked_at(batch: Rows) -> Rows:
            rows = preprocessed(preprocess_fn, batch, finite=not self.route.takes_missing)
            passing.add_made(rows)
            return rows

        return looked_at

    @property
    def learns_scales(self) -> bool:
        """Whether the companion is a ready one that is to learn how large numbers are."""
        return not (self.is_fitted or self.companion_is_given)

    def _look_ahead(
        self, source: Source, remake: Remake | None, robust: Robust | None, batch_size: int, devices: Devices
    ) -> None:
        """Have the numbers of some rows, as the companion takes them, fix its scales; check a perturbation's size."""
        layout = self.companion_layout
        if not isinstance(layout, Field) or not (self.learns_scales or robust is not None):
            return
        size = math.prod(known or 1 for known in layout.shape)
        parts = source.first(min(SOME, max(FEWEST_AHEAD, NUMBERS_AHEAD // max(1, size))))
        parts = [batch for part in parts for batch in part.batches(batch_size)]
        made = parts if remake is None else map(remake, parts)
        rows = [np.asarray(self.route.companion_rows(part.cast()).raw) for part in made]
        if robust is not None:
            robust.check(rows)
        # Whatever else the rows hold, training complains of, by the numbers of the rows.
        if self.learns_scales and all(part.dtype.kind in "buif" for part in rows):
            with devices.scope():
                nets.set_scales(self.companion, np.concatenate(rows))

    def remember_columns(self, layout: Layout) -> None:
        """Have tables put in the order of the columns that the first training rows had, wherever rows are read."""
        if isinstance(layout, Field) and layout.columns is not None:
            self.classifier.layout = self._layout = layout

    def _split(
        self, source: Source, held_out: Rows | None, share: float | None
    ) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64]]:
        """The numbers of the rows to train on, None for all, and the numbers of the rows that are held out."""
        none = np.zeros(0, "int64")
        if share is not None and held_out is not None:
            raise InvalidSetting("validation_data and validation_split are two ways to hold rows out: pass one of them")
        if share and source.rows is None:
            raise InvalidSetting(
                "validation_split holds out rows of an array, and X is a stream: pass validation_data=, an array "
                "of rows that are not in the stream"
            )
        if held_out is not None or source.rows is None:
            return None, none
        return split(len(source.rows), share, self.seed)

    def _learned(
        self,
        history: dict[str, list[float]],
        source: Source,
        held_out: Rows | None,
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
            usual = self.scored(held_out.some(), probabilities=True, flag_invalid=True, verbose=show)
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
            settings["the number of rows"] = len(source.rows)
            settings["the rows"] = hashlib.sha256(b"".join(row_keys(source.rows.some()))).hexdigest()
        devices.check_alike({**settings, "the classifier's weights": self.classifier.fingerprint()})

    def _set_balance(self, rows: Any, devices: Devices, show: bool) -> Scored | None:
        """Weigh the classifier's uncertainty so that on training rows it reaches as far as the divergence.

        The weight is the ratio of their 95th percentiles: at a threshold that flags a few per cent, each of the two
        flags about half of them. Returns what was found of the rows on the way.
        """
        if rows is None:
            return None
        if self.balance is not None:
            self.balance.weight.assign(0.0)
        found = self.scored(rows, probabilities=True, flag_invalid=True, verbose=show)
        if self.balance is None:
            return found
        able = np.isfinite(found.score)
        if able.any():
            doubt = -np.log(np.maximum(found.y[able].max(axis=1), TINY))
            ratio = np.quantile(found.score[able], BALANCED_AT) / max(np.quantile(doubt, BALANCED_AT), NO_DOUBT)
            self.balance.weight.assign(devices.alike(ratio))
        return found

    def forget_calibration(self) -> None:
        """Forget what was inferred from scores that training changes."""
        self.calibration = self.harm = None

    def check_gradients(self, rows: Rows | None) -> None:
        """Check, before training, that gradients reach a companion which learns through the classifier."""

    def all_references(self, rows: Rows, batch_size: int, verbose: bool, devices: Devices) -> list[npt.NDArray[Any]]:
        """The reference views' log-probabilities of all rows, computed once for all epochs."""
        network = self.route.reference(self.views, [part for part in self.layers if part is not self.companion])

        def compute(part: slice) -> list[npt.NDArray[Any]]:
            chosen = rows if part == slice(0, len(rows)) else rows[part]  # a sparse matrix stays sparse
            own = CheckedSource(ArraySource(chosen), self.check_classifier)
            passes = over_batches(network, own, batch_size, verbose)
            return gathered(passes, part.stop - part.start, spacious)

        return devices.gathered(len(rows), compute, spacious)


def _usual_rows(source: Source, drawn: Drawn) -> Any:
    """Some of the rows that were trained on; None of a stream that gave none."""
    if isinstance(drawn, StreamBatches):
        return drawn.some_rows() if drawn.kept else None
    return None if source.rows is None else source.rows.some()


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
