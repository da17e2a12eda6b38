"""A detector as one ONNX file answers as it does while it lives, from every backend."""

import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

import demur.runtime
from demur import AdversarialAE, ModelDistillation
from demur.errors import (
    CorruptDetector,
    ExportDiffers,
    InvalidSetting,
    LossTooLarge,
    NotADetector,
    NotCalibrated,
    NotFitted,
    ThresholdNotSet,
)
from demur.export import equality
from tests.scaffold import guards, models, sources

BACKEND = keras.backend.backend()
KINDS = ("AdversarialAE", "ModelDistillation")
NAMES = ["instance_score", "is_adversarial", "p_value", "corrected", "no_defense", "defense", "probabilities"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("guards")


@pytest.fixture(scope="module", params=KINDS)
def exported(request, folder):
    """A fitted detector at temperature 0.5, and its file."""
    detector = guards.guard(request.param)
    written = detector.export(folder / f"{request.param}.onnx")
    return detector, demur.runtime.load(written.path), written


@pytest.fixture(scope="module")
def rows():
    """Rows of which some are flagged."""
    x, _ = guards.attacked_rows(40)
    return np.concatenate([x, np.random.default_rng(0).random((20, 8, 8, 1), dtype="float32")])


def all_of(guard, X, **options):
    return guard.run(guard.feed(X), tuple(guard.outputs), **options)


def assert_the_same(live, found):
    """Two results of `correct` are the same, but for rounding: a p-value may pass its like."""
    a, b = live["data"], found["data"]
    assert list(a) == list(b)
    np.testing.assert_allclose(b["instance_score"], a["instance_score"], rtol=1e-5, atol=1e-5)
    for name in ("is_adversarial", "corrected", "no_defense", "defense", "invalid"):
        if name in a:
            np.testing.assert_array_equal(b[name], a[name], err_msg=name)
            assert b[name].dtype == a[name].dtype, name
    if "p_value" in a:
        assert np.abs(a["p_value"] - b["p_value"]).max() < 0.05


def test_it_scores_predicts_and_corrects_the_same(exported, rows):
    detector, guard, written = exported
    flagged = detector.predict(rows)["data"]["is_adversarial"]
    assert 0 < flagged.sum() < len(rows)
    assert_the_same(detector.correct(rows), guard.correct(rows))
    for live, found in zip(
        detector.score(rows, return_predictions=True), guard.score(rows, return_predictions=True), strict=True
    ):
        np.testing.assert_allclose(found, live, atol=1e-5)
    assert written.difference <= 1e-5
    assert written.bytes == guard.path.stat().st_size
    assert guard.meta == detector.meta


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_is_invisible(exported, rows, batch_size):
    _, guard, _ = exported
    np.testing.assert_allclose(guard.score(rows, batch_size=batch_size), guard.score(rows), atol=1e-6)


def test_a_file_is_compared_with_its_detector_at_two_batch_sizes(exported, monkeypatch):
    detector, guard, _ = exported
    run, sizes = type(guard).run, []

    def watched(self, feed, *arguments):
        sizes.append({len(array) for array in feed.values()})
        return run(self, feed, *arguments)

    monkeypatch.setattr(type(guard), "run", watched)
    assert equality.check_same(detector, guard, None) <= equality.TOLERANCE
    assert sizes == [{1}, {7}]


def test_the_graph_decides_by_itself_as_the_detector_does(exported, rows):
    _, guard, _ = exported
    found, decided = all_of(guard, rows), guard.correct(rows)["data"]
    assert list(guard.default_outputs) == NAMES
    for name in NAMES[:-1]:
        np.testing.assert_array_equal(found[name], decided[name], err_msg=name)
    np.testing.assert_array_equal(found["probabilities"].argmax(axis=1), found["corrected"])


def test_probabilities_are_the_classifiers_own_where_nothing_is_flagged(exported, rows):
    detector, guard, _ = exported
    found = all_of(guard, rows)
    flagged = found["is_adversarial"]
    own = keras.ops.convert_to_numpy(detector.model(rows, training=False))
    np.testing.assert_allclose(found["probabilities"][~flagged], own[~flagged], atol=1e-5)
    np.testing.assert_array_equal(found["probabilities"][flagged], found["opinion"][flagged])


def test_p_values_are_read_off_the_calibration_scores(exported, rows):
    detector, guard, _ = exported
    found = all_of(guard, rows)
    expected = detector.calibration.p_values(found["instance_score"], found["no_defense"])
    np.testing.assert_array_equal(found["p_value"], expected)
    assert found["p_value"].dtype == "float64"


def test_the_threshold_is_an_input_with_a_default(exported, rows):
    _, guard, _ = exported
    scores = guard.score(rows)
    for threshold in (0.0, float(np.median(scores)), 1e9):
        np.testing.assert_array_equal(all_of(guard, rows, threshold=threshold)["is_adversarial"], scores > threshold)
        data = guard.predict(rows, threshold=threshold)["data"]
        np.testing.assert_array_equal(data["is_adversarial"], scores > threshold)


@pytest.mark.parametrize("wrong", ["high", [1.0, 2.0], float("nan"), object(), bool], ids=str)
def test_a_threshold_that_is_none_is_told(exported, rows, wrong):
    _, guard, _ = exported
    for ask in (guard.predict, guard.correct):
        with pytest.raises(InvalidSetting, match="finite number of nats"):
            ask(rows, threshold=wrong)


def test_a_provider_that_there_is_not_is_told(exported):
    _, guard, _ = exported
    with pytest.raises(InvalidSetting, match="CPUExecutionProvider"):
        demur.runtime.load(guard.path, providers=["NoExecutionProvider"])


def test_a_row_that_cannot_be_judged_is_flagged_and_disturbs_no_other(exported, rows):
    _, guard, _ = exported
    spoiled = rows.copy()
    spoiled[3, 2, 2], spoiled[5, 0, 0], spoiled[7] = np.nan, np.inf, -np.inf
    found, clean = all_of(guard, spoiled), all_of(guard, rows)
    bad = np.isin(np.arange(len(rows)), [3, 5, 7])
    assert np.isposinf(found["instance_score"][bad]).all()
    assert found["is_adversarial"][bad].all()
    assert (found["corrected"][bad] == found["no_defense"][bad]).all()
    np.testing.assert_array_equal(found["instance_score"][~bad], clean["instance_score"][~bad])
    with pytest.raises(ValueError, match="NaN, infinity"):
        guard.predict(spoiled)


def test_the_file_says_what_it_is(exported):
    detector, guard, _ = exported
    model = onnx.load(guard.path)
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key.removeprefix("demur."): entry.value for entry in model.metadata_props}
    assert json.loads(said["detector"]) == type(detector).__name__
    assert json.loads(said["threshold"]) == detector.threshold
    assert json.loads(said["fpr"]) == 0.05
    assert json.loads(said["temperature"]) == 0.5
    assert json.loads(said["classes"]) == 10
    assert json.loads(said["classifier"]) == detector.classifier.fingerprint()
    assert json.loads(said["versions"])["keras"] == keras.__version__
    assert json.loads(said["versions"])["backend"] == BACKEND
    assert [entry.name for entry in model.graph.input] == ["x", "threshold"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    assert guard.calibration.fpr == 0.05
    assert str(guard.path.name) in repr(guard)


def test_plain_onnxruntime_runs_it(exported, rows):
    detector, guard, _ = exported
    session = onnxruntime.InferenceSession(str(guard.path), providers=["CPUExecutionProvider"])
    (corrected,) = session.run(["corrected"], {"x": rows})
    np.testing.assert_array_equal(corrected, detector.correct(rows)["data"]["corrected"])


def test_a_reconstruction_is_there_for_those_who_ask(exported, rows):
    detector, guard, _ = exported
    if not isinstance(detector, AdversarialAE):
        assert "reconstruction" not in guard.outputs
        return
    found = guard.run(guard.feed(rows), ["reconstruction"])["reconstruction"]
    np.testing.assert_allclose(found, detector.ae.predict_on_batch(rows), atol=1e-5)


@pytest.mark.parametrize("damage", [200, 5000, -5000, -200, -1])
def test_a_damaged_file_is_told(exported, tmp_path, damage):
    _, guard, _ = exported
    contents = bytearray(guard.path.read_bytes())
    path = tmp_path / "damaged.onnx"
    contents[damage] ^= 1
    path.write_bytes(contents)
    with pytest.raises(CorruptDetector, match="SHA-256"):
        demur.runtime.load(path)


def test_a_file_that_was_cut_off_is_told(exported, tmp_path):
    _, guard, _ = exported
    path = tmp_path / "cut.onnx"
    path.write_bytes(guard.path.read_bytes()[:-3000])
    with pytest.raises((CorruptDetector, NotADetector)):
        demur.runtime.load(path)


def test_another_onnx_model_is_no_guard():
    with pytest.raises(NotADetector, match="no guard"):
        demur.runtime.load(sources.onnx_file())


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_may_have_a_threshold(kind, tmp_path):
    detector = guards.guard(kind)
    before = detector.calibration, detector.threshold
    try:
        detector.infer_threshold(guards.data().held_out.x, threshold_perc=80, groups="predicted")
        detector.export(tmp_path / "guard.onnx")
        guard = demur.runtime.load(tmp_path / "guard.onnx")
        x = guards.data().test.x[:200]
        assert_the_same(detector.correct(x), guard.correct(x))
        found = all_of(guard, x)
        expected = detector.calibration.p_values(found["instance_score"], found["no_defense"])
        np.testing.assert_array_equal(found["p_value"], expected)
        assert 0 < found["is_adversarial"].sum() < 100
        twice = all_of(guard, x, threshold=2 * detector.threshold)["is_adversarial"]
        np.testing.assert_array_equal(twice, found["instance_score"] > 2 * detector.threshold[found["no_defense"]])
    finally:
        detector.calibration, detector.threshold = before


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_layer_kld": {"hidden": 8}, "temperature": 2.0},
        {"loss_type": "xent", "score_type": "xent"},
        {"w_uncertainty": 0.0},
    ],
    ids=str,
)
def test_every_kind_of_score_is_exported(settings, images, tmp_path):
    detector = AdversarialAE(model=models.cnn(), encoder_net=models.encoder(), decoder_net=models.decoder(), **settings)
    detector.fit(images, epochs=1, verbose=False).infer_threshold(images, threshold_perc=80)
    detector.export(tmp_path / "guard.onnx", X=images)
    assert_the_same(detector.correct(images), demur.runtime.load(tmp_path / "guard.onnx").correct(images))


