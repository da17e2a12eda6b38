"""Are the scores of a batch larger than they should be? One-sided two-sample tests, by SciPy."""

from collections.abc import Callable
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from demur._version import __version__
from demur.data import check_whole, is_number
from demur.drift.evidence import Array
from demur.drift.reference import calibration_of, scores_of
from demur.errors import EmptyInput, InvalidSetting, MissingExtra
from demur.results import Meta

Method = Literal["mann-whitney", "ks", "permutation"]
PERMUTATIONS = 9999


class DriftData(TypedDict):
    """What a batch says."""

    is_drift: bool
    p_value: float
    statistic: float
    """U of Mann & Whitney, D+ of Kolmogorov & Smirnov, or the difference of the means in nats."""
    n: int
    """Scores that were compared."""
    mean_score: float
    """In nats."""
    reference_mean: float
    """Of the calibration scores, in nats."""
    effect_size: float
    """Cliff's delta: how much likelier a score of the batch is to be larger than a calibration score than to be
    smaller, from -1 to 1."""
    invalid: NotRequired[int]
    """Rows that could not be judged and were left out, from a detector with `on_invalid="flag"`."""


class DriftResult(TypedDict):
    """What `demur.drift.test` returns."""

    meta: Meta
    data: DriftData


def test(
    detector: Any,
    X: Any = None,
    *,
    scores: Any = None,
    alpha: float = 0.05,
    method: Method = "mann-whitney",
    seed: int = 0,
    batch_size: int = 256,
) -> DriftResult:
    """Test whether the scores of a batch are stochastically larger than the calibration scores.

    Harmful drift raises scores: the p-value is the chance of scores this large or larger if the batch were like the
    rows that `infer_threshold` was given. That holds because those were held out from `fit`.

    Examples:
        >>> found = demur.drift.test(detector, X_held_out[:50])["data"]
        >>> found["n"], found["is_drift"]
        (50, False)

    Args:
        detector: a calibrated detector, or its `calibration` with `scores`.
        X: `(n, *input_shape)`, the batch, or a stream or a Dask collection of such rows.
        scores: `(n,)`, scores of the batch in nats, in place of `X`.
        alpha: the chance of a false alarm: `is_drift` says whether the p-value is at most this.
        method: "mann-whitney" for the U test (Mann & Whitney, 1947), "ks" for Kolmogorov's & Smirnov's test,
            "permutation" for a permutation test of the mean; each against larger scores.
        seed: of the permutations.
        batch_size: rows a forward pass.

    Returns:
        `{"meta": ..., "data": ...}`, see `DriftData`. Where each predicted class has calibration scores of its own, all
        are put together.

    Raises:
        NotCalibrated: `infer_threshold` was not called.
        EmptyInput: there is no row, or none that can be judged.
        InvalidSetting, WrongType, ShapeMismatch, NonFinite, MissingExtra: see `demur.errors`.
    """
    if not (is_number(alpha) and 0 < alpha < 1):
        raise InvalidSetting(f"alpha is the chance of a false alarm, above 0 and below 1; got {alpha!r}")
    if not isinstance(method, str) or method not in TESTS:
        raise InvalidSetting(f"method is one of {', '.join(map(repr, TESTS))}; got {method!r}")
    check_whole("seed", seed, 0)
    _scipy()
    calibration = calibration_of(detector)
    reference = np.concatenate([part.kept for part in calibration.distributions.values()]).astype("float64")
    given = scores_of(detector, X, scores, batch_size=batch_size)
    if len(given.scores) == 0:
        raise EmptyInput(f"none of the {len(given.valid)} rows can be judged: their scores are not finite")
    batch = given.scores.astype("float32").astype("float64")  # as the calibration scores are kept
    statistic, p_value = TESTS[method](batch, reference, seed)
    data = DriftData(
        is_drift=bool(p_value <= alpha),
        p_value=float(p_value),
        statistic=float(statistic),
        n=len(batch),
        mean_score=float(batch.mean()),
        reference_mean=float(reference.mean()),
        effect_size=cliffs_delta(batch, reference),
    )
    if getattr(detector, "on_invalid", "raise") == "flag":
        data["invalid"] = int((~given.valid).sum())
    return {"meta": drift_meta(detector), "data": data}


test.__test__ = False  # type: ignore[attr-defined]  # pytest takes what is called so for a test


def cliffs_delta(batch: Array, reference: Array) -> float:
    """`P(a > b) - P(a < b)` of a pair from both (Cliff, 1993)."""
    ordered = np.sort(reference)
    smaller, not_larger = (np.searchsorted(ordered, batch, side=side).mean() for side in ("left", "right"))
    return float((smaller + not_larger) / len(ordered) - 1)


def drift_meta(detector: Any, *, online: bool = False) -> Meta:
    """Who says so."""
    data_type = getattr(detector, "data_type", None)  # a calibration has none
    return Meta(
        name=type(detector).__name__, detector_type="drift", data_type=data_type, online=online, version=__version__
    )


def _scipy() -> None:
    try:
        import scipy.stats  # noqa: F401
    except ImportError as error:
        raise MissingExtra("scipy", "drift") from error


def _mann_whitney(batch: Array, reference: Array, seed: int) -> tuple[float, float]:  # noqa: ARG001 - nothing is drawn
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(batch, reference, alternative="greater")
    return found.statistic, found.pvalue


def _kolmogorov_smirnov(batch: Array, reference: Array, seed: int) -> tuple[float, float]:  # noqa: ARG001
    from scipy.stats import ks_2samp

    found = ks_2samp(batch, reference, alternative="less")  # the batch's distribution function is the smaller one
    return found.statistic, found.pvalue


def _permutation(batch: Array, reference: Array, seed: int) -> tuple[float, float]:
    from scipy.stats import permutation_test

    def difference(a: Array, b: Array, axis: int) -> Array:
        return np.asarray(np.mean(a, axis=axis) - np.mean(b, axis=axis))

    found = permutation_test(
        (batch, reference),
        difference,
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=max(1, 10_000_000 // (len(batch) + len(reference))),
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return found.statistic, found.pvalue


TESTS: dict[str, Callable[[Array, Array, int], tuple[float, float]]] = {
    "mann-whitney": _mann_whitney,
    "ks": _kolmogorov_smirnov,
    "permutation": _permutation,
}
"""`batch, reference, seed -> statistic, p-value`."""
