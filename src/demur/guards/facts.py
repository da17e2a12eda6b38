"""What there is to know of a live guard, a folder or an exported file, as labelled lines. NumPy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from demur.calibration.agreement import Agreement
from demur.calibration.harm import HarmCalibration
from demur.calibration.metrics import share
from demur.calibration.thresholds import Calibration, Threshold
from demur.calibration.wording import count, interval, listed, number, percent
from demur.guards.description import Description
from demur.rows.layout import Columns, Field, Layout, as_json, describe_layout

DIGITS = 6
"""Of a threshold."""
SHOWN, LIMITS = 6, 20
"""How many names of classes or columns, and how many thresholds of classes, are written out."""
SCORES = {
    "kld": "Kullback-Leibler divergence",
    "xent": "cross-entropy",
    "jeffreys": "Jeffreys' divergence",
}


def facts(guard: Description) -> dict[str, str]:
    """What a guard is and what it promises, by label."""
    found = {
        "classifier": (guard.title or "of unknown name") + _identity(guard),
        "rows": "not known before fit(X)" if guard.layout is None else _rows(guard),
        "classes": _classes(guard),
        "companion": _companion(guard),
        "score": _score(guard),
        "threshold": promise(guard.threshold, guard.calibration, guard.labels.all_names),
        "p-values": _p_values(guard.calibration),
        "accuracy": _harm(guard.harm),
        "invalid": f"rows that cannot be judged {'are flagged' if guard.on_invalid == 'flag' else 'raise an error'}",
    }
    if guard.precision != "float32":
        found["precision"] = guard.precision
    if guard.versions:
        made = [f"{name} {version}" for name, version in guard.versions.items() if name != "backend"]
        found["made with"] = ", ".join(made) + (
            f" on {guard.versions['backend']}" if "backend" in guard.versions else ""
        )
    return {label: text for label, text in found.items() if text}


def as_record(guard: Description) -> dict[str, Any]:
    """What a guard is and what it promises, for JSON: figures, not words."""
    calibration, harm, threshold = guard.calibration, guard.harm, guard.threshold
    return {
        "detector": guard.detector,
        "is_trained": guard.is_trained,
        "classifier": {"title": guard.title, "sha256": guard.classifier, "is_inside": guard.outside is None},
        "layout": None if guard.layout is None else as_json(guard.layout),
        "data_type": guard.data_type,
        "channels_first": guard.channels_first,
        "classes": guard.labels.all_names,
        "agreement": None if guard.agreement is None else vars(guard.agreement),
        "score_type": guard.score_type,
        "temperature": guard.temperature,
        "threshold": threshold.tolist() if isinstance(threshold, np.ndarray) else threshold,
        "promise": promise(threshold, calibration, guard.labels.all_names),
        "calibration": None
        if calibration is None
        else {
            "n": sum(one.n for one in calibration.distributions.values()),
            "rows": sum(one.n for one in calibration.ordinary.values()),
            "by_class": calibration.by_class,
            "fpr": calibration.fpr,
            "percentage": calibration.percentage,
            "margin": calibration.margin,
        },
        "accuracy": None if harm is None else {"labelled": harm.accuracy, "n": harm.n},
        "on_invalid": guard.on_invalid,
        "precision": guard.precision,
        "versions": dict(guard.versions),
    }


def promise(
    threshold: Threshold | None, calibration: Calibration | None, names: Sequence[str], *, labelled: bool = False
) -> str:
    """A threshold, and what it promises, in words.

    Args:
        threshold: in nats; None if there is none yet.
        calibration: the threshold was inferred from it, or set by hand if `calibration.threshold` differs.
        names: of the classes.
        labelled: whether only rows that the classifier gets right counted, where the calibration does not tell.
    """
    if threshold is None:
        return "not set: infer_threshold(X_held_out, fpr=0.05), or demur threshold"
    limits = np.atleast_1d(threshold)
    if np.ndim(threshold):
        each = [f"{name} {number(limit, DIGITS)}" for name, limit in zip(names, limits, strict=True)]
        value = f"by predicted class, in nats: {listed(each, LIMITS)}"
    else:
        value = f"{number(float(limits[0]), DIGITS)} nats"
    if calibration is None or not np.array_equal(np.atleast_1d(calibration.threshold), limits):
        return f"{value}; set by hand, it promises nothing"
    n = sum(one.n for one in calibration.distributions.values())
    right = ", all of which the classifier gets right" if labelled or calibration.whole is not None else ""
    inferred = f"it was inferred from{right}"
    margin = f", plus a margin of {number(calibration.margin)}" if calibration.margin else ""
    if calibration.fpr is not None:
        broken = ", which a margin below 0 breaks" if calibration.margin < 0 else ""
        return f"{value}{margin}: flags at most {percent(calibration.fpr)} of rows like the {n:,} {inferred}{broken}"
    share_of = "most" if calibration.percentage is None else f"{calibration.percentage:g} %"
    rows = f"{share_of} of the {count(n, 'row')} {inferred}"
    return f"{value}{margin}: {rows} do not exceed it; of others it promises nothing"


def _identity(guard: Description) -> str:
    where = ", outside of the file" if guard.outside is not None else ""
    return where + ("" if guard.classifier is None else f", SHA-256 {guard.classifier[:12]}")


def _rows(guard: Description) -> str:
    kind = "" if guard.data_type is None else f", {guard.data_type}"
    order = ", channels first" if guard.channels_first else ""
    return f"{_described(guard.layout)}{kind}{order}" if guard.layout is not None else ""


def _described(layout: Layout) -> str:
    if isinstance(layout, Columns):
        return f"a table, {count(len(layout.names), 'column')}: {listed(layout.names, SHOWN)}"
    text = describe_layout(layout)
    if isinstance(layout, Field):
        columns = "" if layout.columns is None else f": {listed(layout.columns, SHOWN)}"
        return f"{text} {layout.dtype or 'as they come'}{columns}"
    return text


def _classes(guard: Description) -> str:
    if not guard.classes:
        return ""
    return f"{guard.classes}" + ("" if guard.labels.names is None else f": {listed(guard.labels.all_names, SHOWN)}")


def _companion(guard: Description) -> str:
    if not guard.is_trained:
        return "not trained yet: fit(X)"
    agreement = guard.agreement
    return "trained; how well it agrees is not known" if agreement is None else _agreement(agreement)


def _agreement(agreement: Agreement) -> str:
    rows = f"{count(agreement.rows, 'held-out row' if agreement.held_out else 'training row')}"
    found = share(np.arange(agreement.rows) < round(agreement.share * agreement.rows))
    beyond = "" if agreement.beyond_chance is None else f", {agreement.beyond_chance:.2f} beyond chance"
    poor = "; that is poor" if agreement.is_poor else ""
    return (
        f"agrees with the classifier on {percent(agreement.share)} of {rows} (95 % interval {interval(found)}){beyond}"
        f"{poor}"
    )


def _score(guard: Description) -> str:
    if guard.score_type is None:
        return ""
    temperature = "" if guard.temperature == 1 else f", at a temperature of {number(guard.temperature)}"
    return SCORES.get(guard.score_type, guard.score_type) + temperature


def _p_values(calibration: Calibration | None) -> str:
    if calibration is None:
        return ""
    fewest = min(one.n for one in calibration.distributions.values())
    each = ", by predicted class" if calibration.by_class else ""
    return f"from 1 down to {number(1 / (fewest + 1), 2)}{each}"


def _harm(harm: HarmCalibration | None) -> str:
    if harm is None:
        return ""
    return (
        f"the classifier is right on {percent(harm.accuracy)} of {count(harm.n, 'labelled row')}; estimates can be made"
    )
