"""What things cost in time, as far as it has been measured, and trying threats within a time budget."""

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from demur.calibration.metrics import evaluate_scores
from demur.classifiers import GraphClassifier
from demur.evaluation.baselines import Baseline, scores_of
from demur.evaluation.reporter import Reporter
from demur.evaluation.result import Cost, Knowledge
from demur.evaluation.schedule import FEWEST, TINY, Price, in_order, is_worthwhile, scheduled
from demur.evaluation.target import Target
from demur.evaluation.trial import Trial
from demur.network.graph import Half, compiled
from demur.network.passes import over_batches
from demur.rows.rows import Rows
from demur.rows.sources import as_source

WEIGHTS: Mapping[Knowledge, float] = {"white-box": 10.0, "grey-box": 1.0, "black-box": 1.0, "corruption": 0.04}
"""How much threats matter: attackers who know the guard most, 95 corruptions together as much as four attacks."""
LEAST = 0.1
"""Share of the expected cost of a threat that it costs at least, however cheap the threats before it were."""


def cost_of(target: Target, X: Rows, *, batch: int = 256, repeats: int = 5, within: float = math.inf) -> Cost:
    """Median milliseconds a row of the classifier alone and of `correct`, which guards it; they take turns.

    After a first time that does not count, each is timed `repeats` times, or once after `within` seconds.
    """
    end = time.monotonic() + within
    many = X[:batch]
    guarded = functools.partial(target.detector.correct, batch_size=batch)
    contenders: dict[str, Callable[[Any], Any]] = {"classifier": _alone(target), "guarded": guarded}
    found: dict[str, float] = {}
    for name, rows in (("one", X[:1]), ("batch", many)):
        times: dict[str, list[float]] = {contender: [] for contender in contenders}
        for done in range(repeats + 1):
            if done > 1 and time.monotonic() > end:
                break
            for contender, run in contenders.items():
                started = time.perf_counter()
                run(rows)
                times[contender].append(1000 * (time.perf_counter() - started) / len(rows))
        found |= {f"{contender}_{name}": statistics.median(values[1:]) for contender, values in times.items()}
    return Cost(batch=len(many), **found)


def _alone(target: Target) -> Callable[[Any], Any]:
    """The classifier alone, as fast as it goes."""
    classifier = target.classifier
    if not isinstance(classifier, GraphClassifier):
        return classifier.log_probabilities  # type: ignore[no-any-return]
    network = compiled(Half(lambda x: classifier(x, training=False)[:1], classifier.tracked()), target.layout)
    return lambda rows: list(over_batches(network, as_source(rows, target.layout), 256))


