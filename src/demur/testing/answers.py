"""The conventions of `score`, `predict` and `correct`."""

import concurrent.futures
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import numpy as np

from demur._version import __version__
from demur.errors import NotFitted, ThresholdNotSet
from demur.summary import WIDTH
from demur.testing.shared import TOLERANCE, Array, MakeDetector, assert_same_scores, made, own_classes

LINES = 40
META_KEYS = {"name", "detector_type", "data_type", "online", "version"}


def check_scores_equal_the_definition(
    make_detector: MakeDetector, X: Array, definition: Callable[[Any, Array], tuple[Array, Array]]
) -> None:
    """The score of an unsaturated input is the published one, to 1e-5.

    Args:
        make_detector: returns a detector.
        X: normal data.
        definition: `detector, X -> (scores, unsaturated)`, float64 and bool `(n,)`: the scores as published, in NumPy,
            and for which rows no probability in it comes near the floor at which the published ones are clipped.
    """
    detector = made(make_detector)
    expected, unsaturated = definition(detector, X)
    assert unsaturated.sum() >= len(X) / 4, "too few rows are unsaturated to tell; give a softer classifier"
    assert expected[unsaturated].max() > 100 * TOLERANCE, "the scores are too near to zero to tell; give other data"
    scores = detector.score(X)[unsaturated]
    np.testing.assert_allclose(
        scores, expected[unsaturated], rtol=0, atol=TOLERANCE, err_msg="the scores are not the published ones"
    )


def check_batching_is_invisible(make_detector: MakeDetector, X: Array) -> None:
    """A row scores the same in a batch of any size and on its own, and results come in the order of the rows."""
    detector, rows = made(make_detector), X[:21]
    expected = [detector.score(row[None])[0] for row in rows]
    assert np.ptp(expected) > 100 * TOLERANCE, "the rows score too alike to tell; give other data"
    for batch_size in (1, 3, 7, 256):
        scores = detector.score(rows, batch_size=batch_size)
        assert scores.shape == (len(rows),), f"score of {len(rows)} rows has shape {scores.shape}"
        assert_same_scores(scores, expected, f"batch_size={batch_size} gives other scores than one row at a time")


def check_rows_are_independent(make_detector: MakeDetector, X: Array) -> None:
    """Permuting the rows permutes everything that is said of them, and repeating one repeats it."""
    detector = made(make_detector)
    order = np.random.default_rng(0).permutation(len(X))
    order[0] = order[1]
    for result, permuted in zip(
        detector.score(X, return_predictions=True), detector.score(X[order], return_predictions=True), strict=True
    ):
        assert_same_scores(permuted, result[order], "what is said of a row depends on the rows around it")


def check_any_threads_may_share_a_detector(make_detector: MakeDetector, X: Array) -> None:
    """Threads that score with one detector, which nothing was asked of yet, each get what one alone gets."""
    detector = made(make_detector)
    parts = [X[start:] for start in range(8)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.score, parts))
    for part, scores in zip(parts, together, strict=True):
        assert_same_scores(scores, detector.score(part), "threads that share a detector disturb each other")


def check_arrays_may_be_read_only(make_detector: MakeDetector, X: Array) -> None:
    """An array that cannot be written to, as a file mapped into memory, scores like any other and without a warning."""
    detector, rows = made(make_detector), X.copy()
    rows.flags.writeable = False
    assert_same_scores(detector.score(rows), detector.score(X), "a read-only array scores otherwise")


def check_numbers_score_as_their_float32(make_detector: MakeDetector, X: Array) -> None:
    """Integers and other floats are cast to float32 and never rescaled; the memory's layout does not matter."""
    detector = made(make_detector)
    whole = np.rint(np.abs(X) / np.abs(X).max() * 9)
    expected = detector.score(whole.astype("float32"))
    assert np.isfinite(expected).all(), "the scores of small whole numbers are not finite"
    for dtype in ("uint8", "int64", "float16", "float64"):
        assert_same_scores(detector.score(whole.astype(dtype)), expected, f"{dtype} scores otherwise than its float32")
    fortran = np.asfortranarray(whole.astype("float32"))
    assert_same_scores(detector.score(fortran), expected, "an array in Fortran order scores otherwise")
    assert_same_scores(
        detector.score(whole > 4),
        detector.score((whole > 4).astype("float32")),
        "booleans score otherwise than 0 and 1",
    )


