"""One call that tells what a guard is worth: every threat on every row, and the figures of all."""

import contextlib
import functools
import importlib.metadata
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from demur._version import __version__
from demur.calls import chosen, explained
from demur.classes import Classes
from demur.data import check_layout, check_whole, row_count, taken
from demur.detectors.base import Detector, check_detector
from demur.durations import seconds_of
from demur.errors import InvalidSetting, ThresholdNotSet, WrongRows, WrongType
from demur.evaluation.attacked import AttackedRows
from demur.evaluation.attacks import Attack, Attacked
from demur.evaluation.baselines import Baseline, finite
from demur.evaluation.budgets import bounds_of, doubt_about, epsilons_of
from demur.evaluation.checks import check_all
from demur.evaluation.comparison import OWN
from demur.evaluation.costs import cost_of
from demur.evaluation.measuring import (
    Changed,
    Outcome,
    Unchanged,
    comparisons,
    distances,
    examples_of,
    outcome_of,
    threat_of,
    worst_cases,
)
from demur.evaluation.norms import Norm
from demur.evaluation.planning import Corruption, Planned, attacks_of, corruptions_of, planned, shortened
from demur.evaluation.reporting import Reporter
from demur.evaluation.result import Evaluation
from demur.evaluation.store import Store, Stores, digest_of_classifier, digest_of_detector, digest_of_rows
from demur.evaluation.target import Array, Target
from demur.sources import collected
from demur.wording import grouped

CHUNK = 128
"""Rows that are attacked together and kept on disk together."""

SPARED = 0.85
"""Share of a time budget that is planned for threats; the rest is for the baselines and the figures."""


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
        budget: how long it may take, such as "10min", or seconds: each threat is then tried on as many rows as fit, and
            the result says on how many.
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
            classes of other rows. The evaluation's notes say so, too.
    """
    started = time.monotonic()
    X, y = _checked(detector, X, y, resamples, seed)
    X_train = None if X_train is None else collected(X_train, detector.classifier.layout, "X_train")[0]
    asked = _asked(detector, X, X_train, attacks, corruptions, baselines, epsilons, bounds, class_names)
    target, notes, seconds, folder = asked.target, asked.notes, _seconds(budget), _folder(out)
    with Reporter(verbose) as reporter:
        # One order for all threats, so that those tried on fewer rows are tried on the same ones.
        order = np.random.default_rng(seed).permutation(row_count(X))
        X, y = taken(X, order), y[order]
        compared = _baselines(asked, X_train, seed, reporter)
        unchanged = Unchanged(y, target.verdict(X), {})
        with _noting(notes):
            detector._check_rows(X, unchanged.verdict.reference, y, X_train, y_train)
        unchanged.scores.update(_scores(target, compared, X, unchanged.verdict.score))
        plan = planned([*asked.attacks, *asked.corruptions], len(y))
        if seconds is not None:
            plan = _in_time(plan, target, X, seconds, time.monotonic() - started, notes)
        elif any(step.rows < len(y) for step in plan):
            few = sorted({f"{step.title} on {step.rows:,}" for step in plan if step.rows < len(y)})
            notes.append(f"Slow attacks were tried on fewer than the {len(y):,} rows: {', '.join(few)}.")
        stores = Stores() if folder is None else _stores(folder / "attacked", target, X, unchanged, seed)
        run = functools.partial(_tried, target=target, X=X, unchanged=unchanged, compared=compared, stores=stores)
        outcomes: list[Outcome] = []
        for step in plan:
            if seconds is not None and time.monotonic() - started > seconds and outcomes:
                left = [later.title for later in plan[len(outcomes) :]]
                notes.append(f"Time was up before these were tried: {', '.join(left)}.")
                break
            outcomes.append(run(step, seed=seed, reporter=reporter))
        reporter.say("measuring ...")
        threats = [threat_of(outcome, unchanged, resamples=resamples, seed=seed) for outcome in outcomes]
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
            threats=threats,
            worst_cases=worst_cases(outcomes, unchanged, resamples=resamples, seed=seed),
            checks=check_all(target, unchanged, outcomes),
            cost=cost_of(target, X),
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
            comparisons=comparisons(threats, outcomes, unchanged),
        )
    if folder is not None:
        evaluation.to_json(folder / "evaluation.json")
    return evaluation


@contextlib.contextmanager
def _noting(notes: list[str]) -> Iterator[None]:
    """Note what is warned of about the rows, for those who read the evaluation."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", WrongRows)
        yield
    for warning in caught:
        if isinstance(warning.message, WrongRows):
            said = str(warning.message)
            notes.append(f"{said[0].upper()}{said[1:]}.")
        warnings.warn(warning.message, stacklevel=4)  # the line that called evaluate


def _seconds(budget: float | str | None) -> float | None:
    return None if budget is None else seconds_of(budget, "budget")


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
    X = detector._ready_for(X)
    X, labels = collected(X, detector.classifier.layout, labels=y is None)
    X = check_layout(X, detector.classifier.layout, finite=not detector.route.takes_missing)
    y = labels if y is None else y
    return X, detector.labels.indices(y, row_count(X))


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
        check_layout(X_train, detector.classifier.layout, name="X_train", finite=not detector.route.takes_missing)
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


