"""What an attacker attacks: a guarded classifier, as differentiable functions of a batch, and the verdict on rows."""

import contextlib
import math
import random
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from keras import ops

from demur import backends
from demur.backends.divergence import Tensor
from demur.classifiers import GraphClassifier
from demur.detectors.base import Detector
from demur.network.graph import Half, compiled
from demur.network.passes import joined, over_batches
from demur.rows.layout import Field
from demur.rows.rows import Rows
from demur.rows.sources import as_source

Array = npt.NDArray[Any]


class TimeIsUp(Exception):
    """An attack goes on after the deadline, and is given up."""


class Look(NamedTuple):
    """What the guarded classifier says of a batch, differentiable."""

    score: Tensor
    """`(n,)`, in nats."""
    reference: Tensor
    """The classifier's log-probabilities `(n, classes)`, sharpened by the temperature."""
    opinion: Tensor
    """The companion's log-probabilities."""


class Verdict(NamedTuple):
    """What becomes of rows; arrays are `(n,)`."""

    score: Array
    """In nats."""
    reference: Array
    """The index of the classifier's class."""
    opinion: Array
    """The index of the companion's class."""
    flagged: Array

    @property
    def final(self) -> Array:
        """The class that a user of `correct` gets, `(n,)`."""
        return np.where(self.flagged, self.opinion, self.reference)


class Target:
    """A guarded classifier, as attackers see it.

    Examples:
        >>> target = Target(detector, bounds=(0, 1))
        >>> target.is_open, target.verdict(X_new).final.shape
        (True, (40,))

    Args:
        detector: ready and with a threshold.
        bounds: smallest and largest value of a number in a row.

    Attributes:
        is_open: whether there are gradients: the classifier is in the graph, and rows are one array of floating-point
            numbers.
        is_one_array: whether rows are one array of numbers.
        is_continuous: whether these are floating-point numbers, unlike tokens.
        draws: how often a random guard is asked, to average over (Athalye et al., 2018, arXiv:1707.07397).
        deadline: in the time of `time.monotonic`; attacks must end then.
    """

    def __init__(self, detector: Detector, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
        self.detector, self.bounds = detector, (float(bounds[0]), float(bounds[1]))
        self.classifier, self.layout = detector.classifier, detector.classifier.layout
        self.is_one_array = isinstance(self.layout, Field)
        self.is_continuous = self.is_one_array and (self.layout.dtype or "float32").startswith(("float", "bfloat"))
        self.is_open = isinstance(self.classifier, GraphClassifier) and self.is_continuous
        self.classes = int(self.classifier.classes)
        self.draws = 10 if getattr(detector, "is_random", False) else 1
        self.deadline = math.inf
        self._compiled: dict[Hashable, Any] = {}

    def check_time(self) -> None:
        """Raise TimeIsUp after the deadline. What attacks call again and again calls this, so that they end in time."""
        if time.monotonic() > self.deadline:
            raise TimeIsUp

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once for each key: compiled for the first rows, and used for all."""
        if key not in self._compiled:
            self._compiled[key] = make()
        return self._compiled[key]

    @property
    def generators(self) -> list[Any]:
        """The states of the generators of a random guard, which change whenever the guard is asked."""
        if self.draws == 1:
            return []
        return [variable for variable in self.detector.graph.variables if "seed_generator" in variable.path]

    def look(self, x: Tensor) -> Look:
        """What classifier and companion say of a batch of tensors, with gradients."""
        views = self.detector.views
        reference, opinion = views.reference(x), views.opinion(x, False).log_probabilities
        return Look(views.score(reference, opinion), reference[0], opinion[0])

    def log_probabilities(self, x: Tensor) -> Tensor:
        """The classifier's log-probabilities `(n, classes)` of a batch of tensors, as a grey-box attacker has them."""
        return self.classifier(x, training=False)[0]

    def classifier_outputs(self, X: Any, batch_size: int = 256) -> list[Array]:
        """The classifier's log-probabilities `(n, classes)` and, where it is in the graph, what it returned."""
        self.check_time()
        classifier = self.classifier
        if not isinstance(classifier, GraphClassifier):
            return [classifier.log_probabilities(Rows(X, self.layout))]

        def both(x: Tensor) -> list[Tensor]:
            return [classifier(x, training=False)[0], ops.cast(classifier.outputs(x)[0], "float32")]

        network = self.once("classifier", lambda: compiled(Half(both, classifier.tracked()), self.layout))
        return joined(over_batches(network, as_source(X, self.layout), batch_size))

    def verdict(self, X: Any, batch_size: int = 256) -> Verdict:
        """What becomes of rows at the detector's threshold."""
        self.check_time()
        scored, data, _ = self.detector.answered(X, batch_size=batch_size)
        return Verdict(np.asarray(scored.score, "float64"), scored.y, scored.y_opinion, data["is_adversarial"])

    def limits(self, predicted: Array) -> Array:
        """The threshold for each predicted class: `(n,)`."""
        threshold = np.asarray(self.detector.threshold, "float64")
        return np.asarray(threshold[predicted] if threshold.ndim else np.full(len(predicted), threshold))

    def rows(self, X: Any) -> Array:
        """Rows as attacks change them: one array, float32."""
        return np.array(Rows(np.asarray(X), self.layout).cast().raw, "float32")

    def clipped(self, x: Array) -> Array:
        """Rows within the bounds."""
        return np.clip(x, *self.bounds)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While it lasts, every global generator starts at a seed; afterwards they are as they were."""
    state, python = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        with backends.current().seeded(seed):
            yield
    finally:
        np.random.set_state(state)
        random.setstate(python)
