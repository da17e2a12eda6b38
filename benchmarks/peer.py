"""alibi-detect doing the same work as `speed.py`, in an environment of its own; run beside it, never needed.

Reads lines `NETWORK<TAB>MEASUREMENT<TAB>ROWS` and answers each with a number. Needs no demur. Such an environment is
made by `pip install alibi-detect 'tensorflow-cpu<2.19' 'tf-keras<2.19' 'tensorflow_probability<0.26'`.
"""

import contextlib
import sys
import time

import alibi_detect
import numpy as np
from alibi_detect.ad import AdversarialAE
from networks import NETWORKS, rows


def fit(network: str, n: int) -> float:
    classifier, autoencoder = NETWORKS[network]()
    X = rows(classifier.input_shape[1:], min(n, 1024))
    detector = AdversarialAE(model=classifier, ae=autoencoder)
    detector.fit(X[:256], epochs=1, batch_size=128, verbose=False)
    start = time.perf_counter()
    detector.fit(X, epochs=1, batch_size=128, verbose=False)
    return len(X) / (time.perf_counter() - start)


def scorer(network: str):  # noqa: ANN201
    if network not in DETECTORS:
        classifier, autoencoder = NETWORKS[network]()
        DETECTORS[network] = AdversarialAE(model=classifier, ae=autoencoder, threshold=1.0)
    return DETECTORS[network]


DETECTORS = {}


def score(network: str, n: int) -> float:
    detector = scorer(network)
    X = rows(detector.model.input_shape[1:], n)
    start = time.perf_counter()
    detector.correct(X, batch_size=256)
    return n / (time.perf_counter() - start)


def one(network: str, _: int) -> float:
    detector = scorer(network)
    x = rows(detector.model.input_shape[1:], 1)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        detector.correct(x)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def main() -> int:
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        print(alibi_detect.__version__, file=answers, flush=True)
        for line in sys.stdin:
            network, what, n = line.rstrip("\n").split("\t")
            print({"fit": fit, "score": score, "one": one}[what](network, int(n)), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
