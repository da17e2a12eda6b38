"""Write the tables in README.md and docs/**/*.md from the files in docs/results, between their markers.

    python tools/tables.py            rewrite the pages
    python tools/tables.py --check    exit with 1 if that would change one

Each page says by which command the files it uses were made.
"""

import functools
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ablation_tables
import batch_tables
import column_tables
import devices_tables
import drift_tables
import research_tables
import runtime_tables
import scale_tables
import serve_tables
import tutorial_tables

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DEMO = {
    "accuracy": "accuracy",
    "corrected": "corrected",
    "auroc": "AUROC",
    "flagged": "flagged",
    "harmful_score": "harmful",
    "harmless_score": "harmless",
}


def results(name: str) -> Any:
    """What a script has measured."""
    return json.loads((ROOT / f"docs/results/{name}.json").read_text(encoding="utf-8"))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; numbers to the right. Empty cells at the end of a row are left out, as Markdown allows."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    filled_in = (row[: max(i for i, cell in enumerate(row, 1) if cell)] for row in rows)
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in filled_in)])


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return "" if share is None else f"{100 * share:.{digits}f} %"


def demo_table(name: str) -> str:
    """The table of one demonstration, as it prints it."""
    rows = []
    for detector, result in results(f"demo-{name}")["detectors"].items():
        rows.append([f"**{detector}**", *[""] * len(DEMO)])
        rows += [[title, *(demo_cell(key, row[key]) for key in DEMO)] for title, row in result["rows"].items()]
    return markdown(["test images", *DEMO.values()], rows)


def demo_cell(key: str, value: Any) -> str:
    """One figure as the demonstration prints it."""
    if value is None:
        return ""
    if key in ("accuracy", "corrected", "flagged"):
        return percent(value)
    return f"{value:.3f}" if key == "auroc" else f"{value:.2f}"


def rate_table() -> str:
    """False-positive rates of random splits."""
    rows = []
    for detector, rates in results("false-positive-rate")["detectors"].items():
        for rate in (rate for rate in rates if "marginal" in rates[rate]):
            found = rates[rate]
            by_class = [entry["mean"] for entry in found["per class"]]
            rows.append(
                [
                    f"{detector}, {percent(float(rate), 0)}",
                    f"{percent(found['marginal']['mean'], 2)} ± {percent(found['marginal']['standard_error'], 2)}",
                    f"{percent(found['marginal']['low'])} to {percent(found['marginal']['high'])}",
                    f"{percent(min(by_class), 2)} to {percent(max(by_class), 2)}",
                    percent(rates["percentile of training images"][rate], 2),
                ]
            )
    head = ["asked", "mean ± its standard error", "90 % of splits", "means of the 10 classes", "percentile of training"]
    return markdown(head, rows)


def agreement_table() -> str:
    """What a companion is worth, by how well it agrees with its classifier."""
    rows = []
    for run in results("agreement")["runs"]:
        rows.append(
            [
                f"{run['data']}, {run['detector']}, {run['epochs']} epochs",
                percent(run["agreement"]),
                f"{run['beyond_chance']:.2f}",
                percent(run["harmful_flagged"]),
                "warns" if run["is_poor"] else "",
            ]
        )
    return markdown(["", "agreement", "beyond chance", "harmful rows flagged", "`fit`"], rows)


def tie_table() -> str:
    """Shares of tied scores."""
    rows = []
    for detector, inputs in results("ties").items():
        rows.append([f"**{detector}**", "", "", "", "", ""])
        for title, found in inputs.items():
            shares = [percent(found[key]) for key in ("clipped", "ours", "ours, above 0")]
            rows.append([title, *shares, f"{found['largest clipped']:.3g}", f"{found['largest ours']:.3g}"])
    return markdown(["inputs", "clipped", "ours", "ours, above 0", "largest clipped", "largest ours"], rows)


def memory_table() -> str:
    """Memory and time against the number of rows."""
    rows = [
        [
            f"{int(n):,}",
            f"{found['growth'] / 1e6:.1f} MB",
            f"{found['results'] / 1e6:.1f} MB",
            f"{found['seconds']:.2f} s",
        ]
        for n, found in results("memory")["rows"].items()
    ]
    return markdown(["rows", "memory taken", "of it results", "time"], rows)


