"""Many rows on a Dask cluster: a real guard, real files, real worker processes that are killed."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from demur import batch, cli
from demur.errors import (
    DetectorNotFound,
    EmptyInput,
    InvalidSetting,
    NotExportable,
    RowsFailed,
    ShapeMismatch,
    UnfinishedBatch,
    WrongType,
)
from demur.onnx import runtime
from tests.scaffold.advice import advises

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
bag = pytest.importorskip("dask.bag")

# Of Dask's own, in processes and threads that end.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

N = 1000
OUTPUTS = ["instance_score", "is_adversarial", "p_value", "corrected", "no_defense", "defense"]


@pytest.fixture(scope="module")
def detector():
    from pathlib import Path

    from demur import load_detector

    found = load_detector(Path(__file__).parents[1] / "parity" / "data" / "adversarial_ae")
    return found.infer_threshold(np.random.default_rng(0).random((200, *found.input_shape), "float32"), fpr=0.05)


@pytest.fixture(scope="module")
def guard(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("guard") / "guard.onnx"
    detector.export(path)
    return path


@pytest.fixture(scope="module")
def rows(detector):
    return np.random.default_rng(1).random((N, *detector.input_shape), "float32")


@pytest.fixture(scope="module")
def files(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for number, chosen in enumerate(np.array_split(np.arange(N), 3)):
        flat = rows[chosen].reshape(len(chosen), -1)
        table = pa.table({"key": [f"k{i:04}" for i in chosen], "x": pa.array(list(flat)), "more": ["-"] * len(chosen)})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=50)
    return folder


@pytest.fixture(scope="module")
def expected(guard, rows):
    return runtime.load(guard, threads=1).correct(rows)["data"]


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="3GB", dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as found,
    ):
        yield found


def same(table, expected, rows=slice(None)):
    for name in OUTPUTS:
        np.testing.assert_allclose(np.asarray(table[name], float), np.asarray(expected[name], float)[rows], atol=1e-6)


# Lazily ---------------------------------------------------------------------------------------------------------------


def test_files_arrays_frames_and_bags_give_the_same_answers_and_keep_their_ids(guard, rows, files, expected):
    import pandas as pd

    of_files = batch.score(guard, files / "*.parquet", ids="key", columns="x")
    assert list(of_files.columns) == ["key", *OUTPUTS]
    found = of_files.compute()
    assert list(found["key"]) == [f"k{i:04}" for i in range(N)]
    same(found, expected)
    assert found.dtypes.to_dict() == {**of_files.dtypes.to_dict(), "key": found.dtypes["key"]}

    of_array = batch.score(guard, da.from_array(rows, chunks=(300, 4, -1, -1)))
    assert list(of_array.columns) == ["row", *OUTPUTS]
    found = of_array.compute()
    assert list(found["row"]) == list(range(N))
    same(found, expected)

    frame = pd.DataFrame(rows.reshape(N, -1), index=[f"i{i}" for i in range(N)]).rename(columns=str)
    of_frame = batch.score(guard, dd.from_pandas(frame, npartitions=3, sort=False))
    assert list(of_frame.columns) == OUTPUTS
    found = of_frame.compute()
    assert list(found.index) == list(frame.index)
    same(found, expected)

    of_bag = batch.score(guard, bag.from_sequence([(f"b{i}", row) for i, row in enumerate(rows[:50])], npartitions=3))
    found = of_bag.compute()
    assert list(found["row"]) == [f"b{i}" for i in range(50)]
    same(found, expected, slice(0, 50))
    numbered = batch.score(guard, bag.from_sequence(list(rows[:50]), npartitions=3), "instance_score").compute()
    assert list(numbered["row"]) == list(range(50))
    assert list(numbered.columns) == ["row", "instance_score"]


def test_distributions_are_columns_of_arrays(guard, rows):
    found = batch.score(guard, da.from_array(rows[:20], chunks=7), ["reference", "opinion"]).compute()
    _, reference, opinion = runtime.load(guard).score(rows[:20], return_predictions=True)
    np.testing.assert_allclose(np.stack(found["reference"]), reference, atol=1e-6)
    np.testing.assert_allclose(np.stack(found["opinion"]), opinion, atol=1e-6)


def test_rows_without_an_answer_say_why_and_the_others_have_theirs(guard, rows, expected):
    X = rows.copy()
    X[[3, 500]] = np.nan
    data = da.from_array(X, chunks=200)
    with pytest.raises(RowsFailed, match=r"(3|500): it holds NaN or infinity"):
        batch.score(guard, data).compute()
    found = batch.score(guard, data, on_error="skip").compute()
    assert list(found["row"]) == list(range(N))
    failed = found[found["error"].notna()]
    assert list(failed["row"]) == [3, 500]
    assert failed[OUTPUTS].isna().all(axis=None)
    fine = np.setdiff1d(np.arange(N), [3, 500])
    same(found[found["error"].isna()], expected, fine)


def test_mistakes_are_told_before_anything_is_computed(guard, files, rows, monkeypatch):
    monkeypatch.setattr("demur.batch.cluster.TIMEOUT", 1.0)
    with pytest.raises(ShapeMismatch, match="ids="):
        batch.score(guard, files, columns=None, ids=("key", "more", "x"))
    with pytest.raises(WrongType, match="column key holds"):
        batch.score(guard, files)
    with pytest.raises(InvalidSetting, match="outputs are some of"):
        batch.score(guard, files, "scores")
    with pytest.raises(InvalidSetting, match="name of an output"):
        batch.score(guard, files, ids="p_value")
    with pytest.raises(InvalidSetting, match="runtime is"):
        batch.score(guard, files, runtime="gpu")
    with pytest.raises(InvalidSetting, match="runtime='live' needs the detector itself"):
        batch.score(guard, files, runtime="live")
    with pytest.raises(InvalidSetting, match="scale is"):
        batch.score(guard, files, scale=0)
    with pytest.raises(WrongType, match=r"detector\.score\(X\)"):
        batch.score(guard, rows)
    with pytest.raises(WrongType, match="guard is a detector"):
        batch.score(np.mean, files)
    with pytest.raises(DetectorNotFound):
        batch.score(guard.with_name("none.onnx"), files)
    with pytest.raises(InvalidSetting, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9"):
        batch.score(guard, files, ids="key", columns="x", out=guard.parent / "out", client="tcp://127.0.0.1:9")
    unknown = da.from_array(rows, chunks=100)
    with pytest.raises(InvalidSetting, match="compute_chunk_sizes"):
        batch.score(guard, unknown[unknown[:, 0, 0, 0] > 0.5])
    with pytest.raises(ShapeMismatch):
        batch.score(guard, da.zeros((10, 3, 3, 1)))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"outputs": 7}, InvalidSetting, "outputs is a name"),
        ({"ids": 7}, InvalidSetting, "ids is a name"),
        ({"columns": [3]}, InvalidSetting, "columns is a name"),
        ({"columns": "pixels"}, InvalidSetting, "no column pixels; it has key, x, more"),
        ({"ids": "name"}, InvalidSetting, "no column name; it has key, x, more"),
        ({"part_rows": 0}, InvalidSetting, "part_rows is a whole number"),
        ({"storage_options": 3}, InvalidSetting, "storage_options is a dict"),
        ({"on_error": "ignore"}, InvalidSetting, "on_error is"),
        ({"client": 3}, WrongType, "client is a"),
        ({"out": 3}, WrongType, "out is the path"),
        ({"out": "scores", "workers": 0}, InvalidSetting, "workers is a whole number"),
        ({"out": "scores", "memory_limit": "much"}, InvalidSetting, "memory_limit is 'auto'"),
    ],
)
def test_settings_without_a_meaning_write_nothing(arguments, error, says, guard, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        batch.score(guard, files, **{"ids": "key", "columns": "x", **arguments})
    assert list(tmp_path.iterdir()) == []


def test_collections_without_rows_or_ids(guard, rows):
    import pandas as pd

    with pytest.raises(EmptyInput, match="no rows"):
        batch.score(guard, da.zeros((0, 8, 8, 1)))
    nothing = batch.score(guard, bag.from_sequence([], npartitions=1)).compute(scheduler="synchronous")
    assert (len(nothing), list(nothing.columns)) == (0, ["row", *OUTPUTS])
    frame = dd.from_pandas(pd.DataFrame(rows[:4].reshape(4, -1)).rename(columns=str), npartitions=1)
    with pytest.raises(InvalidSetting, match="no column name; the data have 0, 1"):
        batch.score(guard, frame, ids="name")


def test_after_a_scheduler_that_is_not_there_a_local_cluster_starts(guard, files, tmp_path, monkeypatch):
    monkeypatch.setattr("demur.batch.cluster.TIMEOUT", 1.0)
    with pytest.raises(InvalidSetting, match="no Dask scheduler"):
        batch.score(guard, files, ids="key", columns="x", client="tcp://127.0.0.1:9")
    assert batch.score(guard, files, ids="key", columns="x", out=tmp_path / "out", workers=1).rows == N


# Written, on workers --------------------------------------------------------------------------------------------------


def test_a_job_is_written_once_and_goes_on_where_it_stopped(guard, files, expected, client, tmp_path):
    def run(**more):
        return batch.score(
            guard, files, out=tmp_path / "out", client=client, ids="key", columns="x", part_rows=100, **more
        )

    first = run()
    assert (first.rows, first.failed, first.reused) == (N, 0, 0)
    assert first.flagged == int(np.sum(expected["is_adversarial"]))
    table = pq.read_table(tmp_path / "out").to_pandas().sort_values("key")
    assert list(table["key"]) == [f"k{i:04}" for i in range(N)]
    same(table, expected)

    parts = sorted((tmp_path / "out").glob("part-*"))
    times = {part.name: part.stat().st_mtime_ns for part in parts[1:]}
    parts[0].unlink()
    again = run()
    assert (again.rows, again.flagged, again.parts, again.reused) == (N, first.flagged, len(parts), len(parts) - 1)
    assert {part.name: part.stat().st_mtime_ns for part in parts[1:]} == times
    with pytest.raises(InvalidSetting, match="outputs differ"):
        run(outputs="instance_score")
    assert run(outputs="instance_score", overwrite=True).reused == 0


def test_the_guard_is_loaded_once_a_worker_and_tasks_do_not_carry_it(guard, rows, client, tmp_path):
    batch.score(guard, da.from_array(rows, chunks=50), out=tmp_path / "out", client=client)

    def state(sha):
        from demur.batch import guards

        found = [loaded for (content, _), loaded in guards._loaded.items() if content == sha]
        return len(found), found[0]._session.get_session_options().intra_op_num_threads if found else 1

    sha = runtime.load(guard).sha256
    assert all(n <= 1 and threads == 1 for n, threads in client.run(state, sha).values())
    import pickle

    from demur.batch.guards import packed

    ref = packed(guard, "auto", tmp_path).ref
    assert len(pickle.dumps(ref)) < 1000 < guard.stat().st_size


@pytest.mark.nightly
def test_every_row_is_there_once_though_a_worker_is_killed(guard, files, expected, tmp_path):
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        victim = next(iter(client.run(os.getpid).values()))
        out = tmp_path / "out"

        def kill():
            while not list(out.glob("part-*")):
                time.sleep(0.001)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        written = batch.score(guard, files, out=out, client=client, ids="key", columns="x", part_rows=20, batch_size=1)
        killer.join()
        assert victim not in client.run(os.getpid).values()
    assert written.rows == N
    table = pq.read_table(out).to_pandas().sort_values("key")
    assert list(table["key"]) == [f"k{i:04}" for i in range(N)]
    same(table, expected)


@pytest.mark.nightly
def test_rows_that_end_every_worker_end_the_job_with_advice_and_keep_what_is_done(client):
    from demur.batch import output

    deadly = client.submit(os._exit, 1, pure=False)  # as rows do that a runtime crashes of
    with pytest.raises(UnfinishedBatch, match="the same call goes on"):
        output._results(client, [deadly], False)


def test_a_live_detector_answers_where_it_is_asked_for(detector, rows, expected, client, tmp_path):
    written = batch.score(
        detector, da.from_array(rows[:60], chunks=60), out=tmp_path / "out", client=client, runtime="live"
    )
    assert written.rows == 60
    same(pq.read_table(tmp_path / "out"), detector.correct(rows[:60])["data"])


def test_workers_with_a_gpu_take_the_detector_and_others_the_file(monkeypatch):
    from demur.batch import guards

    ref = guards.GuardRef("abc", ("live", "onnx"), "-")
    monkeypatch.setattr(guards, "has_gpu", lambda: True)
    assert guards.chosen_kind(ref) == "live"
    monkeypatch.setattr(guards, "has_gpu", lambda: False)
    assert guards.chosen_kind(ref) == "onnx"
    monkeypatch.undo()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not guards.has_gpu()


def test_a_black_box_detector_travels_as_it_is_and_says_that_it_cannot_be_a_file(tmp_path):
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    from demur import ModelDistillation, load_detector

    X, y = load_iris(return_X_y=True)
    classifier, parts = LogisticRegression(max_iter=500).fit(X, y), da.from_array(X, chunks=50)
    detector = ModelDistillation(model=classifier).fit(X, epochs=1, verbose=False)
    found = batch.score(detector, parts).compute()
    np.testing.assert_allclose(found["instance_score"], detector.score(X), atol=1e-6)
    assert list(found.columns) == ["row", "instance_score", "no_defense", "defense"]
    detector.threshold = 1.0
    with advises(NotExportable, "pass runtime='live' or leave runtime= out"):
        batch.score(detector, parts, runtime="onnx")
    assert len(batch.score(detector, parts, runtime="live").compute()) == len(X)
    assert len(batch.score(detector, parts).compute()) == len(X)
    detector.save(tmp_path / "guard")
    detector.export(tmp_path / "guard.onnx")
    with advises(
        NotExportable, "pass the detector itself, as demur.load_detector(folder, model=classifier) returns it"
    ):
        batch.score(tmp_path / "guard.onnx", parts)
    assert len(batch.score(load_detector(tmp_path / "guard", model=classifier), parts).compute()) == len(X)


def test_a_pass_takes_as_many_rows_as_memory_has_room_for(guard):
    from demur.batch.columns import Reading
    from demur.batch.task import Job, rows_a_pass
    from demur.rows.layout import Field

    def rows(shape):
        return rows_a_pass(Job(None, (), Reading(Field(shape)), None))

    assert rows((28, 28, 1)) == 256
    assert rows((224, 224, 3)) < 64
    assert rows((10_000, 10_000)) == 1


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_scores_files_on_a_cluster(guard, files, expected, client, tmp_path, capsys):
    command = ["score", str(files / "*.parquet"), "--guard", str(guard), "--out", str(tmp_path / "scores")]
    more = ["--scheduler", client.scheduler.address, "--id", "key", "--column", "x", "--part-rows", "200"]
    assert cli.main([*command, *more]) == 0
    shown = capsys.readouterr().out
    assert "1,000 rows in 6 parts, " in shown
    assert f"written to {tmp_path / 'scores'}" in shown
    same(pq.read_table(tmp_path / "scores").to_pandas().sort_values("key"), expected)
    assert cli.main([*command, *more]) == 0
    assert "of them from before" in capsys.readouterr().out
    assert json.loads((tmp_path / "scores" / "_demur.json").read_text())["ids"] == ["key"]


def test_the_command_names_rows_without_an_answer(guard, rows, client, tmp_path, capsys):
    X = rows[:40].copy()
    X[7] = np.inf
    np.save(tmp_path / "x.npy", X)
    command = ["score", str(tmp_path / "x.npy"), "--guard", str(guard), "--out", str(tmp_path / "out")]
    command += ["--scheduler", client.scheduler.address]
    assert cli.main(command) == 1
    assert "row 7: it holds NaN or infinity" in capsys.readouterr().err
    assert cli.main([*command, "--on-error", "skip", "--overwrite"]) == 0
    assert "no answer  1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rows/*.parquet", "--guard", "g.onnx"], "--guard needs --out"),
        (["rows", "--guard", "g.onnx", "--out", "o", "--data", "x.npy"], "the data are the arguments"),
        (["detector"], "required: --data, or --guard"),
        (["detector", "another", "--data", "x.npy"], "one guard"),
        (["rows", "--guard", "g", "--out", "o", "--storage-options", "[1]"], "must be a JSON object"),
    ],
)
def test_the_command_says_what_is_missing(arguments, says, capsys):
    with pytest.raises(SystemExit):
        cli.main(["score", *arguments])
    assert says in capsys.readouterr().err
