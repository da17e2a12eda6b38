"""From columns, as tables and files hold them, to rows as a guard takes them."""

import io

import numpy as np
import pytest

from demur.batch.columns import Reading, rows_of
from demur.errors import ShapeMismatch, WrongType
from demur.rows.layout import Columns, Field
from demur.rows.texts import Text
from tests.scaffold.advice import advises

pa = pytest.importorskip("pyarrow")
image = pytest.importorskip("PIL.Image")

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), "uint8")
SQUARE = Reading(Field((4, 3)))


def png(pixels):
    stream = io.BytesIO()
    image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def fixed(values, size):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(values)), size)


COLUMNS = {
    "lists": pa.array([row.ravel().tolist() for row in PIXELS]),
    "large lists": pa.array([row.ravel().tolist() for row in PIXELS], pa.large_list(pa.uint8())),
    "lists of lists": pa.array([row.tolist() for row in PIXELS]),
    "lists of one size": fixed(PIXELS, 12),
    "lists of one size of such": pa.FixedSizeListArray.from_arrays(fixed(PIXELS, 3), 4),
    "tensors": pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS),
    "raw bytes": pa.array([row.tobytes() for row in PIXELS]),
    "raw bytes of one size": pa.array([row.tobytes() for row in PIXELS], pa.binary(12)),
    "encoded images": pa.array([png(row) for row in PIXELS]),
    "images with a path": pa.array([{"bytes": png(row), "path": "a.png"} for row in PIXELS]),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_column_of_arrays_is_read_whatever_way_it_holds_them(kind, whole):
    column = COLUMNS[kind] if whole else COLUMNS[kind].slice(1, 3)
    rows, faults = rows_of(pa.table({"id": range(len(column)), "x": column}), SQUARE, ["id"])
    assert faults == {}
    np.testing.assert_array_equal(rows, PIXELS if whole else PIXELS[1:4])


@pytest.mark.parametrize("kind", ["lists", "large lists", "lists of lists", "raw bytes", "encoded images"])
def test_rows_of_another_size_and_missing_ones_are_faults_of_theirs_alone(kind):
    values = COLUMNS[kind].to_pylist()
    values[1], values[3] = values[1][: len(values[1]) - (60 if "images" in kind else 1)], None
    rows, faults = rows_of(pa.table({"x": pa.array(values, COLUMNS[kind].type)}), SQUARE)
    assert set(faults) == {1, 3}
    assert all("it" in reason or "column x has" in reason for reason in faults.values())
    np.testing.assert_array_equal(rows[[0, 2, 4]], PIXELS[[0, 2, 4]])
    np.testing.assert_array_equal(rows[[1, 3]], 0)


def test_a_missing_list_of_one_size_is_a_fault_too():
    column = pa.FixedSizeListArray.from_arrays(pa.array(PIXELS.ravel()), 12, mask=pa.array([False, True] + 3 * [False]))
    rows, faults = rows_of(pa.table({"x": column}), SQUARE)
    assert faults == {1: "column x has no value; a row has 12"}
    np.testing.assert_array_equal(rows[[0, 2, 3, 4]], PIXELS[[0, 2, 3, 4]])


def test_colours_are_put_where_the_classifier_has_them_and_no_image_is_resized():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), "uint8")
    table = pa.table({"x": [png(row) for row in pixels]})
    rows, _ = rows_of(table, Reading(Field((4, 6, 3))))
    np.testing.assert_array_equal(rows, pixels)
    rows, _ = rows_of(table, Reading(Field((3, 4, 6)), channels_first=True))
    np.testing.assert_array_equal(rows, np.moveaxis(pixels, -1, 1))
    rows, faults = rows_of(table, Reading(Field((8, 8, 3))))
    assert faults == dict.fromkeys([0, 1], "its shape is (4, 6, 3); the classifier takes (8, 8, 3)")
    rows, _ = rows_of(table, Reading(Field((4, 6, 1))))
    assert rows.shape == (2, 4, 6, 1)
    rows, _ = rows_of(table, Reading(Field((None, None, 3))))
    np.testing.assert_array_equal(rows, pixels)


def test_numbers_side_by_side_make_a_row_and_missing_ones_are_nan():
    table = pa.table({"id": ["a", "b"], "u": [1, 2], "v": [0.5, None]})
    rows, faults = rows_of(table, Reading(Field((2,))), ["id"])
    np.testing.assert_array_equal(rows, [[1, 0.5], [2, np.nan]])
    assert faults == {}
    rows, _ = rows_of(table, Reading(Field((1,)), ("u",)))
    assert rows.dtype == "int64"


def test_rows_are_multiplied_only_if_that_is_asked_for():
    table = pa.table({"x": COLUMNS["raw bytes"]})
    assert rows_of(table, SQUARE)[0].dtype == "uint8"
    rows, _ = rows_of(table, SQUARE._replace(scale=1 / 255))
    assert rows.dtype == "float32"
    np.testing.assert_allclose(rows, PIXELS / 255, rtol=1e-6)


def test_several_arrays_are_found_by_their_names_or_in_order():
    table = pa.table({"ids": [[1, 2], [3, 4]], "mask": [[1, 1], [1, 0]], "more": ["a", "b"]})
    named = {"mask": Field((2,)), "ids": Field((2,))}
    rows, _ = rows_of(table, Reading(named))
    assert {name: array.tolist() for name, array in rows.items()} == {"ids": [[1, 2], [3, 4]], "mask": [[1, 1], [1, 0]]}
    rows, _ = rows_of(table, Reading((Field((2,)), Field((2,))), ("ids", "mask")))
    assert [array.tolist() for array in rows] == [[[1, 2], [3, 4]], [[1, 1], [1, 0]]]
    with pytest.raises(ShapeMismatch, match=r"2 arrays.*ids, mask, more.*columns="):
        rows_of(table, Reading((Field((2,)), Field((2,)))))


def test_what_takes_a_table_gets_one():
    table = pa.table({"age": [1, 2], "city": ["a", "b"], "more": [0, 0]})
    rows, _ = rows_of(table, Reading(Columns(("city", "age"))))
    assert list(rows.columns) == ["city", "age"]


@pytest.mark.parametrize(
    ("table", "reading", "error", "says"),
    [
        ({"x": [1.0]}, Reading(Field((4, 3))), ShapeMismatch, "12 numbers; 1 columns of numbers .x. make 1"),
        ({"a": [1], "x": ["text"]}, Reading(Field((2,))), WrongType, "column x holds string"),
        ({"x": ["text"]}, Reading(Field((2,))), WrongType, "column x holds string; a row is made of"),
        ({"x": [["a", "b"]]}, Reading(Field((2,))), WrongType, "lists of string"),
        ({"x": [1.0]}, Reading(Field((1,)), ("y",)), ShapeMismatch, "no column y; the data have x"),
        ({"x": [1.0]}, Reading(Columns(("y",))), ShapeMismatch, "no column y; the data have x"),
    ],
)
def test_what_is_wrong_with_all_rows_is_an_error_that_says_what_to_do(table, reading, error, says):
    with pytest.raises(error, match=says):
        rows_of(pa.table(table), reading)


def test_texts_are_one_column():
    table = pa.table({"name": ["a", "b"], "text": ["to demur", None]})
    rows, faults = rows_of(table, Reading(Text()), ids=["name"])
    assert rows.tolist() == ["to demur", None]
    assert not faults
    assert rows_of(table, Reading(Text(), columns=("text",)))[0].tolist() == ["to demur", None]
    with advises(ShapeMismatch, "say which by columns=, and which names rows by ids="):
        rows_of(table, Reading(Text()))
