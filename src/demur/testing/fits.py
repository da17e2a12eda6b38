"""The conventions of `fit`."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from demur.testing.shared import (
    Array,
    MakeDetector,
    added_loss,
    assert_same_scores,
    divergences,
    fit,
    fitted,
    is_same_in_training,
    layers_of,
    log_views,
    made,
    standing_still,
)


def check_fit_learns(make_detector: MakeDetector, X: Array) -> None:
    """`fit` returns the detector, keeps one loss an epoch in `.history`, and lowers the loss and the divergences."""
    detector = made(make_detector)
    assert detector.history is None, "a fresh detector has a history"
    before = divergences(detector, X).mean()
    result = fit(detector, X, epochs=5, batch_size=8, optimizer=None)
    assert result is detector, f"fit returns {result!r} instead of the detector"
    assert isinstance(detector.history, dict), f"history is a {type(detector.history).__name__} instead of a dict"
    loss = detector.history["loss"]
    assert len(loss) == 5, f"5 epochs leave {len(loss)} losses in the history"
    assert all(isinstance(value, float) for value in loss), "the history holds something else than numbers"
    # Dropout makes the loss of a few small batches a matter of luck.
    assert loss[-1] < loss[0] or not is_same_in_training(detector.companion), (
        f"the loss goes from {loss[0]:.4g} to {loss[-1]:.4g}"
    )
    after = divergences(detector, X).mean()
    assert after < before, f"the mean divergence of the training data goes from {before:.4g} to {after:.4g}"


def check_every_weight_of_the_companion_moves(make_detector: MakeDetector, X: Array) -> None:
    """`fit` trains every trainable weight of the companion, and leaves its layers' `trainable` flags as they are."""
    detector = made(make_detector)
    variables = list(detector.companion.trainable_variables)
    flags = [layer.trainable for layer in layers_of(detector.companion, keras.layers.Layer)]
    before = _values(variables)
    assert before, "the companion has no trainable weights"
    fit(detector, X, optimizer=None)
    still = [path for path, value in _values(variables).items() if np.array_equal(value, before[path])]
    assert not still, f"fit leaves weights of the companion as they were: {', '.join(still)}"
    after = [layer.trainable for layer in layers_of(detector.companion, keras.layers.Layer)]
    assert after == flags, "fit changes the trainable flags of the companion's layers"


def _values(variables: Any) -> dict[str, Any]:
    return {f"{v.path} ({i})": np.array(ops.convert_to_numpy(v)) for i, v in enumerate(variables)}


def check_the_companion_trains_in_training_mode(make_detector: MakeDetector, X: Array) -> None:
    """The companion's Dropout and BatchNorm are live in `fit`, and off when scoring."""
    detector = made(make_detector)
    companion = detector.companion
    norms = layers_of(companion, keras.layers.BatchNormalization)
    before = _values([norm.moving_mean for norm in norms])
    mean = float(divergences(detector, X).mean())
    fit(detector, X, optimizer=standing_still(), batch_size=len(X))
    for path, value in _values([norm.moving_mean for norm in norms]).items():
        assert not np.array_equal(value, before[path]), f"{path} does not follow the training data"
    if layers_of(companion, keras.layers.Dropout):
        loss = detector.history["loss"][0] if detector.history else mean
        assert abs(loss - mean) > 1e-4 * mean, "Dropout is off in fit: the loss is that of inference"
    statistics = _values(companion.non_trainable_variables)
    first, second = detector.score(X), detector.score(X)
    assert np.array_equal(first, second), "scoring the same rows twice gives two scores: the companion is training"
    for path, value in _values(companion.non_trainable_variables).items():
        assert np.array_equal(value, statistics[path]), f"scoring moves {path}"


def check_a_seed_gives_one_result(make_detector: MakeDetector, X: Array) -> None:
    """Made, fitted and asked twice, a detector of one seed gives the same scores."""
    first, second = (fitted(make_detector, X, epochs=2, optimizer=None).score(X) for _ in range(2))
    assert_same_scores(first, second, "two detectors of one seed, fitted on the same data, disagree")


def check_loss_is_the_mean_divergence(make_detector: MakeDetector, X: Array) -> None:
    """By default, training minimises the mean divergence of its data; what a model adds to its loss comes on top.

    Where the companion computes something else in training mode, that holds for the loss of validation data.
    """
    detector, rows = made(make_detector), X[:20]
    same = is_same_in_training(detector.companion)
    # Batches of 16 and of 4: they weigh by their rows.
    fit(detector, rows, optimizer=standing_still(), validation_data=None if same else rows)
    assert detector.history is not None, "fit leaves no history"
    expected = divergences(detector, rows).mean() + added_loss(detector.companion, rows)
    loss = detector.history["loss" if same else "val_loss"][-1]
    assert_same_scores(loss, expected, "the loss is not the mean divergence")