def speed_table() -> str:
    """Speed against the floor, the eager way and the peer."""
    measured = results("speed")
    others = {"floor": "floor", "eager": "eager way"} | ({"alibi-detect": measured["peer"]} if measured["peer"] else {})
    titles = {"fit": "`fit`, samples/s", "score": "`correct`, batch 256, samples/s", "one": "`correct`, one row, ms"}
    rows = []
    for network, measurements in measured["networks"].items():
        rows.append([f"**{network}**", *[""] * (1 + 2 * len(others))])
        for what, found in measurements.items():
            cells = [f"{found[other]:,.{2 if what == 'one' else 0}f}" for other in ("demur", *others)]
            ratios = [ratio(found[f"ratio to {other}"], what == "one") for other in others]
            pairs = [cell for pair in zip(cells[1:], ratios, strict=True) for cell in pair]
            rows.append([titles[what], cells[0], *pairs])
    head = [cell for name in others.values() for cell in (name, "demur is")]
    return markdown(["", "demur", *head], rows)


def ratio(value: float, is_time: bool) -> str:
    """A ratio of demur to another, said so that more is better for speeds and less for times."""
    return f"1/{1 / value:.1f} of it" if is_time and value < 0.5 else f"{value:.2f}x"


def growth_table() -> str:
    """Time and memory against one size after the other."""
    rows = []
    for what, cases in results("growth")["cases"].items():
        rows.append([f"**{what}**", *[""] * 6])
        for title, found in cases.items():
            cells = []
            for kind in ("fit", "score"):
                speed = found[f"{kind} demur"]
                floor = found.get(f"{kind} floor")
                cells += [f"{1e6 / speed:,.0f}", f"{speed / floor:.2f}x" if floor else ""]
                cells.append(f"{found[f'{kind} memory'] / 1e6:,.0f} MB")
            rows.append([title, *cells])
    head = ["`fit`, µs a row", "speed, of the floor's", "memory", "`correct`, µs a row", "of the floor's", "memory"]
    return markdown(["", *head], rows)


def cold_start_table() -> str:
    """Seconds until the first answer."""
    rows = []
    for backend in ("tensorflow", "jax", "torch"):
        measured = {name: found for name, found in results(f"cold-start-{backend}").items() if name != "machine"}
        rows.append([f"**{backend}**", *[""] * 5])
        rows += [[name, *(f"{seconds:.3f}" for seconds in found.values())] for name, found in measured.items()]
    return markdown(["seconds", *next(iter(measured.values()))], rows)


def upsampling_table() -> str:
    """Training speed of decoders, on each backend."""
    backends = ("tensorflow", "jax", "torch")
    found = [results(f"upsampling-{backend}") for backend in backends]
    rows = [[way, *(f"{speeds[way]:,.0f}" for speeds in found)] for way in found[0]]
    return markdown(["samples/s", *backends], rows)


def pipeline_table() -> str:
    """What an epoch takes with either pipeline."""
    rows = []
    for way, epochs in results("pipeline")["ways"].items():
        times = [epoch["seconds"] for epoch in epochs]
        faults = statistics.median(epoch["page faults"] for epoch in epochs)
        rows.append([way, f"{statistics.median(times):.2f} s", f"{max(times):.2f} s", f"{faults:,.0f}"])
    return markdown(["pipeline", "median epoch", "slowest epoch", "page faults an epoch"], rows)


def step_table() -> str:
    """What a training step takes, one thing added after another."""
    found = results("training-step")["milliseconds"]
    floor = found["the floor"]
    rows = [[name, f"{milliseconds:.1f} ms", percent(floor / milliseconds)] for name, milliseconds in found.items()]
    return markdown(["a training step", "median", "of the floor's speed"], rows)


def torch_fit_table() -> str:
    """`fit` on PyTorch against a loop written by hand, for each pair of networks."""
    rows = []
    for network, pairs in results("torch-fit")["networks"].items():
        rows.append([f"**{network}**", "", "", ""])
        rows += [
            [kind, f"{pair['demur']:,.0f}", f"{pair['loop']:,.0f}", f"{pair['times the loop']:.2f}x"]
            for kind, pair in pairs.items()
        ]
    return markdown(["autoencoder", "`fit`, samples/s", "the loop", "`fit` takes, of the loop's time"], rows)


def report_summary() -> str:
    """The sentences that a report begins with."""
    return "\n".join(f"> - {sentence}" for sentence in results("report-digits")["summary"])


