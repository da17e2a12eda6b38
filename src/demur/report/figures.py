"""The plots of a report, as SVG with the colours and the font of the page."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from demur.evaluation.comparison import detection_of, telling
from demur.evaluation.result import OWN, Evaluation, Threat
from demur.extras import extra
from demur.plots import plot_accuracy, plot_roc, plot_score_distribution, plot_severity
from demur.report.groups import Group, groups

Place = Literal["above", "below"]
Draw = Callable[..., Any]
"""Takes `ax`."""

INCHES = (4.4, 2.9)
LONGEST = 40
"""Characters of a name in a legend."""
LINE = 0.17
"""Height of a line in a legend, in inches."""
MOST = 5
"""Curves in one plot."""
INK = "#010203"
"""Stands in a drawing for the colour of the page's text."""
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "demur",
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.title_fontsize": 8.5,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
LEGEND = {"frameon": False, "borderpad": 0.2, "handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 1.2}


class Figure(NamedTuple):
    """A drawing with a title."""

    title: str
    svg: str
    """Trusted: made by matplotlib, which escapes names."""


def figures(section: str, pairs: Iterator[tuple[str, Draw]], *, legend: Place = "above") -> list[Figure]:
    """Draw what a section shows; the name of the section keeps the ids of the drawings unique in the page."""
    return [Figure(title, svg(draw, f"{section}{i}", legend)) for i, (title, draw) in enumerate(pairs)]


def roc_curves(evaluation: Evaluation) -> Iterator[tuple[str, Draw]]:
    """One plot for each kind of attacker: at most five threats, from the hardest to detect to the easiest."""
    for group in groups(evaluation.of_interest):
        chosen = _spread(group)
        if chosen:
            curves = {shortened(t.title): (evaluation.clean.scores, _successful_scores(t)) for t in chosen}
            yield group.heading, partial(plot_roc, curves, log=True)


def distributions(evaluation: Evaluation) -> Iterator[tuple[str, Draw]]:
    """One plot for each kind of attacker: the threat that is hardest to detect."""
    for group in groups(evaluation.of_interest):
        chosen = _spread(group)
        if chosen:
            scores = (evaluation.clean.scores, _successful_scores(chosen[0]), evaluation.threshold)
            names = ("unchanged", "fooled it")
            yield f"{group.heading}: {chosen[0].title}", partial(plot_score_distribution, *scores, names=names)


def accuracies(evaluation: Evaluation) -> Iterator[tuple[str, Draw]]:
    """One plot for each attack that was run with several budgets."""
    for group in groups(evaluation.threats):
        for attack in group.attacks if group.knowledge != "corruption" else ():
            if len({threat.strength for threat in attack.threats} - {None}) > 1:
                draw = partial(plot_accuracy, evaluation, attack.name, knowledge=group.knowledge)
                yield f"{group.heading}: {attack.name}", draw


def severities(evaluation: Evaluation) -> Iterator[tuple[str, Draw]]:
    """Scores and accuracy by severity, of all corruptions together."""
    if any(t.knowledge == "corruption" and t.strength is not None for t in evaluation.threats):
        yield "Scores: harmful and harmless", partial(plot_severity, evaluation)
        yield "Accuracy: mean of all corruptions", partial(plot_accuracy, evaluation, knowledge="corruption")


def _spread(group: Group) -> list[Threat]:
    """At most five of a group's threats, from the lowest AUROC to the highest."""
    every = [threat for attack in group.attacks for threat in attack.threats if any(threat.successful)]

    def area(threat: Threat) -> float:
        found = detection_of(threat, OWN)
        return 1.0 if found is None else found["auroc"].value

    ranked = sorted(telling(every), key=area)
    kept = np.unique(np.linspace(0, len(ranked) - 1, min(MOST, len(ranked))).round().astype(int))
    return [ranked[i] for i in kept]


def shortened(name: str) -> str:
    """A name that fits a legend."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}\N{HORIZONTAL ELLIPSIS}{name[-LONGEST // 2 + 1 :]}"


def _successful_scores(threat: Threat) -> Any:
    return np.asarray(threat.scores)[np.asarray(threat.successful, bool)]


def svg(draw: Draw, prefix: str, legend: Place = "above") -> str:
    """Draw on new axes and return them as an `<svg>` element.

    Text stays text, in the font of the page; ink is `currentColor`; a colour such as `#4477aa` is the page's variable
    `--c4477aa` where the page has one. The prefix of the ids in the element is unique in the page.
    """
    with extra("matplotlib", "report"):
        import matplotlib as mpl
        from matplotlib.figure import Figure as Canvas
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # not the style that the user has set
        mpl.rcParams.update(SETTINGS)
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has other fonts than matplotlib
        figure = Canvas(figsize=INCHES, layout="constrained")
        axes = figure.add_subplot()
        draw(ax=axes)
        _move_legend(figure, axes, legend)
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _element(stream.getvalue(), prefix)


def _move_legend(figure: Any, axes: Any, place: Place) -> None:
    """Put the legend where it hides nothing and takes no room from the axes."""
    old = axes.get_legend()
    title, lines = old.get_title().get_text(), 1 + len(old.get_texts())
    if place == "above":
        room = 1.2 * LINE
        legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, **LEGEND)
        rect = (0.0, 0.0, 1.0, 1 - room / INCHES[1])
    else:
        room = (lines + 0.7) * LINE
        height = INCHES[1] + room
        figure.set_figheight(height)
        legend = axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.19), title=title, alignment="left", **LEGEND)
        rect = (0.0, room / height, 1.0, 1 - room / height)
    legend.set_in_layout(False)
    figure.get_layout_engine().set(rect=rect)


def _element(document: str, prefix: str) -> str:
    """An SVG document as an element of a page."""
    element = document[document.index("<svg") :].strip()
    element = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", element, flags=re.DOTALL)

    def rewrite(found: "re.Match[str]") -> str:
        tag = re.sub(r'\bid="', f'id="{prefix}-', found[0])
        tag = re.sub(r'href="#', f'href="#{prefix}-', tag).replace("url(#", f"url(#{prefix}-")
        tag = tag.replace(INK, "currentColor")
        return re.sub(r": (#[0-9a-f]{6})\b", lambda colour: f": var(--c{colour[1][1:]}, {colour[1]})", tag)

    element = re.sub(r"<[^>]+>", rewrite, element)  # in text, < and > are escaped
    root, rest = element.split(">", 1)
    box = re.findall(r'viewBox="[^"]*"', root)
    return f'<svg {" ".join(box)} aria-hidden="true">{rest}'
