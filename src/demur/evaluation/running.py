"""One call that tells what a guard is worth: every threat on every row, and the figures of all."""

import contextlib
import importlib.metadata
import itertools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from demur import backends, checks
from demur._version import __version__
from demur.calibration.metrics import evaluate_scores
from demur.calibration.wording import grouped
from demur.checks import check_whole, chosen, explained, seconds_of
from demur.detectors.base import Detector, check_detector
from demur.errors import InvalidSetting, ThresholdNotSet, WrongRows, WrongType
from demur.evaluation.attacks import Attack
from demur.evaluation.baselines import Baseline
from demur.evaluation.budgets import bounds_of, doubt_about, epsilons_of
from demur.evaluation.checks import check_all
from demur.evaluation.comparison import OWN, RIGHT_ROWS
from demur.evaluation.costs import cost_of
from demur.evaluation.measuring import Outcome, Unchanged, comparisons, threat_of, worst_cases
from demur.evaluation.norms import Norm
from demur.evaluation.omissions import omissions
from demur.evaluation.pace import Pace, try_in_time
from demur.evaluation.reporting import Reporter
from demur.evaluation.result import Check, Cost, Evaluation, Knowledge
from demur.evaluation.schedule import FEWEST
from demur.evaluation.store import Store, Stores, digest_of_classifier, digest_of_detector, digest_of_rows
from demur.evaluation.target import Array, Target, Verdict
from demur.evaluation.threats import Corruption, Threat, attacks_of, corruptions_of
from demur.evaluation.trial import CHUNK, Scene, Trial, scored
from demur.rows.classes import Classes
from demur.rows.rows import Rows
from demur.rows.sources import collected

SHARE = 0.1
"""Of a time budget: the most that unchanged rows may cost, and that the figures of all threats may."""
LEARNING = 0.2
"""Of a time budget: the most that the training of a baseline may cost."""


