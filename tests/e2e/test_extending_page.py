"""What docs/extending.md shows, runs, and the detector on it keeps what demur's own detectors keep."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_wine

import demur
from demur import load_detector, testing
from demur.detectors import Detector
from demur.drift import Monitor
from demur.drift.evidence import Evidence
from demur.evaluation.attacks import Attack
from demur.evaluation.attacks.adaptive import AdaptiveAttack
from demur.evaluation.baselines import Baseline
from demur.evaluation.corruptions import CORRUPTIONS, corrupt
from demur.evaluation.norms import size
from demur.evaluation.target import Target

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = {
    title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
# foolbox 3.3.4, with current SciPy, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    """What the page adds is gone after each test."""
    for kind in (Detector, Attack, Baseline, Evidence):
        monkeypatch.setattr(kind, "registry", dict(kind.registry))
    before = dict(CORRUPTIONS)
    yield
    CORRUPTIONS.clear()
    CORRUPTIONS.update(before)


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype("float32"), y


@pytest.fixture(scope="module")
def classifier(wine):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((13,)), layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    model.fit(*wine, epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def guard(classifier, wine):
    return demur.ModelDistillation(model=classifier).fit(wine[0], epochs=2, verbose=False).infer_threshold(wine[0])


def run(title, block=0, **names):
    names["__name__"] = "page"
    exec(SECTIONS[title][block], names)
    return names


def test_every_block_is_run_here():
    assert {title: len(blocks) for title, blocks in SECTIONS.items()} == {
        "A detector": 2,
        "An attack": 2,
        "An attack by those who know the guard": 1,
        "A corruption": 1,
        "A score to compare with": 1,
        "Evidence for drift": 2,
        "In a package of your own": 0,  # its lines are tried by test_packages.py
    }


# Of the checks that fit, those of which each stands for something else: all of them take a minute.
FRESH = [
    testing.check_a_seed_gives_one_result,
    testing.check_classifier_is_untouched,
    testing.check_every_weight_of_the_companion_moves,
    testing.check_loss_is_the_mean_divergence,
    testing.check_threshold_is_required_first,
]


def test_the_detector_keeps_the_conventions(classifier, wine):
    names = run("A detector")
    X = wine[0][:32]
    committee = names["Committee"](model=classifier, seed=3)
    committee.fit(X, epochs=1, batch_size=16, verbose=False)

    def read(check, X):  # one fitted detector serves all that only read
        check(lambda: committee, X)

    for check in testing.READING_CHECKS:
        committee.threshold, committee.calibration, committee.on_invalid = None, None, "raise"
        read(check, X)
    page = run("A detector", 1, **names, classifier=classifier, X=X)
    for check in FRESH:
        page["test_committee"](check)
    parametrised = page["test_committee"].pytestmark[0].args[1]
    assert parametrised is testing.CHECKS
    assert set(FRESH) <= set(parametrised)


def test_the_detector_keeps_its_own_setting(classifier, wine, tmp_path):
    committee = run("A detector")["Committee"](model=classifier, members=2)
    assert len(committee.companion.layers) == 7  # an input, a flattened row, two a member, and their mean
    committee.fit(wine[0], epochs=1, verbose=False).save(tmp_path / "guard")
    loaded = load_detector(tmp_path / "guard").infer_threshold(wine[0])
    assert type(loaded) is type(committee)
    assert loaded.members == 2
    np.testing.assert_allclose(loaded.score(wine[0]), committee.score(wine[0]), atol=1e-6)
    loaded.export(tmp_path / "guard.onnx")  # which compares the file with the detector


def test_the_attack_is_evaluated(guard, wine):
    names = run("An attack")
    X, y = wine[0][:40], wine[1][:40]
    attack = names["Guessing"](0.3, draws=10)
    target = Target(guard, (float(X.min()), float(X.max())))
    found = attack.run(target, X, y, seed=1).x
    assert size(found - X, "Linf").max() <= 0.3 * 1.001
    own, before = (target.classifier_outputs(rows)[0][np.arange(40), y] for rows in (found, X))
    assert own.mean() < before.mean() - 0.05  # it does harm
    evaluation = run("An attack", 1, **names, demur=demur, detector=guard, X_test=X, y_test=y)["evaluation"]
    assert [(t.name, t.knowledge) for t in evaluation.threats] == [("guessing", "black-box"), ("FGSM", "grey-box")]
    assert evaluation.threats[0].strength == 0.3


def test_the_page_names_all_that_an_attack_needs():
    told = PAGE.partition("## An attack\n")[2].partition("\n## A corruption")[0]
    for kind in (Attack, AdaptiveAttack):
        names = {name for name in {**vars(kind), **kind.__annotations__} if not name.startswith("_")} - {"registry"}
        assert [name for name in names if not re.search(rf"`{name}\b", told)] == []
    for name in (
        "look",
        "verdict",
        "log_probabilities",
        "classifier_outputs",
        "bounds",
        "clipped",
        "limits",
        "is_open",
    ):
        assert f"`{name}" in told
        assert hasattr(Target, name) or f"self.{name}" in inspect.getsource(Target.__init__)


def test_the_adaptive_attack_climbs(guard, wine):
    attack = run("An attack by those who know the guard")["Undecided"](0.5, steps=10)
    X, y = wine[0][:40], wine[1][:40]
    target = Target(guard, (float(X.min()), float(X.max())))
    before, after = target.verdict(X), target.verdict(attack.run(target, X, y, seed=0).x)
    assert (after.final != y).sum() > (before.final != y).sum()


def test_the_corruption_does_what_it_says():
    run("A corruption")
    X = np.full((20, 16, 16, 1), 0.5, "float32")
    dead = [(corrupt(X, name="dead rows", severity=s, seed=0) == 0).mean() for s in (1, 5)]
    assert 0 < dead[0] < dead[1] < 0.6
    alone = corrupt(X[7:8], name="dead rows", severity=3, start=7)
    np.testing.assert_array_equal(corrupt(X, name="dead rows", severity=3)[7:8], alone)


def test_the_baseline_is_compared(guard, wine):
    run("A score to compare with", np=np)
    corruptions = {"doubled": lambda X, severity, seed: X * (1 + severity / 5)}
    assert 'corruptions={"doubled": lambda X, severity, seed: X * (1 + severity / 5)}' in PAGE
    evaluation = demur.evaluate(
        guard, wine[0][:40], wine[1][:40], attacks=None, corruptions=corruptions, baselines=["margin"], resamples=2
    )
    assert set(evaluation.clean_detection) == {"margin"}
    assert len(evaluation.threats) == 5


def test_the_evidence_is_gathered_and_kept(guard, tmp_path):
    names = run("Evidence for drift")
    guard.infer_threshold(load_rows(), fpr=0.1)
    monitor = run("Evidence for drift", 1, **names, detector=guard)["monitor"]
    monitor.update(scores=guard.score(load_rows()))
    assert not monitor.alarm
    monitor.save(tmp_path / "state.json")
    resumed = Monitor.load(tmp_path / "state.json", detector=guard)
    assert resumed.log_evidence == monitor.log_evidence
    assert resumed.update(scores=np.full(200, 1e3)).alarm


def load_rows():
    X = load_wine().data
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype("float32")
