"""What an evaluation is made of, part by part, on arrays made by hand: no network computes here."""

import ast
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.errors import CorruptEvaluation, InvalidSetting
from demur.evaluation import sanity as checks
from demur.evaluation.attacks import FGSM, PGD, Attacked, CarliniWagner, HopSkipJump, SelectivePGD, WeightedPGD
from demur.evaluation.attacks.climbing import Facts, worst
from demur.evaluation.norms import (
    NORMS,
    bounds_of,
    default_epsilons,
    doubt_about,
    epsilons_of,
    projected,
    random_change,
    size,
    steepest,
)
from demur.evaluation.outcomes import Changed, Description, Outcome, Unchanged, outcome_of
from demur.evaluation.pace import Pace
from demur.evaluation.result import OWN, Evaluation
from demur.evaluation.schedule import FEWEST, Price, in_order, is_worthwhile, scheduled
from demur.evaluation.store import AttackedRows, Store, digest_of_rows
from demur.evaluation.target import Verdict
from demur.evaluation.threats import Corruption, default_attacks, described, omissions
from tests.scaffold.advice import advises
from tests.scaffold.evaluation_example import example

EVERY_NORM = pytest.mark.parametrize("norm", NORMS)
relaxed = settings(max_examples=50, deadline=None)
CHANGES = arrays("float64", (3, 2, 4), elements=st.floats(-5, 5))
RADII = st.floats(0.01, 10)


# Norms --------------------------------------------------------------------------------------------------------------


def test_a_size_is_the_norm_of_a_row():
    change = np.array([[[3.0, -4.0]], [[0.0, 0.0]]])
    assert [size(change, norm).tolist() for norm in NORMS] == [[4.0, 0.0], [5.0, 0.0], [7.0, 0.0]]


@EVERY_NORM
@relaxed
@given(gradient=CHANGES)
def test_the_steepest_change_is_of_size_1_and_climbs_the_most(norm, gradient):
    way = steepest(gradient, norm)
    assert way.shape == gradient.shape
    largest = np.abs(gradient).reshape(3, -1).max(axis=1)
    for i in np.flatnonzero(largest > 1e-3):
        assert size(way[i : i + 1], norm)[0] == pytest.approx(1)
        rows, row = way[i].ravel(), gradient[i].ravel()
        dual = {"Linf": 1, "L2": 2, "L1": np.inf}[norm]
        assert rows @ row == pytest.approx(np.linalg.norm(row, dual), rel=1e-6), "no change of that size climbs more"
    assert (steepest(0 * gradient, norm) == 0).all()


def test_an_l1_step_is_shared_by_the_top_percent():
    gradient = np.linspace(1, 2, 300)[None]
    gradient[0, ::2] *= -1
    way = steepest(gradient, "L1")
    assert (way != 0).sum() == 3
    np.testing.assert_allclose(np.abs(way[way != 0]), 1 / 3)
    np.testing.assert_array_equal(np.sign(way[way != 0]), np.sign(gradient[way != 0]))


@EVERY_NORM
@relaxed
@given(change=CHANGES, radius=RADII)
def test_what_is_projected_is_inside_and_what_is_inside_stays(norm, change, radius):
    found = projected(change, norm, radius)
    assert found.shape == change.shape
    assert (size(found, norm) <= radius * (1 + 1e-9)).all()
    np.testing.assert_allclose(projected(found, norm, radius), found, atol=1e-12)
    inside = size(change, norm) <= radius
    np.testing.assert_array_equal(found[inside], change[inside])
    assert (found * change >= 0).all(), "no number changes its sign"
    # A projection onto a convex set: the way there is at no acute angle to the way to any other point of it.
    other = projected(np.roll(change, 1, axis=0), norm, radius)
    angle = ((change - found) * (other - found)).reshape(3, -1).sum(axis=1)
    assert (angle <= 1e-6).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_l1_projection_is_the_nearest_point(seed):
    change = np.random.default_rng(seed).normal(size=4) * 2
    found = projected(change[None], "L1", 1.5)[0]
    # As a sum of two parts of one sign each, the ball is smooth for the solver.
    solved = minimize(
        lambda parts: np.sum((parts[:4] - parts[4:] - change) ** 2),
        np.full(8, 0.1),
        method="SLSQP",
        bounds=[(0, None)] * 8,
        constraints={"type": "ineq", "fun": lambda parts: 1.5 - parts.sum()},
    )
    np.testing.assert_allclose(found, solved.x[:4] - solved.x[4:], atol=1e-3)


