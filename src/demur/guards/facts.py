"""What there is to know of a live guard, a folder or an exported file, as labelled lines. NumPy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from demur.calibration.agreement import Agreement
from demur.calibration.harm import HarmCalibration
from demur.calibration.metrics import share
from demur.calibration.thresholds import Calibration, Threshold
from demur.calibration.words import count, interval, listed, number, percent
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
    outside = "" if guard.outside is None else ", outside of the file"
    sha256 = "" if guard.classifier is None else f", SHA-256 {guard.classifier[:12]}"
    found = {
        "classifier": f"{guard.title or 'of unknown name'}{outside}{sha256}",
        "rows": "not known before fit(X)" if guard.layout is None else _rows(guard, guard.layout),
        "classes": _classes(guard) if guard.classes else "",
        "companion": _companion(guard.agreement) if guard.is_trained else "not trained yet: fit(X)",
        "score": "" if guard.score_type is None else SCORES.get(guard.score_type, guard.score_type),
        "threshold": promise(guard.threshold, guard.calibration, guard.labels.all_names),
        "p-values": "" if guard.calibration is None else _p_values(guard.calibration),
        "accuracy": "" if guard.harm is None else _accuracy(guard.harm),
        "invalid": f"rows that cannot be judged {'are flagged' if guard.on_invalid == 'flag' else 'raise an error'}",
        "precision": "" if guard.precision == "float32" else guard.precision,
    }
    if found["score"] and guard.temperature != 1:
        found["score"] += f", at a temperature of {number(guard.temperature)}"
    if guard.versions:
        made = [f"{name} {version}" for name, version in guard.versions.items() if name != "backend"]
        on = f" on {guard.versions['backend']}" if "backend" in guard.versions else ""
        found["made with"] = ", ".join(made) + on
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
    """A threshold, and what it promises, in words; it was set by hand if the calibration has another threshold.

    Only rows that the classifier gets right counted if `labelled` is set, or if the calibration says so.
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


def _rows(guard: Description, layout: Layout) -> str:
    if isinstance(layout, Columns):
        text = f"a table, {count(len(layout.names), 'column')}: {listed(layout.names, SHOWN)}"
    else:
        text = describe_layout(layout)
    if isinstance(layout, Field):
        columns = "" if layout.columns is None else f": {listed(layout.columns, SHOWN)}"
        text = f"{text} {layout.dtype or 'as they come'}{columns}"
    kind = "" if guard.data_type is None else f", {guard.data_type}"
    return f"{text}{kind}{', channels first' if guard.channels_first else ''}"


def _classes(guard: Description) -> str:
    return f"{guard.classes}" + ("" if guard.labels.names is None else f": {listed(guard.labels.all_names, SHOWN)}")


def _companion(agreement: Agreement | None) -> str:
    if agreement is None:
        return "trained; how well it agrees is not known"
    rows = f"{count(agreement.rows, 'held-out row' if agreement.held_out else 'training row')}"
    found = share(np.arange(agreement.rows) < round(agreement.share * agreement.rows))
    beyond = "" if agreement.beyond_chance is None else f", {agreement.beyond_chance:.2f} beyond chance"
    poor = "; that is poor" if agreement.is_poor else ""
    return (
        f"agrees with the classifier on {percent(agreement.share)} of {rows} (95 % interval {interval(found)}){beyond}"
        f"{poor}"
    )


def _p_values(calibration: Calibration) -> str:
    fewest = min(one.n for one in calibration.distributions.values())
    each = ", by predicted class" if calibration.by_class else ""
    return f"from 1 down to {number(1 / (fewest + 1), 2)}{each}"


def _accuracy(harm: HarmCalibration) -> str:
    labelled = count(harm.n, "labelled row")
    return f"the classifier is right on {percent(harm.accuracy)} of {labelled}; estimates can be made"
