"""A saved detector, served without export: Keras computes."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demur.errors import NotADetector, ThresholdNotSet
from demur.guards.decision import correction, decide
from demur.guards.results import Scored
from demur.guards.tensors import Array, TensorGuard
from demur.rows.layout import Columns, Field, Layout
from demur.rows.rows import finite_rows
from demur.rows.texts import Text
from demur.serve.serving.models import DOCUMENT

ON_DEMAND = ("reference", "opinion", "reconstruction")


class ServedDetector(TensorGuard):
    """A detector from a folder, for named arrays.

    Args:
        path: the folder.
        load_model: starts Keras and loads the classifier; None where the folder has the classifier.

    Raises:
        NotFitted: the detector's companion has not been trained.
        ThresholdNotSet: the detector has no threshold, so there are no verdicts.
        NotADetector: the detector takes tables with named columns or texts, which are not tensors.
    """

    def __init__(self, path: Path, load_model: Callable[[], Any] | None = None) -> None:
        from demur.starting import start_keras

        model = None if load_model is None else load_model()
        start_keras()
        from demur.detectors.saved import load_detector

        self.path, self.name = path, path.resolve().name
        self._detector = load_detector(path, model=model)
        # The file lists all others with their checksums, which were just compared.
        self.sha256 = hashlib.sha256((path / DOCUMENT).read_bytes()).hexdigest()
        self._detector.check_trained()
        super().__init__(self._detector.description)
        if self.threshold is None:
            raise ThresholdNotSet(f"{path} has no threshold: demur threshold {path} --data ... sets one")
        self.inputs = _fields(self.layout, path)
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
        first, *others = self.inputs.values()
        if self._detector.reconstructs and not others and len(first.shape) == 3:
            outputs["reconstruction"] = first
        return outputs

    def scored(self, X: Any, **settings: Any) -> Scored:
        """See `demur.guards.base.Guard.scored`."""
        with self._lock:
            return self._detector.scored(X, **settings)

    def run(
        self,
        feed: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        threshold: float | Array | None = None,
    ) -> dict[str, Array]:
        """One pass; see `TensorGuard.run`."""
        rows = self._rows(feed)
        found = self.scored(rows, batch_size=len(next(iter(feed.values()))), probabilities=True, flag_invalid=True)
        score = found.score.astype("float32", copy=False)
        scored = Scored(score, found.y.argmax(axis=1), found.y_opinion.argmax(axis=1), found.invalid)
        limit = self.threshold if threshold is None else threshold
        answers: Any = correction(scored, self.decided(scored, limit), all_predictions=True)
        corrected = (answers["is_adversarial"] & np.isfinite(score))[:, None]
        classified = untempered(found.y, self.temperature)
        answers["probabilities"] = np.where(corrected, found.y_opinion, classified)
        answers |= {"reference": found.y, "opinion": found.y_opinion}
        wanted = self.default_outputs if outputs is None else tuple(outputs)
        if "reconstruction" in wanted:
            answers["reconstruction"] = self._reconstructed(rows)
        return {name: answers[name] for name in wanted}

    def _reconstructed(self, rows: Array) -> Array:
        """Reconstructions; a row with NaN or infinity becomes all NaN."""
        able = finite_rows(rows)
        with self._lock:
            detector: Any = self._detector
            made = detector.reconstruct(np.where(able.reshape(-1, 1, 1, 1), rows, np.zeros((), rows.dtype)))
        found = np.array(made, "float32")
        found[~able] = np.nan
        return found

    def _rows(self, feed: Mapping[str, Array]) -> Any:
        if isinstance(self.layout, dict):
            return dict(feed)
        arrays = tuple(feed.values())
        return arrays if isinstance(self.layout, tuple) else arrays[0]


def verdicts(score: Array, no_defense: Array, defense: Array, threshold: Any) -> tuple[Array, Array]:
    """Which rows are flagged, and the corrected class of each.

    Args:
        score: `(n,)`; infinite where a row cannot be judged.
        no_defense: `(n,)`, the classes of the classifier.
        defense: `(n,)`, the classes of the opinion.
        threshold: in nats: a number, or `(classes,)`, for each predicted class.
    """
    scored = Scored(score, no_defense, defense, np.flatnonzero(~np.isfinite(score)))
    limit = np.asarray(threshold)
    flagged = decide(scored, limit if limit.ndim else float(limit), None, None, 0.05)
    return flagged["is_adversarial"], correction(scored, flagged, all_predictions=False)["corrected"]


def untempered(probabilities: Array, temperature: float) -> Array:
    """Distributions, `(n, classes)`, as they were before a temperature sharpened or flattened them."""
    if temperature == 1.0:
        return probabilities
    with np.errstate(divide="ignore"):
        logits = temperature * np.log(probabilities)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Array = (weights / weights.sum(axis=1, keepdims=True)).astype("float32")
    return found


def _fields(layout: Layout, path: Path) -> dict[str, Field]:
    """The arrays of a row, named as an export names them."""
    if isinstance(layout, Columns | Text):
        what = "texts" if isinstance(layout, Text) else "tables with named columns"
        raise NotADetector(f"{path} is a detector of {what}, which are not tensors of the protocol")
    if isinstance(layout, dict):
        named = layout
    elif isinstance(layout, Field):
        named = {"x": layout}
    else:
        named = {f"x{number}": field for number, field in enumerate(layout)}
    return {name: Field(field.shape, field.dtype or "float32") for name, field in named.items()}