def test_scores_near_zero_keep_their_precision(tabular, rows, tmp_path):
    """A student that is the classifier all but agrees with it everywhere."""
    x = models.wine()[0]
    student = keras.models.clone_model(tabular)
    student.set_weights([w * 1.0001 for w in tabular.get_weights()])
    detector = ModelDistillation(model=tabular, distilled_model=student, threshold=1.0, w_uncertainty=0.0)
    detector.export(tmp_path / "guard.onnx", X=x)
    expected = detector.score(x)
    assert expected.max() < 1e-5
    found = demur.runtime.load(tmp_path / "guard.onnx").score(x)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=1e-12)


@pytest.mark.slow
def test_logits_and_one_output_are_read_as_by_the_detector(tmp_path):
    x = models.wine()[0]
    one = keras.Sequential([layers.Input((13,)), layers.Dense(1, activation="sigmoid", **models.weights(1))])
    logits = keras.Sequential([layers.Input((13,)), layers.Dense(4, **models.weights(2))])
    for model, settings in ((one, {}), (logits, {"from_logits": True})):
        detector = ModelDistillation(model=model, threshold=0.1, **settings)
        detector.fit(x, epochs=1, verbose=False)
        detector.export(tmp_path / "guard.onnx")
        assert_the_same(detector.correct(x), demur.runtime.load(tmp_path / "guard.onnx").correct(x))


