"""Every attack x every convention, on a small classifier and its guards; and the gradients that they climb."""

import functools
import math
import random

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

import demur.evaluation.attacks
from demur import AdversarialAE, ModelDistillation
from demur.backends.divergence import kl
from demur.detectors import Detector
from demur.errors import InvalidSetting, WrongType
from demur.evaluation.attacks import (
    FGSM,
    PGD,
    PGDL2,
    SLIDE,
    Attack,
    BothPathsPGD,
    CarliniWagner,
    ConfidentCarliniWagner,
    DeepFool,
    DefendedPathPGD,
    HopSkipJump,
    LogitMatching,
    OrthogonalPGD,
    SelectivePGD,
    WeightedPGD,
)
from demur.evaluation.attacks.adaptive import AdaptiveAttack
from demur.evaluation.attacks.climbing import Climb, Facts
from demur.evaluation.gradients import differentiated
from demur.evaluation.norms import NORMS, size
from demur.evaluation.target import Look, Target, TimeIsUp
from demur.evaluation.threats import attacks_of
from demur.testing.traces import state_of
from tests.scaffold import guards, models, sources

# foolbox 3.3.4, with current SciPy, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")

BACKEND = keras.backend.backend()
KINDS = ("AdversarialAE", "ModelDistillation")
EPSILONS = {"Linf": 0.15, "L2": 1.0, "L1": 3.0}
ATTACKS = {name: attack for name, attack in Attack.registry.items() if attack.__module__.startswith("demur.")}
ADAPTIVE = [name for name, attack in ATTACKS.items() if issubclass(attack, AdaptiveAttack)]
SEARCHING = ("C&W", "C&W, confident")
OTHERS = [name for name in ATTACKS if name not in ADAPTIVE]
FEW_STEPS = {
    "HopSkipJump": {"steps": 3, "max_gradient_eval_steps": 50},
    "HopSkipJump on the guard": {"steps": 3, "max_gradient_eval_steps": 50},
}
N = 16


def quick(name, norm=None, steps=10):
    """An attack of few steps."""
    kind = ATTACKS[name]
    if name in ADAPTIVE:
        norm = norm or "Linf"
        return kind(EPSILONS[norm], norm=norm, steps=steps)
    if name in SEARCHING:
        return kind(steps=steps, searches=2)
    attack = kind(EPSILONS[kind.norm] if kind.has_budget else None)
    attack.arguments = FEW_STEPS.get(name, kind.arguments)
    return attack


# The others see the classifier alone: one guard is enough.
CASES = [
    *((name, None, "AdversarialAE") for name in OTHERS),
    *((name, None, kind) for name in ADAPTIVE for kind in KINDS),
    *(("PGD on error and score", norm, "AdversarialAE") for norm in ("L2", "L1")),
]
EVERY_CASE = pytest.mark.parametrize(
    ("name", "norm", "kind"),
    [pytest.param(*case, id="-".join(part.replace(" ", "_") for part in case if part)) for case in CASES],
)


@functools.cache
def attacked_rows_by(name, norm=None, kind="AdversarialAE"):
    """Rows after an attack of enough steps: once for all tests."""
    x, y = guards.right_rows(N)
    return quick(name, norm, steps=40).run(guards.target(kind), x, y, seed=0).x


@functools.cache
def attacked_by(name, norm=None, kind="AdversarialAE"):
    """What becomes of them."""
    return guards.target(kind).verdict(attacked_rows_by(name, norm, kind))


def random_states():
    """The states of the global generators that there are on every backend."""
    keys = np.random.get_state()
    return [random.getstate(), (keys[0], keys[1].tolist(), *keys[2:]), torch.random.get_rng_state().tolist()]


def states_of(detector):
    return {"classifier": state_of(detector.model), "companion": state_of(detector.companion)}


def accepted_and_wrong(verdict, y):
    return (verdict.reference != y) & ~verdict.flagged


