"""`demur.evaluate` from one end to the other, small: figures that add up, rows of every kind, runs that go on."""

import contextlib
import copy
import json
import math
from typing import ClassVar

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers, ops
from scipy.ndimage import median_filter
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import demur
from demur import AdversarialAE, ModelDistillation
from demur.errors import (
    CorruptEvaluation,
    EmptyInput,
    InvalidSetting,
    NonFinite,
    ShapeMismatch,
    ThresholdNotSet,
    WrongType,
)
from demur.evaluation import schedule, trial
from demur.evaluation.attacks import FGSM, PGD, Attack, Attacked, HopSkipJump, SelectivePGD, WeightedPGD
from demur.evaluation.baselines import Baseline
from demur.evaluation.comparison import OWN
from demur.evaluation.corruptions import TABLE_CORRUPTIONS, corrupt
from demur.evaluation.outcomes import Unchanged
from demur.evaluation.reporter import Reporter
from demur.evaluation.result import Evaluation
from demur.evaluation.store import AttackedRows, Store, Stores
from demur.evaluation.target import Target
from demur.evaluation.trial import Scene, Trial
from demur.rows.rows import Rows
from tests.scaffold import guards, models

# foolbox 3.3.4, with current SciPy, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")

N = 40
NOTHING = {"attacks": None, "corruptions": None, "baselines": None, "resamples": 1, "verbose": False}


def evaluate(detector=None, X=None, y=None, **settings):
    """An evaluation of test rows of digits, silent, of nothing but what is asked for."""
    if X is None:
        X, y = guards.attacked_rows(N)
    return demur.evaluate(detector or guards.guard("AdversarialAE"), X, y, **{**NOTHING, **settings})


def attacks_of_interest():
    return [FGSM(0.15), PGD(0.15), SelectivePGD(0.15, steps=8), WeightedPGD(0.15, steps=4)]


class Watched:
    """What attacks made of rows, in the order of the rows."""

    def __init__(self, patch):
        self.rows = {}
        keep = Store.put

        def put(store, key, made):
            self.rows.setdefault(f"{key['name']} {key['epsilon']}", []).append(made.x)
            keep(store, key, made)

        patch.setattr(Store, "put", put)

    def x(self, threat):
        return np.concatenate(self.rows[f"{threat.name} {threat.strength}"])


