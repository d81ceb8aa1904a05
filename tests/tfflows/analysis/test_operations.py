"""Floating-point operations against those counted by hand."""

import numpy as np
import pytest
import tensorflow as tf

import tfflows
import zoo
from tfflows.analysis import operations


def count(function, *shapes):
    return operations.count(function, *[tf.ones(shape) for shape in shapes]).operations


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (lambda x, y: x @ y, ([3, 4], [4, 5]), 2 * 3 * 4 * 5),
        (lambda x, y: tf.einsum("bij,bjk->bik", x, y), ([7, 3, 4], [7, 4, 5]), 7 * 2 * 3 * 4 * 5),
        (lambda x: tf.exp(x) * x + 1.0, ([6, 5],), 3 * 30),
        (lambda x: tf.reduce_sum(x, axis=1), ([6, 5],), 6 * 4),
        (lambda x: tf.cast(tf.cast(x, tf.int32) * 3, tf.float32), ([6, 5],), 0),
        (lambda x: tf.where(x > 0, tf.transpose(x), x), ([5, 5],), 0),
        (lambda x: (tf.exp(x), x)[1], ([6, 5],), 0),  # Not needed.
        (lambda x: tf.linalg.triangular_solve(x, x[:, :2]), ([5, 5],), 5 * 5 * 2),
    ],
)
def test_small_functions(function, shapes, expected):
    assert count(function, *shapes) == expected


def products_of_convolution(size, taps, stride):
    """Pairs of output and input positions along one axis, with padding SAME."""
    outputs = -(-size // stride)
    low = max((outputs - 1) * stride + taps - size, 0) // 2
    positions = [o * stride + t - low for o in range(outputs) for t in range(taps)]
    return sum(0 <= p < size for p in positions)


@pytest.mark.parametrize(("taps", "stride"), [(1, 1), (3, 1), (3, 2), (2, 2), (5, 1)])
def test_convolutions_and_their_gradients_count_no_padding(taps, stride):
    kernel, x = tf.ones([taps, taps, 4, 8]), tf.ones([2, 7, 6, 4])
    pairs = products_of_convolution(7, taps, stride) * products_of_convolution(6, taps, stride)
    expected = 2 * pairs * 2 * 4 * 8

    def convolve(x, kernel):
        return tf.nn.conv2d(x, kernel, stride, "SAME")

    def gradient(x, kernel):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([x, kernel])
            y = convolve(x, kernel)
        return tape.gradient(y, [x, kernel], tf.ones_like(y))

    assert operations.count(convolve, x, kernel).operations == expected
    assert operations.count(gradient, x, kernel).operations == 2 * expected


def test_of_two_branches_the_larger_counts():
    def branch(x):
        return tf.cond(x[0, 0] > 0, lambda: x @ x, lambda: tf.tanh(x))

    assert count(branch, [3, 3]) == 2 * 27


def test_loops_are_counted_once_and_said():
    def loop(x):
        return tf.while_loop(lambda x: x[0, 0] < 9, lambda x: (tf.tanh(x @ x),), [x])[0]

    found = operations.count(loop, tf.ones([3, 3]))
    assert found.operations == 2 * 27 + 9
    assert found.loops == 1
    assert not found.unknown


def test_fourier_transforms():
    found = operations.count(lambda x: tf.signal.rfft2d(x), tf.ones([3, 8, 8]))
    assert found.operations == 3 * 5 * 64 * 6 // 2


def test_decompositions():
    triangle = operations.count(lambda x: tf.linalg.qr(x)[1], tf.ones([7, 6, 3]))
    assert triangle.operations == 7 * 2 * 9 * (6 - 1)
    both = operations.count(lambda x: tf.linalg.qr(x), tf.ones([7, 6, 3]))
    assert both.operations == 2 * triangle.operations
    assert not both.unknown


def test_what_is_not_known_is_said():
    text = """HloModule a

ENTRY %main (x: f32[5]) -> f32[5] {
  %x = f32[5]{0} parameter(0)
  %y = f32[5]{0} custom-call(f32[5]{0} %x), custom_call_target="Mystery"
  ROOT %z = f32[5]{0} add(f32[5]{0} %y, f32[5]{0} %x)
}
"""
    assert operations.count_hlo(text) == operations.Count(5, unknown=frozenset(["Mystery"]))


def test_a_coupling_layer_by_hand():
    """log_prob of one affine coupling on 2 of 4 dimensions with a network 2 -> 16 -> 4."""
    network = tfflows.networks.MLP(4, width=16, depth=1, activation="tanh", seed=1)
    tfflows.networks.build_network(network, [2])
    weights = sum(int(np.prod(v.shape)) for v in network.variables if len(v.shape) == 2)
    flow = tfflows.bijectors.Coupling(network, [4], tfflows.bijectors.transforms.Affine("exp"))
    found = operations.count(flow.forward, tf.ones([8, 4])).operations
    products = 2 * 8 * weights
    # Beside the products: biases, tanh, and the affine map, a few operations an element.
    assert products < found < products + 8 * 16 * (1 + 2 * 3)


def test_a_model_costs_more_the_larger_the_batch():
    model = zoo.create("realnvp.two_moons", num_blocks=1, width=8)
    small, large = (operations.count(model.log_prob, tf.ones([n, 2])) for n in (4, 8))
    assert small.operations < large.operations < 2.01 * small.operations
