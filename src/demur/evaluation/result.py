"""What an evaluation found, to JSON and back, and as a table. NumPy only."""

import base64
import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import msgspec
import numpy as np
import numpy.typing as npt

from demur.atomic import write_text
from demur.calibration.metrics import Estimate, Lead, ScoreEvaluation
from demur.calibration.words import AT_SEVERITY, count, percent
from demur.documents import Malformed, as_type, format_of, from_text, reading
from demur.errors import CorruptEvaluation
from demur.extras import extra
from demur.summary import Readable, Summary

Knowledge = Literal["grey-box", "black-box", "white-box", "corruption"]
"""Grey-box attackers know the classifier, black-box ones the classifier's answers, white-box ones classifier and guard;
behind a corruption there is no attacker."""

OWN = "demur"
"""The name of the guard's own score among those of the baselines."""
FORMAT = 1
NUMBERS = re.compile(r"\[[-+.\w,\s]*\]")
"""A list of numbers or of truth values in JSON: written in one line."""


@dataclass(frozen=True)
class Clean:
    """What happens to unchanged test rows."""

    accuracy: Estimate
    """Of the classifier alone."""
    corrected: Estimate
    """With the opinion's class where flagged."""
    always_corrected: Estimate
    """With the opinion's class everywhere."""
    fpr: Estimate
    """Share of the rows that are flagged."""
    scores: list[float] = field(repr=False)
    """Of each row, in nats."""
    repaired: int | None = None
    """Rows on which the classifier alone is wrong and the corrected answer right; None in files of earlier versions."""
    spoiled: int | None = None
    """Rows on which the classifier alone is right and the corrected answer wrong."""


@dataclass(frozen=True)
class Harm:
    """Scores of rows that a change harmed, against scores of rows that it did not harm."""

    harmful: int
    harmless: int
    mean_harmful: float | None
    """In nats; None where there are no such rows."""
    mean_harmless: float | None
    cohens_d: float | None
    """Difference of the means in units of the pooled standard deviation (Cohen, 1988)."""
    auroc: Estimate | None
    """Harmful against harmless."""


@dataclass(frozen=True)
class Example:
    """One row of the gallery: images as float32 `(height, width, channels)`, or rows of numbers."""

    original: npt.NDArray[np.float32] = field(repr=False)
    changed: npt.NDArray[np.float32] = field(repr=False)
    reconstruction: npt.NDArray[np.float32] | None = field(repr=False)
    """Of the changed row, where the companion is an autoencoder."""
    label: int
    before: int
    """The classifier's class of the original row."""
    after: int
    """The classifier's class of the changed row."""
    opinion: int
    """The companion's class of the changed row."""
    score: float
    flagged: bool


@dataclass(frozen=True)
class Threat:
    """One way that rows are changed, and what the guard makes of it.

    *Attempted* are the rows that the classifier gets right unchanged; *successful* are the attempted rows that it gets
    wrong changed. The guarded classifier is wrong where a row is *accepted and wrong* (not flagged, and the
    classifier wrong) or *corrected to wrong* (flagged, and the opinion wrong).
    """

    name: str
    """Without the strength, such as "PGD Linf" or "gaussian noise": all points of a curve have one name."""
    strength: float | None
    """Budget in the units of the norm, or severity; None for an attack that looks for the smallest change."""
    knowledge: Knowledge
    norm: str | None
    """"Linf", "L2", "L1"; None for corruptions."""
    model: str
    """The threat model, in a sentence."""
    rows: int
    """How many test rows were changed."""
    seconds: float
    accuracy: Estimate
    """Of the classifier alone, on changed rows."""
    always_corrected: Estimate
    corrected: Estimate
    """With the opinion's class where flagged."""
    attempted: int
    succeeded: Estimate
    """Share of the attempted rows that the classifier alone gets wrong."""
    accepted_and_wrong: Estimate
    """Share of the attempted rows that are not flagged while the classifier is wrong."""
    corrected_to_wrong: Estimate
    """Share of the attempted rows that are flagged while the opinion is wrong."""
    flagged: Estimate | None
    """Share of the successful rows that are flagged; None if there are no successful rows."""
    flagged_all: Estimate
    """Share of all changed rows that are flagged."""
    distance: dict[str, float | None]
    """Median size of the change of the successful rows, by norm: "Linf", "L2", "L1"."""
    detection: dict[str, dict[str, ScoreEvaluation | None]]
    """Against unchanged rows: by score (`OWN`, or a baseline), and by which rows count as positive, the "successful" or
    "all" that were attempted."""
    harm: Harm
    converged: bool | None
    """Whether the last quarter of the steps found hardly anything more; None where the attack cannot tell."""
    scores: list[float]
    """Of each changed row, in nats."""
    successful: list[bool]
    """Of each changed row."""
    examples: list[Example] = field(default_factory=list)
    for_the_curve: bool = False
    """Whether the strength is another than was asked for, tried to show how results depend on strength."""
    repaired: int | None = None
    """See `Clean.repaired`; of changed rows."""
    spoiled: int | None = None

    @property
    def title(self) -> str:
        """Name and strength."""
        if self.strength is None:
            return self.name
        return f"{self.name} {self.strength:.3g}" if self.norm else f"{self.name}{AT_SEVERITY}{self.strength:g}"

    @property
    def broken(self) -> float:
        """Share of the attempted rows on which the guarded classifier is wrong."""
        return self.accepted_and_wrong.value + self.corrected_to_wrong.value

    def __repr__(self) -> str:
        alone, guarded = percent(self.accuracy.value), percent(self.corrected.value)
        return f"<{self.title}, {self.knowledge}, {count(self.rows, 'row')}: right {alone} alone, {guarded} guarded>"


