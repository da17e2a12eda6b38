"""The conventions of calibration, and of inputs that cannot be judged."""

import warnings
from typing import Any

import numpy as np

from demur.errors import NonFinite, NoPower, NotCalibrated, TooFewInstances
from demur.testing.shared import Array, MakeDetector, assert_same_scores, made, own_classes


def check_p_values_are_their_definition(make_detector: MakeDetector, X: Array) -> None:
    """A p-value is `(1 + #{calibration scores >= s}) / (n + 1)`, and no instance of the calibration data gets less."""
    detector = made(make_detector).infer_threshold(X)
    reference = detector.score(X)
    data = detector.predict(X)["data"]
    score = data["instance_score"]
    assert score is not None, "predict leaves the scores out"
    expected = (1 + (reference[None] >= score[:, None]).sum(axis=1)) / (len(X) + 1)
    np.testing.assert_allclose(data["p_value"], expected, err_msg="p-values are not their definition")


def check_fpr_is_kept_on_the_calibration_data(make_detector: MakeDetector, X: Array) -> None:
    """With `fpr`, the threshold is the `ceil((n + 1)(1 - fpr))`-th smallest score; too few scores are an error."""
    detector = made(make_detector).infer_threshold(X, fpr=0.25)
    ordered = np.sort(detector.score(X))
    k = int(np.ceil((len(X) + 1) * 0.75))
    assert detector.threshold == ordered[k - 1], f"the threshold is {detector.threshold}, not {ordered[k - 1]}"
    _expect(TooFewInstances, lambda: detector.infer_threshold(X, fpr=0.5 / len(X)), "a rate that cannot be promised")
    assert detector.threshold == ordered[k - 1], "a calibration that fails changes the threshold"


def check_labels_choose_what_calibrates(make_detector: MakeDetector, X: Array) -> None:
    """With `labels`, only instances that the classifier gets right calibrate."""
    detector = made(make_detector)
    predicted = detector.score(X, return_predictions=True)[1].argmax(axis=-1)
    labels = predicted.copy()
    labels[::2] = (labels[::2] + 1) % detector.classifier.classes  # the classifier is wrong on every other one
    detector.infer_threshold(X, threshold_perc=100, labels=detector.labels.named(labels))
    assert detector.threshold == detector.score(X)[1::2].max(), "labels do not choose what calibrates"


def check_groups_have_thresholds_of_their_own(make_detector: MakeDetector, X: Array) -> None:
    """With `groups="predicted"`, each predicted class has its own threshold and p-values, or the error names it."""
    detector = made(make_detector)
    score, y, _ = detector.score(X, return_predictions=True)
    predicted, classes = y.argmax(axis=-1), detector.classifier.classes
    missing = sorted(set(range(classes)) - set(predicted.tolist()))
    if missing:
        message = _expect(TooFewInstances, lambda: detector.infer_threshold(X, groups="predicted"), "a missing class")
        name = detector.labels.name_of(missing[0])
        assert f"class {name} has 0" in message, f"the error does not name class {name}: {message}"
        return
    detector.infer_threshold(X, threshold_perc=100, groups="predicted")
    for k in range(classes):
        assert np.asarray(detector.threshold)[k] == score[predicted == k].max(), f"class {k} has another threshold"
    data = detector.predict(X)["data"]
    assert not data["is_adversarial"].any(), "an instance at its class's highest score is flagged"
    for row in range(len(X)):
        mine = score[predicted == predicted[row]]
        expected = (1 + (mine >= score[row]).sum()) / (len(mine) + 1)
        assert np.isclose(data["p_value"][row], expected), "a p-value is not of its own class"


def check_fdr_control_needs_calibration(make_detector: MakeDetector, X: Array) -> None:
    """`control="fdr"` flags by p-values and not by the threshold, and is an error before calibration."""
    detector = made(make_detector)
    detector.threshold, detector.calibration = 0.0, None
    _expect(NotCalibrated, lambda: detector.predict(X, control="fdr"), "fdr without calibration")
    detector.infer_threshold(X)
    detector.threshold = -1.0  # flags everything
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoPower)  # nor could it, with so few rows
        flagged = detector.predict(X, control="fdr", level=0.01)["data"]["is_adversarial"]
    assert not flagged.any(), "normal data is flagged under fdr control, as the threshold would have it"


