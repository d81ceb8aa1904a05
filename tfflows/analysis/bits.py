"""Bits per dimension, defined once."""

import math

import numpy as np
import tensorflow as tf

from tfflows.types import TensorLike


def bits_per_dim(log_prob: TensorLike, num_dims: int) -> float | np.ndarray | tf.Tensor:
    """Returns `-log_2 P(x) / D`, the bits that an ideal code spends on one pixel of one channel.

    The log-probability is that of *integer* images, whose cells have unit size; a density over
    images that were scaled to `[0, 1]` would first need `- D log 256`. With `Dequantized` it is a
    bound: say which dequantisation and how many samples gave it.

    Args:
      log_prob: `log P(x)` in nats; a number, array, list or `Tensor`.
      num_dims: `D`, the number of pixels times the number of channels.

    Returns:
      Bits per dimension, of the type of `log_prob`; an array for a list.

    #### Example

    ```python
    import math
    import tfflows

    # Uniform noise over 256 levels costs 8 bits a pixel.
    tfflows.analysis.bits_per_dim(log_prob=-3072 * math.log(256), num_dims=3072)  # 8.0
    ```
    """
    if isinstance(log_prob, list | tuple):
        log_prob = np.asarray(log_prob)
    return -log_prob / (num_dims * math.log(2))
