"""Training that stops half-way leaves everything usable, and goes on where it stopped."""

import os
import signal
import threading

import keras
import numpy as np
import pytest

from demur import AdversarialAE, ModelDistillation
from tests.scaffold import models

MAKE = {
    "AdversarialAE": lambda: AdversarialAE(
        model=models.cnn(), encoder_net=models.encoder(), decoder_net=models.decoder()
    ),
    "ModelDistillation": lambda: ModelDistillation(model=models.cnn(), distilled_model=models.live_student()),
}

X = models.digits()[0]


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts():
    """As in a terminal: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class PressCtrlC(keras.callbacks.Callback):
    """Presses Ctrl-C in the middle of an epoch, as a step begins."""

    def __init__(self, epoch, times=1):
        super().__init__()
        self.at, self.times, self.epoch, self.steps = epoch, times, None, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch == self.at and batch == 1:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
        self.steps += 1


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_ctrl_c_leaves_the_detector_usable_and_says_so(name):
    detector = MAKE[name]()
    classifier = [weight.copy() for weight in detector.model.get_weights()]
    untrained = detector.companion.get_weights()
    press = PressCtrlC(epoch=2)
    with pytest.raises(KeyboardInterrupt, match=r"after 2 of 9 epochs.*usable.*classifier is as it was"):
        detector.fit(X, epochs=9, batch_size=100, verbose=False, callbacks=[press])
    assert press.steps == 3 + 3 + 2, "training did not stop after the step"
    assert len(detector.history["loss"]) == 2
    assert any((a != b).any() for a, b in zip(untrained, detector.companion.get_weights(), strict=True))
    for a, b in zip(classifier, detector.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(layer.trainable for layer in detector.model.layers)
    assert np.isfinite(detector.infer_threshold(X).score(X)).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = detector.score(X).mean()
    detector.fit(X, epochs=2, verbose=False)
    assert detector.score(X).mean() < before, "fit does not go on from the weights it had"


def test_a_second_ctrl_c_stops_at_once():
    press = PressCtrlC(epoch=0, times=2)
    with pytest.raises(KeyboardInterrupt, match="after 0 of 9 epochs"):
        MAKE["ModelDistillation"]().fit(X, epochs=9, batch_size=100, verbose=False, callbacks=[press])
    assert press.steps == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_own_is_left_alone():
    pressed = []
    old = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        MAKE["ModelDistillation"]().fit(X, epochs=1, batch_size=100, verbose=False, callbacks=[PressCtrlC(epoch=0)])
    finally:
        signal.signal(signal.SIGINT, old)
    assert pressed == [1]


def test_fit_works_in_another_thread():
    detector = MAKE["ModelDistillation"]()
    thread = threading.Thread(target=lambda: detector.fit(X, epochs=1, verbose=False))
    thread.start()
    thread.join()
    assert len(detector.history["loss"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_backup_and_restore_resumes(name, tmp_path):
    def fit(detector, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=True)
        return detector.fit(X, epochs=6, batch_size=len(X), verbose=False, callbacks=[backup, *callbacks])

    # One batch an epoch, so that the order of rows, which a resumed fit draws anew, makes no difference.
    straight = MAKE[name]().fit(X, epochs=6, batch_size=len(X), verbose=False).history["loss"]
    with pytest.raises(KeyboardInterrupt):
        fit(
            MAKE[name](),
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: os.kill(os.getpid(), signal.SIGINT) if epoch == 3 else None
            ),
        )
    resumed = fit(MAKE[name]()).history["loss"]
    assert len(resumed) == 3
    # Dropout draws anew in the student; the autoencoder has none, so only the optimizer's state can tell them apart.
    tolerance = 1e-3 if name == "AdversarialAE" else 0.3
    np.testing.assert_allclose(resumed, straight[3:], rtol=tolerance)
    assert not (tmp_path / "backup").exists()
