"""From zero to a guarded endpoint, the second half: ask the server, and see it notice that the digits go bad.

    demur serve guard.onnx --state state
    python examples/endpoint_client.py [--url http://127.0.0.1:8080]

The standard library and NumPy are all that it needs to ask; scikit-learn has the digits.
"""

import argparse
import json
import re
import urllib.request

import numpy as np
from sklearn.datasets import load_digits


def ask(url: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """What the server says of images."""
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "corrected"}, {"name": "is_adversarial"}]}).encode()
    request = urllib.request.Request(f"{url}/v2/models/guard/infer", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return {output["name"]: np.array(output["data"]) for output in json.load(answer)["outputs"]}


def metric(url: str, name: str) -> float:
    """One of the figures that Prometheus would fetch."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        return float(re.search(rf"^{name}\{{[^}}]*\}} (\S+)$", answer.read().decode(), re.MULTILINE)[1])


def main() -> None:
    """Good digits for a while, and then digits of which every second one is noisy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    url = parser.parse_args().url
    digits = load_digits()
    x, y = (digits.images / 16)[..., None].astype("float32"), digits.target
    test = np.random.default_rng(0).permutation(len(x))[1400:]  # those that endpoint_guard.py tests on
    rng = np.random.default_rng(1)

    def batch(noisy: float) -> tuple[np.ndarray, np.ndarray]:
        rows = rng.choice(test, 8)
        noise = rng.normal(0, 0.35, (8, 8, 8, 1)) * (rng.random(8) < noisy)[:, None, None, None]
        return (x[rows] + noise).clip(0, 1).astype("float32"), y[rows]

    images, classes = batch(noisy=0)
    answer = ask(url, images)
    print("true classes  ", *classes)
    print("the answers   ", *answer["corrected"])
    print("flagged       ", *answer["is_adversarial"].astype(int))

    print("\nsent   noisy   flagged  log evidence  alarm")
    sent = len(images)
    for noisy in (0.0, 0.5):
        for _ in range(4):
            flagged = [ask(url, batch(noisy)[0])["is_adversarial"].mean() for _ in range(15)]
            sent += 15 * 8
            evidence, alarm = metric(url, "demur_drift_log_evidence"), metric(url, "demur_drift_alarm")
            said = "yes" if alarm else "no"
            print(f"{sent:4}  {100 * noisy:4.0f} %  {100 * np.mean(flagged):6.1f} %  {evidence:12.1f}  {said}")


if __name__ == "__main__":
    main()
