"""A made-up evaluation, the same at every call: figures that follow from its scores, images from scikit-learn's digits.

`python tests/scaffold/evaluation_example.py evaluation.json` writes it to a file, for a look at its report.
"""

import functools
import sys
from dataclasses import dataclass, field

import numpy as np

from demur.calibration.metrics import Pair, evaluate_scores, lead, share
from demur.evaluation.comparison import OWN
from demur.evaluation.result import Check, Clean, Comparison, Cost, Evaluation, Example, Harm, Threat, WorstCase

ROWS, THRESHOLD = 300, 0.22
BASELINES = {"maximum softmax probability": -0.3, "entropy": -0.2, "feature squeezing": 0.25}
"""By name: how much better than demur a baseline is, in standard deviations of its score."""

GREY = "Knows the classifier and its weights, and not that there is a guard."
BLACK = "Sees the classifier's answers only, as many as it likes to ask for."
WHITE = "Knows classifier, guard and threshold, and keeps the score low while it changes the class."
HURT = "No attacker: the picture is worse than those trained on (Hendrycks & Dietterich, 2019)."

# name, strength, knowledge, norm, share that succeeds, log-score of the successful, share the opinion gets right
ATTACKS = [
    *(("FGSM", s, "grey-box", "Linf", p, m, 0.85) for s, p, m in ((0.05, 0.2, 0.0), (0.1, 0.45, 0.2))),
    *(
        ("PGD Linf", s, "grey-box", "Linf", p, m, r)
        for s, p, m, r in ((0.02, 0.15, -0.1, 0.9), (0.05, 0.6, 0.3, 0.8), (0.1, 0.97, 0.1, 0.6), (0.2, 1.0, -0.9, 0.3))
    ),
    ("C&W L2", None, "grey-box", "L2", 1.0, 0.9, 0.93),
    ("DeepFool L2", None, "grey-box", "L2", 0.99, 0.7, 0.92),
    ("Boundary L2", None, "black-box", "L2", 0.95, 0.6, 0.9),
    ("Square Linf", 0.1, "black-box", "Linf", 0.55, 0.4, 0.8),
    *(
        ("adaptive PGD Linf", s, "white-box", "Linf", p, m, r)
        for s, p, m, r in ((0.02, 0.12, -1.2, 0.85), (0.05, 0.45, -1.7, 0.6), (0.1, 0.85, -2.2, 0.3))
    ),
    *(
        ("orthogonal PGD Linf", s, "white-box", "Linf", p, m, r)
        for s, p, m, r in ((0.05, 0.35, -1.9, 0.6), (0.1, 0.7, -2.4, 0.35))
    ),
    ("adaptive C&W L2", None, "white-box", "L2", 0.8, -2.0, 0.4),
]
CORRUPTIONS = {"gaussian noise": 0.09, "impulse noise": 0.14, "gaussian blur": 0.05}
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@dataclass
class _Rows:
    """What the rows of one threat do, by row."""

    wrong: np.ndarray
    successful: np.ndarray
    opinion_right: np.ndarray
    scores: np.ndarray
    of_baselines: dict = field(default_factory=dict)

    @property
    def flagged(self):
        return self.scores > THRESHOLD

    @property
    def corrected_right(self):
        return np.where(self.flagged, self.opinion_right, ~self.wrong)


