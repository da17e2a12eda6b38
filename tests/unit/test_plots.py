"""Plots draw the figures they are given, where they are told, and say what they cannot draw. No backend."""

import dataclasses
import itertools
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from demur import plots
from demur.calibration.metrics import auroc
from demur.errors import EmptyInput, InvalidSetting, MissingExtra, NonFinite, ShapeMismatch, WrongType
from demur.plots.style import PALETTE
from tests.scaffold.evaluation_example import THRESHOLD, example

RNG = np.random.default_rng(0)
CLEAN, BAD = np.exp(RNG.normal(-3, 1, 200)), np.exp(RNG.normal(0, 1, 80))


@pytest.fixture
def ax():
    from matplotlib.figure import Figure

    return Figure().add_subplot()


@pytest.fixture
def pyplot():
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def legend(ax):
    return [text.get_text().strip() for text in ax.get_legend().get_texts()]


def draw_all(ax=None):
    whole = example()
    return [
        plots.plot_history({"loss": [2.0, 1.0]}, ax=ax),
        plots.plot_instance_score(CLEAN, ax=ax),
        plots.plot_score_distribution(CLEAN, BAD, 0.2, ax=ax),
        plots.plot_roc({"a": (CLEAN, BAD)}, log=True, ax=ax),
        plots.plot_accuracy(whole, ax=ax),
        plots.plot_severity(whole, ax=ax),
    ]


def test_all_draw_on_the_axes_given_and_open_no_figure(ax, pyplot):
    assert all(drawn is ax for drawn in draw_all(ax))
    assert pyplot.get_fignums() == []


def test_all_draw_in_a_new_figure_that_a_notebook_shows(pyplot):
    drawn = draw_all()
    assert len(pyplot.get_fignums()) == len({id(ax.figure) for ax in drawn}) == 6


@pytest.mark.parametrize("draw", [lambda: plots.plot_roc({"a": (CLEAN, BAD)}), lambda: plots.plot_instance_score(BAD)])
def test_without_matplotlib_they_say_what_to_install(draw, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtra, match=r"pip install 'demur\[plots\]'"):
        draw()


# Scores of instances ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda scores: scores, lambda scores: {"data": {"instance_score": scores}}])
def test_instance_scores_stand_at_their_index_coloured_by_class(wrap, ax):
    scores, target = np.array([0.1, 0.5, 0.2, 0.9]), np.array([0, 1, 0, 1])
    plots.plot_instance_score(wrap(scores), target, ["clean", "attacked"], 0.4, ax=ax)
    clean, attacked, threshold = ax.lines
    np.testing.assert_array_equal(clean.get_xydata(), [[0, 0.1], [2, 0.2]])
    np.testing.assert_array_equal(attacked.get_xydata(), [[1, 0.5], [3, 0.9]])
    assert set(threshold.get_ydata()) == {0.4}
    assert clean.get_color() != attacked.get_color()
    assert clean.get_marker() != attacked.get_marker()
    assert legend(ax) == ["clean", "attacked", "threshold"]


def test_arguments_come_in_the_order_that_is_known(ax):
    plots.plot_instance_score({"data": {"instance_score": BAD}}, np.zeros(80, int), ["clean"], 0.4, (0, 5), ax=ax)
    assert ax.get_ylim() == (0, 5)


def test_classes_may_be_names_and_thresholds_several(ax):
    plots.plot_instance_score([0.1, 0.2], ["cat", "dog"], threshold=[0.1, 0.3, 0.2], log=True, ax=ax)
    assert legend(ax) == ["cat", "dog", "thresholds"]
    assert sorted(line.get_ydata()[0] for line in ax.lines[2:]) == [0.1, 0.3]
    assert ax.get_yscale() == "log"


def test_instance_scores_refuse_what_they_cannot_draw(ax):
    with pytest.raises(ShapeMismatch, match="class of each of 2 scores; got 3"):
        plots.plot_instance_score([1, 2], [0, 1, 0], ax=ax)
    with pytest.raises(InvalidSetting, match="return_instance_score=True"):
        plots.plot_instance_score({"data": {"instance_score": None}}, ax=ax)
    with pytest.raises(NonFinite, match="NaN"):
        plots.plot_instance_score([1, np.nan], ax=ax)
    with pytest.raises(WrongType, match="preds holds scores, numbers; got list"):
        plots.plot_instance_score(["high"], ax=ax)
    with pytest.raises(ShapeMismatch, match=r"got \(1, 2\)"):
        plots.plot_instance_score([[1, 2]], ax=ax)


