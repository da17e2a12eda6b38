"""The tables of what `benchmarks/drift_*.py` have measured: batches, accuracy without labels, streams."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablation_tables import NAMES
from ablation_tables import RESULTS as MEASURED

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"
SHOWN_SHARES = (0.1, 0.3, 0.5)
SHOWN_SIZES = (100, 1000)
SHOWN_TESTS = ("score, Mann-Whitney (demur)", "confidence, Mann-Whitney", "softmax outputs, Kolmogorov-Smirnov (BBSD)")
SHOWN_CLEAN = (0, 100_000)
"""Clean scores before a drift."""

INTERVALS = {
    "demur's interval holds (90 % promised)": "interval_holds",
    "its width, on corrupted images": "interval_width",
    "its width, on unchanged images": "interval_width_clean",
}

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


def results(what: str) -> list[Any]:
    """Every data set and detector that was measured."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in RESULTS.glob(f"drift-{what}-*.json")]
    return sorted(found, key=lambda result: (list(NAMES).index(result["dataset"]), result["detector"] != "student"))


def named(result: Any) -> str:
    """Data set and detector."""
    return f"{NAMES[result['dataset']]}, {result['detector']}"


def share(value: float, decimals: int = 0) -> str:
    """As a percentage."""
    return f"{100 * value:.{decimals}f} %"


def alarms(kind: str) -> Table:
    """How often each test raises an alarm, by size of batch and share that drifts; kind "none" for no drift."""
    rows, heads = [], []
    for result in results("batches"):
        # Batches without drift are kept with the harmful ones, at a share of 0.
        by = {
            (row["test"], row["n"], row["share"]): row
            for row in result["rows"]
            if row["kind"] == ("harmful" if kind == "none" else kind)
        }
        if kind == "none":
            columns = [(n, 0.0) for n in dict.fromkeys(n for _, n, _ in by)]
            heads = [f"{n:,}" for n, _ in columns]
        else:
            columns = [(n, part) for n in SHOWN_SIZES for part in SHOWN_SHARES]
            heads = [f"{share(part)} of {n:,}" for n, part in columns] + ["mean p, 30 % of 100"]
        rows.append([f"**{named(result)}**", *["" for _ in heads]])
        for test in SHOWN_TESTS:
            cells = [share(by[test, *column]["alarms"], 1) for column in columns]
            if kind != "none":
                cells.append(f"{by[test, 100, 0.3]['mean_p']:.3f}")
            rows.append([test, *cells])
    if kind == "harmful":
        said = json.loads((MEASURED.parent / "published.json").read_text(encoding="utf-8"))["cifar10_drift"]
        rows.append([f"published: {said['title']}", *["" for _ in heads[1:]], f"about {said['mean_p']:.2f}"])
    return ["test", *heads], rows


def accuracy() -> Table:
    """What each way to estimate accuracy is off by."""
    found = results("accuracy")
    rows = []
    for way in found[0]["ways"]:
        cells = [
            f"{result['ways'][way][figure]:.3f}" if way in result["ways"] else ""
            for result in found
            for figure in ("mean_absolute_error", "ninth_decile")
        ]
        rows.append([way, *cells])
    for title, key in INTERVALS.items():
        cells = [share(result[key]) if key in result else "" for result in found]
        rows.append([f"*{title}*", *(cell for one in cells for cell in (one, ""))])
    return ["way", *(head for result in found for head in (named(result), "nine in ten"))], rows


def flights() -> Table:
    """Real drift: what ways to estimate accuracy are off by over twelve months, and what rows without drift get."""
    found = json.loads((RESULTS / "flights.json").read_text(encoding="utf-8"))["tables"]
    heads = list(found)
    ways = {
        "demur": "demur",
        "mean confidence": "mean_confidence",
        "calibrated confidence (CBPE)": "calibrated_confidence",
        "no change: the accuracy on the labelled rows": "no_change",
    }
    figures: dict[str, Callable[[Any], str]] = {
        **{f"months, {title}": lambda of, way=way: f"{of['months'][way]:.4f}" for title, way in ways.items()},
        "months, demur's interval holds": lambda of: share(of["interval_holds"]),
        "months, its width": lambda of: f"{of['interval_width']:.3f}",
        "no drift, distance from the accuracy on the labelled rows": lambda of: (
            f"{of['without_drift']['mean_absolute_change']:.4f}"
        ),
        "no drift, error": lambda of: f"{of['without_drift']['mean_absolute_error']:.4f}",
        "no drift, harm told": lambda of: share(of["without_drift"]["harm_told"], 1),
        "no drift, interval holds": lambda of: share(of["without_drift"]["interval_holds"], 1),
        "no drift, its width": lambda of: f"{of['without_drift']['interval_width']:.3f}",
        "no drift, mean `harm_probability`": lambda of: f"{of['without_drift']['harm_probability']:.3f}",
        "no drift, share of errors": lambda of: f"{of['without_drift']['errors']:.3f}",
        "no drift, calibration error of `harm_probability`": lambda of: (
            f"{of['without_drift']['calibration_error']:.3f}"
        ),
        "months, mean `harm_probability`": lambda of: f"{of['harm_probability_in_months']:.3f}",
        "months, share of errors": lambda of: f"{of['errors_in_months']:.3f}",
        "parts of the rows, demur": lambda of: f"{of['parts']:.4f}",
        "parts of the rows, no change": lambda of: f"{of['parts_no_change']:.4f}",
    }
    rows = [[title, *(figure(found[head]["summary"]) for head in heads)] for title, figure in figures.items()]
    return ["", *(head.replace(", ", ",<br>") for head in heads)], rows


