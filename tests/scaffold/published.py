"""The definitions of the scores, in NumPy at float64: the published ones, and the default, from what the pages say."""

import keras
import numpy as np
from keras import ops

FLOOR = 1e-7


def probabilities(model, X, from_logits=False):
    y = np.float64(ops.convert_to_numpy(model(ops.convert_to_tensor(X), training=False)))
    return softmax(y) if from_logits else y


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sharpened(p, temperature):
    powered = p ** (1 / temperature)
    return powered / powered.sum(axis=-1, keepdims=True)


def kl(p, q):
    p, q = np.clip(p, FLOOR, 1), np.clip(q, FLOOR, 1)
    return (p * np.log(p / q)).sum(axis=-1)


def cross_entropy(p, q):
    return -(p * np.log(np.clip(q, FLOOR, 1))).sum(axis=-1)


def both_ways(p, q):
    return kl(p, q) + kl(q, p)


DISTANCES = {"kld": kl, "xent": cross_entropy, "jeffreys": both_ways}


def with_doubt(distance, p, detector):
    return np.hypot(distance, detector.uncertainty_weight * np.log(p.max(axis=-1)))


def clear_of_the_floor(*distributions):
    return np.all([p.min(axis=-1) > 10 * FLOOR for p in distributions], axis=0)


def head(detector, i, key, X):
    """A hidden-layer head: the flattened feature map through a random Dense and a softmax."""
    layer = detector.model.get_layer(key) if isinstance(key, str) else detector.model.layers[key]
    feature = probabilities(keras.Model(detector.model.inputs, layer.output), X)
    kernel, bias = (np.float64(w) for w in detector.parts[f"head_{i}"].get_weights())
    return softmax(feature.reshape(len(X), -1) @ kernel + bias)


def adversarial_ae(detector, X):
    redrawn = ops.convert_to_numpy(detector.ae(ops.convert_to_tensor(X), training=False))
    p = sharpened(probabilities(detector.model, X, detector.from_logits), detector.temperature)
    q = probabilities(detector.model, redrawn, detector.from_logits)
    pairs = [(p, q)]
    for i, key in enumerate(detector.hidden_layer_kld):
        pairs.append((head(detector, i, key, X), head(detector, i, key, redrawn)))
    for model in detector.model_hl:
        pairs.append((probabilities(model, X), probabilities(model, redrawn)))
    distance = DISTANCES[detector.score_type]
    scores = sum(weight * distance(*pair) for weight, pair in zip([1, *detector.w_model_hl], pairs, strict=True))
    return with_doubt(scores, p, detector), clear_of_the_floor(*(p for pair in pairs for p in pair))


def model_distillation(detector, X):
    p = sharpened(probabilities(detector.model, X, detector.from_logits), detector.temperature)
    q = probabilities(detector.distilled_model, X)
    return with_doubt(DISTANCES[detector.score_type](p, q), p, detector), clear_of_the_floor(p, q)
