"""VisionTransformer: every token sees all others; positions, context, precision, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.networks.awake import images
from tfflows import networks

SHAPE = [4, 3]


def make(context=None, **kwargs):
    """A network that is not zero any more."""
    network = networks.VisionTransformer(SHAPE, 5, width=8, seed=1, context_size=context, **kwargs)
    networks.build_network(network, SHAPE, context and [context])
    assert not np.any(network(images([2, *SHAPE]), *([images([2, context])] if context else [])))
    rng = np.random.default_rng(0)
    for variable in network.trainable_variables:
        variable.assign_add(rng.normal(0, 0.2, variable.shape))
    return network


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_every_token_sees_all_tokens_and_where_they_are(positions):
    network = make(positions=positions)
    x = images([2, *SHAPE])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = network(x)
    assert y.shape == [2, 4, 5]
    assert np.all(np.any(tape.batch_jacobian(y, x) != 0, axis=(2, 4)))
    flipped = tf.reverse(network(tf.reverse(x, [1])), [1])
    assert np.max(np.abs(flipped - y)) > 1e-3


def test_a_context_reaches_every_output():
    network = make(context=2)
    x = images([3, *SHAPE])
    assert np.all(network(x, tf.zeros([3, 2])) != network(x, tf.ones([3, 2])))


def test_in_lower_precision_it_is_nearly_the_same():
    x = images([2, *SHAPE])
    low, high = make(dtype="mixed_bfloat16"), make()
    assert low(x).dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(low(x), tf.float32), high(x), atol=0.1)


def test_a_keras_file_makes_the_same_network(tmp_path):
    network = make(context=2, positions="rotary", head_size=4)
    args = images([2, *SHAPE]), images([2, 2])
    inputs = [keras.Input(SHAPE), keras.Input([2])]
    keras.Model(inputs, network(*inputs)).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(list(args)), network(*args), atol=1e-6)
