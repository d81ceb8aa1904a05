"""Transforms: order of parameters, hats, splines, functions; no coupling lacks an inverse."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, evaluation, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors


@pytest.mark.parametrize(
    "scale", ["tanh", "sigmoid", "double_sigmoid", "exp", None, transforms.MexicanHatScale(3, 0.1)]
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


def test_twice_a_sigmoid_is_1_at_0_and_below_2():
    parameters = tf.constant([[[0.0, h]] for h in (0.0, 1.0, 50.0)])
    y, log_slope = transforms.Affine("double_sigmoid").move(tf.ones([3, 1]), parameters, False)
    expected = [1.0, 2 / (1 + np.exp(-1)), 2.0]
    np.testing.assert_allclose(y[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(log_slope[:, 0], np.log(expected), atol=1e-6)


def test_gain_is_a_factor_on_the_parameters():
    x = tf.random.stateless_normal([5, 4], [0, 2])
    parameters = tf.random.stateless_normal([5, 4, 2], [0, 1])
    for one, two in zip(
        transforms.Affine("exp", gain=0.25).move(x, parameters, inverse=False),
        transforms.Affine("exp").move(x, parameters / 4, inverse=False),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
    assert transforms.Affine(gain=0.5) != transforms.Affine()
    with pytest.raises(ValueError, match="`gain` must be positive and finite. Received: gain=0"):
        transforms.Affine(gain=0)


def test_shift_first():
    """`z = (x - b) exp(-a)` of transformer flows, for `b = -t` and `a = -h`."""
    x = tf.random.stateless_normal([5, 4], [0, 2])
    parameters = tf.random.stateless_normal([5, 4, 2], [0, 1])
    affine = transforms.Affine("exp", gain=0.5, shift_first=True)
    y, log_slope = affine.move(x, parameters, inverse=False)
    t, h = tf.unstack(parameters / 2, axis=-1)
    np.testing.assert_allclose(y, (x + t) * tf.exp(h), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(log_slope, h)
    np.testing.assert_allclose(affine.move(y, parameters, inverse=True)[0], x, atol=1e-5)
    shift = transforms.Affine(None, shift_first=True)
    np.testing.assert_array_equal(shift.move(x, x[..., None], inverse=False)[0], 2 * x)


def test_soft_clip_is_bounded_and_near_the_identity():
    h = tf.constant([-1e6, -0.01, 0.0, 0.01, 1e6])
    np.testing.assert_allclose(transforms.SoftClip(3.0)(h), [-3, -0.01, 0, 0.01, 3], rtol=1e-5)
    assert transforms.SoftClip(3.0) == transforms.SoftClip(3.0) != transforms.SoftClip(2.0)
    for bound in (0, -1, float("nan"), float("inf"), "2"):
        with pytest.raises(ValueError, match="`bound` must be positive and finite. Received: b"):
            transforms.SoftClip(bound)


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
    assert transforms.LogisticMixture() == transforms.LogisticMixture(4)
    assert transforms.LogisticMixture(3) != transforms.LogisticMixture(4)
    hats = [transforms.Affine(transforms.MexicanHatScale(2, value)) for value in (0.1, 0.1, 0.2)]
    assert hats[0] == hats[1] != hats[2]


def test_coupling_is_exactly_the_identity_outside_of_the_box():
    rng = np.random.default_rng(7)
    h = tf.constant(3 * rng.normal(size=[200, 2 * 23]), tf.float32)
    x = np.float32(rng.uniform(3, 9, [200, 2]) * rng.choice([-1, 1], [200, 2]))
    x[:4] = [[3, -3], [1e38, -1e38], [np.inf, -np.inf], [3 + 1e-6, -3 - 1e-6]]
    flow = bijectors.Coupling(lambda a: h, [4], transforms.RationalQuadratic())

    def run(x, h, inverse):
        with tf.GradientTape() as tape:
            tape.watch([x, h])
            y, log_slope = flow.transform.move_channels(x, h, inverse)
            loss = 2 * tf.reduce_sum(y) + tf.reduce_sum(log_slope)
        return y, log_slope, *tape.gradient(loss, [x, h])

    for function in (run, tf.function(run)):  # Eager mode has other gradients than graphs.
        for inverse in (False, True):
            y, log_slope, g_x, g_h = function(tf.constant(x), h, inverse)
            np.testing.assert_array_equal(y, x)
            np.testing.assert_array_equal(log_slope, 0)
            np.testing.assert_array_equal(g_x, 2)
            np.testing.assert_array_equal(g_h, 0)
    # Not a number is not outside.
    assert np.all(np.isnan(run(tf.fill([200, 2], np.float32(np.nan)), h, False)[1]))


def test_coupling_agrees_with_tfp():
    bins, rng = 6, np.random.default_rng(3)
    h = rng.normal(size=[5, 2 * (3 * bins - 1)])
    flow = bijectors.Coupling(
        lambda a: tf.constant(h),
        [3],
        transforms.RationalQuadratic(bins, 2.0),
        dtype=tf.float64,
    )
    x = tf.constant(rng.uniform(-3, 3, [5, 3]))
    widths, heights, slopes = np.split(h.reshape([5, 2, -1]), [bins, 2 * bins], axis=-1)
    free = 1 - 1e-3 * bins
    reference = tfb.RationalQuadraticSpline(
        bin_widths=2 * 2.0 * (1e-3 + free * tf.nn.softmax(widths)),
        bin_heights=2 * 2.0 * (1e-3 + free * tf.nn.softmax(heights)),
        knot_slopes=1e-3 + tf.nn.softplus(slopes + np.log(np.expm1(1 - 1e-3))),
        range_min=-2.0,
    )
    y = flow.forward(x)
    np.testing.assert_allclose(y[:, 1:], reference.forward(x[:, 1:]), atol=1e-10)
    np.testing.assert_allclose(
        flow.forward_log_det_jacobian(x, 1),
        reference.forward_log_det_jacobian(x[:, 1:], 1),
        atol=1e-9,
    )


def test_coupling_is_the_identity_for_a_network_of_zeros():
    flow = bijectors.Coupling(lambda a: tf.zeros([4, 2 * 23]), [4], transforms.RationalQuadratic())
    x = tf.random.stateless_normal([4, 4], [1, 1]) * 3
    np.testing.assert_allclose(flow.forward(x), x, atol=1e-6)
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x, 1), np.zeros(4), atol=1e-5)


def test_a_mixture_of_logistics_is_followed_by_an_affine_map():
    mixture, x = transforms.LogisticMixture(2), tf.random.stateless_normal([5, 4], [0, 2])
    parameters = tf.random.stateless_normal([5, 4, mixture.num_parameters], [0, 1])
    alone = tf.concat([tf.zeros([5, 4, 2]), parameters[..., 2:]], axis=-1)
    z, log_slope = mixture.move(x, alone, inverse=False)
    y, log_scale = transforms.Affine().move(z, parameters[..., :2], inverse=False)
    found = mixture.move(x, parameters, inverse=False)
    np.testing.assert_allclose(found[0], y, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1], log_slope + log_scale, rtol=1e-6, atol=1e-6)
    back = mixture.move(y, parameters, inverse=True)
    np.testing.assert_allclose(back[0], x, atol=1e-5)
    np.testing.assert_allclose(back[1], -found[1], atol=1e-5)
    for count in (0, -1, 2.5, True, "4"):
        with pytest.raises(ValueError, match="`num_components` must be a positive integer. Rec"):
            transforms.LogisticMixture(count)


def test_range_of_the_hat_is_not_what_the_paper_prints():
    hat = transforms.MexicanHatScale(1, 0.0)
    h = tf.constant(np.linspace(-10, 10, 100_001)[:, None])
    log_scale = hat(h)
    assert np.max(log_scale) == pytest.approx(transforms.MexicanHatScale.highest, abs=1e-6)
    assert np.min(log_scale) == pytest.approx(transforms.MexicanHatScale.lowest, abs=1e-6)
    assert math.exp(transforms.MexicanHatScale.lowest) == pytest.approx(0.640, abs=1e-3)
    assert math.exp(transforms.MexicanHatScale.highest) == pytest.approx(2.718, abs=1e-3)


@pytest.mark.parametrize("num_inputs", [1, 2, 4, 7])
@pytest.mark.parametrize("log_scale", [-0.3, 0.0, 0.35, 0.69])
def test_the_hat_starts_where_it_is_told_to_on_usable_slopes(num_inputs, log_scale):
    hat = transforms.MexicanHatScale(num_inputs, log_scale)
    h = tf.zeros([1, num_inputs], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(h)
        start = hat(h)
    assert float(start[0, 0]) == pytest.approx(log_scale, abs=1e-9)
    slopes = num_inputs * tape.gradient(start, h)[0].numpy()
    # The steepest slope of a hat is 1.38.
    assert np.all(np.abs(slopes) > 0.03) or num_inputs == 1
    assert np.abs(slopes).mean() > 0.5
    if num_inputs > 1:
        assert slopes.min() < 0 < slopes.max()  # On both flanks.


def test_a_hat_that_could_not_be_trained_is_refused():
    with pytest.raises(ValueError, match="`log_scale` must be between"):
        transforms.MexicanHatScale(2, 0.999)
    with pytest.raises(ValueError, match="`log_scale` must be between"):
        transforms.MexicanHatScale(2, -0.446)


@pytest.mark.parametrize(
    "scale", ["sigmoid", "double_sigmoid", transforms.MexicanHatScale(1, 0.0), "tanh"]
)
@pytest.mark.parametrize("output", [-60.0, -88.0, -200.0, -1e30, 1e30])
def test_no_output_of_a_network_leaves_a_coupling_without_inverse(scale, output):
    def network(a):
        return tf.stack([tf.zeros_like(a[:, 0]), tf.fill(tf.shape(a)[:1], output)], axis=-1)

    flow = bijectors.Coupling(network, [2], transforms.Affine(scale))
    x = tf.constant([[0.3, -1.5], [2.0, 4.0]])
    y, log_det = evaluation.forward_and_log_det(flow, x)
    back, back_log_det = evaluation.inverse_and_log_det(flow, tf.identity(y))
    np.testing.assert_allclose(back, x, rtol=1e-5)
    np.testing.assert_allclose(y[:, 1] / x[:, 1], np.exp(log_det), rtol=1e-5)
    np.testing.assert_allclose(back_log_det, -log_det, rtol=1e-5)
