"""Eight threads on one detector get what one gets."""

import threading

import keras
import numpy as np
import pytest

from demur import AdversarialAE, ModelDistillation
from tests.scaffold import models

THREADS = 8
CALLS = 60 if keras.backend.backend() == "torch" else 200  # all rows by all methods; a call is slow there

MAKE = {
    "AdversarialAE": lambda: AdversarialAE(
        model=models.cnn(), encoder_net=models.encoder(), decoder_net=models.decoder(), hidden_layer_kld={"hidden": 4}
    ),
    "ModelDistillation": lambda: ModelDistillation(model=models.cnn(), distilled_model=models.live_student()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_threads_share_a_detector(name):
    detector = MAKE[name]()
    X = models.digits()[0]
    detector.infer_threshold(X, threshold_perc=60)
    # Each call has rows and a method of its own, so that a mix-up shows.
    slices = [slice(3 * i, 3 * i + 1 + i % 4) for i in range(40)]
    alone = [(detector.score(X[s]), detector.correct(X[s])["data"]) for s in slices]
    detector = MAKE[name]()  # nothing compiled yet: the first calls race too
    detector.infer_threshold(X, threshold_perc=60)
    del detector.scoring
    failures, start = [], threading.Barrier(THREADS)

    def work(number):
        start.wait()
        for call in range(CALLS):
            i = (7 * number + call) % len(slices)
            score, data = alone[i]
            try:
                method = (number + call) % 3
                if method == 0:
                    np.testing.assert_allclose(detector.score(X[slices[i]]), score, atol=1e-5)
                else:
                    found = (detector.predict if method == 1 else detector.correct)(X[slices[i]])["data"]
                    for key, value in found.items():
                        np.testing.assert_allclose(value, data[key], atol=1e-5)
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