@pytest.fixture(scope="module")
def evaluated():
    """An evaluation, and what its attacks made of the rows. In chunks, as the rows of a longer one come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "CHUNK", 16)
        watched = Watched(patch)
        found = evaluate(
            attacks=attacks_of_interest(),
            corruptions=["gaussian noise", "contrast"],
            baselines=["entropy"],
            resamples=20,
            seed=3,
        )
    return found, watched


@pytest.fixture
def registered(monkeypatch):
    """Attacks of one test alone: other tests look at the registry."""
    monkeypatch.setattr(Attack, "registry", dict(Attack.registry))


@pytest.fixture
def counting(registered):
    """An attack that computes nothing, and the numbers of rows that it was given."""

    class Counting(Attack):
        name, knowledge, model, passes = "counting", "grey-box", "knows how to count", 1
        calls: ClassVar[list] = []
        fails_at = math.inf

        def run(self, target, x, y, *, seed=0):
            if len(self.calls) == self.fails_at:
                raise KeyboardInterrupt
            self.calls.append(len(x))
            return Attacked(self.within(x, np.clip(x + np.float32(self.epsilon), 0, 1), target))

    return Counting


def ordered(seed=3):
    """The test rows in the order of an evaluation, and their classes."""
    order = np.random.default_rng(seed).permutation(N)
    x, y = guards.attacked_rows(N)
    return x[order], y[order]


def answers(x, kind="AdversarialAE"):
    return guards.guard(kind).correct(x)["data"]


def value(estimate):
    assert estimate.low <= estimate.value <= estimate.high
    return estimate.value


# Figures ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_figures_of_unchanged_rows_add_up(evaluated):
    found, _ = evaluated
    x, y = ordered()
    data = answers(x)
    assert found.rows == N
    assert value(found.clean.accuracy) == np.mean(data["no_defense"] == y)
    assert value(found.clean.corrected) == np.mean(data["corrected"] == y)
    assert value(found.clean.always_corrected) == np.mean(data["defense"] == y)
    assert value(found.clean.fpr) == np.mean(data["is_adversarial"])
    np.testing.assert_allclose(found.clean.scores, data["instance_score"], rtol=1e-5)
    np.testing.assert_allclose(found.clean_detection["entropy"], entropy(x), rtol=1e-3, atol=1e-5)
    assert found.detector == "AdversarialAE"
    assert found.promised_fpr == 0.05
    assert found.threshold == [guards.guard("AdversarialAE").threshold]
    assert found.input_shape == [8, 8, 1]
    assert found.class_names == list("0123456789")


def changed_rows(threat, watched):
    """Rows after a threat, made by hand where that is possible."""
    if threat.knowledge != "corruption":
        return watched.x(threat)
    x, _ = ordered()
    return corrupt(x, name=threat.name, severity=int(threat.strength), seed=3)


def test_figures_of_threats_add_up(evaluated):
    found, watched = evaluated
    x, y = ordered()
    before = answers(x)
    right = before["no_defense"] == y
    assert 0 < right.sum() < N
    assert [threat.title for threat in found.threats][:4] == [attack.title for attack in attacks_of_interest()]
    assert len(found.threats) == 4 + 2 * 5
    for threat in found.threats:
        changed = changed_rows(threat, watched)
        if threat.knowledge != "corruption":
            np.testing.assert_array_equal(changed[~right], x[~right], "what is wrong already is not attacked")
        data = answers(changed)
        wrong, flagged = data["no_defense"] != y, data["is_adversarial"]
        accepted = right & wrong & ~flagged
        corrected = right & flagged & (data["defense"] != y)
        successful = right & wrong
        assert threat.rows == N
        assert threat.attempted == right.sum()
        assert value(threat.accuracy) == np.mean(~wrong)
        assert value(threat.corrected) == np.mean(data["corrected"] == y)
        assert value(threat.always_corrected) == np.mean(data["defense"] == y)
        assert value(threat.succeeded) == np.mean(wrong[right])
        assert value(threat.accepted_and_wrong) == np.mean(accepted[right])
        assert value(threat.corrected_to_wrong) == np.mean(corrected[right])
        assert threat.broken == pytest.approx(np.mean(data["corrected"][right] != y[right]))
        assert value(threat.flagged_all) == np.mean(flagged)
        assert successful.any() or threat.knowledge == "corruption"
        if successful.any():
            assert value(threat.flagged) == np.mean(flagged[successful])
        assert threat.successful == successful.tolist()
        np.testing.assert_allclose(threat.scores, data["instance_score"], rtol=1e-4, atol=1e-6)
        change = (changed - x).reshape(N, -1)[successful]
        for norm, order in (("Linf", np.inf), ("L2", 2), ("L1", 1)) if successful.any() else ():
            assert threat.distance[norm] == pytest.approx(np.median(np.linalg.norm(change, order, axis=1)), rel=1e-4)
        assert (threat.converged is not None) == (threat.knowledge == "white-box")


def test_both_conventions_of_what_counts_as_positive(evaluated):
    """Against unchanged rows: those on which the threat succeeded, and all that it was tried on."""
    found, watched = evaluated
    x, y = ordered()
    right = answers(x)["no_defense"] == y
    for threat in [threat for threat in found.threats if any(threat.successful)]:
        changed = changed_rows(threat, watched)
        successful = np.array(threat.successful)
        for name, scored in (
            (OWN, lambda rows: answers(rows)["instance_score"]),
            ("entropy", entropy),
        ):
            clean, bad = scored(x), scored(changed)
            for positives, chosen in (("successful", bad[successful]), ("all", bad[right])):
                truth = np.repeat([0, 1], [N, len(chosen)])
                area = value(threat.detection[name][positives]["auroc"])
                # In float32, confident rows tie whose entropies differ in float64.
                error = 2e-3 if name == OWN else 1e-2
                assert area == pytest.approx(roc_auc_score(truth, np.concatenate([clean, chosen])), abs=error)
        harmful = answers(changed)["instance_score"][successful]
        harmless = answers(changed)["instance_score"][right & ~successful]
        assert (threat.harm.harmful, threat.harm.harmless) == (len(harmful), len(harmless))
        assert threat.harm.mean_harmful == pytest.approx(harmful.mean(), rel=1e-4)
        assert threat.harm.mean_harmless == pytest.approx(harmless.mean(), rel=1e-4)


def test_nothing_that_succeeded_has_no_figures():
    found = evaluate(attacks=[FGSM(1e-6)], corruptions={"none": lambda X, severity, seed: X})
    for threat in found.threats:
        assert threat.flagged is None
        assert threat.detection[OWN]["successful"] is None
        assert threat.detection[OWN]["all"] is not None
        assert threat.harm.auroc is None
        assert threat.distance == dict.fromkeys(threat.distance)
        assert threat.examples == []


def test_the_worst_case_is_no_better_than_any_of_its_attacks(evaluated):
    found, watched = evaluated
    _, y = ordered()
    grey, white = found.worst_cases
    assert (grey.knowledge, grey.norm, grey.strength) == ("grey-box", "Linf", 0.15)
    assert grey.attacks == ["FGSM", "PGD"]
    assert (white.knowledge, white.norm, white.strength) == ("white-box", "Linf", 0.15)
    assert white.attacks == ["FGSM", "PGD", "selective PGD", "PGD on error and score"]
    by_name = {threat.name: threat for threat in found.threats}
    for case in (grey, white):
        threats = [by_name[name] for name in case.attacks]
        assert value(case.accuracy) <= min(threat.accuracy.value for threat in threats)
        assert value(case.corrected) <= min(threat.corrected.value for threat in threats)
        assert value(case.accepted_and_wrong) >= max(threat.accepted_and_wrong.value for threat in threats)
        data = [answers(watched.x(threat)) for threat in threats]
        right = np.all([each["corrected"] == y for each in data], axis=0)
        assert case.corrected.value == np.mean(right)
        assert case.accuracy.value == np.mean(np.all([each["no_defense"] == y for each in data], axis=0))
        lowest = np.min(
            [np.where(t.successful, each["instance_score"], np.inf) for t, each in zip(threats, data, strict=True)],
            axis=0,
        )
        lowest = lowest[np.isfinite(lowest)]
        truth = np.repeat([0, 1], [N, len(lowest)])
        area = roc_auc_score(truth, np.concatenate([found.clean.scores, lowest]))
        assert case.detection["auroc"].value == pytest.approx(area, abs=2e-3)
    assert white.accepted_and_wrong.value >= grey.accepted_and_wrong.value


def test_examples_are_what_was_seen(evaluated):
    found, watched = evaluated
    x, y = ordered()
    for threat in found.threats:
        most = 4 if threat.knowledge != "corruption" else int(threat.strength == 3)
        assert len(threat.examples) == min(most, sum(threat.successful))
        changed = changed_rows(threat, watched)
        for example in threat.examples:
            row = int(np.flatnonzero((changed == example.changed).all(axis=(1, 2, 3)))[0])
            data = answers(changed[row : row + 1])
            np.testing.assert_array_equal(example.original, x[row])
            made = guards.guard("AdversarialAE").reconstruct(changed[row : row + 1])[0]
            np.testing.assert_allclose(example.reconstruction, made, atol=1e-5)
            assert example.label == example.before == y[row]
            assert example.after == data["no_defense"][0] != example.label
            assert example.opinion == data["defense"][0]
            assert example.flagged == data["is_adversarial"][0]
            assert example.score == pytest.approx(data["instance_score"][0], rel=1e-3)
        shown = [example.flagged for example in threat.examples]
        flags = answers(changed)["is_adversarial"][threat.successful]
        if most == 4 and 0 < flags.sum() < len(flags):
            assert set(shown) == {True, False}, "of both kinds, where there are both"


def test_an_evaluation_can_be_written_and_read(evaluated, tmp_path):
    found, _ = evaluated
    text = found.to_json(tmp_path / "evaluation.json")
    assert Evaluation.from_json(tmp_path / "evaluation.json").to_json() == text
    frame = found.to_frame()
    assert list(frame["threat"])[:3] == ["unchanged", "FGSM", "PGD"]
    assert len(frame) == 1 + len(found.threats)
    assert frame["corrected"][1] == found.threats[0].corrected.value


def test_checks_say_what_was_looked_at(evaluated):
    found, _ = evaluated
    passed = {check.name: check.passed for check in found.checks}
    assert passed["calibration and test rows do not overlap"] is True
    assert passed["iterative attacks are at least as strong as one-step attacks"] is not None
    assert passed["white-box attacks are at least as strong as grey-box attacks"] is True
    assert passed["accuracy falls to about 0 as the budget grows"] is None


# Rows and seeds -----------------------------------------------------------------------------------------------------


def test_threats_on_fewer_rows_are_on_the_first_of_the_same(counting):
    class Slow(counting):
        name, most_rows, calls = "slow", 12, []

    found = evaluate(attacks=[counting(0.1), Slow(0.1)], seed=3)
    whole, few = found.threats
    assert (whole.rows, few.rows) == (N, 12)
    assert few.scores == pytest.approx(whole.scores[:12], rel=1e-4)
    assert few.successful == whole.successful[:12]
    assert found.worst_cases[0].rows == 12
    assert found.notes[-1] == f"Slow attacks were tried on fewer than the {N} rows: slow 0.1 on 12."
    data = answers(np.clip(ordered()[0] + np.float32(0.1), 0, 1))
    right = answers(ordered()[0])["no_defense"] == ordered()[1]
    np.testing.assert_allclose(np.array(whole.scores)[right], data["instance_score"][right], rtol=1e-4)


def without_times(evaluation):
    document = json.loads(evaluation.to_json())
    for part in (document, *document["threats"]):
        del part["seconds"]
    del document["cost"]
    return document


@pytest.mark.slow
def test_a_seed_gives_one_evaluation():
    settings = {"attacks": [PGD(0.1), SelectivePGD(0.1, steps=3)], "corruptions": ["gaussian noise"], "resamples": 5}
    settings["baselines"] = ["maximum probability", "untrained companion"]
    first, again = (without_times(evaluate(**settings, seed=1)) for _ in range(2))
    assert first == again
    other = without_times(evaluate(**settings, seed=2))
    assert [t["scores"] for t in other["threats"]] != [t["scores"] for t in first["threats"]]
    # The same rows in another order are the same clean figures.
    assert other["clean"]["accuracy"] == first["clean"]["accuracy"]


# What is on disk ----------------------------------------------------------------------------------------------------


def test_a_second_run_takes_from_disk_what_the_first_one_did(counting, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "CHUNK", 16)
    first = evaluate(attacks=[counting(0.1)], out=tmp_path)
    assert len(counting.calls) == 3
    assert Evaluation.from_json(tmp_path / "evaluation.json").to_json() == first.to_json()
    second = evaluate(attacks=[counting(0.1)], out=tmp_path)
    assert len(counting.calls) == 3
    assert without_times(second) == without_times(first)
    evaluate(attacks=[counting(0.1), counting(0.2)], out=tmp_path)
    assert len(counting.calls) == 6


def test_an_interrupted_run_goes_on(counting, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "CHUNK", 16)
    counting.fails_at = 4
    attacks = [counting(0.1), counting(0.2)]
    with pytest.raises(KeyboardInterrupt):
        evaluate(attacks=attacks, out=tmp_path)
    assert not (tmp_path / "evaluation.json").exists()
    counting.fails_at = math.inf
    gone_on = evaluate(attacks=attacks, out=tmp_path)
    assert len(counting.calls) == 6, "one chunk of the second attack was done"
    counting.calls.clear()
    assert without_times(gone_on) == without_times(evaluate(attacks=attacks))


def test_adaptive_attacks_say_what_was_late_from_disk_too(tmp_path):
    attacks = [SelectivePGD(0.15, steps=2)]
    first, second = (without_times(evaluate(attacks=attacks, out=tmp_path)) for _ in range(2))
    assert first["threats"][0]["converged"] is not None
    assert first == second


def test_attacks_that_know_only_the_classifier_serve_all_its_detectors(counting, tmp_path):
    kinds = ("AdversarialAE", "ModelDistillation")
    found = [evaluate(guards.guard(kind), attacks=[counting(0.1)], out=tmp_path) for kind in kinds]
    assert len(counting.calls) == 1
    alone = [evaluate(guards.guard(kind), attacks=[counting(0.1)]) for kind in kinds]
    assert [without_times(one) for one in found] == [without_times(one) for one in alone]
    counting.calls.clear()
    bent = keras.models.clone_model(guards.classifier())
    bent.set_weights([w * 1.001 for w in guards.classifier().get_weights()])
    other = ModelDistillation(model=bent, distilled_model=guards.guard("ModelDistillation").companion, threshold=0.1)
    evaluate(other, attacks=[counting(0.1)], out=tmp_path)
    assert len(counting.calls) == 1, "another classifier is attacked anew"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::demur.errors.WrongRows")  # one run has other labels
def test_what_another_detector_made_of_other_rows_is_not_taken(counting, tmp_path):
    counting.knowledge = "white-box"
    x, y = guards.attacked_rows(N)
    own = guards.guard("AdversarialAE")
    other = guards.guard("ModelDistillation")
    moved = AdversarialAE(
        model=guards.classifier(),
        encoder_net=models.encoder(),
        decoder_net=models.decoder(),
        temperature=0.5,
        score_type="kld",
    )
    moved.threshold = own.threshold
    moved.companion.set_weights([w + 1e-3 for w in own.companion.get_weights()])
    same = {"model": guards.classifier(), "ae": own.companion, "temperature": 0.5, "score_type": "kld"}
    stricter = AdversarialAE(threshold=own.threshold / 2, **same)
    balanced = AdversarialAE(threshold=own.threshold, **{**same, "score_type": "jeffreys"})
    rebalanced = copy.deepcopy(balanced)
    rebalanced.balance.weight.assign(3.0)
    runs = [
        {},
        {"detector": other},
        {"detector": moved},
        {"detector": stricter},
        {"detector": balanced},
        {"detector": rebalanced},
        {"X": x * 0.99, "y": y},
        {"X": x, "y": (y + 1) % 10},
        {"seed": 1},
        {"bounds": (-1, 1)},
    ]
    for i, run in enumerate(runs):
        counting.calls.clear()
        evaluate(attacks=[counting(0.1)], out=tmp_path, **run)
        # With the classes mixed up there may be no row to attack, and then nothing is.
        assert counting.calls or i == 7, f"{run} is another evaluation than the first one"
    for run in runs:
        counting.calls.clear()
        evaluate(attacks=[counting(0.1)], out=tmp_path, **run)
        assert not counting.calls


def test_a_function_that_answers_otherwise_is_another_classifier(counting, tmp_path):
    """It tells nothing of what it has learned: its answers do."""
    x, _ = guards.attacked_rows(N)
    counting.needs_gradients = False
    student = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    says, called = {"bright": 1}, []

    def function(rows):
        is_bright = rows[:, 2, 4, 0] > 0.5
        return np.eye(2)[np.where(is_bright, says["bright"], 1 - says["bright"])]

    for bright in (1, 0, 1):
        says["bright"] = bright
        detector = ModelDistillation(model=function, distilled_model=student, threshold=0.1)
        counting.calls.clear()
        evaluate(detector, x, np.zeros(N, int), attacks=[counting(0.1)], out=tmp_path)
        called.append(len(counting.calls))
    assert called == [1, 1, 0], "the last one is the first one again"


def test_kept_rows_that_fool_the_classifier_no_more_are_refused(counting, tmp_path):
    """As of a function that has changed, but not on unattacked rows; what the message says to do works."""
    evaluate(attacks=[counting(0.1)], out=tmp_path)
    (file,) = (tmp_path / "attacked").iterdir()
    made = AttackedRows.read(file)
    made._replace(fooled=~made.fooled).write(file)
    with pytest.raises(
        CorruptEvaluation, match=r"the classifier or the labels have changed\. Remove that file"
    ) as caught:
        evaluate(attacks=[counting(0.1)], out=tmp_path)
    assert str(file) in str(caught.value)
    file.unlink()
    evaluate(attacks=[counting(0.1)], out=tmp_path)
    assert len(counting.calls) == 2


# Time ---------------------------------------------------------------------------------------------------------------


def test_what_takes_longer_than_there_is_time_is_left_out_in_one_line(counting):
    class Dear(counting):
        name, passes, calls = "dear", 10**12, []

    found = evaluate(attacks=[Dear(0.1), counting(0.1), Dear(0.2)], budget="60s")
    assert [(threat.title, threat.rows) for threat in found.threats] == [("counting 0.1", N)]
    assert [note for note in found.notes if "To end" in note] == ["To end within 60s: left out: dear."]
    assert found.settings["budget"] == "60s"
    assert Dear.calls == []


def test_with_hardly_any_time_there_are_figures_of_unchanged_rows_alone(counting):
    asked = {"attacks": [counting(0.1)], "corruptions": ["fog"], "baselines": ["entropy", "reconstruction error"]}
    found = evaluate(**asked, X_train=guards.data().train.x[:300], budget=1e-6)
    assert found.threats == found.worst_cases == []
    assert found.clean.accuracy.value > 0.5
    assert set(found.clean_detection) == {"entropy"}
    assert found.notes[-1] == (
        "To end within 1e-06 s: left out: counting; fog; the comparison with reconstruction error."
    )
    assert Evaluation.from_json(found.to_json()).to_json() == found.to_json()


def test_with_time_each_is_tried_on_the_fewest_rows_and_then_on_all(counting, monkeypatch):
    monkeypatch.setattr(schedule, "FEWEST", 10)
    whole = without_times(evaluate(attacks=[counting(0.1)], corruptions=["contrast"]))
    counting.calls.clear()
    found = evaluate(attacks=[counting(0.1)], corruptions=["contrast"], budget="10min")
    assert len(counting.calls) == 2
    assert not any("To end" in note for note in found.notes)
    in_two = without_times(found)
    assert in_two["settings"].pop("budget") == "10min"
    assert whole["settings"].pop("budget") is None
    assert [t["scores"] for t in in_two["threats"]] == [
        pytest.approx(t["scores"], rel=1e-4, abs=1e-6) for t in whole["threats"]
    ]
    assert [t["successful"] for t in in_two["threats"]] == [t["successful"] for t in whole["threats"]]


def test_a_threat_that_the_deadline_overtakes_keeps_the_chunks_that_are_done(counting, monkeypatch):
    """And what comes after it is not hurried."""
    monkeypatch.setattr(trial, "CHUNK", 16)
    target = guards.target()
    x, y = guards.attacked_rows(N)
    unchanged = Unchanged(y, target.verdict(x), {})

    class Overtaken(counting):
        name, calls = "overtaken", []

        def run(self, target, x, y, *, seed=0):
            if self.calls:
                target.deadline = -math.inf
            return super().run(target, x, y, seed=seed)

    tried = Trial(Overtaken(0.1), Scene(target, Rows.of(x, target.layout), unchanged, [], Stores(), 0))
    done = []
    tried.extend(N, count=done.append)
    assert (tried.tried, done) == (16, [16])
    assert len(tried.outcome().right_alone) == 16
    assert len(target.verdict(x).score) == N


# Rows of other kinds ------------------------------------------------------------------------------------------------


def wines():
    X, y = models.wine()
    return X[100:140], y[100:140]


@pytest.mark.slow
def test_an_estimator_of_a_table_of_numbers(monkeypatch):
    monkeypatch.setattr(HopSkipJump, "arguments", {"steps": 2, "max_gradient_eval_steps": 20})
    X, y = models.wine()
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(X[:100], y[:100])
    detector = ModelDistillation(model=estimator, data_type="tabular")
    detector.fit(X[:100], epochs=5, verbose=False).infer_threshold(X[:100], threshold_perc=90)
    test, labels = wines()
    found = evaluate(
        detector, test, labels, attacks="default", corruptions="default", baselines="default", X_train=X[:100]
    )
    asking = {"HopSkipJump", "HopSkipJump on the guard"}
    assert {threat.name for threat in found.threats} <= {*asking, *TABLE_CORRUPTIONS}
    assert {threat.name for threat in found.threats} >= {*asking, "noise", "stuck sensor"}
    assert found.settings["bounds"] == [float(test.min()), float(test.max())]
    assert found.clean.accuracy.value == np.mean(estimator.predict(test) == labels)
    assert set(found.clean_detection) == {
        "maximum probability",
        "entropy",
        "reconstruction error",
        "untrained companion",
    }
    missing = " ".join(found.notes)
    assert "energy (the classifier shows probabilities" in missing
    assert "feature squeezing (there is nothing to squeeze" in missing
    assert "gives no gradients, so these attacks were left out: FGSM" in missing


def test_a_network_on_a_table_is_attacked_within_what_is_found_in_it():
    X, _ = wines()
    detector = ModelDistillation(model=models.tabular(), distilled_model=models.dense_student())
    detector.fit(X, epochs=1, verbose=False).infer_threshold(X, threshold_perc=90)
    labels = detector.score(X, return_predictions=True)[1].argmax(axis=1)
    found = evaluate(detector, X, labels, attacks=["FGSM", "PGD L2"], corruptions=["column swap"], bounds=(-9, 9))
    assert found.settings["bounds"] == [-9, 9]
    assert [threat.strength for threat in found.threats[:2]] == [0.2, 0.5]
    assert found.threats[0].accuracy.value < 1
    with pytest.raises(InvalidSetting, match=r"for such rows a corruption is one of .*noise.*; got 'fog'"):
        evaluate(detector, X, labels, corruptions=["fog"])


@pytest.mark.slow
def test_a_table_with_named_columns_has_no_attacks():
    X, y = wines()
    frame = pd.DataFrame(X[:, :3], columns=["alcohol", "acid", "ash"])
    frame["grown"] = np.where(frame["ash"] > 0, "north", "south")
    encode = make_column_transformer((OneHotEncoder(), ["grown"]), remainder="passthrough")
    estimator = make_pipeline(encode, LogisticRegression()).fit(frame, y)
    detector = ModelDistillation(model=estimator).fit(frame, epochs=2, verbose=False)
    detector.infer_threshold(frame, threshold_perc=90)
    everything = {"attacks": "default", "corruptions": "default", "baselines": "default"}
    with pytest.warns(UserWarning, match="are among the rows of X_train"):
        found = evaluate(detector, frame, y, X_train=frame, **everything)
    assert {threat.knowledge for threat in found.threats} == {"corruption"}
    assert {threat.name for threat in found.threats} == set(TABLE_CORRUPTIONS)
    assert found.worst_cases == []
    assert "Rows are several arrays or a table with columns: there are no attacks on such rows." in found.notes
    assert any("no ready autoencoder reconstructs such rows" in note for note in found.notes)
    assert all(threat.distance == {"Linf": None, "L2": None, "L1": None} for threat in found.threats)
    assert found.clean.accuracy.value == estimator.score(frame, y)


def two_inputs(seed):
    number, mask = keras.Input((4,), name="number"), keras.Input((4,), name="mask")
    both = layers.Concatenate()([number, mask])
    output = layers.Dense(3, activation="softmax", **models.weights(seed))(both)
    return keras.Model({"number": number, "mask": mask}, output)


def test_rows_of_several_arrays_are_changed_by_functions_of_ones_own():
    rng = np.random.default_rng(0)
    X = {"number": rng.normal(size=(N, 4)).astype("float32"), "mask": np.ones((N, 4), "float32")}
    detector = ModelDistillation(model=two_inputs(0), distilled_model=two_inputs(1))
    detector.fit(X, epochs=1, verbose=False).infer_threshold(X, threshold_perc=90)
    y = detector.score(X, return_predictions=True)[1].argmax(axis=1)
    asked = []

    def masked(X, severity, seed):
        asked.append((severity, seed))
        return {**X, "mask": X["mask"] * (np.arange(4) >= severity - 1)}

    found = evaluate(detector, X, y, attacks="default", corruptions={"masked": masked}, baselines="default", seed=7)
    assert asked == [(severity, 7) for severity in (1, 2, 3, 4, 5)]
    assert [threat.title for threat in found.threats][:2] == ["masked at severity 1", "masked at severity 2"]
    assert found.threats[0].accuracy.value == 1
    assert found.threats[4].accuracy.value < 1
    assert "Rows are several arrays or a table with columns: there are no attacks on such rows." in found.notes
    assert {"maximum probability", "entropy", "untrained companion"} <= set(found.clean_detection)
    nothing = evaluate(detector, X, y, attacks=None, corruptions="default")
    assert any("No corruptions are known for such rows" in note for note in nothing.notes)
    assert any("No attacks were asked for" in note for note in nothing.notes)
    assert nothing.threats == []


def test_each_part_of_the_rows_has_a_seed_of_its_own(monkeypatch):
    """Or a function would do the same to the first row of each."""
    monkeypatch.setattr(trial, "CHUNK", 16)
    asked = []

    def kept(X, severity, seed):
        asked.append((len(X), severity, seed))
        return X

    evaluate(corruptions={"kept": kept}, seed=7)
    assert asked[:4] == [(16, 1, 7), (16, 1, 23), (8, 1, 39), (16, 2, 7)]


def test_tokens_are_neither_attacked_nor_added_to():
    words = keras.Sequential(
        [
            layers.Input((6,), dtype="int32"),
            layers.Embedding(20, 4, embeddings_initializer=keras.initializers.RandomNormal(seed=0)),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, activation="softmax", **models.weights(1)),
        ]
    )
    X = np.random.default_rng(0).integers(0, 20, (N, 6)).astype("int32")
    detector = ModelDistillation(model=words, distilled_model=keras.models.clone_model(words), threshold=0.1)
    y = detector.score(X, return_predictions=True)[1].argmax(axis=1)
    others = np.random.default_rng(1).integers(0, 20, (N, 6)).astype("int32")
    found = evaluate(detector, X, y, attacks="default", corruptions="default", baselines="default", X_train=others)
    assert found.threats == []
    assert any("tokens: there are no attacks" in note for note in found.notes)
    assert any("No corruptions are known for such rows" in note for note in found.notes)
    assert "reconstruction error" not in found.clean_detection


def test_each_class_may_have_its_own_threshold():
    own = guards.guard("ModelDistillation")
    detector = ModelDistillation(
        model=guards.classifier(), distilled_model=own.companion, temperature=0.5, score_type="kld"
    )
    detector.threshold = np.linspace(0.01, 1, 10)
    found = evaluate(detector, attacks=[SelectivePGD(0.15, steps=5)])
    assert found.threshold == pytest.approx(np.linspace(0.01, 1, 10))
    data = detector.correct(guards.attacked_rows(N)[0])["data"]
    assert found.clean.fpr.value == np.mean(data["is_adversarial"])
    assert found.promised_fpr is None
    assert {check.passed for check in found.checks if "calibration" in check.name} == {None}


# Baselines ----------------------------------------------------------------------------------------------------------


def logits(x):
    w1, b1, w2, b2 = (w.astype("float64") for w in guards.classifier().get_weights())
    return np.maximum(x.reshape(len(x), -1) @ w1 + b1, 0) @ w2 + b2


def probabilities(x):
    z = np.exp(logits(x) - logits(x).max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def entropy(x):
    p = probabilities(x)
    return -(p * np.log(p)).sum(axis=1)


def scored(name, x, X_train=None):
    """A baseline's scores of rows."""
    target = guards.target()
    baseline = Baseline.registry[name](target, X_train, 0)
    assert baseline.missing is None
    shares = list(baseline.prepare())
    assert shares == sorted(shares)
    assert shares[-1:] in ([], [1.0])
    return baseline.score(x, target.classifier_outputs(x)), baseline


