"""The contractions: log-dets far into the tails, inverses that are finite."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from tfflows import bijectors, evaluation


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_dets_of_the_contractions_far_into_the_tails(dtype):
    x = np.array([-80.0, -20.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 20.0, 80.0])
    wide = x.astype(np.longdouble)
    expected_tanh = 2 * (np.log(2) - np.abs(wide) - np.log1p(np.exp(-2 * np.abs(wide))))
    points = tf.constant(x, dtype)
    tanh = bijectors.TanhContraction(event_ndims=0)
    normal = bijectors.NormalCDFContraction(event_ndims=0)
    rtol = 10 * np.finfo(dtype).eps
    np.testing.assert_allclose(
        tanh.forward_log_det_jacobian(points, 0), expected_tanh.astype(float), rtol, rtol
    )
    np.testing.assert_allclose(
        normal.forward_log_det_jacobian(points, 0), -(x**2 + np.log(2 * np.pi)) / 2, rtol
    )
    # In the lower tail the normal's image keeps its precision.
    low = tf.constant([-12.0, -8.0, -3.0], dtype)
    image = normal.forward(low)
    np.testing.assert_allclose(image, special.ndtr(low.numpy().astype(float)), 100 * rtol)
    np.testing.assert_allclose(normal.inverse(tf.identity(image)), low, rtol=1e-4)


def test_contractions_invert_anything_to_finite_values():
    for flow in (
        bijectors.TanhContraction(event_ndims=0),
        bijectors.NormalCDFContraction(event_ndims=0),
    ):
        y = tf.constant([-2.0, -1.0, 0.0, 1.0, 2.0])
        x, log_det = evaluation.inverse_and_log_det(flow, y)
        assert np.all(np.isfinite(x))
        assert np.all(np.isfinite(log_det))
