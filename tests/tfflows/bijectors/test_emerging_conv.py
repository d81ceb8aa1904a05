"""EmergingConv against triangular matrices, its masks, its inverse, its errors."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.bijectors.mixing_convs import dense, emerging
from tfflows import bijectors


def half(flow, index):
    """Returns an emerging convolution whose other convolution is the identity."""
    kernels = np.zeros(flow.trainable_variables[0].shape)
    kernels[index] = flow.trainable_variables[0][index]
    return bijectors.EmergingConv(tf.constant(kernels), mask=flow.parameters["mask"])


@pytest.mark.parametrize("size", [3, (3, 5), (1, 3), (5, 1), 1], ids=str)
@pytest.mark.parametrize("mask", ["square", "raster"])
def test_emerging_is_a_lower_times_an_upper_triangular_matrix(mask, size):
    shape = [4, 3, 2]
    flow = emerging(mask=mask, kernel_size=size)
    first, second = (dense(half(flow, index), shape) for index in (0, 1))
    assert np.count_nonzero(np.triu(first, 1)) == np.count_nonzero(np.tril(second, -1)) == 0
    matrix = dense(flow, shape)
    np.testing.assert_allclose(matrix, second @ first, atol=1e-12)
    kernels = flow.trainable_variables[0].numpy()
    column = kernels.shape[2] - 1 if mask == "square" else kernels.shape[2] // 2
    diagonal = np.exp(np.einsum("kcc->kc", kernels[:, -1, column]))
    np.testing.assert_allclose(np.diag(first), np.tile(diagonal[0], 12), rtol=1e-12)
    np.testing.assert_allclose(np.diag(second), np.tile(diagonal[1][::-1], 12), rtol=1e-12)
    log_det = flow.forward_log_det_jacobian(np.zeros([1, *shape]))
    np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1], rtol=1e-10)
    x = np.random.default_rng(0).normal(size=[3, *shape])
    solved = np.linalg.solve(matrix, x.reshape(3, -1).T).T
    np.testing.assert_allclose(np.reshape(flow.inverse(x), [3, -1]), solved, atol=1e-11)


def test_emerging_sees_what_its_masks_say():
    """The pixels that the middle one of 7 x 7 depends on."""
    seen = {}
    for mask in ("square", "raster"):
        flow = emerging(channels=1, mask=mask)
        for name, part in (("first", half(flow, 0)), ("second", half(flow, 1)), ("both", flow)):
            middle = dense(part, [7, 7, 1]).reshape([7, 7, 7, 7])[3, 3]
            seen[mask, name] = {(int(i) - 3, int(j) - 3) for i, j in np.argwhere(middle)}
    square = {(0, 0), (0, -1), (-1, 0), (-1, -1)}
    assert seen["square", "first"] == square
    assert seen["square", "second"] == {(-i, -j) for i, j in square}
    assert seen["square", "both"] == {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert seen["raster", "first"] == square | {(-1, 1)}
    assert seen["raster", "second"] == {(-i, -j) for i, j in square | {(-1, 1)}}


def test_emerging_does_not_use_entries_that_break_the_order():
    flow = emerging(mask="raster")
    kernels = flow.trainable_variables[0].numpy()
    changed = kernels.copy()
    changed[:, -1, 2] = 1e6  # The pixel on the right.
    changed[:, -1, 1, 1, 0] += 5.0  # A channel that comes later.
    x = np.random.default_rng(0).normal(size=[2, 4, 4, 2])
    other = bijectors.EmergingConv(tf.constant(changed), mask="raster")
    np.testing.assert_array_equal(other.forward(x), flow.forward(x))


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        (
            [2, 2, 2, 3, 3],
            "causal",
            r'`mask` must be "square" or "raster". Received: mask=\'causal',
        ),
        ([2, 2, 3, 4], "square", r"`kernels` must have shape .* Received: kernels.shape=\(2, 2, 3"),
        ([3, 2, 2, 3, 3], "square", "`kernels` must have shape"),
        ([2, 2, 2, 3, 4], "square", "`kernels` must have shape"),
        ([2, 2, 2, 3, 3], "raster", "must have an odd number of columns"),
    ],
)
def test_bad_emerging_convs(shape, mask, message):
    with pytest.raises(ValueError, match=message):
        bijectors.EmergingConv(tf.zeros(shape), mask=mask)


def test_second_derivatives_of_the_emerging_inverse_in_a_graph_are_those_of_eager_mode():
    flow = bijectors.EmergingConv.trainable([None, None, 2], seed=1, dtype=tf.float64)
    y = tf.constant(np.random.default_rng(2).normal(size=[2, 3, 2, 2]))

    def second(y):
        with tf.GradientTape() as outer:
            outer.watch(y)
            with tf.GradientTape() as inner:
                inner.watch(y)
                value = tf.reduce_sum(flow.inverse(y) ** 3)
            first = inner.gradient(value, [y, *flow.trainable_variables])
            total = tf.add_n([tf.reduce_sum(tf.sin(g)) for g in first])
        return outer.gradient(total, [y, *flow.trainable_variables])

    for actual, desired in zip(tf.function(second)(y), second(y), strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-8, atol=1e-8)
