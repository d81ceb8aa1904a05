"""The conditioners of images and vectors: shapes, context, seeds, precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.networks.awake import images, wake
from tfflows import bijectors, evaluation, networks
from tfflows.bijectors import transforms
from tfflows.networks.building import SeededConvs

SMALL = {
    networks.AttentionNet: {"width": 8, "reduction": 2},
    networks.ConvNet: {"width": 4},
    networks.DenseNet: {"width": 4, "depth": 2, "growth": 3},
    networks.GatedResNet: {"width": 4, "num_blocks": 2},
    networks.MLP: {"width": 4},
}

classes = pytest.mark.parametrize("cls", SMALL, ids=lambda c: c.__name__)


def make(cls, num_outputs=6, shape=(4, 4, 2), context=None, seed=1, **kwargs):
    network = cls(num_outputs, seed=seed, **SMALL[cls], **kwargs)
    return networks.build_network(network, shape, context)


@classes
def test_built_network_maps_to_num_outputs_and_starts_at_zero(cls):
    network = make(cls)
    assert network.built
    assert network.trainable_variables
    y = network(images())
    assert y.shape == [3, 4, 4, 6]
    np.testing.assert_array_equal(y, tf.zeros_like(y))
    assert np.any(wake(network)(images()) != 0)
    # Fully convolutional: any size, once built.
    assert network(images((2, 5, 3, 2))).shape == [2, 5, 3, 6]


@classes
def test_every_variable_gets_a_gradient(cls):
    network = wake(make(cls))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(images()) ** 2)
    variables = [v.value for v in network.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.any(gradient != 0), variable.path


@classes
def test_same_seed_gives_same_weights(cls):
    first, same, other = (make(cls, seed=seed) for seed in (1, 1, 2))
    kernels = [v for v in first.variables if len(v.shape) == 4]
    assert len({np.asarray(v).tobytes() for v in kernels}) == len(kernels)
    for a, b in zip(first.variables, same.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(first.variables, other.variables, strict=True))
    unseeded = [np.asarray(make(cls, seed=None).variables[0]) for _ in range(2)]
    assert np.any(unseeded[0] != unseeded[1])


@classes
def test_vector_context_is_the_same_at_every_position(cls):
    network = wake(make(cls, context=[3]))
    context = images([3, 3], seed=4)
    y = network(images(), context)
    assert y.shape == [3, 4, 4, 6]
    tiled = tf.tile(context[:, None, None], [1, 4, 4, 1])
    np.testing.assert_allclose(network(images(), tiled), y, rtol=1e-5, atol=1e-6)
    assert np.all(np.any(network(images(), context + 1) != y, axis=(1, 2, 3)))


@classes
def test_context_of_a_larger_image_is_averaged(cls):
    network = wake(make(cls, context=[8, 12, 1]))
    context = images([3, 8, 12, 1], seed=4)
    y = network(images(), context)
    averaged = tf.reduce_mean(tf.reshape(context, [3, 4, 2, 4, 3, 1]), [2, 4])
    np.testing.assert_allclose(network(images(), averaged), y, rtol=1e-4, atol=1e-5)
    assert np.any(network(images(), context + 1) != y)


@classes
@pytest.mark.parametrize("size", [(6, 4), (4, 7), (2, 2)], ids=str)
def test_context_of_a_wrong_size_is_refused(cls, size):
    network = make(cls, context=[4, 4, 1])
    with pytest.raises(ValueError, match=r"`context` must be a vector or an image(.|\n)*x\.shape"):
        network(images(), images([3, *size, 1]))


@classes
def test_config_makes_the_same_network_again(cls):
    network = make(cls, dtype="float64")
    again = networks.build_network(cls.from_config(network.get_config()), [4, 4, 2])
    assert type(again) is cls
    for a, b in zip(network.variables, again.variables, strict=True):
        assert a.dtype == b.dtype == "float64"
        np.testing.assert_array_equal(a, b)


def coupling(cls, policy, dtype):
    network = wake(make(cls, num_outputs=4, dtype=policy))
    return bijectors.Coupling(network, [4, 4, 4], transforms.Affine(), dtype=dtype)


@classes
def test_float64_inside_a_coupling(cls):
    flow = coupling(cls, "float64", tf.float64)
    x = images([3, 4, 4, 4], "float64")
    y, log_det = evaluation.forward_and_log_det(flow, x)
    assert y.dtype == log_det.dtype == tf.float64
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-13)
    assert {v.dtype for v in flow.variables} == {tf.float64}
    assert np.any(np.asarray(y) != np.asarray(y, "float32"))  # No step went through float32.


@classes
def test_mixed_precision_inside_a_coupling(cls):
    flow = coupling(cls, "mixed_bfloat16", tf.float32)
    assert {v.dtype for v in flow.variables} == {tf.float32}
    assert flow.network.compute_dtype == "bfloat16"
    x = images([3, 4, 4, 4])
    y, log_det = evaluation.forward_and_log_det(flow, x)
    assert y.dtype == log_det.dtype == tf.float32
    # The network rounds, the flow around it does not: what it moves goes back exactly.
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-5)
    exact = coupling(cls, "float32", tf.float32).forward(x)
    difference = np.max(np.abs(exact - y))
    assert 1e-5 < difference < 0.2


@pytest.mark.parametrize("wrong", ["8", 0, 2.5, True, None])
@classes
def test_a_width_that_is_none_is_refused(cls, wrong):
    with pytest.raises(ValueError, match="`width` must be a positive integer. Received: width="):
        cls(6, **{**SMALL[cls], "width": wrong})


OF_VECTORS = {  # Of a context whose size is an argument.
    networks.GraphNet: ({"num_outputs": 2, "width": 4}, [3, 2]),
    networks.LipschitzNet: ({"num_outputs": 2, "width": 4}, [4, 4, 2]),
    networks.MaskedConvNet: ({"num_channels": 2, "width": 4}, [4, 4, 2]),
    networks.MaskedMLP: ({"num_dims": 3, "num_params": 2, "width": 4}, [3]),
    networks.VisionTransformer: ({"event_shape": [3, 2], "num_outputs": 2, "width": 4}, [3, 2]),
}


@pytest.mark.parametrize("cls", OF_VECTORS, ids=lambda c: c.__name__)
def test_a_context_that_the_network_was_not_made_for_is_refused(cls):
    """It would count for nothing, or fail where nobody knows what it is."""
    arguments, shape = OF_VECTORS[cls]
    network = networks.build_network(cls(**arguments, context_size=5), shape, [5])
    with pytest.raises(ValueError, match="`context` of .* must be given, as `context_size` is. Re"):
        network(tf.zeros([2, *shape]))
    with pytest.raises(
        ValueError, match="`context` of .* must be of size `context_size`. Received"
    ):
        network(tf.zeros([2, *shape]), tf.zeros([2, 4]))
    if cls is not networks.GraphNet:  # Its other context is a graph.
        with pytest.raises(ValueError, match="Received: context.shape=.*, context_size=None"):
            networks.build_network(cls(**arguments), shape, [5])


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


@classes
def test_channels_are_last_whatever_keras_is_told(cls, channels_first):
    context = [8, 8, 3]  # An image that is averaged down.
    network = make(cls, context=None if cls is networks.MLP else context)
    inputs = [images()] if cls is networks.MLP else [images(), images([3, *context])]
    assert network(*inputs).shape == [3, 4, 4, 6]


def test_lipschitz_nets_have_channels_last_whatever_keras_is_told(channels_first):
    network = networks.LipschitzNet(2, width=4, kernel_sizes=(3, 1, 3), seed=1)
    assert networks.build_network(network, [4, 4, 2])(images()).shape == [3, 4, 4, 2]


@pytest.mark.parametrize("activation", [None, "relu"])
def test_pointwise_convolutions_are_convolutions(activation):
    shape = [3, 4, 5, 2]
    pointwise = SeededConvs(1, keras.DTypePolicy("float32"))(6, 1, activation)
    usual = keras.layers.Conv2D(6, 1, activation=activation)
    for layer in (pointwise, usual):
        layer.build(shape)
        layer.set_weights([0.5 * np.ones([1, 1, 2, 6]) - np.eye(2, 6), np.linspace(-1, 1, 6)])
    results = []
    for layer in (pointwise, usual):
        with tf.GradientTape() as tape:
            tape.watch(x := images(shape))
            loss = tf.reduce_sum(layer(x) ** 2)
        results.append([layer(x), *tape.gradient(loss, [x, layer.kernel.value, layer.bias.value])])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