def test_baselines_are_their_definitions():
    x, _ = guards.attacked_rows(N)
    p = probabilities(x)
    np.testing.assert_allclose(np.exp(scored("maximum probability", x)[0]), 1 - p.max(axis=1), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scored("entropy", x)[0], entropy(x), rtol=1e-3, atol=1e-5)
    z = logits(x)
    np.testing.assert_allclose(scored("energy", x)[0], -np.log(np.exp(z).sum(axis=1)), rtol=1e-4)
    squeezed = [np.round(x), np.stack([median_filter(image[..., 0], 2, mode="nearest")[..., None] for image in x])]
    moved = np.max([np.abs(probabilities(s) - p).sum(axis=1) for s in squeezed], axis=0)
    np.testing.assert_allclose(scored("feature squeezing", x)[0], moved, atol=1e-4)


@pytest.mark.slow
def test_an_ordinary_autoencoder_learns_to_reconstruct():
    train, (x, _) = guards.data().train.x[:300], guards.attacked_rows(N)
    score, baseline = scored("reconstruction error", x, train)
    made = np.asarray(ops.convert_to_numpy(baseline.network(ops.convert_to_tensor(x))))
    np.testing.assert_allclose(score, np.square(made - x).mean(axis=(1, 2, 3)), rtol=1e-3)
    noise = np.random.default_rng(0).random(x.shape).astype("float32")
    assert score.mean() < baseline.score(noise, []).mean()
    assert score.mean() < np.square(train.mean(axis=0) - x).mean() * 1.5
    np.testing.assert_array_equal(scored("reconstruction error", x, train)[0], score)


