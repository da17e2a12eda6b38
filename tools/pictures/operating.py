"""The pictures for operators: where things run, what is in the file, how evidence grows, how soon an alarm comes, cost.

    python tools/pictures/operating.py

Streams are watched by demur.drift.Monitor itself; all other figures are read from docs/results. Takes some seconds.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from drawing import (
    BLUE,
    GREY,
    NORMAL,
    ORANGE,
    PURPLE,
    SMALL,
    TEAL,
    arrow,
    box,
    drawing,
    figure,
    named,
    note,
    save,
)

from demur.plots.style import BAD, INK

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"


def results(name: str) -> Any:
    """What a script has measured."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def where() -> None:
    """What runs where, and which signals come out."""
    made, ax = drawing(8.0, 9.6)
    box(ax, 1.75, 9.0, 2.9, 0.8, "clients\nHTTP, gRPC", colour=GREY)
    box(ax, 6.2, 9.0, 3.0, 0.8, "where you train\nfit, threshold, export", colour=ORANGE, size=SMALL)
    box(ax, 6.2, 7.2, 2.2, 0.8, "guard.onnx", colour=ORANGE, filled=True)
    arrow(ax, (6.2, 8.6), (6.2, 7.62), colour=ORANGE)
    box(ax, 2.35, 5.6, 4.3, 4.7, "", colour=BLUE, under=True)
    ax.text(0.95, 7.55, "demur serve", fontsize=14, color=BLUE, weight="bold", va="center")
    arrow(ax, (0.7, 8.6), (0.7, 7.07), colour=INK)
    arrow(ax, (3.6, 7.07), (2.8, 8.58), colour=INK)
    note(ax, 3.2, 8.3, "answers, or 503", colour=INK, at="left")
    box(ax, 1.35, 6.7, 1.7, 0.7, "queue", colour=BLUE)
    box(ax, 3.4, 6.7, 1.8, 0.7, "guard", colour=BLUE, filled=True)
    arrow(ax, (2.2, 6.7), (2.48, 6.7), colour=BLUE)
    arrow(ax, (5.1, 7.2), (4.32, 6.8), colour=ORANGE)
    note(ax, 6.35, 6.1, "looked at each second:\na new one takes its place,\na broken one does not", colour=INK)
    box(ax, 2.35, 5.05, 3.5, 1.0, "watch: scores, flags,\ndrift monitor", colour=BLUE)
    arrow(ax, (3.4, 6.35), (3.4, 5.57), colour=BLUE)
    note(ax, 3.25, 5.95, "scores", colour=INK, at="right")
    box(ax, 6.35, 4.6, 2.7, 0.8, "--state folder\nsurvives restarts", colour=PURPLE, size=SMALL)
    arrow(ax, (4.12, 5.0), (4.98, 4.7), colour=PURPLE)
    arrow(ax, (4.98, 4.5), (4.12, 4.8), colour=PURPLE)
    note(ax, 2.35, 3.6, "signals", colour=BLUE, size=NORMAL)
    arrow(ax, (2.35, 4.53), (2.35, 3.8), colour=BLUE)
    ends = (
        (1.0, "/metrics", "Prometheus,\nalerts.yml", BLUE),
        (3.0, "--webhook", "CloudEvents\nto a pager", BAD),
        (5.0, "log lines", "by request id,\ntext or JSON", GREY),
        (7.0, "/", "a page for\npeople", TEAL),
    )
    for x, title, what, colour in ends:
        arrow(ax, (min(x, 4.2), 3.25), (x, 2.23), colour=colour)
        box(ax, x, 1.85, 1.75, 0.7, title, colour=colour, filled=True, size=SMALL)
        note(ax, x, 1.1, what, colour=INK)
    note(ax, 4.0, 0.4, "A drift alarm shows in all four.", colour=GREY)
    save(made, "operate-where")