def example_table(name: str) -> str:
    """What an example's detectors caught, as it prints it."""
    found = results(f"example-{name}")
    columns = found["columns"]
    rows = []
    for detector, result in found["detectors"].items():
        rows.append([f"**{detector}**", *[""] * len(columns)])
        rows += [
            [title, *(example_cell(key, row.get(key)) for key in columns)] for title, row in result["rows"].items()
        ]
    return markdown([f"{found['rows']['test']:,} test rows", *columns.values()], rows)


def example_cell(key: str, value: Any) -> str:
    """One figure as the example prints it."""
    if value is None:
        return ""
    if key == "harmed":
        return f"{value:,}"
    return f"{value:.3f}" if key.startswith("auroc") else percent(value)


def quality() -> list[Any]:
    """Every row that `benchmarks/quality.py` has measured."""
    files = sorted((ROOT / "benchmarks/results").glob("[!a]*.json"))  # not those of the ablation
    return [named_by_step(json.loads(file.read_text(encoding="utf-8"))) for file in files]


ONE_STEP = ", one step"
"""What the name of a Carlini-Wagner attack ends in that took one step for all rows."""


def named_by_step(found: Any) -> Any:
    """A row whose Carlini-Wagner attacks took one step for all rows says so in their names."""
    settings = found["settings"]["attacks"]
    old = {attack["name"] for attack in settings if "stepsize" in attack.get("arguments", {})}
    for threat in found["threats"]:
        threat["threat"] += ONE_STEP if threat["threat"] in old else ""
    found["scores"] = {name + (ONE_STEP if name in old else ""): row for name, row in found["scores"].items()}
    return found


def smallest_change_table() -> str:
    """The changes that the attacks need which look for the smallest."""
    rows = []
    for name, found in results("smallest-change")["datasets"].items():
        rows.append([f"**{ablation_tables.NAMES[name]}**, {found['rows']} images", "", "", "", ""])
        base = found["attacks"]["DeepFool"]["median_l2"]
        rows += [
            [
                title,
                percent(one["fooled"]),
                f"{one['median_l2']:.3f}",
                f"{one['median_l2'] / base:.2f}",
                str(one["passes"]),
            ]
            for title, one in found["attacks"].items()
        ]
    return markdown(["attack", "fooled", "median L2", "of DeepFool's", "passes, at most"], rows)


def weaker_table() -> str:
    """What the ready student catches, by how good its classifier is."""
    found = results("weaker")["classifiers"]
    rows = [
        [title, percent(one["accuracy"]), *(percent(one[attack]["caught"], 0) for attack in ("C&W", "PGD"))]
        for title, one in found.items()
    ]
    return markdown(["classifier", "clean accuracy", "C&W caught", "PGD caught"], rows)


def published() -> Any:
    """What the authors report."""
    return json.loads((ROOT / "benchmarks/published.json").read_text(encoding="utf-8"))


def quality_against_the_paper() -> str:
    """The published attacks and figures, and every configuration measured on them."""
    rows = []
    for name, found in published()["cifar10"].items():
        for attack, corrected in found["always_corrected"].items():
            auroc = found["auroc"].get(attack)
            rows.append(
                [
                    f"published: {name}",
                    f"{found['classifier']}, {percent(found['accuracy'])}",
                    attack,
                    "" if auroc is None else f"{auroc:.3f}",
                    percent(corrected),
                ]
            )
    for found in quality():
        network = "ResNet-56" if "-full-" in found["configuration"] else "ResNet-20"
        for threat in (t for t in found["threats"] if t["threat"] in ("C&W", f"C&W{ONE_STEP}", "SLIDE")):
            rows.append(
                [
                    f"{found['configuration']}, seed {found['seed']}",
                    f"{network}, {percent(found['test']['accuracy'])}",
                    threat["threat"],
                    f"{threat['auroc_successful']:.3f}",
                    percent(threat["always_corrected"]),
                ]
            )
    return markdown(["", "classifier", "attack", "AUROC", "always corrected"], rows)


def quality_table(cell: Callable[[Any], str], first: list[tuple[str, Callable[[Any], str]]]) -> str:
    """One row a configuration and seed: something of all of it, then a cell for each threat."""
    rows, heads = [], []
    for found in quality():
        threats = {title_of(threat): threat for threat in found["threats"] if threat["norm"]}
        heads = heads or list(threats)
        rows.append(
            [
                f"{found['configuration']}, seed {found['seed']}",
                *(show(found) for _, show in first),
                *(cell(threats[head]) if head in threats else "" for head in heads),
            ]
        )
    return markdown(["configuration", *(name for name, _ in first), *heads], rows)


