"""Ready companions suit the shapes they are made for."""

import keras
import numpy as np
import pytest

from demur.errors import ShapeMismatch
from demur.network import nets

SHAPES = [(5,), (1,), (20, 4), (8, 8, 1), (28, 28, 1), (33, 47, 3), (32, 32, 3), (4, 4, 1), (96, 80, 3), (130, 70, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_autoencoder_returns_the_shape_it_takes(shape):
    model = nets.autoencoder(shape)
    assert model.output_shape == (None, *shape)
    assert np.isfinite(keras.ops.convert_to_numpy(model(np.ones((2, *shape), "float32")))).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_student_returns_probabilities(shape):
    p = keras.ops.convert_to_numpy(nets.student(shape, 7)(np.ones((2, *shape), "float32")))
    assert p.shape == (2, 7)
    np.testing.assert_allclose(p.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("make", [nets.autoencoder, lambda shape, **k: nets.student(shape, 3, **k)])
def test_a_seed_decides_the_weights(make):
    def weights(seed):
        return np.concatenate([w.ravel() for w in make((8, 8, 1), seed=seed).get_weights()])

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).any()


@pytest.mark.parametrize("shape", [(None, None, 3), (28, None, 1), (2, 3, 4, 5), ()])
@pytest.mark.parametrize(
    ("make", "instead"), [(nets.autoencoder, "ae="), (lambda s: nets.student(s, 3), "distilled_model=")]
)
def test_other_shapes_are_refused_with_what_to_pass_instead(make, instead, shape):
    with pytest.raises(ShapeMismatch, match=instead):
        make(shape)


def test_a_large_image_has_no_dense_code():
    large, small = nets.autoencoder((224, 224, 3)), nets.autoencoder((32, 32, 3))
    assert not any(isinstance(layer, keras.layers.Dense) for layer in large.layers)
    assert large.count_params() < small.count_params()


def test_a_random_head_is_seeded_and_never_trained():
    head = nets.random_head((4, 4, 8), 6, seed=3)
    assert head.output_shape == (None, 6)
    assert head.trainable_variables == []
    np.testing.assert_array_equal(head.get_weights()[0], nets.random_head((4, 4, 8), 6, seed=3).get_weights()[0])
    assert (head.get_weights()[0] != nets.random_head((4, 4, 8), 6, seed=4).get_weights()[0]).any()
    with pytest.raises(ShapeMismatch, match="model_hl="):
        nets.random_head((None, 8), 6, seed=0)
