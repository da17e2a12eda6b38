"""Settings of calibration and of `fit` that cannot be meant are refused, with what was wanted."""

import numpy as np
import pytest

from demur import AdversarialAE, ModelDistillation
from demur.errors import InvalidSetting, ShapeMismatch, TooFewInstances, WrongType
from tests.scaffold import models


@pytest.mark.parametrize("value", ["1", None, True, float("nan")])
def test_numbers_that_are_none_are_settings_that_are_invalid(value):
    detector = ModelDistillation(model=models.cnn())
    X = models.digits()[0][:20]
    for setting in ("threshold_perc", "margin"):
        if value is True:
            continue  # 1 to Python
        with pytest.raises(InvalidSetting, match=setting):
            detector.infer_threshold(X, **{setting: value})
    if value is not None:
        with pytest.raises(InvalidSetting, match="fpr"):
            detector.infer_threshold(X, fpr=value)
        with pytest.raises(InvalidSetting, match="epochs"):
            detector.fit(X, epochs=value if value is True else "3", verbose=False)
    with pytest.raises(InvalidSetting, match="w_recon"):
        AdversarialAE(model=models.cnn()).fit(X, w_recon="1", verbose=False)


def test_what_is_called_must_be_callable_and_what_is_listed_a_list():
    X = models.digits()[0][:20]
    detector = ModelDistillation(model=models.cnn())
    with pytest.raises(WrongType, match="preprocess_fn"):
        detector.fit(X, preprocess_fn=3, verbose=False)
    with pytest.raises(WrongType, match="callbacks is a list of Keras callbacks; got builtins"):
        detector.fit(X, callbacks=[lambda epoch: None], verbose=False)
    with pytest.raises(InvalidSetting, match="optimizer"):
        detector.fit(X, optimizer="no such optimizer", verbose=False)
    with pytest.raises(WrongType, match="model_hl is a list"):
        AdversarialAE(model=models.cnn(), model_hl=models.hidden_models()[0])
    with pytest.raises(WrongType, match="hidden_layer_kld is a dict"):
        AdversarialAE(model=models.cnn(), hidden_layer_kld=["hidden"])
    with pytest.raises(InvalidSetting, match="w_model_hl"):
        AdversarialAE(model=models.cnn(), hidden_layer_kld={"hidden": np.int64(3)}, w_model_hl=["1"])


def test_calibration_settings_are_checked():
    X = models.digits()[0][:20]
    detector = models.as_trained(ModelDistillation(model=models.cnn()))
    with pytest.raises(InvalidSetting, match="two ways"):
        detector.infer_threshold(X, fpr=0.1, threshold_perc=90)
    with pytest.raises(InvalidSetting, match="groups"):
        detector.infer_threshold(X, groups="true")
    with pytest.raises(ShapeMismatch, match="labels"):
        detector.infer_threshold(X, labels=np.zeros(3, int))
    with pytest.raises(ShapeMismatch, match="labels"):
        detector.infer_threshold(X, labels=np.full(20, 0.5))
    with pytest.raises(InvalidSetting, match="labels holds classes from 0 to 9; got 99 to 99"):
        detector.infer_threshold(X, labels=np.full(20, 99))
    wrong = (detector.score(X, return_predictions=True)[1].argmax(axis=1) + 1) % 10
    with pytest.raises(TooFewInstances, match="gets no instance right"):
        detector.infer_threshold(X, labels=wrong)
    with pytest.raises(TooFewInstances, match="at least 999 instances; got 20"):
        detector.infer_threshold(X, fpr=0.001)
    with pytest.raises(InvalidSetting, match="on_invalid"):
        ModelDistillation(model=models.cnn(), on_invalid="ignore")
    detector.infer_threshold(X)
    with pytest.raises(InvalidSetting, match="control"):
        detector.predict(X, control="fwer")
    with pytest.raises(InvalidSetting, match="level"):
        detector.predict(X, control="fdr", level=2)
    with pytest.raises(InvalidSetting, match="threshold is"):
        detector.threshold = [0.1, 0.2]
