"""One call that tells what a guard is worth: every threat on every row, and the figures."""

import contextlib
import importlib.metadata
import itertools
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from demur import backends, checks
from demur._version import __version__
from demur.checks import check_whole, explained, seconds_of
from demur.detectors.base import Detector, check_detector
from demur.errors import InvalidSetting, ThresholdNotSet, WrongRows, WrongType
from demur.evaluation.baselines import Baseline, baseline_names, prepared, scores_of
from demur.evaluation.comparison import RIGHT_ROWS
from demur.evaluation.norms import Norm, bounds_of, doubt_about, epsilons_of
from demur.evaluation.outcomes import Outcome, Unchanged, comparisons, threat_of, worst_cases
from demur.evaluation.pace import Pace, cost_of, try_in_time
from demur.evaluation.reporter import Reporter
from demur.evaluation.result import OWN, Check, Evaluation
from demur.evaluation.sanity import check_all
from demur.evaluation.schedule import FEWEST
from demur.evaluation.store import Stores, digest_of_rows
from demur.evaluation.target import Array, Target, Verdict
from demur.evaluation.threats import Threat, attacks_of, corruptions_of, omissions
from demur.evaluation.trial import CHUNK, Scene, Trial
from demur.rows.layout import Field
from demur.rows.rows import Rows
from demur.rows.sources import collected

SHARE = 0.1
"""Of a time budget: the most that unchanged rows may cost, and that the figures of all threats may."""
LEARNING = 0.2
"""Of a time budget: the most that the training of a baseline may cost."""
FINE = "Rows are on the scale of those of fit and not among them, and labels are not those of other rows."
"""The detail of the check where nothing is wrong with the rows."""


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

    Attacks change the rows that the classifier gets right; other rows count as they are. `demur.report.write_report` or
    `demur report` writes a report of the result.

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
            as many more as fit, or left out: cheap threats and attackers who know the guard come first. One of the
            result's `notes` says what was cut.
        epsilons: the largest change that an attack may make, by norm ("Linf", "L2", "L1"), in the units of `X`; by
            default what is usual for such rows.
        bounds: the smallest and largest value of a number in `X`; by default 0 and 1 for images within them, and what
            is found in `X` otherwise.
        X_train: rows that the classifier was trained on, for the baselines that learn and for what is typical of a
            column. A warning names rows of `X` that are among them.
        y_train: true classes of `X_train`, to judge whether the classifier is as good on `X` as on them.
        class_names: what the report calls the classes; by default as `detector.classes` does.
        out: a folder for what is done so far, and for `evaluation.json`: the same call goes on from there. Attacks that
            know only the classifier serve every detector of the classifier that is evaluated into the folder.
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
        WrongRows: rows are on another scale than the rows of `fit`, or are among the rows of `fit` or of `X_train`, or
            `y` are the classes of other rows. It is a failed check, and the first sentence of the evaluation, too.
    """
    started = time.monotonic()
    X, y, X_train = _checked(detector, X, y, X_train, resamples, seed)
    notes: list[str] = []
    target, limits = _target(detector, X, bounds, epsilons, None if attacks is None else notes)
    names = _class_names(detector, class_names)
    asked_attacks = attacks_of(attacks, target, limits, notes)
    asked_corruptions = corruptions_of(corruptions, target, X.raw, X_train, notes)
    asked_baselines, folder = baseline_names(baselines), _folder(out)
    seconds = math.inf if budget is None else seconds_of(budget, "budget")
    with Reporter(verbose) as reporter:
        # One order for all threats, so that those tried on fewer rows are tried on the same ones.
        order = np.random.default_rng(seed).permutation(len(X))
        X, y = X[order], y[order]
        threats: list[Threat] = [*asked_attacks, *asked_corruptions]
        reporter.say("timing the classifier and the guard ...")
        cost = cost_of(target, X, within=SHARE * seconds / 2)
        made = (Baseline.registry[name](target, X_train, seed) for name in asked_baselines)
        compared, slow = prepared(made, notes, reporter, LEARNING * seconds)
        about = {"rows": digest_of_rows(X.raw, y), "bounds": str(target.bounds), "seed": str(seed), "chunk": str(CHUNK)}
        given, pace = len(y), None
        if seconds < math.inf:
            pace = Pace.measured(target, X, compared, cost, resamples)
            used = min(given, pace.unchanged_rows(SHARE * seconds, len(threats)))
            X, y = X[:used], y[:used]
        unchanged = _unchanged(target, X, y, compared, reporter)
        with _told() as wrong_rows:
            detector.check_rows(X, unchanged.verdict.reference, y, X_train, y_train)
        # With the classes of the first rows: nothing else tells what a classifier that is a function has learned.
        about["rows"] += str(unchanged.verdict.reference[:FEWEST].tolist())
        about["demur"] = __version__
        stores = Stores() if folder is None else Stores.inside(folder / "attacked", about, detector)
        scene = Scene(target, X, unchanged, compared, stores, seed)
        trials = [Trial(threat, scene) for threat in threats]
        if pace is not None:
            try_in_time(trials, pace, started + seconds, reporter)
        outcomes = _outcomes(trials, reporter, goes_on=pace is None)
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
            input_shape=list(target.layout.shape) if target.is_one_array else [],
            class_names=names,
            threshold=np.atleast_1d(np.asarray(detector.threshold, "float64")).tolist(),
            promised_fpr=None if detector.calibration is None else detector.calibration.fpr,
            rows=len(y),
            clean=unchanged.clean(),
            threats=measured,
            worst_cases=worst_cases(outcomes, unchanged, resamples=resamples, seed=seed),
            checks=[
                Check(RIGHT_ROWS, not wrong_rows, " ".join(wrong_rows) or FINE),
                *check_all(target, unchanged, outcomes),
            ],
            cost=cost,
            settings={
                "attacks": [attack.settings for attack in asked_attacks],
                "corruptions": list(dict.fromkeys(corruption.name for corruption in asked_corruptions)),
                "epsilons": dict(limits),
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
    """Warnings about the rows as sentences: filled when the block ends, and warned of all the same."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", WrongRows)
        yield told
    for warning in caught:
        if isinstance(warning.message, WrongRows):
            said = str(warning.message)
            told.append(f"{said[0].upper()}{said[1:]}.")
        checks.warn(warning.message)


