"""One small classifier of each source, made once a process from fixed seeds: 13 features, or 8x8 images, to classes."""

import functools
import pathlib
import tempfile
import warnings

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.scaffold.models import digits, wine

FOLDER = tempfile.TemporaryDirectory()


def first_rows():
    return wine()[0][:2]


@functools.cache
def parameters():
    """Of a small dense network, that every framework can compute."""
    rng = np.random.default_rng(0)
    sizes = [(13, 16), (16,), (16, 3), (3,)]
    return [rng.normal(0, 0.5, size).astype("float32") for size in sizes]


# PyTorch ------------------------------------------------------------------------------------------------------------


class Residual(torch.nn.Module):
    """Writes into what came before it, as ResNets do."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.norm(self.conv(x))
        y += x
        return y.relu_()


class TorchCNN(torch.nn.Module):
    """Channels first, BatchNorm and Dropout; left in training mode on purpose."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.layer1 = torch.nn.Sequential(Residual(), Residual())
        self.drop = torch.nn.Dropout(0.5)
        self.classes = torch.nn.Linear(4 * 64, 10)
        self.softmax = torch.nn.Softmax(dim=1)

    def forward(self, x):
        return self.softmax(self.classes(self.drop(self.layer1(self.stem(x)).flatten(1))))


@functools.cache
def torch_cnn():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TorchCNN()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.7, 1.3)
    return model.train()


@functools.cache
def torch_logits():
    """The table's network, returning logits."""
    w1, b1, w2, b2 = map(torch.tensor, parameters())
    model = torch.nn.Sequential(torch.nn.Linear(13, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    with torch.no_grad():
        for layer, w, b in ((model[0], w1, b1), (model[2], w2, b2)):
            layer.weight.copy_(w.T)
            layer.bias.copy_(b)
    return model


def first(X):
    """Images as PyTorch has them."""
    return np.ascontiguousarray(X.transpose(0, 3, 1, 2))


# JAX ----------------------------------------------------------------------------------------------------------------


def jax_apply(values, x):
    import jax

    w1, b1, w2, b2 = values
    return jax.nn.softmax(jax.nn.relu(x @ w1 + b1) @ w2 + b2)


@functools.cache
def jax_function():
    import jax.numpy as jnp

    return jax_apply, [jnp.asarray(value) for value in parameters()]


@functools.cache
def linen():
    import jax
    from flax import linen as nn

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x))
            return nn.softmax(nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x))))

    module = Linen()
    return module, module.init(jax.random.key(0), first_rows(), train=False)


@functools.cache
def bound_linen():
    module, variables = linen()
    return module.bind(variables)


@functools.cache
def nnx_module():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(13, 16, rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.classes = nnx.Linear(16, 3, rngs=rngs)

        def __call__(self, x):
            return nnx.softmax(self.classes(self.drop(nnx.relu(self.norm(self.hidden(x))))))

    return Net(nnx.Rngs(0))


@functools.cache
def equinox_module():
    import equinox as eqx
    import jax

    first_key, second_key = jax.random.split(jax.random.key(0))
    layers = [
        eqx.nn.Linear(13, 16, key=first_key),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Dropout(0.5),
        eqx.nn.Linear(16, 3, key=second_key),
        eqx.nn.Lambda(jax.nn.softmax),
    ]
    return eqx.nn.Sequential(layers)


# TensorFlow ---------------------------------------------------------------------------------------------------------


@functools.cache
def tf_module():
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self):
            super().__init__()
            self.values = [tf.Variable(value) for value in parameters()]

        @tf.function(input_signature=[tf.TensorSpec([None, 13], tf.float32)])
        def __call__(self, x):
            w1, b1, w2, b2 = self.values
            return tf.nn.softmax(tf.nn.relu(x @ w1 + b1) @ w2 + b2)

    return Net()


@functools.cache
def tf_function():
    import tensorflow as tf

    module = tf_module()
    return tf.function(module)


@functools.cache
def saved_model():
    import tensorflow as tf

    path = str(pathlib.Path(FOLDER.name) / "saved_model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(tf_module(), path, signatures=tf_module().__call__)
    return path


# Estimators, ONNX and functions -------------------------------------------------------------------------------------


@functools.cache
def forest():
    return RandomForestClassifier(10, max_depth=4, random_state=0).fit(*wine())


@functools.cache
def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(*wine())


@functools.cache
def xgboost_model():
    import xgboost

    return xgboost.XGBClassifier(n_estimators=8, max_depth=3, random_state=0, n_jobs=1).fit(*wine())


@functools.cache
def lightgbm_model():
    import lightgbm

    settings = {"n_estimators": 8, "num_leaves": 4, "random_state": 0, "n_jobs": 1, "verbose": -1}
    return lightgbm.LGBMClassifier(**settings).fit(*wine())


@functools.cache
def onnx_file():
    from skl2onnx import to_onnx

    path = pathlib.Path(FOLDER.name) / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(to_onnx(pipeline(), first_rows()).SerializeToString())
    return str(path)


@functools.cache
def onnx_session():
    import onnxruntime

    return onnxruntime.InferenceSession(onnx_file(), providers=["CPUExecutionProvider"])


def function(rows):
    """A callable of NumPy alone."""
    w1, b1, w2, b2 = parameters()
    z = np.maximum(rows @ w1 + b1, 0) @ w2 + b2
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def images():
    return first(digits()[0][:32])


def images_last():
    return digits()[0][:32]


def rows():
    return wine()[0][:32]