def text_model(seed, units):
    ids, mask = keras.Input((6,), dtype="int32", name="ids"), keras.Input((6,), name="mask")
    words = layers.Embedding(20, units, embeddings_initializer=keras.initializers.RandomNormal(seed=seed))(ids)
    mean = layers.GlobalAveragePooling1D()(layers.Multiply()([words, layers.Reshape((6, 1))(mask)]))
    hidden = layers.Dense(units, activation="relu", **models.weights(seed))(mean)
    return keras.Model({"ids": ids, "mask": mask}, layers.Dense(3, activation="softmax", **models.weights(1))(hidden))


@pytest.mark.slow
def test_several_inputs_keep_their_names(tmp_path):
    rng = np.random.default_rng(0)
    X = {"ids": rng.integers(0, 20, (30, 6)), "mask": rng.integers(0, 2, (30, 6)).astype("float32")}
    detector = ModelDistillation(model=text_model(0, 8), distilled_model=text_model(5, 4), threshold=1e-4)
    detector.fit(X, epochs=1, verbose=False)
    detector.export(tmp_path / "guard.onnx", X=X)
    guard = demur.runtime.load(tmp_path / "guard.onnx")
    assert list(guard.inputs) == ["ids", "mask"]
    assert_the_same(detector.correct(X), guard.correct(X))
    assert "p_value" not in guard.default_outputs
    with pytest.raises(NotCalibrated):
        guard.predict(X, control="fdr")


