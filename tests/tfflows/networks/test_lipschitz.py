"""LipSwish and LipschitzNet: no Jacobian is larger than they say."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflows import networks


def jacobians(function, x):
    """Returns the dense Jacobians `[N, D', D]`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    dense = tape.batch_jacobian(y, x)
    return np.reshape(dense, [x.shape[0], np.prod(y.shape[1:]), np.prod(x.shape[1:])])


def test_lip_swish_is_no_steeper_than_1():
    layer = networks.LipSwish(dtype="float64")
    x = tf.constant(np.linspace(-100, 100, 200_001))
    layer(x)
    for raw in (-3.0, 0.5, 4.0):
        layer.raw_beta.assign(raw)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        slopes = tape.gradient(y, x)
        assert 0.999 < np.max(slopes) <= 1
        assert np.min(slopes) == pytest.approx(-0.0998 / 1.1, abs=1e-4)
        beta = np.log1p(np.exp(raw))
        np.testing.assert_allclose(y, x / (1 + np.exp(-beta * x)) / 1.1, rtol=1e-12)


def shapes(test):
    return pytest.mark.parametrize(
        ("shape", "kernel_sizes"), [([4], (1, 1, 1)), ([4, 3, 2], (3, 1, 3)), ([3, 3, 2], (5,))]
    )(test)


def make(shape, kernel_sizes, scale, max_lipschitz=0.98, dtype="float64"):
    network = networks.LipschitzNet(
        shape[-1],
        width=5,
        kernel_sizes=kernel_sizes,
        max_lipschitz=max_lipschitz,
        seed=1,
        dtype=dtype,
    )
    networks.build_network(network, shape)
    rng = np.random.default_rng(0)
    for variable in network.trainable_variables:
        variable.assign_add(scale * rng.normal(size=variable.shape))
    return network


@shapes
@pytest.mark.parametrize("scale", [0.3, 3.0, 100.0])
def test_jacobian_has_no_singular_value_above_the_bound(shape, kernel_sizes, scale):
    rng = np.random.default_rng(1)
    for bound in (0.5, 0.98):
        network = make(shape, kernel_sizes, scale, bound)
        x = np.concatenate([size * rng.normal(size=[20, *shape]) for size in (0.1, 1.0, 50.0)])
        assert np.max(np.linalg.norm(jacobians(network, tf.constant(x)), 2, axis=(1, 2))) <= bound


def test_the_bound_is_nearly_reached():
    """Kernels that are multiples of the identity, far in the linear part of LipSwish."""
    network = make([3, 3, 2], (3, 1, 3), 0.0)
    for conv in network.convs:
        kernel = np.zeros(conv.kernel.shape)
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = np.eye(*kernel.shape[2:])
        conv.kernel.assign(10 * kernel)
        conv.bias.assign(tf.ones_like(conv.bias) * 100.0)
    norms = np.linalg.norm(
        jacobians(network, tf.fill([1, 3, 3, 2], tf.constant(100.0, tf.float64))), 2, axis=(1, 2)
    )
    assert 0.6 < norms[0] <= 0.98  # 0.98 / 1.1^3 = 0.74, less 7 percent for each 3x3 kernel.


@shapes
def test_starts_at_zero_and_learns(shape, kernel_sizes):
    x = tf.constant(np.random.default_rng(0).normal(size=[3, *shape]))
    network = make(shape, kernel_sizes, 0.0)
    np.testing.assert_array_equal(network(x), tf.zeros_like(x))
    network = make(shape, kernel_sizes, 0.2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(x) ** 2)
    variables = [v.value for v in network.trainable_variables]
    assert len(variables) == 3 * len(kernel_sizes)
    for gradient in tape.gradient(loss, variables):
        assert np.any(gradient != 0)
    np.testing.assert_array_equal(network.prepare()(x), network(x))


def test_kernels_within_the_cap_are_used_as_they_are():
    layer = networks.CappedConv2D(2, 3, 5.0, dtype="float64")
    x = tf.constant(np.random.default_rng(0).normal(size=[2, 4, 4, 2]))
    layer(x)
    np.testing.assert_allclose(layer(x), tf.nn.conv2d(x, layer.kernel.value, 1, "SAME"), rtol=1e-12)
    layer.kernel.assign(100 * layer.kernel)
    operator = jacobians(layer, tf.zeros([1, 10, 10, 2], tf.float64))[0]
    assert 4.2 < np.linalg.norm(operator, 2) <= 5.0


def test_computes_in_full_precision_under_a_mixed_policy():
    network = make([3, 3, 2], (3, 1, 3), 0.3, dtype="mixed_bfloat16")
    y = network(tf.ones([1, 3, 3, 2]))
    assert y.dtype == tf.float32
    expected = make([3, 3, 2], (3, 1, 3), 0.3, dtype="float32")(tf.ones([1, 3, 3, 2]))
    np.testing.assert_array_equal(y, expected)


def test_configuration_rebuilds_the_layers():
    network = make([3, 3, 2], (3, 1, 3), 0.3)
    config = keras.saving.serialize_keras_object(network)
    again = keras.saving.deserialize_keras_object(config)
    again.set_weights(network.get_weights())
    x = tf.ones([1, 3, 3, 2], tf.float64)
    np.testing.assert_array_equal(again(x), network(x))
    conv = networks.CappedConv2D(2, 3, 0.7)
    assert networks.CappedConv2D.from_config(conv.get_config()).get_config() == conv.get_config()


def test_errors_name_the_parameter():
    with pytest.raises(ValueError, match=r"`kernel_sizes` must be odd. .*\(3, 2\)"):
        networks.LipschitzNet(2, kernel_sizes=(3, 2))
    with pytest.raises(ValueError, match=r"`max_lipschitz` must be positive. .*=0"):
        networks.LipschitzNet(2, max_lipschitz=0)
