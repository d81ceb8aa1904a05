"""The image data that several models are for, and how those are trained, most on two cores."""

import dataclasses
from typing import Any

from zoo.registry import Recipe

DIGITS = {"image_shape": (8, 8, 1), "num_levels": 17}
DIGITS_RECIPE = Recipe(
    dataset="digits", batch_size=128, steps=400, learning_rate=5e-3, beta_2=0.99, clip=50.0
)
MNIST = {"image_shape": (28, 28, 1), "num_levels": 256}
MNIST_RECIPE = Recipe(
    dataset="mnist", batch_size=64, steps=10_000, learning_rate=2e-3, beta_2=0.99, clip=50.0
)
CIFAR10 = {"image_shape": (32, 32, 3), "num_levels": 256}
CIFAR10_RECIPE = Recipe(
    dataset="cifar10",
    batch_size=32,
    steps=5_000,
    learning_rate=4e-3,
    beta_2=0.99,
    warmup_steps=200,
    clip=1000.0,  # About half of the gradient norms at first; the loss is in nats.
    flip=True,
)
# For an accelerator: larger batches, averaged weights.
CIFAR10_MEDIUM_RECIPE = dataclasses.replace(
    CIFAR10_RECIPE, batch_size=256, steps=20_000, learning_rate=2e-3, warmup_steps=300, ema=0.999
)


def transformer_recipe(recipe: Recipe, **changes: Any) -> Recipe:
    """Returns a recipe as transformer flows are trained, Zhai et al. (2024)."""
    changes = {"clip": 1.0, "ema": 0.999, **changes}
    return dataclasses.replace(
        recipe, optimizer="adam", beta_2=0.95, weight_decay=1e-4, decay="cosine", **changes
    )
