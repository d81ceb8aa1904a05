"""What the parameters that a network predicts do to an entry of an event: monotonic maps.

`Coupling` and `Autoregressive` take a `Transform`, or a function from parameters to a scalar
`tfb.Bijector`, which needs no class.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import _tensorflow
from tfflows.numerics import entry_splines, logistic_mixture
from tfflows.numerics.parameters import as_data, is_integer, is_number
from tfflows.numerics.shapes import with_shape
from tfflows.types import TensorLike

__all__ = [
    "Affine",
    "LogisticMixture",
    "MexicanHatScale",
    "RationalQuadratic",
    "Scalar",
    "SoftClip",
    "Transform",
    "as_transform",
]

LEAST_LOG_SCALE = math.log(1e-9)


@dataclasses.dataclass(frozen=True)
class SoftClip:
    """Logarithm of a scale that is nearly the network's output, and never larger than a bound.

        log s = B tanh(h / B),   |log s| < B

    `transforms.Affine("tanh")` has it with `B = 2`.

    Attributes:
      bound: `B`, positive.

    Raises:
      ValueError: if it is not.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows.bijectors import transforms

    affine = transforms.Affine(transforms.SoftClip(3.0), shift_first=True)
    y, log_slope = affine.move(tf.ones([1]), tf.constant([[0.0, 100.0]]), inverse=False)
    log_slope  # [3.]
    ```
    """

    bound: float = 3.0

    def __post_init__(self) -> None:
        if not (is_number(self.bound) and 0 < self.bound < math.inf):
            raise ValueError(
                f"`bound` must be positive and finite. Received: bound={self.bound!r}."
            )

    def __call__(self, h: tf.Tensor) -> tf.Tensor:
        """Maps `h` to `log s`."""
        return self.bound * tf.tanh(h / self.bound)


LOG_SCALES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    # Names of the bounded (and one unbounded) maps from a network's output h to log s.
    "tanh": SoftClip(2),  # Hoogeboom et al. (2020).
    # s = sigmoid(h + 2) < 1; Glow. Below the least it would underflow to 0, which has no inverse.
    "sigmoid": lambda h: tf.maximum(-tf.nn.softplus(-(h + 2)), LEAST_LOG_SCALE),
    # s = 2 sigmoid(h) < 2, 1 at h = 0; Kolesnikov et al. (2024).
    "double_sigmoid": lambda h: tf.maximum(math.log(2.0) - tf.nn.softplus(-h), LEAST_LOG_SCALE),
    "exp": lambda h: h,  # Unbounded; RealNVP scales a tanh instead.
}
# The hats' biases at the start are at least this far from the flat places and from each other.
_SPREAD = 0.2


class Transform(abc.ABC):
    """A map of every entry of an event by parameters of its own, monotonic in the entry.

    Attributes:
      num_parameters: how many an entry has; `None` for as many as there are.
    """

    num_parameters: int | None = None

    @abc.abstractmethod
    def move(
        self, x: tf.Tensor, parameters: tf.Tensor, inverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `g(x)` and `log g'(x)`, or the inverse and the negative, for every entry.

        Args:
          x: `[..., C]`.
          parameters: `[..., C, num_parameters]`.
          inverse: whether to invert.
        """

    def move_channels(
        self, x: tf.Tensor, h: tf.Tensor, inverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Does the same with parameters that are channels.

        Args:
          x: `[..., C]`.
          h: `[..., C num_parameters]`, all of the first entry's first.
          inverse: whether to invert.
        """
        shape = tf.concat([tf.shape(x), [h.shape[-1] // x.shape[-1]]], axis=0)
        return self.move(x, tf.reshape(h, shape), inverse)


@dataclasses.dataclass(frozen=True)
class Affine(Transform):
    """Scale and shift, Dinh et al. (2017), equations 7 and 8.

        y = s(gain h) x + gain t      or, with `shift_first`, s(gain h) (x + gain t)
        log g' = log s(gain h)

    with the parameters `(t, h)` of an entry and `log s` from `scale`; channels are first all `t`,
    then all `h`. With `scale=None` it is a shift (NICE), whose only parameter is `t`.

    **Deep flows.** Adam and Adamax move every weight by the learning rate, whatever the gradient.
    In a flow of `L` layers all shifts grow at once, and what they do together grows with `L`: with
    `gain=1/L` a step changes the flow by as much at every depth.

    Attributes:
      scale: `"tanh"` (`log s = 2 tanh(h/2)`), `"sigmoid"` (`s = sigmoid(h + 2)`, at least 1e-9),
        `"double_sigmoid"` (`s = 2 sigmoid(h)`, at least 1e-9; that of Jet: `n` layers expand a
        dimension at most `2^n` times, so few of them can't model fine detail), `"exp"`
        (`log s = h`, which over- and underflows for large `h`), a callable that maps `h` to
        `log s`, or `None`. A callable with an attribute `num_inputs` (`MexicanHatScale`) gets that
        many channels of `h` for each entry.
      gain: factor on the parameters, positive.
      shift_first: whether to shift before scaling, as transformer flows do.

    Raises:
      ValueError: if `scale` is none of these, or `gain` is not positive and finite.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows.bijectors import transforms

    y, log_slope = transforms.Affine("exp").move(tf.ones([3]), tf.ones([3, 2]), inverse=False)
    y  # [3.718, 3.718, 3.718]
    ```

    #### References

    Dinh, Sohl-Dickstein, Bengio, *Density Estimation using Real NVP*, ICLR 2017, arXiv:1605.08803.
    Dinh, Krueger, Bengio, *NICE: Non-linear Independent Components Estimation*, ICLR 2015 workshop,
    arXiv:1410.8516. Kolesnikov, Pinto, Tschannen, *Jet: A Modern Transformer-Based Normalizing
    Flow*, 2024, arXiv:2412.15129.
    """

    scale: str | Callable[[tf.Tensor], tf.Tensor] | None = "tanh"
    gain: float = 1.0
    shift_first: bool = False

    def __post_init__(self) -> None:
        scale = self.scale
        known = scale is None or callable(scale) or (isinstance(scale, str) and scale in LOG_SCALES)
        if not known:
            raise ValueError(
                f"`scale` must be None, a callable or one of {sorted(LOG_SCALES)}. "
                f"Received: scale={self.scale!r}."
            )
        if not (is_number(self.gain) and 0 < self.gain < math.inf):
            raise ValueError(f"`gain` must be positive and finite. Received: gain={self.gain!r}.")

    @property
    def num_parameters(self) -> int:  # type: ignore[override]
        """One shift, and what the scale takes."""
        return 1 if self.scale is None else 1 + getattr(self.scale, "num_inputs", 1)

    def move(
        self, x: tf.Tensor, parameters: tf.Tensor, inverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Transform.move`."""
        count = x.shape[-1] * parameters.shape[-1]
        channels = tf.concat([tf.shape(x)[:-1], [count]], axis=0)
        return self.move_channels(
            x, tf.reshape(tf.linalg.matrix_transpose(parameters), channels), inverse
        )

    def move_channels(
        self, x: tf.Tensor, h: tf.Tensor, inverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Transform.move_channels`; here all first parameters are first."""
        h = h if self.gain == 1 else self.gain * h
        if self.scale is None:
            return (x - h if inverse else x + h), tf.zeros_like(h)
        shift, h = tf.split(h, [x.shape[-1], h.shape[-1] - x.shape[-1]], axis=-1)
        log_scale = (LOG_SCALES[self.scale] if isinstance(self.scale, str) else self.scale)(h)
        if self.shift_first:
            if inverse:
                return tf.exp(-log_scale) * x - shift, -log_scale
            return tf.exp(log_scale) * (x + shift), log_scale
        if inverse:
            return tf.exp(-log_scale) * (x - shift), -log_scale
        return tf.exp(log_scale) * x + shift, log_scale


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

    #### Example

    ```python
    from tfflows.bijectors import transforms

    scale = transforms.MexicanHatScale(num_inputs=2, log_scale=0.1)
    transforms.Affine(scale).num_parameters  # 3
    ```

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """

    highest = 1.0  # At 0.
    lowest = -2 * math.exp(-1.5)  # At +-sqrt(3).

    def __init__(self, num_inputs: int = 4, log_scale: float = 0.0) -> None:
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

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return (self.num_inputs, self.log_scale) == (other.num_inputs, other.log_scale)

    def __hash__(self) -> int:
        return hash((self.num_inputs, self.log_scale))

    def __call__(self, h: TensorLike) -> tf.Tensor:
        """Maps `[..., M C]`, all of the first hat first, to `log s` `[..., C]`."""
        h = as_data(h)
        shape = tf.concat([tf.shape(h)[:-1], [self.num_inputs, -1]], axis=0)
        phi = tf.reshape(h, shape) + tf.constant(self._biases[:, np.newaxis], h.dtype)
        squared = tf.minimum(
            phi**2, 1e4
        )  # The hat is 0 there; where it overflows, it would be NaN.
        log_scale = tf.reduce_mean((1 - squared) * tf.exp(-squared / 2), axis=-2)
        return with_shape(log_scale, [*h.shape[:-1], h.shape[-1] // self.num_inputs])


def _hat(x):
    return (1 - x**2) * np.exp(-(x**2) / 2)


@dataclasses.dataclass(frozen=True)
class RationalQuadratic(Transform):
    """Rational-quadratic spline, Durkan et al. (2019), section 3.

    `I` bins on `[-B, B]`, the identity outside. With `(u, v, s)` the `I`, `I` and `I - 1`
    parameters of an entry:

        widths  2 B softmax(u), heights 2 B softmax(v), each at least 1e-3 of the box
        slopes  1e-3 + softplus(s + c) at the inner knots, with c such that s = 0 is a slope of 1;
                1 at the outer knots

    Parameters of 0 are the identity.

    Attributes:
      num_bins: `I`.
      bound: `B`.

    Raises:
      ValueError: if there are fewer than 2 bins, or too many, or `bound` is not positive.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows.bijectors import transforms

    spline = transforms.RationalQuadratic(num_bins=8, bound=3.0)
    y, log_slope = spline.move(tf.ones([5]), tf.zeros([5, 23]), inverse=False)  # the identity
    ```

    #### References

    Durkan, Bekasov, Murray, Papamakarios, *Neural Spline Flows*, NeurIPS 2019, arXiv:1906.04032.
    """

    num_bins: int = 8
    bound: float = 3.0

    def __post_init__(self) -> None:
        least = entry_splines.MIN_BIN
        if self.num_bins < 2 or self.num_bins * least >= 1:
            raise ValueError(
                f"`num_bins` must be at least 2 and less than {round(1 / least)}. "
                f"Received: num_bins={self.num_bins}."
            )
        if not self.bound > 0:
            raise ValueError(f"`bound` must be positive. Received: bound={self.bound}.")

    @property
    def num_parameters(self) -> int:  # type: ignore[override]
        """Widths, heights, and the slopes between."""
        return 3 * self.num_bins - 1

    def move(
        self, x: tf.Tensor, parameters: tf.Tensor, inverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Transform.move`."""
        return entry_splines.transform(x, parameters, self.bound, inverse)


@dataclasses.dataclass(frozen=True)
class LogisticMixture(Transform):
    """Distribution function of a mixture of logistics, then an affine map; Flow++.

        y = s logit F(x) + t,   F(x) = sum_k p_k sigmoid((x - m_k) / s_k)

    Ho et al. (2019), section 3.2. With `(t, h, u, v, w)` the 1, 1, `K`, `K` and `K` parameters of
    an entry:

        log s    2 tanh(h/2), as that of `Affine`
        p        softmax(u)
        m_k      c_k + v_k, `c` the midpoints of `K` equal parts of [-1, 1]
        log s_k  5 tanh(w_k / 5)

    Parameters of 0 are nearly the identity: `y` differs from `x` by less than 0.162, slopes are in
    [0.924, 1]. Without `c` all components would be equal there, and stay so.

    **Inverse.** There is none in closed form: Newton's method in a bracket, until what is left is
    rounding. It is found of parameters of any size, as is `y`; but between narrow components that
    are far apart the map is flat, and `x` is as uncertain there as the rounding of `y` makes it.
    Gradients are those of the implicit function theorem.

    Attributes:
      num_components: `K`.

    Raises:
      ValueError: if it is no positive integer.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows.bijectors import transforms

    mixture = transforms.LogisticMixture(num_components=4)
    y, log_slope = mixture.move(tf.ones([5]), tf.zeros([5, 14]), inverse=False)
    y  # [0.93, 0.93, 0.93, 0.93, 0.93]
    ```

    #### References

    Ho, Chen, Srinivas, Duan, Abbeel, *Flow++: Improving Flow-Based Generative Models with
    Variational Dequantization and Architecture Design*, ICML 2019, arXiv:1902.00275.
    """

    num_components: int = 4

    def __post_init__(self) -> None:
        if not (is_integer(self.num_components) and self.num_components > 0):
            raise ValueError(
                "`num_components` must be a positive integer. "
                f"Received: num_components={self.num_components!r}."
            )

    @property
    def num_parameters(self) -> int:  # type: ignore[override]
        """A shift, a scale, and three of each component."""
        return 2 + 3 * self.num_components

    def move(
        self, x: tf.Tensor, parameters: tf.Tensor, inverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Transform.move`."""
        affine, raw = tf.split(parameters, [2, 3 * self.num_components], axis=-1)
        if inverse:
            x, log_scale = Affine().move(x, affine, inverse)
            x, log_slope = logistic_mixture.transform(x, raw, inverse)
        else:
            x, log_slope = logistic_mixture.transform(x, raw, inverse)
            x, log_scale = Affine().move(x, affine, inverse)
        return x, log_slope + log_scale


@dataclasses.dataclass(frozen=True)
class Scalar(Transform):
    """Any scalar bijector, made from the parameters.

    Attributes:
      function: maps parameters `[..., C, P]` to a `tfb.Bijector` of scalars with batch shape
        `[..., C]`, increasing or decreasing. It has no variables: the network has.
      num_parameters: `P`; `None` for as many as the network predicts.

    #### Example

    ```python
    import tensorflow as tf
    import tensorflow_probability as tfp
    from tfflows import bijectors

    def bend(h):
        return tfp.bijectors.SinhArcsinh(h[..., 0], tf.exp(h[..., 1]))

    flow = bijectors.Coupling(lambda a: tf.concat([a, a], -1), [4], bend)
    flow.forward(tf.ones([3, 4])).shape  # [3, 4]
    ```
    """

    function: Callable[[tf.Tensor], tfp.bijectors.Bijector]
    num_parameters: int | None = None

    def move(
        self, x: tf.Tensor, parameters: tf.Tensor, inverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Transform.move`."""
        bijector = self.function(parameters)
        with _tensorflow.let_tapes_record():  # It may differentiate something itself.
            if inverse:
                return bijector.inverse(x), bijector.inverse_log_det_jacobian(x, 0)
            return bijector.forward(x), bijector.forward_log_det_jacobian(x, 0)


# What `Coupling` and `Autoregressive` take; a function makes a scalar bijector of parameters.
TransformLike: TypeAlias = Transform | Callable[[tf.Tensor], tfp.bijectors.Bijector]


def as_transform(value: TransformLike) -> Transform:
    """Returns a `Transform`, a function as a `Scalar`.

    Raises:
      TypeError: if it is neither.
    """
    if isinstance(value, Transform):
        return value
    if isinstance(value, type) or not callable(value):
        raise TypeError(
            "`transform` must be a `Transform`, such as `transforms.Affine()`, or a function from "
            f"parameters to a scalar `tfb.Bijector`. Received: transform={value!r}."
        )
    return Scalar(value)
