"""Distributions of integers and of real events, asked in one way."""

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflows.distributions.dequantized import Dequantized
from tfflows.types import Seed


def is_discrete(distribution: tfd.Distribution) -> bool:
    """Returns whether a distribution is one of integers: a `Dequantized`."""
    return isinstance(distribution, Dequantized)


def density_of(distribution: tfd.Distribution) -> tfd.Distribution:
    """Returns the density over real events: of a `Dequantized`, the one with noise."""
    return distribution.distribution if is_discrete(distribution) else distribution


def to_real(distribution: tfd.Distribution, x: tf.Tensor, seed: Seed) -> tf.Tensor:
    """Returns what the density gets of a batch: integers plus noise, other events as they are.

    Args:
      distribution: a `Dequantized` or any other.
      x: a batch of its events.
      seed: a stateless seed `[2]` of the noise.
    """
    return distribution.dequantize(x, seed=seed)[0] if is_discrete(distribution) else x
