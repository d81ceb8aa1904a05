"""Power iteration: it converges to the norm of the dense matrix."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.numerics.dense_norms import dense_norm
from tfflows.numerics import power_iteration


@pytest.mark.parametrize("padding", ["zero", "periodic"])
def test_power_iteration_converges_to_the_norm_with_its_gradient(padding):
    rng = np.random.default_rng(4)
    kernel = tf.constant(rng.standard_normal((3, 3, 2, 2)))
    u = tf.constant(rng.standard_normal((1, 6, 6, 2)))
    first, _ = power_iteration.spectral_norm_power_iteration(kernel, u, padding=padding)
    norm = dense_norm(kernel.numpy(), 6, padding)
    assert first <= norm
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        sigma, u = power_iteration.spectral_norm_power_iteration(kernel, u, 200, padding=padding)
    assert u.shape == [1, 6, 6, 2]
    np.testing.assert_allclose(sigma, norm, rtol=1e-3)
    np.testing.assert_allclose(np.sum(tape.gradient(sigma, kernel) * kernel), sigma, rtol=1e-9)


def test_power_iteration_of_a_zero_kernel_is_zero():
    sigma, u = power_iteration.spectral_norm_power_iteration(
        tf.zeros([3, 3, 2, 2]), tf.ones([1, 4, 4, 2])
    )
    assert sigma == 0.0
    assert np.all(np.isfinite(u))