def title_of(threat: Any) -> str:
    """Name and strength."""
    return threat["threat"] + ("" if threat["strength"] is None else f" {threat['strength']:.3g}")


def quality_detection() -> str:
    """How well scores tell what fooled the classifier from unchanged rows."""

    def cell(threat: Any) -> str:
        auroc = threat["auroc_successful"]
        return "" if auroc is None else f"{auroc:.3f}, {percent(threat['tpr_at_5_fpr_successful'], 0)}"

    return quality_table(cell, [])


ALIKE = ("entropy", "energy", "reconstruction error")
"""Scores that do about as the maximum probability does, and one that tells nothing."""


def quality_scores() -> str:
    """Each score on each attack that does not know the guard: AUROC, and what is caught at 5 % false alarms."""
    rows: list[list[str]] = []
    names: list[str] = []
    for found in quality():
        names = names or [name for name in next(iter(found["scores"].values())) if name not in ALIKE]
        rows.append([f"**{found['configuration']}, seed {found['seed']}**", *[""] * len(names)])
        attacks = {title_of(threat) for threat in found["threats"] if threat["knowledge"] == "grey-box"}
        for title, scores in ((title, scores) for title, scores in found["scores"].items() if title in attacks):
            cells = [scores.get(name) for name in names]
            shown = ["" if c is None else f"{c['auroc']:.3f}, {percent(c['tpr_at_5_fpr'], 0)}" for c in cells]
            rows.append([title, *shown])
    return markdown(["threat", *names], rows)


def quality_accuracy() -> str:
    """What a user of `correct` gets right."""
    unchanged = [
        ("alone", lambda found: percent(found["test"]["accuracy"])),
        ("unchanged", lambda found: percent(found["test"]["corrected"])),
    ]
    return quality_table(lambda threat: percent(threat["corrected"]), unchanged)


def quality_corruptions() -> str:
    """Scores of what corruption harmed and of what it did not, by severity: means over the corruptions."""
    rows = []
    figures = ("mean_harmful", "mean_harmless", "cohens_d", "auroc_harmful_harmless")
    for found in quality():
        threats = [threat for threat in found["threats"] if threat["knowledge"] == "corruption"]
        if threats:
            rows.append([f"**{found['configuration']}, seed {found['seed']}**", *[""] * (2 + len(figures))])
        for severity in sorted({threat["strength"] for threat in threats})[::2]:
            those = [threat for threat in threats if threat["strength"] == severity]
            able = [threat for threat in those if threat["cohens_d"] is not None]
            means = [f"{statistics.mean(threat[figure] for threat in able):.2f}" for figure in figures]
            accuracy = percent(statistics.mean(threat["accuracy"] for threat in those))
            rows.append([f"severity {severity:g}", accuracy, f"{len(able)} of {len(those)}", *means])
    for name, reported in published()["cifar10_corruptions"].items():
        ranges = [" to ".join(f"{bound:g}" for bound in reported[key]) for key in ("harmful", "harmless")]
        rows.append([f"published: {name}, {reported['classifier']}", "", "", *ranges, "", ""])
    head = ["", "accuracy", "corruptions that harm", "harmful", "harmless", "Cohen's d", "AUROC"]
    return markdown(head, rows)


