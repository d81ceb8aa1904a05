"""Deterministic: saved with what it wraps."""

import keras
import numpy as np
import tensorflow as tf

from tests.tfflows.watched_networks import between
from tfflows import networks

K = keras.layers


def test_a_deterministic_layer_is_saved_with_what_it_wraps(tmp_path):
    network = between(networks.Deterministic(K.BatchNormalization()))
    path = str(tmp_path / "network.keras")
    network.save(path)
    x = tf.ones([3, 1])
    np.testing.assert_allclose(keras.models.load_model(path)(x), network(x), rtol=1e-6)
    whole = networks.Deterministic(network)
    assert [id(v) for v in whole.variables] == [id(v) for v in network.variables]
