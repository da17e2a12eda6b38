"""What users of Keras, PyTorch, scikit-learn and alibi-detect type works, or is answered by a sentence that helps."""

import copy
import enum

import keras
import numpy as np
import pytest

import demur
from demur import AdversarialAE, ModelDistillation
from demur.errors import InvalidSetting, NotADetector, WrongType
from demur.evaluation.attacks import FGSM, CarliniWagner
from tests.scaffold import guards, models
from tests.scaffold.advice import advises

# foolbox 3.3.4, with current SciPy, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")
QUIET = {"epochs": 1, "verbose": False}
X, Y = (part[:40] for part in models.digits())


class Loss(enum.Enum):
    XENT = "xent"


@pytest.fixture
def detector():
    return copy.deepcopy(guards.guard("ModelDistillation"))


def fresh():
    return ModelDistillation(model=models.cnn(), distilled_model=models.student())


def test_the_classifier_may_be_given_by_position_and_choices_in_any_spelling():
    found = ModelDistillation(models.cnn(), loss_type=Loss.XENT, score_type="KLD", on_invalid="Flag")
    assert (found.model, found.loss_type, found.score_type, found.on_invalid) == (models.cnn(), "xent", "kld", "flag")
    with advises(InvalidSetting, "got 'jefreys': did you mean 'jeffreys'?"):
        ModelDistillation(models.cnn(), score_type="jefreys")


def test_arguments_in_the_order_of_another_library_are_answered_by_names():
    with advises(
        WrongType, "AdversarialAE takes model by position: write AdversarialAE(model, threshold=..., ae=..., "
    ):
        AdversarialAE(None, models.decoder(), models.cnn())
    with advises(WrongType, "ModelDistillation has no argument 'student': did you mean distilled_model=?"):
        ModelDistillation(model=models.cnn(), student=models.student())
    found = ModelDistillation(models.cnn(), threshold=None, distilled_model=models.student())
    with advises(WrongType, "fit takes X and loss_fn by position: write fit(X, loss_fn, optimizer=..., "):
        found.fit(X, None, keras.optimizers.Adam, 1)
    assert found.fit(X, None, optimizer=keras.optimizers.Adam, **QUIET) is found


def test_labels_are_not_needed():
    with advises(WrongType, "as the companion learns from the classifier's answers: call fit(X)"):
        fresh().fit(X, Y, **QUIET)
    with advises(WrongType, "fit has no argument 'y': no labels are needed: leave them out"):
        fresh().fit(X, y=Y, **QUIET)
    assert fresh().fit((X, Y), validation_data=(X, Y), **QUIET).history["val_loss"]


def alibi(x_true, x_pred, model_true, model_pred):
    return keras.losses.kl_divergence(model_true, model_pred)


def with_model(x_true, y_pred, model=None, loss_type="kld"):
    return keras.losses.kl_divergence(model(x_true), y_pred)


@pytest.mark.parametrize("loss", [alibi, with_model])
def test_a_loss_written_for_another_library_is_answered_by_what_it_is_called_with(loss):
    said = "pass a function of these two, such as keras.losses.kl_divergence"
    with advises(WrongType, said) as caught:
        fresh().fit(X, loss, **QUIET)
    assert f"{loss.__name__} takes " in str(caught.value)


def test_losses_and_optimizers_of_pytorch_are_answered_by_those_of_keras():
    torch = pytest.importorskip("torch")
    for loss in (torch.nn.KLDivLoss(), torch.nn.functional.kl_div):
        with advises(WrongType, "pass a function of these two, such as keras.losses.kl_divergence"):
            fresh().fit(X, loss, **QUIET)
    for optimizer in (torch.optim.Adam, torch.optim.Adam(torch.nn.Linear(1, 1).parameters())):
        with advises(InvalidSetting, "got torch.optim.adam.Adam: pass one, such as keras.optimizers.Adam(1e-3)"):
            fresh().fit(X, optimizer=optimizer, **QUIET)
    assert fresh().fit(X, keras.losses.KLDivergence, optimizer=keras.optimizers.Adam(1e-3), **QUIET).history["loss"]