def file_graph() -> None:
    """What one ONNX file holds."""
    made, ax = drawing(8.0, 7.5)
    ax.set_ylim(1.2, 8.7)
    box(ax, 4.0, 5.15, 7.6, 5.2, "", colour=GREY, dashed=True, under=True)
    ax.text(7.5, 7.4, "guard.onnx", fontsize=14, color=INK, weight="bold", va="center", ha="right")
    box(ax, 2.0, 8.3, 2.2, 0.6, "x (n, ...)", colour=INK)
    box(ax, 5.7, 8.3, 3.4, 0.6, "threshold, optional", colour=INK, dashed=True)
    box(ax, 1.35, 6.3, 1.8, 0.75, "classifier", colour=BLUE, filled=True)
    box(ax, 3.4, 6.3, 1.8, 0.75, "companion", colour=ORANGE, filled=True)
    box(
        ax,
        6.4,
        6.3,
        2.4,
        1.1,
        "metadata: versions,\nfingerprint of the\nclassifier, SHA-256",
        colour=GREY,
        size=SMALL - 1,
    )
    arrow(ax, (1.75, 7.99), (1.4, 6.7), colour=BLUE)
    arrow(ax, (2.25, 7.99), (3.2, 6.7), colour=ORANGE)
    box(ax, 2.4, 4.9, 3.6, 0.75, "divergence and doubt", colour=INK)
    arrow(ax, (1.35, 5.91), (1.85, 5.3), colour=BLUE)
    arrow(ax, (3.4, 5.91), (2.95, 5.3), colour=ORANGE)
    box(ax, 6.4, 4.9, 2.4, 0.75, "calibration scores,\nsorted", colour=PURPLE, size=SMALL)
    arrow(ax, (4.21, 4.9), (5.18, 4.9), colour=PURPLE)
    box(ax, 3.1, 3.4, 3.8, 0.8, "decision: above it?\nNaN always is", colour=INK)
    arrow(ax, (2.6, 4.51), (2.6, 3.82), colour=INK)
    arrow(ax, (4.7, 7.99), (4.7, 3.82), colour=INK, dashed=True)
    outputs = ((1.35, "instance_score", INK), (3.95, "is_adversarial\ncorrected", INK), (6.55, "p_value", PURPLE))
    for x, text, colour in outputs:
        box(ax, x, 1.75, 2.3, 0.8, text, colour=colour, size=SMALL)
    arrow(ax, (0.8, 4.51), (0.8, 2.17), colour=INK)
    arrow(ax, (3.6, 2.99), (3.85, 2.17), colour=INK)
    arrow(ax, (6.5, 4.51), (6.5, 2.17), colour=PURPLE)
    save(made, "operate-graph")


TURN, END, SHARE, CALIBRATION = 1000, 1400, 0.15, 2000


def evidence() -> None:
    """A stream of scores of which some drift from one moment on, as two monitors see it."""
    from demur.calibration.thresholds import Calibration, ScoreDistribution
    from demur.drift import Monitor

    rng = np.random.default_rng(3)
    calibration = Calibration({None: ScoreDistribution.of(rng.exponential(size=CALIBRATION))}, 3.0, 0.05)
    scores = rng.exponential(size=END)
    bad = (rng.random(END) < SHARE) & (np.arange(END) >= TURN)
    scores[bad] += 4.0
    made, (upper, lower) = figure(7.6, 2, sharex=True, height_ratios=[1, 1.6])
    upper.plot(np.flatnonzero(~bad), scores[~bad], ".", color=BLUE, markersize=4)
    upper.plot(np.flatnonzero(bad), scores[bad], ".", color=BAD, markersize=6)
    named(upper, f"A stream: from {TURN:,} on, {100 * SHARE:.0f} % have drifted", "", "score, nats")
    for method, colour, height in (("martingale", ORANGE, 7.6), ("cusum", PURPLE, 13.2)):
        monitor = Monitor(calibration, alpha=0.01, method=method, run_length=100_000)
        found = np.array([monitor.update(scores=score).log_evidence for score in scores])
        at, limit = monitor.alarms[0].at, float(np.log(monitor.limit))
        lower.plot(np.arange(at), found[:at], color=colour, linewidth=1.8)
        lower.axhline(limit, color=colour, linestyle=":", linewidth=1.6)
        lower.plot(at - 1, found[at - 1], "D", color=colour, markersize=9)
        words = f"{method}: enough at {limit:.1f},\n{at - TURN} scores after the turn"
        lower.text(TURN - 25, height, words, fontsize=NORMAL, color=colour, ha="right", va="center")
        print(f"{method}: alarm after {at - TURN} scores; before the turn at most {found[:TURN].max():.2f}")
    for ax in (upper, lower):
        ax.axvline(TURN, color=GREY, linewidth=1)
    lower.set(ylim=(-4, 15), xlim=(0, END), yticks=(0, 5, 10, 15))
    named(lower, "The evidence of two monitors, up to the alarm", "scores so far", "log of the evidence")
    save(made, "operate-evidence")


def delays() -> None:
    """How soon a drift is found, by how much of the stream drifts and by how many calibration scores there are."""
    found = [
        row for row in results("drift-streams")["delays"] if row["clean"] == 1000 and row["method"] == "martingale"
    ]
    made, (ax,) = figure(5.4)
    for size, colour, style in ((200, BLUE, ":"), (1000, PURPLE, "--"), (10000, ORANGE, "-")):
        rows = sorted((row for row in found if row["size"] == size and row["median"]), key=lambda row: row["share"])
        shares, medians = [row["share"] for row in rows], [row["median"] for row in rows]
        ax.plot(shares, medians, color=colour, linestyle=style, linewidth=2.4, marker="o", markersize=7)
        words = f"{size:,} calibration scores" if size == 200 else f"{size:,}"
        ax.text(shares[0], medians[0] * 1.25, words, fontsize=NORMAL, color=colour, ha="left")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = sorted({row["share"] for row in found})
    ax.set_xticks(ticks, [f"{100 * share:.0f} %" for share in ticks])
    ax.minorticks_off()
    ax.set_yticks([10, 100, 1000, 10000], ["10", "100", "1,000", "10,000"])
    ax.set(ylim=(10, 12000), xlim=(0.045, 0.56))
    named(
        ax,
        "How soon the martingale finds a drift",
        "share of the stream that drifts, after 1,000 clean scores",
        "scores until the alarm, median",
    )
    save(made, "operate-delays")


