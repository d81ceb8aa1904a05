"""Sizes of the models of the mixing experiment."""

import math

import pytest

import zoo


def count(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def test_small_models_with_other_mixings_are_of_equal_size():
    names = ["glow.cifar10_small_wide"] + [
        f"{mixing}_glow.cifar10_small" for mixing in ("convexp", "emerging", "periodic", "woodbury")
    ]
    counts = [count(zoo.create(name)) for name in names]
    assert max(counts) <= 1.01 * min(counts)
    assert count(zoo.create("glow.cifar10_small")) == 716_628  # Of which there are figures.


@pytest.mark.slow
@pytest.mark.parametrize("mixing", ["convexp", "emerging", "periodic", "woodbury"])
def test_full_size_model_of_the_mixing_experiment(mixing):
    model = zoo.create(f"{mixing}_glow.cifar10")
    assert abs(count(model) - 46.8e6) < 0.1e6
