"""FlowBijector: wrong shapes and dtypes, and no inverse."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.small_flows import multi_scale
from tfflows import bijectors


def test_wrong_shapes_of_the_inverse_name_argument_and_shape():
    flow = multi_scale()
    with pytest.raises(ValueError, match=r"`MultiScale` expected `y` .*\[16\].*\(2, 15\)"):
        flow.inverse(tf.zeros([2, 15]))
    with pytest.raises(ValueError, match=r"`MultiScale` expected `x` .*\[4, 4, 1\].*\(4, 1\)"):
        flow.forward_log_det_jacobian(tf.zeros([4, 1]), 3)
    with pytest.raises(TypeError, match=r"`MultiScale` expected `y` of dtype float32.*float64"):
        flow.inverse(tf.zeros([2, 16], tf.float64))


def test_a_bijector_without_an_inverse_says_so():
    class OneWay(bijectors.FlowBijector):
        def __init__(self):
            super().__init__(forward_min_event_ndims=0, parameters={})

        def _forward_and_log_det(self, x):
            return 2.0 * x, tf.math.log(2.0)

    np.testing.assert_allclose(OneWay().forward(1.5), 3.0)
    with pytest.raises(NotImplementedError, match="OneWay has no inverse"):
        OneWay().inverse(1.0)