def test_infinity_is_drawn_above_all_else_at_its_sign(ax):
    plots.plot_instance_score([1.0, np.inf, 2.0, 3e38], ax=ax)
    assert ax.lines[0].get_ydata().tolist() == [1, 3, 2, 3]
    (sign,) = ax.texts
    assert (sign.get_text(), sign.get_position()[1]) == ("\N{INFINITY}", 3)


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ([1.0, 2.0, 1.5], "linear"),
        ([0.001, 0.01, 0.02, 5.0], "log"),
        ([-1.0, 0.01, 0.02, 5.0], "linear"),
        ([0.0, 0.0, 0.001, 5.0], "log"),
        ([np.inf, 1.0, 1.5], "linear"),
    ],
)
def test_an_axis_is_logarithmic_where_scores_need_it(scores, scale, ax):
    plots.plot_instance_score(scores, ax=ax)
    assert ax.get_yscale() == scale
    assert np.isfinite(ax.lines[0].get_ydata()).all()
    ax.clear()
    plots.plot_score_distribution(scores, [], ax=ax)
    assert ax.get_xscale() == scale
    ax.clear()
    plots.plot_instance_score(scores, log=False, ax=ax)
    assert ax.get_yscale() == "linear"


def test_twenty_classes_differ_in_colour_or_marker(ax):
    plots.plot_instance_score(CLEAN, np.arange(200) % 20, ax=ax)
    looks = [(line.get_color(), line.get_marker()) for line in ax.lines]
    assert len(set(looks)) == 20
    assert len({colour for colour, _ in looks[:10]}) == len({marker for _, marker in looks[:10]}) == 10