@pytest.mark.slow
def test_rows_may_be_flagged_as_invalid(images, tmp_path):
    detector = AdversarialAE(
        model=models.cnn(), encoder_net=models.encoder(), decoder_net=models.decoder(), on_invalid="flag"
    )
    detector.fit(images, epochs=1, verbose=False).infer_threshold(images, fpr=0.1)
    detector.threshold *= 1.001  # it was one of the scores
    detector.export(tmp_path / "guard.onnx")
    spoiled = images.copy()
    spoiled[4] = np.nan
    live, found = (
        detector.correct(spoiled)["data"],
        demur.runtime.load(tmp_path / "guard.onnx").correct(spoiled)["data"],
    )
    np.testing.assert_array_equal(found["invalid"], [4])
    np.testing.assert_array_equal(found["is_adversarial"], live["is_adversarial"])
    assert found["p_value"][4] == live["p_value"][4] == found["p_value"].min()


@pytest.mark.skipif(BACKEND != "torch", reason="a module is in the graph on PyTorch alone")
def test_a_pytorch_module_is_exported(tmp_path):
    x = models.digits()[0].transpose(0, 3, 1, 2)[:48]
    detector = AdversarialAE(model=sources.torch_cnn(), threshold=0.5)
    detector.fit(x, epochs=1, verbose=False)
    detector.export(tmp_path / "guard.onnx")
    guard = demur.runtime.load(tmp_path / "guard.onnx")
    assert guard.channels_first
    assert_the_same(detector.correct(x), guard.correct(x))


def test_fdr_control_is_the_detectors(exported, rows):
    detector, guard, _ = exported
    live, found = (d.predict(rows, control="fdr", level=0.2)["data"] for d in (detector, guard))
    np.testing.assert_array_equal(live["is_adversarial"], found["is_adversarial"])


# What cannot be exported ----------------------------------------------------------------------------------------------


def test_nothing_to_decide_by_is_an_error(tmp_path):
    detector = models.as_trained(ModelDistillation(model=models.tabular()))
    with pytest.raises(ThresholdNotSet, match="infer_threshold"):
        detector.export(tmp_path / "guard.onnx")


