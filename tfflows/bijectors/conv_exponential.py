"""`ConvExponential`: the exponential of a convolution (Hoogeboom et al., 2020, section 3)."""

import math
from collections.abc import Sequence
from typing import Any, Self

import tensorflow as tf

from tfflows.evaluation.constants import is_constant, of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import images, norms, power_iteration, series
from tfflows.numerics.parameters import as_event_shape, as_parameter, check_kernel, normal_variable
from tfflows.types import DTypeLike, Seed, Shape, TensorLike

# Of the images that a layer of constants maps by one product of matrices: fewer operations than a
# series of 3x3 kernels takes, and far fewer to start. The matrices are at most 1 MB in float32.
MAX_PIXELS, MAX_ENTRIES = 32, 512


class ConvExponential(FlowBijector):
    """Convolution exponential, Hoogeboom et al. (2020), section 3.1.

    With `M` the cross-correlation of an image with a kernel, stride 1, no bias,

        forward:  y = exp(M) x = sum_{i>=0} M^i x / i!
        inverse:  x = exp(-M) y
        log-det:  tr M = H W sum_c kernel[kh // 2, kw // 2, c, c]

    `M` itself is never stored and need not be invertible.

    **Norm.** The kernel is scaled so that `|M|_2 <= max_norm`: `kernel / max(1, bound / max_norm)`,
    where `bound` is certified never to be below the operator norm for images of any size
    (`numerics.conv_norm_bound`). `norm="power_iteration"` is the estimate of the paper, which
    is a lower bound until it has converged and depends on the size of the image.

    **Accuracy.** The number of terms follows from the bound on the norm and from the dtype, such
    that the truncated tail is at most `tolerance |y|_2`, in training as in evaluation. For norms
    above 1, `exp(M / s)` is applied `s = ceil(norm)` times. With `max_norm=None` the kernel is used
    as it is and `s` is computed from its bound at every evaluation; a bound above 10,000 gives NaN.

    **Cost.** A 3x3 kernel of norm 0.95 in float32 takes 9 convolutions. For inference, images of at
    most 32 pixels and 512 entries take one product with a matrix (`tfflows.for_inference`).

    Args:
      kernel: `[kh, kw, C, C]`, `kh` and `kw` odd; as in `tf.nn.conv2d` the last axis is the output.
      max_norm: the largest operator norm, a Python `float`, or `None`.
      padding: `"zero"`, or `"periodic"`: the image is a torus and the layer commutes with its
        shifts.
      norm: `"certified"` or `"power_iteration"`.
      power_vector: for `norm="power_iteration"`, `[1, H, W, C]`, the current estimate of the
        leading singular vector; a `tf.Variable` if `update_norm` is to be used.
      tolerance: relative truncation error; by default 1e-6 in float32 and 1e-13 in float64.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the kernel is not square in its channels or has an even size.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    flow = tfflows.bijectors.ConvExponential.trainable([16, 16, 12], seed=1)
    x = tf.random.normal([8, 16, 16, 12])
    y = flow.forward(x)
    flow.forward_log_det_jacobian(x).shape  # []: it is the same for all inputs
    ```

    #### References

    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910.
    """

    is_unit = True

    def __init__(
        self,
        kernel: TensorLike,
        *,
        max_norm: float | None = 0.95,
        padding: str = "zero",
        norm: str = "certified",
        power_vector: TensorLike | None = None,
        tolerance: float | None = None,
        validate_args: bool = False,
        name: str = "conv_exponential",
    ) -> None:
        parameters = dict(locals())
        self._kernel = as_parameter(kernel)
        self._power_vector = None if power_vector is None else as_parameter(power_vector)
        self._max_norm = max_norm
        self._padding = padding
        self._norm = norm
        self._tolerance = tolerance
        self._validate()
        super().__init__(
            forward_min_event_ndims=3,
            event_shape=(None, None, self._kernel.shape[-1]),
            is_constant_jacobian=True,
            dtype=self._kernel.dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _validate(self):
        check_kernel(self._kernel)
        if self._padding not in ("zero", "periodic"):
            raise ValueError(
                f'`padding` must be "zero" or "periodic". Received: padding={self._padding!r}.'
            )
        if self._norm not in ("certified", "power_iteration"):
            raise ValueError(
                f'`norm` must be "certified" or "power_iteration". Received: norm={self._norm!r}.'
            )
        if self._norm == "power_iteration" and (
            self._power_vector is None or self._max_norm is None
        ):
            raise ValueError(
                '`power_vector` and `max_norm` must be given for norm="power_iteration". '
                f"Received: power_vector={self._power_vector}, max_norm={self._max_norm}."
            )
        if self._max_norm is not None and not self._max_norm > 0:
            raise ValueError(
                f"`max_norm` must be positive or None. Received: max_norm={self._max_norm}."
            )

    @classmethod
    def trainable(
        cls,
        event_shape: Shape,
        *,
        kernel_size: int | Sequence[int] = 3,
        norm: str = "certified",
        seed: Seed = None,
        dtype: DTypeLike = tf.float32,
        name: str = "conv_exponential",
        **kwargs: Any,
    ) -> Self:
        """Returns a `ConvExponential` with a trainable kernel, `N(0, 1) / (kh kw C)` at first.

        Args:
          event_shape: `[H, W, C]`; height and width matter to `norm="power_iteration"` only.
          kernel_size: odd `int`, or a pair.
          norm: see the class.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the kernel.
          name: name of the bijector.
          **kwargs: other arguments of the class.
        """
        height, width, channels = as_event_shape(event_shape)
        size = [kernel_size] * 2 if isinstance(kernel_size, int) else list(kernel_size)
        kernel = normal_variable(
            [*size, channels, channels],
            1 / (size[0] * size[1] * channels),
            seed,
            dtype,
            f"{name}_kernel",
        )
        vector = None
        if norm == "power_iteration":
            start = tf.random.stateless_normal([1, height, width, channels], [7, 7], dtype=dtype)
            vector = tf.Variable(
                start,
                trainable=False,
                name=f"{name}_power_vector",
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        return cls(kernel, norm=norm, power_vector=vector, name=name, **kwargs)

    def norm_bound(self) -> tf.Tensor:
        """Returns the bound (or estimate) of the operator norm of `kernel`, before scaling."""
        kernel = tf.convert_to_tensor(self._kernel)
        if self._norm == "certified":
            return norms.conv_norm_bound(kernel)
        return power_iteration.spectral_norm_power_iteration(kernel, self._power_vector)[0]

    def update_norm(self, num_iterations: int = 1) -> None:
        """Moves `power_vector` on by some power iterations; training does so once a step."""
        if isinstance(self._power_vector, tf.Variable):
            kernel = tf.convert_to_tensor(self._kernel)
            _, vector = power_iteration.spectral_norm_power_iteration(
                kernel, self._power_vector, num_iterations
            )
            self._power_vector.assign(vector)

    def scaled_kernel(self) -> tf.Tensor:
        """Returns the kernel that is exponentiated, of norm at most `max_norm`."""
        kernel = tf.convert_to_tensor(self._kernel)
        if self._max_norm is None:
            return kernel
        if self._norm == "certified":
            return norms.capped_kernel(kernel, self._max_norm)
        one = tf.ones([], kernel.dtype)  # A graph would take `1.0` for float32.
        return kernel / tf.maximum(one, self.norm_bound() / self._max_norm)

    @of_weights
    def _exponent(self):
        """Returns the kernel that is exponentiated, its trace, and its bound if it needs steps."""
        kernel = self.scaled_kernel()
        trace = tf.linalg.trace(kernel[kernel.shape[0] // 2, kernel.shape[1] // 2])
        return kernel, trace, norms.conv_norm_bound(kernel) if self._max_norm is None else None

    @of_weights
    def _matrices(self, height, width):
        """Returns the matrices by which rows of images of one size are mapped, each way."""
        size = height * width * self._kernel.shape[-1]
        units = tf.reshape(tf.eye(size, dtype=tf.float64), [size, height, width, -1])
        options, _ = self._series()
        options["kernel"] = tf.cast(options["kernel"], tf.float64)  # Its roundings would add up.
        both = (series.conv_exponential(units, inverse=i, **options) for i in (False, True))
        return [tf.reshape(tf.cast(rows, self.dtype), [size, size]) for rows in both]

    def _series(self):
        """Returns the arguments of `conv_exponential` and the trace of the kernel."""
        kernel, trace, bound = self._exponent()
        if self._max_norm is None:
            steps, factor = series.scaling_steps(bound)
            kernel, trace, norm = kernel * factor, trace * factor, 1.0
        else:
            steps = max(1, math.ceil(self._max_norm))
            norm = self._max_norm / steps
        terms = series.num_terms(norm, self.dtype, self._tolerance)
        options = {"kernel": kernel, "padding": self._padding, "terms": terms, "steps": steps}
        return options, trace

    def _evaluate(self, x, inverse):
        self._check_wrap(*x.shape[-3:-1])
        options, trace = self._series()
        if is_constant(self) and _is_small(x.shape[-3:]):
            matrix = self._matrices(*x.shape[-3:-1])[inverse]
            y = tf.matmul(tf.reshape(x, [-1, matrix.shape[0]]), matrix)
        else:
            y = series.conv_exponential(images.as_rows(x), inverse=inverse, **options)
        log_det = images.num_pixels(x) * trace
        return tf.reshape(y, tf.shape(x)), -log_det if inverse else log_det

    def _check_wrap(self, height, width):
        """Refuses a torus so small that a tap meets the centre again and adds to the trace."""
        kh, kw = self._kernel.shape[:2]
        if self._padding != "periodic":
            return
        if height is None or width is None:
            raise ValueError(
                '`ConvExponential` with padding="periodic" needs images of known size. '
                f"Received: image size {(height, width)}."
            )
        if kh // 2 >= height or kw // 2 >= width:
            raise ValueError(
                '`ConvExponential` with padding="periodic" needs images larger than half the '
                f"kernel. Received: kernel size {(kh, kw)}, image size {(height, width)}."
            )

    def _forward_and_log_det(self, x):
        return self._evaluate(x, inverse=False)

    def _inverse_and_log_det(self, y):
        return self._evaluate(y, inverse=True)


def _is_small(shape):
    """Returns whether a matrix of all entries of an image takes less than a series."""
    known = shape.is_fully_defined()
    return known and math.prod(shape[:2]) <= MAX_PIXELS and 0 < math.prod(shape) <= MAX_ENTRIES
