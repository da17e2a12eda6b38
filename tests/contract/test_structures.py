"""Rows that are several arrays, as a dict or a tuple: token ids and a mask, an image and a table."""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

from demur import AdversarialAE, ModelDistillation, load_detector
from demur.errors import NonFinite, ShapeMismatch, WrongType
from demur.testing.files import loaded_as

BACKEND = keras.backend.backend()
N, STEPS, WORDS = 48, 6, 20


def dense(units, seed, activation=None):
    return layers.Dense(units, activation=activation, kernel_initializer=keras.initializers.GlorotUniform(seed=seed))


def text():
    """Token ids and the mask of those that are words."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, STEPS + 1, N)
    mask = (np.arange(STEPS) < lengths[:, None]).astype("float32")
    return {"ids": (rng.integers(1, WORDS, (N, STEPS)) * mask).astype("int32"), "mask": mask}


def pictures():
    """An 8x8 image and a row of 5 numbers."""
    rng = np.random.default_rng(1)
    return rng.random((N, 8, 8, 1), dtype="float32"), rng.normal(size=(N, 5)).astype("float32")


def text_model(seed, units=8):
    ids, mask = keras.Input((STEPS,), dtype="int32", name="ids"), keras.Input((STEPS,), name="mask")
    words = layers.Embedding(WORDS, units, embeddings_initializer=keras.initializers.RandomNormal(seed=seed))(ids)
    mean = layers.GlobalAveragePooling1D()(layers.Multiply()([words, layers.Reshape((STEPS, 1))(mask)]))
    hidden = dense(units, seed + 1, "relu")(layers.Rescaling(30.0)(mean))
    return keras.Model({"ids": ids, "mask": mask}, dense(3, seed + 2, "softmax")(hidden), name="text")


def picture_model(seed):
    image, table = keras.Input((8, 8, 1), name="image"), keras.Input((5,), name="table")
    both = layers.Concatenate()([layers.Flatten()(image), table])
    return keras.Model([image, table], dense(4, seed, "softmax")(dense(8, seed + 1, "relu")(both)), name="picture")


def picture_ae():
    image, table = keras.Input((8, 8, 1), name="image"), keras.Input((5,), name="table")
    code = dense(16, 3, "relu")(layers.Concatenate()([layers.Flatten()(image), table]))
    return keras.Model([image, table], [layers.Reshape((8, 8, 1))(dense(64, 4)(code)), dense(5, 5)(code)])


class ModuleText(torch.nn.Module):
    """Takes its inputs by name."""

    def __init__(self):
        super().__init__()
        self.words, self.classes = torch.nn.Embedding(WORDS, 8), torch.nn.Linear(8, 3)

    def forward(self, mask, ids):
        words = self.words(ids.long()) * mask[..., None]
        return torch.softmax(self.classes(words.sum(1)), dim=-1)


class ModulePictures(torch.nn.Module):
    """Takes its inputs by position."""

    def __init__(self, outputs=4):
        super().__init__()
        self.hidden, self.classes = torch.nn.Linear(69, 16), torch.nn.Linear(16, outputs)

    def forward(self, image, table):
        return self.classes(torch.relu(self.hidden(torch.cat([image.flatten(1), table], 1)))).softmax(-1)


class ModulePicturesAE(ModulePictures):
    def __init__(self):
        super().__init__(69)

    def forward(self, image, table):
        both = self.classes(torch.relu(self.hidden(torch.cat([image.flatten(1), table], 1))))
        return both[:, :64].reshape(image.shape), both[:, 64:]


def text_function(rows):
    z = np.stack([(rows["ids"] * rows["mask"]).sum(1) % 7, rows["mask"].sum(1), rows["ids"][:, 0] / 5], axis=1)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def picture_function(rows):
    image, table = rows
    p = 1 / (1 + np.exp(-(image.sum((1, 2, 3)) - 32 + table[:, 0])))
    return np.stack([1 - p, p], axis=1)


def pieces(X, at):
    return {name: x[at] for name, x in X.items()} if isinstance(X, dict) else tuple(x[at] for x in X)


class Stream:
    """Batches of 10 rows."""

    def __init__(self, X):
        self.X = X

    def __iter__(self):
        return (pieces(self.X, slice(start, start + 10)) for start in range(0, N, 10))


def student_for(X, classes):
    return text_model(7) if isinstance(X, dict) else small_picture_student(classes)


def small_picture_student(classes):
    image, table = keras.Input((8, 8, 1)), keras.Input((5,))
    both = layers.Concatenate()([layers.Flatten()(image), table])
    return keras.Model([image, table], dense(classes, 9, "softmax")(both))


CASES = {
    "Keras, by name": (text, lambda: text_model(0), 3),
    "Keras, by position": (pictures, lambda: picture_model(0), 4),
    "PyTorch, by name": (text, ModuleText, 3),
    "PyTorch, by position": (pictures, ModulePictures, 4),
    "function, by name": (text, lambda: text_function, 3),
    "function, by position": (pictures, lambda: picture_function, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_students_take_what_the_classifier_takes(case, tmp_path):
    rows, model, classes = CASES[case]
    X = rows()
    detector = ModelDistillation(model=model(), distilled_model=student_for(X, classes))
    detector.fit(X, epochs=6, batch_size=8, verbose=False, optimizer=keras.optimizers.Adam(0.01))
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    score, y, _ = detector.score(X, return_predictions=True)
    assert y.shape == (N, classes)
    np.testing.assert_allclose(detector.score(X, batch_size=5), score, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(detector.score(pieces(X, slice(7, 8))), score[7:8], rtol=1e-4, atol=1e-5)
    detector.infer_threshold(X, fpr=0.25)
    assert detector.predict(X)["data"]["is_adversarial"].mean() <= 0.25
    stream = Stream(X)
    np.testing.assert_allclose(detector.score(stream), score, rtol=1e-4, atol=1e-5)
    detector.fit(stream, epochs=1, verbose=False)
    detector.save(tmp_path / "detector")
    loaded = loaded_as(tmp_path / "detector", detector)
    assert loaded.input_shape == detector.input_shape
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)


AES = {"Keras": (lambda: picture_model(0), picture_ae)}
if BACKEND == "torch":
    AES["PyTorch"] = (ModulePictures, ModulePicturesAE)


@pytest.mark.slow
@pytest.mark.parametrize("case", AES)
def test_autoencoders_return_the_structure_they_take(case, tmp_path):
    make_model, make_ae = AES[case]
    X, model = pictures(), make_model()
    detector = AdversarialAE(model=model, ae=make_ae())
    detector.fit(X, epochs=6, batch_size=8, w_recon=0.5, verbose=False, optimizer=keras.optimizers.Adam(0.01))
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    image, table = detector.reconstruct(X)
    assert image.shape == X[0].shape
    assert table.shape == X[1].shape
    score, _, opinion = detector.score(X, return_predictions=True)
    _, said_of_the_reconstruction, _ = detector.score((image, table), return_predictions=True)
    np.testing.assert_allclose(opinion, said_of_the_reconstruction, atol=1e-4)
    detector.infer_threshold(X, threshold_perc=75).save(tmp_path / "detector")
    np.testing.assert_allclose(loaded_as(tmp_path / "detector", detector).score(X), score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [tuple, dict])
def test_an_autoencoder_by_name_reconstructs_by_name(kind):
    """Inputs by name come back by name; a Keras model's own order of outputs is that of its names."""
    image, table = keras.Input((8, 8, 1), name="image"), keras.Input((5,), name="table")
    x = {"image": image, "table": table}
    both = layers.Concatenate()([layers.Flatten()(image), table])
    classifier = keras.Model(x, dense(3, 0, "softmax")(both))
    back = {"image": layers.Reshape((8, 8, 1))(dense(64, 1)(both)), "table": dense(5, 2)(both)}
    ae = keras.Model(x, back if kind is dict else list(back.values()))
    if kind is tuple:
        with pytest.raises(ShapeMismatch, match="must return the shape it takes"):
            AdversarialAE(model=classifier, ae=ae)
        return
    X = dict(zip(("image", "table"), pictures(), strict=True))
    found = AdversarialAE(model=classifier, ae=ae).fit(X, epochs=1, verbose=False).reconstruct(X)
    assert {name: x.shape for name, x in found.items()} == {"image": (N, 8, 8, 1), "table": (N, 5)}