def _outcomes(trials: Sequence[Trial], reporter: Reporter, *, goes_on: bool) -> list[Outcome]:
    """Try threats on all rows, if that is still to do, and write a line for each attack and each corruption."""
    outcomes: list[Outcome] = []
    for title, several in itertools.groupby(trials, lambda trial: trial.heading):
        found = []
        for trial in several:
            if goes_on:
                with reporter.counting(trial.threat.title, trial.most) as count:
                    trial.extend(trial.most, count=count)
            found += [trial.outcome()] if trial.tried else []
        if found:
            reporter.found(title, found)
        outcomes += found
    return outcomes


def _checked(detector: Any, X: Any, y: Any, X_train: Any, resamples: int, seed: int) -> tuple[Rows, Array, Any]:
    """Rows as the classifier takes them, their classes, and training rows."""
    check_detector(detector)
    detector.check_trained()
    if detector.threshold is None:
        raise ThresholdNotSet(
            f"{type(detector).__name__} has no threshold yet: call infer_threshold(X_held_out, fpr=0.05) first"
        )
    check_whole("resamples", resamples, 1)
    check_whole("seed", seed, 0)
    X = detector.ready_for(X)
    layout, finite = detector.classifier.layout, not detector.route.takes_missing
    given, labels = collected(X, layout, labels=y is None)
    rows = Rows.of(given, layout, finite=finite)
    y = detector.labels.indices(labels if y is None else y, len(rows))
    if X_train is not None:
        X_train = collected(X_train, layout, "X_train")[0]
        Rows.of(X_train, layout, "X_train", finite=finite)
    return rows, y, X_train


def _target(
    detector: Detector, X: Rows, bounds: Any, epsilons: Any, notes: list[str] | None
) -> tuple[Target, dict[Norm, float]]:
    """The target and the budgets; a doubt about default budgets is noted, if there are notes."""
    layout: Any = detector.classifier.layout
    is_plain = isinstance(layout, Field)
    shape = tuple(layout.shape) if is_plain else ()
    target = Target(detector, bounds_of(bounds, X.raw, shape) if is_plain else (0.0, 1.0))
    limits = epsilons_of(epsilons, shape, target.bounds)
    if epsilons is None and notes is not None and len(shape) == 1 and target.is_continuous:
        doubt = doubt_about(X.raw, limits)
        notes += [] if doubt is None else [doubt]
    return target, limits


def _class_names(detector: Detector, names: Any) -> list[str]:
    classes = detector.labels
    if names is not None and len(names) != classes.count:
        raise InvalidSetting(f"class_names needs a name for each of the {classes.count} classes; got {len(names)}")
    return classes.all_names if names is None else [str(name) for name in names]


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


def _unchanged(target: Target, X: Rows, y: Array, compared: Sequence[Baseline], reporter: Reporter) -> Unchanged:
    """The test rows before anything happens to them."""
    verdicts, scores = [], []
    with reporter.counting("unchanged rows", len(y)) as count:
        for begin in range(0, len(y), 1024):
            rows = X[begin : begin + 1024].raw
            verdicts.append(target.verdict(rows))
            scores.append(scores_of(compared, rows, target.classifier_outputs(rows) if compared else []))
            count(min(1024, len(y) - begin))
    verdict = Verdict(*map(np.concatenate, zip(*verdicts, strict=True)))
    by_name = {name: np.concatenate([part[name] for part in scores]) for name in scores[0]}
    return Unchanged(y, verdict, {OWN: verdict.score, **by_name})


def _versions() -> dict[str, str]:
    found = {"demur": __version__, "keras": keras.__version__, "backend": backends.current().name}
    for name in ("numpy", "foolbox", "tensorflow", "tensorflow-cpu", "torch", "jax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
