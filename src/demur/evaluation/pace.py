"""What threats cost, as far as it has been measured, and trying them within a time budget."""

import time
from collections.abc import Mapping, Sequence

from demur.evaluation.reporting import Reporter
from demur.evaluation.result import Knowledge
from demur.evaluation.schedule import FEWEST, TINY, Price, in_order, is_worthwhile, scheduled
from demur.evaluation.trial import Trial

WEIGHTS: Mapping[Knowledge, float] = {"white-box": 10.0, "grey-box": 1.0, "black-box": 1.0, "corruption": 0.04}
"""How much threats matter: attackers who know the guard most, 95 corruptions together as much as four attacks."""
LEAST = 0.1
"""Share of what a threat is expected to cost that it costs at least, however cheap those before it were."""


class Pace:
    """Seconds that things take.

    Args:
        compiling: a network.
        a_pass: of a row forward and back through what an attacker attacks, by what the attacker knows.
        scoring: a row, with the scores of the baselines.
        figures: of a threat, for each row of it and each unchanged row.
    """

    def __init__(self, compiling: float, a_pass: Mapping[Knowledge, float], scoring: float, figures: float) -> None:
        self.compiling, self.a_pass, self.scoring, self.figures = compiling, a_pass, scoring, figures
        self.expected: dict[Knowledge, float] = {}
        self.took: dict[Knowledge, float] = {}

    def price(self, trial: Trial) -> Price:
        """What a threat costs: as its last rows did or, before it has been tried, by its number of passes.

        How wrong the number of passes was for the threats before it, of attackers who know the same, is made up for.
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
        """On how many rows at most neither their own scores nor the figures of threats take more than some seconds."""
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


def try_in_time(trials: Sequence[Trial], pace: Pace, end: float, reporter: Reporter) -> None:
    """Try threats until the time is over: first each on the fewest rows, then on more, as `scheduled` says.

    Args:
        trials: the threats.
        pace: what they cost.
        end: what `time.monotonic` says then; the figures of what was tried are done by then, too.
        reporter: is told.
    """

    def prices() -> list[Price]:
        return [pace.price(trial) for trial in trials]

    def left() -> float:
        return end - time.monotonic() - sum(pace.figures_of(trial, trial.tried) for trial in trials if trial.tried)

    def extended(i: int, most: int) -> bool:
        trial, started, seconds = trials[i], time.monotonic(), left()
        before, rows = trial.tried, min(most, scheduled(prices(), seconds)[i])
        if rows > before:
            with reporter.counting(trial.threat.title, rows - before) as count:
                trial.extend(rows, deadline=started + seconds, count=count)
        if trial.tried > before == 0 and trial.is_new:
            pace.learn(trial, time.monotonic() - started)
        return trial.tried > before

    order = in_order(prices())
    for i in order:
        price = pace.price(trials[i])
        if not price.for_the_curve:
            extended(i, price.fewest)
    goes_on = True
    while goes_on:
        plan = list(zip(prices(), scheduled(prices(), left()), strict=True))
        goes_on = max([extended(i, plan[i][1]) for i in order if is_worthwhile(*plan[i])], default=False)
