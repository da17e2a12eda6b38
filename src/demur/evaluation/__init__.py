"""What a guard is worth: attacks, corruptions, and the loop over them."""

from typing import TYPE_CHECKING

from demur.lazy import lazy

if TYPE_CHECKING:
    from demur.evaluation.result import Evaluation
    from demur.evaluation.run import evaluate

__all__ = ["Evaluation", "evaluate"]

_HOMES = {"Evaluation": "demur.evaluation.result", "evaluate": "demur.evaluation.run"}

__getattr__, __dir__ = lazy(__name__, _HOMES, ("attacks", "baselines", "corruptions", "result"))
