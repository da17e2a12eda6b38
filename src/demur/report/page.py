"""The page of a report: one file that needs no other."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.atomic import write_text
from demur.calibration.metrics import Estimate
from demur.calibration.words import NONE, number, percentage
from demur.evaluation.comparison import BETTER, WORSE, corrections
from demur.evaluation.result import Evaluation, Threat
from demur.evaluation.sentences import sentences
from demur.extras import extra
from demur.report.figures import accuracies, distributions, figures, roc_curves, severities
from demur.report.gallery import gallery
from demur.report.groups import comparison, groups, matrix

if TYPE_CHECKING:
    from markupsafe import Markup


def write_report(evaluation: Evaluation, path: str | Path, *, title: str | None = None) -> Path:
    """Write an evaluation as one HTML page, which needs no network, no script and no other file.

    Examples:
        >>> write_report(evaluation, "report.html").stat().st_size > 10_000
        True

    Args:
        evaluation: what `evaluate` found.
        path: where to write it; a file that is there is replaced at the end.
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


def page(evaluation: Evaluation, *, title: str | None = None) -> str:
    """Return the page that `write_report` writes."""
    said = sentences(evaluation)  # raises WrongType where this is no evaluation
    template = _environment().get_template("report.html")
    grouped = groups(evaluation.threats)
    names, compared, severally = comparison(evaluation)
    return str(
        template.render(
            title=title or f"{evaluation.detector}: evaluation",
            evaluation=evaluation,
            summary=said,
            failed=[check for check in evaluation.checks if check.passed is False],
            attacks=[group for group in grouped if group.knowledge != "corruption"],
            corruptions=[group for group in grouped if group.knowledge == "corruption"],
            worst_cases=[case for case in evaluation.worst_cases if len(case.attacks) > 1],
            matrix=matrix(evaluation.threats),
            changed=corrections(evaluation),
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
    )


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
        "cell": lambda estimate: NONE if estimate is None else percentage(estimate.value),
        "bounds": _bounds,
        "number": number,
        "plain": lambda text: text.replace("`", ""),
        "id": id,
        "rows": _rows,
        "mark": _mark,
        "trusted": markupsafe.Markup,
        # No line ends between a number and the per-cent sign.
        "unbroken": lambda text: re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text),
        "duration": _duration,
    }
    environment.globals["NONE"] = NONE
    return environment


def _bounds(estimate: Estimate | None) -> str:
    """The interval of a share, as a table shows it below the share."""
    return "" if estimate is None else f"{percentage(estimate.low)}\N{EN DASH}{percentage(estimate.high)}"


def _rows(threats: Sequence[Threat | None]) -> str:
    """On how many inputs threats were tried."""
    found = sorted({threat.rows for threat in threats if threat is not None})
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _mark(mark: str | None) -> "Markup":
    """A sign for what is better or worse beyond chance, read aloud as the word."""
    import markupsafe

    good, bad = ("good", "\N{BLACK UP-POINTING TRIANGLE}"), ("bad", "\N{BLACK DOWN-POINTING TRIANGLE}")
    look, sign = {BETTER: good, WORSE: bad}.get(mark or "", ("", ""))
    return markupsafe.Markup(f'<b class="mark {look}" role="img" aria-label="{mark}">{sign}</b>' if sign else "")


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_setting(part)}" for name, part in value.items()) or NONE
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value)) or NONE
    return {None: NONE, True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
