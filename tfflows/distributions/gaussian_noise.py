"""What is left of an integer after Gaussian noise: `P(x | y) = N(y; x + 1/2, stddev^2) / s(y)`."""

import math

import tensorflow as tf

from tfflows.numerics.parameters import stateless_seed
from tfflows.types import Seed

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def log_normalizer(y: tf.Tensor, stddev: float, num_levels: int) -> tf.Tensor:
    """Returns `log s(y) = log sum_{k=0}^{num_levels-1} N(y; k + 1/2, stddev^2)` of every entry.

    It is 0 up to `2 exp(-2 pi^2 stddev^2)` except near 0 and `num_levels`.
    """
    last = tf.constant(num_levels - 1, y.dtype)
    largest = _log_density(y, tf.clip_by_value(tf.floor(y), 0, last), stddev)

    def add(k, total):
        return k + 1, total + tf.exp(_log_density(y, k, stddev) - largest)

    _, total = _for_each_level(num_levels, add, [tf.zeros_like(y)])
    return largest + tf.math.log(total) - tf.constant(math.log(stddev) + _HALF_LOG_TWO_PI, y.dtype)


def sample_integers(y: tf.Tensor, stddev: float, num_levels: int, seed: Seed) -> tf.Tensor:
    """Returns a sample of `P(x | y)`, of the shape and dtype of `y`; NaN where `y` is."""
    seed = tf.convert_to_tensor(stateless_seed(seed))

    def draw(k, largest, x):  # Of all log-probabilities with Gumbel noise the largest.
        own = tf.stack([seed[0], seed[1] + k])
        u = tf.random.stateless_uniform(tf.shape(y), own, dtype=y.dtype)
        value = _log_density(y, k, stddev) - tf.math.log(-tf.math.log(u))
        return k + 1, tf.maximum(value, largest), tf.where(value > largest, tf.cast(k, y.dtype), x)

    start = [tf.fill(tf.shape(y), tf.constant(-math.inf, y.dtype)), y * 0]
    return _for_each_level(num_levels, draw, start)[-1]


def _for_each_level(num_levels, body, start):
    """A loop, so that memory does not grow with the number of levels."""
    return tf.while_loop(lambda k, *_: k < num_levels, body, [tf.constant(0), *start])


def _log_density(y, level, stddev):
    """Returns the logarithm of the normal density, but for its constant."""
    distance = (y - tf.cast(level, y.dtype) - 0.5) / tf.constant(stddev, y.dtype)
    return -0.5 * distance**2