@dataclass(frozen=True)
class WorstCase:
    """For each row the attack that hurts most, of all attacks of one knowledge, norm and strength."""

    knowledge: Knowledge
    norm: str
    strength: float | None
    attacks: list[str]
    rows: int
    accuracy: Estimate
    """Of the classifier alone: right under every attack."""
    corrected: Estimate
    """Of the guarded classifier: right under every attack."""
    accepted_and_wrong: Estimate
    """Share of the attempted rows on which some attack is not flagged while the classifier is wrong."""
    detection: ScoreEvaluation | None
    """Against unchanged rows: of each row, the lowest score that a successful attack reached."""
    for_the_curve: bool = False
    """See `Threat.for_the_curve`."""


@dataclass(frozen=True)
class Comparison:
    """How far a baseline is ahead of the guard's score in telling what fooled the classifier, on the same rows."""

    over: str
    """What was compared: the title of an attack, the name of a corruption (all severities), or a knowledge (all
    threats)."""
    threats: int
    """How many threats; all count alike."""
    baseline: str
    lead: Lead


@dataclass(frozen=True)
class Check:
    """One condition without which an evaluation proves little (Carlini et al., 2019, arXiv:1902.06705)."""

    name: str
    passed: bool | None
    """None where it could not be checked."""
    detail: str
    """What was found, in a sentence; where it failed, what to do."""


@dataclass(frozen=True)
class Cost:
    """Median milliseconds an input, in batches of one and of many."""

    batch: int
    classifier_one: float
    guarded_one: float
    classifier_batch: float
    guarded_batch: float