TABLES: dict[str, Callable[[], str]] = {
    "drift-false-alarms": lambda: markdown(*drift_tables.alarms("none")),
    "drift-harmful": lambda: markdown(*drift_tables.alarms("harmful")),
    "drift-harmless": lambda: markdown(*drift_tables.alarms("harmless")),
    "drift-dependent": lambda: markdown(*drift_tables.dependent()),
    "drift-groups": lambda: markdown(*drift_tables.groups()),
    "drift-tiny": lambda: markdown(*drift_tables.tiny()),
    "drift-ties": lambda: markdown(*drift_tables.ties()),
    "drift-labels": lambda: markdown(*drift_tables.labels()),
    "fdr-power": lambda: markdown(*drift_tables.power()),
    "drift-accuracy": lambda: markdown(*drift_tables.accuracy()),
    "flights": lambda: markdown(*drift_tables.flights()),
    "trained-rows-flags": lambda: markdown(*drift_tables.false_flags()),
    "trained-rows-warnings": lambda: markdown(*drift_tables.training_warnings()),
    "wrong-rows": lambda: markdown(*drift_tables.wrong_rows()),
    "wrong-labels": lambda: markdown(*drift_tables.wrong_labels()),
    "input-scales": lambda: markdown(*ablation_tables.by_scale()),
    "drift-stream-alarms": lambda: markdown(*drift_tables.false_alarms()),
    "drift-stream-delays": lambda: markdown(*drift_tables.delays()),
    "harmful-drift-cifar10": lambda: markdown(*drift_tables.example("cifar10")),
    "runtime": lambda: markdown(*runtime_tables.runtime()),
    "precision": lambda: markdown(*runtime_tables.precision()),
    "serve-load": lambda: markdown(*serve_tables.load()),
    "serve-constant-rate": lambda: markdown(*serve_tables.constant()),
    "serve-soak": lambda: markdown(*serve_tables.soak()),
    "serve-faults": lambda: markdown(*serve_tables.faults()),
    "quality-corruptions": quality_corruptions,
    "published": lambda: markdown(*ablation_tables.against_the_paper()),
    "ablation-scores-student": lambda: ablation("score", ablation_tables.by_score("student", ablation_tables.SHOWN)),
    "ablation-scores-autoencoder": lambda: ablation(
        "score", ablation_tables.by_score("autoencoder", ("K-L", "Jeffreys", "Jeffreys and balanced doubt"))
    ),
    "ablation-companions": lambda: ablation("companion", ablation_tables.by_companion(ablation_tables.DEFAULT)),
    "robust-cost": lambda: markdown(*ablation_tables.cost()),
    "ablation-combined": lambda: ablation("combination", ablation_tables.by_combination()),
    "ablation-adaptive": lambda: markdown(*ablation_tables.adaptive()),
    "columns": lambda: markdown(*column_tables.columns()),
    "texts": lambda: markdown(*column_tables.texts()),
    "batch-throughput": lambda: markdown(*batch_tables.throughput()),
    "batch-proofs": lambda: markdown(*batch_tables.proofs()),
    "several-devices": lambda: markdown(*devices_tables.differences()),
    "scale-continuous": lambda: markdown(*scale_tables.continuous()),
    "scale-rates": lambda: markdown(*scale_tables.rates()),
    "scale-endpoints": lambda: markdown(*scale_tables.endpoints()),
    "weaker": weaker_table,
    "smallest-change": smallest_change_table,
    "numbers": lambda: markdown(*research_tables.numbers()),
    "gist": lambda: markdown(*ablation_tables.gist()),
    "report-summary": report_summary,
    "fashion_mnist": lambda: demo_table("fashion_mnist"),
    "false-positive-rate": rate_table,
    "agreement": agreement_table,
    "ties": tie_table,
    "memory": memory_table,
    "speed": speed_table,
    "growth": growth_table,
    "cold-start": cold_start_table,
    "training-step": step_table,
    "torch-fit": torch_fit_table,
    "pipeline": pipeline_table,
    "upsampling": upsampling_table,
    "quality-detection": quality_detection,
    "quality-accuracy": quality_accuracy,
    "quality-against-the-paper": quality_against_the_paper,
    "quality-scores": quality_scores,
    "onnx_file": lambda: example_table("onnx_file"),
    **{f"printed-{page}": functools.partial(tutorial_tables.printed, page) for page in tutorial_tables.PAGES},
    "printed-endpoint-answer": tutorial_tables.answer,
    "printed-endpoint-client": lambda: tutorial_tables.printed("endpoint", "alarm"),
    "first-example": lambda: markdown(*tutorial_tables.first_example()),
    "first-example-simple": tutorial_tables.first_example_simple,
    "first-example-others": lambda: markdown(*tutorial_tables.first_example_others()),
    "alibi-seen": lambda: markdown(*tutorial_tables.seen()).replace("---:", "---"),
    "alibi-scores": lambda: markdown(*tutorial_tables.same_scores()),
}


def ablation(what: str, rows: list[list[str]]) -> str:
    """A table of the ablation."""
    return markdown([what, "seeds", *ablation_tables.HEAD], rows)


def filled(text: str) -> str:
    """The text with every table between its markers made anew."""
    return re.sub(
        r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    """Rewrite the pages, or say whether that would change one."""
    stale = []
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if before != after:
            stale.append(page.name)
            if "--check" not in sys.argv:
                page.write_text(after, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}; run python tools/tables.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
