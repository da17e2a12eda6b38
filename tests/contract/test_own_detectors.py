"""Detectors that users write: their own settings are kept, and calls that do not fit are answered."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from demur import AdversarialAE, ModelDistillation, load_detector
from demur.detectors import Detector, Opinion
from demur.detectors.copies import copied
from demur.errors import InvalidSetting, ThresholdNotSet, WrongType
from tests.scaffold.advice import advises


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """Detectors of one test alone: other tests look at the registry."""
    monkeypatch.setattr(Detector, "registry", dict(Detector.registry))


class Small(Detector):
    companion_name = "dwarf"

    def __init__(self, model, *, width=3, **settings):
        self.width = width
        super().__init__(model, **settings)

    def build(self, layout):
        inputs = keras.Input(layout.shape)
        hidden = layers.Dense(self.width, activation="tanh", name="hidden")(inputs)
        return keras.Model(inputs, layers.Dense(self.classifier.classes)(hidden))

    def opinion(self, x, training):
        return Opinion([ops.log_softmax(self.companion(x, training=training))])


class Smaller(Small):
    def __init__(self, model, *, rate=0.5, **settings):
        self.rate = rate
        super().__init__(model, **settings)


class NoisyStudent(ModelDistillation):
    def __init__(self, model, *, rate=0.5, **settings):
        self.rate = rate
        super().__init__(model, **settings)


class NoisyAutoencoder(AdversarialAE):
    def __init__(self, model, *, rate=0.5, **settings):
        self.rate = rate
        super().__init__(model, **settings)


def trained(kind, tabular, rows, **settings):
    return kind(tabular, **settings).fit(rows, epochs=1, verbose=False)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Small, {"width": 5}),
        (Smaller, {"width": 5, "rate": 0.25}),
        (NoisyStudent, {"rate": 0.25, "temperature": 0.5}),
        (NoisyAutoencoder, {"rate": 0.25}),
    ],
)
def test_own_settings_are_saved_loaded_and_copied(kind, settings, tabular, rows, tmp_path, monkeypatch):
    monkeypatch.setitem(Detector.registry, kind.__name__, kind)
    detector = trained(kind, tabular, rows, **settings).infer_threshold(rows, fpr=0.1)
    detector.save(tmp_path / "guard")
    for other in (load_detector(tmp_path / "guard"), copied(detector)):
        assert {name: getattr(other, name) for name in settings} == settings
        np.testing.assert_allclose(other.score(rows), detector.score(rows), atol=1e-6)


def test_a_setting_that_is_not_kept_is_told_and_nothing_is_written(tabular, rows, tmp_path):
    class Forgetful(Small):
        def __init__(self, model, *, depth=2, **settings):
            super().__init__(model, **settings)

    detector = trained(Forgetful, tabular, rows)
    with advises(InvalidSetting, "write self.depth = depth in __init__, before super().__init__(...)"):
        detector.save(tmp_path / "guard")
    detector.depth = np.float32(2)
    with advises(InvalidSetting, "float(...) and int(...) make such numbers of NumPy's"):
        detector.save(tmp_path / "guard")
    assert not list(tmp_path.iterdir())
    detector.depth = 2.0
    detector.save(tmp_path / "guard")


def test_an_argument_of_no_class_is_answered_with_those_of_all(tabular):
    with pytest.raises(WrongType, match=r"Smaller has no argument 'wdith': did you mean width=\?"):
        Smaller(tabular, wdith=3)
    with pytest.raises(WrongType, match="it takes model, rate, width, threshold, companion, temperature"):
        Smaller(tabular, quux=3)


@pytest.mark.parametrize("groups", [None, "predicted"])
def test_a_threshold_may_be_used_once(groups, tabular, rows):
    detector = trained(Small, tabular, rows)
    with pytest.raises(ThresholdNotSet):
        detector.predict(rows)
    data = detector.predict(rows, threshold=0.0)["data"]
    np.testing.assert_array_equal(data["is_adversarial"], data["instance_score"] > 0)
    detector.infer_threshold(rows, threshold_perc=50, groups=groups)
    kept = np.array(detector.threshold)
    high = detector.correct(rows, threshold=1e9)
    assert not high["data"]["is_adversarial"].any()
    np.testing.assert_array_equal(high["data"]["corrected"], high["data"]["no_defense"])
    np.testing.assert_array_equal(detector.threshold, kept)
    each = [0.0, *[1e9] * (detector.labels.count - 1)]
    if groups is None:
        with pytest.raises(InvalidSetting, match="threshold is a finite number of nats; got"):
            detector.predict(rows, threshold=each)
    else:
        found = detector.correct(rows, threshold=each)["data"]
        np.testing.assert_array_equal(found["is_adversarial"], found["no_defense"] == 0)
    for wrong in (np.nan, np.inf, "high", [[1.0]]):
        with pytest.raises(InvalidSetting, match="threshold is a finite number of nats"):
            detector.predict(rows, threshold=wrong)


def test_a_live_guard_asks_its_classifier_itself(tabular, rows):
    detector = trained(Small, tabular, rows)
    with advises(InvalidSetting, "this one asks its classifier itself: leave it out"):
        detector.score(rows, reference=np.ones((len(rows), 3)) / 3)
    assert len(detector.score(rows)) == len(rows)
