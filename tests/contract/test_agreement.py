"""`fit` says how well the companion agrees with the classifier, on rows that it did not train on."""

import warnings

import keras
import numpy as np
import pytest

from demur import AdversarialAE, ModelDistillation, load_detector
from demur.errors import InvalidSetting
from demur.network.feed import TrainingBatches
from tests.scaffold import guards, models
from tests.scaffold.advice import advises

X = models.digits()[0]
QUICK = {"epochs": 1, "batch_size": 50, "verbose": False}


def distilled(**settings):
    return ModelDistillation(model=models.cnn(), distilled_model=models.student(), **settings)


def agreement_of(detector, rows):
    _, y, y_opinion = detector.score(rows, return_predictions=True)
    return np.mean(y.argmax(axis=1) == y_opinion.argmax(axis=1))


@pytest.fixture
def drawn(monkeypatch):
    """The numbers of the rows that each set of batches draws."""
    found = []
    start = TrainingBatches.__init__

    def noting(batches, *arguments, **settings):
        start(batches, *arguments, **settings)
        found.append(np.sort(batches.order))

    monkeypatch.setattr(TrainingBatches, "__init__", noting)
    return found


@pytest.mark.slow
def test_a_tenth_is_held_out_and_reported(drawn, tmp_path):
    detector = distilled().fit(X, **QUICK)
    trained, _ = drawn
    held_out = np.setdiff1d(np.arange(300), trained)
    assert (len(trained), len(held_out)) == (270, 30)
    expected = agreement_of(detector, X[held_out])
    found = detector.agreement
    assert (found.share, found.rows, found.held_out) == (pytest.approx(expected), 30, True)
    assert detector.history["val_agreement"][-1] == pytest.approx(expected, abs=1e-6)
    assert 0 <= detector.history["agreement"][-1] <= 1
    assert f"agreement {expected:.3f} on 30 held-out rows" in repr(detector)
    detector.save(tmp_path / "guard")
    assert load_detector(tmp_path / "guard").agreement == found


def test_what_the_caller_holds_out_is_taken_instead(drawn):
    detector = distilled().fit(X[:200], **QUICK, validation_data=X[200:])
    assert [len(rows) for rows in drawn] == [200, 100]
    assert detector.agreement.rows == 100
    assert detector.agreement.share == pytest.approx(agreement_of(detector, X[200:]))


@pytest.mark.parametrize(("rows", "settings"), [(X[:49], {}), (X[:60], {"validation_split": 0})], ids=["few", "asked"])
def test_nothing_is_held_out_of_few_rows_or_on_demand(drawn, rows, settings):
    detector = distilled().fit(rows, **QUICK, **settings)
    assert [len(found) for found in drawn] == [len(rows)]
    assert "val_agreement" not in detector.history
    assert (detector.agreement.rows, detector.agreement.held_out) == (len(rows), False)
    assert "training rows" in repr(detector)


@pytest.mark.slow
def test_of_a_stream_the_agreement_is_that_of_training_rows():
    detector = distilled().fit(iter([X[:50], X[50:100]]), **QUICK)
    assert (detector.agreement.rows, detector.agreement.held_out) == (100, False)
    with advises(InvalidSetting, "pass validation_data=, an array of rows that are not in the stream"):
        distilled().fit(iter([X[:50]]), **QUICK, validation_split=0.1)
    assert distilled().fit(iter([X[:50]]), **QUICK, validation_data=X[50:90]).agreement.rows == 40


def test_two_ways_to_hold_rows_out_are_one_too_many():
    with pytest.raises(InvalidSetting, match="pass one of them"):
        distilled().fit(X, **QUICK, validation_data=X, validation_split=0.1)


@pytest.mark.slow
def test_a_companion_that_agrees_too_little_is_a_warning_and_one_that_agrees_is_none():
    with pytest.warns(UserWarning, match=r"student agrees .* held-out rows.*epochs=.*distilled_model="):
        distilled().fit(X, **QUICK, optimizer=keras.optimizers.SGD(0.0), validation_split=0.5)
    x = guards.data().train.x
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        detector = ModelDistillation(model=guards.classifier(), distilled_model=models.student())
        detector.fit(x, epochs=10, batch_size=32, optimizer=keras.optimizers.Adam(3e-3), verbose=False)  # as advised
    assert detector.agreement.share > 0.8


def test_a_companion_of_the_callers_that_never_learned_is_a_warning_when_a_threshold_is_inferred():
    with pytest.warns(UserWarning, match="student agrees with the classifier on only"):
        distilled().infer_threshold(X)
    with pytest.warns(UserWarning, match="autoencoder agrees with the classifier on only"):
        AdversarialAE(model=models.cnn(), encoder_net=models.encoder(), decoder_net=models.decoder()).infer_threshold(X)


def test_with_a_preprocess_fn_the_held_out_rows_are_as_they_came():
    detector = distilled().fit(X, **QUICK, preprocess_fn=lambda x: x * 0.5)
    assert detector.history["val_agreement"][-1] == pytest.approx(detector.agreement.share, abs=1e-6)
