"""What batch scoring says to do, provoked and then followed: with an exported guard of digits, and no Keras."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from demur import batch
from demur.batch import guards
from demur.batch.answer import answers
from demur.batch.columns import Reading, rows_of
from demur.batch.formats import Asked, find
from demur.batch.output import Output
from demur.calibration.sketch import ScoreSketch
from demur.errors import CorruptDetector, DetectorNotFound, EmptyInput, InvalidSetting, ShapeMismatch, WrongType
from demur.onnx import runtime
from demur.rows.layout import Field
from tests.scaffold.advice import advises

da = pytest.importorskip("dask.array")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
zarr = pytest.importorskip("zarr")
bag = pytest.importorskip("dask.bag")

GUARD = Path(__file__).parents[1] / "parity" / "data" / "earlier" / "guard.onnx"
X = (load_digits().images / 16).astype("float32")[:40, :, :, None]


@pytest.fixture(scope="module")
def guard():
    return runtime.load(GUARD)


@pytest.fixture
def pixels(tmp_path):
    """A table of one row an image: its id and 64 numbers."""
    numbers = X.reshape(len(X), 64)
    columns = {"key": [f"k{i}" for i in range(len(X))], **{f"p{i}": numbers[:, i] for i in range(64)}}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def scored(data, **settings):
    return batch.score(GUARD, data, **settings).compute(scheduler="sync")


def test_columns_that_make_no_row_are_named(pixels):
    with advises(WrongType, "say which columns make a row by columns= (--column), and which name it by ids= (--id)"):
        scored(str(pixels))
    assert len(scored(str(pixels), columns=[f"p{i}" for i in range(64)])) == len(X)
    assert scored(str(pixels), ids="key")["key"].iloc[-1] == "k39"


def test_too_few_columns_are_chosen_anew(pixels):
    with advises(
        ShapeMismatch, "say which columns make a row by columns= (--column), and which name it by ids= (--id)"
    ):
        scored(str(pixels), columns=["p0", "p1"])
    assert len(scored(str(pixels), columns=[f"p{i}" for i in range(64)])) == len(X)


def test_several_arrays_are_named_in_order():
    table = pa.table({"right": [1.0], "left": [2.0], "note": [3.0]})
    layout = (Field(()), Field(()))
    with advises(ShapeMismatch, "name them, in order, by columns="):
        rows_of(table, Reading(layout))
    (left, right), _ = rows_of(table, Reading(layout, ("left", "right")))
    assert (float(left[0]), float(right[0])) == (2.0, 1.0)


def test_a_column_with_the_name_of_an_output_is_renamed(pixels, tmp_path):
    table = pq.read_table(pixels)
    pq.write_table(table.rename_columns(["p_value", *table.column_names[1:]]), tmp_path / "taken.parquet")
    with advises(InvalidSetting, "p_value is the name of an output; rename the column"):
        scored(str(tmp_path / "taken.parquet"), ids="p_value")
    assert len(scored(str(pixels), ids="key")) == len(X)


def test_files_are_named_and_of_one_format(pixels, tmp_path):
    asked = Asked((), 10)
    with advises(WrongType, "np.asarray(...) makes rows of it"):
        find(X.tolist(), asked)
    answers(runtime.load(GUARD), np.asarray(X.tolist()))
    with advises(EmptyInput, "data names no files: pass at least one"):
        find([], asked)
    np.save(tmp_path / "rows.npy", X)
    with advises(InvalidSetting, "name those of one by a glob, '*.parquet'"):
        find(str(tmp_path), asked)
    assert find(str(tmp_path / "*.parquet"), asked).pieces
    assert find([pixels], asked).pieces


def test_a_group_of_arrays_is_asked_for_one(tmp_path):
    group = zarr.open_group(str(tmp_path / "all.zarr"), mode="w")
    group.create_array("images", data=X)
    with advises(WrongType, "is a group of arrays; say which: "):
        scored(str(tmp_path / "all.zarr"))
    assert len(scored(str(tmp_path / "all.zarr" / "images"))) == len(X)


def test_arrays_have_lengths_rows_and_no_ids(guard):
    array = da.from_array(X, chunks=20)
    with advises(InvalidSetting, "arrays and bags have no columns; pass pairs of an id and a row in a bag"):
        scored(array, ids="key")
    pairs = bag.from_sequence([(f"k{i}", row) for i, row in enumerate(X)], npartitions=2)
    assert "k39" in scored(pairs).iloc[-1].to_numpy()
    unknown = array[da.from_array(np.arange(40) < 30, chunks=20)]
    with advises(InvalidSetting, "the lengths of the chunks are not known: call X.compute_chunk_sizes() first"):
        scored(unknown)
    assert len(scored(unknown.compute_chunk_sizes())) == 30
    with advises(EmptyInput, "the array has no rows; pass at least one"):
        scored(array[:0])
    assert len(scored(array[:1])) == 1


def test_answers_go_to_a_folder_of_their_own(tmp_path):
    def output(name):
        return Output.at(str(tmp_path / name), None)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    with advises(InvalidSetting, "holds something else: choose another folder"):
        output("mine").begin({"job": 1, "parts": 1}, overwrite=False)
    output("other").begin({"job": 1, "parts": 1}, overwrite=False)
    with advises(InvalidSetting, "Choose another folder, or overwrite=True"):
        output("other").begin({"job": 2, "parts": 1}, overwrite=False)
    output("another").begin({"job": 2, "parts": 1}, overwrite=False)
    output("other").begin({"job": 2, "parts": 1}, overwrite=True)


def test_a_guard_that_has_changed_is_loaded_again(tmp_path):
    shutil.copy(GUARD, tmp_path / "guard.onnx")
    loaded = runtime.load(tmp_path / "guard.onnx")
    (tmp_path / "guard.onnx").write_bytes(b"another")
    with advises(CorruptDetector, "has changed since it was loaded: load it again"):
        guards.packed(loaded, "auto", tmp_path)
    shutil.copy(GUARD, tmp_path / "guard.onnx")
    guards.packed(runtime.load(tmp_path / "guard.onnx"), "auto", tmp_path)


def test_a_guard_that_is_nowhere_is_sent(tmp_path):
    there = guards.packed(GUARD, "auto", tmp_path).ref
    with advises(DetectorNotFound, "pass client= to demur.batch.score, so that it is sent"):
        guards.loaded(dataclasses.replace(there, content="0" * 64))
    guards.loaded(there)


def test_sketches_are_merged_of_at_least_one():
    with advises(EmptyInput, "there is no sketch to merge: pass at least one"):
        ScoreSketch.merged([])
    assert ScoreSketch.merged([ScoreSketch.of(np.ones(3))]).n == 3
