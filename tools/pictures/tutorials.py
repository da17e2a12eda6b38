"""What the tutorials print, and their pictures.

    python tools/pictures/tutorials.py [keras_images torch_images tabular text harmful_drift endpoint]

Pastes the code of a page of docs/tutorials, block by block, in an empty folder, writes what it printed to
docs/results/tutorial-PAGE.json, and draws the page's picture from it. Data are read from $DEMUR_DATA, or fetched.
`endpoint` runs a real server, too, and photographs its page, for which it needs chromium.
"""

import base64
import json
import os
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
sys.path.insert(0, str(ROOT))
PAGES = ("keras_images", "torch_images", "tabular", "text", "harmful_drift", "endpoint")
ALONE, GUARDED, CAUGHT, ALL, BATCHES = "#808080", "#4477aa", "#cc3311", "#997700", "#aa3377"
FLAGGED = {
    "caught": (CAUGHT, "o", "of rows harmed by the change"),
    "flagged": (ALL, "D", "of all rows"),
    "batches": (BATCHES, "s", "of batches of 100"),
}


def dots(rows: list[dict[str, Any]], file: Path) -> None:
    """How right the answers are with and without the guard, and what is flagged, for each thing done to the rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    detectors = {row["detector"]: [one for one in rows if one["detector"] == row["detector"]] for row in rows}
    figure = Figure(figsize=(6.4, 0.62 * len(rows) + 1.5 * len(detectors)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 * len(detectors), 1, squeeze=False)[:, 0]
    for (detector, some), accuracy, flagged in zip(detectors.items(), panels[::2], panels[1::2], strict=True):
        places = range(len(some))
        alone, corrected = ([100 * row[key] for row in some] for key in ("accuracy", "corrected"))
        accuracy.hlines(places, alone, corrected, color=GUARDED, alpha=0.5, linewidth=2, zorder=1)
        accuracy.scatter(alone, places, color=ALONE, label="of the classifier", zorder=2)
        accuracy.scatter(corrected, places, color=GUARDED, label="with the guard", zorder=3)
        accuracy.set_title(f"{detector}: right, %", loc="left", fontsize=12)
        for key, (colour, marker, label) in FLAGGED.items():
            here = [
                (100 * row[key], place) for row, place in zip(some, places, strict=True) if row.get(key) is not None
            ]
            if here:
                flagged.scatter(*zip(*here, strict=True), color=colour, marker=marker, label=label)
        flagged.axvline(5, color="#222222", linestyle="--", linewidth=1)
        flagged.set_title("flagged, % (dashed: 5 %)", loc="left", fontsize=12)
        for axes in (accuracy, flagged):
            axes.set_yticks(places, [row["change"] for row in some])
            axes.invert_yaxis()
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_axisbelow(True)
            axes.grid(axis="y", color="#dddddd", linewidth=0.6)
            axes.set_xlim(-3, 103)
            axes.legend(loc="upper center", bbox_to_anchor=(0.3, -0.13), ncols=3, frameon=False, columnspacing=1)
    figure.savefig(file, dpi=110)


def attacked(evaluation: Any, class_names: list[str], file: Path) -> None:
    """Images that an attack fools the classifier with: before, after, and as the autoencoder redraws them."""
    import numpy as np

    from demur import plots

    threat = next(threat for threat in evaluation.threats if threat.name == "PGD")
    shown = threat.examples[:4]

    def row(name: str, images: list[Any], classes: list[int], says: list[str]) -> plots.Row:
        words = [f"{class_names[one]}{more}" for one, more in zip(classes, says, strict=True)]
        right = [one == example.label for one, example in zip(classes, shown, strict=True)]
        return plots.Row(name, np.stack(images), words, [plots.GOOD if one else plots.BAD for one in right])

    flags = ["\nflagged" if one.flagged else "" for one in shown]
    rows = [
        row("original", [one.original for one in shown], [one.before for one in shown], [""] * 4),
        row("attacked", [one.changed for one in shown], [one.after for one in shown], flags),
        row("redrawn", [one.reconstruction for one in shown], [one.opinion for one in shown], [""] * 4),
    ]
    fooled = [score for score, did in zip(threat.scores, threat.successful, strict=True) if did]
    scores = plots.Histogram("scores", np.array(evaluation.clean.scores), np.array(fooled), evaluation.threshold[0])
    plots.attack_picture(file, "green is right, red is wrong", rows, [scores])


def changes(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `Evaluation.to_frame`, or of a tutorial's own table, in the words of the latter."""
    return [
        {
            "detector": row.get("detector", "ModelDistillation"),
            "change": row.get("change")
            or " ".join([row["threat"], *([f"{row['strength']:g}"] if row["strength"] else [])]),
            "accuracy": row["accuracy"],
            "corrected": row["corrected"],
            "caught": row["caught"] if "caught" in row else row["flagged"],
            "flagged": row["flagged"] if "caught" in row else row["flagged_all"],
            "batches": row.get("batches"),
        }
        for row in found
    ]


def served(names: dict[str, Any], document: dict[str, Any], file: Path) -> None:
    """The second half of the endpoint: ask by curl's body and by the page's code, and photograph the server's page."""
    from tests.scaffold import pages
    from tests.scaffold.chromium import Browser, opened

    serve = [sys.executable, "-m", "demur.cli", "serve", "guard.onnx", "--state", "state", "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            url = next(
                found[0] for line in server.stdout or () if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
            )
            request = urllib.request.Request(f"{url}/v2/models/guard/infer", Path("request.json").read_bytes())
            with urllib.request.urlopen(request) as answer:
                document["answer"] = json.load(answer)
            client = pages.blocks("tutorials/endpoint")[-1].replace("http://127.0.0.1:8080", url)
            document["printed"] += pages.paste([client], names)
            Path("profile").mkdir()
            with opened(Browser, Path("profile")) as browser:
                browser.call(
                    "Emulation.setDeviceMetricsOverride", width=800, height=1900, deviceScaleFactor=1, mobile=False
                )
                browser.call("Page.navigate", url=url + "/")
                end = time.time() + 5
                while time.time() < end:
                    browser.value("1")
                    time.sleep(0.1)
                height = browser.value("document.querySelector('#try-title').getBoundingClientRect().top") - 20
                shown = {"x": 0, "y": 0, "width": 785, "height": height, "scale": 1}  # without the scroll bar
                found = browser.call("Page.captureScreenshot", format="png", clip=shown)["data"]
                file.write_bytes(base64.b64decode(found))
        finally:
            server.terminate()


def made(page: str) -> None:
    """The results and the picture of one page."""
    os.environ["KERAS_BACKEND"] = "torch" if page == "torch_images" else "tensorflow"
    from tests.scaffold import pages

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        document, names = pages.run(f"tutorials/{page}", first=-1 if page == "endpoint" else None)
        if page == "endpoint":
            served(names, document, IMAGES / "tutorial-endpoint-page.png")
        elif page == "keras_images":
            attacked(names["evaluation"], names["data"].class_names, IMAGES / "tutorial-keras.png")
        elif page != "harmful_drift":
            dots(changes(document["found"]), IMAGES / f"tutorial-{page.partition('_')[0]}.png")
        os.chdir(ROOT)
    (RESULTS / f"tutorial-{page}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Each page in a process of its own: a process has one backend."""
    pages = sys.argv[1:] or PAGES
    if len(pages) == 1:
        made(pages[0])
        return 0
    return max(subprocess.run([sys.executable, __file__, page], check=False).returncode for page in pages)


if __name__ == "__main__":
    sys.exit(main())