def check_loss_fn_takes_the_place_of_the_divergence(make_detector: MakeDetector, X: Array) -> None:
    """A Keras loss, given by name, as an instance or as a function, is minimised instead of the divergence.

    It is computed on the probabilities of each view and summed with the views' weights.
    """
    detector, rows = made(make_detector), X[:16]
    same = is_same_in_training(detector.companion)

    def function(y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.abs(y_true - y_pred), axis=-1)

    cases = [("mean_squared_error", np.square), (keras.losses.MeanAbsoluteError(), np.abs), (function, np.abs)]
    for loss_fn, error in cases:
        fit(detector, rows, optimizer=standing_still(), validation_data=None if same else rows, loss_fn=loss_fn)
        assert detector.history is not None, "fit leaves no history"
        found = detector.history["loss" if same else "val_loss"][-1]
        views = zip(*log_views(detector, rows), detector.views.weights, strict=True)
        expected = sum(weight * error(np.exp(r) - np.exp(o)).mean() for r, o, weight in views)
        expected += added_loss(detector.companion, rows)
        assert_same_scores(found, expected, f"loss_fn={loss_fn!r} is not what is minimised")


def check_optimizer_is_the_one_given(make_detector: MakeDetector, X: Array) -> None:
    """An optimizer may be a class, an instance or a name; an instance is the one that takes the steps."""
    rows = X[: len(X) // 16 * 16]
    instance = keras.optimizers.Adam(1e-3)
    for optimizer in (keras.optimizers.SGD, "rmsprop", instance):
        detector = made(make_detector)
        before = _values(detector.companion.trainable_variables)
        fit(detector, rows, optimizer=optimizer)
        after = _values(detector.companion.trainable_variables)
        moved = any(not np.array_equal(after[path], before[path]) for path in before)
        assert moved, f"optimizer={optimizer!r} trains nothing"
    steps = int(ops.convert_to_numpy(instance.iterations))
    assert steps == len(rows) // 16, f"the optimizer instance took {steps} steps; {len(rows)} rows take 1 for each 16"


def check_validation_data_is_reported(make_detector: MakeDetector, X: Array) -> None:
    """With `validation_data`, the history has a `val_loss` for each epoch, that of the detector in inference mode."""
    rows, held_out = X[:16], X[-10:]
    detector = fitted(make_detector, rows, epochs=2, validation_data=held_out)
    history = detector.history
    expected = {"loss", "val_loss", "agreement", "val_agreement"}
    assert set(history) == expected, f"the history has {sorted(history)} instead of {sorted(expected)}"
    assert len(history["val_loss"]) == 2, f"2 epochs leave {len(history['val_loss'])} values of val_loss"
    expected = divergences(detector, held_out).mean() + added_loss(detector.companion, held_out)
    assert_same_scores(
        history["val_loss"][-1], expected, "the last val_loss is not the mean divergence of the held-out rows"
    )


def check_log_metric_is_reported(make_detector: MakeDetector, X: Array) -> None:
    """`log_metric` takes a metric, a `(name, metric)` pair or a list of them, of the opinion against the reference."""

    def distance(y_true: Any, y_pred: Any) -> Any:
        return ops.sum(ops.abs(y_true - y_pred), axis=-1)

    rows = X[:16]
    every = [distance, ("gap", distance), ("agree", keras.metrics.CategoricalAccuracy()), keras.metrics.KLDivergence()]
    detector = fitted(make_detector, rows, validation_data=rows, log_metric=every)
    names = ["distance", "gap", "agree", "kl_divergence"]
    names.append("agreement")
    expected = {"loss", "val_loss", *names, *(f"val_{name}" for name in names)}
    assert set(detector.history) == expected, f"the history has {sorted(detector.history)}, not {sorted(expected)}"
    _, y, y_opinion = detector.score(rows, return_predictions=True)
    values = {
        "distance": np.abs(y - y_opinion).sum(axis=-1).mean(),
        "gap": np.abs(y - y_opinion).sum(axis=-1).mean(),
        "agreement": (y.argmax(axis=-1) == y_opinion.argmax(axis=-1)).mean(),
        "agree": (y.argmax(axis=-1) == y_opinion.argmax(axis=-1)).mean(),
        "kl_divergence": (y * np.log(np.maximum(y, 1e-7) / np.maximum(y_opinion, 1e-7))).sum(axis=-1).mean(),
    }
    for name, value in values.items():
        found = detector.history[f"val_{name}"]
        assert_same_scores(found, [value], f"{name} is not of the opinion against the reference")
    detector = fitted(make_detector, rows, log_metric=("gap", distance))
    expected = {"loss", "agreement", "gap"}
    assert set(detector.history) == expected, f"one (name, metric) pair makes {sorted(detector.history)}"
    detector = fitted(make_detector, rows, log_metric=keras.metrics.CategoricalAccuracy(name="agree"))
    assert set(detector.history) == {"loss", "agreement", "agree"}, f"one metric makes {sorted(detector.history)}"


def check_callbacks_are_called(make_detector: MakeDetector, X: Array) -> None:
    """Keras callbacks are called at their moments, with the losses."""
    calls: list[str] = []
    told: list[Any] = []

    def end_of_epoch(_epoch: int, logs: Any) -> None:
        calls.append("epoch")
        told.append(float(logs["loss"]))

    callback = keras.callbacks.LambdaCallback(
        on_train_begin=lambda *_: calls.append("begin"),
        on_train_batch_end=lambda *_, **__: calls.append("batch"),
        on_epoch_end=end_of_epoch,
        on_train_end=lambda *_: calls.append("end"),
    )
    detector = fitted(make_detector, X[:20], epochs=2, callbacks=[callback])
    expected = ["begin", "batch", "batch", "epoch", "batch", "batch", "epoch", "end"]
    assert calls == expected, f"two epochs of two batches call back {calls}"
    assert told == detector.history["loss"], f"callbacks are told {told}, the history {detector.history['loss']}"


def check_early_stopping_stops(make_detector: MakeDetector, X: Array) -> None:
    """EarlyStopping stops training, and can put the best weights back."""
    stopping = keras.callbacks.EarlyStopping(
        monitor="val_loss", min_delta=1e9, patience=1, restore_best_weights=True, mode="min"
    )
    detector = fitted(make_detector, X, epochs=5, callbacks=[stopping], validation_data=X)
    losses = detector.history["val_loss"]
    assert len(losses) == 2, f"EarlyStopping, never content, lets {len(losses)} epochs pass instead of 2"
    loss = divergences(detector, X).mean() + added_loss(detector.companion, X)
    assert_same_scores(loss, losses[0], "the first epoch's weights are not put back")


def check_checkpoints_hold_the_companion(make_detector: MakeDetector, X: Array) -> None:
    """A ModelCheckpoint writes the companion: a model that Keras loads, or weights that the companion loads."""
    with tempfile.TemporaryDirectory() as folder:
        model, weights = Path(folder) / "companion.keras", Path(folder) / "companion.weights.h5"
        callbacks = [
            keras.callbacks.ModelCheckpoint(model),
            keras.callbacks.ModelCheckpoint(weights, save_weights_only=True),
        ]
        detector = fitted(make_detector, X, callbacks=callbacks)
        expected = _values(detector.companion.weights)
        loaded = keras.saving.load_model(model, compile=False)
        for (path, value), found in zip(expected.items(), loaded.get_weights(), strict=True):
            assert np.array_equal(value, found), f"{path} is another in the model that a ModelCheckpoint wrote"
        other = made(make_detector)
        other.companion.load_weights(weights)
        assert_same_scores(
            divergences(other, X), divergences(detector, X), "weights that a ModelCheckpoint wrote diverge otherwise"
        )


def check_a_preprocess_fn_sees_each_training_batch(make_detector: MakeDetector, X: Array) -> None:
    """A `preprocess_fn` is applied to each training batch as it is drawn, before both views, and to no other data."""
    X = X[: len(X) // 16 * 16]
    seen: list[Array] = []
    rng = np.random.default_rng(0)

    def random_scale(x: Array) -> Array:
        seen.append(x)
        return x * rng.uniform(0.2, 0.8, (len(x), *[1] * (x.ndim - 1)))  # a float64: cast back

    detector = made(make_detector)
    fit(detector, X, epochs=2, preprocess_fn=random_scale, validation_data=X, optimizer=standing_still())
    assert detector.history is not None, "fit leaves no history"
    assert all(isinstance(x, np.ndarray) and len(x) <= 16 for x in seen), "preprocess_fn is given no training batches"
    drawn = np.concatenate(seen).reshape(-1, X[0].size)
    for row in X.reshape(len(X), -1):  # at least: Keras draws a batch more to learn its shape
        times = int((drawn == row).all(axis=1).sum())
        assert times >= 2, f"in 2 epochs, preprocess_fn is given a row of X {times} times"
    expected = divergences(detector, X).mean() + added_loss(detector.companion, X)
    assert_same_scores(detector.history["val_loss"][-1], expected, "validation_data goes through preprocess_fn")
    if is_same_in_training(detector.companion):
        assert detector.history["loss"][0] != detector.history["loss"][1], "a random preprocess_fn is applied only once"
        fit(detector, X, preprocess_fn=lambda x: x * 0.5, optimizer=standing_still())
        half = X * np.float32(0.5)
        expected = divergences(detector, half).mean() + added_loss(detector.companion, half)
        assert_same_scores(detector.history["loss"], [expected], "preprocess_fn is not applied to both views")


def check_verbose_is_obeyed(make_detector: MakeDetector, X: Array) -> None:
    """`verbose=False` prints nothing, `verbose=True` Keras's progress bar."""
    detector = made(make_detector)
    said: dict[bool, str] = {}
    for verbose in (False, True):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            fit(detector, X, verbose=verbose, validation_data=X)
            detector.score(X)
        said[verbose] = output.getvalue()
    assert not said[False], f"fit(verbose=False) prints {said[False][:200]!r}"
    assert "loss" in said[True], f"fit(verbose=True) shows no progress bar: {said[True][:200]!r}"