# Every attack -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@EVERY_CASE
def test_conventions(name, norm, kind):
    """Within the budget and the bounds; one result a seed; everything of the caller's left as it was found."""
    attack, target = quick(name, norm), guards.target(kind)
    x, y = guards.right_rows(N)
    x_before, y_before = x.copy(), y.copy()
    before, states = states_of(target.detector), random_states()
    first = attack.run(target, x, y, seed=3)
    assert random_states() == states
    np.testing.assert_equal(states_of(target.detector), before)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)

    assert first.x.shape == x.shape
    assert first.x.dtype == np.float32
    assert np.isfinite(first.x).all()
    assert first.x.min() >= 0
    assert first.x.max() <= 1
    changed = size(first.x - x, attack.norm)
    assert (changed > 0).any()
    if attack.has_budget:
        assert changed.max() <= attack.epsilon * 1.001 + 1e-5
    if name in ADAPTIVE:
        assert first.late.shape == y.shape
        assert first.late.dtype == bool
        verdict = target.verdict(first.x)
        assert not (first.late & (verdict.final == y)).any(), "late is said only of rows that fell"
    else:
        assert first.late is None

    random.random(), np.random.random(), torch.rand(1)  # what comes of it does not depend on where these stand
    again = attack.run(target, x, y, seed=3)
    np.testing.assert_array_equal(again.x, first.x)


@pytest.mark.parametrize("name", ["PGD", "PGD L2", "HopSkipJump", *ADAPTIVE])
def test_another_seed_starts_elsewhere(name):
    x, y = guards.right_rows(N)
    one, other = (quick(name, steps=1).run(guards.target(), x, y, seed=seed).x for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's own generator")
def test_tensorflow_draws_what_it_would_have_drawn():
    import tensorflow as tf

    x, y = guards.right_rows(4)
    drawn = []
    for attacks in ([], [PGD(0.1)]):
        tf.random.set_seed(5)
        first = tf.random.uniform([3]).numpy()
        for attack in attacks:
            attack.run(guards.target(), x, y, seed=1)
        drawn.append([first, tf.random.uniform([3]).numpy()])
    np.testing.assert_array_equal(*drawn)


@pytest.mark.skipif(BACKEND != "jax", reason="eagerpy keeps a key of its own on JAX")
def test_eagerpy_keeps_its_key():
    import eagerpy

    before = eagerpy.JAXTensor.key
    x, y = guards.right_rows(4)
    PGD(0.1).run(guards.target(), x, y, seed=1)
    assert eagerpy.JAXTensor.key is before


@pytest.mark.parametrize("name", OTHERS)
def test_attacks_on_the_classifier_lower_its_accuracy(name):
    x, y = guards.right_rows(N)
    assert guards.accuracy(x, y) == 1
    assert (attacked_by(name).reference == y).mean() <= 0.7


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("norm", "grey", "white"),
    [("Linf", [FGSM, PGD], ADAPTIVE), ("L2", [PGDL2], ADAPTIVE[:2]), ("L1", [SLIDE], ADAPTIVE[:2])],
    ids=NORMS,
)
def test_who_knows_the_guard_defeats_it_at_least_as_often(norm, grey, white, kind):
    _, y = guards.right_rows(N)
    knowing = np.any([attacked_by(name, norm, kind).final != y for name in white], axis=0)
    strongest = max((attacked_by(attack.name, norm, kind).final != y).mean() for attack in grey)
    assert strongest > 0.2, "grey-box attacks find nothing here to compare with"
    assert knowing.mean() >= strongest - 1 / N


@pytest.mark.parametrize("kind", KINDS)
def test_adaptive_attacks_go_where_they_say(kind):
    """Each one does what it is for, more than it happens without an attack."""
    x, y = guards.right_rows(N)
    clean = guards.target(kind).verdict(x)
    found = {name: attacked_by(name, "Linf", kind) for name in ADAPTIVE}
    for name in (WeightedPGD.name, SelectivePGD.name, OrthogonalPGD.name, "PGD on both paths"):
        assert accepted_and_wrong(found[name], y).mean() > 0.3, name
    agreed = found["PGD on both paths"]
    fooled = agreed.reference != y
    assert (agreed.opinion[fooled] == agreed.reference[fooled]).mean() > 0.6
    assert accepted_and_wrong(found["logit matching"], y).mean() > 0.1
    defended = found[DefendedPathPGD.name]
    assert (defended.opinion != y).mean() > (clean.opinion != y).mean() + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])
