"""Attacks, one file a family. A new file is found by itself; these lines allow imports from here."""

from demur.evaluation.attacks.adaptive import (
    BothPathsPGD,
    DefendedPathPGD,
    LogitMatching,
    OrthogonalPGD,
    SelectivePGD,
    WeightedPGD,
)
from demur.evaluation.attacks.base import Attack, Attacked
from demur.evaluation.attacks.carlini_wagner import CarliniWagner, ConfidentCarliniWagner
from demur.evaluation.attacks.foolbox_attacks import FGSM, PGD, PGDL2, SLIDE, DeepFool, GuardedHopSkipJump, HopSkipJump

__all__ = [
    "FGSM",
    "PGD",
    "PGDL2",
    "SLIDE",
    "Attack",
    "Attacked",
    "BothPathsPGD",
    "CarliniWagner",
    "ConfidentCarliniWagner",
    "DeepFool",
    "DefendedPathPGD",
    "GuardedHopSkipJump",
    "HopSkipJump",
    "LogitMatching",
    "OrthogonalPGD",
    "SelectivePGD",
    "WeightedPGD",
]
__dir__ = __all__.copy
