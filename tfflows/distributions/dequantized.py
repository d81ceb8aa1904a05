"""`Dequantized`: a distribution over integer images from a density over real ones."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.bijectors._parameters import stateless_seed
from tfflows.bijectors.estimation import estimating
from tfflows.conditioning import condition

tfd = tfp.distributions

_NO_INTEGERS = (
    "images have NaNs, which no integers stand for: the inverse of a layer did not converge, or "
    "overflowed. A larger `max_iterations` of the layer may help. `distribution.sample`, of the "
    "density inside of `Dequantized`, returns the images with their NaNs."
)


class Dequantized(tfd.Distribution):
    """Distribution over integers `0 .. num_levels - 1` from a density on `[0, num_levels]`.

    With `p` the density, the probability of an integer image `x` is that of its unit cell,

        P(x) = int_{[0, 1)^D} p(x + u) du

    which `log_prob` bounds from below with one sample of a dequantiser `q(u | x)`:

        log P(x) >= E_q [ log p(x + u) - log q(u | x) ]

    `importance_log_prob` tightens the bound with `K` samples (Burda et al., 2016):

        log P(x) >= E log (1/K) sum_k p(x + u_k) / q(u_k | x),    exact as K grows.

    Both are random: they take a `seed`.

    Args:
      distribution: the density `p`, over events `[H, W, C]` (or any other shape).
      dequantizer: `None` for uniform noise, where `log q = 0`; or a callable that maps a batch of
        images (as floats) to the distribution `q(u | x)` over `(0, 1)^D`, such as
        `FlowDequantizer`.
      num_levels: number of values of a pixel.
      name: name of the distribution.

    #### References

    Theis, van den Oord, Bethge, *A Note on the Evaluation of Generative Models*, ICLR 2016,
    arXiv:1511.01844. Ho et al., *Flow++*, ICML 2019, arXiv:1902.00275 (variational dequantisation).
    Burda, Grosse, Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016, arXiv:1509.00519.
    """

    def __init__(self, distribution, dequantizer=None, num_levels=256, name="dequantized"):
        parameters = dict(locals())
        self._continuous = distribution
        self._dequantizer = dequantizer
        self._num_levels = num_levels
        super().__init__(
            dtype=tf.uint8 if num_levels <= 256 else tf.int32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @property
    def distribution(self):
        """The density over real images."""
        return self._continuous

    @property
    def dequantizer(self):
        """`q(u | x)`, or `None` for uniform noise."""
        return self._dequantizer

    @property
    def num_levels(self):
        """Number of values of a pixel."""
        return self._num_levels

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"distribution": tfp.util.BatchedComponentProperties()}

    def _event_shape(self):
        return self._continuous.event_shape

    def _event_shape_tensor(self):
        return self._continuous.event_shape_tensor()

    def dequantize(self, x, seed=None):
        """Returns `x + u` and `log q(u | x)` for one sample `u`.

        Args:
          x: integer images, `[..., *event]`.
          seed: Python `int` or a stateless seed, which give the same noise at every call; `None`
            for fresh noise.
        """
        x = tf.cast(x, self._continuous.dtype)
        if self._dequantizer is None:
            u = tf.random.stateless_uniform(tf.shape(x), stateless_seed(seed), dtype=x.dtype)
            return x + u, tf.zeros([], x.dtype)
        noise = self._dequantizer(x)
        u, log_q = noise.experimental_sample_and_log_prob(seed=stateless_seed(seed))
        return x + u, log_q

    def _log_prob(self, x, seed=None):
        v, log_q = self.dequantize(x, seed)
        with estimating(seed):
            return self._continuous.log_prob(v) - log_q

    def importance_log_prob(self, x, num_samples, seed=None):
        """Returns the bound with `num_samples` samples of the dequantiser.

        The samples are taken one after the other, so memory does not grow with their number.

        Args:
          x: integer images, `[..., *event]`.
          num_samples: `K`, Python `int`.
          seed: Python `int` or a stateless seed.

        Returns:
          A `Tensor` `[...]`, in nats.
        """
        if num_samples < 1:
            raise ValueError(
                f"`num_samples` must be at least 1. Received: num_samples={num_samples}."
            )
        seed = tf.convert_to_tensor(stateless_seed(seed))
        total = self._log_prob(x, seed)
        _, total = tf.while_loop(
            lambda k, _: k < num_samples,
            lambda k, so_far: (
                k + 1,
                tfp.math.log_add_exp(so_far, self._log_prob(x, seed + tf.stack([0, k]))),
            ),
            [tf.constant(1), total],
        )
        return total - tf.constant(math.log(num_samples), total.dtype)

    def to_integers(self, v):
        """Returns the integers whose cells the real images `v` lie in, the nearest if outside.

        There is none for NaN, which is what an inverse that did not converge returns. **Under XLA,
        where there are no assertions, an image with a NaN comes back with the largest value of the
        dtype in every pixel**: 255, or 2147483647 if `num_levels` is above 256. No other image can
        have it, unless `num_levels` is 256; then `tf.math.is_nan(distribution.sample(...))` tells.

        Args:
          v: real images, `[..., *event]`.

        Raises:
          tf.errors.InvalidArgumentError: if an image has a NaN; says how many have. In a
            `tf.function` an assertion does so when it runs.
        """
        v = tf.convert_to_tensor(v)
        axes = list(range(-min(v.shape.rank, self.event_shape.rank), 0))
        failed = tf.reduce_any(tf.math.is_nan(v), axes, keepdims=True)
        with tf.control_dependencies(_refuse(failed)):
            x = tf.cast(tf.clip_by_value(tf.floor(v), 0, self._num_levels - 1), self.dtype)
        return tf.where(failed, tf.constant(self.dtype.max, self.dtype), x)

    def _sample_n(self, n, seed=None):
        return self.to_integers(self._continuous.sample(n, seed=seed))


def _refuse(failed):
    """Raises an error if an entry of `failed` is true; returns the assertion of a graph instead."""
    count, total = tf.math.count_nonzero(failed, dtype=tf.int32), tf.size(failed)
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(count == 0, [count, "of", total, _NO_INTEGERS])]
    if count > 0:
        raise tf.errors.InvalidArgumentError(None, None, f"{count} of {total} {_NO_INTEGERS}")
    return []


class FlowDequantizer(tf.Module):
    """Variational dequantiser: `q(u | x)` is a flow on `(0, 1)^D` given features of the image.

    Args:
      distribution: a conditional `tfd.TransformedDistribution` with samples in `(0, 1)`.
      context_network: maps images, scaled to `[-1/2, 1/2]`, to the context.
      num_levels: number of values of a pixel.
      name: name of the module.
    """

    def __init__(self, distribution, context_network, num_levels=256, name="flow_dequantizer"):
        super().__init__(name=name)
        self._distribution = distribution
        self._context_network = context_network
        # As in `FlowBijector`: makes Keras variables visible to `tf.Module`.
        self._context_variables = [v.value for v in context_network.variables]
        self._num_levels = num_levels

    def __call__(self, x):
        """Returns the distribution of the noise of images `x` `[..., H, W, C]`."""
        scaled = x / self._num_levels - 0.5
        flat = tf.reshape(scaled, [-1, *x.shape[-3:]])
        context = self._context_network(flat)
        context = tf.reshape(context, tf.concat([tf.shape(x)[:-3], context.shape[1:]], axis=0))
        context = tf.ensure_shape(context, [*x.shape[:-3], *context.shape[-3:]])
        return condition(self._distribution, context)
