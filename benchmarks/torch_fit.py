"""How fast does `fit` train on PyTorch, against a loop written by hand on channels-first tensors?

    KERAS_BACKEND=torch python benchmarks/torch_fit.py [--quick]

The loop does the same work: it draws shuffled batches, passes them through the autoencoder and the classifier, and has
Adam follow the K-L divergence from a reference that was computed beforehand. Each epoch of `fit` is followed by one of
the loop; medians of the epochs' speeds, and of the ratios of neighbours, go to docs/results/torch-fit.json. The
autoencoder is a PyTorch module, the same for both, or the one that demur makes, of Keras layers, against its twin
written in PyTorch.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import torch
from measuring import machine, seconds
from networks import rows
from torch.nn import functional
from torch_networks import NETWORKS

from demur import AdversarialAE

ROOT = Path(__file__).resolve().parent.parent
BATCH = 128
SIZES = {"MLP, 30 features": 65_536, "CNN, 1x28x28": 8192, "ResNet-20, 3x32x32": 2048}


def loop(classifier: Any, autoencoder: Any, X: Any) -> Callable[[], None]:
    """An epoch written by hand."""
    classifier.eval().requires_grad_(False)
    autoencoder.train()
    rows = torch.from_numpy(X)
    with torch.no_grad():
        reference = torch.cat([functional.log_softmax(classifier(x), -1) for x in rows.split(256)])
    optimizer = torch.optim.Adam(autoencoder.parameters(), 1e-3)

    def epoch() -> None:
        total = torch.zeros(())
        for chosen in torch.randperm(len(rows)).split(BATCH):
            optimizer.zero_grad()
            log_p, log_q = reference[chosen], functional.log_softmax(classifier(autoencoder(rows[chosen])), -1)
            loss = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        total.item()

    epoch()
    return epoch


def fit(classifier: Any, autoencoder: Any, X: Any, epochs: int, between: Callable[[], None]) -> list[float]:
    """Seconds of each epoch of `fit` but the first; something else runs between epochs."""
    starts: list[float] = []
    ends: list[float] = []

    def end(*_: Any) -> None:
        ends.append(time.perf_counter())
        between()

    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: starts.append(time.perf_counter()), on_epoch_end=end
    )
    detector = AdversarialAE(model=classifier, ae=autoencoder, from_logits=True, score_type="kld")
    detector.fit(X, epochs=epochs + 1, batch_size=BATCH, verbose=False, callbacks=[clock])
    return [end - start for start, end in zip(starts, ends, strict=True)][1:]


def compared(classifier: Any, ours: Any, theirs: Any, X: Any, epochs: int) -> dict[str, float]:
    """Samples a second of `fit` and of the loop, and the median ratio of their times."""
    epoch = loop(classifier, theirs, X)
    by_hand: list[float] = []
    times = fit(classifier, ours, X, epochs, lambda: by_hand.append(seconds(epoch)))
    pairs = list(zip(times, by_hand[1:], strict=True))
    return {
        "demur": len(X) / statistics.median(times),
        "loop": len(X) / statistics.median(by_hand[1:]),
        "times the loop": statistics.median(mine / hand for mine, hand in pairs),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs, to try the script; writes nothing")
    quick = parser.parse_args().quick
    if keras.backend.backend() != "torch":
        print("this benchmark is about PyTorch: set KERAS_BACKEND=torch")
        return 1
    results: dict[str, Any] = {"machine": machine() | {"torch": torch.__version__}, "networks": {}}
    for network, (shape, classifier, autoencoder, twin) in NETWORKS.items():
        X = rows(shape, SIZES[network] // (4 if quick else 1))
        epochs = 3 if quick else 11
        results["networks"][network] = {
            "a PyTorch module": compared(classifier(), autoencoder(), autoencoder(), X, epochs),
            "demur's own": compared(classifier(), None, twin(), X, epochs),
        }
        print(network, json.dumps(results["networks"][network]), flush=True)
    if not quick:
        (ROOT / "docs/results/torch-fit.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
