"""DualAffineCoupling: it moves every entry."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors


def test_dual_coupling_moves_every_entry():
    one = tf.constant([[1.0, 2.0, 3.0]])

    def network(outputs):
        return lambda a: tf.reduce_sum(a, -1, keepdims=True) * tf.ones([1, outputs])

    flow = bijectors.DualAffineCoupling(
        [network(2), network(4)], [3], split_size=1, scale=lambda h: 0.1 * h
    )
    y1 = np.exp(0.1 * 5.0) * 1.0 + 5.0
    rest = np.exp(0.1 * y1) * np.array([2.0, 3.0]) + y1
    np.testing.assert_allclose(flow.forward(one)[0], [y1, *rest], rtol=1e-6)
    np.testing.assert_allclose(
        flow.forward_log_det_jacobian(one, 1), [0.1 * 5.0 + 2 * 0.1 * y1], rtol=1e-6
    )
    with pytest.raises(ValueError, match="`networks` must be two"):
        bijectors.DualAffineCoupling([network(2)], [3])
