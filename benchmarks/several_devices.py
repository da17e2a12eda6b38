"""Do two devices train as one does? Their losses, beside those of one device whose weights were moved by a last bit.

    DEMUR_DATA=... python benchmarks/several_devices.py [BACKEND ...]

Two virtual devices on the CPU, 2,000 images of Fashion-MNIST (the last batch of an epoch has 80 of 128 rows), three
epochs, the networks that demur makes, and what examples/several_devices.py says of devices. Devices add up in another
order than one does, and training makes more of what is rounded otherwise: how much more, the moved weights show, which
start at the next larger number that a float32 can hold. Writes docs/results/several-devices.json.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "several-devices.json"
BACKENDS = ["jax", "tensorflow", "torch"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ROWS, EPOCHS = 2000, 3
FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "AdversarialAE": ("AdversarialAE", {}),
    "AdversarialAE, w_recon=0.1": ("AdversarialAE", {"w_recon": 0.1}),
    "AdversarialAE, w_recon=0.1, SGD": ("AdversarialAE", {"w_recon": 0.1}),
    "ModelDistillation": ("ModelDistillation", {}),
}


def fit(mode: str, classifier: Path, out: Path) -> None:
    """Train each detector, in this process, and write its losses."""
    sys.path.insert(0, str(ROOT / "examples"))
    import keras
    import several_devices as example

    import demur
    from demur.datasets import load

    data = load("fashion_mnist")
    if example.BACKEND == "tensorflow" and mode == "two":
        example.virtual_devices()
    losses = {}
    with example.several_devices() if mode == "two" else contextlib.nullcontext():
        model = example.classifier(classifier, data)
        for name, (kind, settings) in FITS.items():
            detector = getattr(demur, kind)(model=model)
            if mode == "moved":
                weights = detector.companion.get_weights()
                detector.companion.set_weights([np.nextafter(weight, np.float32(np.inf)) for weight in weights])
            detector.fit(
                data.train.x[:ROWS],
                epochs=EPOCHS,
                batch_size=128,
                validation_data=data.held_out.x[:256],
                verbose=False,
                optimizer=keras.optimizers.SGD(1e-3) if name.endswith("SGD") else None,
                **settings,
            )
            losses[name] = detector.history
    if example.RANK == 0:
        out.write_text(json.dumps(losses), encoding="utf-8")


def started(backend: str, mode: str, folder: Path) -> Any:
    """The same in a process of its own, or several."""
    out = folder / f"{backend}-{mode}.json"
    launcher = TORCHRUN if backend == "torch" and mode == "two" else []
    command = [
        sys.executable,
        *launcher,
        str(Path(__file__)),
        "--fit",
        mode,
        str(folder / "classifier.keras"),
        str(out),
    ]
    environment = {**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, env=environment)
    return json.loads(out.read_text(encoding="utf-8"))


def furthest(one: dict[str, list[float]], other: dict[str, list[float]]) -> float:
    """The largest difference between two runs' losses, those of held-out rows included."""
    return max(abs(a - b) for name in one for a, b in zip(one[name], other[name], strict=True))


def main() -> None:
    """Compare all fits on each backend."""
    if "--fit" in sys.argv:
        mode, classifier, out = sys.argv[2:]
        return fit(mode, Path(classifier), Path(out))
    from measuring import machine

    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"backends": {}}
    found |= {"machine": machine(), "devices": 2, "rows": ROWS, "epochs": EPOCHS}
    with tempfile.TemporaryDirectory() as name:
        for backend in sys.argv[1:] or BACKENDS:
            runs = {mode: started(backend, mode, Path(name)) for mode in ("one", "moved", "two")}
            found["backends"][backend] = {
                fitted: {
                    "loss": runs["one"][fitted]["loss"],
                    "loss on two devices": runs["two"][fitted]["loss"],
                    "difference": furthest(runs["one"][fitted], runs["two"][fitted]),
                    "difference in the first epoch": abs(
                        runs["one"][fitted]["loss"][0] - runs["two"][fitted]["loss"][0]
                    ),
                    "difference of moved weights": furthest(runs["one"][fitted], runs["moved"][fitted]),
                }
                for fitted in FITS
            }
            RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            print(backend, json.dumps(found["backends"][backend], indent=2))
    return None


if __name__ == "__main__":
    main()
