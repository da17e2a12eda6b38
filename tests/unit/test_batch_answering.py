"""The core of batch scoring: columns of answers, and single rows that fail."""

import pickle

import numpy as np
import pytest

from demur.batch import OUTPUTS, answers
from demur.batch.answer import default_outputs
from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.errors import (
    EmptyInput,
    InvalidSetting,
    MissingExtra,
    NonFinite,
    NotCalibrated,
    RowsFailed,
    ShapeMismatch,
    ThresholdNotSet,
    WrongType,
)
from demur.guards.base import Guard
from demur.guards.results import Scored
from demur.rows.classes import Classes
from demur.rows.layout import Field


class Means(Guard):
    """Scores a row by its mean; fails on rows with a 13 in them."""

    layout, labels, on_invalid, threshold = Field((3,)), Classes(2), "raise", None
    harm = trained_on = scale = data_type = description = None
    temperature, channels_first = 1.0, False

    def __init__(self, threshold=0.5, room=1000):
        scores = np.linspace(0, 1, 100, dtype="float32")
        self.threshold = threshold
        self.calibration = None if threshold is None else Calibration({None: ScoreDistribution.of(scores)}, threshold)
        self.room, self.calls = room, []

    def scored(self, X, *, batch_size, probabilities=False, **_):
        self.calls.append(len(X))
        if len(X) > self.room:
            raise MemoryError("no room")
        if not np.isfinite(X).all():
            raise NonFinite("some row is not finite")
        if (X == 13).any():
            raise RuntimeError("unlucky\nand more")
        score = X.mean(axis=1).astype("float32")
        up = np.stack([1 - score, score], axis=1)
        views = [up, up[:, ::-1]]
        return Scored(score, *(views if probabilities else (view.argmax(axis=1) for view in views)), np.zeros(0, int))


def rows(n=10):
    return np.random.default_rng(0).random((n, 3)).astype("float32")


def test_all_that_can_be_told_of_a_row_is_the_default_and_has_the_types_that_are_promised():
    found = answers(Means(), rows())
    assert list(found.columns) == [
        "instance_score",
        "is_adversarial",
        "p_value",
        "corrected",
        "no_defense",
        "defense",
    ]
    assert {name: str(column.dtype) for name, column in found.columns.items()} == {
        name: OUTPUTS[name] for name in found.columns
    }
    assert found.faults == {}


@pytest.mark.parametrize("names", [["instance_score"], ["opinion", "corrected", "p_value", "reference"], ["defense"]])
def test_answers_do_not_depend_on_what_else_is_asked_for_or_on_the_batch_size(names):
    whole = answers(Means(), rows(), [name for name in OUTPUTS if name != "harm_probability"])
    found = answers(Means(), rows(), names, batch_size=3)
    for name in names:
        np.testing.assert_array_equal(found.columns[name], whole.columns[name])


def test_without_a_threshold_classes_and_scores_can_be_told_and_decisions_cannot():
    guard = Means(threshold=None)
    assert default_outputs(guard) == ("instance_score", "no_defense", "defense")
    assert answers(guard, rows()).columns["no_defense"].shape == (10,)
    with pytest.raises(ThresholdNotSet, match="infer_threshold"):
        answers(guard, rows(), ["corrected"])
    with pytest.raises(NotCalibrated, match="infer_threshold"):
        answers(guard, rows(), ["p_value"])
    with pytest.raises(NotCalibrated, match="calibrate_accuracy"):
        answers(Means(), rows(), ["harm_probability"])


@pytest.mark.parametrize("outputs", [["scores"], [], ["defense", "defense"]])
def test_unknown_outputs_are_refused(outputs):
    with pytest.raises(InvalidSetting, match="outputs are some of instance_score"):
        answers(Means(), rows(), outputs)


def test_rows_that_fail_do_not_take_their_batch_with_them():
    X = rows(100)
    X[7, 1], X[60, 0], X[61, 2] = np.nan, 13, np.inf
    found = answers(Means(), X, batch_size=64, on_error="skip")
    assert set(found.faults) == {7, 60, 61}
    assert found.faults[7] == found.faults[61] == "it holds NaN or infinity"
    assert found.faults[60] == "RuntimeError: unlucky"
    fine = np.setdiff1d(np.arange(100), list(found.faults))
    np.testing.assert_array_equal(found.columns["instance_score"][fine], X[fine].mean(axis=1))


def test_an_error_names_the_rows_by_their_ids_and_says_how_to_go_on_without_them():
    X = rows(30)
    X[7, 1], X[8, 0] = np.nan, 13
    with pytest.raises(RowsFailed) as error:
        answers(Means(), X, names=[f"customer {i}" for i in range(30)])
    assert error.value.faults == {"customer 7": "it holds NaN or infinity", "customer 8": "RuntimeError: unlucky"}
    assert "2 rows cannot be answered: customer 7: it holds NaN" in str(error.value)
    assert "on_error='skip'" in str(error.value)


def test_a_batch_that_memory_has_no_room_for_is_halved_until_it_fits():
    guard = Means(room=16)
    found = answers(guard, rows(100), ["instance_score"], batch_size=100)
    assert found.faults == {}
    assert max(n for n in guard.calls if n <= 16) > 8
    np.testing.assert_array_equal(found.columns["instance_score"], rows(100).mean(axis=1))


def test_rows_that_are_known_to_be_unusable_are_not_looked_at():
    X = rows(10)
    X[3] = 13
    found = answers(Means(), X, on_error="skip", faults={3: "no image"})
    assert found.faults == {3: "no image"}


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"batch_size": 0}, InvalidSetting, "batch_size is a whole number"),
        ({"batch_size": "many"}, InvalidSetting, "batch_size is a whole number"),
        ({"outputs": 3}, InvalidSetting, "outputs is a name or a list of names"),
        ({"outputs": [3]}, InvalidSetting, "outputs is a name or a list of names"),
        ({"guard": None}, WrongType, "demur.runtime.load returns"),
        ({"X": rows(0)}, EmptyInput, "no rows"),
        ({"X": [[1.0, 2.0, 3.0]]}, WrongType, r"np\.asarray"),
    ],
)
def test_what_is_no_question_says_what_would_be(arguments, error, says):
    with pytest.raises(error, match=says):
        answers(**{"guard": Means(), "X": rows(), **arguments})


def test_mistakes_that_concern_all_rows_are_no_faults_of_theirs():
    with pytest.raises(ShapeMismatch):
        answers(Means(), np.zeros((5, 4)), on_error="skip")
    with pytest.raises(InvalidSetting, match="on_error"):
        answers(Means(), rows(), on_error="ignore")


@pytest.mark.parametrize("error", [RowsFailed({"a": "b"}), MissingExtra("dask", "batch"), NonFinite("NaN")])
def test_errors_come_back_from_other_processes_as_they_were(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
