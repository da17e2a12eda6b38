"""The pictures of docs/tutorials, and what its endpoint printed.

    python docs/pictures/tutorials.py [torch tabular text] [endpoint]

Those of `torch`, `tabular` and `text` are drawn from docs/results/example-*.json. `endpoint` runs the two scripts of
that tutorial against a real server, writes what they printed to docs/results/tutorial-endpoint.json, and photographs
the server's page; it takes about a minute and needs chromium.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGES, RESULTS = ROOT / "docs/images", ROOT / "docs/results"
EXAMPLES = {"torch": "torch_fashion_mnist", "tabular": "boosted_trees", "text": "text_token_ids"}
ALONE, GUARDED, CAUGHT, FALSE, BATCHES = "#808080", "#4477aa", "#cc3311", "#997700", "#aa3377"
FLAGGED = {
    "caught": (CAUGHT, "o", "of rows harmed by the change"),
    "false_alarms": (FALSE, "D", "of rows still right"),
    "batches": (BATCHES, "s", "of batches of 100, by their p-values"),
}


def measured(name: str, file: Path) -> None:
    """How right the answers are with and without the guard, and what is flagged, for each thing done to the rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = json.loads((RESULTS / f"example-{name}.json").read_text(encoding="utf-8"))["detectors"]
    most = max(len(one["rows"]) for one in found.values())
    figure = Figure(figsize=(10, 0.32 * most * len(found) + 1.2 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(found), 2, squeeze=False, sharey="row", sharex="col")
    for (detector, one), (left, right) in zip(found.items(), panels, strict=True):
        places = range(len(one["rows"]))
        alone, corrected = ([100 * row[key] for row in one["rows"].values()] for key in ("accuracy", "corrected"))
        left.hlines(places, alone, corrected, color=GUARDED, alpha=0.5, linewidth=2, zorder=1)
        left.scatter(alone, places, color=ALONE, label="of the classifier", zorder=2)
        left.scatter(corrected, places, color=GUARDED, label="with the guard", zorder=3)
        left.set_yticks(places, list(one["rows"]))
        left.invert_yaxis()
        left.set_title(f"{detector}: accuracy, %", loc="left", fontsize=11)
        for key, (colour, marker, label) in FLAGGED.items():
            here = [
                (100 * row[key], place) for row, place in zip(one["rows"].values(), places, strict=True) if key in row
            ]
            if here:
                right.scatter(*zip(*here, strict=True), color=colour, marker=marker, label=label)
        right.axvline(5, color="#222222", linestyle="--", linewidth=1)
        right.set_title("flagged, % (dashed: 5 %)", loc="left", fontsize=11)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_axisbelow(True)
            axes.grid(axis="y", color="#dddddd", linewidth=0.6)
            axes.set_xlim(-3, 103)
    shown = [handle for axes in panels[-1] for handle in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=shown, loc="outside lower center", ncols=5, frameon=False, fontsize=9, columnspacing=1)
    figure.savefig(file, dpi=90)


def endpoint(file: Path) -> None:
    """From zero to an endpoint, as the tutorial has it."""
    sys.path.insert(0, str(ROOT / "tests"))
    from chromium import Browser

    printed: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:

        def run(*command: str) -> str:
            return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout

        printed["guard"] = run(sys.executable, str(ROOT / "examples/endpoint_guard.py"))
        serve = [sys.executable, "-m", "demur.cli", "serve", "guard.onnx", "--state", "state", "--port", "0"]
        server = subprocess.Popen(serve, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            url = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            body = (Path(folder) / "request.json").read_bytes()
            with urllib.request.urlopen(urllib.request.Request(f"{url}/v2/models/guard/infer", body)) as answer:
                printed["answer"] = json.load(answer)
            printed["client"] = run(sys.executable, str(ROOT / "examples/endpoint_client.py"), "--url", url)
            browser = Browser(Path(folder))
            try:
                browser.open_page()
                size = {"width": 1280, "height": 1180, "deviceScaleFactor": 1, "mobile": False}
                browser.call("Emulation.setDeviceMetricsOverride", **size)
                browser.call("Page.navigate", url=url + "/")
                end = time.time() + 5
                while time.time() < end:
                    browser.value("1")
                    time.sleep(0.1)
                shown = {"x": 0, "y": 0, "width": 1262, "height": 1030, "scale": 1}  # without the scroll bar
                found = browser.call("Page.captureScreenshot", format="png", clip=shown)["data"]
                file.write_bytes(base64.b64decode(found))
            finally:
                browser.close()
        finally:
            server.terminate()
            server.wait()
    text = json.dumps(printed, indent=1) + "\n"
    (RESULTS / "tutorial-endpoint.json").write_text(text, encoding="utf-8")


def main() -> int:
    """Draw those that are asked for; all of them if none is."""
    for name in sys.argv[1:] or [*EXAMPLES, "endpoint"]:
        file = IMAGES / f"tutorial-{name}.png"
        if name == "endpoint":
            endpoint(file)
        else:
            measured(EXAMPLES[name], file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