@explained
def evaluate(
    detector: Detector,
    X: Any,
    y: Any = None,
    *,
    attacks: Sequence[Any] | Literal["default"] | None = "default",
    corruptions: Sequence[str] | Mapping[str, Any] | Literal["default"] | None = "default",
    baselines: Sequence[str] | Literal["default"] | None = "default",
    budget: float | str | None = None,
    epsilons: Mapping[str, float] | None = None,
    bounds: tuple[float, float] | None = None,
    X_train: Any = None,
    y_train: Any = None,
    class_names: Sequence[str] | None = None,
    out: str | Path | None = None,
    resamples: int = 200,
    seed: int = 0,
    verbose: bool = True,
) -> Evaluation:
    """Tell how much a guard is worth: against attackers who know it and who do not, and under corruption.

    Attacks change the rows that the classifier gets right; others count as they are. A report of the result is written
    by `demur.report.write_report` or `demur report`.

    Examples:
        >>> found = evaluate(detector, X_new, y_new, attacks=["FGSM"], corruptions=None, baselines=None, verbose=False)
        >>> found.rows, [threat.name for threat in found.threats][:1]
        (40, ['FGSM'])

    Args:
        detector: fitted, with a threshold from `infer_threshold`.
        X: `(n, *input_shape)`, test rows that neither training nor calibration has seen; or a stream or a data set of
            them, as `fit` takes it, which is put together in memory.
        y: `(n,)`, their true classes, as `detector.classes` calls them; None where `X` gives pairs of rows and labels.
        attacks: instances of `demur.evaluation.attacks.Attack` and names of attacks; None for none.
        corruptions: names of `demur.evaluation.corruptions`, or functions `X, severity, seed -> X` by name; None for
            none.
        baselines: names of scores to compare with, on the same rows; None for none.
        budget: how long it may take, such as "10min", or seconds. Each threat is then tried on at least 50 rows, and on
            as many more as fit, or left out: what is cheap and attackers who know the guard come first. One of the
            result's `notes` says what was cut.
        epsilons: the largest change that an attack may make, by norm ("Linf", "L2", "L1"), in the units of `X`; by
            default what is usual for such rows.
        bounds: the smallest and largest value of a number in `X`; by default 0 and 1 for images within them, and what
            is found in `X` otherwise.
        X_train: rows that the classifier was trained on, for the baselines that learn and for what is typical of a
            column. Rows of `X` that are among them are warned of.
        y_train: their true classes, to warn too if the classifier is as good on `X` as on them.
        class_names: what the report calls the classes; by default what `detector.classes` does.
        out: a folder for what is done so far: the same call goes on from there. `evaluation.json` is written there.
            Attacks that know only the classifier serve every detector of that classifier evaluated into the folder.
        resamples: of the bootstrap intervals.
        seed: of everything drawn.
        verbose: show what is being done.

    Returns:
        The evaluation; see `demur.evaluation.result.Evaluation`.

    Raises:
        NotFitted, ThresholdNotSet: the detector has not been trained, or has no threshold.
        CorruptEvaluation: attacked rows in `out` were made from other rows, labels or another classifier.
        ShapeMismatch, WrongType, InvalidSetting, EmptyInput, NonFinite: see `demur.errors`.

    Warns:
        WrongRows: rows are on another scale than those of `fit`, or among them or those of `X_train`, or `y` are the
            classes of other rows. The evaluation says so first of all, and it is a failed check.
    """
    started = time.monotonic()
    X, y = _checked(detector, X, y, resamples, seed)
    X_train = None if X_train is None else collected(X_train, detector.classifier.layout, "X_train")[0]
    asked = _asked(detector, X.raw, X_train, attacks, corruptions, baselines, epsilons, bounds, class_names)
    target, notes, seconds, folder = asked.target, asked.notes, _seconds(budget), _folder(out)
    with Reporter(verbose) as reporter:
        # One order for all threats, so that those tried on fewer rows are tried on the same ones.
        order = np.random.default_rng(seed).permutation(len(X))
        X, y = X[order], y[order]
        threats: list[Threat] = [*asked.attacks, *asked.corruptions]
        reporter.say("timing the classifier and the guard ...")
        cost = cost_of(target, X, within=SHARE * seconds / 2)
        compared, slow = _baselines(asked, X_train, seed, reporter, LEARNING * seconds)
        digest = digest_of_rows(X.raw, y)
        given, pace = len(y), None
        if seconds < math.inf:
            pace = _paced(target, X, compared, cost, resamples)
            used = min(given, pace.unchanged_rows(SHARE * seconds, len(threats)))
            X, y = X[:used], y[:used]
        unchanged = _unchanged(target, X, y, compared, reporter)
        with _told() as wrong_rows:
            detector.check_rows(X, unchanged.verdict.reference, y, X_train, y_train)
        stores = Stores() if folder is None else _stores(folder / "attacked", target, digest, unchanged, seed)
        scene = Scene(target, X, unchanged, compared, stores, seed)
        trials = [Trial(threat, scene) for threat in threats]
        if pace is not None:
            try_in_time(trials, pace, started + seconds, reporter)
        outcomes: list[Outcome] = []
        for title, severities in itertools.groupby(trials, _heading):
            found = []
            for trial in severities:
                if pace is None:
                    with reporter.counting(trial.threat.title, trial.most) as count:
                        trial.extend(trial.most, count=count)
                found += [trial.outcome()] if trial.tried else []
            if found:
                reporter.found(title, found)
            outcomes += found
        left_out = omissions(
            threats,
            [trial.tried for trial in trials],
            len(y),
            given,
            budget=None if pace is None else budget if isinstance(budget, str) else f"{seconds:g} s",
            baselines=slow,
        )
        notes += [] if left_out is None else [left_out]
        measured = []
        with reporter.counting("figures", len(outcomes)) as count:
            for outcome in outcomes:
                measured.append(threat_of(outcome, unchanged, resamples=resamples, seed=seed))
                count(1)
        evaluation = Evaluation(
            detector=type(detector).__name__,
            classifier=detector.classifier.title,
            data_type=detector.data_type,
            input_shape=list(asked.shape),
            class_names=asked.class_names,
            threshold=np.atleast_1d(np.asarray(detector.threshold, "float64")).tolist(),
            promised_fpr=None if detector.calibration is None else detector.calibration.fpr,
            rows=len(y),
            clean=unchanged.clean(),
            threats=measured,
            worst_cases=worst_cases(outcomes, unchanged, resamples=resamples, seed=seed),
            checks=[_rows_check(wrong_rows), *check_all(target, unchanged, outcomes)],
            cost=cost,
            settings={
                "attacks": [attack.settings for attack in asked.attacks],
                "corruptions": list(dict.fromkeys(corruption.name for corruption in asked.corruptions)),
                "epsilons": dict(asked.epsilons),
                "bounds": list(target.bounds),
                "budget": budget,
                "seed": seed,
                "resamples": resamples,
                "detector": detector.settings,
            },
            notes=notes,
            versions=_versions(),
            seconds=time.monotonic() - started,
            clean_detection={name: scores.tolist() for name, scores in unchanged.scores.items() if name != OWN},
            comparisons=comparisons(measured, outcomes, unchanged),
        )
    if folder is not None:
        evaluation.to_json(folder / "evaluation.json")
    return evaluation