@functools.cache
def example() -> Evaluation:
    """The evaluation."""
    rng = np.random.default_rng(7)
    right = rng.random(ROWS) < 0.94
    clean = _Rows(~right, np.zeros(ROWS, bool), right | (rng.random(ROWS) < 0.2), np.exp(rng.normal(-3.3, 1.05, ROWS)))
    baselines = {name: rng.normal(-3.3, 1.0, ROWS) for name in BASELINES}
    threats, rows = [], []
    for name, strength, knowledge, norm, success, level, opinion in ATTACKS:
        found = _changed(rng, right, clean.scores, success, level, opinion)
        found.of_baselines.update(_seen(rng, found))
        text = {"grey-box": GREY, "black-box": BLACK, "white-box": WHITE}[knowledge]
        threats.append(_threat(rng, name, strength, knowledge, norm, text, right, found, clean, baselines))
        rows.append(found)
    for name, harm in CORRUPTIONS.items():
        for severity in range(1, 6):
            found = _changed(rng, right, clean.scores, harm * severity, -0.6 + 0.2 * severity, 0.7 - 0.05 * severity)
            found.scores[~found.successful] *= 1 + severity / 3
            found.of_baselines.update(_seen(rng, found))
            threats.append(
                _threat(rng, name, float(severity), "corruption", None, HURT, right, found, clean, baselines)
            )
            rows.append(found)
    return Evaluation(
        detector="AdversarialAE",
        classifier="Keras Functional, 10 classes, 421,642 parameters",
        data_type="image",
        input_shape=[28, 28, 1],
        class_names=CLASSES,
        threshold=[THRESHOLD],
        promised_fpr=0.05,
        rows=ROWS,
        clean=Clean(
            accuracy=share(right),
            corrected=share(clean.corrected_right),
            always_corrected=share(clean.opinion_right),
            fpr=share(clean.flagged),
            scores=clean.scores.tolist(),
            repaired=int((clean.wrong & clean.corrected_right).sum()),
            spoiled=int((~clean.wrong & ~clean.corrected_right).sum()),
        ),
        threats=threats,
        worst_cases=_worst_cases(threats, rows, right, clean.scores),
        checks=CHECKS,
        cost=Cost(batch=256, classifier_one=1.92, guarded_one=4.41, classifier_batch=0.081, guarded_batch=0.287),
        settings={
            "attacks": ["fgsm", "pgd", "cw", "deepfool", "boundary", "square", "adaptive"],
            "corruptions": list(CORRUPTIONS),
            "budgets": {"Linf": [0.02, 0.05, 0.1, 0.2], "L2": None},
            "steps": 40,
            "seed": 0,
            "resamples": 1000,
        },
        notes=["Boundary L2 was run on the first 100 rows only: it asks the classifier about 5,000 times a row."],
        versions={"demur": "0.1.0", "keras": "3.15.0", "foolbox": "3.3.4", "numpy": "2.3.1", "python": "3.11.7"},
        seconds=1843.2,
        clean_detection={name: scores.tolist() for name, scores in baselines.items()},
        comparisons=_comparisons(threats, rows, clean.scores, baselines),
    )


CHECKS = [
    Check("a larger budget succeeds more often", True, "Each of 3 curves rises with the budget."),
    Check("an unbounded attack always succeeds", True, "PGD without a limit fooled the classifier on 300 of 300 rows."),
    Check("iterative attacks beat single-step ones", True, "PGD 0.1 succeeds on 97 %, FGSM 0.1 on 45 %."),
    Check("white-box attacks beat black-box ones", True, "PGD 0.1 succeeds on 97 %, Square 0.1 on 55 %."),
    Check(
        "more steps change nothing",
        False,
        "Twice the steps of adaptive PGD Linf 0.1 got 9 % more rows through: raise steps from 40 to 80 or more.",
    ),
    Check("gradients are not masked", None, "The classifier is a black box here: its gradients cannot be looked at."),
]


def _changed(rng, right, clean_scores, success, level, opinion) -> _Rows:
    successful = right & (rng.random(ROWS) < success)
    scores = clean_scores * np.exp(rng.normal(0.2, 0.2, ROWS))
    scores[successful] = np.exp(rng.normal(level, 0.9, successful.sum()))
    return _Rows(~right | successful, successful, rng.random(ROWS) < np.where(successful, opinion, 0.97), scores)


def _seen(rng, found):
    """What the baselines make of changed rows."""
    return {name: np.log(found.scores) + gain + rng.normal(0, 0.8, ROWS) for name, gain in BASELINES.items()}


def _threat(rng, name, strength, knowledge, norm, text, right, found, clean, baselines) -> Threat:
    wrong, flagged = found.wrong[right], found.flagged[right]
    distance = {"Linf": strength or 0.18, "L2": 14 * (strength or 0.11), "L1": 240 * (strength or 0.05)}
    hit = found.successful
    return Threat(
        name=name,
        strength=strength,
        knowledge=knowledge,
        norm=norm,
        model=text,
        rows=ROWS,
        seconds=40.0,
        accuracy=share(~found.wrong),
        always_corrected=share(found.opinion_right),
        corrected=share(found.corrected_right),
        attempted=int(right.sum()),
        succeeded=share(wrong),
        accepted_and_wrong=share(~flagged & wrong),
        corrected_to_wrong=share(flagged & ~found.opinion_right[right]),
        flagged=share(found.flagged[hit]) if hit.any() else None,
        flagged_all=share(found.flagged),
        distance=distance if norm else {"Linf": 0.9, "L2": 1.2 * strength, "L1": 20 * strength},
        detection={
            name: _detection(scores, found.of_baselines.get(name, found.scores), hit)
            for name, scores in {OWN: clean.scores, **baselines}.items()
        },
        harm=_harm(found.scores, hit, right & ~hit),
        converged=None
        if knowledge in {"corruption", "black-box"}
        else not (knowledge == "white-box" and strength == 0.1),
        scores=found.scores.tolist(),
        successful=hit.tolist(),
        examples=_examples(rng, found, name) if strength in {None, 0.1, 3.0} else [],
        repaired=int((found.wrong & found.corrected_right).sum()),
        spoiled=int((~found.wrong & ~found.corrected_right).sum()),
    )