def test_an_untrained_companion_is_like_it_and_has_learned_nothing():
    x, _ = guards.attacked_rows(N)
    own = guards.guard("AdversarialAE")
    before = own.companion.get_weights()
    score, baseline = scored("untrained companion", x)
    np.testing.assert_equal(own.companion.get_weights(), before)
    fresh = baseline.detector
    assert fresh.model is own.model
    assert fresh.temperature == own.temperature
    assert [w.shape for w in fresh.companion.get_weights()] == [w.shape for w in before]
    np.testing.assert_allclose(score, fresh.score(x), rtol=1e-5)
    assert score.mean() > 3 * own.score(x).mean()


def test_what_has_no_baseline_says_why():
    found = evaluate(baselines="default")
    assert set(found.clean_detection) == set(Baseline.registry) - {"reconstruction error"}
    assert [note for note in found.notes if "No comparison" in note] == [
        "No comparison with reconstruction error (an ordinary autoencoder must be trained: pass X_train=)."
    ]
    own = AdversarialAE(model=models.cnn(), ae=models.SubclassedAE(), threshold=1.0)
    baseline = Baseline.registry["untrained companion"](Target(own))
    assert baseline.missing == "a companion of a class of its own cannot be made anew"


# What is said -------------------------------------------------------------------------------------------------------