def test_no_companion_is_made_for_several_arrays():
    for kind, argument in ((AdversarialAE, "ae="), (ModelDistillation, "distilled_model=")):
        with pytest.raises(ShapeMismatch, match=f"pass your own as {argument}"):
            kind(model=picture_model(0))


WRONG = {
    "one array": (lambda X: X["ids"], WrongType, "X must be a dict of arrays"),
    "a missing array": (lambda X: {"ids": X["ids"]}, ShapeMismatch, "must have the keys ids, mask; got ids"),
    "other rows": (lambda X: {**X, "mask": X["mask"][:-1]}, ShapeMismatch, "as many rows; got 48, 47"),
    "another shape": (
        lambda X: {**X, "mask": X["mask"][:, 1:]},
        ShapeMismatch,
        r"X\['mask'\] must have shape \(n, 6\)",
    ),
    "NaN": (lambda X: {**X, "mask": np.where(X["mask"] == 0, np.nan, 1)}, NonFinite, r"X\['mask'\] holds NaN"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_an_array_is_said_of_it(case):
    spoil, error, message = WRONG[case]
    detector = ModelDistillation(model=text_model(0), distilled_model=text_model(7))
    with pytest.raises(error, match=message):
        detector.fit(spoil(text()), verbose=False)
    with pytest.raises(error, match=message):
        detector.score(spoil(text()))


def test_the_order_of_names_does_not_matter():
    X = text()
    detector = ModelDistillation(model=text_model(0), distilled_model=text_model(7))
    np.testing.assert_array_equal(detector.score({"mask": X["mask"], "ids": X["ids"]}), detector.score(X))


def test_rows_that_cannot_be_judged_are_flagged_in_any_array():
    X = text()
    X["mask"][3, 0] = np.nan
    detector = ModelDistillation(model=text_model(0), distilled_model=text_model(7), on_invalid="flag", threshold=1e9)
    data = detector.predict(X)["data"]
    assert np.flatnonzero(data["is_adversarial"]).tolist() == [3]
    assert np.flatnonzero(data["invalid"]).tolist() == [3] or data["invalid"].tolist() == [3]


def test_preprocess_fn_gets_the_structure():
    seen = []

    def keep(batch):
        seen.append(sorted(batch))
        return batch

    detector = ModelDistillation(model=text_model(0), distilled_model=text_model(7))
    detector.fit(text(), epochs=1, verbose=False, preprocess_fn=keep)
    assert seen
    assert all(names == ["ids", "mask"] for names in seen)


def test_a_saved_detector_knows_its_structure(tmp_path):
    detector = ModelDistillation(model=text_model(0), distilled_model=text_model(7))
    assert detector.input_shape == {"ids": (STEPS,), "mask": (STEPS,)}
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector")
    assert loaded.input_shape == detector.input_shape
    np.testing.assert_allclose(loaded.score(text()), detector.score(text()), atol=1e-6)
    assert ops.shape(loaded.score(text())) == (N,)
