"""The adapters for Spark and Ray give what the guard gives; on the engines themselves, where they are installed."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demur.batch.ray import Answering
from demur.errors import DetectorNotFound, EmptyInput, InvalidSetting, ShapeMismatch
from demur.onnx import runtime

PACKAGE = Path(__file__).parents[2] / "src" / "demur" / "batch"

SPARK = """
import sys
import numpy as np, pandas as pd
from pyspark.sql import SparkSession
from demur.batch.spark import answers_udf

guard, rows, out = sys.argv[1:]
x = np.load(rows)
if __name__ == "__main__":
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    frame = spark.createDataFrame(pd.DataFrame({"id": range(len(x)), "x": [row.ravel().tolist() for row in x]}))
    found = frame.repartition(3).withColumn("demur", answers_udf(guard)("x")).select("id", "demur.*").toPandas()
    found.sort_values("id").to_parquet(out)
    spark.stop()
"""

RAY = """
import sys
import numpy as np, ray
from demur.batch.ray import Answering

guard, rows, out = sys.argv[1:]
x = np.load(rows)
if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    data = ray.data.from_items([{"id": i, "x": row.ravel()} for i, row in enumerate(x)], override_num_blocks=3)
    found = data.map_batches(Answering, fn_constructor_args=[guard], batch_size=50, concurrency=1, num_cpus=1)
    found.to_pandas().sort_values("id").drop(columns="x").to_parquet(out)
"""


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    from demur import load_detector

    found = load_detector(Path(__file__).parents[1] / "parity" / "data" / "model_distillation")
    found.infer_threshold(np.random.default_rng(0).random((200, *found.input_shape), "float32"), fpr=0.05)
    path = tmp_path_factory.mktemp("guard") / "guard.onnx"
    found.export(path)
    return path


@pytest.fixture(scope="module")
def rows(guard):
    return np.random.default_rng(1).random((120, *runtime.load(guard).input_shape), "float32")


def test_an_actor_answers_for_batches_of_columns(guard, rows):
    expected = runtime.load(guard).correct(rows)["data"]
    batch = {"id": np.arange(120), "x": rows.reshape(120, -1)}
    found = Answering(guard)(batch)
    assert list(found) == [
        "id",
        "x",
        *("instance_score", "is_adversarial", "p_value", "corrected", "no_defense", "defense"),
    ]
    for name in ("instance_score", "corrected", "p_value"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    bytes_ = (rows * 255).astype("uint8")
    scaled = Answering(guard, ["instance_score"], column="pixels", scale=1 / 255)({"pixels": list(bytes_)})
    np.testing.assert_allclose(
        scaled["instance_score"], runtime.load(guard).score(bytes_.astype("float32") * np.float32(1 / 255)), atol=1e-6
    )
    with pytest.raises(InvalidSetting, match="outputs are some of"):
        Answering(guard, ["scores"])(batch)
    with pytest.raises(ShapeMismatch, match="no column x; the data have y"):
        Answering(guard)({"y": rows})
    with pytest.raises(ShapeMismatch, match="a row has the shape"):
        Answering(guard)({"x": rows[:, 1:]})
    with pytest.raises(EmptyInput, match="no rows"):
        Answering(guard)({"x": rows[:0]})
    with pytest.raises(DetectorNotFound):
        Answering(guard.with_name("none.onnx"))


@pytest.mark.parametrize("name", ["spark", "ray"])
def test_an_adapter_is_thin(name):
    assert len((PACKAGE / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 40


@pytest.mark.nightly
@pytest.mark.parametrize(("engine", "script"), [("pyspark", SPARK), ("ray", RAY)])
def test_an_engine_gives_what_the_guard_gives(engine, script, guard, rows, tmp_path):
    pd = pytest.importorskip("pandas")
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed: pip install 'demur[{engine.removeprefix('py')}]'")
    if engine == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    arguments = [str(guard), str(tmp_path / "rows.npy"), str(tmp_path / "out.parquet")]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run([sys.executable, str(tmp_path / "script.py"), *arguments], check=True, env=environment, timeout=300)
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert list(found["id"]) == list(range(120))
    expected = runtime.load(guard).correct(rows)["data"]
    for name in ("instance_score", "is_adversarial", "p_value", "corrected", "no_defense", "defense"):
        np.testing.assert_allclose(np.asarray(found[name], float), np.asarray(expected[name], float), atol=1e-6)