def check_predictions_are_distributions(make_detector: MakeDetector, X: Array) -> None:
    """`score(return_predictions=True)` returns the scores and two arrays of probabilities `(n, classes)`, float32."""
    detector = made(make_detector)
    result = detector.score(X, return_predictions=True)
    assert isinstance(result, tuple), f"score(return_predictions=True) returns a {type(result).__name__}, not a tuple"
    assert len(result) == 3, f"score(return_predictions=True) returns {len(result)} arrays instead of 3"
    assert_same_scores(result[0], detector.score(X), "score(return_predictions=True) gives other scores")
    for name, y in zip(("y", "y_opinion"), result[1:], strict=True):
        assert y.shape == (len(X), detector.classifier.classes), f"{name} has shape {y.shape}"
        assert y.dtype == np.float32, f"{name} is {y.dtype}, not float32"
        assert y.min() >= 0, f"{name} holds a negative probability"
        np.testing.assert_allclose(y.sum(axis=-1), 1, atol=TOLERANCE, err_msg=f"rows of {name} do not sum to 1")


def _refusal(method: Any, X: Array, error: type[Exception]) -> str | None:
    """What a method's error of a kind says, if it comes before any forward pass; None if there is no such error."""
    with mock.patch.object(keras.layers.Layer, "__call__", _forward_pass):
        try:
            method(X)
        except error as raised:
            return str(raised)
    return None


def check_threshold_is_required_first(make_detector: MakeDetector, X: Array) -> None:
    """Without a threshold, `predict` and `correct` raise ThresholdNotSet before any forward pass."""
    detector = made(make_detector)
    assert detector.threshold is None, f"a fresh detector has a threshold, {detector.threshold}; it is to have none"

    for method in (detector.predict, detector.correct):
        message = _refusal(method, X, ThresholdNotSet)
        assert message is not None, f"{method.__name__} answers without a threshold"
        assert "infer_threshold" in message, f"the error does not say what to do: {message}"


def check_an_untrained_companion_is_not_asked(make_detector: MakeDetector, X: Array) -> None:
    """A detector that made its companion by itself raises NotFitted, before any forward pass, until `fit` was called.

    That is so for all that scores: with and without a threshold. A companion that the caller gave may have been trained
    before, so it is asked.
    """
    detector: Any = make_detector()
    if detector.is_trained:
        return
    detector.threshold = 0.5
    methods = (detector.score, detector.predict, detector.correct, detector.infer_threshold)
    for method in (*methods, *([detector.reconstruct] if hasattr(detector, "reconstruct") else [])):
        message = _refusal(method, X, NotFitted)
        assert message is not None, f"{method.__name__} asks a companion that has not been trained"
        assert "fit" in message, f"the error does not say what to do: {message}"
    detector.fit(X, epochs=1, verbose=False)
    assert np.isfinite(detector.score(X)).all(), "a detector does not score after fit, as the error advises"


def _forward_pass(layer: Any, *_args: Any, **_kwargs: Any) -> None:
    raise AssertionError(f"{layer.name} was called")