def _detection(clean, changed, successful):
    kinds = {"successful": changed[successful], "all": changed}
    return {kind: evaluate_scores(clean, bad, resamples=20) if len(bad) else None for kind, bad in kinds.items()}


def _comparisons(threats, rows, clean_scores, baselines):
    """Each baseline over each attack, each corruption, and each knowledge."""
    groups = {}
    for threat, found in zip(threats, rows, strict=True):
        for over in (threat.title if threat.norm else threat.name, threat.knowledge):
            groups.setdefault(over, []).append(found)
    return [
        Comparison(over, len(several), name, lead([_pair(found, name, clean_scores, baselines) for found in several]))
        for over, several in groups.items()
        for name in baselines
    ]


def _pair(found, name, clean_scores, baselines):
    hit = found.successful
    bad = found.scores[hit], found.of_baselines[name][hit]
    return Pair((clean_scores, baselines[name]), bad, np.flatnonzero(hit))


def _harm(scores, harmful, harmless) -> Harm:
    one, other = scores[harmful], scores[harmless]
    both = len(one) > 1 and len(other) > 1
    spread = np.sqrt((one.var() + other.var()) / 2) if both else 1.0
    return Harm(
        harmful=len(one),
        harmless=len(other),
        mean_harmful=float(one.mean()) if len(one) else None,
        mean_harmless=float(other.mean()) if len(other) else None,
        cohens_d=float((one.mean() - other.mean()) / spread) if both else None,
        auroc=evaluate_scores(other, one, resamples=20)["auroc"] if both else None,
    )


def _worst_cases(threats, rows, right, clean_scores) -> list[WorstCase]:
    """White-box Linf at 0.05 and 0.1, from the two attacks there."""
    cases = []
    for strength in (0.05, 0.1):
        pairs = [(t, r) for t, r in zip(threats, rows, strict=True) if t.knowledge == "white-box"]
        chosen = [(t, r) for t, r in pairs if t.norm == "Linf" and t.strength == strength]
        lowest = np.min([np.where(r.successful, r.scores, np.inf) for _, r in chosen], axis=0)
        accepted = np.any([~r.flagged & r.successful for _, r in chosen], axis=0)
        cases.append(
            WorstCase(
                knowledge="white-box",
                norm="Linf",
                strength=strength,
                attacks=[t.name for t, _ in chosen],
                rows=ROWS,
                accuracy=share(np.all([~r.wrong for _, r in chosen], axis=0)),
                corrected=share(np.all([r.corrected_right for _, r in chosen], axis=0)),
                accepted_and_wrong=share(accepted[right]),
                detection=evaluate_scores(clean_scores, lowest[np.isfinite(lowest)], resamples=20),
            )
        )
    return cases


def _examples(rng, found, name) -> list[Example]:
    images, labels = _digits()
    made = []
    for i in np.flatnonzero(found.successful)[:3]:
        original = images[i]
        noise = (
            rng.normal(0, 0.5, original.shape) if "noise" in name else 0.1 * np.sign(rng.normal(size=original.shape))
        )
        changed = np.clip(original + noise, 0, 1).astype("float32")
        label, opinion_right = int(labels[i]), bool(found.opinion_right[i])
        made.append(
            Example(
                original=original,
                changed=changed,
                reconstruction=np.clip(0.85 * original + 0.15 * changed, 0, 1).astype("float32"),
                label=label,
                before=label,
                after=(label + 5) % 10,
                opinion=label if opinion_right else (label + 5) % 10,
                score=float(found.scores[i]),
                flagged=bool(found.flagged[i]),
            )
        )
    return made


@functools.cache
def _digits():
    """Digits as 28 x 28 images, and their classes."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    enlarged = np.kron(images[:ROWS].reshape(-1, 8, 8) / 16, np.ones((1, 3, 3)))
    return np.pad(enlarged, ((0, 0), (2, 2), (2, 2)))[..., None].astype("float32"), labels[:ROWS]


if __name__ == "__main__":
    example().to_json(sys.argv[1])
