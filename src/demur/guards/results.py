"""What detectors, tests and estimates return: dicts of NumPy arrays, typed, that print as a summary."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, NotRequired, Self, TypedDict, TypeVar, overload

import numpy as np
import numpy.typing as npt

from demur.calibration.words import count, number, percent
from demur.summary import Readable, Summary

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Scored(NamedTuple):
    """What the graph of a guard says of `n` rows."""

    score: Floats
    """`(n,)`, in nats; infinite for an invalid row."""
    y: npt.NDArray[Any]
    """The reference: classes `(n,)`, int64, or probabilities `(n, classes)` if they were asked for."""
    y_opinion: npt.NDArray[Any]
    """The opinion, likewise."""
    invalid: Labels
    """`(k,)`, the rows that cannot be judged: they hold NaN or infinity, or the networks return it for them."""


class Meta(TypedDict):
    """What a result says of the detector it comes from."""

    name: str
    detector_type: str
    data_type: str | None
    online: bool
    version: str


class PredictData(TypedDict):
    """What is said of each of `n` instances."""

    is_adversarial: npt.NDArray[np.bool_]
    """`(n,)`."""
    instance_score: Floats | None
    """`(n,)`, in nats; None where not asked for."""
    p_value: NotRequired[npt.NDArray[np.float64]]
    """`(n,)`, from a calibrated detector: one that `infer_threshold` was called on."""
    harm_probability: NotRequired[npt.NDArray[np.float64]]
    """`(n,)`, the chance that the classifier is wrong on a row with this score, if the row is like the labelled rows of
    `demur.drift.calibrate_accuracy`."""
    invalid: NotRequired[Labels]
    """`(k,)`, the rows that could not be judged, from a detector with `on_invalid="flag"`; all are flagged."""


class CorrectData(PredictData):
    """What is said of each of `n` instances, with classes."""

    corrected: npt.NDArray[Any]
    """`(n,)`: the opinion's class where flagged, the classifier's elsewhere and where invalid. Names of classes if they
    are known (`Detector.classes`); otherwise int64."""
    no_defense: npt.NDArray[Any] | None
    """`(n,)`, the classifier's class; None where not asked for."""
    defense: npt.NDArray[Any] | None
    """`(n,)`, the opinion's class; None where not asked for."""


Data = TypeVar("Data")


class Result(Readable, dict[str, Any], Generic[Data]):
    """A result, `{"meta": ..., "data": ...}`: a dict that `print` and a notebook show as a summary.

    The repr is the repr of a dict, with long arrays cut. `result["data"]` prints as the result does.

    Examples:
        >>> result = detector.predict(X_new)
        >>> isinstance(result, dict), sorted(result), result["data"]["is_adversarial"].shape
        (True, ['data', 'meta'], (40,))
        >>> print(result)                                                  # doctest: +SKIP
        AdversarialAE: 40 rows
          flagged  2 (5 %), above the threshold of 0.31 nats
          score    lowest 0.002, median 0.05, 90 % below 0.2, 99 % below 0.5, highest 0.6
    """

    about: Mapping[str, Any] = {}
    """What the summary needs beside the entries: the threshold, or the level of a test."""

    @classmethod
    def of(cls, meta: Meta, data: Any, **about: Any) -> Self:
        """A result; `about` is for the summary alone."""
        made = cls(meta=meta, data=cls(data))
        made.about = about
        return made

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: Literal["meta"]) -> Meta: ...
        @overload
        def __getitem__(self, key: Literal["data"]) -> Data: ...
        @overload
        def __getitem__(self, key: str) -> Any: ...
        def __getitem__(self, key: str) -> Any:
            """The entry of a key."""

    def __missing__(self, key: str) -> Any:
        if key in (self.get("data") or ()):
            raise KeyError(f"{key} is one level below: result['data']['{key}']")
        raise KeyError(key)

    def copy(self) -> Self:
        """A shallow copy."""
        made = type(self)(self)
        made.about = self.about
        return made

    def __repr__(self) -> str:
        with np.printoptions(threshold=10, edgeitems=3):
            return dict.__repr__(self)

    def summary(self) -> Summary:
        """What was found, in some lines: a string, which a notebook shows as HTML."""
        data = self.get("data")
        if isinstance(data, Mapping):
            for key, said in SAID.items():
                if key in data:
                    return said((self.get("meta") or {}).get("name", "a guard"), data, self.about)
        return Summary(f"{len(self)} entries", {name: _short(value) for name, value in self.items()})