def trained_rows() -> Any:
    """What was measured of calibration rows that the classifier was trained on."""
    return json.loads((RESULTS / "trained-rows.json").read_text(encoding="utf-8"))


def false_flags() -> Table:
    """New rows that are flagged, and batches of them that raise an alarm, by what the calibration rows were."""
    heads = [f"{what}, {rows}" for what in ("rows flagged", "batches alarmed") for rows in ("trained on", "held out")]
    rows = [
        [name, *(share(found[rows][what], 1) for what in ("flagged", "alarms") for rows in ("trained on", "held out"))]
        for name, found in trained_rows()["false_flags"].items()
    ]
    return ["classifier", *heads], rows


def training_warnings(n: str = "500") -> Table:
    """How often errors alone give rows away, over tables, and how often held-out rows are taken for them."""
    by_table = trained_rows()["warnings"]

    def mean(name: str, rows: str, figure: Callable[[Any], float | None]) -> str:
        values = [figure(found[name][rows]) for found in by_table.values()]
        known = [value for value in values if value is not None]
        return share(sum(known) / len(known), 1)

    rows = [
        [
            name,
            *(mean(name, rows, lambda found: found["errors"]) for rows in ("trained on", "held out")),
            *(mean(name, rows, lambda found: found["warned"][n]) for rows in ("trained on", "held out")),
        ]
        for name in next(iter(by_table.values()))
    ]
    return ["classifier", "errors, trained on", "errors, held out", "warned, trained on", "warned, held out"], rows


def wrong_rows() -> Table:
    """Of each data set, how often rows are told that are on another scale, and how often others are."""

    def told(found: Any) -> str:
        return f"{found['told']:,} of {found['of']:,}" if found else ""

    def together(found: Any) -> Any:
        return {key: sum(each[key] for each in found.values()) for key in ("told", "of")} if found else None

    rows = [
        [
            name,
            told(found["held out"]),
            told(found["drifted"]),
            told(found.get("batches of one kind")),
            told(together(found.get("other scale"))),
            told(together(found.get("a column in another unit"))),
            told(together(found.get("channels in another order"))),
        ]
        for name, found in json.loads((RESULTS / "wrong-rows.json").read_text(encoding="utf-8"))["data"].items()
    ]
    return ["", "held out", "drifted", "of one kind", "another scale", "a column's unit", "channels' order"], rows


def wrong_labels() -> Table:
    """How often labels are taken for those of other rows, by what the classifier knows."""
    found = json.loads((RESULTS / "wrong-rows.json").read_text(encoding="utf-8"))["labels"]
    sizes = list(next(iter(next(iter(found.values())).values())))
    rows = [
        [f"{classes}, {skill}", *(share(by_size[n]["told"] / by_size[n]["of"], 1) for n in sizes)]
        for classes, by_skill in found.items()
        for skill, by_size in by_skill.items()
    ]
    return ["", *(f"{int(n):,} rows" for n in sizes)], rows


def streams() -> Any:
    """What was simulated."""
    return json.loads((RESULTS / "drift-streams.json").read_text(encoding="utf-8"))


def false_alarms() -> Table:
    """Streams without drift that raised an alarm, and how many scores a second were looked at."""
    found, rows = streams(), []
    for method, by_size in {**found["false_alarms"], "ordinary p-values": found["naive"]}.items():
        cells = [f"{row['alarms']:,} of {row['streams']:,}" for row in by_size.values()]
        speeds = [row["per_second"] for row in by_size.values() if "per_second" in row]
        rows.append([method, *cells, f"{min(speeds) / 1e6:.1f}" if speeds else ""])
    sizes = [f"{int(size):,} calibration scores" for size in found["naive"]]
    return ["method", *sizes, "million scores a second"], rows


def delays() -> Table:
    """From the beginning of a drift to the alarm: the median over streams, and nine in ten."""
    found, rows = streams(), []
    for clean in SHOWN_CLEAN:
        here = [row for row in found["delays"] if row["clean"] == clean]
        parts = list(dict.fromkeys(row["share"] for row in here))
        rows.append([f"**after {clean:,} clean scores**", *["" for _ in range(1 + len(parts))]])
        for method, size in dict.fromkeys((row["method"], row["size"]) for row in here):
            of_it = {row["share"]: row for row in here if (row["method"], row["size"]) == (method, size)}
            rows.append([method, f"{size:,}", *(delay(of_it[part]) for part in parts)])
    return ["method", "calibration scores", *(f"{share(part)} drift" for part in parts)], rows