def test_calibration_rows_among_the_test_rows_are_noticed():
    held_out = guards.data().held_out
    found = evaluate(X=held_out.x[:N], y=held_out.y[:N])
    (check,) = [check for check in found.checks if "overlap" in check.name]
    assert check.passed is False
    assert "Evaluate on rows that infer_threshold has not seen" in check.detail
    some = np.concatenate([held_out.x[:10], guards.data().test.x[:30]])
    labels = np.concatenate([held_out.y[:10], guards.data().test.y[:30]])
    assert [check.passed for check in evaluate(X=some, y=labels).checks if "overlap" in check.name] == [False]


def test_what_is_done_is_said_unless_nobody_wants_to_know(counting, capfd):
    evaluate(attacks=[counting(0.1)], verbose=True)
    out, _ = capfd.readouterr()
    (line,) = [line for line in out.splitlines() if line.startswith("counting 0.1")]
    assert line.split()[2:4] == [str(N), "rows"]
    evaluate(attacks=[counting(0.1)], verbose=False)
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_every_long_step_has_a_bar(counting, monkeypatch):
    seen = {}

    @contextlib.contextmanager
    def recorded(reporter, title, rows):
        counted = []
        yield counted.append
        seen[title] = (rows, sum(counted))

    monkeypatch.setattr(Reporter, "counting", recorded)
    found = evaluate(attacks=[counting(0.1)], baselines=["reconstruction error"], X_train=guards.data().train.x[:300])
    assert seen == {
        "baseline: reconstruction error": (1, pytest.approx(1)),
        "unchanged rows": (N, N),
        "counting 0.1": (N, N),
        "figures": (len(found.threats), 1),
    }