def _baselines(asked: _Asked, training_rows: Any, seed: int, reporter: Reporter) -> list[Baseline]:
    found, missing = [], []
    for name in asked.baselines:
        baseline = Baseline.registry[name](asked.target, training_rows, seed)
        if baseline.missing is None:
            reporter.say(f"baseline: {name} ...")
            baseline.prepare()
            found.append(baseline)
        else:
            missing.append((name, baseline.missing))
    if missing:
        asked.notes.append(f"No comparison with {grouped(missing)}.")
    return found


def _scores(target: Target, compared: Sequence[Baseline], X: Any, own: Array) -> dict[str, Array]:
    outputs = target.classifier_outputs(X) if compared else []
    return {OWN: own, **{baseline.name: finite(baseline.score(X, outputs)) for baseline in compared}}


def _stores(folder: Path, target: Target, X: Any, unchanged: Unchanged, seed: int) -> Stores:
    # The classes too that the classifier gives the rows: a function tells nothing else of what it has learned.
    rows = digest_of_rows(X, np.stack([unchanged.y, unchanged.verdict.reference]))
    about = {"rows": rows, "bounds": str(target.bounds), "seed": str(seed), "chunk": str(CHUNK), "demur": __version__}
    classifier, guard = digest_of_classifier(target.detector), digest_of_detector(target.detector)
    return Stores(Store(folder, about | {"classifier": classifier}), Store(folder, about | {"detector": guard}))


def _in_time(
    plan: list[Planned], target: Target, X: Any, seconds: float, spent: float, notes: list[str]
) -> list[Planned]:
    """A plan that ends in time, and what it leaves out."""
    probe = taken(X, np.arange(min(CHUNK, row_count(X))))
    target.verdict(probe)
    started = time.monotonic()
    for _ in range(3):
        target.verdict(probe)
    # Forward and backward through both networks costs about as much as scoring twice.
    a_pass = 2 * (time.monotonic() - started) / 3 / row_count(probe)
    shorter = shortened(plan, a_pass, max(SPARED * seconds - spent, 0.0))
    cut = [f"{new.title} on {new.rows:,}" for old, new in zip(plan, shorter, strict=True) if new.rows < old.rows]
    if cut:
        notes.append(
            f"To end within {seconds:g} s, of {row_count(X):,} rows these were tried on fewer: {', '.join(cut)}."
        )
    return shorter


def _tried(
    step: Planned,
    *,
    target: Target,
    X: Any,
    unchanged: Unchanged,
    compared: Sequence[Baseline],
    stores: Stores,
    seed: int,
    reporter: Reporter,
) -> Outcome:
    """Try one threat on its rows, a chunk at a time."""
    started, rows = time.monotonic(), np.arange(step.rows)
    y, right = unchanged.y[rows], unchanged.right[rows]
    parts, late = [], []
    with reporter.counting(step.title, step.rows) as count:
        for begin in range(0, step.rows, CHUNK):
            chosen = rows[begin : begin + CHUNK]
            attacked = _chunk(step.threat, target, taken(X, chosen), y[chosen], right[chosen], begin, stores, seed)
            parts.append(attacked.x)
            late.append(attacked.late)
            count(len(chosen))
    changed, before, plain = _together(parts), taken(X, rows), target.is_one_array
    verdict = target.verdict(changed)
    most = _most_examples(step.threat)
    examples = (
        examples_of(target, before, changed, y, unchanged.verdict.reference[rows], verdict, most) if plain else []
    )
    outcome = outcome_of(
        step.description,
        unchanged,
        Changed(
            rows=rows,
            verdict=verdict,
            scores=_scores(target, compared, changed, verdict.score),
            distance=distances(before, changed) if plain else {},
            late=None if any(part is None for part in late) else np.concatenate([np.asarray(part) for part in late]),
            seconds=time.monotonic() - started,
            examples=examples,
        ),
    )
    reporter.found(step.title, outcome)
    return outcome


def _most_examples(threat: Attack | Corruption) -> int:
    """How many rows the gallery shows."""
    if isinstance(threat, Corruption):
        return 1 if threat.severity == 3 else 0
    return 4


def _chunk(
    threat: Attack | Corruption, target: Target, X: Any, y: Array, right: Array, begin: int, stores: Stores, seed: int
) -> Attacked:
    """Some rows after a threat; from disk, if they are there."""
    if isinstance(threat, Corruption):
        return Attacked(threat.change(X, threat.severity, seed, begin))
    store, key = stores.of(threat.knowledge), {**threat.settings, "begin": begin, "rows": len(y)}
    kept = store.get(key, y)
    if kept is not None:
        kept.check_claim(_wrong(target, kept.x, y), store.file(key) or "")
        return Attacked(kept.x, kept.late)
    x, late = target.rows(X), None
    if right.any():
        attacked = threat.run(target, x[right], y[right], seed=seed + begin)
        x[right] = attacked.x
        if attacked.late is not None:
            late = np.zeros(len(y), bool)
            late[right] = attacked.late
    store.put(key, AttackedRows(x, begin + np.arange(len(y)), y, _wrong(target, x, y), {}, late))
    return Attacked(x, late)


def _wrong(target: Target, x: Array, y: Array) -> Array:
    """Whether the classifier is wrong on rows."""
    return np.asarray(target.classifier_outputs(x)[0].argmax(axis=1) != y)


def _together(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple):
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if hasattr(first, "iloc"):
        import pandas as pd

        return pd.concat(parts)
    import polars as pl

    return pl.concat(parts)


def _versions() -> dict[str, str]:
    found = {
        "demur": __version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "numpy": np.__version__,
    }
    for name in ("numpy", "foolbox", "tensorflow", "tensorflow-cpu", "torch", "jax"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
