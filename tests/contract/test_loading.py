"""What a saved detector is loaded with, and what is refused."""

import hashlib
import json
import pickle
import shutil

import keras
import numpy as np
import pytest

from demur import AdversarialAE, ModelDistillation, load_detector
from demur.errors import CorruptDetector, NotADetector, WrongClassifier, WrongType
from tests.scaffold import models

X = models.digits()[0][:20]


@pytest.fixture(scope="module")
def detector():
    made = AdversarialAE(
        model=models.cnn(), encoder_net=models.encoder(), decoder_net=models.decoder(), hidden_layer_kld={"hidden": 4}
    )
    return made.infer_threshold(X, threshold_perc=80)


@pytest.fixture
def path(detector, tmp_path):
    detector.save(tmp_path / "detector")
    return tmp_path / "detector"


def copy_of(model):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


def plant(path, name, write):
    """Put another file in the place of a saved one, with the checksum that `detector.json` asks for."""
    document = json.loads((path / "detector.json").read_text())
    file = path / document["files"][name]["file"]
    write(file)
    document["files"][name]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (path / "detector.json").write_text(json.dumps(document))


def test_the_classifier_can_be_left_out(detector, tmp_path):
    detector.save(tmp_path / "slim", include_classifier=False)
    assert not list((tmp_path / "slim").glob("classifier*"))
    with pytest.raises(WrongClassifier, match=r"model=\.\.\."):
        load_detector(tmp_path / "slim")
    twin = copy_of(models.cnn())
    loaded = load_detector(tmp_path / "slim", model=twin)
    assert loaded.model is twin
    np.testing.assert_allclose(loaded.score(X), detector.score(X), atol=1e-6)


def test_a_classifier_of_ones_own_takes_the_place_of_the_saved_one(detector, path):
    twin = copy_of(models.cnn())
    shutil.copytree(path, path.parent / "damaged")
    (file,) = (path.parent / "damaged").glob("classifier*")
    file.unlink()  # it is not wanted, so it may be missing
    for folder in (path, path.parent / "damaged"):
        loaded = load_detector(folder, model=twin)
        assert loaded.model is twin
        np.testing.assert_allclose(loaded.score(X), detector.score(X), atol=1e-6)


def test_another_classifier_is_refused(path):
    twin = copy_of(models.cnn())
    weights = twin.get_weights()
    weights[-1][0] += 1e-3
    twin.set_weights(weights)
    with pytest.raises(WrongClassifier, match="its weights are others"):
        load_detector(path, model=twin)
    with pytest.raises(WrongType, match=r"must be a Keras model.*; got int"):
        load_detector(path, model=3)


@pytest.mark.parametrize("name", ["classifier", "autoencoder", "head_0", "calibration"])
@pytest.mark.parametrize("damage", ["change", "truncate", "remove"])
def test_a_damaged_file_is_named(path, name, damage):
    (file,) = path.glob(f"{name}-*")
    contents = file.read_bytes()
    if damage == "change":
        file.write_bytes(contents[:100] + bytes([contents[100] ^ 1]) + contents[101:])
    elif damage == "truncate":
        file.write_bytes(contents[:-1])
    else:
        file.unlink()
    with pytest.raises(CorruptDetector, match=file.name):
        load_detector(path)


def test_a_newer_format_is_refused(path):
    document = json.loads((path / "detector.json").read_text())
    (path / "detector.json").write_text(json.dumps({**document, "format": document["format"] + 1}))
    with pytest.raises(NotADetector, match=r"format 2.*reads 1.*upgrade demur"):
        load_detector(path)


def test_a_model_of_another_keras_that_cannot_be_loaded_says_so(path):
    document = json.loads((path / "detector.json").read_text())
    document["versions"]["keras"] = "99.0"
    (path / "detector.json").write_text(json.dumps(document))
    load_detector(path)  # another version is no error in itself
    plant(path, "autoencoder", lambda file: file.write_bytes(b"no model"))
    with pytest.raises(CorruptDetector, match=rf"saved with Keras 99\.0, and this is {keras.__version__}"):
        load_detector(path)


def test_a_planted_lambda_layer_is_refused_and_not_run(path, tmp_path):
    witness = tmp_path / "witness"

    inputs = keras.Input((8, 8, 1))
    at = str(witness)
    leave_it = keras.layers.Lambda(lambda x: open(at, "w").close() or x, output_shape=(8, 8, 1))  # noqa: PTH123
    planted = keras.Model(inputs, leave_it(inputs))
    plant(path, "autoencoder", planted.save)
    witness.unlink(missing_ok=True)
    with pytest.raises(CorruptDetector, match="autoencoder-"):
        load_detector(path)
    assert not witness.exists()


class Bomb:
    """Leaves a witness when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return (open, (str(self.witness), "w"))


@pytest.mark.parametrize("how", ["in an array", "as the file"])
def test_a_planted_pickle_is_refused_and_not_run(path, tmp_path, how):
    witness = tmp_path / "witness"

    def write(file):
        if how == "as the file":
            file.write_bytes(pickle.dumps(Bomb(witness)))
            return
        bomb = np.empty(1, object)
        bomb[0] = Bomb(witness)
        np.savez(file, all_scores=bomb, all_n=np.array(1))

    plant(path, "calibration", write)
    witness.unlink(missing_ok=True)
    with pytest.raises(CorruptDetector, match="calibration-"):
        load_detector(path)
    assert not witness.exists()


@pytest.mark.parametrize("groups", [None, "predicted"])
def test_calibration_is_saved(groups, tmp_path):
    rows = models.wine()[0]
    before = models.as_trained(ModelDistillation(model=models.tabular(), on_invalid="flag"))
    predicted = before.score(rows, return_predictions=True)[1].argmax(axis=1)
    classes = np.where(np.arange(len(rows)) % 9, predicted, 0)
    before.infer_threshold(rows, **({"fpr": 0.1} if groups is None else {}), groups=groups, labels=classes)
    before.save(tmp_path / "detector")
    after = load_detector(tmp_path / "detector")
    np.testing.assert_array_equal(after.threshold, before.threshold)
    assert after.calibration.fpr == (0.1 if groups is None else None)
    assert sum(part.n for part in after.calibration.ordinary.values()) == len(rows)
    assert sum(part.n for part in after.calibration.distributions.values()) < len(rows)
    bad = rows.copy()
    bad[5, 2] = np.nan
    for name, value in before.predict(bad)["data"].items():
        np.testing.assert_array_equal(after.predict(bad)["data"][name], value)
