"""PyTorch modules: their hidden layers by name, and modules as autoencoders and students, trained in place."""

import copy
import os
import stat
import threading

import keras
import numpy as np
import pytest
import torch
from keras import ops

from demur import AdversarialAE, ModelDistillation, load_detector, testing
from demur.errors import CorruptDetector, InvalidSetting, NoGradients, ShapeMismatch, UnknownLayer, WrongType
from demur.testing.shared import log_views
from tests.scaffold import models, sources
from tests.scaffold.advice import advises

ON_TORCH = keras.backend.backend() == "torch"
on_torch = pytest.mark.skipif(not ON_TORCH, reason="PyTorch modules are in the graph on Keras's PyTorch backend")
elsewhere = pytest.mark.skipif(ON_TORCH, reason="what other backends say of PyTorch modules")


class ModuleAE(torch.nn.Module):
    """Behaves otherwise in training, and has statistics."""

    def __init__(self):
        super().__init__()
        self.down, self.norm = torch.nn.Conv2d(1, 4, 3, 2, 1), torch.nn.BatchNorm2d(4)
        self.up, self.drop = torch.nn.ConvTranspose2d(4, 1, 4, 2, 1), torch.nn.Dropout(0.1)

    def forward(self, x):
        return self.up(self.drop(torch.relu(self.norm(self.down(x)))))


def module_student(classes=10):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, classes), torch.nn.Softmax(-1)
    )


@pytest.fixture
def X():  # noqa: N802 - it is what every call here takes
    return sources.images()


def autoencoding(**settings):
    return AdversarialAE(model=sources.torch_cnn(), **settings)


def fit(detector, X, **settings):
    return detector.fit(X, **{"epochs": 2, "batch_size": 8, "verbose": False, **settings})


# Hidden layers ------------------------------------------------------------------------------------------------------


@on_torch
def test_heads_see_what_a_submodule_returned(X):
    """The submodule's output, and not what came of it in place afterwards: `out += x` and ReLU(inplace=True)."""
    kept = {}
    model = copy.deepcopy(sources.torch_cnn()).eval()
    hook = model.layer1[1].norm.register_forward_hook(lambda _m, _i, output: kept.update(norm=output.clone()))
    with torch.no_grad():
        model(torch.tensor(X))
    hook.remove()
    detector = autoencoding(hidden_layer_kld={"layer1.1.norm": 6})
    detector.ready_for(X)
    _, feature = detector.classifier(ops.convert_to_tensor(X))
    np.testing.assert_allclose(ops.convert_to_numpy(feature), kept["norm"].cpu().numpy(), atol=1e-5)
    reference, opinion = log_views(detector, X)
    assert [view.shape for view in reference] == [view.shape for view in opinion] == [(32, 10), (32, 6)]


@on_torch
def test_hidden_layers_cost_no_further_pass_through_the_trunk(X):
    calls = []

    class Counted(sources.TorchCNN):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    detector = AdversarialAE(model=Counted(), hidden_layer_kld={"layer1.0.conv": 5, "layer1.1.conv": 4, "stem": 3})
    models.as_trained(detector).ready_for(X)
    calls.clear()
    detector.score(X)
    assert calls == [32, 32]  # x and its reconstruction
    calls.clear()
    fit(detector, X, batch_size=16, epochs=3)
    # A look at whether gradients go through; the reference once, each epoch's reconstructions, and both once more for
    # the weight of the classifier's doubt and the agreement.
    assert sum(calls) == 16 + 32 + 3 * 32 + 2 * 32


@on_torch
def test_hidden_layers_enter_the_loss_and_the_score_and_are_saved(X, tmp_path):
    def make():
        return autoencoding(hidden_layer_kld={"layer1.0.conv": 5}, w_model_hl=[0.5])

    plain, with_head = models.as_trained(autoencoding()), models.as_trained(make())
    plain.ready_for(X)
    with_head.ready_for(X)
    assert (with_head.score(X) > plain.score(X)).all()
    fit(with_head, X)
    assert with_head.history["loss"][-1] < with_head.history["loss"][0]
    with_head.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", model=sources.torch_cnn())
    assert loaded.hidden_layer_kld == {"layer1.0.conv": 5}
    np.testing.assert_allclose(loaded.score(X), with_head.score(X), atol=1e-6)
    for check in (testing.check_classifier_is_untouched, testing.check_loss_is_the_mean_divergence):
        check(lambda: ready(make(), X), X)