@contextlib.contextmanager
def _told() -> Iterator[list[str]]:
    """What is warned of about the rows, for those who read the evaluation: filled when the block ends."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", WrongRows)
        yield told
    for warning in caught:
        if isinstance(warning.message, WrongRows):
            said = str(warning.message)
            told.append(f"{said[0].upper()}{said[1:]}.")
        checks.warn(warning.message)


def _rows_check(told: Sequence[str]) -> Check:
    """Whether anything was warned of about the rows."""
    fine = "Rows are on the scale of those of fit and not among them, and labels are not those of other rows."
    return Check(RIGHT_ROWS, not told, " ".join(told) or fine)


def _heading(trial: Trial) -> str:
    """What to call a threat; a corruption's severities have one heading."""
    return trial.threat.name if isinstance(trial.threat, Corruption) else trial.threat.title


def _seconds(budget: float | str | None) -> float:
    return math.inf if budget is None else seconds_of(budget, "budget")


def _checked(detector: Any, X: Any, y: Any, resamples: int, seed: int) -> tuple[Any, Array]:
    """Rows as the classifier takes them, and their classes."""
    check_detector(detector)
    detector.check_trained()
    if detector.threshold is None:
        raise ThresholdNotSet(
            f"{type(detector).__name__} has no threshold yet: call infer_threshold(X_held_out, fpr=0.05) first"
        )
    check_whole("resamples", resamples, 1)
    check_whole("seed", seed, 0)
    X = detector.ready_for(X)
    X, labels = collected(X, detector.classifier.layout, labels=y is None)
    X = Rows.of(X, detector.layout, finite=not detector.route.takes_missing)
    y = labels if y is None else y
    return X, detector.labels.indices(y, len(X))


class _Asked(NamedTuple):
    """What an evaluation shall do, checked."""

    target: Target
    shape: tuple[int, ...]
    """Of a row; empty where rows are not one array of numbers."""
    class_names: list[str]
    epsilons: dict[Norm, float]
    attacks: list[Attack]
    corruptions: list[Corruption]
    baselines: list[str]
    notes: list[str]
    """What is left out, and why."""


def _asked(
    detector: Detector,
    X: Any,
    X_train: Any,
    attacks: Any,
    corruptions: Any,
    baselines: Any,
    epsilons: Any,
    bounds: Any,
    names: Any,
) -> _Asked:
    notes: list[str] = []
    if X_train is not None:
        Rows.of(X_train, detector.layout, "X_train", finite=not detector.route.takes_missing)
    is_plain = _is_plain(detector)
    shape = tuple(detector.input_shape) if is_plain else ()
    target = Target(detector, bounds_of(bounds, X, shape) if is_plain else (0.0, 1.0))
    limits = epsilons_of(epsilons, shape, target.bounds)
    if epsilons is None and attacks is not None and len(shape) == 1 and target.is_continuous:
        doubt = doubt_about(X, limits)
        notes += [] if doubt is None else [doubt]
    return _Asked(
        target=target,
        shape=shape,
        class_names=_names(names, detector.labels),
        epsilons=limits,
        attacks=attacks_of(attacks, target, limits, notes),
        corruptions=corruptions_of(corruptions, target, X, X_train, notes),
        baselines=_baseline_names(baselines),
        notes=notes,
    )


def _is_plain(detector: Detector) -> bool:
    """Whether rows are one array of numbers."""
    shape = detector.input_shape
    return isinstance(shape, tuple) and all(isinstance(size, int) or size is None for size in shape)


def _names(given: Sequence[str] | None, classes: Classes) -> list[str]:
    if given is None:
        return classes.all_names
    if len(given) != classes.count:
        raise InvalidSetting(f"class_names needs a name for each of the {classes.count} classes; got {len(given)}")
    return [str(name) for name in given]


