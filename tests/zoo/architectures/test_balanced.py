"""The volume-balanced flow: its block, its size, its variants."""

import math

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tfflows import analysis, bijectors, evaluation
from zoo.architectures.balanced import balanced_block
from zoo.architectures.building import Seeds


def block(slope, stride=1, shape=(4, 4, 6), **kwargs):
    return balanced_block(
        list(shape), "conv_net", Seeds(0), {"width": 8}, slope=slope, stride=stride, **kwargs
    )


@pytest.mark.parametrize("slope", [0.5, 0.6, 0.75, 0.9, 1.0])
def test_a_block_starts_as_the_identity_with_balanced_volumes(slope):
    flow = block(slope)
    x = tf.random.stateless_normal([5, 4, 4, 6], [0, 1])
    np.testing.assert_allclose(flow.forward(x), x, atol=1e-5)
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x, 3), np.zeros(5), atol=1e-3)
    report = {layer.name: layer for layer in analysis.volume_report(flow, x)}
    assert len(report) == 3
    conv, affine, activation = (
        report[f"block_{part}"] for part in ("conv", "affine", "activation")
    )
    # Equation 18.
    expected = -math.log(slope)
    assert conv.log_det_per_dim + affine.log_det_per_dim == pytest.approx(expected, abs=1e-5)
    assert activation.log_det_per_dim == pytest.approx(-expected, abs=1e-5)


def test_a_block_with_stride_starts_as_a_squeeze():
    flow, x = (
        block(0.75, stride=2, shape=(4, 4, 3)),
        tf.random.stateless_normal([2, 4, 4, 3], [0, 1]),
    )
    np.testing.assert_allclose(flow.forward(x), bijectors.Squeeze().forward(x), atol=1e-5)


def test_every_part_of_a_block_learns():
    flow = block(0.75)
    x = tf.random.stateless_normal([5, 4, 4, 6], [0, 1])
    with tf.GradientTape() as tape:
        y, log_det = evaluation.forward_and_log_det(flow, x)
        loss = tf.reduce_mean(tf.reduce_sum(y**2, [1, 2, 3]) / 2 - log_det)
    gradients = tape.gradient(loss, flow.trainable_variables)
    moved = [np.any(g != 0) for g in gradients]
    # Only layers behind a layer of zeros wait for a step.
    assert sum(moved) >= 4 + 2 * 2 + 1


@pytest.mark.parametrize(
    "overrides",
    [{"contraction": "tanh"}, {"contraction": "normal_cdf"}, {"constrained": False}],
    ids=str,
)
def test_variants_of_section_6_2(overrides):
    model = zoo.create("balanced.digits", discrete=True, **overrides)
    x = tf.cast(tf.random.stateless_uniform([3, 8, 8, 1], [0, 1], 0, 17, tf.int32), tf.uint8)
    assert np.all(np.isfinite(model.log_prob(x, seed=1)))
    assert np.all(np.isfinite(tf.cast(model.sample(2, seed=[0, 1]), tf.float32)))


@pytest.mark.parametrize(
    ("number", "expected"), [(0, [0, 0]), (1, [1, 1]), (2, [2, 1]), (None, [3, 1])]
)
def test_exponentials_counts_the_blocks_of_a_level_that_have_one(number, expected):
    model = zoo.create(
        "convexp_balanced.digits",
        **{"steps": (3, 1), "width": 4, "exponentials": number, "num_levels": 16},
        discrete=True,
    )
    blocks = [m for m in model.submodules if isinstance(m, bijectors.Block)]
    found = [
        sum(isinstance(part, bijectors.ConvExponential) for part in block.bijectors)
        for block in blocks
    ]
    assert sorted(found) == sorted([1] * sum(expected) + [0] * (4 - sum(expected)))
    names = [m.name for m in model.submodules if isinstance(m, bijectors.ConvExponential)]
    assert [sum(f"level{level}" in name for name in names) for level in (0, 1)] == expected
    x = tf.cast(tf.random.stateless_uniform([3, 8, 8, 1], [0, 1], 0, 16, tf.int32), tf.uint8)
    assert np.all(np.isfinite(model.log_prob(x, seed=1)))


def test_an_exponential_in_a_block_has_a_bounded_log_det():
    flow = block(0.75, exponential=True)
    x = tf.random.stateless_normal([5, 4, 4, 6], [0, 1])
    np.testing.assert_allclose(flow.inverse(flow.forward(x)), x, atol=1e-4)
    (exponential,) = (m for m in flow.submodules if isinstance(m, bijectors.ConvExponential))
    (kernel,) = exponential.trainable_variables
    for scale in (-100.0, 100.0):  # All of its centre: the largest trace there is.
        kernel.assign(np.pad(scale * np.eye(6)[None, None], [(1, 1), (1, 1), (0, 0), (0, 0)]))
        log_det = float(exponential.forward_log_det_jacobian(x, 3)) / (4 * 4 * 6)
        assert 0.8 < np.sign(scale) * log_det <= 0.95  # The bound on the norm is not tight.


@pytest.mark.parametrize("name", ["balanced.cifar10_small", "convexp_balanced.cifar10_small"])
def test_small_models_are_of_one_size(name):
    """The comparison on CIFAR-10 has no more parameters than Glow."""

    def size(name):
        variables = zoo.create(name).trainable_variables
        return sum(v.shape.num_elements() for v in variables)

    glow = size("glow.cifar10_small")
    assert 0.9 * glow < size(name) <= glow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "millions"), [("balanced.cifar10", None), ("balanced.celebahq1024", 23.3)]
)
def test_number_of_parameters(name, millions):
    variables = zoo.create(name).trainable_variables
    count = sum(v.shape.num_elements() for v in variables)
    if millions is None:  # The paper's 12.6 million depend on widths that it does not give.
        assert 8e6 < count < 12.6e6
    else:
        assert count == pytest.approx(1e6 * millions, rel=0.01)