def test_rows_and_labels_and_random_states_stay_as_they_are():
    x, y = guards.attacked_rows(N)
    x, y = x.copy(), y.copy()
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    evaluate(X=x, y=y, attacks=[PGD(0.1)], corruptions=["gaussian noise"], baselines=["untrained companion"])
    np.testing.assert_array_equal(x, guards.attacked_rows(N)[0])
    np.testing.assert_array_equal(y, guards.attacked_rows(N)[1])
    assert np.random.get_state()[1].tolist() == before


def test_a_detector_without_a_threshold_is_refused():
    detector = ModelDistillation(model=guards.classifier(), distilled_model=models.student())
    with pytest.raises(ThresholdNotSet, match=r"call infer_threshold\(X_held_out, fpr=0.05\) first"):
        evaluate(detector)
    with pytest.raises(WrongType, match="detector is an AdversarialAE or a ModelDistillation; got Sequential"):
        evaluate(guards.classifier())


ROWS, LABELS = np.zeros((12, 8, 8, 1), "float32"), np.zeros(12, int)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"X": ROWS, "y": LABELS[:5]}, ShapeMismatch, "the true class, for each of the 12 rows"),
        ({"X": ROWS, "y": LABELS + 0.5}, ShapeMismatch, "whole number"),
        ({"X": ROWS, "y": np.eye(10)[LABELS]}, ShapeMismatch, "got shape"),
        ({"X": ROWS, "y": LABELS + 10}, InvalidSetting, "y holds classes from 0 to 9; got 10 to 10"),
        ({"X": ROWS, "y": LABELS - 1}, InvalidSetting, "y holds classes from 0 to 9"),
        ({"X": ROWS[:0], "y": LABELS[:0]}, EmptyInput, "no rows"),
        ({"X": ROWS[:, :4], "y": LABELS}, ShapeMismatch, r"\(n, 8, 8, 1\)"),
        ({"X": ROWS + np.nan, "y": LABELS}, NonFinite, "NaN"),
        ({"X": "rows", "y": LABELS}, WrongType, "X must be an array of shape"),
        ({"attacks": ["PGD 40"]}, InvalidSetting, "an attack is one of"),
        ({"attacks": "all"}, InvalidSetting, "an attack is one of .*; got 'all'"),
        ({"attacks": 3}, WrongType, "attacks is 'default'"),
        ({"corruptions": ["rain"]}, InvalidSetting, "a corruption is one of"),
        ({"corruptions": {"rain": "rain"}}, WrongType, "is a function of rows, severity and seed"),
        ({"baselines": 3}, WrongType, "baselines is 'default', None or a list of names; got 3"),
        ({"X_train": ROWS[:, :4]}, ShapeMismatch, r"X_train must have shape \(n, 8, 8, 1\)"),
        ({"X_train": "rows.npy"}, WrongType, "X_train must be an array"),
        ({"out": 3}, WrongType, "out is the path of a folder; got 3"),
        ({"out": __file__}, InvalidSetting, "out is a folder, and .* is a file"),
        ({"epsilons": [0.1]}, WrongType, "epsilons are sizes by norm"),
        ({"baselines": ["entropy", "odin"]}, InvalidSetting, "a baseline is one of .*; got 'odin'"),
        ({"bounds": (1, 0)}, InvalidSetting, "bounds are two numbers, the smaller first"),
        ({"bounds": (0, 0.5)}, InvalidSetting, "outside the bounds"),
        ({"epsilons": {"Linf": 0}}, InvalidSetting, r"epsilons\['Linf'\] is a number above 0"),
        ({"epsilons": {"L0": 1}}, InvalidSetting, "keyed by norm"),
        ({"class_names": ["zero", "one"]}, InvalidSetting, "a name for each of the 10 classes; got 2"),
        ({"budget": "soon"}, InvalidSetting, "budget is a time"),
        ({"resamples": 0}, InvalidSetting, "resamples"),
        ({"seed": -1}, InvalidSetting, "seed"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_done(settings, error, match, monkeypatch):
    def never(*_, **__):
        raise AssertionError("it has begun")

    monkeypatch.setattr(trial.Trial, "extend", never)
    monkeypatch.setattr(Baseline, "prepare", never)
    with pytest.raises(error, match=match):
        evaluate(**{"attacks": ["FGSM"], **settings})


def test_names_and_budgets_of_ones_own_reach_the_result():
    names = [f"digit {i}" for i in range(10)]
    found = evaluate(attacks=["FGSM"], class_names=names, epsilons={"Linf": 0.07}, budget=600)
    assert found.class_names == names
    assert not any("fewer" in note for note in found.notes), "there is time enough"
    assert found.threats[0].strength == 0.07
    assert found.settings["epsilons"]["Linf"] == 0.07
    assert found.settings["attacks"] == [{"name": "FGSM", "epsilon": 0.07, "for_the_curve": False, "arguments": {}}]
    assert found.versions["backend"] == keras.backend.backend()
