"""Scores on Spark: `frame.withColumn("demur", answers_udf("guard.onnx")("image"))`."""

from pathlib import Path
from typing import Any

from demur.batch.answer import DISTRIBUTIONS, OUTPUTS, answers, check_outputs, indexed
from demur.errors import InvalidSetting
from demur.onnx.runtime import load

SQL = {"float32": "float", "float64": "double", "int64": "long", "bool": "byte"}  # there are no booleans


def answers_udf(guard: str | Path, outputs: Any = None, scale: float = 1.0, batch_size: int = 256) -> Any:
    """A Spark function from rows, one column of numbers or arrays, to a struct with one field for each output.

    Args:
        guard: the path of an exported guard, where every executor can read it (`SparkContext.addFile`, a shared disk).
        outputs: names in `demur.batch.OUTPUTS` of outputs with one value a row, classes by index; None for all.
        scale: the factor that rows are multiplied by.
        batch_size: rows a pass.
    """
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import StructType

    names, shape = check_outputs(load(guard), outputs), [size or -1 for size in load(guard).input_shape]
    if set(names) & set(DISTRIBUTIONS):
        raise InvalidSetting(f"on Spark, outputs are single numbers; got {', '.join(names)}")

    def make() -> Any:  # once in each of Spark's Python processes
        loaded = load(guard, threads=1)

        def predict(rows: Any) -> dict[str, Any]:
            found = indexed(loaded, answers(loaded, rows * scale, names, batch_size=batch_size).columns)
            return {name: column.view("int8") if column.dtype == bool else column for name, column in found.items()}

        return predict

    types = StructType.fromDDL(", ".join(f"{name} {SQL[OUTPUTS[name]]}" for name in names))
    return predict_batch_udf(make, return_type=types, batch_size=batch_size, input_tensor_shapes=[shape])
