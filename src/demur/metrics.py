"""How good scores are, and how sure that is."""

from demur.calibration.metrics import (
    Estimate,
    HarmSplit,
    ScoreEvaluation,
    auroc,
    cohens_d,
    evaluate_scores,
    flagged_rate,
    roc_curve,
    share,
    split_by_harm,
)

__all__ = [
    "Estimate",
    "HarmSplit",
    "ScoreEvaluation",
    "auroc",
    "cohens_d",
    "evaluate_scores",
    "flagged_rate",
    "roc_curve",
    "share",
    "split_by_harm",
]
__dir__ = __all__.copy