def delay(row: Any) -> str:
    """Median and ninth decile, of those that were found in time."""
    middle, late = (row[key] if row[key] is None else f"{row[key]:,.0f}" for key in ("median", "ninth_decile"))
    if middle is None:
        return f"found {share(row['found'])}" if row["found"] else "not found"
    return f"{middle} ({late or 'later'})"


def promises(part: str) -> list[Any]:
    """What `benchmarks/drift_promises.py` has counted."""
    return json.loads((RESULTS / "drift-promises.json").read_text(encoding="utf-8"))[part]


def dependent() -> Table:
    """Alarms on dependent streams without drift, with every row and with as many as is advised."""
    rows = []
    for row in promises("dependent"):
        for way, title in (("", "every row"), (", every", f"every {row['every']:.0f}th, as advised")):
            if way and row["every"] == 1:
                continue
            run = row[f"cusum{way}"]
            of = [f"{row[key]} of {row['streams']}" for key in (f"martingale{way}", f"window{way}")]
            batch = f"{row['test, thinned' if way else 'test']} of {row['streams']}"
            rows.append([row["stream"], title, *of, "none" if run is None else f"{run:,.0f}", batch])
    return ["stream", "looked at", "martingale", "window", "cusum: scores an alarm", "batches of 1,000, at 5 %"], rows


def groups() -> Table:
    """Alarms without drift, of calibrations with classes."""
    rows = []
    for row in promises("classes"):
        title = f"{row['n']:,} rows, {share(row['share'])} of a class with scores {row['shift']:+g}"
        ways = [f"{row[way]} of {row['batches']}" for way in ("pooled", "by class")]
        rows.append([title, *ways, *(share(row[f"harmful, {way}"] / row["batches"]) for way in ("pooled", "by class"))])
    return ["calibration", "pooled: alarms", "by class: alarms", "pooled: drift found", "by class: drift found"], rows


def tiny() -> Table:
    """Alarms on streams of a class with few calibration scores."""
    methods = ("martingale", "cusum", "window")
    rows = [[f"{r['few']}", *(f"{r[m]} of {r['streams']}" for m in methods)] for r in promises("tiny")]
    return ["calibration scores of the class", *methods], rows


def ties() -> Table:
    """How often a p-value is at most alpha, of small batches with many equal scores."""
    rows = []
    for row in promises("ties"):
        title = f"{row['m']} scores against {row['n']:,}, {share(row['zero'])} of them 0"
        rates = [share(row[way][alpha], 1) for way in ("ours", "normal", "ks") for alpha in ("0.05", "0.001")]
        rows.append([title, *rates])
    ways = ("mann-whitney", "its normal approximation", "ks")
    return ["batch", *(f"{way}, {alpha}" for way in ways for alpha in ("5 %", "0.1 %"))], rows


def labels() -> Table:
    """Alarms without drift, calibrated on the rows that the classifier gets right."""
    rows = [
        [f"{r['n']:,}", *(f"{r[key]} of {r['streams']}" for key in ("test", "martingale"))] for r in promises("labels")
    ]
    return ["calibration rows", "batches of 1,000, at 5 %", "streams of 5,000, at 1 %"], rows


def power() -> Table:
    """What control of the false-discovery rate finds."""
    rows = [[f"{r['n']:,}", share(r["found"], 1), share(r["warned"])] for r in promises("power")]
    return ["calibration rows", "found", "batches warned of"], rows


def example(dataset: str) -> Table:
    """What the example of harmful drift found by severity, and on batches and a stream."""
    found = json.loads((RESULTS / f"harmful-drift-{dataset}.json").read_text(encoding="utf-8"))
    clean = found["clean_accuracy"]
    rows = [["unchanged", share(clean, 1), "", "", ""]]
    for row in found["severities"]:
        accuracies = [share(row[key], 1) for key in ("accuracy", "estimated_accuracy")]
        scores = [f"{row[key]:.2f}" for key in ("harmful_score", "harmless_score")]
        rows.append([f"severity {row['severity']}", *accuracies, *scores])
    for row in found["p_values"]:
        rows.append([f"p, {share(row['share'])} drifted", "", "", *(f"{row[k]:.3f}" for k in ("harmful", "harmless"))])
    stream = found["stream"]
    delay = "no alarm" if stream["alarm_at"] is None else f"{stream['alarm_at'] - stream['turns_at']:,} scores"
    rows.append(["stream: from drift to alarm", "", "", delay, ""])
    return ["", "accuracy", "estimated (earlier version)", "harmful", "harmless"], rows
