"""WoodburyConv against a product of changes of low rank, its errors."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.bijectors.mixing_convs import dense, woodbury
from tfflows import bijectors


@pytest.mark.parametrize("channel_rank", [None, 1, 5])
def test_woodbury_is_a_kronecker_product_of_changes_of_low_rank(channel_rank):
    flow = woodbury(rank=2, channel_rank=channel_rank)
    u, v, *channel = (variable.numpy() for variable in flow.trainable_variables)
    if channel_rank is None:
        channel = np.zeros([2, 1]), np.zeros([1, 2])
    else:  # `tf.Module` lists variables by attribute.
        channel, (u, v) = (u, v), channel
    pixels = np.eye(12) + u.reshape(12, 2) @ v.reshape(2, 12)
    expected = np.kron(pixels, (np.eye(2) + channel[0] @ channel[1]).T)
    np.testing.assert_allclose(dense(flow, [3, 4, 2]), expected, atol=1e-14)
    log_det = flow.forward_log_det_jacobian(np.zeros([1, 3, 4, 2]))
    np.testing.assert_allclose(log_det, np.linalg.slogdet(expected)[1], atol=1e-12)
    x = np.random.default_rng(0).normal(size=[3, 3, 4, 2])
    solved = np.linalg.solve(expected, x.reshape(3, -1).T).T
    np.testing.assert_allclose(np.reshape(flow.inverse(x), [3, -1]), solved, atol=1e-12)


def test_woodbury_rank_is_at_most_the_number_of_pixels():
    flow = bijectors.WoodburyConv.trainable([2, 3, 4], seed=1)
    assert [tuple(v.shape) for v in flow.trainable_variables] == [(2, 3, 6), (6, 2, 3)]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {"spatial_u": [3, 4, 2], "spatial_v": [2, 4, 3]},
            r"`spatial_u` and `spatial_v` must have shapes \[H, W, d\] and \[d, H, W\]. Received: "
            r"spatial_u.shape=\(3, 4, 2\), spatial_v.shape=\(2, 4, 3\)",
        ),
        ({"spatial_u": [3, 4], "spatial_v": [4, 3]}, "`spatial_u` and `spatial_v` must"),
        (
            {"spatial_u": [3, 4, 2], "spatial_v": [2, 3, 4], "channel_u": [5, 2]},
            r"`channel_u` and `channel_v` must have shapes \[C, d\] .*channel_v.shape=None",
        ),
    ],
)
def test_bad_woodbury_factors(shapes, message):
    with pytest.raises(ValueError, match=message):
        bijectors.WoodburyConv(**{key: tf.zeros(shape) for key, shape in shapes.items()})
