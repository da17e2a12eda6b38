"""Simpler scores, which a guard must beat to be worth the cost. A new score is a class."""

import abc
import copy
import math
import time
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from scipy.ndimage import median_filter
from scipy.special import logsumexp

from demur.backends import current
from demur.calibration.words import grouped
from demur.checks import chosen
from demur.detectors.copies import with_companion
from demur.errors import WrongType
from demur.evaluation.reporter import Reporter
from demur.evaluation.target import Array, Target, seeded
from demur.extensions import Registry
from demur.network import nets
from demur.network.companion import is_wrapped
from demur.network.graph import compiled
from demur.network.passes import joined, over_batches
from demur.private import functional_of, without_tensorflow
from demur.rows.layout import Field
from demur.rows.rows import SOME
from demur.rows.sources import as_source


class Baseline(abc.ABC):
    """One score, the higher the more suspicious. A subclass registers under its `name`.

    Examples:
        >>> baseline = Baseline.registry["entropy"](Target(detector))
        >>> baseline.score(X_new, Target(detector).classifier_outputs(X_new)).shape
        (40,)

    Args:
        target: the guarded classifier.
        training_rows: normal rows, for a baseline that learns.
        seed: of all that is drawn.
    """

    registry: ClassVar[MutableMapping[str, type["Baseline"]]] = Registry(
        "demur.baselines", "demur.evaluation.baselines"
    )
    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            Baseline.registry[cls.name] = cls

    def __init__(self, target: Target, training_rows: Any = None, seed: int = 0) -> None:
        self.target, self.training_rows, self.seed = target, training_rows, seed

    @property
    def missing(self) -> str | None:
        """Why there is no such score for this target; None if there is."""
        return None

    def prepare(self) -> Iterable[float]:
        """Learn, before the first row is scored.

        Returns:
            Nothing where this is done at once; otherwise a generator that learns step by step and yields the share that
            is done.
        """
        return ()

    @abc.abstractmethod
    def score(self, X: Any, outputs: list[Array]) -> Array:
        """Score rows.

        Args:
            X: the rows.
            outputs: the classifier's log-probabilities of the rows `(n, classes)` and, where the classifier is in the
                graph, what it returned.

        Returns:
            `(n,)`.
        """


class MaximumProbability(Baseline):
    """One minus the classifier's highest probability (Hendrycks & Gimpel, 2017, arXiv:1610.02136)."""

    name = "maximum probability"

    def score(self, X: Any, outputs: list[Array]) -> Array:
        # As the logarithm of the others' share, so that confident rows still differ.
        order = np.sort(outputs[0].astype("float64"), axis=1)
        return np.asarray(np.log(np.exp(order[:, :-1]).sum(axis=1) + 1e-300))


class Entropy(Baseline):
    """The entropy of the classifier's probabilities, in nats."""

    name = "entropy"

    def score(self, X: Any, outputs: list[Array]) -> Array:
        log_p = outputs[0].astype("float64")
        return np.asarray(-(np.exp(log_p) * log_p).sum(axis=1))


class Energy(Baseline):
    """Minus the logarithm of the summed exponentials of the logits (Liu et al., 2020, arXiv:2010.03759)."""

    name = "energy"

    @property
    def missing(self) -> str | None:
        is_logits = self.target.is_open and self.target.classifier.is_logits
        return None if is_logits else "the classifier shows probabilities, and energy needs logits"

    def score(self, X: Any, outputs: list[Array]) -> Array:
        logits = outputs[1].reshape(len(outputs[1]), -1).astype("float64")
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return np.asarray(-logsumexp(logits, axis=1))


class FeatureSqueezing(Baseline):
    """The largest L1 distance to the prediction on squeezed images (Xu, Evans & Qi, 2018, arXiv:1704.01155).

    Squeezed to one bit a pixel, or five for colour, and by a median over 2x2 pixels.
    """

    name = "feature squeezing"

    @property
    def missing(self) -> str | None:
        layout = self.target.layout
        is_image = isinstance(layout, Field) and len(layout.shape) == 3
        return None if is_image else "there is nothing to squeeze in rows that are no images"

    def score(self, X: Any, outputs: list[Array]) -> Array:
        x, (low, high) = np.asarray(X, "float32"), self.target.bounds
        channels_first = self.target.detector.channels_first
        is_colour = x.shape[1 if channels_first else -1] == 3
        levels = 2 ** (5 if is_colour else 1) - 1
        coarse = np.round((x - low) / (high - low) * levels) / levels * (high - low) + low
        window = (1, 1, 2, 2) if channels_first else (1, 2, 2, 1)
        p = np.exp(outputs[0])
        squeezed = (coarse.astype("float32"), median_filter(x, window, mode="nearest"))
        moved = [np.abs(np.exp(self.target.classifier_outputs(s)[0]) - p).sum(axis=1) for s in squeezed]
        return np.asarray(np.max(moved, axis=0), "float64")