def speed() -> None:
    """What a detector costs against the floor, and what the eager way costs."""
    measured = results("speed")
    kinds = {"fit": "fit", "score": "correct,\n256 rows", "one": "correct,\none row"}
    made, axes = figure(7.4, 3, sharex=True)
    for ax, (network, found) in zip(axes, measured["networks"].items(), strict=True):
        for place, kind in enumerate(kinds):
            one = found[kind]
            for offset, other, colour in ((-0.27, "demur", ORANGE), (0.0, "eager", BLUE), (0.27, "alibi-detect", GREY)):
                if other not in one:
                    continue
                # Of time: a speed's ratio is turned round.
                times = one[other] / one["floor"] if kind == "one" else one["floor"] / one[other]
                if other == "demur":  # the median of the ratios of neighbours, as in the table
                    times = one["ratio to floor"] if kind == "one" else 1 / one["ratio to floor"]
                ax.barh(place + offset, times, 0.25, color=colour)
                ax.text(
                    times * 1.05,
                    place + offset,
                    f"{times:.2f}" if times < 2 else f"{times:.2g}",
                    va="center",
                    fontsize=SMALL,
                    color=INK,
                )
        ax.axvline(1, color=INK, linewidth=1.2, linestyle="--")
        ax.set_xscale("log")
        ax.set_yticks(range(3), list(kinds.values()), fontsize=SMALL)
        ax.set(ylim=(2.6, -0.6), xlim=(0.7, 90))
        ax.tick_params(axis="y", length=0)
        named(ax, network, "", "")
    axes[-1].set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    axes[-1].minorticks_off()
    axes[-1].set_xlabel("times what the networks alone take", fontsize=NORMAL, color=INK)
    colours = ((ORANGE, "demur"), (BLUE, "the eager way"), (GREY, measured["peer"]))
    bars = [axes[0].barh(9, 1, color=colour) for colour, _ in colours]
    made.legend(bars, [name for _, name in colours], loc="outside upper left", fontsize=NORMAL, frameon=False, ncols=3)
    save(made, "operate-speed")


def memory() -> None:
    """Memory against rows: what was taken, what the rows are, and what was allowed."""
    measured = results("memory")
    rows = np.array([int(n) for n in measured["rows"]])
    taken = np.array([found["growth"] for found in measured["rows"].values()]) / 1e6
    made, (ax,) = figure(4.6)
    ax.plot(rows, rows * 784 / 1e6, color=GREY, linewidth=2, linestyle="--")
    ax.plot(rows, taken, color=ORANGE, linewidth=2.6, marker="o", markersize=8)
    ax.axhline(measured["allowed"] / 1e6, color=BAD, linewidth=1.6, linestyle=":")
    ax.text(1100, measured["allowed"] / 1e6 * 1.2, "allowed", fontsize=NORMAL, color=BAD)
    ax.text(25_000, 45, "the rows themselves,\non disk", fontsize=NORMAL, color=GREY, ha="right")
    ax.text(1_150_000, 1.6, "taken, results\nincluded", fontsize=NORMAL, color=ORANGE, ha="right", va="top")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(rows, [f"{n:,}" for n in rows])
    ax.set_yticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1,000"])
    ax.minorticks_off()
    ax.set(xlim=(850, 1_250_000), ylim=(0.1, 1200))
    named(ax, "Memory of correct", "rows of 28x28x1 bytes", "MB")
    save(made, "operate-memory")


def triage() -> None:
    """What to look at first when more is flagged than before."""
    made, ax = drawing(8.0, 8.2)
    box(ax, 4.0, 7.7, 7.0, 0.75, "a larger share is flagged than before", colour=BAD, filled=True)
    steps = (
        (6.3, "did demur_model_info change\nat that time?", "a new guard:\nroll it back"),
        (4.6, "was the classifier, or what\ncomes before it, replaced?", "refit or\nrecalibrate"),
        (2.9, "is demur_drift_alarm 1?", "drift: estimate\nthe accuracy"),
    )
    before = 7.32
    for y, question, answer in steps:
        box(ax, 2.75, y, 4.7, 0.95, question, colour=BLUE, size=NORMAL)
        arrow(ax, (2.75, before), (2.75, y + 0.5), colour=INK)
        box(ax, 6.75, y, 2.1, 0.95, answer, colour=ORANGE, filled=True, size=SMALL)
        arrow(ax, (5.1, y), (5.68, y), colour=ORANGE)
        note(ax, 5.36, y + 0.28, "yes", colour=ORANGE)
        note(ax, 2.9, y - 0.75, "no", colour=GREY, at="left")
        before = y - 0.48
    box(
        ax,
        4.0,
        1.05,
        7.4,
        1.3,
        "look at the flagged rows and who sent them:\nan attack comes from few, a new kind of input\n"
        "looks alike, chance does neither",
        colour=TEAL,
        filled=True,
        size=SMALL,
    )
    arrow(ax, (2.75, before), (2.75, 1.72), colour=INK)
    save(made, "operate-triage")


if __name__ == "__main__":
    for draw in (where, file_graph, evidence, delays, speed, memory, triage):
        draw()
