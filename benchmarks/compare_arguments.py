"""What alibi-detect's two adversarial detectors take, return and do, beside demur's: names, defaults and what was seen.

    KERAS_BACKEND=tensorflow python benchmarks/compare_arguments.py --peer ENVIRONMENT/bin/python

Writes docs/results/alibi-arguments.json, from which docs/tutorials/from_alibi_detect.md has its facts. The same script
is run by both interpreters, and the same code asks both libraries; each answer is what happened, in a few words. The
peer's environment is made as `peer.py` says. It runs here with Keras 3; what it saves is tried with Keras 2 too
(TF_USE_LEGACY_KERAS=1), where it saves more.
"""

import argparse
import importlib.metadata
import inspect
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np

FILE = Path(__file__).resolve().parent.parent / "docs/results/alibi-arguments.json"
METHODS = ("__init__", "fit", "infer_threshold", "score", "predict", "correct")
NO_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import {0}
try:
    {1}
except Exception as error:
    print(type(error).__name__)
else:
    print("works")
"""


class Library:
    """One of the two, and small networks for it with the same weights whoever asks."""

    def __init__(self, name: str) -> None:
        import tensorflow

        self.name, self.keras, self.tensorflow = name, tensorflow.keras, tensorflow
        self.is_demur = name == "demur"
        if self.is_demur:
            import demur as library
        else:
            import alibi_detect.ad as library
        self.AE, self.MD = library.AdversarialAE, library.ModelDistillation
        self.x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")

    def network(self, *units: int, end: str | None = None, seed: int = 0) -> Any:
        """Dense layers from six numbers, with weights that depend on `seed` alone."""
        layers, rng = self.keras.layers, np.random.default_rng(seed)
        *hidden, last = units
        model = self.keras.Sequential(
            [layers.Input((6,)), *(layers.Dense(n, "relu") for n in hidden), layers.Dense(last, end)]
        )
        model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
        return model

    def classifier(self) -> Any:
        """The one that is guarded."""
        return self.network(8, 3, end="softmax", seed=1)

    def ae(self, **given: Any) -> Any:
        """An `AdversarialAE`, with other arguments if any are given."""
        return self.AE(**{"model": self.classifier(), "ae": self.network(4, 6, seed=2), **given})

    def md(self, **given: Any) -> Any:
        """A `ModelDistillation`, likewise."""
        student = self.network(4, 3, end="softmax", seed=3)
        return self.MD(**{"model": self.classifier(), "distilled_model": student, **given})

    def fitted(self, **given: Any) -> Any:
        """An `AdversarialAE` after an epoch."""
        detector = self.ae()
        detector.fit(self.x, **{"epochs": 1, "verbose": False, **given})
        return detector

    def saved(self, detector: Any, folder: Path) -> Any:
        """The detector after it was saved to a folder and loaded."""
        if self.is_demur:
            import demur

            demur.save_detector(detector, folder)
            return demur.load_detector(folder)
        from alibi_detect.saving import load_detector, save_detector

        save_detector(detector, folder)
        return load_detector(folder, enable_unsafe_loading=True)


def signatures(library: Library) -> dict[str, Any]:
    """The arguments of each method, with their defaults as text; `None` for a method that is not there."""
    found: dict[str, Any] = {}
    for kind in (library.AE, library.MD):
        methods = {name: getattr(kind, name, None) for name in METHODS}
        found[kind.__name__] = {name: method and defaults(method) for name, method in methods.items()}
    if library.is_demur:
        import demur

        found["save"], found["load"] = defaults(library.AE.save), defaults(demur.load_detector)
    else:
        from alibi_detect.saving import load_detector, save_detector

        found["save"], found["load"] = defaults(save_detector), defaults(load_detector)
    return found


def defaults(method: Callable[..., Any]) -> dict[str, str]:
    """Arguments and defaults; of a function or a class, its name."""
    parameters = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
    return {"**" + p.name if p.kind is p.VAR_KEYWORD else p.name: shown(p) for p in parameters}


def shown(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_KEYWORD:
        return "any"
    default = parameter.default
    if default is parameter.empty:
        return "required"
    return default.__name__ if hasattr(default, "__name__") else repr(default)


def keys(library: Library) -> dict[str, Any]:
    """What a result holds, and of what type."""
    detector = library.fitted()
    detector.infer_threshold(library.x, threshold_perc=95.0)
    found = detector.correct(library.x)
    return {
        "meta": sorted(found["meta"]),
        "data": {name: str(getattr(value, "dtype", value)) for name, value in found["data"].items()},
    }


def happened(ask: Callable[[], Any]) -> str:
    """What came of it: an answer, or the name of the error."""
    try:
        answer = ask()
    except Exception as error:
        return type(error).__name__
    return answer if isinstance(answer, str) else "works"


def seen(library: Library) -> dict[str, str]:
    """What each of these comes to."""
    keras, x = library.keras, library.x
    bad = x[:4].copy()
    bad[0, 0] = np.nan

    def judged(row: np.ndarray) -> str:
        detector = library.ae(threshold=1.0)
        data = detector.predict(row)["data"]
        return f"score {data['instance_score'][0]:.3g}, {'flagged' if data['is_adversarial'][0] else 'not flagged'}"

    def threshold_of(rows: np.ndarray) -> str:
        detector = library.ae()
        detector.infer_threshold(rows)
        return f"threshold {detector.threshold:.3g}"

    def called() -> str:
        calls: list[int] = []

        class Counter(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
                calls.append(epoch)

        library.fitted(epochs=2, callbacks=[Counter()])
        return f"called after {len(calls)} of 2 epochs"

    def flags() -> str:
        classifier = library.classifier()
        library.ae(model=classifier).fit(x, epochs=1, verbose=False)
        return f"{sum(layer.trainable for layer in classifier.layers)} of {len(classifier.layers)} still trainable"

    def order() -> str:
        scores = []
        for seed in (0, 1):
            keras.utils.set_random_seed(seed)
            scores.append(library.fitted(batch_size=8).score(x))
        return "the same scores" if np.array_equal(*scores) else "other scores"

    def largest() -> str:
        return f"{library.ae().score(1e3 * x).max():.3g}"

    def of_one_sigmoid() -> str:
        detector = library.ae(model=library.network(1, end="sigmoid", seed=1), threshold=1.0)
        return ", ".join(map(str, np.unique(detector.correct(x)["data"]["no_defense"])))

    def sharpened() -> str:
        return f"{len(library.ae(temperature=-1.0).score(x))} scores"

    def logits() -> str:
        score = library.ae(model=library.network(3, seed=1)).score(x)
        return f"scores, {int((score < 0).sum())} of {len(score)} below 0"

    def prepared() -> str:
        kinds: list[str] = []

        def keep(batch: Any) -> Any:
            kinds.append("a NumPy array" if isinstance(batch, np.ndarray) else type(batch).__name__)
            return batch

        library.fitted(preprocess_fn=keep)
        return kinds[0]

    def training_loss() -> str:
        one, other = (library.md(loss_type=name).score(x) for name in ("kld", "xent"))
        return "the same scores" if np.array_equal(one, other) else "other scores"

    def theirs(x_true: Any, x_pred: Any, model: Any = None, **_: Any) -> Any:
        return keras.losses.KLDivergence()(model(x_true), model(x_pred))

    function = library.classifier()
    return {
        "what `fit` returns": happened(lambda: type(library.ae().fit(x, epochs=1, verbose=False)).__name__),
        "layers of the classifier after construction and `fit`": happened(flags),
        "a row that holds NaN, in `predict`": happened(lambda: judged(bad)),
        "rows one of which holds NaN, in `infer_threshold`": happened(lambda: threshold_of(bad)),
        "`predict` without a threshold": happened(lambda: library.ae().predict(x)),
        "a callback's `on_epoch_end`": happened(called),
        '`optimizer="adam"`': happened(lambda: library.fitted(optimizer="adam")),
        "`loss_fn=keras.losses.KLDivergence()`": happened(lambda: library.fitted(loss_fn=keras.losses.KLDivergence())),
        "`fit(x, loss)`, a loss of `x_true, x_pred, model`": happened(
            lambda: library.ae().fit(x, theirs, epochs=1, verbose=False)
        ),
        "what `preprocess_fn` is given": happened(prepared),
        "`log_metric` a metric without a name": happened(
            lambda: library.fitted(verbose=True, log_metric=keras.metrics.CategoricalAccuracy())
        ),
        "`fit` on a `tf.data.Dataset`": happened(
            lambda: library.ae().fit(
                library.tensorflow.data.Dataset.from_tensor_slices(x).batch(16), epochs=1, verbose=False
            )
        ),
        "`predict` on no rows": happened(lambda: library.ae(threshold=1.0).predict(x[:0])),
        "rows of another width": happened(lambda: library.ae(threshold=1.0).predict(x[:, :5])),
        "`ModelDistillation` of a function from rows to probabilities": happened(
            lambda: library.md(model=lambda rows: np.asarray(function(rows))).fit(x, epochs=1, verbose=False)
        ),
        '`hidden_layer_kld={"hidden": 4}`, a layer by its name': happened(lambda: named_layer(library)),
        "`temperature=-1`": happened(sharpened),
        '`ModelDistillation(loss_type="other")`': happened(lambda: library.md(loss_type="other")),
        "`hidden_layer_kld` and `model_hl` together": happened(
            lambda: library.ae(hidden_layer_kld={0: 4}, model_hl=[library.network(3, end="softmax")])
        ),
        "`AdversarialAE` without an autoencoder": happened(lambda: library.ae(ae=None)),
        "`ModelDistillation` without a student": happened(lambda: library.md(distilled_model=None)),
        "classes of a classifier that ends in one sigmoid": happened(of_one_sigmoid),
        "a classifier of logits that is not said to be one": happened(logits),
        "largest score of rows times 1,000": happened(largest),
        "the settings of the constructor by position": happened(
            lambda: library.AE(1.0, library.network(4, 6, seed=2), library.classifier())
        ),
        "`fit` again from the same weights, with another global seed": happened(order),
        '`score` with `loss_type="xent"` instead of `"kld"`': happened(training_loss),
        "`ModelDistillation.correct`": happened(lambda: library.md(threshold=1.0).correct(x)),
    }


def named_layer(library: Library) -> None:
    """A head on a layer by its name."""
    layers = library.keras.layers
    model = library.keras.Sequential(
        [layers.Input((6,)), layers.Dense(8, "relu", name="hidden"), layers.Dense(3, "softmax")]
    )
    library.ae(model=model, hidden_layer_kld={"hidden": 4}).score(library.x)


def saving(library: Library) -> dict[str, str]:
    """What comes of saving and loading."""
    keras = library.keras

    def after(detector: Any) -> str:
        score = detector.score(library.x)  # before it is saved: a network that was never called may have no weights yet
        with tempfile.TemporaryDirectory() as folder:
            loaded = library.saved(detector, Path(folder) / "detector")
            difference = float(np.abs(loaded.score(library.x) - score).max())
            kinds = sorted({path.suffix for path in Path(folder).rglob("*") if path.suffix})
        return f"scores differ by {difference:.2g} at most; files: {', '.join(k for k in kinds if 'data-' not in k)}"

    two = {
        "encoder_net": keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(4, "relu")]),
        "decoder_net": keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(6)]),
    }
    return {
        "`AdversarialAE` saved and loaded": happened(lambda: after(library.ae(ae=None, **two, threshold=1.0))),
        "the same with `hidden_layer_kld`": happened(
            lambda: after(library.ae(ae=None, **two, threshold=1.0, hidden_layer_kld={0: 4}))
        ),
        "`ModelDistillation` saved and loaded": happened(lambda: after(library.md(threshold=1.0))),
    }


def scores(library: Library) -> dict[str, list[float]]:
    """On the same networks: as it comes, and by the published definition."""
    published: dict[str, Any] = {"score_type": "kld"} if library.is_demur else {}
    detectors = {"AdversarialAE, as it comes": library.ae(), "ModelDistillation, as it comes": library.md()}
    for temperature in (1.0, 0.5):
        settings = {**published, "temperature": temperature}
        detectors[f"AdversarialAE, published score, temperature {temperature:g}"] = library.ae(**settings)
        detectors[f"ModelDistillation, published score, temperature {temperature:g}"] = library.md(**settings)
    return {name: detector.score(0.3 * library.x).astype(float).tolist() for name, detector in detectors.items()}


def described(name: str, only_saving: bool) -> dict[str, Any]:
    """Everything about one library, asked in its own process."""
    library = Library(name)
    if only_saving:
        return {"saving": saving(library)}
    package, use = (
        ("demur", "demur.ModelDistillation(model=lambda rows: rows)")
        if library.is_demur
        else ("alibi_detect.ad", "alibi_detect.ad.ModelDistillation(model=lambda rows: rows)")
    )
    alone = subprocess.run(
        [sys.executable, "-c", NO_TENSORFLOW.format(package, use)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    without = alone.stdout.strip() or alone.stderr.strip().splitlines()[-1].split(":")[0].split(".")[-1]
    packages = ["demur" if library.is_demur else "alibi-detect", "tensorflow-cpu", "keras"]
    return {
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "arguments": signatures(library),
        "results": keys(library),
        "seen": {"a detector in an environment without TensorFlow": without, **seen(library)},
        "saving": saving(library),
        "scores": scores(library),
    }


def asked(python: str, name: str, **environment: str) -> dict[str, Any]:
    """What that interpreter says of that library."""
    command = [python, __file__, "--describe", name, *(["--only-saving"] if environment else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer",
        metavar="PYTHON",
        help="the interpreter of an environment with alibi-detect; without it, what demur takes and returns is renewed",
    )
    parser.add_argument("--describe", choices=("demur", "alibi-detect"), help=argparse.SUPPRESS)
    parser.add_argument("--only-saving", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.describe:
        logging.disable(logging.WARNING)
        print("\n" + json.dumps(described(arguments.describe, arguments.only_saving)))
        return 0
    ours = asked(sys.executable, "demur")
    if arguments.peer is None:
        known = json.loads(FILE.read_text(encoding="utf-8"))
        for key in ("versions", "arguments", "results"):
            known[key]["demur"] = ours[key]
        FILE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        return 0
    theirs = asked(arguments.peer, "alibi-detect")
    legacy = asked(arguments.peer, "alibi-detect", TF_USE_LEGACY_KERAS="1")
    differences = {
        name: float(np.abs(np.subtract(one, theirs["scores"][name])).max()) for name, one in ours["scores"].items()
    }
    both = {key: {"alibi-detect": theirs[key], "demur": ours[key]} for key in ("versions", "arguments", "results")}
    rows = {what: {"alibi-detect": theirs["seen"][what], "demur": found} for what, found in ours["seen"].items()}
    for what, found in ours["saving"].items():
        rows[f"{what}, Keras 3"] = {"alibi-detect": theirs["saving"][what], "demur": found}
        rows[f"{what}, Keras 2"] = {"alibi-detect": legacy["saving"][what], "demur": "not tried: it needs Keras 3"}
    FILE.write_text(
        json.dumps({**both, "seen": rows, "largest_differences_of_scores": differences}, indent=1) + "\n",
        encoding="utf-8",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