@EVERY_NORM
def test_a_random_start_is_inside_and_a_seed_decides_it(norm):
    drawn = random_change((200, 3, 3), norm, 0.5, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    sizes = size(drawn, norm)
    assert sizes.max() <= 0.5 + 1e-6
    assert sizes.max() > 0.45
    np.testing.assert_array_equal(drawn, random_change((200, 3, 3), norm, 0.5, np.random.default_rng(0)))
    assert abs(drawn.mean()) < 0.05


# Budgets ------------------------------------------------------------------------------------------------------------


def test_default_budgets_depend_on_what_rows_are():
    assert default_epsilons((32, 32, 3), (0, 1)) == pytest.approx({"Linf": 8 / 255, "L2": 0.5, "L1": 12})
    assert default_epsilons((3, 32, 32), (0, 1)) == default_epsilons((32, 32, 3), (0, 1))
    assert default_epsilons((28, 28, 1), (0, 1)) == pytest.approx({"Linf": 0.1, "L2": 1.5, "L1": 10})
    assert default_epsilons((13,), (-5, 5)) == {"Linf": 0.2, "L2": 0.5, "L1": 1.0}
    assert default_epsilons((), (0, 1)) == default_epsilons((13,), (0, 1))
    bytes_ = default_epsilons((28, 28, 1), (0, 255))
    assert bytes_ == pytest.approx({"Linf": 25.5, "L2": 1.5 * 255, "L1": 2550})
    large = default_epsilons((64, 64, 3), (0, 1))
    assert large == pytest.approx({"Linf": 8 / 255, "L2": 1.0, "L1": 48})


def test_budgets_given_take_the_place_of_the_defaults():
    assert epsilons_of({"L2": 2}, (28, 28, 1), (0, 1)) == {**default_epsilons((28, 28, 1), (0, 1)), "L2": 2.0}
    for asked, match in [
        ({"L3": 1}, "keyed by norm, which is one of 'Linf', 'L2', 'L1'; got 'L3'"),
        ({"L2": 0}, r"epsilons\['L2'\] is a number above 0; got 0"),
        ({"L2": "1"}, "above 0; got '1'"),
        ({"L1": np.nan}, "above 0; got nan"),
    ]:
        with pytest.raises(InvalidSetting, match=match):
            epsilons_of(asked, (28, 28, 1), (0, 1))


def test_bounds_are_those_of_images_or_what_is_found():
    image = np.full((2, 8, 8, 1), 0.3)
    image[0, 0, 0] = 0.9
    assert bounds_of(None, image, (8, 8, 1)) == (0, 1)
    assert bounds_of(None, 2 * image, (8, 8, 1)) == (0.6, 1.8)
    assert bounds_of(None, image - 0.5, (8, 8, 1)) == pytest.approx((-0.2, 0.4))
    assert bounds_of(None, np.array([[0.2], [0.4]]), (1,)) == (0.2, 0.4)
    assert bounds_of([-1, 2], image, (8, 8, 1)) == (-1, 2)
    for asked in (1, (1, 0), (0, 0), (0, 1, 2), ("0", "1"), (0, np.nan), {0, 1}):
        with pytest.raises(InvalidSetting, match="two numbers, the smaller first"):
            bounds_of(asked, image, (8, 8, 1))
    for asked in ((0.4, 1), (0, 0.5)):
        with pytest.raises(InvalidSetting, match=r"X holds numbers from 0.3 to 0.9, outside the bounds"):
            bounds_of(asked, image, (8, 8, 1))


# Plans --------------------------------------------------------------------------------------------------------------


def test_default_attacks_hold_every_knowledge_and_mark_other_budgets():
    attacks = default_attacks({"Linf": 0.1, "L2": 1.5, "L1": 10.0}, (0, 1))
    assert {attack.knowledge for attack in attacks} == {"grey-box", "black-box", "white-box"}
    assert [attack.epsilon for attack in attacks if attack.name == "PGD"] == [0.025, 0.05, 0.1, 0.2, 0.5]
    for attack in attacks:
        of_interest = attack.epsilon in (None, {"Linf": 0.1, "L2": 1.5, "L1": 10.0}[attack.norm])
        assert attack.for_the_curve is not of_interest
    assert len({json.dumps(attack.settings) for attack in attacks}) == len(attacks)


@pytest.mark.parametrize("linf", [0.3, 0.5, 0.6])
def test_pgd_has_the_budget_that_was_asked_for_however_large(linf):
    attacks = default_attacks({"Linf": linf, "L2": 1.5, "L1": 10.0}, (0, 1))
    pgd = [attack for attack in attacks if attack.name == "PGD"]
    assert len({attack.epsilon for attack in pgd}) == len(pgd)
    assert [attack.epsilon for attack in pgd if not attack.for_the_curve] == [linf]


def test_one_pgd_is_kept_for_the_check_that_large_budgets_succeed():
    attacks = default_attacks({"Linf": 0.1, "L2": 1.5, "L1": 10.0}, (0, 1))
    assert [attack.title for attack in attacks if attack.for_a_check] == ["PGD 0.5"]


def seconds_for(prices, rows):
    return sum(price.of(n) for price, n in zip(prices, rows, strict=True))


PRICES = st.lists(
    st.builds(
        Price,
        most=st.integers(1, 400),
        a_row=st.floats(0, 2),
        start=st.floats(0, 20),
        tried=st.just(0),
        kind=st.sampled_from("abc"),
        weight=st.sampled_from([0.2, 1.0, 10.0]),
        for_the_curve=st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@relaxed
@given(PRICES, st.floats(0, 500), st.data())
def test_a_schedule_keeps_to_the_time_and_to_the_fewest_rows(prices, seconds, data):
    if data.draw(st.booleans()):
        # Some have been tried already, as in the middle of an evaluation.
        tried = [data.draw(st.sampled_from([0, price.fewest, price.most])) for price in prices]
        prices = [price._replace(tried=n) for price, n in zip(prices, tried, strict=True)]
    rows = scheduled(prices, seconds)
    assert seconds_for(prices, rows) <= seconds * (1 + 1e-9)
    for price, n in zip(prices, rows, strict=True):
        assert n >= price.tried
        assert n in range(min(FEWEST, price.most), price.most + 1) or n == 0
    if seconds_for(prices, [price.most for price in prices]) <= seconds * (1 - 1e-9):
        assert rows == [price.most for price in prices], "nothing is cut where there is time enough"
    assert scheduled(prices, seconds) == rows
    of_interest = [n == price.most for price, n in zip(prices, rows, strict=True) if not price.for_the_curve]
    curves = [n > price.tried for price, n in zip(prices, rows, strict=True) if price.for_the_curve]
    assert all(of_interest) or not any(curves), "points of curves are given up before rows"


def test_what_is_cheap_for_its_weight_comes_first_and_curves_last():
    cheap, knowing, dear = Price(100, 0.1), Price(100, 0.8, weight=10), Price(100, 0.4)
    curve = Price(100, 0.01, for_the_curve=True)
    prices = [dear, curve, knowing, cheap]
    assert in_order(prices) == [2, 3, 0, 1]
    assert scheduled(prices, 40) == [0, 0, 50, 0]
    assert scheduled(prices, 45) == [0, 0, 50, 50]
    assert scheduled(prices, 65) == [50, 0, 50, 50]
    assert scheduled(prices, 130) == [100, 0, 100, 100], "not one second is left for a curve on fewest rows"
    assert scheduled(prices, 131) == [100, 100, 100, 100]


def test_what_does_not_fit_is_left_out_and_what_comes_after_it_may_fit():
    heavy = Price(100, 2.0, weight=100)
    assert in_order([heavy, Price(100, 0.2)]) == [0, 1]
    assert scheduled([heavy, Price(100, 0.2)], 30) == [0, 100]


def test_the_rest_of_the_time_goes_into_rows_that_narrow_the_figures_most():
    """A quarter of the cost is twice the rows; and no other way to spend the time has a smaller sum of variances."""
    prices = [Price(9000, 0.04, kind="a"), Price(9000, 0.01, kind="b"), Price(9000, 0.01, kind="c", weight=4)]
    rows = scheduled(prices, 40)
    assert rows == pytest.approx([400, 800, 1600], abs=2)
    assert seconds_for(prices, rows) == pytest.approx(40, abs=0.05)

    def variance(shares):
        return sum(p.weight * p.a_row / (40 * s) for p, s in zip(prices, shares, strict=True))

    best = variance([price.a_row * n / 40 for price, n in zip(prices, rows, strict=True)])
    others = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    assert best <= min(variance(shares) for shares in others) * 1.001


def test_threats_of_a_kind_are_tried_on_the_same_rows():
    prices = [Price(400, 0.3, kind="a"), Price(400, 0.1, kind="a"), Price(400, 0.1, kind="b", weight=2), Price(60, 0.1)]
    few, more, other, own = scheduled(prices, 100)
    assert (few, own) == (more, 60)
    # Two threats of weight 1 that cost 0.4 s a row, and one of weight 2 that costs 0.1 s.
    assert other == pytest.approx(2 * more, abs=2)
    # What cannot be tried on more rows does not make its kind dearer.
    capped = [*prices[:3], Price(60, 50.0, tried=60, kind="b")]
    assert scheduled(capped, 90)[:3] == pytest.approx([few, more, other], abs=15)
    assert scheduled(capped, 90)[2] == pytest.approx(2 * scheduled(capped, 90)[1], abs=2)


def test_a_start_is_paid_once():
    fresh, going_on = Price(400, 0.1, start=10), Price(400, 0.1, start=10, tried=50)
    assert (fresh.of(50), going_on.of(50), going_on.of(60)) == (15, 0, 1)
    assert scheduled([fresh], 14) == [0]
    assert scheduled([fresh], 15) == [50]
    assert scheduled([going_on], 15) == [200]


@pytest.mark.parametrize(
    ("tried", "rows", "worthwhile"),
    [(0, 50, True), (0, 0, False), (100, 140, False), (100, 150, True), (380, 400, True)],
)
def test_a_threat_is_taken_up_again_only_for_notably_more_rows(tried, rows, worthwhile):
    assert is_worthwhile(Price(400, 0.1, tried=tried), rows) is worthwhile


def fake_trial(attack, most=400, tried=0, a_row=0.0):
    return SimpleNamespace(
        threat=attack,
        most=most,
        tried=tried,
        a_row=a_row,
        scene=SimpleNamespace(unchanged=SimpleNamespace(y=range(300))),
    )


def pace():
    a_pass = {"grey-box": 0.01, "black-box": 0.01, "white-box": 0.02, "corruption": 0.01}
    return Pace(compiling=2.0, a_pass=a_pass, scoring=0.1, figures=0.001)


def test_a_threat_costs_what_its_passes_do_until_it_was_tried():
    expected = pace()
    found = expected.price(fake_trial(PGD(0.1)))
    assert found == Price(400, a_row=40 * 0.01 + 0.1, start=2 + 0.35, kind="grey-box", weight=1.0)
    knowing = expected.price(fake_trial(SelectivePGD(0.1, steps=100)))
    assert (knowing.a_row, knowing.weight) == (pytest.approx(100 * 0.02 + 0.1), 10)
    corruption = expected.price(fake_trial(Corruption("fog", 3, None)))
    assert (corruption.start, corruption.weight) == (pytest.approx(0.35), 0.04), "nothing is compiled for a corruption"
    # Of what has been tried, the cost is known.
    assert expected.price(fake_trial(PGD(0.1), tried=50, a_row=0.7))[:4] == (400, 0.7, 0.0, 50)
    curve = PGD(0.2)
    curve.for_the_curve = True
    assert expected.price(fake_trial(curve)).for_the_curve
    curve.for_a_check = True
    assert not expected.price(fake_trial(curve)).for_the_curve


def test_what_threats_took_corrects_what_those_of_the_same_knowledge_are_expected_to():
    measured = pace()
    # Expected: 2 s and 50 rows of 0.4 s, besides 50 times 0.1 s for the scores.
    measured.learn(fake_trial(PGD(0.1), tried=50), seconds=3 * 22 + 5)
    assert measured.price(fake_trial(PGD(0.2))).a_row == pytest.approx(3 * 0.4 + 0.1)
    assert measured.price(fake_trial(SelectivePGD(0.1))).a_row == pytest.approx(2.1), "another kind of attacker"


def test_unchanged_rows_are_no_more_than_their_share_of_the_time_allows():
    assert pace().unchanged_rows(20, threats=100) == 200, "for their scores"
    assert pace().unchanged_rows(20, threats=400) == FEWEST, "for the figures of threats"


def test_corruptions_have_what_attacks_have():
    corruption = Corruption("fog", 3, lambda X, severity, seed, start: X)
    assert corruption.title == "fog at severity 3"
    assert described(corruption)[:4] == ("fog", 3.0, "corruption", None)
    assert described(FGSM(0.1)) == Description("FGSM", 0.1, "grey-box", "Linf", FGSM.model, False)
    assert SelectivePGD(0.1, steps=200).passes == 2 * SelectivePGD(0.1).passes


THREATS = [
    *(FGSM(0.1), WeightedPGD(0.1), WeightedPGD(1.5, norm="L2"), HopSkipJump()),
    *(Corruption(name, severity, None) for name in ("fog", "snow") for severity in (1, 2, 3, 4, 5)),
]


def for_curves(attacks):
    for attack in attacks:
        attack.for_the_curve = True
    return attacks


@pytest.mark.parametrize(
    ("threats", "rows", "said"),
    [
        (THREATS, [400] * 14, None),
        (
            THREATS,
            [400, 50, 60, 0, *[400] * 5, *[120] * 5],
            "of these 400 rows, attackers who know the guard on 50 to 60, corruptions on 120 to 400; "
            "left out: HopSkipJump",
        ),
        (
            THREATS,
            [50, 0, 0, 0, *[50] * 4, 0, *[0] * 5],
            "of these 400 rows, other attackers on 50, corruptions on 50; left out: PGD on error and score; "
            "PGD on error and score, L2; HopSkipJump; fog at severity 5; snow",
        ),
        (THREATS, [400, 400, 400, 400, *[0] * 10], "left out: all 2 corruptions"),
        (for_curves([PGD(0.2), PGD(0.3)]), [0, 400], "left out: 1 attack with another budget, for a curve"),
        (for_curves([PGD(0.2), PGD(0.3)]), [0, 0], "left out: 2 attacks with other budgets, for curves"),
    ],
)
def test_what_was_cut_is_one_line_in_groups(threats, rows, said):
    line = None if said is None else f"To end within 3min: {said}."
    assert omissions(threats, rows, 400, 400, budget="3min") == line


def test_rows_and_baselines_that_were_left_out_are_in_the_line():
    line = omissions([FGSM(0.1)], [85], 85, 1000, budget="2min", baselines=["reconstruction error"])
    assert line == (
        "To end within 2min: 85 of the 1,000 test rows were used; left out: the comparison with reconstruction error."
    )


def test_without_a_budget_slow_attacks_are_named():
    assert omissions([FGSM(0.1), HopSkipJump()], [500, 100], 500, 500) == (
        "Slow attacks were tried on fewer than the 500 rows: HopSkipJump on 100."
    )
    assert omissions([FGSM(0.1)], [500], 500, 500) is None


# Attacks, in NumPy ----------------------------------------------------------------------------------------------------


def facts(score, wrong, opinion_wrong, limit=1.0):
    return Facts(
        np.array(score, "float64"),
        np.array(wrong, bool),
        np.array(opinion_wrong, bool),
        np.full(len(score), limit),
    )


def test_an_attack_is_ranked_by_what_it_did_to_the_guarded_classifier():
    found = facts([0.5, 1.0, 2.0, 2.0, 0.5, 2.0], [1, 1, 1, 1, 0, 0], [0, 1, 1, 0, 1, 0])
    # Accepted and wrong; the same at the threshold; corrected to wrong; corrected; right; flagged and right.
    assert found.rank.tolist() == [3, 3, 2, 1, 0, 0]
    assert found.defeated.tolist() == [True, True, True, False, False, False]
    assert facts([2.0], [0], [1]).rank.tolist() == [2], "flagged although right, and then corrected to wrong"


def test_of_several_attacks_the_one_counts_that_came_furthest():
    x = [np.full((5, 1), value, "float32") for value in (1, 2)]
    one = facts([0.5, 0.9, 2.0, 0.1, 2.0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0])
    other = facts([0.4, 0.1, 0.5, 2.0, 0.3], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0])
    late = np.array([True, True, False, False, False]), np.array([True, False, True, False, True])
    found = worst([(Attacked(x[0], late[0]), one), (Attacked(x[1], late[1]), other)])
    # The lower score; only the first is wrong; only the second gets through; neither is wrong: the last; the second.
    assert found.x.ravel().tolist() == [2, 1, 2, 2, 2]
    assert found.late.tolist() == [True, True, True, False, True]
    # Not late where any of them was early.
    for flags, expected in [
        ((~late[0], late[1]), [False, False, True, False, True]),
        ((late[0], ~late[1]), [False, True, False, False, False]),
    ]:
        pairs = [(Attacked(x[0], flags[0]), one), (Attacked(x[1], flags[1]), other)]
        assert worst(pairs).late.tolist() == expected


@pytest.mark.parametrize("attack", [FGSM(0.1), CarliniWagner()], ids=lambda attack: attack.name)
def test_rows_that_an_attack_spoilt_stay_as_they_were(attack):
    target = SimpleNamespace(clipped=lambda x: np.clip(x, 0, 1))
    x = np.linspace(0, 1, 24, dtype="float32").reshape(6, 2, 2)
    changed = np.array(x + np.float32(0.05))
    changed[0], changed[1, 0, 0], changed[2, 0, 0] = 0.5, np.nan, -np.inf
    changed[3, 0, 0] = x[3, 0, 0] + 0.2
    found = attack.within(x, changed, target)
    assert found.dtype == np.float32
    is_old = (found == x).all(axis=(1, 2))
    assert is_old.tolist() == [True, True, True, attack.epsilon is not None, False, False]
    assert found.max() <= 1
    one = attack.within(np.zeros((2, 1), "float32"), np.full((2, 1), 0.1, "float32"), target)
    np.testing.assert_allclose(one, 0.1)


def test_settings_tell_attacks_apart():
    assert PGD(0.1).settings == {
        "name": "PGD",
        "epsilon": 0.1,
        "for_the_curve": False,
        "arguments": {"steps": 40, "rel_stepsize": 0.1},
    }
    assert PGD(0.1).title == "PGD 0.1"
    assert CarliniWagner().title == "C&W"
    adaptive = SelectivePGD(0.25, norm="L2", steps=7)
    assert adaptive.settings["norm"] == "L2"
    assert adaptive.settings["steps"] == 7
    assert adaptive.title == "selective PGD, L2 0.25"
    assert SelectivePGD(0.25).title == "selective PGD 0.25"


# Results ------------------------------------------------------------------------------------------------------------


def test_an_evaluation_comes_back_from_json_as_it_was(tmp_path):
    found = example()
    text = found.to_json(tmp_path / "evaluation.json")
    assert (tmp_path / "evaluation.json").read_text(encoding="utf-8") == text
    for source in (text, tmp_path / "evaluation.json", str(tmp_path / "evaluation.json")):
        again = Evaluation.from_json(source)
        assert again.to_json() == text
    assert type(again.threats[0]) is type(found.threats[0])
    assert again.threats[0].accuracy == pytest.approx(found.threats[0].accuracy, rel=1e-5)
    assert again.worst_cases[0].detection["auroc"].value == pytest.approx(
        found.worst_cases[0].detection["auroc"].value, rel=1e-5
    )
    shown, kept = (next(t for t in e.threats if t.examples).examples[0] for e in (found, again))
    np.testing.assert_allclose(kept.changed, shown.changed, atol=1e-3)
    assert kept.changed.dtype == np.float32
    assert again.checks == found.checks
    assert again.notes == found.notes


def test_what_json_cannot_hold_is_written_as_it_can():
    odd = dataclasses.replace(
        example(),
        clean=dataclasses.replace(example().clean, scores=[np.inf, np.float32(0.25), 1 / 3]),
        settings={"seed": np.int64(3), "bounds": (0.0, 1.0), "attacks": None},
    )
    document = json.loads(odd.to_json())
    assert document["clean"]["scores"] == [3e38, 0.25, 0.333333]
    assert document["settings"] == {"seed": 3, "bounds": [0.0, 1.0], "attacks": None}
    lines = odd.to_json().splitlines()
    assert any('"scores": [ 3e+38, 0.25, 0.333333 ]' in line for line in lines), "numbers take one line"


def documents():
    """Documents that are no evaluation, by what is wrong with them."""
    whole = json.loads(example().to_json())
    threats = whole["threats"]
    return {
        "nonsense": "{nonsense",
        "truncated": example().to_json()[:5000],
        "another document": '{"format": 1, "name": "something else"}',
        "no format": json.dumps({key: value for key, value in whole.items() if key != "format"}),
        "a part is missing": json.dumps({key: value for key, value in whole.items() if key != "clean"}),
        "a part too many": json.dumps({**whole, "more": 1}),
        "a threat lacks a figure": json.dumps({**whole, "threats": [{**threats[0], "accuracy": 3}]}),
        "detection is a list": json.dumps({**whole, "threats": [{**threats[0], "detection": [1]}]}),
        "threats are no list": json.dumps({**whole, "threats": 3}),
        "an image is none": json.dumps({**whole, "threats": [{**t, "examples": [{"original": "x"}]} for t in threats]}),
        "format is no number": json.dumps({**whole, "format": "1"}),
    }


@pytest.mark.parametrize("what", documents())
def test_what_is_no_evaluation_is_refused(what, tmp_path):
    text = documents()[what]
    with pytest.raises(CorruptEvaluation, match="the text is no evaluation that demur wrote"):
        Evaluation.from_json(text)
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(CorruptEvaluation, match=r"evaluation\.json is no evaluation that demur wrote"):
        Evaluation.from_json(tmp_path / "evaluation.json")


def test_other_files_and_newer_formats_are_refused(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00PK")
    (tmp_path / "list.json").write_text("[1, 2]")
    for name in ("bytes", "list.json"):
        with pytest.raises(CorruptEvaluation):
            Evaluation.from_json(tmp_path / name)
    newer = json.dumps({**json.loads(example().to_json()), "format": 2})
    with pytest.raises(CorruptEvaluation, match="written by a newer demur: upgrade to read it"):
        Evaluation.from_json(newer)
    with pytest.raises(FileNotFoundError):
        Evaluation.from_json(tmp_path / "nothing.json")


def test_records_hold_one_row_a_threat():
    found = example()
    records = found.records()
    assert [record["threat"] for record in records] == ["unchanged", *(threat.name for threat in found.threats)]
    assert records[0]["accuracy"] == found.clean.accuracy.value
    assert records[0]["flagged_all"] == found.clean.fpr.value
    for record, threat in zip(records[1:], found.threats, strict=True):
        assert record["strength"] == threat.strength
        assert record["corrected"] == threat.corrected.value
        assert record["accepted_and_wrong"] == threat.accepted_and_wrong.value
        assert record["auroc_all"] == threat.detection[OWN]["all"]["auroc"].value
        assert record["mean_harmful"] == threat.harm.mean_harmful
        assert record["l2"] == threat.distance["L2"]
    nothing = dataclasses.replace(
        found.threats[0],
        flagged=None,
        detection={OWN: {"successful": None, "all": None}},
        harm=dataclasses.replace(found.threats[0].harm, auroc=None),
    )
    record = dataclasses.replace(found, threats=[nothing]).records()[1]
    assert record["flagged"] is record["auroc_successful"] is record["auroc_harmful_harmless"] is None


def test_a_frame_has_the_records_for_its_rows():
    frame = example().to_frame()
    assert frame.to_dict("list")["threat"] == [record["threat"] for record in example().records()]
    assert list(frame.columns[:5]) == ["threat", "strength", "knowledge", "norm", "rows"]
    assert set(frame.columns) == {key for record in example().records() for key in record}


def test_titles_hold_the_strength():
    titles = [threat.title for threat in example().threats]
    assert "FGSM 0.05" in titles
    assert "C&W L2" in titles
    assert "gaussian noise at severity 3" in titles
    threat = example().threats[0]
    assert threat.broken == threat.accepted_and_wrong.value + threat.corrected_to_wrong.value
    curve = dataclasses.replace(threat, for_the_curve=True)
    assert dataclasses.replace(example(), threats=[threat, curve]).of_interest == [threat]


@pytest.mark.parametrize(("scale", "advice"), [(1.0, None), (0.5, None), (200.0, 40.0), (1e-3, 2e-4)])
def test_budgets_for_standardised_columns_are_doubted_where_columns_are_not(scale, advice):
    x = scale * np.random.default_rng(0).normal(size=(500, 4))
    x[:, 3] = 7.0  # a constant column has no spread
    said = doubt_about(x, default_epsilons((4,), (-1, 1)))
    if advice is None:
        assert said is None
        return
    epsilons = ast.literal_eval(said.split("epsilons=")[1].rstrip("."))
    assert epsilons["Linf"] == pytest.approx(advice, rel=0.1)
    assert epsilons_of(epsilons, (4,), (-1000, 1000)) == epsilons


# On disk ------------------------------------------------------------------------------------------------------------


def made(x, y=(0, 1), fooled=(True, True), late=None):
    """Attacked rows."""
    return AttackedRows(x, np.arange(len(y)), np.array(y), np.array(fooled), {}, late)


def test_what_was_put_is_got_under_its_key_alone(tmp_path):
    folder, y = tmp_path / "deep" / "folder", np.array([0, 1])
    store, x = Store(folder, {"rows": "some"}), np.arange(6, dtype="float32").reshape(2, 3)
    key = {"name": "PGD", "epsilon": 0.1, "begin": 0}
    assert store.get(key, y) is None
    store.put(key, made(x, late=np.array([True, False])))
    found = store.get(dict(reversed(key.items())), y)
    np.testing.assert_array_equal(found.x, x)
    assert found.x.dtype == np.float32
    assert found.late.tolist() == [True, False]
    assert found.fooled.tolist() == [True, True]
    assert found.rows.tolist() == found.y.tolist() == [0, 1]
    assert store.get({**key, "begin": 128}, y) is None
    assert Store(folder, {"rows": "others"}).get(key, y) is None
    assert Store(folder, {"rows": "some"}).get(key, y) is not None
    store.put(key, made(x + 1))
    np.testing.assert_array_equal(store.get(key, y).x, x + 1)
    assert store.get(key, y).late is None
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("torn", [b"", b"PK", b"no archive at all", 0.5, 0.99])
def test_a_torn_file_is_as_good_as_none(tmp_path, torn):
    store, key, y = Store(tmp_path, {}), {"name": "PGD"}, np.array([0, 1])
    store.put(key, made(np.arange(1000.0).reshape(2, 500)))
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(torn if isinstance(torn, bytes) else whole[: int(torn * len(whole))])
    assert store.get(key, y) is None
    store.put(key, made(np.zeros((2, 3))))
    assert store.get(key, y).x.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("about", "attack", "y", "named"),
    [
        ({"rows": "b", "classifier": "a"}, "PGD", (0, 1), "rows"),
        ({"rows": "b", "classifier": "b"}, "PGD", (0, 1), "rows, classifier"),
        ({"rows": "a", "classifier": "a"}, "FGSM", (0, 1), "attack"),
        ({"rows": "a", "classifier": "a"}, "PGD", (1, 0), "labels"),
    ],
)
def test_attacked_rows_of_something_else_are_refused(tmp_path, about, attack, y, named):
    """As when files are copied or renamed from one folder to another; what the message says to do works."""
    Store(tmp_path, {"rows": "a", "classifier": "a"}).put({"name": "PGD"}, made(np.ones((2, 3))))
    (file,) = tmp_path.iterdir()
    store, key = Store(tmp_path, about), {"name": attack}
    file.rename(store.file(key))
    with advises(CorruptEvaluation, f"differs: {named}. Remove that file and the attack runs again") as caught:
        store.get(key, np.array(y))
    assert f"{store.file(key)} holds attacked rows" in str(caught.value)
    assert Store(tmp_path / "another", about).get(key, np.array(y)) is None
    store.file(key).unlink()
    assert store.get(key, np.array(y)) is None


def test_an_attack_must_leave_the_accuracy_that_it_claims():
    fooled = np.arange(100) < 90
    rows = made(np.zeros((100, 3)), np.zeros(100, int), fooled)
    rows.check_claim(fooled, "rows.npz")
    rows.check_claim(fooled ^ (np.arange(100) < 2), "rows.npz")  # rounding, at the boundary
    with pytest.raises(CorruptEvaluation, match=r"fooled the classifier on 90 of 100 rows .* now wrong on 87"):
        rows.check_claim(fooled & (np.arange(100) > 2), "rows.npz")
    one = made(np.zeros((1, 3)), [0], [True])
    one.check_claim(np.array([False]), "rows.npz")


def test_attacked_rows_that_no_longer_fool_the_classifier_are_made_again(tmp_path):
    store, key, y = Store(tmp_path, {}), {"name": "PGD"}, np.zeros(100, int)
    store.put(key, made(np.zeros((100, 3)), y, np.ones(100, bool)))
    with advises(CorruptEvaluation, "the classifier or the labels have changed. Remove that file"):
        store.get(key, y).check_claim(np.zeros(100, bool), store.file(key))
    assert Store(tmp_path / "another", {}).get(key, y) is None
    store.file(key).unlink()
    assert store.get(key, y) is None


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(None, {})
    store.put({"name": "PGD"}, made(np.zeros((2, 3))))
    assert store.get({"name": "PGD"}, np.array([0, 1])) is None
    assert list(Path().iterdir()) == []


def test_rows_have_a_digest_of_their_own():
    import pandas as pd

    x, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    different = [
        (x, y),
        (x + 1e-9, y),
        (x.astype("float32"), y),
        (x.reshape(2, 3), y),
        (x, 1 - y),
        ({"a": x, "b": x}, y),
        ((x, x + 1), y),
        (frame, y),
        (frame.rename(columns={"a": "c"}), y),
        (frame.assign(b=["x", "y", "w"]), y),
    ]
    digests = [digest_of_rows(*rows) for rows in different]
    assert len(set(digests)) == len(digests)
    assert digests == [digest_of_rows(*rows) for rows in different]


# Checks -------------------------------------------------------------------------------------------------------------


def outcome(
    name, strength, knowledge, *, norm="Linf", successful, broken=None, distance=0.1, late=None, attempted=None
):
    """What became of rows that all were right before: which fell, and which the guard did not save."""
    successful = np.array(successful, bool)
    n = len(successful)
    attempted = np.ones(n, bool) if attempted is None else np.array(attempted, bool)
    broken = successful if broken is None else np.array(broken, bool)
    sizes = np.broadcast_to(np.asarray(distance, "float64"), (n,))
    verdict = Verdict(np.ones(n), np.where(successful, 1, 0), np.zeros(n, int), ~broken)
    changed = Changed(
        np.arange(n),
        verdict,
        {OWN: verdict.score},
        dict.fromkeys(NORMS, sizes),
        None if late is None else late,
        1.0,
        [],
    )
    return Outcome(
        Description(name, strength, knowledge, norm, "a model"),
        changed,
        attempted,
        successful & attempted,
        broken & attempted,
        np.zeros(n, bool),
        ~successful & attempted,
        ~broken,
    )


def first_of(k, n=100):
    """The first k of n."""
    return np.arange(n) < k


def test_outcomes_are_split_by_what_became_of_each_row():
    y = np.zeros(6, int)
    before = Verdict(np.zeros(6), np.array([0, 0, 0, 0, 0, 1]), np.zeros(6, int), np.zeros(6, bool))
    # right and flagged wrongly; accepted and wrong; corrected; corrected to wrong; right; wrong before
    after = Verdict(
        np.ones(6),
        np.array([0, 1, 1, 1, 0, 1]),
        np.array([2, 0, 0, 2, 0, 0]),
        np.array([True, False, True, True, False, True]),
    )
    changed = Changed(np.arange(6), after, {}, {}, None, 1.0, [])
    found = outcome_of(Description("a", None, "grey-box", "L2", ""), Unchanged(y, before, {}), changed)
    assert found.attempted.tolist() == [True] * 5 + [False]
    assert found.successful.tolist() == [False, True, True, True, False, False]
    assert found.accepted_and_wrong.tolist() == [False, True, False, False, False, False]
    assert found.corrected_to_wrong.tolist() == [True, False, False, True, False, False]
    assert found.broken.tolist() == [True, True, False, True, False, False]
    assert found.right_guarded.tolist() == [False, False, True, False, True, True]
    assert found.late is None


@pytest.mark.parametrize(("pgd", "passed"), [(60, True), (49, True), (47, False)])
def test_iterative_attacks_beat_one_step(pgd, passed):
    outcomes = [
        outcome("FGSM", 0.1, "grey-box", successful=first_of(50)),
        outcome("PGD", 0.2, "grey-box", successful=first_of(100)),
        outcome("PGD", 0.1, "grey-box", successful=first_of(pgd)),
    ]
    found = checks.iterative_beats_one_step(outcomes)
    assert found.passed is passed
    assert f"FGSM succeeds on 50.0 % of the rows, PGD on {pgd}.0 %" in found.detail
    assert ("masked" in found.detail) is not passed
    assert checks.iterative_beats_one_step(outcomes[:2]).passed is None


@pytest.mark.parametrize(("white", "passed"), [((30, 30), True), ((20, 40), True), ((20, 20), False)])
def test_knowing_the_guard_helps(white, passed):
    """All white-box attacks together against all grey-box ones, where the guard is concerned."""
    one, other = first_of(white[0]), first_of(white[1])
    outcomes = [
        outcome("FGSM", 0.1, "grey-box", successful=first_of(90), broken=first_of(30)),
        outcome("PGD", 0.1, "grey-box", successful=first_of(95), broken=first_of(10)),
        outcome("selective PGD", 0.1, "white-box", successful=one),
        outcome("logit matching", 0.1, "white-box", successful=other),
    ]
    found = checks.knowing_more_helps(outcomes)
    assert found.passed is passed
    assert ("more steps" in found.detail) is not passed
    assert checks.knowing_more_helps(outcomes[:2]).passed is None
    assert checks.knowing_more_helps([*outcomes[:2], outcome("x", 0.2, "white-box", successful=one)]).passed is None


def test_knowing_the_guard_must_help_at_every_budget():
    outcomes = [
        outcome(name, strength, knowledge, norm=norm, successful=first_of(k))
        for name, strength, knowledge, norm, k in [
            ("PGD", 0.1, "grey-box", "Linf", 30),
            ("selective PGD", 0.1, "white-box", "Linf", 60),
            ("PGD L2", 1.0, "grey-box", "L2", 50),
            ("selective PGD, L2", 1.0, "white-box", "L2", 20),
        ]
    ]
    found = checks.knowing_more_helps(outcomes)
    assert found.passed is False
    assert "At L2 1, attackers who know the guard defeat it on 20.0 %" in found.detail


@pytest.mark.parametrize(("distance", "passed"), [(0.5, True), (1.01, True), (1.1, False)])
def test_gradients_beat_guessing(distance, passed):
    outcomes = [
        outcome("C&W", None, "grey-box", norm="L2", successful=first_of(80), distance=distance),
        outcome("DeepFool", None, "grey-box", norm="L2", successful=first_of(80), distance=1.5),
        outcome("HopSkipJump", None, "black-box", norm="L2", successful=first_of(30, 40), distance=1.0),
    ]
    found = checks.gradients_beat_guessing(outcomes)
    assert found.passed is passed
    assert f"C&W needs a median change of {distance:.3g} in L2, HopSkipJump of 1." in found.detail
    assert checks.gradients_beat_guessing(outcomes[:2]).passed is None
    none = outcome("HopSkipJump", None, "black-box", norm="L2", successful=first_of(0), distance=1.0)
    assert checks.gradients_beat_guessing([outcomes[0], none]).passed is None


@pytest.mark.parametrize(("distance", "passed"), [(0.5, True), (1.2, True), (1.21, False)])
def test_carlini_wagner_needs_no_larger_changes_than_deepfool(distance, passed):
    outcomes = [
        outcome("C&W", None, "grey-box", norm="L2", successful=first_of(80), distance=distance),
        outcome("DeepFool", None, "grey-box", norm="L2", successful=first_of(60), distance=1.0),
    ]
    found = checks.smallest_changes_are_small(outcomes)
    assert found.passed is passed
    assert f"C&W needs a median change of {distance:.3g} in L2, DeepFool of 1." in found.detail
    assert ("CarliniWagner(steps=1000)" in found.detail) is not passed
    assert checks.smallest_changes_are_small(outcomes[:1]).passed is None
    none = outcome("DeepFool", None, "grey-box", norm="L2", successful=first_of(0), distance=1.0)
    assert checks.smallest_changes_are_small([outcomes[0], none]).passed is None


@pytest.mark.parametrize(("most", "passed"), [(100, True), (95, True), (94, False)])
def test_large_budgets_succeed(most, passed):
    outcomes = [
        outcome("PGD", 0.1, "grey-box", successful=first_of(40)),
        outcome("PGD", 0.5, "grey-box", successful=first_of(most)),
        outcome("PGD L2", 9.0, "grey-box", norm="L2", successful=first_of(100)),
    ]
    found = checks.large_budgets_succeed(outcomes)
    assert found.passed is passed
    assert "0.5 in Linf" in found.detail
    assert checks.large_budgets_succeed(outcomes[1:]).passed is None


def test_rows_wrong_before_do_not_keep_a_large_budget_from_succeeding():
    outcomes = [
        outcome("PGD", 0.1, "grey-box", successful=first_of(10), attempted=first_of(80)),
        outcome("PGD", 0.5, "grey-box", successful=first_of(80), attempted=first_of(80)),
    ]
    assert checks.large_budgets_succeed(outcomes).passed is True


def test_failures_do_not_count_as_successes():
    distance = np.where(first_of(5), 0.0, 0.1)
    outcomes = [
        outcome("C&W", None, "grey-box", norm="L2", successful=~first_of(5), distance=distance),
        outcome("PGD", 0.1, "grey-box", successful=~first_of(5), distance=distance),
        outcome("PGD", 0.2, "grey-box", successful=first_of(100)),
        outcome("fog", 1.0, "corruption", norm=None, successful=first_of(100), distance=0.0),
    ]
    found = checks.failures_do_not_count(outcomes)
    assert found.passed is True
    assert found.detail == "Attacks that changed nothing: C&W on 5, PGD 0.1 on 5; 0 of these counted as a success."
    counted = outcome("C&W", None, "grey-box", norm="L2", successful=first_of(100), distance=distance)
    assert checks.failures_do_not_count([counted]).passed is False
    assert checks.failures_do_not_count(outcomes[3:]).passed is None


@pytest.mark.parametrize(("late", "passed"), [(0, True), (2, True), (3, False)])
def test_attacks_converged(late, passed):
    outcomes = [
        outcome("PGD", 0.1, "grey-box", successful=first_of(50)),
        outcome("selective PGD", 0.1, "white-box", successful=first_of(50), late=first_of(late)),
        outcome("logit matching", 0.1, "white-box", successful=first_of(50), late=first_of(0)),
        outcome("one of one's own", None, "white-box", successful=first_of(50), late=first_of(0)),
    ]
    found = checks.attacks_converged(outcomes)
    assert found.passed is passed
    assert f"at most {late}.0 % of the rows" in found.detail
    assert ("in need of more steps: selective PGD 0.1." in found.detail) is not passed
    assert checks.attacks_converged(outcomes[:1]).passed is None


def calibrated(scores):
    calibration = None if scores is None else Calibration({None: ScoreDistribution.of(np.array(scores))}, 1.0, 0.05)
    return SimpleNamespace(detector=SimpleNamespace(calibration=calibration))


def unchanged(scores):
    n = len(scores)
    return Unchanged(np.zeros(n, int), Verdict(np.array(scores), *(np.zeros(n, int),) * 3), {})


def test_calibration_rows_are_not_test_rows():
    drawn = np.random.default_rng(0).random(200)
    found = checks.calibration_is_disjoint(target=calibrated(drawn[:100]), unchanged=unchanged(drawn[100:]))
    assert found.passed is True
    assert found.detail.startswith("0.0 % of the test rows")
    for shared, passed in ((90, True), (89, False)):
        test = np.concatenate([drawn[shared:100], drawn[100 : 100 + shared]])
        found = checks.calibration_is_disjoint(target=calibrated(drawn[:100]), unchanged=unchanged(test))
        assert found.passed is passed
    # Many rows score exactly 0, on which nothing can be said.
    zeros = checks.calibration_is_disjoint(target=calibrated(np.zeros(50)), unchanged=unchanged(np.zeros(50)))
    assert zeros.passed is True
    assert checks.calibration_is_disjoint(target=calibrated(None), unchanged=unchanged(drawn)).passed is None


def test_every_check_is_made_and_each_has_a_name_of_its_own():
    made = checks.check_all(calibrated(None), unchanged([0.1]), [])
    assert len(made) == len(checks.CHECKS) == 8
    assert len({check.name for check in made}) == 8
    assert all(check.passed is None and check.detail for check in made)
