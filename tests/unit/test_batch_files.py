"""Files are found, cut into pieces of work and read, each row once."""

import io
import json

import numpy as np
import pytest

from demur.batch.columns import Reading
from demur.batch.formats import Asked, Format, Store, find
from demur.batch.output import Output
from demur.errors import EmptyInput, InvalidSetting, ShapeMismatch, WrongType
from demur.rows.layout import Field

pytest.importorskip("fsspec")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
image = pytest.importorskip("PIL.Image")

ROWS = np.random.default_rng(0).integers(0, 256, (100, 6), "uint8")
READING = Reading(Field((6,)))


def read(data, *, ids=(), part_rows=10, size=7, reading=READING):
    """All ids and rows of a data set, in the order of its pieces, and how many rows each has."""
    found = find(data, Asked(tuple(ids), part_rows))
    batches = [list(piece.batches(found.store, reading, size)) for piece in found.pieces]
    assert all(batch.ids.num_rows <= size for piece in batches for batch in piece)
    names = [tuple(row.values()) for piece in batches for batch in piece for row in batch.ids.to_pylist()]
    rows = np.concatenate([batch.rows for piece in batches for batch in piece])
    return names, rows, [sum(batch.ids.num_rows for batch in piece) for piece in batches]


def write_parquet(path, start, stop, group):
    table = pa.table({"key": [f"k{i}" for i in range(start, stop)], "x": [row.tobytes() for row in ROWS[start:stop]]})
    pq.write_table(table, path, row_group_size=group)


@pytest.mark.parametrize(("group", "part_rows"), [(10, 10), (10, 25), (40, 9), (40, 40), (3, 100), (100, 7)])
def test_parquet_is_cut_at_row_groups_and_within_large_ones(tmp_path, group, part_rows):
    for number, (start, stop) in enumerate([(0, 40), (40, 45), (45, 100)]):
        write_parquet(tmp_path / f"{number}.parquet", start, stop, group)
    names, rows, sizes = read(tmp_path, ids=["key"], part_rows=part_rows)
    assert names == [(f"k{i}",) for i in range(100)]
    np.testing.assert_array_equal(rows, ROWS)
    assert max(sizes) <= max(part_rows, min(group, 4 * part_rows))
    assert len(sizes) <= 100 / min(group, part_rows) + 3
    named, again, _ = read(str(tmp_path / "*.parquet"), part_rows=part_rows, reading=READING._replace(columns=("x",)))
    np.testing.assert_array_equal(again, ROWS)
    assert [row for _, row in named] == [*range(40), *range(5), *range(55)]
    assert {path for path, _ in named} == {str(tmp_path / f"{number}.parquet") for number in range(3)}


def test_npy_and_zarr_are_read_a_slice_at_a_time(tmp_path):
    np.save(tmp_path / "a.npy", ROWS[:30])
    np.save(tmp_path / "b.npy", ROWS[30:])
    names, rows, sizes = read([tmp_path / "a.npy", tmp_path / "b.npy"])
    np.testing.assert_array_equal(rows, ROWS)
    assert sizes == 10 * [10]
    assert [row for _, row in names] == [*range(30), *range(70)]
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "c.zarr", shape=ROWS.shape, chunks=(15, 6), dtype="uint8")
    array[:] = ROWS
    names, rows, sizes = read(tmp_path / "c.zarr", part_rows=20)
    np.testing.assert_array_equal(rows, ROWS)
    assert sizes == [30, 30, 30, 10]
    with pytest.raises(InvalidSetting, match="named by their number"):
        read(tmp_path / "a.npy", ids=["key"])