def test_a_detector_that_has_not_seen_rows_is_an_error(tmp_path):
    X = models.wine()[0]
    detector = ModelDistillation(model=lambda x: np.full((len(x), 3), 1 / 3), threshold=1.0)
    with pytest.raises(NotFitted):
        detector.export(tmp_path / "guard.onnx")
    detector.fit(X, epochs=1, verbose=False)
    assert detector.export(tmp_path / "guard.onnx").takes_reference  # its classifier is outside of the graph


def test_wrong_settings_are_told_at_once(exported, tmp_path):
    detector, _, _ = exported
    for wrong, message in (
        ({"opset": 9}, "opset"),
        ({"float16": True, "int8": True}, "two ways"),
        ({"int8": True}, "needs X="),
        ({"max_loss": float("nan")}, "max_loss"),
        ({"max_loss": "little"}, "max_loss"),
        ({"X_adversarial": np.zeros((1, 8, 8, 1))}, "less precision"),
    ):
        with pytest.raises(InvalidSetting, match=message):
            detector.export(tmp_path / "guard.onnx", **wrong)
    with pytest.raises(InvalidSetting, match=r"\.onnx"):
        detector.export(tmp_path / "guard.txt")
    with pytest.raises(FileNotFoundError, match="make it first"):
        detector.export(tmp_path / "none" / "guard.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_is_not_left(exported, tmp_path, monkeypatch):
    detector, _, _ = exported
    path = tmp_path / "guard.onnx"
    path.write_bytes(b"what was there")
    live = equality.live_scores
    monkeypatch.setattr(equality, "live_scores", lambda detector, rows: [a + 2e-5 for a in live(detector, rows)])
    with pytest.raises(ExportDiffers, match="from the detector's in a batch of 1"):
        detector.export(path)
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_operation_set_answers_the_same(exported, rows, tmp_path):
    detector, _, _ = exported
    opset = {"tensorflow": 13, "torch": 14, "jax": 18}[BACKEND]
    detector.export(tmp_path / "guard.onnx", opset=opset)
    assert onnx.load(tmp_path / "guard.onnx").opset_import[0].version == opset
    assert_the_same(detector.correct(rows), demur.runtime.load(tmp_path / "guard.onnx").correct(rows))


# Less precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_less_precision_is_measured(exported, precision, tmp_path):
    detector, full, _ = exported
    x = guards.data().held_out.x
    written = detector.export(tmp_path / "guard.onnx", X=x, max_loss=0.2, **{precision: True})
    guard = demur.runtime.load(tmp_path / "guard.onnx")
    assert guard.precision == written.precision == precision
    assert 0.8 <= written.loss.agreement <= 1.0
    assert written.loss.rows == 2 * len(x)
    assert written.loss.auroc - written.loss.auroc_reduced <= 0.2
    assert not np.array_equal(guard.score(x), full.score(x))
    # The threshold is the file's own: its false-positive rate holds on its own scores.
    assert guard.predict(x)["data"]["is_adversarial"].mean() <= 0.05
    assert guard.calibration.fpr == 0.05


@pytest.mark.slow
def test_a_loss_that_is_too_large_leaves_no_file(exported, tmp_path):
    detector, _, _ = exported
    x = guards.data().held_out.x
    with pytest.raises(LossTooLarge, match="costs too much"):
        detector.export(tmp_path / "guard.onnx", X=x, int8=True, max_loss=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_the_loss_is_measured_on_the_bad_rows_given(exported, tmp_path):
    detector, _, _ = exported
    x = guards.data().held_out.x[:100]
    written = detector.export(tmp_path / "guard.onnx", X=x, X_adversarial=x[:30], float16=True, max_loss=0.5)
    assert written.loss.rows == 130
    assert abs(written.loss.auroc - 0.5) < 0.15  # they are no worse than the others


def test_openvino_reads_it(exported, rows):
    openvino = pytest.importorskip("openvino")
    detector, guard, _ = exported
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(guard.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({0: rows})
    live = detector.correct(rows)["data"]
    by_name = {next(iter(port.names)): found[port] for port in compiled.outputs}
    np.testing.assert_allclose(by_name["instance_score"], live["instance_score"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(by_name["corrected"], live["corrected"])