def check_fit_forgets_what_was_inferred(make_detector: MakeDetector, X: Array) -> None:
    """Training changes the scores: an inferred threshold and the p-values are forgotten, a given threshold stays."""
    detector: Any = made(make_detector).infer_threshold(X)
    detector.fit(X, epochs=1, verbose=False)
    assert detector.threshold is None, "a threshold inferred from the scores before fit is still in use after it"
    assert detector.calibration is None, "p-values from the scores before fit are still given after it"
    detector.infer_threshold(X)
    detector.threshold = 0.25
    detector.fit(X, epochs=1, verbose=False)
    assert detector.threshold == 0.25, "fit forgets a threshold that was set by hand"


def check_invalid_rows_are_an_error(make_detector: MakeDetector, X: Array) -> None:
    """By default NaN or infinity is an error that names the rows, in every method."""
    detector: Any = made(make_detector).infer_threshold(X)
    threshold = detector.threshold
    for bad in (np.nan, np.inf, -np.inf):
        rows = X.copy()
        rows[3].flat[0] = bad
        for method in (detector.score, detector.predict, detector.correct, detector.infer_threshold, detector.fit):
            message = _expect(NonFinite, lambda method=method, rows=rows: method(rows), f"{method.__name__} of {bad}")
            assert "1 of" in message, f"the message does not name the row: {message}"
            assert " 3;" in message, f"the message does not name the row: {message}"
    assert detector.threshold == threshold, "a calibration that fails changes the threshold"


def check_invalid_rows_can_be_flagged(make_detector: MakeDetector, X: Array) -> None:
    """With `on_invalid="flag"`, rows with NaN are flagged and listed, keep the classifier's class, and cost no other.

    Their score is infinite and their p-value the smallest there is.
    """
    detector = made(make_detector).infer_threshold(X)
    expected: Any = detector.correct(X)["data"]
    setting = detector.on_invalid
    try:
        detector.on_invalid = "flag"
        assert detector.correct(X)["data"]["invalid"].tolist() == [], "a row of normal data is invalid"
        rows = X.copy()
        rows[3].flat[0], rows[len(X) - 1].flat[-1] = np.nan, np.inf
        bad, good = [3, len(X) - 1], np.setdiff1d(np.arange(len(X)), [3, len(X) - 1])
        for batch_size in (1, 7, 256):
            data: Any = detector.correct(rows, batch_size=batch_size)["data"]
            assert data["invalid"].tolist() == bad, f"invalid lists {data['invalid'].tolist()}, not {bad}"
            assert data["invalid"].dtype == "int64", f"invalid is {data['invalid'].dtype}"
            assert data["is_adversarial"][bad].all(), "a row that cannot be judged passes"
            assert np.isposinf(data["instance_score"][bad]).all(), "the score of an invalid row is not infinite"
            assert (data["p_value"][bad] == 1 / (len(X) + 1)).all(), "the p-value of an invalid row is not the smallest"
            assert (data["corrected"][bad] == data["no_defense"][bad]).all(), "an invalid row loses its class"
            assert_same_scores(data["instance_score"][good], expected["instance_score"][good], "others change")
            for name in ("is_adversarial", "corrected", "no_defense", "defense"):
                assert (data[name][good] == expected[name][good]).all(), f"{name} of other rows changes"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoPower)
            flagged = detector.predict(rows, control="fdr", level=1e-6)["data"]["is_adversarial"]
        assert flagged.tolist() == [row in bad for row in range(len(X))], "fdr control lets invalid rows pass"
        _expect(NonFinite, lambda: detector.infer_threshold(rows), "calibration on NaN, even with on_invalid='flag'")
    finally:
        detector.on_invalid = setting


def check_a_network_that_returns_nan_never_passes(make_detector: MakeDetector, X: Array) -> None:
    """NaN out of a network is treated as NaN in the data: an error that names the rows, or flags."""
    detector = made(make_detector).infer_threshold(X)
    weights = detector.companion.get_weights()
    try:
        detector.companion.set_weights([np.full_like(weight, np.nan) for weight in weights])
        _expect(NonFinite, lambda: detector.predict(X), "a companion of NaN")
        _expect(NonFinite, lambda: detector.infer_threshold(X), "calibration with a companion of NaN")
        detector.on_invalid = "flag"
        data: Any = detector.correct(X)["data"]
        assert data["is_adversarial"].all(), "a score of NaN passes"
        assert len(data["invalid"]) == len(X), "rows with a score of NaN are not listed"
        own = own_classes(detector, X)
        assert (data["corrected"] == own).all(), "rows that cannot be judged do not keep the classifier's class"
    finally:
        detector.on_invalid = "raise"
        detector.companion.set_weights(weights)


def _expect(error: type[Exception], action: Any, what: str) -> str:
    try:
        action()
    except error as raised:
        return str(raised)
    raise AssertionError(f"{what} is not a {error.__name__}")