def check_flagged_is_strictly_above_the_threshold(make_detector: MakeDetector, X: Array) -> None:
    """Flagged means a score strictly above the threshold; a score at it is not flagged."""
    detector = made(make_detector)
    scores = detector.score(X)
    middle = np.sort(scores)[len(X) // 2]
    for threshold, what in ((middle, "at"), (np.nextafter(middle, np.float32(-1)), "just above")):
        detector.threshold = float(threshold)
        data = detector.predict(X)["data"]
        assert data["instance_score"] is not None, "predict leaves the scores out"
        expected = data["instance_score"] > threshold
        assert 0 < expected.sum() < len(X), "the scores are too alike to tell; give other data"
        assert (data["is_adversarial"] == expected).all(), f"a score {what} the threshold is on the wrong side of it"
        assert (detector.correct(X)["data"]["is_adversarial"] == expected).all(), "correct flags others than predict"


def check_predict_and_correct_return_what_they_promise(make_detector: MakeDetector, X: Array) -> None:
    """`predict` and `correct` return `{"meta", "data"}`, with the keys and types documented, and None where not asked.

    Flags are bool, scores float32, p-values float64, classes int64 or of the type of their names, all of shape `(n,)`.
    p-values are there once the detector is calibrated.
    """
    kinds: dict[str, str | None] = {"is_adversarial": "bool", "instance_score": "float32"}
    detector = made(make_detector)
    kind = detector.labels.dtype.str
    classes: dict[str, str | None] = {"corrected": kind, "no_defense": kind, "defense": kind}
    detector.threshold, detector.calibration = 0.1, None
    _check_result(detector.predict(X), kinds, X)
    _check_result(detector.correct(X), kinds | classes, X)
    detector.infer_threshold(X, threshold_perc=50)
    kinds["p_value"] = "float64"
    _check_result(detector.predict(X), kinds, X)
    _check_result(detector.predict(X, return_instance_score=False), {**kinds, "instance_score": None}, X)
    kinds |= classes
    _check_result(detector.correct(X), kinds, X)
    _check_result(detector.correct(X, return_instance_score=False), {**kinds, "instance_score": None}, X)
    without = {**kinds, "no_defense": None, "defense": None}
    _check_result(detector.correct(X, return_all_predictions=False), without, X)


def _check_result(result: Any, kinds: dict[str, str | None], X: Array) -> None:
    assert set(result) == {"meta", "data"}, f"a result has the keys {sorted(result)} instead of meta and data"
    assert set(result["meta"]) == META_KEYS, f"meta has the keys {sorted(result['meta'])}"
    assert set(result["data"]) == set(kinds), f"data has the keys {sorted(result['data'])} instead of {sorted(kinds)}"
    for name, kind in kinds.items():
        value = result["data"][name]
        if kind is None:
            assert value is None, f"{name} was not asked for and is not None"
        else:
            assert isinstance(value, np.ndarray), f"{name} is a {type(value).__name__}, not an array"
            assert value.dtype == kind, f"{name} is {value.dtype}, not {kind}"
            assert value.shape == (len(X),), f"{name} has shape {value.shape}, not {(len(X),)}"


def check_a_detector_and_its_results_print_in_a_few_lines(make_detector: MakeDetector, X: Array) -> None:
    """A detector and its results print as summaries of at most 80 columns, and results of any length are short."""
    detector = made(make_detector)
    detector.infer_threshold(X, threshold_perc=50)
    assert type(detector).__name__ in detector.summary(), "the summary does not name the detector"
    assert "threshold" in detector.summary(), "the summary does not tell of the threshold"
    result = detector.correct(np.concatenate([X] * (1 + 200 // len(X))))
    flagged = result["data"]["is_adversarial"].sum()
    assert f"{flagged:,}" in result.summary(), "the summary does not tell how many rows are flagged"
    for one in (detector, result, detector.predict(X)):
        lines = str(one).splitlines()
        assert len(lines) < LINES, f"{type(one).__name__} prints {len(lines)} lines"
        assert max(map(len, lines)) <= WIDTH, f"{type(one).__name__} prints more than {WIDTH} columns"
        assert len(repr(one)) < LINES * WIDTH, f"the repr of {type(one).__name__} has {len(repr(one))} characters"


def check_correct_takes_the_opinion_where_flagged(make_detector: MakeDetector, X: Array) -> None:
    """`corrected` is `defense` where an instance is flagged and `no_defense` elsewhere.

    `no_defense` is the class that the classifier itself predicts, `defense` that of the opinion.
    """
    detector = made(make_detector).infer_threshold(X, threshold_perc=50)
    data = detector.correct(X)["data"]
    flagged, defense, no_defense = data["is_adversarial"], data["defense"], data["no_defense"]
    assert no_defense is not None, "correct leaves the classifier's classes out"
    assert defense is not None, "correct leaves the opinion's classes out"
    assert 0 < flagged.sum() < len(X), "the threshold flags all or none; give other data"
    assert (data["corrected"] == np.where(flagged, defense, no_defense)).all(), "corrected is not put together rightly"
    own = own_classes(detector, X)
    assert (no_defense == own).all(), "no_defense is not what the classifier predicts"
    opinion = detector.labels.named(detector.score(X, return_predictions=True)[2].argmax(axis=-1))
    assert (defense == opinion).all(), "defense is not the class of y_opinion"


def check_meta_is_a_copy(make_detector: MakeDetector, X: Array) -> None:
    """`meta` holds exactly name, detector_type, data_type, online and version; changing it changes no detector."""
    detector = made(make_detector).infer_threshold(X)
    meta = dict(detector.meta)
    assert set(meta) == META_KEYS, f"meta has the keys {sorted(meta)}"
    assert meta["name"] == type(detector).__name__, f"meta names {meta['name']}"
    assert meta["detector_type"] == "adversarial", f"meta has detector_type {meta['detector_type']!r}"
    assert meta["online"] is False, f"meta has online {meta['online']!r}"
    assert meta["version"] == __version__, f"meta has version {meta['version']!r}"
    for theirs in (detector.meta, detector.predict(X)["meta"], detector.correct(X)["meta"]):
        assert theirs == meta, "a result's meta is not the detector's"
        theirs["name"] = "changed"
        assert detector.meta == meta, "changing a result's meta changes the detector's"


def check_any_scale_and_temperature_give_a_score(make_detector: MakeDetector, X: Array) -> None:
    """For temperatures from 0.01 to 100, and inputs far out of scale, no score is NaN."""
    rows = np.concatenate([X, X * 1e4, -X * 1e4, np.zeros_like(X)]).astype("float32")
    for temperature in (0.01, 1.0, 100.0):
        detector = made(make_detector)
        detector.temperature = temperature
        score, *predictions = detector.score(rows, return_predictions=True)
        assert np.isfinite(score).all(), f"at temperature {temperature} a score is not finite"
        assert (score >= 0).all(), f"at temperature {temperature} a score is negative"
        assert np.isfinite(predictions).all(), f"at temperature {temperature} a probability is not finite"
