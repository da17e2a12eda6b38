"""The picture of the server's page in docs/serve.md: a real guard, real traffic that begins to drift, a real browser.

    KERAS_BACKEND=tensorflow python tools/serve_page.py

Trains a guard of scikit-learn's digits, serves it, sends it the test digits a few at a time, adds noise to the later
ones, and writes docs/images/serve-page.png. Takes about a minute; needs chromium.
"""

import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import keras
import numpy as np

from demur import AdversarialAE, datasets
from demur.demo import build_classifier

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PORT, WIDTH, HEIGHT = 8123, 1280, 1500


def make_guard(path: Path) -> datasets.Dataset:
    """Train, calibrate and export."""
    keras.utils.set_random_seed(0)
    data = datasets.load("digits", seed=0)
    classifier = build_classifier(data.train.x.shape[1:], 10)
    classifier.compile("adam", "sparse_categorical_crossentropy")
    classifier.fit(data.train.x, data.train.y, epochs=20, verbose=0)
    detector = AdversarialAE(model=classifier, data_type="image")
    detector.fit(data.train.x, w_recon=0.1, epochs=30, verbose=False)
    detector.infer_threshold(data.held_out.x, fpr=0.05).export(path)
    return data


def ask(x: np.ndarray) -> None:
    """Have the server judge some images."""
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    url = f"http://127.0.0.1:{PORT}/v2/models/digits/infer"
    urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).read()


def traffic(data: datasets.Dataset) -> None:
    """A minute of normal digits, then of noisy ones too."""
    rng = np.random.default_rng(0)
    for step in range(260):
        x = data.test.x[rng.integers(0, len(data.test.x), 8)]
        if step > 140:
            noisy = rng.random(8) < 0.7
            x = np.where(noisy[:, None, None, None], x + rng.normal(0, 0.35, x.shape), x).clip(0, 1)
        ask(x.astype("float32"))
        time.sleep(0.15)


def main() -> int:
    """Serve, ask, look."""
    from tests.scaffold.chromium import Browser

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        data = make_guard(path)
        server = subprocess.Popen([sys.executable, "-m", "demur.cli", "serve", str(path), "--port", str(PORT)])
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v2/health/ready").read()
                    break
                except OSError:
                    time.sleep(0.2)
            traffic(data)
            browser = Browser(Path(folder))
            try:
                browser.open_page()
                browser.call(
                    "Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False
                )
                browser.call("Page.navigate", url=f"http://127.0.0.1:{PORT}/")
                end = time.time() + 5
                while time.time() < end:
                    browser.value("1")
                    time.sleep(0.1)
                picture = browser.call("Page.captureScreenshot", format="png")["data"]
            finally:
                browser.close()
            (ROOT / "docs/images/serve-page.png").write_bytes(base64.b64decode(picture))
        finally:
            server.terminate()
            server.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
