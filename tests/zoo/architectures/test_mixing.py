"""Every mixing of channels and positions, in both builders."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.zoo.small_models import SMALL, images, small
from tfflows import bijectors
from zoo.architectures.mixing import CHANNEL_MIXING, SPATIAL_MIXING


@pytest.mark.parametrize("builder", ["glow.digits", "glow.cifar10"], ids=["glow", "experiment"])
@pytest.mark.parametrize("mixing", [*CHANNEL_MIXING, *SPATIAL_MIXING])
def test_every_mixing_in_both_builders(builder, mixing):
    model = small(builder, mixing=mixing, seed=3)
    v = tf.cast(images(), tf.float32) + 0.5
    draws, log_prob = model.experimental_sample_and_log_prob(3, seed=[1, 2])
    of_images, again = tf.split(model.log_prob(tf.concat([v, draws], 0)), [len(v), 3])
    assert np.all(np.isfinite(of_images))
    np.testing.assert_allclose(again, log_prob, rtol=1e-4)


def layers_of(model, kind):
    return sum(isinstance(module, kind) for module in model.submodules)


def test_exponentials_counts_the_layers_of_a_level_that_mix_positions():
    shape = {**SMALL["glow"], "steps": (3, 3)}
    for number, expected in ((0, 0), (1, 2), (2, 4), (None, 6)):
        model = zoo.create("emerging_glow.digits", exponentials=number, **shape)
        assert layers_of(model, bijectors.EmergingConv) == expected
        assert layers_of(model, bijectors.InvertibleConv1x1) == 6
    # The others are in every step.
    model = zoo.create("glow.digits", exponentials=1, mixing="matrix_exponential", **shape)
    assert layers_of(model, bijectors.ConvExponential) == 6