CONES = {  # simulated by Machado, Oliveira & Fernandes (2009), doi:10.1109/TVCG.2009.113, at severity 1
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear_light(colours):
    values = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(light):
    """Colours as they are seen, in the space of Ottosson (2020): distances of a hundredth are about visible."""
    lms = [[0.4122215, 0.5363325, 0.051446], [0.2119035, 0.6806995, 0.107397], [0.0883025, 0.2817188, 0.6299787]]
    lab = [[0.2104543, 0.7936178, -0.004072], [1.9779985, -2.4285922, 0.4505937], [0.025904, 0.7827718, -0.8086758]]
    return np.cbrt(np.clip(light, 0, 1) @ np.transpose(lms)) @ np.transpose(lab)


def colours_of_the_page():
    """The colours of plots in a report, in the light and in the dark, and of the page behind them."""
    sheet = (Path(plots.__file__).parents[1] / "report/templates/report.css").read_text(encoding="utf-8")
    dark = sheet[sheet.index("prefers-color-scheme: dark") : sheet.index("* { box-sizing")]
    given = dict(re.findall(r"--c([0-9a-f]{6}): (#[0-9a-f]{6})", dark))
    yield PALETTE, "#ffffff", 2.7
    yield [given[colour[1:]] for colour in PALETTE], "#14171b", 3.0


@pytest.mark.parametrize("cones", CONES)
def test_ten_colours_are_told_apart_by_any_eyes_in_the_light_and_in_the_dark(cones):
    for colours, page, contrast in colours_of_the_page():
        light = linear_light(colours)
        seen = oklab(np.clip(light @ np.transpose(CONES[cones]), 0, 1))
        distances = np.linalg.norm(seen[:, None] - seen, axis=-1)[np.triu_indices(10, 1)]
        assert distances.min() > 0.11
        bright, behind = (linear_light(some) @ [0.2126, 0.7152, 0.0722] + 0.05 for some in (colours, [page]))
        assert (np.maximum(bright, behind) / np.minimum(bright, behind)).min() > contrast


# Distributions and ROC --------------------------------------------------------------------------------------------


def test_a_distribution_shows_each_score_once(ax):
    plots.plot_score_distribution(CLEAN, BAD, 0.2, names=("normal", "PGD"), ax=ax)
    assert legend(ax) == ["normal (200)", "PGD (80)", "threshold"]
    assert ax.get_xscale() == "log"
    for patch in ax.patches:
        heights = patch.get_path().vertices[:, 1]
        # The outline of a histogram visits each bar's height twice.
        assert heights[heights > 0].sum() == pytest.approx(200, rel=1e-9)


@pytest.mark.parametrize("scores", [([0.0, 0.0], [0.0]), ([1.0], []), ([], [np.inf, 1.0])])
def test_a_distribution_can_be_narrow_or_one_sided(scores, ax):
    plots.plot_score_distribution(*map(np.array, scores), ax=ax)
    assert np.isfinite(ax.get_xlim()).all()


def test_a_distribution_of_nothing_is_an_error(ax):
    with pytest.raises(EmptyInput):
        plots.plot_score_distribution([], [], ax=ax)


@pytest.mark.parametrize("log", [False, True])
def test_a_roc_curve_has_its_area_in_the_legend(log, ax):
    labels = np.repeat([0, 1], [200, 80])
    curves = {"pair": (CLEAN, BAD), "_scores": {"scores": np.concatenate([CLEAN, BAD]), "labels": labels}}
    plots.plot_roc(curves, log=log, ax=ax)
    assert legend(ax) == [f"{name} ({auroc(CLEAN, BAD):.3f}, n = 80)" for name in curves]
    pair, scores, _ = (line.get_xydata() for line in ax.lines)
    np.testing.assert_array_equal(pair, scores)
    area = (np.diff(pair[:, 0]) * (pair[1:, 1] + pair[:-1, 1]) / 2).sum() / 1e4
    assert area == pytest.approx(auroc(CLEAN, BAD), abs=0.01)
    assert ax.get_xlim()[1] == 100


@pytest.mark.parametrize(
    ("curves", "error", "match"),
    [
        (3, WrongType, "curves are scores by name"),
        ({"a": BAD}, WrongType, r"curves\['a'\] is \(score_clean, score_bad\) or"),
        ({"a": {"scores": BAD}}, WrongType, r"curves\['a'\] is"),
        ({"a": (["x"], BAD)}, WrongType, "holds scores, numbers; got list"),
        ({"a": {"scores": BAD, "labels": [1]}}, ShapeMismatch, f"{len(BAD)} scores and 1 labels"),
    ],
)
def test_a_roc_plot_refuses_what_are_no_scores(curves, error, match, ax):
    with pytest.raises(error, match=match):
        plots.plot_roc(curves, ax=ax)


def test_a_roc_plot_refuses_nothing_and_nan(ax):
    for curves in ({}, {"a": (CLEAN, [])}, {"a": ([], BAD)}):
        with pytest.raises(EmptyInput):
            plots.plot_roc(curves, log=True, ax=ax)
    with pytest.raises(NonFinite):
        plots.plot_roc({"a": ([np.nan], BAD)}, ax=ax)


def test_names_are_taken_literally(ax):
    plots.plot_roc({r"$\broken{ and $x$": (CLEAN, BAD)}, ax=ax)
    ax.figure.savefig(__import__("io").BytesIO(), format="svg")
    assert legend(ax)[0].startswith(r"\$\broken{ and \$x\$")


# Training ---------------------------------------------------------------------------------------------------------


class Fitted:
    history: ClassVar = {
        "loss": [3.0, 0.3, 0.1],
        "val_loss": [2.0, 0.5, 0.4],
        "agreement": [0.1, 0.8, 0.9],
        "mae": [1, 2, 3],
    }


def test_history_draws_the_loss_and_the_agreement_each_on_an_axis(ax):
    assert plots.plot_history(Fitted(), ax=ax) is ax
    (right,) = [other for other in ax.figure.axes if other is not ax]
    loss, held_out = ax.lines
    assert loss.get_xydata().tolist() == [[1, 3], [2, 0.3], [3, 0.1]]
    assert held_out.get_ydata().tolist() == [2, 0.5, 0.4]
    assert (loss.get_color(), loss.get_linestyle(), held_out.get_linestyle()) == (held_out.get_color(), "-", "--")
    assert right.lines[0].get_ydata().tolist() == [10, 80, 90]
    assert legend(ax) == ["loss", "held-out loss", "agreement"]
    assert (ax.get_xlabel(), ax.get_ylabel(), right.get_ylabel()) == ("epoch", "loss", "agreement (%)")
    assert ax.get_yscale() == "log"


def test_history_draws_what_is_asked_for_and_takes_a_dict_of_one_epoch(ax):
    plots.plot_history(Fitted.history, ["mae"], ax=ax)
    assert legend(ax) == ["mae"]
    ax.clear()
    plots.plot_history({"loss": [1.0]}, ax=ax)
    assert [tick for tick in ax.get_xticks() if 0.9 < tick < 1.1] == [1]


@pytest.mark.parametrize(
    ("history", "metrics", "error", "words"),
    [
        (type("New", (), {"history": None})(), None, InvalidSetting, "New has no history: call fit"),
        (3, None, WrongType, "history is a detector, or its history: numbers by name; got int"),
        ({}, None, InvalidSetting, "dict has no history"),
        (Fitted(), ["los"], InvalidSetting, "holds no 'los'; it holds loss, val_loss, agreement, mae"),
    ],
)
def test_history_refuses_what_it_cannot_draw(history, metrics, error, words, ax):
    with pytest.raises(error, match=words):
        plots.plot_history(history, metrics, ax=ax)


# Evaluations ------------------------------------------------------------------------------------------------------


def test_accuracy_starts_at_the_unchanged_and_falls_with_the_budget(ax):
    whole = example()
    plots.plot_accuracy(whole, "PGD Linf", ax=ax)
    alone, always, corrected = ax.lines
    assert alone.get_xdata().tolist() == [0, 0.02, 0.05, 0.1, 0.2]
    for line, field in ((alone, "accuracy"), (always, "always_corrected"), (corrected, "corrected")):
        assert line.get_ydata()[0] == 100 * getattr(whole.clean, field).value
        assert line.get_ydata()[-1] < line.get_ydata()[0]
    assert legend(ax) == ["classifier alone", "always corrected", "corrected"]
    assert len(ax.collections) == 3  # intervals
    assert "Linf" in ax.get_xlabel()


def test_accuracy_without_a_name_is_of_the_attack_with_most_strengths(ax):
    plots.plot_accuracy(example(), ax=ax)
    assert ax.lines[0].get_xdata().tolist() == [0, 0.02, 0.05, 0.1, 0.2]


def test_accuracy_of_a_knowledge_is_the_mean_over_its_threats(ax):
    whole = example()
    plots.plot_accuracy(whole, knowledge="corruption", ax=ax)
    worst = [t.accuracy.value for t in whole.threats if t.knowledge == "corruption" and t.strength == 5]
    assert ax.lines[0].get_ydata()[-1] == pytest.approx(100 * np.mean(worst))
    assert ax.get_xlabel() == "severity, 300 inputs"


@pytest.mark.parametrize(("budgets", "scale"), [((0.02, 0.05, 0.1, 0.2), "linear"), ((0.001, 0.004, 0.1), "symlog")])
def test_ticks_stand_at_the_measured_budgets_and_do_not_overlap(budgets, scale, ax):
    whole = example()
    pgd = [t for t in whole.threats if t.name == "PGD Linf"]
    threats = [dataclasses.replace(t, strength=budget) for t, budget in zip(pgd, budgets, strict=False)]
    plots.plot_accuracy(dataclasses.replace(whole, threats=threats), ax=ax)
    assert ax.get_xscale() == scale
    assert ax.get_xticks().tolist() == [0, *budgets]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", *(f"{budget:g}" for budget in budgets)]
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_severity_draws_the_means_of_what_harmed_and_what_did_not(ax):
    whole = example()
    plots.plot_severity(whole, "gaussian noise", ax=ax)
    threats = [t for t in whole.threats if t.name == "gaussian noise"]
    harmful, harmless, unchanged, threshold = ax.lines
    assert harmful.get_ydata() == pytest.approx([t.harm.mean_harmful for t in threats])
    assert harmless.get_ydata() == pytest.approx([t.harm.mean_harmless for t in threats])
    assert set(unchanged.get_ydata()) == {np.mean(whole.clean.scores)}
    assert set(threshold.get_ydata()) == {THRESHOLD}


def test_severity_weighs_corruptions_by_their_rows_and_leaves_out_where_nothing_was_harmed(ax):
    whole = example()
    threats = [t for t in whole.threats if t.knowledge == "corruption" and t.name != "impulse noise"]
    none = dataclasses.replace(threats[0].harm, harmful=0, mean_harmful=None)
    threats = [dataclasses.replace(t, harm=none) if t.strength == 1 else t for t in threats]
    plots.plot_severity(dataclasses.replace(whole, threats=threats), ax=ax)
    harmful = next(line for line in ax.lines if line.get_label() == "harmful")
    assert harmful.get_xdata().tolist() == [2, 3, 4, 5]
    at_five = [t.harm for t in threats if t.strength == 5]
    expected = np.average([h.mean_harmful for h in at_five], weights=[h.harmful for h in at_five])
    assert harmful.get_ydata()[-1] == pytest.approx(expected)


def test_what_is_no_evaluation_is_an_error(ax):
    for draw in (plots.plot_accuracy, plots.plot_severity):
        with pytest.raises(WrongType, match=r"an Evaluation, as demur\.evaluate returns it; got str"):
            draw("evaluation.json", ax=ax)


def test_what_an_evaluation_lacks_is_an_error_that_says_what_it_has(ax):
    whole = example()
    with pytest.raises(InvalidSetting, match=r"holds no PGD L9 with a strength; it holds FGSM, PGD Linf, Square Linf"):
        plots.plot_accuracy(whole, "PGD L9", ax=ax)
    with pytest.raises(InvalidSetting, match=r"holds no threat with a strength; it holds none"):
        plots.plot_accuracy(dataclasses.replace(whole, threats=[]), ax=ax)
    with pytest.raises(InvalidSetting, match=r"holds no corruption fog with a strength; it holds gaussian noise"):
        plots.plot_severity(whole, "fog", ax=ax)