def test_attackers_see_the_score_that_the_guard_has(kind):
    x, _ = guards.right_rows(N)
    guard = kind(model=guards.classifier()).fit(guards.data().train.x[:100], epochs=1, verbose=False)
    assert guard.uncertainty_weight > 0
    look = Target(guard).look(ops.convert_to_tensor(x))
    np.testing.assert_allclose(ops.convert_to_numpy(look.score), guard.score(x), rtol=1e-4, atol=1e-6)


def objectives(attack, look, y, *constants):
    """What an attack climbs, in NumPy, of made-up answers at a threshold of 0.5."""
    tensors = [ops.convert_to_tensor(np.asarray(constant)) for constant in (y, np.full(len(y), 0.5, "float32"))]
    constants = [ops.convert_to_tensor(constant) for constant in constants]
    return [ops.convert_to_numpy(found) for found in attack(0.1).objective(look, *tensors, *constants)]


def test_objectives_are_their_formulas():
    """On the first row the classifier is right, on the second it is wrong by more than is wanted."""
    p = np.array([[[0.5, 0.3, 0.2], [0.01, 0.98, 0.01]], [[0.1, 0.1, 0.8], [0.6, 0.3, 0.1]]], "float32")
    score, y = np.array([0.25, 1.5], "float32"), np.array([0, 0], "int32")
    look = Look(*map(ops.convert_to_tensor, (score, np.log(p[0]), np.log(p[1]))))
    lead = np.log([0.3 / 0.5, 0.98 / 0.01])
    lead_of_opinion = np.log([0.8 / 0.1, 0.3 / 0.6])
    unnoticed = -np.log1p(score / 0.5)

    def check(found, *expected):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4)

    weight = np.array([0.1, 10], "float32")
    check(objectives(WeightedPGD, look, y, weight), np.minimum(lead, 2) + weight * unnoticed)
    check(objectives(SelectivePGD, look, y), [lead[0], unnoticed[1]])
    check(objectives(OrthogonalPGD, look, y), lead, unnoticed)
    check(objectives(DefendedPathPGD, look, y), lead_of_opinion)
    # Towards class 1, which leads the classifier's others by -0.5 and 4.6 nats and the companion's by -2.1 and -0.7.
    wanted = np.log([0.3 / 0.5, 0.98 / 0.01]), np.log([0.1 / 0.8, 0.3 / 0.6])
    both = np.minimum(wanted[0], 2) + np.minimum(wanted[1], 2) + unnoticed
    check(objectives(BothPathsPGD, look, y, np.array([1, 1], "int32")), both)
    centred = [np.log(path) - np.log(path).mean(axis=1, keepdims=True) for path in p]
    models_to_match = [np.float32([[1, 0, -1], [0, 2, -2]]), np.float32([[0, 0, 0], [1, 1, -2]])]
    apart = sum(((c - m) ** 2).sum(axis=1) for c, m in zip(centred, models_to_match, strict=True))
    check(objectives(LogitMatching, look, y, *models_to_match), -apart)


def test_orthogonal_steps_lose_nothing_of_the_other_objective():
    rng = np.random.default_rng(0)
    error, score = rng.normal(size=(2, 4, 3, 2))
    facts = Facts(np.zeros(4), np.array([True, False, True, False]), np.zeros(4, bool), np.ones(4))
    way = OrthogonalPGD.direction([error, score], facts)
    for i, (up, kept) in enumerate([(score, error), (error, score)] * 2):
        assert (way[i] * kept[i]).sum() == pytest.approx(0, abs=1e-9)
        assert (way[i] * up[i]).sum() > 0


def test_a_confident_attack_leads_by_five_nats():
    x, y = guards.right_rows(N)
    leads = []
    for attack in (CarliniWagner, ConfidentCarliniWagner):
        log_p = guards.target().classifier_outputs(quick(attack.name).run(guards.target(), x, y).x)[0]
        label = log_p[np.arange(N), y]
        log_p[np.arange(N), y] = -np.inf
        lead = log_p.max(axis=1) - label
        leads.append(lead[lead > 0])
    assert min(leads[0]) < 5
    assert len(leads[1])
    assert min(leads[1]) >= 5 - 1e-3


