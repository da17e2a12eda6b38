"""The page of a report: one file that asks for no other."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.evaluation.sentences import sentences
from demur.extras import extra
from demur.report.figures import accuracies, distributions, figures, roc_curves, severities
from demur.report.gallery import gallery
from demur.report.tables import comparison, groups, matrix
from demur.wording import NONE, interval, number, percent, percentage
from demur.writing import write_text

if TYPE_CHECKING:
    from demur.evaluation.result import Evaluation
    from demur.metrics import Estimate


def write_report(evaluation: "Evaluation", path: str | Path, *, title: str | None = None) -> Path:
    """Write an evaluation as one HTML page, which needs no network, no script and no other file.

    Examples:
        >>> write_report(evaluation, "report.html").stat().st_size > 10_000
        True

    Args:
        evaluation: what `evaluate` found.
        path: where to write it; what is there is replaced, at the end.
        title: of the page; by default the name of the detector.

    Returns:
        The path.

    Raises:
        WrongType: it is no evaluation.
        FileNotFoundError: there is no such folder.
        MissingExtra: jinja2 or matplotlib is not installed.
    """
    path = Path(path)
    write_text(path, page(evaluation, title=title))
    return path


def page(evaluation: "Evaluation", *, title: str | None = None) -> str:
    """Return the page that `write_report` writes."""
    template = _environment().get_template("report.html")
    grouped = groups(evaluation.threats)
    names, compared, severally = comparison(evaluation)
    text: str = template.render(
        title=title or f"{evaluation.detector}: evaluation",
        evaluation=evaluation,
        summary=sentences(evaluation),
        failed=[check for check in evaluation.checks if check.passed is False],
        attacks=[group for group in grouped if group.knowledge != "corruption"],
        corruptions=[group for group in grouped if group.knowledge == "corruption"],
        matrix=matrix(evaluation.threats),
        score_names=names,
        compared=compared,
        severally=severally,
        roc_curves=figures("roc", roc_curves(evaluation), legend="below"),
        distributions=figures("scores", distributions(evaluation)),
        accuracies=figures("accuracy", accuracies(evaluation)),
        severities=figures("severity", severities(evaluation)),
        gallery=gallery(evaluation),
        settings={name: _setting(value) for name, value in evaluation.settings.items()},
    )
    return text


def _environment() -> Any:
    with extra("jinja2", "report"):
        import jinja2
        import markupsafe
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("demur.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "cell": _cell,
        "interval": interval,
        "number": number,
        "percent": percent,
        "percentage": percentage,
        "trusted": markupsafe.Markup,
        "unbroken": _unbroken,
        "duration": _duration,
    }
    environment.globals["NONE"] = NONE
    return environment


def _cell(estimate: "Estimate | None") -> str:
    """A share as a table shows it, under a heading that says per cent."""
    return NONE if estimate is None else percentage(estimate.value)


def _unbroken(text: str) -> str:
    """A sentence in which no line ends between a number and its sign."""
    return re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text)


def _setting(value: Any) -> str:
    """A setting as one reads it aloud."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_setting(part)}" for name, part in value.items()) or NONE
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value)) or NONE
    return {None: NONE, True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def _duration(seconds: float) -> str:
    """How long it took, in the unit that reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
