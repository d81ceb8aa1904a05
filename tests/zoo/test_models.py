"""Names, descriptions, and models of the zoo at a small size."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from tests.zoo.small_models import SMALL, images, small
from tfflows import FlowModel, bijectors, distributions
from tfflows.bijectors import transforms

tfd = tfp.distributions
# What `tfd.TransformedDistribution(...)` returns is of a base class, if it is no composite tensor.
TransformedDistribution = tfd.TransformedDistribution.__bases__[0]


# Names.


def test_list_models_takes_wildcards():
    names = zoo.list_models()
    assert names == sorted(names)
    assert {"glow.digits", "convexp_glow.mnist", "convexp_glow.cifar10"} <= set(names)
    assert zoo.list_models("glow.*") == [n for n in names if n.startswith("glow.")]
    assert zoo.list_models("nothing*") == []
    assert set(zoo.list_models(pretrained=True)) <= set(names)


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_model_is_described(name):
    text = zoo.describe(name)
    assert name in text
    assert "arXiv:" in text


def test_unknown_override_lists_the_known():
    with pytest.raises(ValueError, match=r"must be among \[.*'widths'\]\. Received: \['width'\]"):
        zoo.create("glow.digits", width=3)
    with pytest.raises(ValueError, match="`overrides` change the architecture"):
        zoo.create("glow.digits", pretrained=True, widths=(3, 3))
    with pytest.raises(ValueError, match=r"`mixing` must be .*conv1x1_plu.*mixing=\'none\'"):
        small("glow.digits", mixing="none")


def test_model_without_weights_says_which_have_some():
    name = next(n for n in zoo.list_models() if n not in zoo.list_models(pretrained=True))
    with pytest.raises(ValueError, match=f"--model={name}"):
        zoo.create(name, pretrained=True)


# Architectures.


@pytest.mark.parametrize(
    "name", ["glow.digits", "convexp_glow.digits", "glow.cifar10", "emerging_glow.cifar10"]
)
def test_every_builder_at_a_small_size(name):
    model = small(name, discrete=True)
    assert model.event_shape == (4, 4, 1)
    assert model.num_levels == 16
    assert isinstance(model.distribution, TransformedDistribution)
    log_prob = model.log_prob(images(), seed=[1, 2])
    assert log_prob.shape == [3]
    assert np.all(np.isfinite(log_prob))
    draws = model.sample(2, seed=[1, 2])
    assert draws.shape == [2, 4, 4, 1]
    assert draws.dtype == tf.uint8
    assert np.max(draws) < 16


def test_create_gives_the_density_or_the_distribution_of_integers():
    assert isinstance(small("glow.digits"), TransformedDistribution)
    discrete = small("glow.digits", discrete=True)
    assert isinstance(discrete, distributions.Dequantized)
    assert discrete.dequantizer is None


def test_glow_with_a_flow_for_its_noise():
    model = small("convexp_glow.digits", discrete=True, dequantizer_width=3)
    assert isinstance(model.dequantizer, distributions.FlowDequantizer)
    with tf.GradientTape() as tape:
        log_prob = model.log_prob(images(), seed=[1, 2])
    assert np.all(np.isfinite(log_prob))
    # Weights of last layers start at 0, and what is before them gets no gradient; all have one.
    assert None not in tape.gradient(log_prob, model.dequantizer.trainable_variables)


def test_glow_with_mixtures_for_its_couplings():
    model = small("convexp_glow.digits", num_mixtures=3)
    found = [part.transform for part in model.submodules if isinstance(part, bijectors.Coupling)]
    assert len(found) == 3
    assert found.count(transforms.LogisticMixture(3)) == 2
    assert found.count(transforms.Affine()) == 1  # The prior between the levels.
    for number, variable in enumerate(model.trainable_variables):
        variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, [1, number]))
    x = tf.cast(images(), tf.float32)
    z = model.bijector.inverse(x)
    np.testing.assert_allclose(model.bijector.forward(z + 0), x, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_bins": 4, "num_mixtures": 4}, "One of `num_bins` and `num_mixtures` must be None"),
        (
            {"num_mixtures": 0},
            "`num_mixtures` must be None or positive and finite. Received: num_m",
        ),
        ({"num_mixtures": 2.5}, "`num_mixtures` must be an integer or None. Received: num_mix"),
    ],
)
def test_glow_refuses_two_kinds_of_couplings_and_mixtures_of_nothing(given, message):
    with pytest.raises(ValueError, match=message):
        small("glow.digits", **given)


@pytest.mark.parametrize("name", ["glow.digits", "convexp_glow.digits"])
def test_seed_decides_the_initial_weights(name):
    first, same, other = (small(name, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(first.variables, same.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        np.any(a.numpy() != b) for a, b in zip(first.variables, other.variables, strict=True)
    )


def test_keras_file_rebuilds_a_model_by_name(tmp_path):
    overrides = SMALL["glow"]
    model = FlowModel.from_builder(zoo.build, {"name": "glow.digits", "seed": 3, **overrides})
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
