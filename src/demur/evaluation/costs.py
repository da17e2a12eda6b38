"""What guarding costs, in time."""

import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

from demur.classifiers import GraphClassifier
from demur.evaluation.result import Cost
from demur.evaluation.target import Target
from demur.network.graph import Half, compiled
from demur.network.scoring import over_batches
from demur.rows.sources import as_source


def cost_of(target: Target, X: Any, *, batch: int = 256, repeats: int = 5, within: float = math.inf) -> Cost:
    """Median milliseconds a row of the classifier alone and of `correct`, which guards it; they take turns.

    Args:
        target: the guarded classifier.
        X: test rows; the first ones are used.
        batch: rows of the larger batch.
        repeats: how often each is timed, after a first time that is not.
        within: seconds after which each is timed once at least, but not repeated any more.
    """
    end = time.monotonic() + within
    many = X[:batch]
    one = X[:1]
    alone = _alone(target)
    found = {}
    for name, rows in (("one", one), ("batch", many)):
        n = len(rows)
        contenders: dict[str, Callable[[Any], Any]] = {
            "classifier": alone,
            "guarded": functools.partial(target.detector.correct, batch_size=batch),
        }
        times: dict[str, list[float]] = {contender: [] for contender in contenders}
        for done in range(repeats + 1):
            if done > 1 and time.monotonic() > end:
                break
            for contender, run in contenders.items():
                started = time.perf_counter()
                run(rows)
                times[contender].append(1000 * (time.perf_counter() - started) / n)
        for contender, values in times.items():
            found[f"{contender}_{name}"] = statistics.median(values[1:])
    return Cost(batch=len(many), **found)


def _alone(target: Target) -> Callable[[Any], Any]:
    """The classifier alone, as fast as it goes."""
    classifier = target.classifier
    if not isinstance(classifier, GraphClassifier):
        return classifier.log_probabilities  # type: ignore[no-any-return]
    network = compiled(Half(lambda x: classifier(x, training=False)[:1], classifier.tracked()), target.layout)
    return lambda rows: list(over_batches(network, as_source(rows, target.layout), 256))
