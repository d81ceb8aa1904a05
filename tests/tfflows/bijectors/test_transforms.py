"""Transforms: channels and entries are the same parameters in another order; functions will do."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors


@pytest.mark.parametrize(
    "scale", ["tanh", "sigmoid", "exp", None, transforms.MexicanHatScale(3, 0.1)]
)
def test_channels_of_an_affine_transform_are_its_parameters_first_one_first(scale):
    affine = transforms.Affine(scale)
    parameters = tf.random.stateless_normal([5, 4, affine.num_parameters], [0, 1])
    channels = tf.reshape(tf.linalg.matrix_transpose(parameters), [5, -1])
    x = tf.random.stateless_normal([5, 4], [0, 2])
    for inverse in (False, True):
        for one, two in zip(
            affine.move(x, parameters, inverse),
            affine.move_channels(x, channels, inverse),
            strict=True,
        ):
            np.testing.assert_array_equal(one, two)


def mixture(h):
    """A mixture of logistics, as a distribution function followed by a normal quantile."""
    logits, means, scales = tf.split(h, 3, axis=-1)
    components = tfp.distributions.Logistic(means, tf.exp(scales))
    family = tfp.distributions.Categorical(logits)
    cdf = tfb.Inline(
        forward_fn=tfp.distributions.MixtureSameFamily(family, components).cdf,
        forward_log_det_jacobian_fn=tfp.distributions.MixtureSameFamily(
            family, components
        ).log_prob,
        forward_min_event_ndims=0,
        is_increasing=True,
    )
    return tfb.Chain([tfb.Invert(tfb.NormalCDF()), cdf])


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda h: tfb.SinhArcsinh(h[..., 0], tf.exp(h[..., 1])), 2),
        (lambda h: tfb.Softplus(hinge_softness=tf.exp(h[..., 0])), 1),
        (mixture, 6),
    ],
    ids=["sinh_arcsinh", "softplus", "mixture_of_logistics"],
)
def test_a_function_that_returns_a_scalar_bijector(function, count):
    network = networks.build_network(networks.MLP(2 * count, width=8, seed=1), [2])
    for number, variable in enumerate(network.trainable_variables):
        variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, [1, number]))
    flow = bijectors.Coupling(network, [4], function)
    x = tf.random.stateless_normal([3, 4], [0, 1])
    y, log_det = flow.forward(x), flow.forward_log_det_jacobian(x)
    h = tf.reshape(network(x[:, :2]), [3, 2, count])
    scalar = function(h)
    np.testing.assert_allclose(y[:, :2], x[:, :2])
    np.testing.assert_allclose(y[:, 2:], scalar.forward(x[:, 2:]), rtol=1e-5)
    expected = tf.reduce_sum(scalar.forward_log_det_jacobian(x[:, 2:], 0), axis=-1)
    np.testing.assert_allclose(log_det, expected, rtol=1e-5)
    if function is not mixture:  # Which has no inverse in closed form.
        np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-5)


@pytest.mark.parametrize("value", ["affine", None, transforms.Affine, 3])
def test_what_is_no_transform(value):
    with pytest.raises(TypeError, match="`transform` must be a `Transform`, such as"):
        bijectors.Coupling(lambda a: a, [4], value)


def test_channels_that_do_not_divide():
    flow = bijectors.Coupling(lambda a: tf.ones([3, 5]), [4], lambda h: tfb.Shift(h[..., 0]))
    with pytest.raises(ValueError, match="must return a multiple of 2 channels to move 2"):
        flow.forward(tf.ones([3, 4]))


def test_transforms_that_do_the_same_are_equal():
    """So that layers that have them are alike, see `Repeat`."""
    assert transforms.Affine() == transforms.Affine("tanh") != transforms.Affine("exp")
    assert transforms.RationalQuadratic(8) != transforms.RationalQuadratic(8, bound=4.0)
    hats = [transforms.Affine(transforms.MexicanHatScale(2, value)) for value in (0.1, 0.1, 0.2)]
    assert hats[0] == hats[1] != hats[2]
