"""Rows one at a time, in pairs with labels, or in columns by name: what becomes of them."""

import numpy as np
import pytest

from demur.errors import EmptyInput, InvalidSetting, ShapeMismatch, WrongType
from demur.rows.layout import Columns, Field
from demur.rows.sources import DataSet, as_source, collected, first_rows
from demur.rows.texts import Text
from tests.scaffold.advice import advises

X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10)
ROWS = Field((2,))


class Rows:
    """A data set of what a function makes of a row's number."""

    def __init__(self, row, n=10):
        self.row, self.n = row, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return self.row(index)


PAIRS = Rows(lambda i: (X[i], Y[i]))
COLUMNS = Rows(lambda i: {"image": X[i], "label": Y[i]})


@pytest.mark.parametrize("rows", [Rows(lambda i: X[i]), PAIRS, Rows(lambda i: [X[i], Y[i]]), COLUMNS, (X, Y), [X, Y]])
def test_rows_are_taken_and_labels_left(rows):
    drawn = list(as_source(rows, ROWS).draw(4))
    assert max(map(len, drawn)) == 4
    np.testing.assert_array_equal(np.concatenate([batch.raw for batch in drawn]), X)


@pytest.mark.parametrize("rows", [PAIRS, COLUMNS, (X, Y), DataSet(PAIRS, 3), iter([(X[:6], Y[:6]), (X[6:], Y[6:])])])
def test_rows_and_labels_are_put_together(rows):
    found, labels = collected(rows, ROWS, labels=True)
    np.testing.assert_array_equal(found, X)
    np.testing.assert_array_equal(labels, Y)


def test_labels_that_are_missing_are_told_with_what_to_do():
    with advises(InvalidSetting, "labels are missing: pass y, the true class of each row, or X as a pair of both"):
        collected(X, ROWS, labels=True)
    assert collected((X, Y), ROWS, labels=True)[1] is Y
    with advises(InvalidSetting, "gives rows without labels: pass y=, the true class of each, or a stream of pairs"):
        collected(Rows(lambda i: X[i]), ROWS, labels=True)
    assert len(collected(PAIRS, ROWS, labels=True)[1]) == 10
    with pytest.raises(EmptyInput, match="no batches"):
        collected(iter([]), ROWS)


def test_training_draws_a_data_set_in_another_order_each_time():
    drawn = DataSet(PAIRS, 4, seed=0)
    first, second = (np.concatenate([labels for _, labels in drawn]) for _ in range(2))
    assert len(drawn) == 3
    assert sorted(first) == sorted(second) == Y.tolist()
    assert (first != second).any()
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in DataSet(PAIRS, 4, seed=0)]), first)


def test_a_buffer_that_is_filled_again_and_a_list_of_two_rows():
    def refilled():
        rows, labels = np.empty((5, 2), "float32"), np.empty(5, int)
        for start in (0, 5):
            rows[:], labels[:] = X[start : start + 5], Y[start : start + 5]
            yield rows, labels

    found, labels = collected(refilled(), ROWS, labels=True)
    np.testing.assert_array_equal(found, X)
    np.testing.assert_array_equal(labels, Y)
    with advises(WrongType, "np.asarray(...) makes an array of a list"):
        as_source([X[0], X[1]], ROWS)
    assert as_source(np.asarray([X[0], X[1]]), ROWS).count(2) == 1


def test_several_inputs_are_rows_and_not_a_pair():
    two = (ROWS, Field(()))
    rows, labels = collected((X, Y), two)
    assert labels is None
    np.testing.assert_array_equal(rows[1], Y)
    rows, labels = collected(Rows(lambda i: ((X[i], X[i, 0]), Y[i])), two, labels=True)
    np.testing.assert_array_equal(rows[1], X[:, 0])
    np.testing.assert_array_equal(labels, Y)


def test_columns_go_by_name_to_a_classifier_that_takes_several():
    tokens = Rows(lambda i: {"ids": X[i], "mask": X[i] > 0, "label": Y[i], "idx": i})
    (rows,) = as_source(tokens, {"mask": ROWS, "ids": ROWS}).draw(10)
    np.testing.assert_array_equal(rows.raw["ids"], X)
    with advises(WrongType, "leave one column beside the labels, as select_columns([...]) does"):
        list(as_source(tokens, ROWS).draw(10))
    assert list(as_source(COLUMNS, ROWS).draw(10))


def test_texts_may_come_one_at_a_time():
    texts = Rows(lambda i: {"text": f"text {i}", "label": i})
    (rows,) = as_source(texts, Text("list")).draw(10)
    assert rows.raw.tolist()[:2] == ["text 0", "text 1"]


@pytest.mark.parametrize("rows", [PAIRS, COLUMNS, Rows(lambda i: X[i])])
def test_the_first_row_tells_the_layout(rows):
    found, again = first_rows(rows)
    np.testing.assert_array_equal(found.raw, X[:1])
    assert again is rows


def test_a_stream_of_single_rows_says_how_to_make_batches():
    with advises(ShapeMismatch, "batch 0 of X is a single row, of shape (2,), and batches of rows are wanted"):
        list(as_source(iter(X), ROWS).draw(4))
    assert list(as_source(DataSet(Rows(lambda i: X[i]), 4), ROWS).draw(4))


def test_a_table_and_its_labels_are_a_pair():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(X, columns=["a", "b"])
    rows, labels = collected((table, Y), Columns(("a", "b")), labels=True)
    assert rows is table
    assert labels is Y
    assert collected(table, Columns(("a", "b")))[1] is None
    joined, labels = collected(iter([(table[:4], Y[:4]), (table[4:], Y[4:])]), Columns(("a", "b")), labels=True)
    pd.testing.assert_frame_equal(joined, table)
    np.testing.assert_array_equal(labels, Y)
