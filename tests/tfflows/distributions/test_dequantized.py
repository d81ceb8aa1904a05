"""Dequantised images: uniform and variational noise, inverses that do not converge."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import tfflows
from tfflows import analysis, bijectors, distributions, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions
SHAPE = [4, 4, 1]


def integers(num_levels=16, batch=5, shape=SHAPE, dtype="uint8"):
    values = np.random.default_rng(0).integers(0, num_levels, [batch, *shape])
    return tf.constant(values.astype(dtype))


def normals(shape=SHAPE, loc=7.0, scale=2.0):
    return tfd.Independent(tfd.Normal(tf.fill(shape, loc), tf.fill(shape, scale)), len(shape))


def cell_log_prob(x, loc=7.0, scale=2.0):
    """The exact log-probability of unit cells under `normals`."""
    x = np.asarray(x, np.float64)
    mass = stats.norm.cdf(x + 1, loc, scale) - stats.norm.cdf(x, loc, scale)
    return np.log(mass).sum(axis=(1, 2, 3))


# Uniform dequantisation.


@pytest.mark.parametrize("shape", [[4, 4, 1], [2, 2, 3]])
def test_uniform_noise_of_256_levels_has_8_bits_per_dim(shape):
    density = tfd.Independent(tfd.Uniform(tf.zeros(shape), tf.fill(shape, 256.0)), 3)
    model = distributions.Dequantized(density)
    log_prob = model.log_prob(integers(256, shape=shape), seed=[1, 1])
    bits = analysis.bits_per_dim(log_prob, math.prod(shape))
    np.testing.assert_allclose(bits, np.full(5, 8.0), rtol=1e-6)


def test_an_integer_seed_gives_the_same_noise_at_every_call():
    model = distributions.Dequantized(normals(), num_levels=16)
    x = integers()
    np.testing.assert_array_equal(model.log_prob(x, seed=1), model.log_prob(x, seed=1))
    np.testing.assert_array_equal(*(model.dequantize(x, seed=2)[0] for _ in range(2)))
    assert np.any(model.log_prob(x, seed=1) != model.log_prob(x, seed=2))
    assert np.any(model.log_prob(x) != model.log_prob(x))


def test_log_prob_is_a_bound_and_importance_sampling_approaches_the_probability():
    model = distributions.Dequantized(normals(), num_levels=16)
    x = integers()
    exact = cell_log_prob(x)
    run = tf.function(model.importance_log_prob, autograph=False)
    bound = np.mean([model.log_prob(x, seed=[1, k]) for k in range(100)], axis=0)
    tighter = np.mean([run(x, 10, seed=tf.constant([2, k])) for k in range(100)], axis=0)
    many = run(x, 3000, seed=tf.constant([3, 0]))
    assert np.all(bound < tighter)
    assert np.mean(tighter) < np.mean(exact)
    np.testing.assert_allclose(many, exact, atol=0.1)
    assert np.all(exact - bound > 0.1)  # Or else the last line would have shown nothing.


def test_importance_samples_differ_from_each_other():
    model = distributions.Dequantized(normals(), num_levels=16)
    x = integers()
    one = model.importance_log_prob(x, 1, seed=[3, 4])
    np.testing.assert_array_equal(one, model.log_prob(x, seed=[3, 4]))
    # K equal samples would give the value of one.
    assert np.all(np.abs(model.importance_log_prob(x, 2, seed=[3, 4]) - one) > 1e-4)
    with pytest.raises(ValueError, match=r"`num_samples` must be at least 1\. .*num_samples=0"):
        model.importance_log_prob(x, 0)


def test_noise_is_uniform_and_follows_from_the_seed():
    model = distributions.Dequantized(normals(), num_levels=16)
    x = integers(batch=500)
    v, log_q = model.dequantize(x, seed=[1, 2])
    u = (v - tf.cast(x, tf.float32)).numpy()
    assert log_q == 0.0
    assert stats.kstest(u.ravel(), "uniform").pvalue > 0.01
    np.testing.assert_array_equal(v, model.dequantize(x, seed=[1, 2])[0])
    assert np.any(v != model.dequantize(x, seed=[1, 3])[0])
    np.testing.assert_array_equal(model.log_prob(x, seed=[5, 1]), model.log_prob(x, seed=[5, 1]))
    assert np.any(model.log_prob(x, seed=[5, 1]) != model.log_prob(x, seed=[5, 2]))


@pytest.mark.parametrize(
    ("num_levels", "dtype"), [(16, tf.uint8), (256, tf.uint8), (1000, tf.int32)]
)
def test_samples_are_integers_in_range(num_levels, dtype):
    # A density so wide that most of it lies outside of the range.
    model = distributions.Dequantized(normals(scale=1000.0), num_levels=num_levels)
    assert model.dtype == dtype
    assert model.event_shape == SHAPE
    assert model.batch_shape == []
    x = model.sample([3, 50], seed=[1, 2])
    assert x.dtype == dtype
    assert x.shape == [3, 50, *SHAPE]
    assert np.min(x) == 0
    assert np.max(x) == num_levels - 1
    np.testing.assert_array_equal(x, model.sample([3, 50], seed=[1, 2]))


def test_samples_have_the_probabilities_of_the_cells():
    model = distributions.Dequantized(normals([1, 1, 1]), num_levels=16)
    draws = np.ravel(model.sample(20_000, seed=[1, 1]))
    frequency = np.bincount(draws, minlength=16) / len(draws)
    probability = np.exp(cell_log_prob(np.arange(16).reshape(16, 1, 1, 1)))
    np.testing.assert_allclose(frequency[1:15], probability[1:15], atol=0.012)


def test_real_values_go_to_their_cells():
    model = distributions.Dequantized(normals(), num_levels=16)
    values = tf.constant([-3.0, 0.0, 0.999, 7.5, 15.999, 16.0, 99.0])
    np.testing.assert_array_equal(model.to_integers(values), [0, 0, 0, 7, 15, 15, 15])


# An inverse that does not converge.


def half_converged():
    """A density whose inverse has two steps, in which it converges for some of the samples."""

    def f(u):
        return 0.99 * tf.tanh(u), 0.99 * (1 - tf.tanh(u) ** 2)

    flow = bijectors.Sylvester(
        bijectors.Flip(axis=()), f, event_shape=(2, 2, 1), max_iterations=2, tolerance=1e-3
    )
    base = normals([2, 2, 1], loc=4.0, scale=2.0)
    return tfd.TransformedDistribution(base, tfb.Invert(flow))


def failures(density):
    """Which of 20 samples have a NaN."""
    failed = np.isnan(density.sample(20, seed=[1, 2])).any(axis=(1, 2, 3))
    assert 0 < failed.sum() < 20  # Or else the tests below would show nothing.
    return failed


@pytest.mark.parametrize("num_levels", [16, 256, 1000])
def test_a_sample_that_did_not_converge_is_an_error_that_counts(num_levels):
    density = half_converged()
    model = distributions.Dequantized(density, num_levels=num_levels)
    expected = rf"{failures(density).sum()} of 20 images have NaNs.*`max_iterations`"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        model.sample(20, seed=[1, 2])


def test_a_graph_asserts_that_samples_converged():
    density = half_converged()
    model = distributions.Dequantized(density, num_levels=16)
    sample = tf.function(lambda: model.sample(20, seed=[1, 2]), autograph=False)
    expected = rf"\[{failures(density).sum()}\] \[of\] \[20\] \[images have NaNs"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        sample()


@pytest.mark.parametrize(("num_levels", "mark"), [(16, 255), (256, 255), (1000, 2**31 - 1)])
def test_xla_marks_all_of_a_sample_that_did_not_converge(num_levels, mark):
    density = half_converged()
    model = distributions.Dequantized(density, num_levels=num_levels)

    @tf.function(autograph=False, jit_compile=True)
    def compiled():  # Both: XLA's random numbers are others.
        return model.sample(20, seed=[1, 2]), density.sample(20, seed=[1, 2])

    draws, real = (x.numpy() for x in compiled())
    failed = np.isnan(real).any(axis=(1, 2, 3))
    assert 0 < failed.sum() < 20
    assert np.all(draws[failed] == mark)
    np.testing.assert_array_equal(draws[~failed], model.to_integers(real[~failed]))
    assert np.all(draws[~failed] < 16)


def test_one_nan_fails_the_whole_image_and_infinities_go_to_the_ends():
    model = distributions.Dequantized(normals(), num_levels=16)
    v = np.full([3, *SHAPE], 7.5, np.float32)
    v[1, 2, 3, 0] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 of 3 images"):
        model.to_integers(v)
    v[1, 2, 3, 0], v[2, 0, 0, 0] = np.inf, -np.inf
    x = model.to_integers(v).numpy()
    assert (x[1, 2, 3, 0], x[2, 0, 0, 0], x[0, 0, 0, 0]) == (15, 0, 7)


# Variational dequantisation.


class Coupled(tf.Module):
    """A network of one weight each for the input and the context."""

    def __init__(self, channels):
        super().__init__()
        self.weight = tf.Variable(tf.fill([1], 0.3))
        self.channels = channels

    def __call__(self, a, context):
        h = self.weight * (a + tf.reduce_mean(context, -1, keepdims=True))
        return tf.concat([h, 0.5 * h], axis=-1)


def flow_dequantizer():
    """Noise whose second row is moved by the first and by features of the image."""
    coupling = bijectors.Coupling(
        Coupled(1), [2, 2, 2], transforms.Affine(), conditional=True, context_ndims=3
    )
    flow = bijectors.Sequential(
        [
            tfb.Reshape([2, 2, 2], [2, 4, 1]),
            coupling,
            tfb.Reshape([2, 4, 1], [2, 2, 2]),
            tfb.Scale(1.7),  # Then nearly uniform.
            tfb.Sigmoid(),
        ]
    )
    base = distributions.standard_normal([2, 4, 1])
    context_network = networks.ConvNet(3, width=4, seed=1)
    networks.build_network(context_network, [2, 4, 1])
    kernel = context_network.layers[-1].kernel
    kernel.assign(np.random.default_rng(0).normal(0, 0.5, kernel.shape))

    class Halved(tf.keras.layers.Layer):
        """The features at every other column."""

        def __init__(self):
            super().__init__()
            self.inner = context_network
            self.built = True

        def call(self, x):
            return self.inner(x)[:, :, ::2]

    noise = tfd.TransformedDistribution(base, flow)
    return distributions.FlowDequantizer(noise, Halved(), num_levels=16)


@pytest.fixture(scope="module")
def variational():
    return distributions.Dequantized(
        normals([2, 4, 1]), dequantizer=flow_dequantizer(), num_levels=16
    )


def test_variational_noise_lies_in_the_cell_and_has_the_flow_s_density(variational):
    x = integers(shape=[2, 4, 1])
    v, log_q = variational.dequantize(x, seed=[1, 1])
    u = v - tf.cast(x, tf.float32)
    assert np.all(u > 0) and np.all(u < 1)
    density = variational.dequantizer(tf.cast(x, tf.float32))
    assert density.batch_shape == [5]
    # u is x + u - x, rounded, and the logit of it magnifies that.
    np.testing.assert_allclose(log_q, density.log_prob(u), rtol=1e-3, atol=1e-3)
    expected = variational.distribution.log_prob(v) - log_q
    np.testing.assert_allclose(variational.log_prob(x, seed=[1, 1]), expected, rtol=1e-5)
    # The noise depends on the image.
    other = variational.dequantizer(15.0 - tf.cast(x, tf.float32)).log_prob(u)
    assert np.all(np.abs(other - log_q) > 1e-3)


def test_variational_importance_sampling_approaches_the_probability(variational):
    x = integers(shape=[2, 4, 1])
    run = tf.function(variational.importance_log_prob, autograph=False)
    many = run(x, 2000, seed=tf.constant([1, 2]))
    np.testing.assert_allclose(many, cell_log_prob(x), atol=0.3)
    bound = np.mean([run(x, 1, seed=tf.constant([3, k])) for k in range(50)], axis=0)
    assert np.all(bound < cell_log_prob(x))


def test_variables_of_the_dequantizer_are_trained(variational):
    dequantizer = variational.dequantizer
    variables = {v.ref() for v in variational.trainable_variables}
    assert len(variables) == 7  # Six of the context network, one of the coupling.
    assert variables == {v.ref() for v in dequantizer.trainable_variables}
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(variational.log_prob(integers(shape=[2, 4, 1]), seed=[1, 1]))
    for gradient in tape.gradient(loss, variational.trainable_variables):
        assert np.any(gradient != 0)


def test_variational_dequantisation_takes_any_batch_shape(variational):
    x = tf.reshape(integers(batch=6, shape=[2, 4, 1]), [3, 2, 2, 4, 1])
    assert variational.log_prob(x, seed=[1, 1]).shape == [3, 2]
    assert variational.log_prob(x[0, 0], seed=[1, 1]).shape == []


# Rows, some of whose entries are integers.


def rows_of_integers():
    density = tfd.Independent(tfd.Normal([1.0, 20.0, -3.0], [2.0, 5.0, 0.5]), 1)
    return distributions.Dequantized(density, num_levels=None, entries=[False, True, True])


def test_rows_have_a_mass_in_integers_and_a_density_in_others():
    rows = rows_of_integers()
    x = np.array([[1.3, 17.0, -3.0], [-2.0, 25.0, -4.0]], np.float32)
    expected = stats.norm.logpdf(x[:, 0], 1, 2)
    for column, loc, scale in ((1, 20, 5), (2, -3, 0.5)):
        mass = stats.norm.cdf(x[:, column] + 1, loc, scale) - stats.norm.cdf(
            x[:, column], loc, scale
        )
        expected += np.log(mass)
    bounds = rows.log_prob(np.repeat(x[np.newaxis], 20_000, axis=0), seed=1).numpy()
    assert np.all(bounds.mean(axis=0) < expected)
    np.testing.assert_allclose(np.log(np.exp(bounds).mean(axis=0)), expected, atol=0.02)
    tighter = rows.importance_log_prob(x, 30, seed=1)
    np.testing.assert_allclose(tighter, expected, atol=0.5)
    noisy, log_q = rows.dequantize(x, seed=3)
    assert log_q == 0
    np.testing.assert_array_equal(noisy[:, 0], x[:, 0])
    np.testing.assert_array_equal(rows.to_integers(noisy), x)
    draws = rows.sample(100, seed=1).numpy()
    assert draws.dtype == np.float32
    np.testing.assert_array_equal(draws[:, 1:], np.round(draws[:, 1:]))
    assert np.any(draws[:, 0] != np.round(draws[:, 0]))


def test_rows_without_integers_where_they_must_be_are_refused():
    rows, x = (
        rows_of_integers(),
        tf.constant([[0.5, 1.0, 2.0], [0.5, 1.5, 2.0], [0.5, 1.0, math.nan]]),
    )
    match = r"integers in these entries of an event: 1, 2.*Received: 2 of 3.*number 1\."
    with pytest.raises(ValueError, match=match):
        rows.log_prob(x, seed=1)
    with pytest.raises(ValueError, match=match):
        rows.check(x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="integers in these entries"):
        tf.function(lambda x: rows.log_prob(x, seed=1))(x)
    found = tf.function(lambda x: rows.log_prob(x, seed=1), jit_compile=True)(x)
    np.testing.assert_array_equal(np.isfinite(found), [True, False, False])
    model = tfflows.FlowModel(rows, units="nats")
    model.compile("adam")
    with pytest.raises(ValueError, match=r"^`x` must have integers in these entries .* before\.$"):
        model.evaluate(x, verbose=0)


@pytest.mark.parametrize(
    "options",
    [
        {"entries": [True, False, False]},
        {"num_levels": None},
        {"num_levels": None, "entries": [True]},
        {"num_levels": None, "entries": [True] * 3, "dequantizer": lambda x: x},
    ],
    ids=" ".join,
)
def test_entries_are_those_of_an_event(options):
    density = tfd.Independent(tfd.Normal([0.0] * 3, 1.0), 1)
    with pytest.raises(ValueError, match=r"`\w+`.* must be.*Received: "):
        distributions.Dequantized(density, **options)