def test_a_group_of_zarr_arrays_asks_which(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.open_group(tmp_path / "d.zarr", mode="w").create_array("images", shape=(3, 6), dtype="uint8")
    with pytest.raises(WrongType, match=r"say which: .*d\.zarr/images"):
        read(tmp_path / "d.zarr")
    assert len(read(tmp_path / "d.zarr" / "images")[1]) == 3


def test_image_files_are_named_by_their_path_and_a_broken_one_is_a_fault(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), "uint8")
    for number, one in enumerate(pixels):
        image.fromarray(one).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:40])
    (tmp_path / "_notes.txt").write_text("not an image")
    found = find(tmp_path, Asked((), 4))
    reading = Reading(Field((4, 5, 3)))
    first, second = (batch for piece in found.pieces for batch in piece.batches(found.store, reading, 4))
    assert first.faults == {3: "it is no image that can be read: SyntaxError"} or list(first.faults) == [3]
    np.testing.assert_array_equal(first.rows[:3], pixels[:3])
    np.testing.assert_array_equal(second.rows, pixels[4:])
    assert second.ids["file"].to_pylist() == [str(tmp_path / f"{number}.png") for number in (4, 5, 6)]
    with pytest.raises(ShapeMismatch, match="takes images"):
        next(found.pieces[0].batches(found.store, READING, 4))
    with pytest.raises(InvalidSetting, match="named by their path"):
        find(tmp_path, Asked(("key",), 4))


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no data at"):
        read(tmp_path / "none.parquet")
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "*.parquet"))
    for nothing in ([], "", [""]):
        with pytest.raises(EmptyInput, match="names no files"):
            read(nothing)
    with pytest.raises(WrongType, match="a list with int"):
        read([3])
    with pytest.raises(InvalidSetting, match="cannot be reached"):
        read("nowhere://rows/*.parquet")
    (tmp_path / "text.csv").write_text("1,2")
    with pytest.raises(WrongType, match=r"got .*text\.csv"):
        read(tmp_path / "text.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(WrongType, match=r"broken\.parquet cannot be read as Parquet"):
        read(tmp_path / "broken.parquet")
    (tmp_path / "broken.npy").write_bytes(b"no array")
    with pytest.raises(WrongType, match=r"broken\.npy is no \.npy file"):
        read(tmp_path / "broken.npy")
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.zeros((3, 2))))
    with pytest.raises(WrongType, match="row after row"):
        read(tmp_path / "fortran.npy")
    write_parquet(tmp_path / "good.parquet", 0, 3, 3)
    with pytest.raises(InvalidSetting, match="several formats, Npy, Parquet"):
        read([tmp_path / "good.parquet", tmp_path / "fortran.npy"])
    with pytest.raises(InvalidSetting, match="no column name; it has key, x"):
        read(tmp_path / "good.parquet", ids=["name"])
    pq.write_table(pa.table({"x": pa.array([], "int64")}), tmp_path / "empty.parquet")
    with pytest.raises(EmptyInput, match="no rows"):
        read(tmp_path / "empty.parquet")


def test_every_format_names_its_files_and_no_two_claim_the_same():
    suffixes = [suffix for form in Format.registry for suffix in form.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)


# What is written ------------------------------------------------------------------------------------------------------

TABLE = pa.table(
    {"id": [1, 2, 3], "instance_score": pa.array([0.5, None, 2.0], "float32"), "error": [None, "no", None]}
)
MANIFEST = {"guard": "abc", "parts": 3}


def output(folder):
    return Output(Store("file"), str(folder))


def test_a_job_goes_on_with_the_parts_that_are_not_there_yet(tmp_path):
    where = output(tmp_path / "out")
    assert where.begin(MANIFEST, overwrite=False) == set()
    part = where.write(1, TABLE)
    assert (part.rows, part.failed, part.faults) == (3, 1, {"2": "no"})
    (tmp_path / "out" / ".part-000002.parquet.77-1.tmp").write_bytes(b"what a worker that died has left")
    assert where.begin(MANIFEST, overwrite=False) == {1}
    assert where.read(1) == part
    assert pq.read_table(tmp_path / "out").drop_columns([]).num_rows == 3


def test_what_another_job_or_somebody_else_has_written_is_not_touched(tmp_path):
    where = output(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidSetting, match="holds something else"):
        where.begin(MANIFEST, overwrite=True)
    (tmp_path / "thesis.txt").unlink()
    where.begin(MANIFEST, overwrite=False)
    where.write(0, TABLE)
    with pytest.raises(InvalidSetting, match=r"another job: guard differ.*overwrite=True"):
        where.begin({**MANIFEST, "guard": "def"}, overwrite=False)
    assert where.begin({**MANIFEST, "guard": "def"}, overwrite=True) == set()
    assert json.loads((tmp_path / "_demur.json").read_text())["guard"] == "def"


def test_a_part_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    where = output(tmp_path)
    where.begin(MANIFEST, overwrite=False)

    class Full(io.BytesIO):
        def getvalue(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("io.BytesIO", Full)
    with pytest.raises(OSError, match="No space left"):
        where.write(0, TABLE)
    assert [path.name for path in tmp_path.iterdir()] == ["_demur.json"]


def test_object_stores_are_written_to_in_one_piece():
    import fsspec

    where = Output.at("memory://bucket/scores", None)
    where.begin(MANIFEST, overwrite=False)
    where.write(2, TABLE)
    assert where.begin(MANIFEST, overwrite=False) == {2}
    assert [
        name.rsplit("/", 1)[1] for name in sorted(fsspec.filesystem("memory").ls("/bucket/scores", detail=False))
    ] == [
        "_demur.json",
        "part-000002.parquet",
    ]
