"""InvertibleConv1x1: the length of a reflection."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("kind", ["householder", "qr"])
def test_the_length_of_a_reflection_does_not_count(kind, dtype):
    start = bijectors.InvertibleConv1x1.trainable(
        [None, None, 3], parameterization=kind, seed=1, dtype=dtype
    )
    arguments = start.parameters | {"reflections": None}
    vectors = tf.convert_to_tensor(start.parameters["reflections"])
    x = tf.random.stateless_normal([2, 2, 2, 3], [1, 1], dtype=dtype)
    for size in (1e25, 1e-25):
        scaled = tf.Variable(vectors * size)
        flow = bijectors.InvertibleConv1x1(**(arguments | {"reflections": scaled}))
        np.testing.assert_allclose(flow.matrix(), start.matrix(), atol=1e-5)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(flow.forward(x)))
        gradient = tape.gradient(loss, scaled)
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            plain = bijectors.InvertibleConv1x1(**(arguments | {"reflections": vectors}))
            loss = tf.reduce_sum(tf.sin(plain.forward(x)))
        np.testing.assert_allclose(gradient * size, tape.gradient(loss, vectors), atol=1e-4)
