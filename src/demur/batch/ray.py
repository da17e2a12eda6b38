"""Scores on Ray Data: batches of columns in, the same batches with answers out.

ray.data.read_parquet("rows").map_batches(Answering, fn_constructor_args=["guard.onnx"], concurrency=8, num_cpus=1)
"""

from pathlib import Path
from typing import Any

from demur.batch.answer import answers
from demur.batch.columns import Reading, rows_of_arrays
from demur.onnx.runtime import load


class Answering:
    """An actor that holds a guard; Ray makes one for each of `concurrency`.

    Args:
        guard: the path of an exported guard, where every node can read it.
        outputs: names in `demur.batch.OUTPUTS`; None for all that the guard can say of a row in one value.
        column: the column with the rows; a guard of several named inputs finds them by their names.
        scale: the factor that rows are multiplied by, as float32.
    """

    def __init__(self, guard: str | Path, outputs: Any = None, column: str = "x", scale: float = 1.0) -> None:
        self.guard, self.outputs, self.column = load(guard, threads=1), outputs, column
        self.reading = Reading(self.guard.layout, scale=None if scale == 1 else scale)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer for a batch."""
        rows = rows_of_arrays(batch, self.reading, self.column)
        return {**batch, **answers(self.guard, rows, self.outputs).columns}
