"""`Dequantized`: a distribution over integer images from a density over real ones."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfflows._keras import track
from tfflows._tensorflow import is_compiled_by_xla
from tfflows.conditioning import condition
from tfflows.distributions import gaussian_noise, integer_images
from tfflows.evaluation.network_calls import apply
from tfflows.evaluation.state import estimating
from tfflows.numerics.parameters import is_integer, is_number, stateless_seed
from tfflows.types import Network, Seed, TensorLike

_HALF_STEP = 2.0**-24  # Of uniform numbers in float32, which are multiples of 2^-23.
_NO_INTEGERS = (
    "images have NaNs, which no integers stand for: the inverse of a layer did not converge, or "
    "overflowed. A larger `max_iterations` of the layer may help. `distribution.sample`, of the "
    "density inside of `Dequantized`, returns the images with their NaNs."
)


class Dequantized(tfd.Distribution):
    """Distribution over integers `0 .. num_levels - 1` from a density of real images.

    With `p` the density, the probability of an integer image `x` is that of its unit cell,

        P(x) = int_{[0, 1)^D} p(x + u) du

    so that the sum of `P` over all images is the mass of `p` inside the box `[0, num_levels]^D`: 1
    for a density on the box, less for one that is positive outside of it, where `sample` takes the
    nearest integers. `log_prob` bounds `P` from below with one sample of a dequantiser `q(u | x)`:

        log P(x) >= E_q [ log p(x + u) - log q(u | x) ]

    `importance_log_prob` tightens the bound with `K` samples (Burda et al., 2016):

        log P(x) >= E log (1/K) sum_k p(x + u_k) / q(u_k | x),    exact as K grows.

    Both are random: they take a `seed`. Both refuse images that are not integers
    `0 .. num_levels - 1`, of any dtype: with a `ValueError` in eager mode and an assertion in a
    `tf.function`. **Under XLA, where there are no assertions, such an image gets NaN.**

    **Gaussian noise.** With `stddev`, noise goes beyond the cell of an integer, and the density is
    one of noisy images, `y = x + 1/2 + stddev e`, `e ~ N(0, I)`. Integers are then drawn in two
    steps, an image with noise and what may have been under it, whatever the density says:

        y ~ p,    P(x_i | y) = N(y_i; x_i + 1/2, stddev^2) / s(y_i)
        s(y_i) = sum_{k=0}^{num_levels-1} N(y_i; k + 1/2, stddev^2)

    This `P` sums to 1 over all images. `log_prob` bounds it as above, with `P(x | y)` in the place
    of the unit cell:

        log P(x) >= E_e [ log p(y) - sum_i log s(y_i) ]

    whose gradients are those of `log p(y)`, the loss of Zhai et al. (2024). What the second step
    does not know makes the bound looser the wider the noise. `denoise` takes the noise out with
    what the density knows: images to look at, without a likelihood.

    **Tables.** With `entries`, events are rows `[D]` of which only some entries are integers, of
    any size: noise is uniform, and added to these alone; `P` is a mass in these entries and a
    density in the others. Events are of the dtype of the density.

    Args:
      distribution: the density `p`, over events `[H, W, C]` (or any other shape).
      dequantizer: `None` for uniform noise, where `log q = 0`; or a callable that maps a batch of
        images (as floats) to the distribution `q(u | x)` over `(0, 1)^D`, such as
        `FlowDequantizer`.
      num_levels: number of values of a pixel; `None` with `entries`.
      entries: which entries of an event `[D]` are integers, `[D]`; `None` for an image.
      stddev: standard deviation of Gaussian noise, in steps between integers; `None` for another.
        0.05 of images that are scaled to `[-1, 1]`, Zhai et al.'s, is 6.4 of 256 levels.
      name: name of the distribution.

    Raises:
      ValueError: if `entries` are not those of an event, or come with a dequantiser or levels; if
        `stddev` is not positive and finite, or comes with a dequantiser or `entries`.

    #### Example

    ```python
    import tensorflow as tf
    import zoo

    images = zoo.create("glow.digits", discrete=True)  # A `Dequantized`.
    x = tf.zeros([3, 8, 8, 1], tf.uint8)
    images.log_prob(x, seed=[0, 1]).shape  # [3]
    ```

    #### References

    Theis, van den Oord, Bethge, *A Note on the Evaluation of Generative Models*, ICLR 2016,
    arXiv:1511.01844. Ho et al., *Flow++*, ICML 2019, arXiv:1902.00275 (variational dequantisation).
    Burda, Grosse, Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016, arXiv:1509.00519.
    Zhai et al., *Normalizing Flows are Capable Generative Models*, 2024, arXiv:2412.06329;
    Efron, *Tweedie's Formula and Selection Bias*, JASA 2011 (`stddev`, `denoise`).
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        *,
        dequantizer: Callable[[tf.Tensor], tfd.Distribution] | None = None,
        num_levels: int | None = 256,
        entries: Sequence[bool] | None = None,
        stddev: float | None = None,
        name: str = "dequantized",
    ) -> None:
        parameters = dict(locals())
        _check_stddev(stddev, dequantizer, entries)
        self._stddev = None if stddev is None else float(stddev)
        _check_entries(entries, num_levels, dequantizer, distribution.event_shape)
        self._entries = None if entries is None else tuple(map(bool, entries))
        self._continuous = distribution
        self._dequantizer = dequantizer
        self._num_levels = num_levels
        super().__init__(
            dtype=_dtype(num_levels, distribution.dtype),
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @property
    def distribution(self) -> tfd.Distribution:
        """The density over real images."""
        return self._continuous

    @property
    def dequantizer(self) -> Callable[[tf.Tensor], tfd.Distribution] | None:
        """`q(u | x)`, or `None` for uniform or Gaussian noise."""
        return self._dequantizer

    @property
    def stddev(self) -> float | None:
        """Standard deviation of Gaussian noise, in steps between integers; `None` of another."""
        return self._stddev

    @property
    def num_levels(self) -> int | None:
        """Number of values of a pixel; `None` for rows of a table."""
        return self._num_levels

    @property
    def entries(self) -> tuple[bool, ...] | None:
        """Which entries of a row are integers; `None` for images."""
        return self._entries

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"distribution": tfp.util.BatchedComponentProperties()}

    def _event_shape(self):
        return self._continuous.event_shape

    def _event_shape_tensor(self):
        return self._continuous.event_shape_tensor()

    def check(self, x: TensorLike) -> None:
        """Raises an error if an image of `x` is not of integers `0 .. num_levels - 1`.

        Args:
          x: images, `[..., *event]`, in eager mode.

        Raises:
          ValueError: says how many have other values, and of what range and dtype `x` is.
        """
        self._strangers(tf.convert_to_tensor(x))

    def dequantize(self, x: TensorLike, seed: Seed = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `x + u` and `log q(u | x)` for one sample `u`.

        With `stddev` the second is `log q(u | x) - log P(x | x + u)`, which is `sum_i log s(y_i)`.

        Args:
          x: integer images, `[..., *event]`.
          seed: Python `int` or a stateless seed, which give the same noise at every call; `None`
            for fresh noise.

        Raises:
          ValueError: if an image is not of integers `0 .. num_levels - 1`. In a `tf.function` an
            assertion fails; under XLA `x + u` is NaN.
        """
        x = tf.convert_to_tensor(x)
        strange = self._strangers(x)
        x = tf.cast(x, self._continuous.dtype)
        return self._add_noise(x if strange is None else tf.where(strange, _nan(x), x), seed)

    def _strangers(self, x):
        if self._entries is not None:
            return integer_images.strange_entries(x, self._entries)
        return integer_images.strangers(x, self._num_levels, self.event_shape.rank)

    def _add_noise(self, x, seed):
        if self._stddev is not None:
            e = tf.random.stateless_normal(tf.shape(x), stateless_seed(seed), dtype=x.dtype)
            y = x + 0.5 + self._stddev * e
            entries = gaussian_noise.log_normalizer(y, self._stddev, self._num_levels)
            return y, tf.reduce_sum(entries, list(range(-self.event_shape.rank, 0)))
        if self._dequantizer is None:
            u = tf.random.stateless_uniform(tf.shape(x), stateless_seed(seed), dtype=x.dtype)
            if self._entries is not None:
                u += _HALF_STEP  # Not 0: a column may be bounded there.
                u = tf.where(tf.constant(self._entries), u, tf.zeros_like(u))
            return x + u, tf.zeros([], x.dtype)
        noise = self._dequantizer(x)
        u, log_q = noise.experimental_sample_and_log_prob(seed=stateless_seed(seed))
        return x + u, log_q

    def log_prob(self, value: TensorLike, name: str = "log_prob", **kwargs: Any) -> tf.Tensor:
        """See `tfd.Distribution`; takes a `seed`."""
        # Not yet of the dtype that TFP gives an array: 0.5 would be 0, and 300 be 44.
        return super().log_prob(tf.convert_to_tensor(value), name, **kwargs)

    def prob(self, value: TensorLike, name: str = "prob", **kwargs: Any) -> tf.Tensor:
        """See `tfd.Distribution`; takes a `seed`."""
        return super().prob(tf.convert_to_tensor(value), name, **kwargs)

    def unnormalized_log_prob(
        self, value: TensorLike, name: str = "unnormalized_log_prob", **kwargs: Any
    ) -> tf.Tensor:
        """See `tfd.Distribution`; takes a `seed`."""
        return super().unnormalized_log_prob(tf.convert_to_tensor(value), name, **kwargs)

    def _log_prob(self, x, seed=None):
        strange = self._strangers(x)
        return self._marked(self._bound(tf.cast(x, self._continuous.dtype), seed), strange)

    def _marked(self, log_prob, strange):
        """Returns `log_prob`, NaN for images that are no integers, whatever a flow makes of NaN."""
        if strange is None:
            return log_prob
        strange = tf.squeeze(strange, list(range(-self.event_shape.rank, 0)))
        return log_prob + tf.where(strange, _nan(log_prob), tf.zeros([], log_prob.dtype))

    def _bound(self, x, seed):
        v, log_q = self._add_noise(x, seed)
        with estimating(seed):
            return self._continuous.log_prob(v) - log_q

    def importance_log_prob(self, x: TensorLike, num_samples: int, seed: Seed = None) -> tf.Tensor:
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
        x, seed = tf.convert_to_tensor(x), tf.convert_to_tensor(stateless_seed(seed))
        strange, x = self._strangers(x), tf.cast(x, self._continuous.dtype)
        total = self._bound(x, seed)
        _, total = tf.while_loop(
            lambda k, _: k < num_samples,
            lambda k, so_far: (
                k + 1,
                tfp.math.log_add_exp(so_far, self._bound(x, seed + tf.stack([0, k]))),
            ),
            [tf.constant(1), total],
        )
        return self._marked(total - tf.constant(math.log(num_samples), total.dtype), strange)

    def to_integers(self, v: TensorLike) -> tf.Tensor:
        """Returns the integers whose cells the real images `v` lie in, the nearest if outside.

        There is none for NaN, which is what an inverse that did not converge returns. **Under XLA,
        where there are no assertions, an image with a NaN comes back with the largest value of the
        dtype in every pixel**: 255, or 2147483647 if `num_levels` is above 256. No other image can
        have it, unless `num_levels` is 256; then `tf.math.is_nan(distribution.sample(...))` tells.

        Args:
          v: real images, `[..., *event]`.

        Raises:
          tf.errors.InvalidArgumentError: if an image has a NaN; says how many have. In a
            `tf.function` an assertion does so when it runs. Rows of a table, which are of floats,
            keep their NaNs.
        """
        v = tf.convert_to_tensor(v)
        if self._entries is not None or self._num_levels is None:
            return tf.where(tf.constant(self._entries), tf.floor(v), v)
        axes = list(range(-min(v.shape.rank, self.event_shape.rank), 0))
        failed = tf.reduce_any(tf.math.is_nan(v), axes, keepdims=True)
        with tf.control_dependencies(_refuse(failed)):
            x = tf.cast(tf.clip_by_value(tf.floor(v), 0, self._num_levels - 1), self.dtype)
        return tf.where(failed, tf.constant(self.dtype.max, self.dtype), x)

    def denoise(self, y: TensorLike) -> tf.Tensor:
        """Returns noisy images without their noise: `E[x + 1/2 | y]`, if the density is right.

            y + stddev^2 grad log p(y),  Tweedie's formula

        Zhai et al. (2024). It is a map, not a part of the model: what comes out has no
        likelihood. `to_integers` makes images of it.

        Args:
          y: real images with noise, `[..., *event]`: samples of `distribution`, for example.

        Raises:
          ValueError: if the model is one without `stddev`.
        """
        if self._stddev is None:
            raise ValueError(
                "`denoise` is for a `Dequantized` of Gaussian noise, with `stddev`. "
                f"Received: stddev=None, dequantizer={self._dequantizer!r}."
            )
        # Not the tensor that was sampled: its latents are known, and no gradient goes there.
        y = tf.identity(tf.convert_to_tensor(y, dtype_hint=self._continuous.dtype))
        _, gradient = tfp.math.value_and_gradient(self._continuous.log_prob, y)
        return y + self._stddev**2 * gradient

    def _sample_n(self, n, seed=None):
        if self._stddev is None:
            return self.to_integers(self._continuous.sample(n, seed=seed))
        first, second = tfp.random.split_seed(seed, n=2, salt="dequantized")
        y = self._continuous.sample(n, seed=first)
        return self.to_integers(
            gaussian_noise.sample_integers(y, self._stddev, self._num_levels, second)
        )


def _dtype(num_levels, dtype):
    """Returns the dtype of events, given that of the density."""
    if num_levels is None:
        return dtype
    return tf.uint8 if num_levels <= 256 else tf.int32


def _check_entries(entries, num_levels, dequantizer, event_shape):
    """Refuses what is neither an image nor a row of a table."""
    if (entries is None) == (num_levels is None):
        raise ValueError(
            "Either `num_levels` (of images) or `entries` (of rows, with num_levels=None) must be "
            f"given. Received: num_levels={num_levels}, entries={entries}."
        )
    if num_levels is not None and not (is_integer(num_levels) and num_levels >= 1):
        raise ValueError(
            f"`num_levels` must be None or a positive integer. Received: num_levels={num_levels!r}."
        )
    if entries is not None and (dequantizer is not None or event_shape != [len(entries)]):
        raise ValueError(
            "`entries` must be one for each entry of an event [D], without a `dequantizer`. "
            f"Received: entries={entries}, event_shape={event_shape}, dequantizer={dequantizer}."
        )


def _check_stddev(stddev, dequantizer, entries):
    """Refuses what is no standard deviation, and two kinds of noise."""
    if stddev is None:
        return
    if not (is_number(stddev) and 0 < stddev < math.inf):
        raise ValueError(
            f"`stddev` must be None or positive and finite. Received: stddev={stddev!r}."
        )
    if dequantizer is not None or entries is not None:
        raise ValueError(
            "`stddev` must be None with a `dequantizer` or `entries`, whose noise is another. "
            f"Received: stddev={stddev}, dequantizer={dequantizer!r}, entries={entries}."
        )


def _nan(x):
    return tf.constant(math.nan, x.dtype)


def _refuse(failed):
    """Raises an error if an entry of `failed` is true; returns the assertion of a graph instead."""
    count, total = tf.math.count_nonzero(failed, dtype=tf.int32), tf.size(failed)
    if is_compiled_by_xla():  # It would leave the assertion out, with a warning.
        return []
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

    def __init__(
        self,
        distribution: tfd.TransformedDistribution,
        context_network: Network,
        *,
        num_levels: int = 256,
        name: str = "flow_dequantizer",
    ) -> None:
        super().__init__(name=name)
        self._distribution = distribution
        self._context_network = track(self, context_network)
        self._num_levels = num_levels

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        parts = (copy.deepcopy(p, memo) for p in (self._distribution, self._context_network))
        return type(self)(*parts, num_levels=self._num_levels, name=self.name)

    def __call__(self, x: tf.Tensor) -> tfd.TransformedDistribution:
        """Returns the distribution of the noise of images `x` `[..., H, W, C]`."""
        scaled = x / self._num_levels - 0.5
        flat = tf.reshape(scaled, [-1, *x.shape[-3:]])
        context = apply(self._context_network, flat)
        context = tf.reshape(context, tf.concat([tf.shape(x)[:-3], context.shape[1:]], axis=0))
        context = tf.ensure_shape(context, [*x.shape[:-3], *context.shape[-3:]])
        return condition(self._distribution, context)
