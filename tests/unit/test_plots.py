"""Plots draw the figures they are given, where they are told, and say what they cannot draw. No backend."""

import dataclasses

import numpy as np
import pytest

from demur import plots
from demur.errors import EmptyInput, InvalidSetting, MissingExtra, NonFinite, ShapeMismatch, WrongType
from demur.metrics import auroc
from evaluation_example import THRESHOLD, example

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
    assert len(pyplot.get_fignums()) == len({id(ax.figure) for ax in drawn}) == 5


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


def test_infinity_is_drawn_above_all_else(ax):
    plots.plot_instance_score([1.0, np.inf, 2.0, 3e38], ax=ax)
    assert ax.lines[0].get_ydata().tolist() == [1, 3, 2, 3]


# Distributions and ROC --------------------------------------------------------------------------------------------


def test_a_distribution_shows_each_score_once(ax):
    plots.plot_score_distribution(CLEAN, BAD, 0.2, names=("normal", "PGD"), ax=ax)
    assert legend(ax) == ["normal", "PGD", "threshold"]
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
    assert legend(ax) == [f"{name} ({auroc(CLEAN, BAD):.3f})" for name in curves]
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
    assert ax.get_xlabel() == "severity"


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