class Pace:
    """Seconds that things take.

    Args:
        compiling: of compiling a network.
        a_pass: of a row forward and back through what an attacker attacks, by what the attacker knows.
        scoring: of a row, with the scores of the baselines.
        figures: of a threat's figures, for each row of the threat and each unchanged row.
    """

    def __init__(self, compiling: float, a_pass: Mapping[Knowledge, float], scoring: float, figures: float) -> None:
        self.compiling, self.a_pass, self.scoring, self.figures = compiling, a_pass, scoring, figures
        self.expected: dict[Knowledge, float] = {}
        self.took: dict[Knowledge, float] = {}

    @classmethod
    def measured(cls, target: Target, X: Rows, compared: Sequence[Baseline], cost: Cost, resamples: int) -> Self:
        """What things take on the first rows."""
        rows, some = X[:FEWEST].raw, np.arange(200.0)

        def scores() -> None:
            target.verdict(rows)
            scores_of(compared, rows, target.classifier_outputs(rows))

        first, again = _timed(scores, 1), _timed(scores, 3)
        figures = _timed(lambda: evaluate_scores(some, some, resamples=resamples), 5) / (2 * len(some))
        # Forward and back takes about two and a half times as long as forward alone.
        alone, guarded = (2.5e-3 * milliseconds for milliseconds in (cost.classifier_batch, cost.guarded_batch))
        a_pass: dict[Knowledge, float] = dict.fromkeys(("grey-box", "black-box", "corruption"), alone)
        return cls(
            max(0.0, first - again),
            a_pass | {"white-box": guarded},
            again / min(FEWEST, len(X)),
            (2 * len(compared) + 3) * figures,
        )

    def price(self, trial: Trial) -> Price:
        """What a threat costs: as its last rows did or, before the first, by its number of passes.

        Where the number of passes was wrong for earlier threats of the same knowledge, it is corrected by as much.
        """
        threat, knows = trial.threat, trial.threat.knowledge
        price = Price(
            trial.most,
            trial.a_row,
            tried=trial.tried,
            kind=knows,
            weight=WEIGHTS[knows],
            for_the_curve=threat.for_the_curve and not threat.for_a_check,
        )
        if price.tried:
            return price
        factor = max(LEAST, self.took[knows] / self.expected[knows]) if knows in self.took else 1.0
        return price._replace(
            a_row=factor * threat.passes * self.a_pass[knows] + self.scoring,
            start=factor * self._compiling(knows) + self.figures_of(trial, price.fewest),
        )

    def unchanged_rows(self, seconds: float, threats: int) -> int:
        """On how many rows at most neither their scores nor the figures of the threats take longer than this."""
        return max(FEWEST, int(seconds / max(self.scoring, self.figures * threats)))

    def figures_of(self, trial: Trial, rows: int) -> float:
        """Seconds for the figures of a threat that was tried on so many rows."""
        return self.figures * (len(trial.scene.unchanged.y) + rows)

    def _compiling(self, knows: Knowledge) -> float:
        return 0.0 if knows == "corruption" else self.compiling

    def learn(self, trial: Trial, seconds: float) -> None:
        """Compare what the first rows of a threat took with what was expected."""
        knows, rows = trial.threat.knowledge, trial.tried
        expected = self._compiling(knows) + rows * trial.threat.passes * self.a_pass[knows] + TINY
        self.expected[knows] = self.expected.get(knows, 0.0) + expected
        self.took[knows] = self.took.get(knows, 0.0) + max(0.0, seconds - rows * self.scoring)


def _timed(run: Callable[[], Any], repeats: int) -> float:
    """The median of the seconds that a call takes."""
    times = []
    for _ in range(repeats):
        started = time.monotonic()
        run()
        times.append(time.monotonic() - started)
    return statistics.median(times)


def try_in_time(trials: Sequence[Trial], pace: Pace, end: float, reporter: Reporter) -> None:
    """Try threats until the time is over: first each on the fewest rows, then on more, as `scheduled` says.

    The end is in the time of `time.monotonic`; the figures of what was tried are done by then, too.
    """

    def plan() -> tuple[list[Price], list[int]]:
        prices = [pace.price(trial) for trial in trials]
        return prices, scheduled(prices, left())

    def left() -> float:
        return end - time.monotonic() - sum(pace.figures_of(trial, trial.tried) for trial in trials if trial.tried)

    def extended(i: int, most: int) -> bool:
        trial, started, deadline = trials[i], time.monotonic(), time.monotonic() + left()
        before, rows = trial.tried, min(most, plan()[1][i])
        if rows > before:
            with reporter.counting(trial.threat.title, rows - before) as count:
                trial.extend(rows, deadline=deadline, count=count)
        if trial.tried > before == 0 and trial.is_new:
            pace.learn(trial, time.monotonic() - started)
        return trial.tried > before

    order = in_order(plan()[0])
    for i in order:
        price = pace.price(trials[i])
        if not price.for_the_curve:
            extended(i, price.fewest)
    goes_on = True
    while goes_on:
        prices, rows = plan()
        goes_on = max([extended(i, rows[i]) for i in order if is_worthwhile(prices[i], rows[i])], default=False)
