"""`MexicanHatScale`: a bounded scale whose value at the start can be chosen."""

import math

import numpy as np
import tensorflow as tf

from tfflows.numerics.parameters import as_data
from tfflows.numerics.shapes import with_shape

HIGHEST = 1.0  # At 0.
LOWEST = -2 * math.exp(-1.5)  # At +-sqrt(3).
_SPREAD = 0.2  # Of the first biases around their centre.


def _hat(x):
    return (1 - x**2) * np.exp(-(x**2) / 2)


class MexicanHatScale:
    """Logarithm of the scale of an affine coupling, Liao and He (2021), equation 15.

        log s = 1/M sum_m (1 - phi_m^2) exp(-phi_m^2 / 2),   phi_m = h_m + b_m

    with `h_m` the outputs of the network's last linear layer, which starts at zero. Its range is
    `[-2 exp(-3/2), 1]`, so `s` lies in `[0.640, 2.718]`, not in (0.5, 3) as the paper has it.

    **Start.** The hat has slope 0 at its top and at its brims +-sqrt(3), where training could not
    move it. The first biases lie between, on both flanks in turn and a little apart from each other
    so that the M hats differ, where their mean is `log_scale`. They are constants: the network's
    last layer has a bias to learn.

    Args:
      num_inputs: `M`, the number of network outputs for each scale.
      log_scale: `log s` at the start, when the network returns zeros.

    Raises:
      ValueError: if `log_scale` can't be reached on a flank of all hats.

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """

    def __init__(self, num_inputs=4, log_scale=0.0):
        self.num_inputs = num_inputs
        self.log_scale = log_scale
        offsets = _SPREAD * np.linspace(-1, 1, num_inputs) if num_inputs > 1 else np.zeros(1)
        low, high = _SPREAD, math.sqrt(3) - _SPREAD  # The mean falls from one to the other.
        if not _hat(high + offsets).mean() <= log_scale <= _hat(low + offsets).mean():
            raise ValueError(
                "`log_scale` must be between "
                f"{_hat(high + offsets).mean():.3f} and {_hat(low + offsets).mean():.3f}, where "
                f"the scale can be trained. Received: log_scale={log_scale}."
            )
        for _ in range(60):
            middle = (low + high) / 2
            if _hat(middle + offsets).mean() > log_scale:
                low = middle
            else:
                high = middle
        self._biases = (low + offsets) * (-1) ** np.arange(num_inputs)

    # Two that compute the same are equal: layers that have them are alike, see `looping`.

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return (self.num_inputs, self.log_scale) == (other.num_inputs, other.log_scale)

    def __hash__(self):
        return hash((self.num_inputs, self.log_scale))

    def __call__(self, h):
        """Maps `[..., M C]`, all of the first hat first, to `log s` `[..., C]`."""
        h = as_data(h)
        shape = tf.concat([tf.shape(h)[:-1], [self.num_inputs, -1]], axis=0)
        phi = tf.reshape(h, shape) + tf.constant(self._biases[:, np.newaxis], h.dtype)
        squared = tf.minimum(
            phi**2, 1e4
        )  # The hat is 0 there; where it overflows, it would be NaN.
        log_scale = tf.reduce_mean((1 - squared) * tf.exp(-squared / 2), axis=-2)
        return with_shape(log_scale, [*h.shape[:-1], h.shape[-1] // self.num_inputs])