def ready(detector, X):
    detector.ready_for(X)
    return detector


@on_torch
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("layer9", r"no submodule 'layer9'; its submodules are stem, layer1"),
        (3, "no submodule 3"),
        ("", "no submodule"),
    ],
)
def test_an_unknown_submodule_is_answered_with_those_there_are(X, layer, message):
    with pytest.raises(UnknownLayer, match=message):
        fit(autoencoding(hidden_layer_kld={layer: 4}), X)


@on_torch
def test_submodules_that_show_nothing_are_refused(X):
    class Odd(sources.TorchCNN):
        def __init__(self):
            super().__init__()
            self.unused, self.pair = torch.nn.Linear(2, 2), Pair()

        def forward(self, x):
            return super().forward(self.pair(x)[0])

    class Pair(torch.nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(UnknownLayer, match="'unused' is not called"):
        AdversarialAE(model=Odd(), hidden_layer_kld={"unused": 4}).fit(X)
    with pytest.raises(UnknownLayer, match="'pair' returns no single tensor"):
        AdversarialAE(model=Odd(), hidden_layer_kld={"pair": 4}).fit(X)


@on_torch
def test_the_module_keeps_its_hooks_gradients_and_flags(X):
    model = copy.deepcopy(sources.torch_cnn())
    model.stem.requires_grad_(False)
    model.layer1[0].norm.eval()
    seen = []
    model.register_forward_hook(lambda *_: seen.append(1))
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    fit(AdversarialAE(model=model, hidden_layer_kld={"stem": 3}), X)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, False] + [True] * 10
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert len(model._forward_hooks) == 1
    assert not model.stem._forward_hooks


@on_torch
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_module_is_read_like_the_module_in_it(X):
    compiled = torch.compile(copy.deepcopy(sources.torch_cnn()))
    expected = models.as_trained(ready(autoencoding(), X)).score(X)
    np.testing.assert_allclose(models.as_trained(AdversarialAE(model=compiled)).score(X), expected, rtol=1e-5)


# Companions ---------------------------------------------------------------------------------------------------------


@on_torch
def test_an_autoencoder_module_is_trained_in_place_saved_and_loaded(X, tmp_path):
    ae = ModuleAE()
    before = copy.deepcopy(ae.state_dict())
    detector = fit(autoencoding(ae=ae), X, epochs=4)
    assert detector.ae is ae
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    assert all(not torch.equal(tensor, before[name]) for name, tensor in ae.state_dict().items())
    detector.infer_threshold(X, threshold_perc=75).save(tmp_path / "detector")
    assert sorted(path.suffix for path in (tmp_path / "detector").iterdir()) == [
        ".json", ".npz", ".npz", ".safetensors", ".safetensors"
    ]  # fmt: skip
    other = ModuleAE()
    loaded = load_detector(tmp_path / "detector", model=sources.torch_cnn(), companion=other)
    assert loaded.ae is other
    np.testing.assert_allclose(loaded.score(X), detector.score(X), atol=1e-6)
    assert loaded.threshold == detector.threshold
    assert detector.reconstruct(X).shape == X.shape


@on_torch
def test_two_modules_make_an_autoencoder(X):
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8))
    decoder = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Unflatten(1, (1, 8, 8)))
    detector = fit(autoencoding(encoder_net=encoder, decoder_net=decoder), X, epochs=4)
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    assert detector.ae[0] is encoder


@on_torch
@pytest.mark.parametrize("classifier", ["module", "Keras", "function"])
def test_a_student_module_learns_from_any_classifier(classifier, X, tmp_path):
    if classifier == "Keras":
        X, model, student = models.digits()[0][:32], models.cnn(), module_student()
    elif classifier == "module":
        model, student = sources.torch_cnn(), module_student()
    else:
        X, model = sources.rows(), sources.function
        student = torch.nn.Sequential(
            torch.nn.Linear(13, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3), torch.nn.Softmax(1)
        )
    detector = fit(ModelDistillation(model=model, distilled_model=student), X, epochs=4)
    assert detector.distilled_model is student
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    detector.save(tmp_path / "detector")
    given = {} if classifier == "Keras" else {"model": model}
    with advises(WrongType, "pass load_detector(path, companion=module) with a module like it"):
        load_detector(tmp_path / "detector", **given)
    loaded = load_detector(tmp_path / "detector", companion=copy.deepcopy(student), **given)
    np.testing.assert_allclose(loaded.score(X), detector.score(X), atol=1e-6)


