"""Flows of points in the plane."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tfflows import analysis
from tfflows.variables import named_variables
from trainers.data import planar
from zoo.catalogue.planar import DATASETS

ARCHITECTURES = ("balanced", "glow", "maf", "realnvp", "rq_nsf")


def moved(name, **overrides):
    """A model that is not the identity."""
    model = zoo.create(name, num_blocks=2, width=8, **overrides)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(0, 0.1, variable.shape))
    return model


def test_every_architecture_is_there_for_every_data_set():
    assert tuple(sorted(planar.NAMES)) == DATASETS
    names = set(zoo.list_models())
    for architecture in ARCHITECTURES:
        for dataset in DATASETS:
            assert f"{architecture}.{dataset}" in names
            assert zoo.find(f"{architecture}.{dataset}").recipe.dataset == dataset


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_density_integrates_to_one(architecture):
    model = moved(f"{architecture}.two_moons")
    side = np.linspace(-14, 14, 561, dtype="float32")
    grid = tf.constant(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2))
    log_prob = tf.function(model.log_prob)(grid)
    mass = np.sum(np.exp(log_prob.numpy().astype("float64"))) * (side[1] - side[0]) ** 2
    assert mass == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_points_go_there_and_back(architecture):
    model = moved(f"{architecture}.spirals")
    x = tf.constant(planar.sample("spirals", 200, seed=3))
    error = analysis.round_trip_error(model.bijector.bijector, x)
    np.testing.assert_allclose(error, np.zeros(200), atol=2e-5)
    assert model.sample(5, seed=[0, 1]).shape == [5, 2]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_variables_are_found_and_learn(architecture):
    model = moved(f"{architecture}.rings")
    variables = named_variables(model)
    assert len(variables) == len(model.trainable_variables)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.log_prob(planar.sample("rings", 50, seed=0)))
    gradients = tape.gradient(loss, list(variables.values()))
    still = [
        name for name, g in zip(variables, gradients, strict=True) if g is None or not np.any(g)
    ]
    assert still == []


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"`discrete` must be False for 'maf\.rings'"):
        zoo.create("maf.rings", discrete=True)
