"""`RationalQuadraticActivation`: the elementwise spline of the volume-balanced flow."""

import math
from typing import Self

import tensorflow as tf

from tfflows.evaluation import state
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import rational_quadratic
from tfflows.numerics.compiled import CompiledFunction
from tfflows.numerics.parameters import as_event_shape, as_parameter
from tfflows.types import DTypeLike, Shape, TensorLike

MIN_WIDTH = 1e-3  # Of a bin, relative to the box.
SMALLEST = 1e-9  # Of a softmax or sigmoid: one that underflows to 0 would leave no bijection.
FAR = 1e5  # Where the far bins of the paper end.
MAX_SLOPE = 1 - 1e-6  # The largest slope to start with: a sigmoid does not reach 1.


class RationalQuadraticActivation(FlowBijector):
    """Monotonic rational-quadratic activation, Liao and He (2021), equations 16, 17 and 27 to 32.

    An elementwise spline with one set of parameters for each channel. In bin `i`, with width `D`,
    ratio `d` of height and width, slopes `a_0`, `a_1` at its knots and `xi = (x - x_i) / D`,

        forward:  y = y_i + d D (d xi^2 + a_0 xi (1 - xi)) / (d + (a_0 + a_1 - 2 d) xi (1 - xi))
        log-det:  sum log y',  the sum over the entries of an event
        inverse:  the root of a quadratic equation

    **Contractive** (the default): `y' <= 1` everywhere, whatever the parameters. From
    `unnormalized_widths` `[C, I]`, `unnormalized_ratios` `[C, I]`, `unnormalized_slopes`
    `[C, I + 1]` and the half width `w = exp(log_width)` `[C]` of the box, with each softmax and
    sigmoid at least 1e-9:

        D = 2 w softmax(widths),  each at least 1e-3 of the box;   x_0 = -w,   y_0 = -sum(d D) / 2
        d = sigmoid(ratios)
        a = m + (1 - m) sigmoid(slopes),   m = max(0, 2 d^2 - d), the larger of the two bins

    *Proof.* With `a_0, a_1` in `[m, 1]`, `d` in (0, 1] and `u = xi / (1 - xi)`, `y' <= 1` is

        Q = (d (1 + u^2) + (a_0 + a_1) u)^2 - d^2 (1 + u)^2 (a_1 u^2 + 2 d u + a_0) >= 0

    Replacing `u` by `1 / u` swaps `a_0` and `a_1`, so let `u >= 1`. Then
    `dQ/da_0 = 2 u (d (1 + u^2) + (a_0 + a_1) u) - d^2 (1 + u)^2 >= 2 d (1 + u^2) (u - d) >= 0`,
    so let `a_0 = m`. With `e = (a_1 - m) / 2`, `a = m + e`, `v = (u + 1/u) / 2 >= 1`,

        Q / (2 u)^2 = d^2 (1 - a) v^2 + (2 d a - d^2 a - d^3) v + a^2 - d^3
                      - d^2 e (v + 1) sqrt(v^2 - 1)

    which is at least `F(v)`, the same with `v` in the place of the root: a parabola with leading
    coefficient `d^2 (1 - a_1) >= 0`. `F(1) = (d + a)(d + a - 2 d^2) - 2 d^2 e` is `e^2` if
    `m = 2 d^2 - d`, and `(1 - 2 d)(d^2 + 2 d e) + e^2` if `m = 0`, when `d <= 1/2`.
    `F'(1) = d (2 d - d^2 - 3 d a_1 + 2 a)` is linear in `a_1`. From `a_1 = m` to `a_1 = 1` it goes
    from `6 d^3 (1 - d)` to `d (1 - d)^2` if `m = 2 d^2 - d`, and from `d (2 d - d^2)` to
    `d (1 - d - d^2)` if `m = 0`. So `F >= 0` for all `v >= 1`. The condition could not be weaker by
    much: in the middle of a bin, `y' <= 1` says `(a_0 + a_1) / 2 >= 2 d^2 - d`.

    **As printed** (`parameterization="paper"`): `unnormalized_widths` and `unnormalized_ratios` are
    `[C, I + 1]`, and

        b = softmax(widths);   x_i = (2 cumsum(b)_i - 1) w
        c = cumsum(sigmoid(ratios) b);   y_i = (2 c_i - max(c)) w;   a = sigmoid(slopes)

    which does not bound the slope by 1: inside a bin it reaches `2 d`, so 2. The first knot is at
    `(2 b_0 - 1) w`, not at `-w`.

    **Tails.** `"linear"`: the slope of the outermost knot. `"far"`, as in the paper: one more bin
    on each side, up to +-1e5, with a fixed far knot; in float32 it is off by a few 1e-2,
    and its slope may exceed 1.

    Args:
      unnormalized_widths: `[C, I]`, for `"paper"` `[C, I + 1]`.
      unnormalized_ratios: of the same shape.
      unnormalized_slopes: `[C, I + 1]`.
      log_width: `[C]`, logarithm of half the width of the box.
      parameterization: `"contractive"` or `"paper"`.
      tails: `"linear"` or `"far"`.
      far_slope: slope of the fixed far knots, which lie on the line of this slope through 0.
      event_ndims: rank of an event, whose last dimension is the channel: 3 for `[H, W, C]`.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if shapes do not fit each other, or an option is not one of the above.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    activation = bijectors.RationalQuadraticActivation.trainable([16, 16, 12], slope=0.75)
    x = tf.random.normal([8, 16, 16, 12])
    y = activation.forward(x)  # 0.75 x, until it is trained
    ```

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539. Durkan, Bekasov,
    Murray, Papamakarios, *Neural Spline Flows*, NeurIPS 2019, arXiv:1906.04032.
    """

    is_unit = True

    def __init__(
        self,
        unnormalized_widths: TensorLike,
        unnormalized_ratios: TensorLike,
        unnormalized_slopes: TensorLike,
        log_width: TensorLike,
        *,
        parameterization: str = "contractive",
        tails: str = "linear",
        far_slope: float = 1.0,
        event_ndims: int = 3,
        validate_args: bool = False,
        name: str = "rational_quadratic_activation",
    ) -> None:
        parameters = dict(locals())
        self._widths = as_parameter(unnormalized_widths)
        self._ratios = as_parameter(unnormalized_ratios)
        self._slopes = as_parameter(unnormalized_slopes)
        self._log_width = as_parameter(log_width)
        self._parameterization = parameterization
        self._tails = tails
        self._far_slope = far_slope
        self._validate()
        super().__init__(
            forward_min_event_ndims=event_ndims,
            event_shape=(None,) * (event_ndims - 1) + (self._slopes.shape[0],),
            dtype=self._slopes.dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _validate(self):
        for argument, value, known in (
            ("parameterization", self._parameterization, ("contractive", "paper")),
            ("tails", self._tails, ("linear", "far")),
        ):
            if value not in known:
                raise ValueError(
                    f"`{argument}` must be one of {known}. Received: {argument}={value!r}."
                )
        if self._slopes.shape.rank != 2:
            raise ValueError(
                "`unnormalized_slopes` must have shape [C, I + 1]. "
                f"Received: unnormalized_slopes.shape={tuple(self._slopes.shape)}."
            )
        channels, knots = self._slopes.shape
        bins = knots if self._parameterization == "paper" else knots - 1
        for argument, value, expected in (
            ("unnormalized_widths", self._widths, (channels, bins)),
            ("unnormalized_ratios", self._ratios, (channels, bins)),
            ("log_width", self._log_width, (channels,)),
        ):
            if value.shape != expected:
                raise ValueError(
                    f"`{argument}` must have shape {expected} beside unnormalized_slopes.shape="
                    f"{(channels, knots)}. Received: {argument}.shape={tuple(value.shape)}."
                )

    @classmethod
    def trainable(
        cls,
        event_shape: Shape,
        *,
        slope: float = 1.0,
        num_bins: int = 16,
        width: float = 3.0,
        parameterization: str = "contractive",
        tails: str = "linear",
        dtype: DTypeLike = tf.float32,
        name: str = "rational_quadratic_activation",
    ) -> Self:
        """Returns an activation with variables that starts as `y = slope x`.

        For `"paper"` with its shifted first knot, as `y = slope x` plus a constant.

        Args:
          event_shape: `[..., C]`; sizes before the last may be `None`.
          slope: `beta`, in (0, 1]. At 1 the sigmoids are saturated: training moves it slowly.
          num_bins: `I`.
          width: half the width of the box at first.
          parameterization: see the class.
          tails: see the class.
          dtype: dtype of the variables.
          name: name of the bijector.

        Raises:
          ValueError: if `slope` is not in (0, 1].
        """
        if not 0 < slope <= 1:
            raise ValueError(f"`slope` must be in (0, 1]. Received: slope={slope}.")
        event_shape = as_event_shape(event_shape)
        num_channels = event_shape[-1]
        beta = min(slope, MAX_SLOPE)
        logit = math.log(beta / (1 - beta))
        # For the slope at a knot to be `beta`, sigmoid = (beta - m) / (1 - m).
        contractive_logit = math.log(2 * beta) if beta > 0.5 else logit
        widths = num_bins + (parameterization == "paper")

        def variable(size, value, what):
            shape = [num_channels, size] if size else [num_channels]
            return tf.Variable(tf.fill(shape, tf.cast(value, dtype)), name=f"{name}_{what}")

        return cls(
            variable(widths, 0.0, "widths"),
            variable(widths, logit, "ratios"),
            variable(
                num_bins + 1,
                logit if parameterization == "paper" else contractive_logit,
                "slopes",
            ),
            variable(0, math.log(width), "log_width"),
            parameterization=parameterization,
            tails=tails,
            far_slope=slope,
            event_ndims=len(event_shape),
            name=name,
        )

    def spline(self) -> rational_quadratic.Spline:
        """Returns the `rational_quadratic.Spline` of each channel."""
        return _spline(*self._unnormalized(), **self._options())

    def _unnormalized(self):
        parameters = (self._widths, self._ratios, self._slopes, self._log_width)
        return [tf.convert_to_tensor(parameter) for parameter in parameters]

    def _options(self):
        return {
            "parameterization": self._parameterization,
            "far_slope": self._far_slope if self._tails == "far" else None,
        }

    def _forward_and_log_det(self, x):
        return self._transform(x, inverse=False)

    def _inverse_and_log_det(self, y):
        return self._transform(y, inverse=True)

    def _transform(self, value, inverse):
        options = self._options() | {"accelerated": state.now().is_accelerated}
        value, log_slopes = _TRANSFORM(value, *self._unnormalized(), inverse=inverse, **options)
        return value, tf.reduce_sum(log_slopes, list(range(-self.forward_min_event_ndims, 0)))


def _spline(widths, ratios, slopes, log_width, parameterization, far_slope):
    """Returns the splines, with far bins unless `far_slope` is `None`."""
    half = tf.exp(log_width)
    widths, ratios, slopes = (
        tf.maximum(value, SMALLEST)
        for value in (tf.nn.softmax(widths), tf.sigmoid(ratios), tf.sigmoid(slopes))
    )
    if parameterization == "paper":
        heights = ratios * widths
        left = (2 * widths[:, 0] - 1) * half
        bottom = (2 * heights[:, 0] - tf.reduce_sum(heights, -1)) * half
        widths, ratios = widths[:, 1:], ratios[:, 1:]
    else:
        widths = MIN_WIDTH + (1 - MIN_WIDTH * widths.shape[-1]) * widths
        left, bottom = -half, -half * tf.reduce_sum(ratios * widths, -1)
        least = tf.maximum(2 * ratios**2 - ratios, 0)
        least = tf.maximum(
            tf.concat([least[:, :1], least], -1), tf.concat([least, least[:, -1:]], -1)
        )
        slopes = least + (1 - least) * slopes
    widths *= 2 * half[:, tf.newaxis]
    spline = rational_quadratic.Spline(left, bottom, widths, ratios, slopes)
    return spline if far_slope is None else _with_far_bins(spline, far_slope)


def _with_far_bins(spline, far_slope):
    """Returns the spline with one more bin on each side."""
    dtype, channels = spline.slopes.dtype, spline.slopes.shape[0]
    right = spline.left + tf.reduce_sum(spline.widths, -1)
    top = spline.bottom + tf.reduce_sum(spline.widths * spline.ratios, -1)
    widths = tf.stack([spline.left + FAR, FAR - right], -1)
    far = tf.constant(far_slope * FAR, dtype)
    ratios = tf.stack([spline.bottom + far, far - top], -1) / widths
    slope = tf.fill([channels, 1], tf.cast(far_slope, dtype))

    def between(ends, values):
        return tf.concat([ends[:, :1], values, ends[:, 1:]], -1)

    return rational_quadratic.Spline(
        -tf.fill([channels], tf.cast(FAR, dtype)),
        -tf.fill([channels], far),
        between(widths, spline.widths),
        between(ratios, spline.ratios),
        tf.concat([slope, spline.slopes, slope], -1),
    )


def _transform(value, *parameters, inverse, accelerated, **options):
    return rational_quadratic.transform(_spline(*parameters, **options), value, inverse)


def _pull_back(inputs, residuals, gradients, *, inverse, accelerated, **options):
    _, *parameters = inputs
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        spline = _spline(*parameters, **options)
        table = rational_quadratic.table(spline)
    rows, value = rational_quadratic.pull_back(
        *spline.widths.shape, residuals, gradients, inverse, accelerated
    )
    return value, *tape.gradient(table, parameters, rows)


_TRANSFORM = CompiledFunction(_transform, _pull_back)
