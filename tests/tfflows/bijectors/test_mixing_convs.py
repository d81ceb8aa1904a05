"""Emerging, periodic and Woodbury layers against dense matrices, their gradients, their errors."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors, evaluation
from tfflows.evaluation import inverse_and_log_det

DTYPE = tf.float64


def moved(flow, scale=0.1):
    """Returns the bijector away from its initial values."""
    rng = np.random.default_rng(7)
    for variable in flow.trainable_variables:
        variable.assign_add(scale * rng.normal(size=variable.shape))
    return flow


def dense(flow, shape):
    """Returns the matrix of a linear bijector: column `i` is what basis vector `i` becomes."""
    size = int(np.prod(shape))
    return np.reshape(flow.forward(np.eye(size).reshape(size, *shape)), [size, size]).T


def emerging(channels=2, **kwargs):
    return moved(
        bijectors.EmergingConv.trainable([None, None, channels], seed=1, dtype=DTYPE, **kwargs)
    )


def periodic(channels=2, **kwargs):
    return moved(
        bijectors.PeriodicConv.trainable([None, None, channels], seed=1, dtype=DTYPE, **kwargs),
        0.05,
    )


def woodbury(shape=(3, 4, 2), **kwargs):
    return moved(bijectors.WoodburyConv.trainable(shape, seed=1, dtype=DTYPE, **kwargs))


def half(flow, index):
    """Returns an emerging convolution whose other convolution is the identity."""
    kernels = np.zeros(flow.trainable_variables[0].shape)
    kernels[index] = flow.trainable_variables[0][index]
    return bijectors.EmergingConv(tf.constant(kernels), mask=flow.parameters["mask"])


# Emerging.


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


def test_even_kernel_sizes_are_refused():
    with pytest.raises(ValueError, match=r"`kernel_size` must be odd. Received: kernel_size=2"):
        bijectors.EmergingConv.trainable([None, None, 3], kernel_size=2)
    with pytest.raises(ValueError, match=r"`kernel` must have odd spatial sizes. Received: kernel"):
        bijectors.PeriodicConv.trainable([None, None, 3], kernel_size=2)


# Periodic.


@pytest.mark.parametrize("size", [3, (3, 5), (5, 1)], ids=str)
@pytest.mark.parametrize("image", [(4, 6), (5, 3), (2, 2)], ids=str)
def test_periodic_is_a_block_circulant_matrix(image, size):
    height, width = image
    flow = periodic(kernel_size=size)
    kernel = flow.trainable_variables[0].numpy()
    kh, kw = kernel.shape[:2]
    expected = np.zeros([height, width, 2, height, width, 2])
    for i, j, a, b in np.ndindex(height, width, kh, kw):
        y, x = (i + a - kh // 2) % height, (j + b - kw // 2) % width
        expected[i, j, :, y, x, :] += kernel[a, b].T
    expected = expected.reshape([height * width * 2] * 2)
    np.testing.assert_allclose(dense(flow, [*image, 2]), expected, atol=1e-14)
    log_det = flow.forward_log_det_jacobian(np.zeros([1, *image, 2]))
    np.testing.assert_allclose(log_det, np.linalg.slogdet(expected)[1], atol=1e-12)
    x = np.random.default_rng(0).normal(size=[3, *image, 2])
    solved = np.linalg.solve(expected, x.reshape(3, -1).T).T
    np.testing.assert_allclose(np.reshape(flow.inverse(x), [3, -1]), solved, atol=1e-11)


def test_periodic_commutes_with_the_shifts_of_a_torus():
    flow, x = periodic(), tf.random.stateless_normal([2, 6, 5, 2], [1, 1], dtype=DTYPE)
    for function in (flow.forward, flow.inverse):
        shifted = function(tf.roll(x, (2, 3), axis=[1, 2]))
        expected = tf.roll(function(x), (2, 3), axis=[1, 2])
        np.testing.assert_allclose(shifted, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, 2, 2), "`kernel` must have odd spatial sizes"),
        ((3, 3, 2, 3), r"`kernel` must have shape \[kh, kw, C, C\]. Received: kernel.shape=\(3, 3"),
        ((3, 3, 2), "`kernel` must have shape"),
    ],
)
def test_bad_periodic_kernels(shape, message):
    with pytest.raises(ValueError, match=message):
        bijectors.PeriodicConv(tf.zeros(shape))


def test_periodic_refuses_images_smaller_than_half_the_kernel():
    flow = periodic(kernel_size=(1, 5))
    for function in (flow.forward, flow.inverse):
        with pytest.raises(
            ValueError, match=r"no smaller than half the kernel. .*\(1, 5\), .*4, 1"
        ):
            function(np.zeros([1, 4, 1, 2]))


# Woodbury.


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


# All.

FLOWS = {
    "emerging_square": emerging,
    "emerging_raster": lambda: emerging(mask="raster"),
    "periodic": periodic,
    "woodbury": lambda: woodbury(rank=2, channel_rank=1),
}


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name", FLOWS)
def test_gradients_through_the_inverse_are_those_of_finite_differences(name, jit):
    flow = FLOWS[name]()
    y = tf.Variable(tf.random.stateless_normal([2, 3, 4, 2], [1, 2], dtype=DTYPE))
    variables = [y, *flow.trainable_variables]

    @tf.function(jit_compile=jit)
    def value_and_gradients():
        with tf.GradientTape() as tape:
            x, log_det = inverse_and_log_det(flow, y)
            loss = tf.reduce_sum(tf.sin(x)) + log_det
        return loss, tape.gradient(loss, variables)

    _, gradients = value_and_gradients()
    rng = np.random.default_rng(3)
    for variable, gradient in zip(variables, gradients, strict=True):
        for _ in range(3):
            direction = rng.normal(size=variable.shape)
            values = []
            for step in (1e-5, -2e-5):
                variable.assign_add(step * direction)
                values.append(value_and_gradients()[0])
            variable.assign_add(1e-5 * direction)
            expected = (values[0] - values[1]) / 2e-5
            actual = tf.reduce_sum(gradient * direction)
            np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FLOWS)
def test_float32_round_trip(name):
    shape = [16, 16, 12]
    make = {
        "emerging_square": lambda: bijectors.EmergingConv.trainable([None, None, 12], seed=1),
        "emerging_raster": lambda: bijectors.EmergingConv.trainable(
            [None, None, 12], mask="raster", seed=1
        ),
        "periodic": lambda: bijectors.PeriodicConv.trainable([None, None, 12], seed=1),
        "woodbury": lambda: bijectors.WoodburyConv.trainable(shape, channel_rank=4, seed=1),
    }[name]
    flow = moved(make(), 0.02)
    x = tf.random.stateless_normal([4, *shape], [1, 2])
    error = np.max(np.abs(flow.inverse(tf.identity(flow.forward(x))) - x))
    assert error < 2e-5


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


# Images of any size.


@pytest.mark.parametrize(
    "flow",
    [
        emerging(),
        periodic(),
        moved(bijectors.ConvExponential.trainable([3, 4, 2], seed=1, dtype=DTYPE)),
        moved(bijectors.ConvExponential.trainable([3, 4, 2], max_norm=None, seed=1, dtype=DTYPE)),
    ],
    ids=["emerging", "periodic", "exponential", "exponential_without_a_cap"],
)
def test_images_whose_size_is_not_known(flow):
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_det = evaluation.forward_and_log_det(flow, x)
            back, _ = inverse_and_log_det(flow, tf.identity(y))
            loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(tf.sin(back)) + log_det
        return y, log_det, back, tape.gradient(loss, x)

    any_size = tf.function(run, input_signature=[tf.TensorSpec([None, None, None, 2], DTYPE)])
    for size in ((3, 4), (2, 5)):
        x = tf.constant(np.random.default_rng(0).normal(size=[2, *size, 2]))
        for actual, desired in zip(any_size(x), run(x), strict=True):
            np.testing.assert_allclose(actual, desired, atol=1e-11)


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (
            bijectors.ConvExponential(tf.zeros([3, 3, 2, 2]), padding="periodic"),
            r"needs images of known size\. Received: image size \(None, None\)",
        ),
        (bijectors.Squeeze(), "`Squeeze` needs static event shapes"),
        (
            bijectors.StridedConv.trainable([None, None, 2], stride=2),
            "`Squeeze` needs static event shapes",
        ),
    ],
)
def test_bijectors_that_need_the_size_say_so(flow, message):
    function = tf.function(flow.forward, input_signature=[tf.TensorSpec([None, None, None, 2])])
    with pytest.raises(ValueError, match=message):
        function(tf.ones([1, 4, 4, 2]))


# Reflections.


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("kind", ["householder", "qr"])
def test_the_length_of_a_reflection_does_not_count(kind, dtype):
    start = bijectors.InvertibleConv1x1.trainable(
        [None, None, 3], parameterization=kind, seed=1, dtype=dtype
    )
    arguments = start.parameters | {"reflections": None}
    vectors = tf.convert_to_tensor(start.parameters["reflections"])
    x = tf.random.stateless_normal([2, 2, 2, 3], [1, 1], dtype=dtype)
    for size in (1e25, 1e-25):
        scaled = tf.Variable(vectors * size)
        flow = bijectors.InvertibleConv1x1(**(arguments | {"reflections": scaled}))
        np.testing.assert_allclose(flow.matrix(), start.matrix(), atol=1e-5)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(flow.forward(x)))
        gradient = tape.gradient(loss, scaled)
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            plain = bijectors.InvertibleConv1x1(**(arguments | {"reflections": vectors}))
            loss = tf.reduce_sum(tf.sin(plain.forward(x)))
        np.testing.assert_allclose(gradient * size, tape.gradient(loss, vectors), atol=1e-4)
