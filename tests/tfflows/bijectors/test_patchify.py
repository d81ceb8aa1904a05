"""Patchify and the orders of tokens: where every pixel goes."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors


@pytest.mark.parametrize(("patch", "sides"), [(2, (2, 2)), ((3, 2), (3, 2)), ((1, 8), (1, 8))])
def test_where_every_pixel_goes(patch, sides):
    image = np.arange(6 * 8 * 3, dtype="float32").reshape(6, 8, 3)
    flow = bijectors.Patchify([6, 8, 3], patch)
    tokens = flow.forward(image)
    assert tokens.shape == flow.token_shape == [48 // np.prod(sides), 3 * np.prod(sides)]
    assert flow.grid == (6 // sides[0], 8 // sides[1])
    for y, x, c in np.ndindex(6, 8, 3):
        token = y // sides[0] * flow.grid[1] + x // sides[1]
        channel = (y % sides[0] * sides[1] + x % sides[1]) * 3 + c
        assert tokens[token, channel] == image[y, x, c]
    np.testing.assert_array_equal(flow.inverse(tf.identity(tokens)), image)


@pytest.mark.parametrize("patch", [0, -2, 4, True, 2.0, "2", None, (2,), (2, 2, 2), (2, 5)])
def test_patches_that_do_not_fit(patch):
    with pytest.raises(ValueError, match=r"`patch` must be .* divide the sides.*Received: patch="):
        bijectors.Patchify([6, 8, 3], patch)


@pytest.mark.parametrize("shape", [[6, 8], [None, 8, 3], None, [6, 8, 0], "abc", [6.5, 8, 3]])
def test_image_shapes_that_are_not_known(shape):
    with pytest.raises(ValueError, match=r"`image_shape` must be \[H, W, C\].*Received: image_sh"):
        bijectors.Patchify(shape, 2)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("flip", [5, 4, 3, 2, 1, 0]),
        ("columns", [0, 3, 1, 4, 2, 5]),
        ("checkerboard", [0, 2, 4, 1, 3, 5]),
        ("row_stripes", [0, 1, 2, 3, 4, 5]),
        ("column_stripes", [0, 2, 3, 5, 1, 4]),
    ],
)
def test_orders_of_a_grid_of_two_rows(kind, expected):
    order = bijectors.order_tokens(kind, (2, 3))
    tokens = tf.reshape(tf.range(24.0), [2, 6, 2])
    y = order.forward(tokens)
    np.testing.assert_array_equal(y, tokens.numpy()[:, expected])
    np.testing.assert_array_equal(order.inverse(tf.identity(y)), tokens)


def test_random_orders_follow_from_the_seed():
    first, same, other = (
        bijectors.order_tokens("random", (4, 4), seed=seed).permutation for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)
    np.testing.assert_array_equal(np.sort(first), np.arange(16))


def test_orders_that_are_none():
    with pytest.raises(ValueError, match=r"`kind` must be one of .*flip.*Received: kind='spiral'"):
        bijectors.order_tokens("spiral", (2, 2))
    for grid in (6, (2,), (0, 3), "23"):
        with pytest.raises(ValueError, match="`grid` must be two positive integers. Received"):
            bijectors.order_tokens("flip", grid)
    with pytest.raises(ValueError, match="`kind` must be one of"):
        bijectors.order_tokens(["flip"], (2, 2))
    for seed in (-1, 1.5, None, "1", 2**32):
        with pytest.raises(ValueError, match="`seed` must be an integer from 0.* Received: seed="):
            bijectors.order_tokens("random", (2, 2), seed=seed)


def test_orders_are_of_a_flow_that_xla_compiles():
    patchify = bijectors.Patchify([4, 4, 1], 2)
    flow = bijectors.Sequential([patchify, bijectors.order_tokens("random", patchify.grid)])
    x = tf.reshape(tf.range(32.0), [2, 4, 4, 1])
    there_and_back = tf.function(lambda x: flow.inverse(flow.forward(x) + 0.0), jit_compile=True)
    np.testing.assert_array_equal(there_and_back(x), x)