@pytest.mark.slow
def test_carlini_wagner_needs_changes_as_small_as_deepfools_in_any_units():
    """Steps follow the distance of each row: the same rows in 0 to 255, or 0 to a thousandth, are no harder."""
    x, y = guards.right_rows(N)
    plain = guards.target()
    medians = []
    for scale in (1.0, 255.0, 1e-3):
        scaled = keras.Sequential([layers.Input(x.shape[1:]), layers.Rescaling(1 / scale), guards.classifier()])
        target = plain if scale == 1 else Target(ModelDistillation(model=scaled, threshold=0.0), (0, scale))
        found = CarliniWagner().run(target, (scale * x).astype("float32"), y).x
        fooled = target.classifier_outputs(found)[0].argmax(axis=1) != y
        assert fooled.all()
        medians.append(np.median(size(found - scale * x, "L2")) / scale)
    deepfool = np.median(size(DeepFool().run(plain, x, y).x - x, "L2"))
    assert medians[0] <= 1.2 * deepfool
    np.testing.assert_allclose(medians, medians[0], rtol=0.02)


def test_carlini_wagner_attacks_each_row_as_if_it_were_alone():
    x, y = guards.right_rows(N)
    attack = quick("C&W", steps=40)
    together = attack.run(guards.target(), x, y).x
    alone = np.concatenate([attack.run(guards.target(), x[i : i + 1], y[i : i + 1]).x for i in range(3)])
    np.testing.assert_allclose(size(alone - x[:3], "L2"), size(together[:3] - x[:3], "L2"), rtol=0.02)


def test_carlini_wagner_leaves_rows_that_are_wrong_already():
    x, y = guards.right_rows(4)
    y = np.array([y[0], *(y[1:] + 1) % 10])
    found = quick("C&W").run(guards.target(), x, y).x
    np.testing.assert_array_equal((found == x).all(axis=(1, 2, 3)), [False, True, True, True])


@pytest.mark.parametrize("setting", ["steps", "searches"])
def test_carlini_wagner_searches_at_least_once(setting):
    with pytest.raises(InvalidSetting, match=f"{setting} is a whole number of at least 1; got 0"):
        CarliniWagner(**{setting: 0})


def test_every_attack_is_imported_and_named_once():
    listed = {getattr(demur.evaluation.attacks, name) for name in demur.evaluation.attacks.__all__}
    assert set(ATTACKS.values()) <= listed, "give a new attack its import line in attacks/__init__.py"
    assert all(attack.name == name for name, attack in ATTACKS.items())
    assert all(attack.model and attack.knowledge for attack in ATTACKS.values())
    made = [quick(name) for name in ATTACKS]
    assert len({str(attack.settings) for attack in made}) == len(made)


# Attacks that fail ---------------------------------------------------------------------------------------------------


def returning(monkeypatch, foolbox_name, change):
    """Put in the place of one of foolbox's attacks one that returns a change of the rows."""
    import eagerpy
    import foolbox

    class Fake:
        def __init__(self, **arguments):
            pass

        def __call__(self, model, x, y, *, epsilons, **arguments):
            found = ops.convert_to_tensor(change(np.array(ops.convert_to_numpy(x.raw))).astype("float32"))
            return None, eagerpy.astensor(found), None

    monkeypatch.setattr(foolbox.attacks, foolbox_name, Fake)


def test_blank_rows_come_back_as_the_original(monkeypatch):
    x, y = guards.right_rows(6)
    blank = np.array([True, False, True, False, False, False])

    def change(x):
        x = np.clip(x + 0.01, 0, 1)
        x[0], x[2] = 0.0, 0.7
        return x

    returning(monkeypatch, "L2DeepFoolAttack", change)
    found = DeepFool().run(guards.target(), x, y).x
    np.testing.assert_array_equal((found == x).all(axis=(1, 2, 3)), blank)


