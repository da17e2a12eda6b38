"""Messages that say what to do, provoked and then followed: a digits classifier on TensorFlow, and its detectors."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import demur
from demur import AdversarialAE, ModelDistillation, classifiers, drift, load_detector, plots
from demur.errors import (
    CorruptDetector,
    EmptyInput,
    InvalidSetting,
    LossTooLarge,
    NoGraph,
    NonFinite,
    NotADetector,
    NotCalibrated,
    NotFitted,
    RowsFailed,
    ShapeMismatch,
    ThresholdNotSet,
    TooFewInstances,
    UnknownLayer,
    WrongClassifier,
    WrongDetector,
    WrongType,
)
from demur.evaluation.corruptions import TABLE_CORRUPTIONS, applies, corrupt, corrupt_table
from tests.scaffold.advice import advises

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for messages")
IMAGES, CLASSES = load_digits(return_X_y=True)
X = (IMAGES / 16).astype("float32").reshape(-1, 8, 8, 1)[:400]
FLAT = X.reshape(400, 64)


def network(*body, shape=(8, 8, 1)):
    keras.utils.set_random_seed(0)
    return keras.Sequential([layers.Input(shape), *body, layers.Flatten(), layers.Dense(10, activation="softmax")])


def autoencoder():
    return keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(64, activation="sigmoid"), layers.Reshape((8, 8, 1))]
    )


@pytest.fixture(scope="module")
def model():
    """Learned by least squares, which takes no time."""
    classifier = network()
    classifier.layers[-1].set_weights(
        [10 * np.linalg.lstsq(FLAT, np.eye(10)[CLASSES[:400]], rcond=None)[0].astype("float32"), np.zeros(10)]
    )
    return classifier


@pytest.fixture(scope="module")
def fitted(model):
    return ModelDistillation(model=model, distilled_model=network()).fit(X[:200], epochs=1, verbose=False)


@pytest.fixture
def detector(fitted):
    fitted.infer_threshold(X[200:300], fpr=0.05)
    return fitted


@pytest.fixture(scope="module")
def forest():
    return RandomForestClassifier(5, random_state=0).fit(FLAT[:200], CLASSES[:200])


# Rows --------------------------------------------------------------------------------------------------------------


def test_one_row_becomes_a_batch_of_one(detector):
    with advises(ShapeMismatch, "for a single instance pass X[None]"):
        detector.score(X[0])
    assert detector.score(X[0][None]).shape == (1,)


def test_lists_become_arrays(detector):
    with advises(WrongType, "np.asarray(...) makes an array of a list"):
        detector.score(X[:3].tolist())
    assert detector.score(np.asarray(X[:3].tolist())).shape == (3,)


def test_text_that_holds_numbers_is_converted(detector):
    with advises(WrongType, "convert it first"):
        detector.score(X[:3].astype(str))
    np.testing.assert_allclose(detector.score(X[:3].astype(str).astype("float32")), detector.score(X[:3]), atol=1e-6)


def test_rows_without_numbers_are_removed_or_imputed(detector):
    broken = X[:5].copy()
    broken[2, 0] = np.nan
    with advises(NonFinite, "2; remove or impute them"):
        detector.score(broken)
    assert detector.score(np.delete(broken, 2, axis=0)).shape == (4,)
    assert detector.score(np.nan_to_num(broken)).shape == (5,)


@pytest.mark.parametrize(
    ("empty", "words"), [(X[:0], "has no rows; pass at least one"), (iter([]), "has no batches; pass at least one")]
)
def test_nothing_becomes_something(detector, empty, words):
    with advises(EmptyInput, words):
        detector.score(empty)
    assert detector.score(X[:1]).shape == (1,)


def test_an_empty_table_gets_a_row(forest):
    frame = pd.DataFrame(FLAT, columns=[f"p{i}" for i in range(64)])
    known = RandomForestClassifier(5, random_state=0).fit(frame[:200], CLASSES[:200])
    guard = ModelDistillation(model=known).fit(frame[:200], epochs=1, verbose=False)
    with advises(EmptyInput, "X has no rows; pass at least one"):
        guard.score(frame[:0])
    assert guard.score(frame[:1]).shape == (1,)


def test_a_stream_that_is_drawn_once_has_one_epoch_or_starts_anew(model):
    def fresh():
        return ModelDistillation(model=model, distilled_model=network())

    def batches():
        return (X[start : start + 100] for start in range(0, 400, 100))

    class Again:
        def __iter__(self):
            return batches()

    with advises(InvalidSetting, "pass epochs=1, or a stream that starts anew each time it is iterated over"):
        fresh().fit(batches(), epochs=2, verbose=False)
    fresh().fit(batches(), epochs=1, verbose=False)
    fresh().fit(Again(), epochs=2, verbose=False)


def test_a_stream_that_ends_early_the_second_time_is_made_the_same_each_time(model):
    class Stream:
        def __init__(self, lengths):
            self.lengths = iter(lengths)

        def __iter__(self):
            return (X[start : start + 100] for start in range(0, next(self.lengths), 100))

    made = ModelDistillation(model=model, distilled_model=network())
    with advises(EmptyInput, "pass a stream that is the same each time"):
        made.fit(Stream([400, 400, 200, 200, 200]), epochs=3, verbose=False)
    made.fit(Stream([400] * 6), epochs=3, verbose=False)


# Detectors and their companions ------------------------------------------------------------------------------------


def test_a_copy_needs_to_be_robust_or_to_give_way_to_the_ready_student(model):
    with advises(InvalidSetting, "pass robust=, the largest change of a number that it shall resist"):
        ModelDistillation(model=model, distilled_model="copy").fit(X[:100], epochs=1, verbose=False)
    ModelDistillation(model=model, distilled_model="copy").fit(X[:100], epochs=1, verbose=False, robust=0.05)
    ModelDistillation(model=model).fit(X[:100], epochs=1, verbose=False)


def test_what_has_no_network_to_copy_leaves_the_ready_student(forest):
    with advises(WrongType, "leave the ready student, or pass one of your own"):
        ModelDistillation(model=forest, distilled_model="copy").fit(FLAT[:100], epochs=1, verbose=False)
    ModelDistillation(model=forest).fit(FLAT[:100], epochs=1, verbose=False)
    ModelDistillation(model=forest, distilled_model=network(shape=(64,))).fit(FLAT[:100], epochs=1, verbose=False)


def test_a_companion_that_shares_weights_gets_its_own_or_they_are_frozen():
    shared = layers.Dense(10, activation="softmax")
    classifier, student = (
        keras.Sequential([layers.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), shared]) for _ in range(2)
    )
    with advises(InvalidSetting, "Give it layers of its own, or set trainable = False on the shared ones"):
        ModelDistillation(model=classifier, distilled_model=student)
    ModelDistillation(model=classifier, distilled_model=network())
    shared.trainable = False
    ModelDistillation(model=classifier, distilled_model=student).fit(X[:100], epochs=1, verbose=False)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 2, 2, 3), "there is a ready student for rows (features,), sequences (steps, channels) and images"),
        ((None, None, 1), "pass your own as distilled_model"),
    ],
)
def test_rows_without_a_ready_student_take_one_of_your_own(shape, words):
    sizes = tuple(size or 4 for size in shape)
    body = [layers.Flatten()] if None not in shape else [layers.GlobalAveragePooling2D()]
    rows = np.random.default_rng(0).random((20, *sizes)).astype("float32")
    classifier, student = network(*body, shape=shape), network(*body, shape=shape)
    with advises(ShapeMismatch, words):
        ModelDistillation(model=classifier).fit(rows, epochs=1, verbose=False)
    ModelDistillation(model=classifier, distilled_model=student).fit(rows, epochs=1, verbose=False)


def test_an_autoencoder_is_passed_in_one_of_two_ways(model):
    encoder = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(8)])
    decoder = keras.Sequential([layers.Input((8,)), layers.Dense(64), layers.Reshape((8, 8, 1))])
    with advises(InvalidSetting, "pass the autoencoder as ae, or as encoder_net and decoder_net, not both ways"):
        AdversarialAE(model=model, ae=autoencoder(), encoder_net=encoder, decoder_net=decoder)
    with advises(InvalidSetting, "encoder_net and decoder_net make an autoencoder together: pass both"):
        AdversarialAE(model=model, encoder_net=encoder)
    AdversarialAE(model=model, ae=autoencoder())
    AdversarialAE(model=model, encoder_net=encoder, decoder_net=decoder)


def test_hidden_layers_are_passed_in_one_of_two_ways(model):
    head = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4, activation="softmax")])
    given = {"hidden_layer_kld": {model.layers[0].name: 3}, "model_hl": [head]}
    with advises(InvalidSetting, "hidden_layer_kld and model_hl are two ways to the same: pass one of them"):
        AdversarialAE(model=model, ae=autoencoder(), **given)
    for name, value in given.items():
        AdversarialAE(model=model, ae=autoencoder(), **{name: value})


def test_a_classifier_without_a_graph_of_layers_gets_models_of_your_own():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = keras.Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])

        def call(self, x):
            return self.body(x)

    classifier = Subclassed()
    classifier(X[:1])
    head = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4, activation="softmax")])
    with advises(NoGraph, "Pass model_hl=[...], models of your own from the input to a distribution, instead"):
        AdversarialAE(model=classifier, ae=autoencoder(), hidden_layer_kld={0: 3}, input_shape=(8, 8, 1))
    AdversarialAE(model=classifier, ae=autoencoder(), model_hl=[head], input_shape=(8, 8, 1)).fit(
        X[:100], epochs=1, verbose=False
    )


def test_a_layer_with_several_outputs_gives_way_to_another():
    inputs = keras.Input((4, 8))
    sequence, state = layers.GRU(3, return_sequences=True, return_state=True, name="two")(inputs)
    hidden = layers.Dense(5, name="one")(state)
    classifier = keras.Model(inputs, layers.Dense(3, activation="softmax")(hidden))
    assert sequence is not None
    own = keras.Sequential([layers.Input((4, 8)), layers.Dense(8)])
    with advises(UnknownLayer, "has no single output in its graph; choose another layer"):
        AdversarialAE(model=classifier, ae=own, hidden_layer_kld={"two": 3})
    AdversarialAE(model=classifier, ae=own, hidden_layer_kld={"one": 3})


def test_a_shape_that_the_classifier_does_not_know_is_passed():
    def unbuilt():
        return keras.Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])

    source = classifiers.source_of(unbuilt())
    with advises(ShapeMismatch, "does not know the shape of its input: pass input_shape="):
        source(unbuilt(), layout=None, from_logits=False, hidden=[], channels_last=False)
    ModelDistillation(model=unbuilt(), input_shape=(8, 8, 1)).fit(X[:100], epochs=1, verbose=False)


def test_a_softmax_over_one_output_is_made_a_sigmoid():
    def binary(activation):
        return keras.Sequential([layers.Input((64,)), layers.Dense(1, activation=activation)])

    with advises(ShapeMismatch, "which is always 1: make it a sigmoid"):
        ModelDistillation(model=binary("softmax"))
    ModelDistillation(model=binary("sigmoid")).fit(FLAT[:100], epochs=1, verbose=False)


def test_a_black_box_takes_what_is_outside_the_graph(model, forest):
    with advises(WrongType, "BlackBox is for classifiers outside the graph; pass a Keras model as it is"):
        classifiers.BlackBox(model)
    ModelDistillation(model=model)
    ModelDistillation(model=classifiers.BlackBox(forest)).fit(FLAT[:100], epochs=1, verbose=False)


def test_an_interrupted_fit_goes_on(model):
    made = ModelDistillation(model=model, distilled_model=network())

    class Interrupts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    with advises(KeyboardInterrupt, "the classifier is as it was, and fit(X) goes on"):
        made.fit(X[:100], epochs=3, callbacks=[Interrupts()], verbose=False)
    assert np.isfinite(made.fit(X[:100], epochs=1, verbose=False).score(X[:3])).all()


# Thresholds and drift ----------------------------------------------------------------------------------------------


def test_a_threshold_is_inferred_or_set(fitted):
    fitted.threshold = None
    with advises(ThresholdNotSet, "call infer_threshold(X) or set detector.threshold"):
        fitted.predict(X[:3])
    fitted.threshold = 0.5
    fitted.predict(X[:3])
    fitted.threshold = None
    fitted.infer_threshold(X[200:]).predict(X[:3])


def test_a_rate_and_a_percentile_are_two_ways(fitted):
    with advises(InvalidSetting, "fpr and threshold_perc are two ways to a threshold: pass one of them"):
        fitted.infer_threshold(X[200:], fpr=0.05, threshold_perc=95)
    fitted.infer_threshold(X[200:], fpr=0.05)
    fitted.infer_threshold(X[200:], threshold_perc=95)


def test_too_low_a_rate_takes_more_rows_or_a_higher_rate(fitted):
    with advises(TooFewInstances, "needs at least 99 instances; got 50: pass more, or ask for a higher rate"):
        fitted.infer_threshold(X[200:250], fpr=0.01)
    fitted.infer_threshold(X[200:299], fpr=0.01)
    fitted.infer_threshold(X[200:250], fpr=0.02)


def test_classes_with_few_rows_get_more_a_higher_rate_or_one_threshold_for_all(fitted):
    with advises(TooFewInstances, "pass more, ask for a higher rate, or leave groups out"):
        fitted.infer_threshold(X[200:280], fpr=0.05, groups="predicted")
    fitted.infer_threshold(X[200:280], fpr=0.05)
    predicted = fitted.score(X, return_predictions=True)[1].argmax(axis=1)
    few = np.bincount(predicted, minlength=10)
    assert few.min() > 0
    fitted.infer_threshold(X, fpr=0.5, groups="predicted")
    fitted.infer_threshold(np.concatenate([X] * (1 + 19 // few.min())), fpr=0.05, groups="predicted")


def test_control_of_false_discoveries_needs_a_calibration(fitted):
    fitted.calibration, fitted.threshold = None, 0.5
    with advises(NotCalibrated, "and the detector is not calibrated: call infer_threshold(X)"):
        fitted.predict(X[:3], control="fdr")
    fitted.infer_threshold(X[200:]).predict(X[:3], control="fdr")


def test_drift_needs_calibration_scores(fitted):
    fitted.calibration, fitted.threshold = None, 0.5
    with advises(NotCalibrated, "call infer_threshold(X_held_out, fpr=0.05) first, on rows that fit has not seen"):
        drift.test(fitted, X[300:])
    drift.test(fitted.infer_threshold(X[200:300], fpr=0.05), X[300:])


def test_drift_takes_rows_or_scores(detector):
    scores = detector.score(X[300:])
    with advises(InvalidSetting, "pass rows, X, or scores=, and not both"):
        drift.test(detector, X[300:], scores=scores)
    drift.test(detector, X[300:])
    drift.test(detector, scores=scores)
    with advises(EmptyInput, "there are no scores: pass at least one"):
        drift.test(detector, scores=scores[:0])
    with advises(WrongType, "there is nothing to score rows with: pass the detector, or scores="):
        drift.test(detector.calibration, X[300:])
    drift.test(detector.calibration, scores=scores)


def test_scores_of_classes_with_thresholds_of_their_own_come_with_classes(fitted):
    fitted.infer_threshold(X, fpr=0.5, groups="predicted")
    scores, reference, _ = fitted.score(X[300:], return_predictions=True)
    monitor = drift.Monitor(fitted.calibration)
    with advises(InvalidSetting, "pass predicted=, the classifier's classes, too"):
        monitor.update(scores=scores)
    monitor.update(scores=scores, predicted=reference.argmax(axis=1))


def test_time_is_sorted_and_told_where_it_is_needed(detector):
    scores = detector.score(X[300:303])
    with advises(InvalidSetting, "sort what came by time"):
        drift.Monitor(detector).update(scores=scores, time=[3.0, 1.0, 2.0])
    drift.Monitor(detector).update(scores=scores, time=[1.0, 2.0, 3.0])
    with advises(InvalidSetting, "needs to know when: update(..., time=)"):
        drift.Monitor(detector, cooldown="1h").update(scores=scores)
    drift.Monitor(detector, cooldown="1h").update(scores=scores, time=1.0)


def test_the_state_of_another_monitor_makes_way_for_a_new_one(detector, tmp_path):
    drift.Monitor(detector).save(tmp_path / "old.json")
    detector.infer_threshold(X[300:], fpr=0.05)
    with advises(WrongDetector, "Begin with a new monitor, and another file"):
        drift.Monitor.load(tmp_path / "old.json", detector=detector)
    drift.Monitor(detector).save(tmp_path / "new.json")
    drift.Monitor.load(tmp_path / "new.json", detector=detector)


def test_accuracy_is_estimated_after_labels_were_seen(detector):
    detector.harm = None
    with advises(NotCalibrated, "call demur.drift.calibrate_accuracy(detector, X_labelled, y) first"):
        drift.estimate_accuracy(detector, X[300:])
    drift.calibrate_accuracy(detector, X[200:300], CLASSES[200:300], corruptions=["gaussian noise"])
    drift.estimate_accuracy(detector, X[300:])
    detector.harm = None


# Saving and loading ------------------------------------------------------------------------------------------------


def test_a_folder_of_other_things_gives_way_to_an_empty_one(detector, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with advises(NotADetector, "save to a new or an empty folder"):
        detector.save(tmp_path)
    detector.save(tmp_path / "guard")
    with advises(NotADetector, "Detectors are written by detector.save(path)"):
        load_detector(tmp_path)
    load_detector(tmp_path / "guard")


def test_a_detector_without_its_classifier_asks_for_it(detector, model, tmp_path):
    detector.save(tmp_path / "guard", include_classifier=False)
    with advises(WrongClassifier, "was saved without its classifier: pass load_detector(path, model=...)"):
        load_detector(tmp_path / "guard")
    load_detector(tmp_path / "guard", model=model)


def test_what_makes_the_companions_rows_is_passed_again(forest, tmp_path):
    def centred(rows):
        return rows - 0.5

    ModelDistillation(model=forest, companion_preprocess=centred).fit(FLAT[:100], epochs=1, verbose=False).save(
        tmp_path / "guard"
    )
    with advises(WrongType, "was saved with a companion_preprocess of your own: pass it, as it was then"):
        load_detector(tmp_path / "guard", model=forest)
    load_detector(tmp_path / "guard", model=forest, companion_preprocess=centred)


def test_nothing_is_saved_before_the_rows_are_known(forest, tmp_path):
    made = ModelDistillation(model=forest)
    with advises(NotFitted, "the shape of the rows is not known before fit(X)"):
        made.save(tmp_path / "guard")
    made.fit(FLAT[:100], epochs=1, verbose=False).save(tmp_path / "guard")


# Export, evaluation, plots -----------------------------------------------------------------------------------------


def test_files_are_exported_to_folders_that_are_there(detector, tmp_path):
    with advises(FileNotFoundError, "make it first"):
        detector.export(tmp_path / "new" / "guard.onnx")
    (tmp_path / "new" / "folder.onnx").mkdir(parents=True)
    with advises(IsADirectoryError, "is a folder: name a file in it"):
        detector.export(tmp_path / "new" / "folder.onnx")
    detector.export(tmp_path / "new" / "guard.onnx")


def test_less_precision_is_asked_for_in_one_way_and_measured_only_then(detector, tmp_path):
    file = tmp_path / "guard.onnx"
    with advises(InvalidSetting, "float16 and int8 are two ways to less precision: pass one of them"):
        detector.export(file, float16=True, int8=True, X=X[200:300])
    with advises(InvalidSetting, "tells what less precision costs: pass float16=True or int8=True with it"):
        detector.export(file, X=X[200:300], X_adversarial=X[300:])
    detector.export(file, float16=True, X=X[200:300], X_adversarial=1 - X[300:], max_loss=1.0)


def test_what_decides_is_exported_with_a_threshold(fitted, tmp_path):
    fitted.threshold = None
    with advises(ThresholdNotSet, "a guard decides: call infer_threshold(X, fpr=0.05)"):
        fitted.export(tmp_path / "guard.onnx")
    fitted.infer_threshold(X[200:], fpr=0.05).export(tmp_path / "guard.onnx")


def test_an_evaluation_needs_a_threshold_and_a_folder(fitted, tmp_path):
    fitted.threshold = None
    asked = {"attacks": None, "corruptions": ["gaussian noise"], "baselines": None}
    with advises(ThresholdNotSet, "call infer_threshold(X_held_out, fpr=0.05) first"):
        demur.evaluate(fitted, X[300:340], CLASSES[300:340], **asked)
    fitted.infer_threshold(X[200:300], fpr=0.05)
    (tmp_path / "file").write_text("")
    with advises(InvalidSetting, "is a file: name another"):
        demur.evaluate(fitted, X[300:340], CLASSES[300:340], out=tmp_path / "file", **asked)
    demur.evaluate(fitted, X[300:340], CLASSES[300:340], out=tmp_path / "folder", **asked)


def test_images_have_their_colours_last():
    images = np.random.default_rng(0).random((2, 3, 16, 16)).astype("float32")
    with advises(ShapeMismatch, "put their axes in that order"):
        corrupt(images, name="gaussian noise", severity=1)
    assert corrupt(np.moveaxis(images, 1, -1), name="gaussian noise", severity=1).shape == (2, 16, 16, 3)


def test_images_are_rescaled():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3))
    with advises(InvalidSetting, "rescale them"):
        corrupt(images, name="gaussian noise", severity=1)
    assert corrupt(images / 255, name="gaussian noise", severity=1).max() <= 1


def test_a_plot_of_scores_needs_them(detector):
    with advises(InvalidSetting, "call predict(..., return_instance_score=True)"):
        plots.plot_instance_score(detector.predict(X[:9], return_instance_score=False))
    plots.plot_instance_score(detector.predict(X[:9]))


def test_a_history_is_drawn_once_there_is_one(model):
    made = ModelDistillation(model=model, distilled_model=network())
    with advises(InvalidSetting, "has no history: call fit(X) first"):
        plots.plot_history(made)
    plots.plot_history(made.fit(X[:100], epochs=1, verbose=False))


def test_data_of_your_own_are_put_where_they_are_looked_for(tmp_path, monkeypatch):
    from demur import datasets

    monkeypatch.setenv("DEMUR_DATA", str(tmp_path))
    with advises(InvalidSetting, "put the file there or unset DEMUR_DATA"):
        datasets.load("mnist")
    image, label = np.zeros((6000, 2, 2), "uint8"), np.zeros(6000, "uint8")
    np.savez(tmp_path / "mnist.npz", x_train=image, y_train=label, x_test=image[:9], y_test=label[:9])
    assert len(datasets.load("mnist").test.x) == 9
    monkeypatch.delenv("DEMUR_DATA")
    assert len(datasets.load("digits").test.x)


# Other people's models, tables and libraries -----------------------------------------------------------------------


def test_a_function_has_no_layers_but_takes_models_of_your_own():
    import tensorflow as tf

    def classify(x):
        return tf.nn.softmax(tf.reshape(x, (-1, 64))[:, :10])

    head = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4, activation="softmax")])
    known = {"model": tf.function(classify), "ae": autoencoder(), "input_shape": (8, 8, 1)}
    with advises(NoGraph, "a TensorFlow function has none. Pass model_hl=[...], Keras models of your own"):
        AdversarialAE(hidden_layer_kld={0: 3}, **known)
    AdversarialAE(model_hl=[head], **known)


def test_a_saved_model_without_a_main_signature_gives_way_to_one_of_its_functions(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    of_rows = [tf.TensorSpec((None, 8, 8, 1), "float32")]
    one = tf.function(lambda x: {"p": tf.nn.softmax(tf.reshape(x, (-1, 64))[:, :10])}, input_signature=of_rows)
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"one": one, "two": one})
    with advises(ShapeMismatch, "nor has it a signature 'serving_default'; pass one of its functions: one, two"):
        ModelDistillation(model=str(tmp_path / "saved")).fit(X[:100], epochs=1, verbose=False)
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    ModelDistillation(model=lambda rows: saved.signatures["one"](tf.constant(rows))["p"].numpy()).fit(
        X[:100], epochs=1, verbose=False
    )


def test_dates_are_made_numbers_by_a_function_of_yours(forest):
    frame = pd.DataFrame(FLAT[:100, 18:20], columns=["a", "b"]).assign(day=pd.date_range("2026-01-01", periods=100))

    def rule(rows):
        p = rows["a"].to_numpy()
        return np.stack([p, 1 - p], axis=1)

    with advises(WrongType, "drop=['day']), or pass a function (or fitted transformer) from your rows to numbers"):
        ModelDistillation(model=rule).fit(frame, epochs=1, verbose=False)
    dropped = demur.TableEncoder(drop=["day"])
    ModelDistillation(model=rule, companion_preprocess=dropped).fit(frame, epochs=1, verbose=False)
    numbers = {"companion_preprocess": lambda rows: rows.assign(day=rows["day"].dt.day_of_year).to_numpy("float32")}
    ModelDistillation(model=rule, **numbers).fit(frame, epochs=1, verbose=False)


def test_a_corruption_that_a_table_cannot_have_is_left_out():
    frame = pd.DataFrame({"colour": ["red", "blue"] * 20})
    unfit = [name for name in TABLE_CORRUPTIONS if not applies(name, frame)]
    with advises(InvalidSetting, "which this table lacks: leave it out (see applies)"):
        corrupt_table(frame, name=unfit[0], severity=1)
    for name in TABLE_CORRUPTIONS:
        if applies(name, frame):
            corrupt_table(frame, name=name, severity=1)


def test_what_could_happen_to_rows_that_nobody_knows_is_passed(forest):
    def doubled(rows):
        return forest.predict_proba(rows["pixels"])

    guard = ModelDistillation(model=doubled, companion_preprocess=lambda rows: rows["pixels"])
    guard.fit({"pixels": FLAT[:100]}, epochs=1, verbose=False)
    rows = {"pixels": FLAT[200:300]}
    with advises(InvalidSetting, "pass corruptions={'name': function}, of rows, severity and seed"):
        drift.calibrate_accuracy(guard, rows, CLASSES[200:300])
    fade = {"fade": lambda given, severity, seed: {"pixels": given["pixels"] * (1 - severity / 6)}}
    drift.calibrate_accuracy(guard, rows, CLASSES[200:300], corruptions=fade)


def test_scikit_learns_adapter_needs_a_threshold_or_a_share(detector):
    from demur.integrations.sklearn import DemurOutlierDetector

    asked = DemurOutlierDetector(detector, contamination="auto")
    detector.threshold = None
    with advises(ThresholdNotSet, "call infer_threshold(X_held_out, fpr=...) on it, or say contamination=0.05"):
        asked.fit(X[200:300])
    DemurOutlierDetector(detector, contamination=0.05).fit(X[200:300])
    detector.infer_threshold(X[200:300], fpr=0.05)
    asked.fit(X[200:300])


def test_layers_of_your_own_are_passed_to_load(model, tmp_path):
    class Twice(layers.Layer):
        def call(self, x):
            return 2 * x

    guard = ModelDistillation(model=model, distilled_model=network(Twice())).fit(X[:100], epochs=1, verbose=False)
    guard.save(tmp_path / "guard")
    with advises(CorruptDetector, "pass load_detector(path, custom_objects={'Name': Class})"):
        load_detector(tmp_path / "guard")
    load_detector(tmp_path / "guard", custom_objects={"Twice": Twice})


def test_a_file_that_was_changed_is_exported_again(detector, tmp_path):
    file = tmp_path / "guard.onnx"
    detector.export(file)
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(bytes(contents))
    with advises(CorruptDetector, "is not the file that was exported: its SHA-256 has changed. Export it again"):
        demur.runtime.load(file)
    detector.export(file)
    demur.runtime.load(file)


def test_a_loss_that_is_too_large_is_accepted_or_avoided(detector, tmp_path):
    asked = {"X": X[200:300], "X_adversarial": 1 - X[300:]}
    with advises(LossTooLarge, "Pass a larger one if that is acceptable, or export without int8"):
        detector.export(tmp_path / "guard.onnx", int8=True, max_loss=-1.0, **asked)
    detector.export(tmp_path / "guard.onnx", int8=True, max_loss=1.0, **asked)
    detector.export(tmp_path / "guard.onnx")


def test_labels_of_a_collection_have_its_parts(detector):
    array = pytest.importorskip("dask.array")
    rows, labels = array.from_array(X, chunks=100), array.from_array(CLASSES[:400], chunks=80)
    with advises(ShapeMismatch, "labels.rechunk(...)"):
        detector.infer_threshold(rows, fpr=0.2, labels=labels)
    detector.infer_threshold(rows, fpr=0.2, labels=labels.rechunk(100))
    broken = X.copy()
    broken[3] = np.nan
    with advises(RowsFailed, "NaN or infinity. Remove such rows, or give the classifier what they lack"):
        detector.infer_threshold(array.from_array(broken, chunks=100), fpr=0.2)
    detector.infer_threshold(array.from_array(np.delete(broken, 3, axis=0), chunks=100), fpr=0.2)
