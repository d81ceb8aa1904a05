"""Jet: which part of the tokens moves which, what few couplings can't do, its density."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from tests.small_presets import moved
from tests.zoo.weightless import size, weightless
from tfflows import bijectors, evaluation
from zoo.architectures.jet import jet

SMALL = {"image_shape": (4, 4, 2), "num_levels": 4, "patch": 2, "width": 4, "depth": 1}

STRIPES = ("row_stripes", "column_stripes")


def layers(num_couplings):
    flow = jet(**SMALL, num_couplings=num_couplings).distribution.bijector.bijector
    return flow.parts


def test_four_couplings_of_channels_then_one_of_tokens_and_the_halves_take_turns():
    parts = layers(20)
    kinds = [
        (part.parameters["split"], part.parameters["reverse"])
        for part in parts
        if isinstance(part, bijectors.Coupling)
    ]
    assert len(kinds) == 20
    for i, kind in enumerate(kinds):
        expected = ("token", i // 15 % 2 == 1) if i % 5 == 4 else ("channel", False)
        assert kind == expected
    kinds = [p.name for p in parts if isinstance(p, tfp.bijectors.Permute) and "_order" in p.name]
    assert kinds == [f"{order}_order" for order in ("checkerboard", *STRIPES, "checkerboard")]


def test_the_log_det_is_that_of_the_jacobian_and_there_is_a_way_back():
    model = moved(jet(**SMALL, num_couplings=5)).distribution
    flow = model.bijector.bijector
    x = tf.random.stateless_uniform([2, 4, 4, 2], [1, 2], 0.0, 4.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z, log_det = evaluation.forward_and_log_det(flow, x)
    jacobian = tf.reshape(tape.batch_jacobian(z, x), [2, 32, 32])
    np.testing.assert_allclose(log_det, tf.linalg.slogdet(jacobian)[1], rtol=1e-4)
    np.testing.assert_allclose(flow.inverse(tf.identity(z)), x, atol=1e-4)


def test_couplings_too_few_to_expand_a_dimension_are_warned_of():
    with pytest.warns(UserWarning, match=r"3 couplings of scale below 2 expand .* at most 2.83 ti"):
        jet(**SMALL, num_couplings=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jet(**SMALL, num_couplings=4)
        jet(**SMALL, num_couplings=1, scale="tanh")


@pytest.mark.parametrize(
    ("shape", "patch"), [((12, 12, 1), 4), ((4, 4, 1), 1), ((6, 4, 3), 3), ((4, 4, 1), 0)]
)
def test_patches_that_have_no_halves_are_refused(shape, patch):
    with pytest.raises(ValueError, match="`patch` must|`image_shape` must"):
        jet(**{**SMALL, "image_shape": shape, "patch": patch}, num_couplings=4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("digits", 124_356), ("cifar10_small", 845_472)])
def test_number_of_parameters(name, count):
    assert size(zoo.create(f"jet.{name}")) == count


@pytest.mark.slow
def test_the_model_of_the_paper_is_counted_without_making_its_weights(monkeypatch):
    """A thousand million, in 64 networks of 5 layers, of which 12 are of halves of the tokens."""
    width, depth, entries = 512, 5, 48
    layers = 64 * depth * (12 * width**2 + 13 * width)
    ends = 52 * (width * (entries // 2 + 1 + 256) + entries * (width + 1))
    ends += 12 * (width * (entries + 1 + 128) + 2 * entries * (width + 1))
    assert size(weightless(monkeypatch, "jet.imagenet64")) == layers + ends + 2 * entries
