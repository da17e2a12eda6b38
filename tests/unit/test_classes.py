"""Classes: from what users call them to the classifier's outputs and back."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from demur.errors import InvalidSetting, ShapeMismatch
from demur.rows.classes import UNKNOWN, Classes, class_names, classes_said_by, settled_classes
from tests.scaffold.advice import advises

SPAM = Classes(2, ("ham", "spam"))
SIGNS = Classes(2, (-1, 1))


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (SPAM, ["spam", "ham", "spam"]),
        (SPAM, np.array(["spam", "ham", "spam"])),
        (SPAM, np.array(["spam", "ham", "spam"], object)),
        (SPAM, pd.Series(["spam", "ham", "spam"], index=[7, 8, 9])),
        (SPAM, pd.Series(["spam", "ham", "spam"], dtype="category")),
        (SPAM, pd.Series(["spam", "ham", "spam"], dtype="string")),
        (SPAM, pd.DataFrame({"y": ["spam", "ham", "spam"]})),
        (SPAM, pl.Series(["spam", "ham", "spam"])),
        (SPAM, pl.Series(["spam", "ham", "spam"], dtype=pl.Categorical)),
        (SIGNS, np.array([1, -1, 1])),
        (SIGNS, np.array([1.0, -1.0, 1.0])),
        (SIGNS, pd.Series([1, -1, 1], dtype="Int64")),
        (Classes(2, (2, 5)), [5, 2, 5]),
        (Classes(2, (0.5, 1.5)), [1.5, 0.5, 1.5]),
        (Classes(2, (False, True)), [True, False, True]),
        (Classes(2, (False, True)), [1, 0, 1]),
        (Classes(2, (0, 1)), [True, False, True]),
        (Classes(2), [True, False, True]),
        (Classes(2), [1, 0, 1]),
        (Classes(2), [[1], [0], [1]]),
        (Classes(2), np.array([1.0, 0.0, 1.0])),
        (Classes(2), np.array([1, 0, 1], "uint8")),
        (Classes(2), pd.Series([1, 0, 1], dtype="Int64")),
        (UNKNOWN, [1, 0, 1]),
        (Classes(2, ("ham", "spam"), or_indices=True), [1, 0, 1]),
        (Classes(2, ("ham", "spam"), or_indices=True), ["spam", "ham", "spam"]),
    ],
)
def test_labels_become_indices_in_whatever_they_come(classes, labels):
    found = classes.indices(labels, 3)
    assert found.dtype == np.int64
    assert found.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("classes", "labels", "error", "message"),
    [
        (SPAM, [0, 1, 0], InvalidSetting, r"y holds 0, 1; the classes are 'ham', 'spam'"),
        (SPAM, ["spam", "eggs", "ham"], InvalidSetting, r"y holds 'eggs'; the classes are 'ham', 'spam'"),
        (SPAM, ["spam", None, "ham"], InvalidSetting, r"y lacks 1 of 3 classes: 1; leave such rows out"),
        (SIGNS, [0, 1, 1], InvalidSetting, r"y holds 0; the classes are -1, 1"),
        (SIGNS, [True, True, True], InvalidSetting, r"True and False, and the classes are -1, 1"),
        (SIGNS, ["1", "-1", "1"], InvalidSetting, r"y holds '-1', '1'; the classes are -1, 1"),
        (SIGNS, [1.0, np.nan, -1.0], InvalidSetting, r"y lacks 1 of 3 classes: 1"),
        (Classes(2, (2, 5)), [0, 1, 1], InvalidSetting, r"y holds 0, 1; the classes are 2, 5"),
        (Classes(3), [1, 2, 3], InvalidSetting, r"y holds classes from 0 to 2; got 1 to 3.*detector.classes = \[...\]"),
        (Classes(2), [-1, 1, 1], InvalidSetting, r"y holds classes from 0 to 1; got -1 to 1"),
        (Classes(3), [True, False, True], InvalidSetting, r"y holds True and False, and the classes are 0 to 2"),
        (Classes(2), ["ham", "spam", "ham"], ShapeMismatch, r"got 'ham', and the classifier does not say"),
        (Classes(2), [0.2, 0.8, 1.0], ShapeMismatch, r"one whole number.*such as 0.2"),
        (Classes(2), np.eye(3), ShapeMismatch, r"got shape \(3, 3\).*pass np.asarray\(y\).argmax\(axis=1\)"),
        (SPAM, np.eye(3), ShapeMismatch, r"pass np.array\(detector.classes\)\[np.asarray\(y\).argmax\(axis=1\)\]"),
        (Classes(2), [0, 1], ShapeMismatch, r"for each of the 3 rows; got shape \(2,\)"),
        (Classes(2), [[0, 1], [1]], ShapeMismatch, "lists of one length each"),
    ],
)
def test_what_are_not_the_classes_is_refused_with_the_reason(classes, labels, error, message):
    with pytest.raises(error, match=message):
        classes.indices(labels, 3)


def test_labels_that_are_not_the_classes_give_way_to_those_that_are():
    with advises(InvalidSetting, "leave such rows out"):
        SPAM.indices(["spam", None, "ham"], 3)
    assert SPAM.indices(["spam", "ham"], 2).tolist() == [1, 0]
    with advises(InvalidSetting, "and the classes are -1, 1: pass labels that are these classes"):
        SIGNS.indices([True, False, True], 3)
    assert SIGNS.indices([1, -1, 1], 3).tolist() == [1, 0, 1]
    with advises(
        InvalidSetting, "or say what they are called: detector.classes = [...], in the order of the classifier's"
    ):
        SPAM.indices([2, 1, 2], 3)
    assert SPAM.indices(["spam", "ham", "spam"], 3).tolist() == [1, 0, 1]
    assert settled_classes(class_names([1, 2]), (SPAM.names, False), 2).indices([2, 1, 2], 3).tolist() == [1, 0, 1]


def test_classes_in_another_order_are_left_to_the_classifier():
    with advises(InvalidSetting, "Leave classes out: the classifier says them itself"):
        settled_classes(("spam", "ham"), (SPAM.names, False), 2)
    assert settled_classes(None, (SPAM.names, False), 2) == SPAM


def test_the_advice_on_matrices_works():
    y = np.eye(2)[[1, 0, 1]].tolist()
    assert Classes(2).indices(np.asarray(y).argmax(axis=1), 3).tolist() == [1, 0, 1]
    assert SPAM.indices(np.array(SPAM.names)[np.asarray(y).argmax(axis=1)], 3).tolist() == [1, 0, 1]


def test_indices_become_what_the_classes_are_called():
    assert SPAM.named(np.array([1, 0])).tolist() == ["spam", "ham"]
    assert SIGNS.named(np.array([1, 0])).dtype == np.int64
    assert Classes(2, (False, True)).named(np.array([1, 0])).tolist() == [True, False]
    for plain in (Classes(2), Classes(2, (0, 1)), UNKNOWN):
        assert plain.named(np.array([1, 0])).tolist() == [1, 0]
        assert plain.dtype == np.int64
    assert SPAM.name_of(1) == "spam"
    assert Classes(2).all_names == ["0", "1"]


def test_what_is_written_is_read():
    for classes in (Classes(2), SPAM, SIGNS, Classes(2, ("a", "b"), or_indices=True)):
        assert Classes.from_json(classes.as_json(), 2) == classes


@pytest.mark.parametrize("given", ["ab", ["a"], ["a", "a"], ["a", 1], [[1, 2], [3, 4]], {"a": 1}, [None, "a"], 3])
def test_names_that_are_none_are_refused(given):
    with pytest.raises(InvalidSetting, match="classes is a list of what the classes are called"):
        class_names(given)


def test_names_come_in_lists_arrays_and_series():
    for given in (["a", "b"], np.array(["a", "b"]), pd.Series(["a", "b"]), pd.Index(["a", "b"]), pl.Series(["a", "b"])):
        assert class_names(given) == ("a", "b")
    assert class_names(np.array([2, 5])) == (2, 5)
    assert type(class_names(np.array([2, 5]))[0]) is int


class Model:
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def predict_proba(self, X):
        return X


class Config:
    def __init__(self, id2label):
        self.id2label = id2label


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Model(classes_=np.array(["a", "b"])), (("a", "b"), False)),
        (Model(classes_=np.array(["a", "b"])).predict_proba, (("a", "b"), False)),
        (Model(classes_=[np.array([0, 1]), np.array([0, 1, 2])]), None),
        (Model(config=Config({0: "neg", 1: "pos"})), (("neg", "pos"), True)),
        (Model(config=Config({"1": "pos", "0": "neg"})), (("neg", "pos"), True)),
        (Model(config=Config({0: "LABEL_0", 1: "LABEL_1"})), None),
        (Model(config=Config({1: "a", 2: "b"})), None),
        (Model(), None),
    ],
)
def test_models_say_what_their_classes_are_called(model, said):
    assert classes_said_by(model) == said


def test_names_of_the_caller_come_first_and_must_fit():
    said = (("a", "b"), False)
    assert settled_classes(None, said, 2).names == ("a", "b")
    assert settled_classes(("no", "yes"), said, 2).names == ("no", "yes")
    assert settled_classes(None, said, 3).names is None
    with pytest.raises(InvalidSetting, match="names each of the classifier's 3 classes; got 2"):
        settled_classes(("no", "yes"), None, 3)
    with pytest.raises(InvalidSetting, match=r"order of the classifier's outputs, which is \['a', 'b'\]"):
        settled_classes(("b", "a"), said, 2)
