"""A saved detector, served as it is: Keras computes. With the interface of a guard in an ONNX file."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demur.errors import NotADetector, ThresholdNotSet
from demur.rows.layout import Columns, Field, Layout, finite_rows
from demur.rows.texts import Text
from demur.serve.serving.models import DOCUMENT
from demur.serve.serving.protocol import Array

ON_DEMAND = ("reference", "opinion", "reconstruction")


class LiveGuard:
    """A detector from its folder as a guard; see `demur.runtime.Guard` for what that is.

    Args:
        path: the folder.
        load_model: starts Keras and loads the classifier, if the folder does not hold it.

    Raises:
        NotFitted: the detector's companion has not been trained.
        ThresholdNotSet: the detector has no threshold, so there are no verdicts.
        NotADetector: it is one of rows that no tensors are: a table, or arrays of unknown types.
    """

    takes_reference = False

    def __init__(self, path: Path, load_model: Callable[[], Any] | None = None) -> None:
        from demur.starting import start_keras

        model = None if load_model is None else load_model()
        start_keras()
        from demur.detectors.loading import load_detector

        self.path, self.name = path, path.resolve().name
        self._detector: Any = load_detector(path, model=model)
        # It names all other files with their checksums, which were just compared.
        self.sha256 = hashlib.sha256((path / DOCUMENT).read_bytes()).hexdigest()
        self._detector.check_trained()
        if self._detector.threshold is None:
            raise ThresholdNotSet(f"{path} has no threshold: demur threshold {path} --data ... sets one")
        self.layout: Layout = self._detector.classifier.layout
        self.inputs = _fields(self.layout, path)
        self.detector = type(self._detector).__name__
        self.classes, self.labels = int(self._detector.classifier.classes), self._detector.labels
        self.threshold = self._detector.threshold
        self.calibration = self._detector.calibration
        self.on_invalid, self.scale = self._detector.on_invalid, self._detector.scale
        self.metadata = {"demur.detector": self.detector}
        self._lock = threading.Lock()
        self.outputs = self._outputs()
        self.default_outputs = tuple(name for name in self.outputs if name not in ON_DEMAND)

    def _outputs(self) -> dict[str, Field]:
        labels, floats = Field((), "int64"), Field((self.classes,), "float32")
        outputs = {"instance_score": Field((), "float32"), "is_adversarial": Field((), "bool")}
        if self.calibration is not None:
            outputs["p_value"] = Field((), "float64")
        outputs |= {"corrected": labels, "no_defense": labels, "defense": labels}
        outputs |= {"probabilities": floats, "reference": floats, "opinion": floats}
        if self._reconstructs:
            outputs["reconstruction"] = next(iter(self.inputs.values()))
        return outputs

    @property
    def _reconstructs(self) -> bool:
        fields = list(self.inputs.values())
        return hasattr(self._detector, "reconstruct") and len(fields) == 1 and len(fields[0].shape) == 3

    def run(
        self,
        feed: dict[str, Array],
        outputs: Sequence[str] | None = None,
        threshold: float | Array | None = None,
    ) -> dict[str, Array]:
        """One pass; see `demur.runtime.Guard.run`."""
        rows = self._rows(feed)
        with self._lock:
            scored = self._detector._scored(
                rows, len(next(iter(feed.values()))), False, flag_invalid=True, probabilities=True
            )
        score = np.array(scored.score, "float32")
        score[scored.invalid] = np.inf
        no_defense, defense = scored.y.argmax(axis=1), scored.y_opinion.argmax(axis=1)
        limit = np.asarray(self.threshold if threshold is None else threshold)
        found = {"instance_score": score, "no_defense": no_defense, "defense": defense}
        found["is_adversarial"], found["corrected"] = verdicts(score, no_defense, defense, limit)
        if self.calibration is not None:
            found["p_value"] = self.calibration.p_values(score, no_defense)
        corrected = (found["is_adversarial"] & np.isfinite(score))[:, None]
        classified = untempered(scored.y, self._detector.temperature)
        found["probabilities"] = np.where(corrected, scored.y_opinion, classified)
        found |= {"reference": scored.y, "opinion": scored.y_opinion}
        wanted = self.default_outputs if outputs is None else tuple(outputs)
        if "reconstruction" in wanted:
            found["reconstruction"] = self._reconstructed(rows)
        return {name: found[name] for name in wanted}

    def _reconstructed(self, rows: Array) -> Array:
        """Reconstructions; of a row that holds NaN or infinity, nothing but NaN."""
        able = finite_rows(rows)
        with self._lock:
            made = self._detector.reconstruct(np.where(able.reshape(-1, 1, 1, 1), rows, np.zeros((), rows.dtype)))
        found = np.array(made, "float32")
        found[~able] = np.nan
        return found

    def _rows(self, feed: dict[str, Array]) -> Any:
        if isinstance(self.layout, dict):
            return feed
        arrays = tuple(feed.values())
        return arrays if isinstance(self.layout, tuple) else arrays[0]


def verdicts(score: Array, no_defense: Array, defense: Array, threshold: Any) -> tuple[Array, Array]:
    """Which rows are flagged, and the class of each after that.

    Args:
        score: `(n,)`; infinite where a row cannot be judged.
        no_defense: `(n,)`, the classifier's classes.
        defense: `(n,)`, the opinion's.
        threshold: in nats: a number, or `(classes,)`, for each predicted class.
    """
    limit = np.asarray(threshold)
    judged = np.isfinite(score)
    flagged = ~judged | (score > (limit[no_defense] if limit.ndim else limit))
    return flagged, np.where(flagged & judged, defense, no_defense)


def untempered(probabilities: Array, temperature: float) -> Array:
    """The distributions, `(n, classes)`, that a temperature made these of."""
    if temperature == 1.0:
        return probabilities
    with np.errstate(divide="ignore"):
        logits = temperature * np.log(probabilities)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Array = (weights / weights.sum(axis=1, keepdims=True)).astype("float32")
    return found


def _fields(layout: Layout, path: Path) -> dict[str, Field]:
    """Name the arrays that a row is made of, as an export does."""
    if isinstance(layout, Columns | Text):
        what = "texts" if isinstance(layout, Text) else "tables with named columns"
        raise NotADetector(f"{path} is a detector of {what}, which the protocol's tensors are not")
    if isinstance(layout, dict):
        named = layout
    elif isinstance(layout, Field):
        named = {"x": layout}
    else:
        named = {f"x{number}": field for number, field in enumerate(layout)}
    return {name: Field(field.shape, field.dtype or "float32") for name, field in named.items()}