PredictResult = Result[PredictData]
"""What `predict` returns."""
CorrectResult = Result[CorrectData]
"""What `correct` returns."""


def _short(value: Any) -> str:
    """An entry in a line."""
    if not isinstance(value, np.ndarray):
        return number(value, 4) if isinstance(value, float) else str(value)
    shown = np.array2string(value, precision=4, threshold=6, edgeitems=3).replace("\n", "")
    return f"{value.dtype} {value.shape}: {shown}"


def _decisions(name: str, data: Mapping[str, Any], about: Mapping[str, Any]) -> Summary:
    """Scores, flags and classes."""
    score, flags, facts = data.get("instance_score"), data.get("is_adversarial"), {}
    n = len(next(values for values in (flags, score) if values is not None))
    if flags is not None:
        flagged, threshold, level = int(flags.sum()), about.get("threshold"), about.get("level")
        how = ""
        if level is not None:
            how = f", so that of these at most {percent(level)} are expected to be normal"
        elif threshold is not None:
            limit = "its class's threshold" if np.ndim(threshold) else f"the threshold of {number(threshold, 4)} nats"
            how = f", above {limit}"
        facts["flagged"] = f"{flagged:,} ({percent(flagged / n)}){how}"
    if data.get("no_defense") is not None:
        changed = int((data["corrected"] != data["no_defense"]).sum())
        facts["corrected"] = f"{changed:,}, given another class than the classifier's"
    if "invalid" in data:
        invalid = data["invalid"]
        facts["invalid"] = f"{int(invalid.sum()) if invalid.dtype == bool else len(invalid):,}, which cannot be judged"
    if score is not None:
        method: Any = "lower" if np.isinf(score).any() else "linear"
        places = {"lowest": 0.0, "median": 0.5, "90 % below": 0.9, "99 % below": 0.99, "highest": 1.0}
        found = np.quantile(score, list(places.values()), method=method)
        facts["score"] = ", ".join(f"{one} {number(value, 4)}" for one, value in zip(places, found, strict=True))
    if "harm_probability" in data:
        facts["harm"] = f"the classifier is expected to be wrong on {percent(float(data['harm_probability'].mean()))}"
    return Summary(f"{name}: {count(n, 'row')}", facts)


def _drift(name: str, data: Mapping[str, Any], about: Mapping[str, Any]) -> Summary:
    """The test of a batch."""
    alpha, direction = about.get("alpha"), "larger" if data["effect_size"] > 0 else "no larger"
    p = f"{data['p_value']:.2g}" if data["p_value"] >= 1e-4 else "< 0.0001"
    facts = {
        "p-value": p + ("" if alpha is None else f", at a level of {alpha:g}"),
        "mean score": f"{number(data['mean_score'], 4)} nats; of normal data {number(data['reference_mean'], 4)}",
        "effect size": f"{number(data['effect_size'])}: Cliff's delta, from \N{MINUS SIGN}1 to 1",
    }
    if data.get("invalid"):
        facts["left out"] = f"{count(data['invalid'], 'more row')} could not be judged"
    found = "Drift" if data["is_drift"] else "No drift"
    return Summary(f"{found}: {count(data['n'], 'score')} of {name} are {direction} than those of normal data", facts)


def _accuracy(name: str, data: Mapping[str, Any], about: Mapping[str, Any]) -> Summary:  # noqa: ARG001 - it says all
    """The estimate of the classifier's accuracy."""
    low, high = data["accuracy_interval"]
    least, most = data["harmful_interval"]
    facts = {
        "interval": f"nine times in ten between {percent(low)} and {percent(high)}",
        "labelled": f"{percent(data['reference_accuracy'])}, on the rows that it was calibrated with",
        "harmful": f"{percent(data['harmful_fraction'])} of the rows are wrong that would have been right; "
        f"{percent(least)} to {percent(most)}",
    }
    if data["extrapolated"]:
        facts["beware"] = (
            "the rows have changed further than the corrupted copies that the estimate was learned from: the intervals "
            "promise nothing"
        )
    if data.get("invalid"):
        facts["left out"] = f"{count(data['invalid'], 'more row')} could not be judged"
    estimated = f"accuracy of the classifier {percent(data['accuracy'])}"
    return Summary(f"{estimated}, estimated on {count(data['n'], 'row')} without labels", facts)


SAID = {"is_drift": _drift, "accuracy": _accuracy, "is_adversarial": _decisions, "instance_score": _decisions}
"""The summary of a result, by an entry of the data."""