def test_a_callback_may_stand_alone_and_one_that_is_a_class_is_to_be_called():
    with advises(WrongType, "EarlyStopping: call it, to make one"):
        fresh().fit(X, callbacks=[keras.callbacks.EarlyStopping], **QUIET)
    assert fresh().fit(X, callbacks=keras.callbacks.EarlyStopping("loss"), **QUIET).history


def test_calibration_and_answers_by_position_are_answered_by_names(detector):
    flags = [detector.predict(X, control=name, level=0.5)["data"]["is_adversarial"] for name in ("fdr", "FDR")]
    np.testing.assert_array_equal(*flags)
    with advises(
        WrongType, "infer_threshold takes X by position: write infer_threshold(X, fpr=..., threshold_perc=..."
    ):
        detector.infer_threshold(X, 95)
    with advises(WrongType, "infer_threshold has no argument 'y': did you mean labels=?"):
        detector.infer_threshold(X, y=Y)
    with advises(WrongType, "score takes X by position: write score(X, batch_size=..., return_predictions=..."):
        detector.score(X, Y)
    assert detector.infer_threshold(X, threshold_perc=95, labels=Y, groups=None).score(X, batch_size=8).shape == (40,)
    detector.threshold = np.array(0.25)
    assert detector.threshold == 0.25


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("predict_proba", r"score\(X, return_predictions=True\)"),
        ("decision_function", r"demur\.sklearn\.DemurOutlierDetector\(detector\)"),
        ("evaluate", r"demur\.evaluate\(detector, X, y\)"),
        ("compile", "fit takes optimizer="),
        ("student", "called distilled_model"),
        ("eval", "by themselves"),
    ],
)
def test_methods_of_other_libraries_say_what_does_the_same_here(detector, name, said):
    with pytest.raises(AttributeError, match=f"no attribute '{name}': .*{said}"):
        getattr(detector, name)
    assert not hasattr(detector, name)


def test_results_say_where_their_entries_are(detector):
    result = detector.predict(X)
    with pytest.raises(KeyError, match=r"one level below: result\['data'\]\['is_adversarial'\]"):
        result["is_adversarial"]
    with pytest.raises(KeyError, match=r"^'is_outlier'$"):
        result["data"]["is_outlier"]
    assert not [name for name in dir(result) if name.startswith("_")]
    evaluation = evaluated(detector, X, Y)
    with pytest.raises(AttributeError, match=r"demur\.report\.write_report\(evaluation, path\)"):
        evaluation.report("report.html")
    assert {"summary", "threats", "to_json", "clean"} <= set(dir(evaluation))
    assert not [name for name in dir(evaluation) if name.startswith("_")]


def test_an_error_inside_of_a_property_is_told_as_it_is():
    unready = ModelDistillation(model=lambda rows: rows)
    with pytest.raises(AttributeError, match="'route'"):
        _ = unready.graph
    with pytest.raises(AttributeError, match="no attribute 'treshold'"):
        _ = unready.treshold


def test_completion_shows_what_users_need_and_computes_nothing(detector):
    shown = dir(detector)
    assert {"fit", "infer_threshold", "score", "predict", "correct", "save", "export", "threshold", "history"} <= set(
        shown
    )
    assert not {name for name in shown if name.startswith("_")} | ({"views", "parts", "registry", "graph"} & set(shown))
    for name in shown:
        assert hasattr(detector, name), name
    fresh_one = fresh()
    dir(fresh_one)
    assert "graph" not in vars(fresh_one)


