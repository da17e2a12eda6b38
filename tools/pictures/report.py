"""The pictures of docs/reading_a_report.md: a real report, opened in a real browser and cut into its parts.

    KERAS_BACKEND=tensorflow python tools/pictures/report.py                   evaluates first, in at most ten minutes
    KERAS_BACKEND=tensorflow python tools/pictures/report.py evaluation.json   takes that evaluation

Trains a guard of scikit-learn's digits, evaluates it, and writes docs/images/report-page-*.png,
each also as the report is in the dark, and docs/results/report-digits.json, the sentences that the report begins with.
Needs chromium.
"""

import base64
import io
import json
import sys
import tempfile
from pathlib import Path

import keras
from PIL import Image

import demur
from demur import datasets
from demur.demo import build_classifier
from demur.report import summary, write_report

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
COLOURS, TALLEST = 128, 1300
PARTS = {
    "head": ("header", "[aria-labelledby=summary]", 760),
    "attacks": ("[aria-labelledby=threats] h2", "[aria-labelledby=threats] > .scroll", 1240),
    "worst": ("#worst", "#worst + .scroll", 1000),
    "corruptions": ("[aria-labelledby=corruptions] h2", "[aria-labelledby=corruptions] > .plots", 900),
    "curves": ("[aria-labelledby=curves] h2", "[aria-labelledby=curves] > .plots > figure", 900),
    "scores": ("[aria-labelledby=scores] h2", "[aria-labelledby=scores] > .scroll", 1400),
    "gallery": ("[aria-labelledby=gallery] h2", "[aria-labelledby=gallery] > .cards", 900),
    "checks": ("[aria-labelledby=checks] h2", "[aria-labelledby=cost] .scroll", 760),
}
"""The first and the last element of each picture, and how wide the window is."""


def evaluation() -> demur.Evaluation:
    """A guard of the digits, and what it is worth."""
    keras.utils.set_random_seed(0)
    data = datasets.load("digits", seed=0)
    classifier = build_classifier(data.train.x.shape[1:], 10)
    classifier.compile("adam", "sparse_categorical_crossentropy")
    classifier.fit(data.train.x, data.train.y, epochs=20, verbose=0)
    detector = demur.AdversarialAE(model=classifier, data_type="image")
    detector.fit(data.train.x, w_recon=0.1, epochs=30, verbose=False)
    detector.infer_threshold(data.held_out.x, fpr=0.05)
    return demur.evaluate(
        detector,
        data.test.x,
        data.test.y,
        attacks=["FGSM", "PGD", "C&W", "PGD on error and score", "selective PGD"],
        corruptions=["gaussian noise", "gaussian blur", "contrast", "impulse noise"],
        X_train=data.train.x,
        budget="10min",
    )


def cut(page: Path, profile: Path) -> dict[str, bytes]:
    """Each part of a page as PNG, in the light and in the dark, by the picture's name."""
    from tests.scaffold.chromium import Browser

    browser, found = Browser(profile), {}
    try:
        browser.open_page()
        for scheme, ending in {"light": "", "dark": "-dark"}.items():
            for name, (first, last, width) in PARTS.items():
                browser.open(page.as_uri(), width=width, scheme=scheme)
                found[f"{name}{ending}"] = _shot(browser, first, last, width)
        return found
    finally:
        browser.close()


def _shot(browser, first: str, last: str, width: int) -> bytes:  # noqa: ANN001 - of the tests
    # As tall as the page, without a bar for scrolling: a picture of more than the window would move what is in it.
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=20_000, deviceScaleFactor=1, mobile=False)
    top = browser.value(f"document.querySelector({first!r}).getBoundingClientRect().top + scrollY") - 12
    bottom = browser.value(f"document.querySelector({last!r}).getBoundingClientRect().bottom + scrollY") + 12
    clip = {"x": 0, "y": max(top, 0), "width": width, "height": min(bottom - top, TALLEST), "scale": 1.25}
    shot = browser.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
    small, written = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB").quantize(COLOURS), io.BytesIO()
    small.save(written, "PNG", optimize=True)
    return written.getvalue()


def main() -> int:
    """Evaluate, open, cut."""
    found = demur.Evaluation.from_json(sys.argv[1]) if len(sys.argv) > 1 else evaluation()
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(found, Path(folder) / "report.html", title="Digits: evaluation")
        for name, picture in cut(page, Path(folder)).items():
            (ROOT / f"docs/images/report-page-{name}.png").write_bytes(picture)
    text = json.dumps({"versions": found.versions, "summary": summary(found)}, indent=1) + "\n"
    (ROOT / "docs/results/report-digits.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