def test_rows_that_are_no_numbers_or_too_far_come_back_as_the_original(monkeypatch):
    x, y = guards.right_rows(5)

    def change(x):
        x = x + np.float32(0.05) * np.sign(0.5 - x)
        x[0, 0, 0], x[1, 0, 0] = np.nan, np.inf
        x[2, 3, 3] = x[2, 3, 3] + 0.2
        x[3, 0, 0] = -0.04
        return x

    returning(monkeypatch, "LinfFastGradientAttack", change)
    found = FGSM(0.1).run(guards.target(), x, y).x
    np.testing.assert_array_equal((found == x).all(axis=(1, 2, 3)), [True, True, True, False, False])
    assert found.min() >= 0


def test_rows_of_one_number_can_be_attacked():
    """One number is always the same as all the others: that does not make a row blank."""
    body = [keras.layers.Dense(2, activation="softmax", **models.weights(0))]
    model = keras.Sequential([keras.layers.Input((1,)), *body])
    model.set_weights([np.array([[-4.0, 4.0]]), np.zeros(2)])
    student = keras.models.clone_model(model)
    target = Target(ModelDistillation(model=model, distilled_model=student, threshold=1.0), (-1, 1))
    x, y = np.array([[0.1], [-0.1]], "float32"), np.array([1, 0])
    for attack in (FGSM(0.3), SelectivePGD(0.3, steps=4)):
        assert (target.verdict(attack.run(target, x, y).x).reference != y).all()


# Gradients ----------------------------------------------------------------------------------------------------------


def finite_differences(function, x, *constants, step=1e-2):
    """Of each row's output by each of its numbers, in NumPy."""
    gradient = np.zeros_like(x, "float64")
    for place in np.ndindex(x.shape[1:]):
        moved = [x.copy(), x.copy()]
        moved[0][(slice(None), *place)] += step
        moved[1][(slice(None), *place)] -= step
        up, down = (np.asarray(ops.convert_to_numpy(function(ops.convert_to_tensor(m), *constants))) for m in moved)
        gradient[(slice(None), *place)] = (up.astype("float64") - down) / (2 * step)
    return gradient


