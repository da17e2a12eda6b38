"""Many rows, on one machine or a cluster: Dask, and thin adapters for Spark and Ray over the same core.

    demur.batch.score("guard.onnx", "rows/*.parquet", out="scores/", client="tcp://scheduler:8786")

Nothing here imports Keras; a live detector brings it along to the workers.
"""

from demur.batch.answer import OUTPUTS, Answers, answers
from demur.batch.job import score
from demur.batch.output import Written
from demur.lazy import lazy

__all__ = ["OUTPUTS", "Answers", "Written", "answers", "score"]

__getattr__, __dir__ = lazy(__name__, dict.fromkeys(__all__, __name__), ("ray", "spark"))
