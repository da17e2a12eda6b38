"""What do demur's batches cost on TensorFlow, and what would they cost through the pipeline Keras makes by itself?

    KERAS_BACKEND=tensorflow python benchmarks/pipeline.py

Trains the 28x28x1 networks on 4096 rows for 15 epochs after the first, each way in processes of its own, which take
turns; writes the seconds and the minor page faults of each epoch to docs/results/pipeline.json.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS, KERAS = "demur's", "Keras's own"
TURNS, EPOCHS, ROWS = 3, 5, 4096


def measure(way: str) -> list[dict[str, float]]:
    """Seconds and page faults of each epoch but the first."""
    import keras
    from networks import cnn28, rows

    import demur.network.trainer

    if way == KERAS:
        demur.network.trainer.fed = lambda batches: batches
    found: list[tuple[float, int]] = []

    def now(*_: Any) -> None:
        found.append((time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt))

    classifier, autoencoder = cnn28()
    clock = keras.callbacks.LambdaCallback(on_epoch_begin=now, on_epoch_end=now)
    detector = demur.AdversarialAE(model=classifier, ae=autoencoder, score_type="kld")
    detector.fit(rows((28, 28, 1), ROWS), epochs=1 + EPOCHS, verbose=False, callbacks=[clock])
    epochs = list(zip(found[2::2], found[3::2], strict=True))
    return [{"seconds": end[0] - start[0], "page faults": end[1] - start[1]} for start, end in epochs]


def main() -> int:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return 0
    from measuring import machine

    results: dict[str, Any] = {"machine": machine(), "ways": {OURS: [], KERAS: []}}
    for _ in range(TURNS):
        for way, found in results["ways"].items():
            done = subprocess.check_output([sys.executable, __file__, way], text=True, stderr=subprocess.DEVNULL)
            found.extend(json.loads(done.splitlines()[-1]))
    for way, epochs in results["ways"].items():
        print(way, {what: statistics.median(epoch[what] for epoch in epochs) for what in epochs[0]})
    (ROOT / "docs/results/pipeline.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
