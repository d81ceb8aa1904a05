"""The masked network: who sees whom, certified norms, dense equivalents, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflows import networks
from tfflows.networks.masked_conv_net import full_kernel
from tfflows.numerics.norms import conv_norm_bound


def make(channels=3, width=12, shape=(4, 5), scale=1.0, **kwargs):
    network = networks.MaskedConvNet(channels, width=width, seed=1, dtype="float64", **kwargs)
    networks.build_network(network, [*shape, channels])
    rng = np.random.default_rng(2)
    for variable in network.variables:
        variable.assign(scale * rng.normal(size=variable.shape))
    return network


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_each_head_sees_exactly_the_entries_before(channels):
    network = make(channels, width=6 * channels, max_norm=100.0)
    x = tf.constant(np.random.default_rng(3).normal(size=[1, 3, 4, channels]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        # A ReLU may hide a dependence: the sum over several inputs does not.
        y = network(x)
    heads = tf.split(tape.jacobian(y, x), 4, axis=3)
    size = 12 * channels
    order = np.arange(size)
    for head in heads:
        jacobian = np.reshape(head, [size, size])
        assert np.all(jacobian[order[:, None] <= order] == 0)
        # Row 1, column 1, last channel: sees its four neighbours before it and its own pixel.
        place = np.ravel_multi_index((1, 1, channels - 1), (3, 4, channels))
        seen = np.abs(jacobian[place]).reshape(3, 4, channels).sum(-1) > 0
        assert np.all(seen[0, :3])
        assert seen[1, 0]


def test_is_the_network_of_masked_convolutions():
    network = make(max_norm=0.7)
    x = tf.constant(np.random.default_rng(3).normal(size=[2, 4, 5, 3]))
    kernels = [full_kernel(k) for k in network.capped_kernels()]
    h = x
    for kernel, bias in zip(kernels[:2], network.biases[:2], strict=True):
        h = tf.nn.relu(tf.nn.conv2d(h, kernel, 1, "SAME") + tf.convert_to_tensor(bias))
    heads = [
        tf.nn.conv2d(h, kernel, 1, "SAME") + tf.convert_to_tensor(bias)
        for kernel, bias in zip(kernels[2:], network.biases[2:], strict=True)
    ]
    np.testing.assert_allclose(network(x), tf.concat(heads, -1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_every_convolution_is_capped(scale):
    network = make(scale=scale)
    for taps in network.capped_kernels():
        kernel = full_kernel(taps)
        size = 5
        images = tf.reshape(
            tf.eye(size**2 * kernel.shape[2], dtype=tf.float64), [-1, size, size, kernel.shape[2]]
        )
        dense = tf.reshape(tf.nn.conv2d(images, kernel, 1, "SAME"), [len(images), -1])
        assert np.linalg.norm(dense, 2) <= 1.5
        if scale == 100:
            np.testing.assert_allclose(conv_norm_bound(kernel), 1.5, rtol=1e-6)


def test_starts_with_two_heads_at_zero():
    network = networks.build_network(networks.MaskedConvNet(2, width=8, seed=1), [4, 4, 2])
    t1, s1, t2, s2 = tf.split(network(tf.ones([1, 4, 4, 2])), 4, axis=-1)
    assert np.all(t1 == 0) and np.all(s1 == 0)
    assert np.any(t2 != 0) and np.any(s2 != 0)


def test_prepared_function_has_the_same_values_and_no_norms():
    network = make()
    x = tf.ones([2, 4, 5, 3], tf.float64)
    prepared = network.prepare()
    np.testing.assert_array_equal(prepared(x), network(x))
    graph = tf.function(prepared).get_concrete_function(x).graph
    assert not any(op.type == "ArgMax" for op in graph.get_operations())


def test_saves_and_loads(tmp_path):
    inputs = keras.Input([4, 5, 3], dtype="float64")
    model = keras.Model(inputs, make()(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.ones([1, 4, 5, 3])
    np.testing.assert_array_equal(loaded(x), model(x))


def test_mixed_precision_computes_norms_in_float32():
    network = networks.MaskedConvNet(2, width=8, seed=1, dtype="mixed_bfloat16")
    networks.build_network(network, [4, 4, 2])
    assert network(tf.ones([1, 4, 4, 2])).dtype == tf.bfloat16
    assert network.capped_kernels()[0].dtype == tf.float32


def test_errors():
    with pytest.raises(ValueError, match="`width` must be a multiple.*width=10, num_channels=4"):
        networks.MaskedConvNet(4, width=10)
    with pytest.raises(ValueError, match="expected 3 channels"):
        networks.build_network(networks.MaskedConvNet(3, width=6), [4, 4, 2])