def _baseline_names(asked: Any) -> list[str]:
    if asked is None or asked == "default":
        return [] if asked is None else list(Baseline.registry)
    if not isinstance(asked, list | tuple | str):
        raise WrongType(f"baselines is 'default', None or a list of names; got {asked!r}")
    names = [asked] if isinstance(asked, str) else asked
    return [chosen(name, Baseline.registry, "a baseline") for name in names]


def _folder(out: Any) -> Path | None:
    """The folder for what is done so far, made if it does not exist."""
    if out is None:
        return None
    if not isinstance(out, str | Path):
        raise WrongType(f"out is the path of a folder; got {out!r}")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InvalidSetting(f"out is a folder, and {folder} is a file: name another")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _baselines(
    asked: _Asked, training_rows: Any, seed: int, reporter: Reporter, limit: float
) -> tuple[list[Baseline], list[str]]:
    """Those that can be had, ready, and the names of those whose training would take longer than the limit."""
    found, missing, slow = [], [], []
    for name in asked.baselines:
        baseline = Baseline.registry[name](asked.target, training_rows, seed)
        if baseline.missing is not None:
            missing.append((name, baseline.missing))
        elif _is_prepared(baseline, reporter, limit):
            found.append(baseline)
        else:
            slow.append(name)
    if missing:
        asked.notes.append(f"No comparison with {grouped(missing)}.")
    return found, slow


def _is_prepared(baseline: Baseline, reporter: Reporter, limit: float) -> bool:
    """Prepare a baseline, unless it is seen on the way that this takes longer than the limit, in seconds."""
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


def _unchanged(target: Target, X: Any, y: Array, compared: Sequence[Baseline], reporter: Reporter) -> Unchanged:
    """What becomes of the rows before anything happens to them."""
    verdicts, scores = [], []
    with reporter.counting("unchanged rows", len(y)) as count:
        for begin in range(0, len(y), 1024):
            rows = X[begin : begin + 1024].raw
            verdicts.append(target.verdict(rows))
            scores.append(scored(compared, rows, target.classifier_outputs(rows) if compared else []))
            count(min(1024, len(y) - begin))
    verdict = Verdict(*map(np.concatenate, zip(*verdicts, strict=True)))
    by_name = {name: np.concatenate([part[name] for part in scores]) for name in scores[0]}
    return Unchanged(y, verdict, {OWN: verdict.score, **by_name})


def _paced(target: Target, X: Any, compared: Sequence[Baseline], cost: Cost, resamples: int) -> Pace:
    """What things take, measured on the first rows."""
    rows = X[:FEWEST].raw

    def scores() -> None:
        target.verdict(rows)
        scored(compared, rows, target.classifier_outputs(rows))

    def figures() -> None:
        evaluate_scores(some, some, resamples=resamples)

    some, first, again = np.arange(200.0), _timed(scores, 1), _timed(scores, 3)
    a_figure = (2 * len(compared) + 3) * _timed(figures, 5) / (2 * len(some))
    # Forward and back takes about two and a half times as long as forward alone.
    alone, guarded = (2.5e-3 * milliseconds for milliseconds in (cost.classifier_batch, cost.guarded_batch))
    a_pass: dict[Knowledge, float] = {"grey-box": alone, "black-box": alone, "white-box": guarded, "corruption": alone}
    return Pace(max(0.0, first - again), a_pass, again / min(FEWEST, len(X)), a_figure)


def _timed(run: Callable[[], None], repeats: int) -> float:
    """The median of the seconds that it takes."""
    times = []
    for _ in range(repeats):
        started = time.monotonic()
        run()
        times.append(time.monotonic() - started)
    return statistics.median(times)


def _stores(folder: Path, target: Target, digest: str, unchanged: Unchanged, seed: int) -> Stores:
    # The classes too that the classifier gives the first rows: a function tells nothing else of what it has learned.
    rows = digest + str(unchanged.verdict.reference[:FEWEST].tolist())
    about = {"rows": rows, "bounds": str(target.bounds), "seed": str(seed), "chunk": str(CHUNK), "demur": __version__}
    classifier, guard = digest_of_classifier(target.detector), digest_of_detector(target.detector)
    return Stores(Store(folder, about | {"classifier": classifier}), Store(folder, about | {"detector": guard}))


def _versions() -> dict[str, str]:
    found = {
        "demur": __version__,
        "keras": keras.__version__,
        "backend": backends.current().name,
        "numpy": np.__version__,
    }
    for name in ("numpy", "foolbox", "tensorflow", "tensorflow-cpu", "torch", "jax"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