def test_a_detector_is_saved_as_elsewhere_and_to_a_folder(detector, tmp_path):
    with advises(WrongType, "save_detector takes a detector, and then the path: write save_detector(detector, path)"):
        demur.save_detector(tmp_path / "guard", detector)
    with pytest.raises(WrongType, match=r"got builtins\.int"):
        demur.save_detector(3, tmp_path / "guard")
    demur.save_detector(detector, tmp_path / "guard")
    again = demur.load_detector(tmp_path / "guard")
    np.testing.assert_allclose(again.score(X), detector.score(X), atol=1e-6)
    with advises(WrongType, "load_detector has no argument 'filepath': did you mean path=?"):
        demur.load_detector(filepath=tmp_path / "guard")
    with advises(NotADetector, f"is named like a file, and a detector is saved to a folder: save to {tmp_path / 'it'}"):
        detector.save(tmp_path / "it.keras")
    detector.save(tmp_path / "it")
    with advises(NotADetector, "to write one ONNX file, call detector.export(path)"):
        detector.save(tmp_path / "it.onnx")
    detector.export(tmp_path / "it.onnx")
    with advises(NotADetector, "is an ONNX file, and not a saved detector: load it with demur.runtime.load(path)"):
        demur.load_detector(tmp_path / "it.onnx")
    guard = demur.runtime.load(tmp_path / "it.onnx")
    streamed = guard.predict((X[i : i + 7], Y[i : i + 7]) for i in range(0, 40, 7))["data"]
    np.testing.assert_allclose(streamed["instance_score"], guard.score((X, Y)), atol=1e-6)
    assert {"score", "predict", "correct", "threshold"} <= set(dir(guard))
    assert not {name for name in dir(guard) if name.startswith("_")} | ({"run", "feed"} & set(dir(guard)))
    with pytest.raises(
        AttributeError, match=r"an exported guard stays as it is; load .* demur\.load_detector\(folder\)"
    ):
        guard.fit(X)
    with advises(AttributeError, "an exported guard keeps its threshold: call predict(X, threshold=...)"):
        guard.threshold = 0.5
    assert guard.predict(X, threshold=0.5)["data"]["is_adversarial"].shape == (40,)


def evaluated(detector, *args, **kwargs):
    defaults = {"attacks": None, "corruptions": None, "baselines": None, "verbose": False, "resamples": 5}
    return demur.evaluate(detector, *args, **{**defaults, **kwargs})


def test_attacks_are_named_in_any_way(detector):
    found = evaluated(
        detector, X, Y, attacks=["fgsm", FGSM, FGSM(0.1)], corruptions="Gaussian_Noise", baselines="Entropy"
    )
    assert [threat.name for threat in found.threats][:4] == [*["FGSM"] * 3, "gaussian noise"]
    assert list(found.clean_detection) == ["entropy"]
    assert evaluated(detector, X[:4], Y[:4], attacks=FGSM).threats[0].name == "FGSM"


def test_an_attack_that_there_is_not_is_answered_by_the_nearest(detector):
    with advises(InvalidSetting, "got 'DeepFol': did you mean 'DeepFool'?"):
        evaluated(detector, X, Y, attacks=["DeepFol"])
    settings = evaluated(detector, X[:4], Y[:4], attacks=["deep-fool", "carlini wagner"]).settings["attacks"]
    assert [attack["name"] for attack in settings] == ["DeepFool", CarliniWagner.name]


@pytest.mark.parametrize("rows", ["pair", "stream", "stream and labels", "data set"])
def test_an_evaluation_takes_rows_and_labels_together(detector, rows):
    expected = evaluated(detector, X, Y).clean
    batches = [(X[:25], Y[:25]), (X[25:], Y[25:])]
    given = {
        "pair": [(X, Y)],
        "stream": [iter(batches)],
        "stream and labels": [iter(part for part, _ in batches), Y],
        "data set": [[*zip(X, Y, strict=True)]],
    }[rows]
    if rows == "data set":
        torch = pytest.importorskip("torch")
        given = [torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))]
    assert evaluated(detector, *given).clean == expected


def test_an_evaluation_without_labels_says_so(detector):
    with advises(InvalidSetting, "labels are missing: pass y, the true class of each row, or X as a pair of both"):
        evaluated(detector, X)
    assert evaluated(detector, (X, Y)).rows == 40


def test_attacks_tell_what_an_argument_is_called():
    with pytest.raises(WrongType, match=r"FGSM has no argument 'eps': did you mean epsilon=\?"):
        FGSM(eps=0.1)
    with pytest.raises(WrongType, match=r"CarliniWagner has no argument 'max_iter': did you mean steps=\?"):
        CarliniWagner(max_iter=100)