@on_torch
def test_the_state_of_another_kind_of_module_is_refused(X, tmp_path):
    fit(autoencoding(ae=ModuleAE()), X, epochs=1).save(tmp_path / "detector")
    with pytest.raises(CorruptDetector, match="holds no state of such a Sequential"):
        load_detector(tmp_path / "detector", model=sources.torch_cnn(), companion=module_student())


@on_torch
def test_checkpoints_of_a_module_are_safetensors(X, tmp_path):
    from safetensors.torch import load_file

    ae = ModuleAE()
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "ae.keras"))
    fit(autoencoding(ae=ae), X, epochs=1, callbacks=[checkpoint])
    state = load_file(tmp_path / "ae.keras")
    assert all(torch.equal(tensor.cpu(), state[name]) for name, tensor in ae.state_dict().items())


@on_torch
def test_a_copy_is_loaded_from_the_classifier_and_files_are_for_whom_the_umask_says(X, tmp_path):
    detector = ModelDistillation(model=sources.torch_cnn(), distilled_model="copy")
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "checkpoint.keras"))
    before = os.umask(0o027)
    try:
        detector.fit(X, robust=0.1, epochs=1, verbose=False, callbacks=[checkpoint])
        detector.infer_threshold(X, threshold_perc=75).save(tmp_path / "guard")
        detector.export(tmp_path / "guard.onnx")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o640}, modes
    assert stat.S_IMODE((tmp_path / "guard").stat().st_mode) == 0o750
    model = copy.deepcopy(sources.torch_cnn())
    loaded = load_detector(tmp_path / "guard", model=model)
    np.testing.assert_allclose(loaded.score(X), detector.score(X), atol=1e-6)
    assert loaded.distilled_model is not model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), sources.torch_cnn().parameters(), strict=True))


@on_torch
def test_what_a_companion_module_must_be_is_said(X):
    with pytest.raises(ShapeMismatch, match=r"must return the shape it takes, \(n, 1, 8, 8\)"):
        autoencoding(ae=torch.nn.Flatten()).score(X)
    with pytest.raises(ShapeMismatch, match="the classifier's 10 classes; it returns 4"):
        ModelDistillation(model=sources.torch_cnn(), distilled_model=module_student(4)).score(X)
    shared = sources.torch_cnn()
    with pytest.raises(InvalidSetting, match="shares trainable weights"):
        ModelDistillation(model=shared, distilled_model=torch.nn.Sequential(shared)).score(X)


@elsewhere
def test_modules_are_companions_on_their_own_backend_alone():
    with advises(WrongType, 'set KERAS_BACKEND="torch" before Keras is imported, or pass a Keras model') as caught:
        ModelDistillation(model=models.cnn(), distilled_model=module_student())
    assert "the student is a PyTorch module" in str(caught.value)
    ModelDistillation(model=models.cnn(), distilled_model=models.student())  # on PyTorch, modules: see above
    with pytest.raises(WrongType, match=r'the autoencoder is a PyTorch module.*KERAS_BACKEND="torch"'):
        AdversarialAE(model=models.cnn(), ae=ModuleAE())


@elsewhere
def test_hidden_layers_of_a_module_are_reached_on_its_own_backend_alone():
    with advises(NoGradients, "set KERAS_BACKEND='torch' before Keras is imported, or use ModelDistillation"):
        autoencoding(hidden_layer_kld={"stem": 3})
    fit(ModelDistillation(model=sources.torch_cnn()), sources.images(), epochs=1)


def test_a_module_that_cannot_be_copied_is_wrapped_in_a_function(X):
    module = copy.deepcopy(sources.torch_cnn()).cpu().eval()
    module.lock = threading.Lock()
    with advises(WrongType, "Pass a function of NumPy arrays instead, for ModelDistillation"):
        ModelDistillation(model=module).fit(X, epochs=1, verbose=False)

    def classify(rows):
        with torch.no_grad():
            return module(torch.as_tensor(rows)).numpy()

    assert np.isfinite(fit(ModelDistillation(model=classify), X, epochs=1).score(X)).all()
