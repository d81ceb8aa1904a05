"""`RationalQuadraticCoupling`: the neural spline flow with coupling layers (RQ-NSF)."""

import math

import tensorflow as tf

from tfflows.bijectors import rational_quadratic
from tfflows.bijectors.coupling import Coupling

MIN_BIN = 1e-3  # Of a width or a height, relative to the box.
MIN_SLOPE = 1e-3


class RationalQuadraticCoupling(Coupling):
    """Rational-quadratic spline coupling, Durkan et al. (2019), section 3.

    One part of the event moves the other through splines with `I` bins on `[-B, B]`, the identity
    outside. With `(u, v, s) = network(a)`, `I`, `I` and `I - 1` numbers for each entry of `b`:

        widths  2 B softmax(u), heights 2 B softmax(v), each at least 1e-3 of the box
        slopes  1e-3 + softplus(s + c) at the inner knots, with c such that s = 0 is a slope of 1;
                1 at the outer knots
        forward:  (a, b) -> (a, spline(b))
        log-det:  sum log spline'(b)

    The network returns `3 I - 1` channels for each channel of `b`: all of the first channel's, then
    all of the second's. If it returns zeros the layer is the identity.

    Args:
      network: see `Coupling`.
      event_shape: shape of an event, fully known.
      num_bins: `I`.
      bound: `B`.
      split: `"channel"` or `"checkerboard"`, see `Coupling`.
      split_size: number of channels of `a`, for `split="channel"`.
      reverse: swaps the roles of `a` and `b`: the last part moves the first.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, see `Coupling`.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      dtype: dtype of the events.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the network is not built, its output has the wrong shape, or the context is
        missing.

    #### References

    Durkan, Bekasov, Murray, Papamakarios, *Neural Spline Flows*, NeurIPS 2019, arXiv:1906.04032.
    """

    def __init__(
        self,
        network,
        event_shape,
        num_bins=8,
        bound=3.0,
        split="channel",
        split_size=None,
        reverse=False,
        conditional=False,
        context=None,
        context_ndims=None,
        dtype=tf.float32,
        validate_args=False,
        name="rational_quadratic_coupling",
    ):
        parameters = dict(locals())
        if num_bins < 2 or num_bins * MIN_BIN >= 1:
            raise ValueError(
                f"`num_bins` must be at least 2 and less than {round(1 / MIN_BIN)}. "
                f"Received: num_bins={num_bins}."
            )
        if not bound > 0:
            raise ValueError(f"`bound` must be positive. Received: bound={bound}.")
        self._num_bins, self._bound = num_bins, bound
        super().__init__(
            network,
            event_shape,
            3 * num_bins - 1,
            split=split,
            split_size=split_size,
            reverse=reverse,
            conditional=conditional,
            context=context,
            context_ndims=context_ndims,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _spline(self, b, h):
        bins = self._num_bins
        h = tf.reshape(h, tf.concat([tf.shape(b), [3 * bins - 1]], axis=0))
        widths, heights, slopes = tf.split(h, [bins, bins, bins - 1], axis=-1)
        widths, heights = (
            MIN_BIN + (1 - MIN_BIN * bins) * tf.nn.softmax(v) for v in (widths, heights)
        )
        slopes = MIN_SLOPE + tf.nn.softplus(slopes + math.log(math.expm1(1 - MIN_SLOPE)))
        edge = tf.ones_like(slopes[..., :1])
        corner = tf.fill(tf.shape(b), tf.cast(-self._bound, b.dtype))
        return rational_quadratic.Spline(
            corner,
            corner,
            2 * self._bound * widths,
            heights / widths,
            tf.concat([edge, slopes, edge], axis=-1),
        )

    def _move(self, b, h, inverse):
        function = rational_quadratic.inverse if inverse else rational_quadratic.forward
        return function(self._spline(b, h), b)
