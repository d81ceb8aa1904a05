"""Bounds on the norms of convolutions against dense matrices, and kernels capped by them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.numerics.dense_norms import dense_norm
from tfflows.numerics import norms

SIZES = [(1, 1), (3, 3), (3, 5), (5, 5)]


def example_kernels(size, channels):
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[: size[0], : size[1]]
    distance = (rows - size[0] // 2) ** 2 + (columns - size[1] // 2) ** 2
    rotation = np.linalg.qr(rng.standard_normal((channels, channels)))[0]
    shape = (*size, channels, channels)
    return {
        "random": rng.standard_normal(shape),
        "ones": np.ones(shape),
        "smooth": np.exp(-distance / 2)[..., None, None] * rotation,
        "rank one": np.ones((*size, 1, 1)) * rng.standard_normal((channels, 1)) @ rotation[:1],
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bound_is_above_the_norm_and_close(size, channels, dtype):
    for name, kernel in example_kernels(size, channels).items():
        bound = float(norms.conv_norm_bound(kernel.astype(dtype)))
        for padding in ("zero", "periodic"):
            norm = dense_norm(kernel, padding=padding)
            assert norm <= bound <= 1.5 * norm, (name, padding)


@pytest.mark.parametrize("channels", [2, 12])
def test_bound_is_above_the_norm_at_every_frequency(channels):
    for kernel in example_kernels((3, 5), channels).values():
        bound = norms.conv_norm_bound(kernel)
        # The transform of the zero-padded kernel is its symbol on a finer grid, up to a phase.
        symbol = np.fft.fft2(kernel, (50, 50), axes=(0, 1))
        assert np.linalg.norm(symbol, 2, axis=(2, 3)).max() <= bound


def test_extreme_scales_and_zero():
    kernel = np.random.default_rng(1).standard_normal((3, 3, 4, 4)).astype("float32")
    bound = norms.conv_norm_bound(kernel)
    for scale in (1e-30, 1e30):
        scaled = norms.conv_norm_bound(kernel * np.float32(scale))
        np.testing.assert_allclose(scaled / scale, bound, rtol=1e-5)
    zero = tf.zeros([3, 3, 4, 4])
    with tf.GradientTape() as tape:
        tape.watch(zero)
        bound = norms.conv_norm_bound(zero)
    assert bound == 0.0
    np.testing.assert_array_equal(tape.gradient(bound, zero), zero)


def test_gradient_matches_finite_differences():
    rng = np.random.default_rng(2)
    kernel = rng.standard_normal((3, 3, 2, 2))
    direction = rng.standard_normal(kernel.shape)
    variable = tf.constant(kernel)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        bound = norms.conv_norm_bound(variable)
    gradient = tape.gradient(bound, variable)
    step = 1e-6
    difference = norms.conv_norm_bound(kernel + step * direction) - (
        norms.conv_norm_bound(kernel - step * direction)
    )
    np.testing.assert_allclose(np.sum(gradient * direction), difference / (2 * step), rtol=1e-6)
    # Homogeneous of degree one: the gradient times the kernel is the bound itself.
    np.testing.assert_allclose(np.sum(gradient * kernel), bound, rtol=1e-12)


def test_compiles_with_xla():
    kernel = np.random.default_rng(3).standard_normal((3, 3, 3, 3))
    compiled = tf.function(norms.conv_norm_bound, jit_compile=True)
    np.testing.assert_allclose(
        compiled(tf.constant(kernel)), norms.conv_norm_bound(kernel), rtol=1e-12
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [(1, 4), (2, 5), (5, 2)])
def test_bound_of_kernels_that_change_the_number_of_channels(size, channels):
    kernel = np.random.default_rng(5).standard_normal((*size, *channels))
    for dtype in ("float32", "float64"):
        bound = float(norms.conv_norm_bound(kernel.astype(dtype)))
        norm = dense_norm(kernel)
        assert norm <= bound <= 1.5 * norm


def test_bound_of_taps_that_are_not_zero_is_that_of_all():
    support = np.arange(15).reshape(3, 5) % 4 == 1
    kernel = np.random.default_rng(6).standard_normal((3, 5, 3, 4)) * support[:, :, None, None]
    bound = norms.conv_norm_bound(kernel, support)
    np.testing.assert_allclose(bound, norms.conv_norm_bound(kernel), rtol=1e-12)


@pytest.mark.parametrize(
    ("size", "jit_compile"),
    [
        (1, False),
        (3, True),
        pytest.param(1, True, marks=pytest.mark.slow),
        pytest.param(3, False, marks=pytest.mark.slow),
    ],
)
def test_caps_a_kernel_by_its_bound_and_leaves_a_smaller_one_alone(size, jit_compile):
    kernel = tf.constant(0.1 * np.random.default_rng(7).standard_normal((size, size, 3, 4)))
    bound = norms.conv_norm_bound(kernel)

    def cap(kernel, max_norm):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            capped = norms.capped_kernel(kernel, max_norm)
            total = tf.reduce_sum(capped**2)
        return capped, tape.gradient(total, kernel)

    with tf.GradientTape() as tape:
        tape.watch(kernel)
        scaled = kernel * 0.1 / norms.conv_norm_bound(kernel)
        total = tf.reduce_sum(scaled**2)
    expected = scaled, tape.gradient(total, kernel)
    # Clearly below, below by less than the first products can tell, above.
    for max_norm, values in (
        (2 * float(bound), (kernel, 2 * kernel)),
        (1.0001 * float(bound), (kernel, 2 * kernel)),
        (0.1, expected),
    ):
        found = tf.function(cap, jit_compile=jit_compile)(kernel, max_norm)
        for value, reference in zip(found, values, strict=True):
            np.testing.assert_allclose(value, reference, rtol=1e-10)


def test_adds_a_handful_of_operations_to_a_graph():
    def gradient(kernel):
        return tf.gradients(norms.conv_norm_bound(kernel), kernel)

    traced = tf.function(gradient).get_concrete_function(tf.TensorSpec([3, 3, 4, 4]))
    assert len(traced.graph.get_operations()) < 30


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (3, 2, 2, 3)])
def test_refuses_even_sizes(shape):
    with pytest.raises(ValueError, match="odd spatial sizes"):
        norms.conv_norm_bound(tf.zeros(shape))
