"""Columns of tables: densities in their own units, bounds, simplexes."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, distributions

tfb = tfp.bijectors
tfd = tfp.distributions
INF = np.inf


def density(flow, size):
    return tfd.TransformedDistribution(distributions.standard_normal([size]), tfb.Invert(flow))


def test_densities_of_bounded_columns_are_those_of_their_families():
    flow = bijectors.NormalizeColumns(
        [3.0, 0.5, -1.0, 0.2],
        [2.0, 0.7, 1.5, 0.3],
        low=[-INF, 0.0, 2.0, -INF],
        high=[INF, INF, 10.0, 0.0],
    )
    x = np.array([[1.0, 0.3, 2.5, -3.0], [7.0, 9.0, 9.9, -0.1]], np.float32)
    expected = tfd.Normal(3.0, 2.0).log_prob(x[:, 0])
    expected += tfd.LogNormal(0.5, 0.7).log_prob(x[:, 1])
    expected += tfd.LogitNormal(-1.0, 1.5).log_prob((x[:, 2] - 2) / 8) - np.log(8.0)
    expected += tfd.LogNormal(-0.2, 0.3).log_prob(-x[:, 3])
    np.testing.assert_allclose(density(flow, 4).log_prob(x), expected, rtol=1e-5)
    draws = density(flow, 4).sample(1000, seed=1).numpy()
    assert np.all(draws > [-INF, 0, 2, -INF])
    assert np.all(draws < [INF, INF, 10, 0])


def test_a_simplex_has_a_density_over_its_first_columns():
    flow = bijectors.NormalizeColumns(
        [0.3, 5.0, -0.4, 9.0],
        [0.8, 2.0, 1.1, 9.0],
        low=[0.0, -INF, 0.0, 0.0],
        high=[100.0, INF, 100.0, 100.0],
        simplexes=[[0, 2, 3]],
    )
    assert flow.forward_event_shape([4]) == [3]
    assert flow.inverse_event_shape([3]) == [4]
    model = density(flow, 3)
    draws = model.sample(50, seed=1)
    np.testing.assert_allclose(tf.reduce_sum(tf.gather(draws, [0, 2, 3], axis=-1), -1), 100.0, 1e-5)
    np.testing.assert_allclose(flow.inverse(flow.forward(draws)), draws, rtol=1e-4)
    # The mass over the plane of the first two columns, the other one in the middle.
    sides = (np.arange(400) + 0.5) / 4
    one, two = (side.ravel() for side in np.meshgrid(sides, sides))
    inside = one + two < 100
    one, two = one[inside], two[inside]
    grid = np.stack([one, np.full_like(one, 5.0), two, 100 - one - two], axis=-1)
    log_prob = model.log_prob(tf.constant(grid, tf.float32)) - tfd.Normal(5.0, 2.0).log_prob(5.0)
    assert np.exp(log_prob).sum() / 16 == pytest.approx(1, abs=2e-3)
    # In double precision against the Jacobian of the columns that stay.
    x = tf.constant(grid[::5000], tf.float64)

    def forward(kept):
        last = 100 - kept[..., :1] - kept[..., 2:]
        return flow.forward(tf.concat([kept, last], axis=-1))

    with tf.GradientTape() as tape:
        kept = x[:, :3]
        tape.watch(kept)
        y = forward(kept)
    expected = np.linalg.slogdet(tape.batch_jacobian(y, kept))[1]
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x, 1), expected, rtol=1e-9)
    np.testing.assert_allclose(flow.inverse_log_det_jacobian(y, 1), -expected, rtol=1e-9)


def test_beyond_the_bounds_the_density_is_zero_and_at_them_it_is_finite():
    flow = bijectors.NormalizeColumns([0.0, 0.0], [1.0, 1.0], low=[0.0, 5.0], high=[INF, 6.0])
    x = tf.constant([[0.0, 5.5], [1.0, 5.0], [1.0, 6.0], [-1e-3, 5.5], [1.0, 6.001], [1.0, 4.0]])
    found = density(flow, 2).log_prob(x).numpy()
    assert np.isfinite(found[:3]).all()
    np.testing.assert_array_equal(found[3:], -INF)
    parts = bijectors.NormalizeColumns(
        [0.0] * 3, [1.0] * 3, low=[0.0] * 3, high=[1.0] * 3, simplexes=[[0, 1, 2]]
    )
    x = tf.constant([[0.2, 0.3, 0.5], [0.2, 0.3, 0.6], [-0.1, 0.6, 0.5]])
    np.testing.assert_array_equal(np.isfinite(density(parts, 2).log_prob(x)), [True, False, False])


def test_values_far_out_keep_finite_gradients():
    flow = bijectors.NormalizeColumns(
        [0.0] * 3, [1.0] * 3, low=[0.0, -INF, 0.0], high=[1, INF, INF]
    )
    z = tf.constant([[200.0, 200.0, 1.0], [-200.0, -200.0, -50.0]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        total = tf.reduce_sum(flow.inverse(z)) + tf.reduce_sum(flow.inverse_log_det_jacobian(z, 1))
    assert np.isfinite(tape.gradient(total, z)).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"loc": []},
        {"scale": [1.0, 0.0]},
        {"scale": [1.0]},
        {"loc": [0.0, np.nan]},
        {"low": [0.0, 1.0], "high": [1.0, 1.0]},
        {"simplexes": [[0, 1]]},
        {"simplexes": [[0, 2]], "high": [1.0, 1.0]},
        {"simplexes": [[0]], "high": [1.0, 1.0]},
        {"simplexes": [[0, 1], [1, 0]], "high": [1.0, 1.0]},
        {"simplexes": [[0, 1]], "high": [1.0, 2.0]},
    ],
    ids=str,
)
def test_what_is_no_table_is_refused(changes):
    with pytest.raises(ValueError, match=r"`\w+`.* must .*Received: "):
        bijectors.NormalizeColumns(**{"loc": [0.0, 0.0], "scale": [1.0, 1.0], **changes})