@dataclass(frozen=True)
class Evaluation(Readable):
    """What `evaluate` found; printed, the `summary`. See `sentences`, `to_json`, `to_frame` and `demur report`.

    Examples:
        >>> evaluation
        <Evaluation of AdversarialAE on 300 rows: 31 threats, 5 sanity checks made, 1 failed; summary() says more>
        >>> text = evaluation.to_json("evaluation.json")
        >>> frame = Evaluation.from_json("evaluation.json").to_frame()
        >>> set(frame["threat"]) == {threat.name for threat in evaluation.threats} | {"unchanged"}
        True
    """

    _elsewhere: ClassVar[dict[str, str]] = {
        "save": "to_json(path) writes it, and Evaluation.from_json(path) reads it",
        **dict.fromkeys(("report", "to_html"), "demur.report.write_report(evaluation, path) writes the page"),
        "plot": "demur.plots draws its figures, and demur.report.write_report(evaluation, path) all of them",
    }

    detector: str
    classifier: str
    data_type: str | None
    input_shape: list[int]
    class_names: list[str]
    threshold: list[float]
    """In nats; one for each class, or one for all classes."""
    promised_fpr: float | None
    """What `infer_threshold(fpr=)` promised; None for a percentile or a threshold given by hand."""
    rows: int
    """Test rows."""
    clean: Clean
    threats: list[Threat]
    worst_cases: list[WorstCase]
    checks: list[Check]
    cost: Cost
    settings: dict[str, Any]
    """What was asked for: attacks, corruptions, budgets, seed, resamples."""
    notes: list[str]
    """What was left out or cut short, and why."""
    versions: dict[str, str]
    seconds: float
    clean_detection: dict[str, list[float]] = field(default_factory=dict)
    """Scores of the unchanged rows, by the name of the baseline."""
    comparisons: list[Comparison] = field(default_factory=list)
    """Of the baselines with the guard's score; empty in files of earlier versions."""

    @property
    def of_interest(self) -> list[Threat]:
        """The threats at the strength that was asked for, and all corruptions."""
        return [threat for threat in self.threats if not threat.for_the_curve]

    def sentences(self) -> list[str]:
        """What was found in plain words, the worst first: the sentences that a report begins with.

        Examples:
            >>> all(sentence.endswith(".") for sentence in evaluation.sentences())
            True
        """
        from demur.evaluation.sentences import sentences

        return sentences(self)

    def summary(self) -> Summary:
        """The sentences, and a table of the main figures: a string, which a notebook shows as HTML."""
        from demur.evaluation.sentences import main_figures, sentences

        title = f"{self.detector} on {self.classifier!r}: what it is worth, on {count(self.rows, 'test row')}"
        return Summary(title, {}, sentences(self), main_figures(self))

    def __repr__(self) -> str:
        failed = sum(check.passed is False for check in self.checks)
        made = sum(check.passed is not None for check in self.checks)
        return (
            f"<Evaluation of {self.detector} on {count(self.rows, 'row')}: {count(len(self.threats), 'threat')}, "
            f"{count(made, 'sanity check')} made, {failed} failed; summary() says more>"
        )

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the evaluation as JSON text; write it to a file, if one is given."""
        text = json.dumps({"format": FORMAT, **_plain(self)}, indent=1, allow_nan=False) + "\n"
        text = NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[0]), text)
        if path is not None:
            write_text(Path(path), text)
        return text

    @classmethod
    def from_json(cls, source: str | Path) -> Self:
        """Read what `to_json` wrote: the text, or the path of a file.

        Raises:
            CorruptEvaluation: the text is no evaluation, or has a newer format.
        """
        is_text = isinstance(source, str) and source.lstrip().startswith("{")
        what = "the text" if is_text else str(source)
        with reading(f"{what} is no evaluation that demur wrote", CorruptEvaluation):
            document = from_text(str(source) if is_text else Path(source).read_bytes())
            if format_of(document) > FORMAT:
                raise CorruptEvaluation("the evaluation was written by a newer demur: upgrade to read it")
            unknown = document.keys() - {"format", *(item.name for item in dataclasses.fields(cls))}
            if unknown:
                raise Malformed(f"nothing is known of {', '.join(sorted(unknown))}")
            return cast("Self", as_type(document, cls, _image))

    def to_frame(self) -> Any:
        """Return one row a threat as a pandas DataFrame; shares from 0 to 1, scores in nats.

        Raises:
            MissingExtra: pandas is not installed.
        """
        with extra("pandas", "evaluate"):
            import pandas as pd
        return pd.DataFrame(self.records())

    def records(self) -> list[dict[str, Any]]:
        """One flat dict a threat, the unchanged rows first: what `to_frame` holds."""
        clean = {"threat": "unchanged", "strength": None, "knowledge": None, "norm": None, "rows": self.rows}
        clean |= {name: getattr(self.clean, name).value for name in ("accuracy", "always_corrected", "corrected")}
        return [{**clean, "flagged_all": self.clean.fpr.value}, *map(_record, self.threats)]


def _record(threat: Threat) -> dict[str, Any]:
    def value(estimate: Estimate | None) -> float | None:
        return None if estimate is None else estimate.value

    record: dict[str, Any] = {"threat": threat.name}
    record |= {name: getattr(threat, name) for name in ("strength", "knowledge", "norm", "rows")}
    shares = ("accuracy", "always_corrected", "corrected", "succeeded", "accepted_and_wrong", "corrected_to_wrong")
    record |= {name: value(getattr(threat, name)) for name in (*shares, "flagged", "flagged_all")}
    for positives in ("successful", "all"):
        found = threat.detection[OWN][positives]
        for figure in ("auroc", "tpr_at_1_fpr", "tpr_at_5_fpr", "tpr_at_10_fpr"):
            record[f"{figure}_{positives}"] = None if found is None else found[figure].value
    record |= {name: getattr(threat.harm, name) for name in ("mean_harmful", "mean_harmless", "cohens_d")}
    return record | {"auroc_harmful_harmless": value(threat.harm.auroc), "l2": threat.distance["L2"]}


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers rounded to six digits, images as base64 of float16."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value, "<f2").tobytes()).decode("ascii")
        return {"shape": list(value.shape), "float16": data}
    value = value.item() if isinstance(value, np.generic) else value
    # JSON has no infinity: what is above every finite score may as well be the largest finite number.
    return float(f"{min(value, 3e38):.6g}") if isinstance(value, float) else value


def _image(_: Any, value: Any) -> npt.NDArray[np.float32]:
    """The array that `_plain` made text of."""
    found = as_type(value, _Image)
    return np.frombuffer(found.float16, "<f2").reshape(found.shape).astype("float32")


class _Image(msgspec.Struct):
    shape: list[int]
    float16: bytes