class OrdinaryAutoencoder(Baseline):
    """The mean squared error of an autoencoder that learned to reconstruct, without the classifier."""

    name = "reconstruction error"

    @property
    def missing(self) -> str | None:
        if not self.target.is_one_array or self.target.layout.dtype in ("int32", "int64"):
            return "no ready autoencoder reconstructs such rows"
        return None if self.training_rows is not None else "an ordinary autoencoder must be trained: pass X_train="

    def prepare(self) -> Iterable[float]:
        """Train the autoencoder: ten epochs, at most 20,000 rows."""
        rng = np.random.default_rng(self.seed)
        X = self.target.rows(self.training_rows)
        X = X[rng.permutation(len(X))[:20_000]]
        channels_first = self.target.detector.channels_first
        self.network = nets.autoencoder(X.shape[1:], channels_first=channels_first, seed=self.seed)
        nets.set_scales(self.network, X[:SOME])
        self.network.compile("adam", "mse", jit_compile=current().xla)
        orders = [rng.permutation(len(X)) for _ in range(10)]
        batches = [order[begin : begin + 128] for order in orders for begin in range(0, len(X), 128)]
        for done, batch in enumerate(batches, start=1):
            self.network.train_on_batch(X[batch], X[batch])
            yield done / len(batches)
        self.layout = Field(X.shape[1:], "float32")
        self.reconstruct = compiled(self.network, self.layout)

    def score(self, X: Any, outputs: list[Array]) -> Array:
        x = self.target.rows(X)
        (made,) = joined(over_batches(self.reconstruct, as_source(x, self.layout), 256))
        return np.asarray(np.square(made - x).reshape(len(x), -1).mean(axis=1), "float64")


class UntrainedCompanion(Baseline):
    """The detector's own score with a companion that has learned nothing."""

    name = "untrained companion"

    @property
    def missing(self) -> str | None:
        companion = self.target.detector.companion
        is_plain = isinstance(companion, keras.Sequential) or type(companion).__name__ == "Functional"
        is_known = is_plain or is_wrapped(companion) or functional_of(companion) is not None
        return None if is_known else "a companion of a class of its own cannot be made anew"

    def prepare(self) -> Iterable[float]:
        detector = self.target.detector
        with seeded(self.seed):
            if is_wrapped(detector.companion):
                fresh = copy.deepcopy(detector.companion.module)
                for module in fresh.modules():
                    if hasattr(module, "reset_parameters"):
                        module.reset_parameters()
            else:
                with without_tensorflow():
                    fresh = keras.models.clone_model(detector.companion)
                nets.take_scales(fresh, detector.companion)
        self.detector = with_companion(detector, fresh)
        return ()

    def score(self, X: Any, outputs: list[Array]) -> Array:
        return np.asarray(self.detector.score(X), "float64")


def scores_of(baselines: Sequence[Baseline], X: Any, outputs: list[Array]) -> dict[str, Array]:
    """Scores of rows by the name of the baseline; NaN becomes infinity."""
    scores = {baseline.name: np.asarray(baseline.score(X, outputs), "float64") for baseline in baselines}
    return {name: np.where(np.isnan(found), math.inf, found) for name, found in scores.items()}


def baseline_names(asked: Any) -> list[str]:
    """The names of the baselines that were asked for: "default", None for none, a name or a list of names."""
    if asked is None or asked == "default":
        return [] if asked is None else list(Baseline.registry)
    if not isinstance(asked, list | tuple | str):
        raise WrongType(f"baselines is 'default', None or a list of names; got {asked!r}")
    names = [asked] if isinstance(asked, str) else asked
    return [chosen(name, Baseline.registry, "a baseline") for name in names]


def prepared(
    baselines: Iterable[Baseline], notes: list[str], reporter: Reporter, limit: float
) -> tuple[list[Baseline], list[str]]:
    """The baselines that are possible, ready, and the names of those whose training takes longer than the limit.

    The limit is in seconds; a note on baselines that are not possible is added to the notes.
    """
    found, missing, slow = [], [], []
    for baseline in baselines:
        if baseline.missing is not None:
            missing.append((baseline.name, baseline.missing))
        elif _is_prepared(baseline, reporter, limit):
            found.append(baseline)
        else:
            slow.append(baseline.name)
    if missing:
        notes.append(f"No comparison with {grouped(missing)}.")
    return found, slow


def _is_prepared(baseline: Baseline, reporter: Reporter, limit: float) -> bool:
    """Prepare a baseline, and give up as soon as this is seen to take longer than the limit, in seconds."""
    started, done, first = time.monotonic(), 0.0, (0.0, 0.0)
    with reporter.counting(f"baseline: {baseline.name}", 1) as count:
        for share in baseline.prepare():
            count(share - done)
            took = time.monotonic() - started
            # The first step is compiled, and tells little of the others.
            first, pace = (first, (took - first[1]) / (share - first[0])) if done else ((share, took), 0.0)
            done = share
            if took + pace * (1 - share) > limit and share < 1:
                return False
    return True
