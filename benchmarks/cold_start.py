"""How long until the first answer? A new process imports demur, loads a saved detector and predicts once.

    for b in tensorflow jax torch; do KERAS_BACKEND=$b python benchmarks/cold_start.py; done

`import demur` is timed after `import keras`, which takes seconds of its own. Medians of three processes, in seconds, go
to docs/results/cold-start-BACKEND.json.
"""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 3


def start(folder: str) -> dict[str, float]:
    """Import, load and predict; what each took."""
    marks = [time.perf_counter()]
    import keras

    marks.append(time.perf_counter())
    import demur

    marks.append(time.perf_counter())
    detector = demur.load_detector(folder)
    marks.append(time.perf_counter())
    x = keras.random.normal((1, *detector.input_shape))
    detector.predict(keras.ops.convert_to_numpy(x))
    marks.append(time.perf_counter())
    detector.predict(keras.ops.convert_to_numpy(x))
    marks.append(time.perf_counter())
    names = ("import keras", "import demur", "load_detector", "first predict", "second predict")
    return dict(zip(names, (b - a for a, b in itertools.pairwise(marks)), strict=True))


def main() -> int:
    if len(sys.argv) > 1:
        print(json.dumps(start(sys.argv[1])))
        return 0
    from measuring import machine
    from networks import NETWORKS

    from demur import AdversarialAE

    results: dict[str, object] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in NETWORKS.items():
            classifier, autoencoder = make()
            AdversarialAE(model=classifier, ae=autoencoder, threshold=1.0, score_type="kld").save(folder)
            command = [sys.executable, __file__, folder]
            runs = [json.loads(subprocess.check_output(command, text=True).splitlines()[-1]) for _ in range(PROCESSES)]
            results[name] = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
            print(name, results[name], flush=True)
    backend = results["machine"]["backend"]  # type: ignore[index]
    (ROOT / f"docs/results/cold-start-{backend}.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