def test_gradients_of_one_objective_are_finite_differences():
    def energy(x):
        return ops.sum(ops.square(x) * ops.tanh(x), axis=(1, 2))

    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype("float32")
    (value, extra), (gradient,) = differentiated(lambda x: [energy(x), 2 * x])(x)
    np.testing.assert_allclose(value, (x**2 * np.tanh(x)).sum(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(extra, 2 * x)
    assert gradient.shape == x.shape
    np.testing.assert_allclose(gradient, finite_differences(energy, x), atol=5e-3)


def test_gradients_of_two_objectives_with_constants_are_their_own():
    def first(x, c, k):
        return ops.sum(c * ops.sin(x), axis=1)

    def second(x, c, k):
        return ops.sum(ops.square(x) * c, axis=1) * ops.cast(k, "float32")

    rng = np.random.default_rng(1)
    x, c = (rng.normal(size=(4, 5)).astype("float32") for _ in range(2))
    k = np.array([1, 2, 3, 0], "int32")
    run = differentiated(lambda x, c, k: [first(x, c, k), second(x, c, k), x], count=2)
    outputs, gradients = run(x, c, k)
    assert len(outputs) == 3
    assert len(gradients) == 2
    tensors = ops.convert_to_tensor(c), ops.convert_to_tensor(k)
    for function, gradient in zip((first, second), gradients, strict=True):
        np.testing.assert_allclose(gradient, finite_differences(function, x, *tensors), atol=2e-2)
    # Constants count anew at each call, and are not those of the first one.
    _, (doubled, _) = run(x, 2 * c, k)
    np.testing.assert_allclose(doubled, 2 * gradients[0], rtol=1e-5)


def test_what_does_not_depend_on_the_rows_has_no_gradient():
    x = np.ones((2, 3), "float32")

    def both(x, c):
        return [c * 2.0, ops.sum(x, axis=1) * c]

    _, (none, some) = differentiated(both, count=2)(x, np.array([1.0, 3.0], "float32"))
    np.testing.assert_array_equal(none, np.zeros_like(x))
    np.testing.assert_array_equal(some, [[1, 1, 1], [3, 3, 3]])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_through_classifier_and_guard_and_leave_both_alone(kind):
    target = guards.target(kind)
    x, _ = guards.right_rows(3)
    # Somewhere in the middle of the pixels' range, where nothing is cut.
    x = (0.2 + 0.6 * x).astype("float32")
    before = states_of(target.detector)
    outputs, gradients = differentiated(lambda x: [target.look(x).score], count=1)(x)
    np.testing.assert_equal(states_of(target.detector), before)
    np.testing.assert_allclose(outputs[0], target.detector.score(x), rtol=1e-4, atol=1e-5)
    way = np.random.default_rng(0).normal(size=x.shape).astype("float32")
    way = 0.3 * way / size(way, "L2").reshape(-1, 1, 1, 1) + gradients[0] / size(gradients[0], "L2").reshape(
        -1, 1, 1, 1
    )
    step = np.float32(2e-3)
    up, down = (target.detector.score(x + sign * step * way).astype("float64") for sign in (1, -1))
    along = (gradients[0] * way).reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(along, (up - down) / (2 * step), rtol=0.05, atol=1e-3)


# What is attacked ----------------------------------------------------------------------------------------------------


def of_numpy(X):
    """The classifier as a function of NumPy."""
    w1, b1, w2, b2 = guards.classifier().get_weights()
    z = np.maximum(X.reshape(len(X), -1) @ w1 + b1, 0) @ w2 + b2
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def black_box():
    detector = ModelDistillation(model=of_numpy, distilled_model=models.student(), temperature=0.5)
    detector.fit(guards.data().train.x[:200], epochs=1, verbose=False)
    return detector.infer_threshold(guards.data().held_out.x, threshold_perc=95)


@pytest.mark.slow
def test_a_black_box_is_attacked_by_questions_alone():
    target, notes = Target(black_box()), []
    assert not target.is_open
    found = attacks_of("default", target, EPSILONS, notes)
    asking = {"HopSkipJump", "HopSkipJump on the guard"}
    assert {attack.name for attack in found} == asking
    (note,) = notes
    assert "a function, gives no gradients" in note
    assert all(name in note for name in ATTACKS if name not in asking)
    assert attacks_of(["PGD", HopSkipJump()], target, EPSILONS, [])[0].name == "HopSkipJump"

    x, y = guards.right_rows(8)
    attacked = quick("HopSkipJump").run(target, x, y).x
    assert (target.verdict(attacked).reference != y).all()
    assert np.isfinite(attacked).all()
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    # The same as on the classifier in the graph, as far as rounding lets it be.
    in_graph = quick("HopSkipJump").run(guards.target(), x, y).x
    np.testing.assert_allclose(size(attacked - x, "L2"), size(in_graph - x, "L2"), rtol=0.5)


@pytest.mark.slow
def test_what_asks_the_guard_finds_what_gets_through():
    """Rows that `correct` gets wrong, within the budget, or else as they were: on a black box as in the graph."""
    x, y = guards.right_rows(N)
    for target in (guards.target(), Target(black_box())):
        attack = quick("HopSkipJump on the guard")
        generous = type(attack)(100.0)
        generous.arguments = attack.arguments
        far, near = (one.run(target, x, y).x for one in (generous, attack))
        assert (target.verdict(far).final != y).all()
        distance = size(far - x, "L2")
        already = target.verdict(x).final != y  # flagged, and corrected to a wrong class
        np.testing.assert_array_equal(distance > 0, ~already)
        found = distance <= attack.epsilon
        np.testing.assert_array_equal(near[found], far[found])
        np.testing.assert_array_equal(near[~found], x[~found])


@pytest.mark.parametrize("name", [name for name in OTHERS if ATTACKS[name].knowledge != "white-box"])
def test_bounds_may_be_any(name):
    """The same classifier of pixels from -1 to 3: the same attack, four times as far. HopSkipJump hung there once."""
    x, y = guards.right_rows(N)
    model = keras.Sequential([keras.layers.Input((8, 8, 1)), keras.layers.Rescaling(0.25, 0.25), guards.classifier()])
    student = keras.Sequential([keras.layers.Rescaling(0.25, 0.25), models.student()])
    target = Target(ModelDistillation(model=model, distilled_model=student, threshold=1.0), (-1, 3))
    attack, usual = quick(name), quick(name)
    if attack.has_budget:
        attack = type(attack)(4 * attack.epsilon)
        attack.arguments = usual.arguments
    wide, narrow = attack.run(target, 4 * x - 1, y).x, attacked_rows_by(name)
    assert wide.min() >= -1
    assert wide.max() <= 3
    changed = size(wide - (4 * x - 1), attack.norm)
    if attack.has_budget:
        assert changed.max() <= attack.epsilon * 1.001 + 1e-5
    assert np.median(changed) == pytest.approx(4 * np.median(size(narrow - x, attack.norm)), rel=0.15)
    wrong = target.verdict(wide).reference != y
    assert wrong.mean() == pytest.approx((guards.target().verdict(narrow).reference != y).mean(), abs=2 / N)


def test_hop_skip_jump_leaves_what_it_finds_no_start_for():
    """Where the classifier says the same of all rows and of noise, there is nothing to begin with."""

    def one_class(X):
        return np.tile([[0.9, 0.1]], (len(X), 1))

    detector = ModelDistillation(model=one_class, distilled_model=binary_student(), threshold=1.0)
    x, _ = guards.right_rows(6)
    detector.score(x)
    attacked = quick("HopSkipJump").run(Target(detector), x, np.zeros(6, int)).x
    np.testing.assert_array_equal(attacked, x)


def binary_student():
    layers = [keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax", **models.weights(0))]
    return keras.Sequential([keras.layers.Input((8, 8, 1)), *layers])


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch modules are in the graph on Keras's PyTorch backend")
def test_a_pytorch_module_with_its_channels_first():
    detector = AdversarialAE(model=sources.torch_cnn(), seed=1)
    x = guards.data().train.x[:200].transpose(0, 3, 1, 2).copy()
    detector.fit(x, epochs=1, verbose=False).infer_threshold(x, threshold_perc=95)
    target = Target(detector)
    y = target.verdict(x[:12]).reference
    before = states_of(detector)
    for attack in (PGD(0.2), WeightedPGD(0.2, steps=10)):
        attacked = attack.run(target, x[:12], y).x
        assert attacked.shape == (12, 1, 8, 8)
        assert 0 < np.abs(attacked - x[:12]).max() <= 0.2 + 1e-5
        assert (target.verdict(attacked).reference != y).mean() > 0.2
    np.testing.assert_equal(states_of(detector), before)


@pytest.fixture
def registered(monkeypatch):
    """Detectors of one test alone: other tests look at the registry."""
    monkeypatch.setattr(Detector, "registry", dict(Detector.registry))


@pytest.mark.slow
def test_a_random_guard_is_asked_ten_times(registered, monkeypatch):
    class Noisy(ModelDistillation):
        """Its student sees rows with noise, other noise each time."""

        is_random = True

        def _make_companion(self):
            super()._make_companion()
            self.noise = keras.layers.GaussianNoise(0.3, seed=0)

        def opinion(self, x, training):
            return super().opinion(self.noise(x, training=True), training)

        @property
        def layers(self):
            return [*super().layers, self.noise]

    detector = Noisy(model=guards.classifier(), distilled_model=guards.guard("ModelDistillation").distilled_model)
    detector.threshold = 0.5
    target = Target(detector)
    assert guards.target().draws == 1
    assert target.draws == 10
    x, y = guards.right_rows(6)

    climb = Climb(target, lambda look, y, limit: [look.score])
    kept = []
    step = climb.step
    monkeypatch.setattr(climb, "step", lambda *arguments: kept.append(step(*arguments)) or kept[-1])
    outputs, gradients = climb._looked(x, y.astype("int32"), np.full(6, 0.5, "float32"), ())
    assert len(kept) == 10
    scores = [drawn[0][1] for drawn in kept]
    assert not np.array_equal(scores[0], scores[1]), "each draw is one of its own"
    np.testing.assert_allclose(outputs[1], np.mean(scores, axis=0), rtol=1e-5)
    np.testing.assert_allclose(gradients[0], np.mean([drawn[1][0] for drawn in kept], axis=0), rtol=1e-4, atol=1e-6)

    attacked = WeightedPGD(0.15, steps=5).run(target, x, y).x
    assert 0 < np.abs(attacked - x).max() <= 0.15 + 1e-5
    assert np.isfinite(target.verdict(attacked).score).all()


@pytest.mark.slow
def test_a_detector_of_ones_own_gets_the_adaptive_attacks_for_nothing(registered):
    class Backwards(ModelDistillation):
        """A student, and the divergence the other way round."""

        @property
        def views(self):
            return super().views._replace(divergence=lambda log_p, log_q: kl(log_q, log_p))

    detector = Backwards(model=guards.classifier(), distilled_model=guards.guard("ModelDistillation").distilled_model)
    detector.infer_threshold(guards.data().held_out.x, threshold_perc=95)
    assert not np.allclose(detector.threshold, guards.guard("ModelDistillation").threshold, rtol=0.01)
    target, notes = Target(detector), []
    found = attacks_of("default", target, EPSILONS, notes)
    assert notes == []
    assert {attack.name for attack in found} == set(ATTACKS)
    x, y = guards.right_rows(N)
    for name in ADAPTIVE:
        attack = quick(name, steps=20)
        attacked = attack.run(target, x, y).x
        assert 0 < size(attacked - x, "Linf").max() <= 0.15 + 1e-5
        verdict = target.verdict(attacked)
        np.testing.assert_allclose(verdict.score, target.detector.score(attacked), rtol=1e-5)
    assert accepted_and_wrong(target.verdict(WeightedPGD(0.15, steps=20).run(target, x, y).x), y).mean() > 0.3


def test_each_class_has_its_own_threshold():
    detector = guards.guard("AdversarialAE")
    limits = np.linspace(0.1, 1.0, 10)
    target = Target(detector)
    try:
        whole, detector.threshold = detector.threshold, limits
        np.testing.assert_array_equal(target.limits(np.array([3, 0])), limits[[3, 0]])
        x, y = guards.right_rows(N)
        attacked = SelectivePGD(0.15, steps=20).run(target, x, y).x
        verdict = target.verdict(attacked)
        np.testing.assert_array_equal(verdict.flagged, verdict.score > limits[verdict.reference])
        assert accepted_and_wrong(verdict, y).any()
    finally:
        detector.threshold = whole
    np.testing.assert_array_equal(target.limits(np.array([3, 0])), [whole, whole])


# Errors -------------------------------------------------------------------------------------------------------------


def test_every_attack_ends_at_the_deadline():
    target = guards.target()
    x, y = guards.right_rows(N)
    target.deadline = -math.inf
    for name in ATTACKS:
        with pytest.raises(TimeIsUp):
            quick(name).run(target, x, y)


@pytest.mark.parametrize("name", ATTACKS)
def test_budgets_that_mean_nothing_are_refused(name):
    attack = ATTACKS[name]
    for epsilon in (0, -0.1, np.nan, np.inf, "0.1", None) if attack.has_budget else (0.1, 0):
        with pytest.raises(InvalidSetting, match="epsilon"):
            attack(epsilon)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(InvalidSetting, match="norm is 'Linf', 'L2' or 'L1'; got 'L0'"):
        WeightedPGD(0.1, norm="L0")
    for steps in (0, 2.5, True):
        with pytest.raises(InvalidSetting, match="steps"):
            SelectivePGD(0.1, steps=steps)


def test_attacks_that_nobody_knows_are_refused():
    target = guards.target()
    for asked, error, match in [
        (["FGSM", "fgms"], InvalidSetting, r"an attack is one of .*; got 'fgms': did you mean 'FGSM'\?"),
        ([3], WrongType, "instances of demur.evaluation.attacks.Attack, or names; got 3"),
        (3, WrongType, "attacks is 'default', None or a list; got 3"),
    ]:
        with pytest.raises(error, match=match):
            attacks_of(asked, target, EPSILONS, [])
    by_name = attacks_of(["PGD L2", "C&W"], target, EPSILONS, [])
    assert [attack.epsilon for attack in by_name] == [EPSILONS["L2"], None]
