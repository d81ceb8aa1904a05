"""The series behind the exponential flows: how many terms, and their product with an image."""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfflows.numerics.convolution import correlate, transpose, wrap
from tfflows.numerics.parameters import as_data
from tfflows.numerics.pull_back import PullBack, custom_gradient
from tfflows.numerics.rows import with_rows
from tfflows.numerics.shapes import with_shape
from tfflows.types import DTypeLike, TensorLike

_KEPT = 16  # States of a loop in its backward pass.
_MOST_COPIES = 8  # Of a step in a graph, where a loop is possible.
MOST_STEPS = 10_000  # Of the scaling: beyond, the result is NaN.


def num_terms(norm: float, dtype: DTypeLike, tolerance: float | None = None) -> int:
    """Returns how many terms `exp(M) x = sum_i M^i x / i!` needs.

    It is the least `n >= 1` with `e^c sum_{i>n} c^i / i! <= tolerance` for `c = norm`. The sum
    bounds the truncation error relative to `|x|`, Hoogeboom et al. (2020), section 3; the factor
    makes that relative to `|exp(M) x| >= e^-c |x|`.

    Args:
      norm: upper bound on `|M|_2`.
      dtype: dtype of the computation.
      tolerance: truncation error relative to `|exp(M) x|_2`; by default 1e-13 in float64 and 1e-6
        in any other dtype.

    Returns:
      A Python `int`; 9 for a norm of 0.95 in float32.

    Raises:
      ValueError: if `norm` is negative or not finite, or `tolerance` is not positive.
    """
    if not 0 <= norm < math.inf:
        raise ValueError(f"`norm` must be finite and not negative. Received: norm={norm}.")
    if tolerance is None:
        tolerance = 1e-13 if tf.as_dtype(dtype) == tf.float64 else 1e-6
    if not tolerance > 0:
        raise ValueError(f"`tolerance` must be positive. Received: tolerance={tolerance}.")
    # The terms from the largest index that matters downwards, so that the small ones count.
    last = math.ceil(8 * norm) + 40 + math.ceil(-math.log10(min(tolerance, 1.0)))
    tail = 0.0
    for i in range(last, 1, -1):
        tail += math.exp(norm + i * math.log(norm) - math.lgamma(i + 1)) if norm else 0.0
        if tail > tolerance:
            return i
    return 1


def scaling_steps(norm: tf.Tensor) -> tuple[int | tf.Tensor, tf.Tensor]:
    """Returns `s`, the least number of steps for which `|M / s|_2 <= 1`, and a factor for `M`.

    Args:
      norm: upper bounds on `|M|_2`, of any shape: the largest counts.

    Returns:
      A Python `int` if the norm is known, else an integer `Tensor`; and 1. If the norm is NaN or
      above `MOST_STEPS`, the number is 1 and the factor NaN, so that everything becomes NaN.
    """
    # What was computed before a graph is known in it, though not what the graph makes of it.
    was_known = not (tf.executing_eagerly() or tf.is_symbolic_tensor(norm))
    with tf.init_scope() if was_known else contextlib.nullcontext():
        norm = tf.stop_gradient(tf.reduce_max(norm))
        feasible = norm <= MOST_STEPS
        one = tf.ones([], norm.dtype)
        steps = tf.cast(tf.math.ceil(tf.where(feasible, tf.maximum(norm, one), one)), tf.int32)
        factor = tf.where(feasible, one, tf.constant(np.nan, norm.dtype))
    static = tf.get_static_value(steps)
    if static is None or (was_known and static > _MOST_COPIES):
        return steps, factor
    return int(static), factor


def exponential_action(
    matvec: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, terms: int
) -> tf.Tensor:
    """Returns `sum_{i<=terms} M^i x / i!`, Hoogeboom et al. (2020), section 3.

    Args:
      matvec: `x -> M x`, of the shape of `x`.
      x: `Tensor`.
      terms: number of applications of `matvec`, a Python `int`.
    """
    y = term = x
    for i in range(1, terms + 1):
        term = matvec(term) / i
        y += term
    return y


def repeat(
    step: Callable[..., tf.Tensor],
    x: tf.Tensor,
    parameters: Sequence[tf.Tensor],
    steps: int | tf.Tensor,
) -> tf.Tensor:
    """Returns `step(... step(x, *parameters) ..., *parameters)`.

    The gradient of `tf.while_loop` would need stacks of a known size to compile with XLA. That for
    a `Tensor` `steps` is a loop here, which keeps 16 of the states and computes the others anew: in
    `steps` further steps, or in `steps^2 / 32` of them if these are more.

    Args:
      step: maps `x` and the parameters to a tensor like `x`, and is differentiable.
      x: `Tensor`.
      parameters: all other tensors that `step` depends on.
      steps: how often.
    """
    if isinstance(steps, int):
        for _ in range(steps):
            x = step(x, *parameters)
        return x

    def state(x, parameters, count):
        def body(i, x):
            return i + 1, step(x, *parameters)

        return tf.while_loop(lambda i, _: i < count, body, [tf.zeros_like(count), x])[1]

    @custom_gradient
    def power(x, *parameters):
        def gradient(g):
            stride = (steps + _KEPT - 1) // _KEPT

            def keep(k, x, kept):
                return k + 1, state(x, parameters, stride), kept.write(k, x)

            kept = tf.TensorArray(x.dtype, _KEPT, element_shape=x.shape, clear_after_read=False)
            start = [tf.constant(0), x, kept]
            *_, kept = tf.while_loop(lambda k, *_: k * stride < steps, keep, start)

            def body(i, g, *totals):
                before = state(kept.read(i // stride), parameters, i % stride)
                g, *more = PullBack(step, [before, *parameters])(g)
                return i - 1, g, *(a + b for a, b in zip(totals, more, strict=True))

            start = [steps - 1, g, *map(tf.zeros_like, parameters)]
            return tf.while_loop(lambda i, *_: i >= 0, body, start)[1:]

        return state(x, parameters, steps), gradient

    return power(x, *parameters)


def parametric_action(
    matvec: Callable[..., tf.Tensor],
    transposed: Callable[..., tf.Tensor],
    x: tf.Tensor,
    parameters: Sequence[tf.Tensor],
    terms: int,
) -> tf.Tensor:
    """Returns `sum_{i<=terms} M^i x / i!` for a map whose parameters have gradients.

    As in `conv_exponential`, a few combinations of the `M^i x` are kept for the backward pass, not
    all, and the gradient with respect to the parameters is that of one `matvec` of these.

    Args:
      matvec: `(x, *parameters) -> M x`, linear in `x` and, for a given `x`, differentiable with
        respect to `parameters`. It takes an `x` with more leading dimensions, too.
      transposed: `(g, *parameters) -> M^T g`.
      x: `Tensor`, of the full shape of `M x`.
      parameters: `Tensor`s.
      terms: number of applications of `matvec`, from `num_terms`; the norm has to be at most 1.
    """

    @tf.custom_gradient
    def action(x, *parameters):
        series = tf.stack(_powers(lambda u: matvec(u, *parameters), x, terms))
        left, right = (tf.constant(w, x.dtype) for w in gradient_weights(terms, x.dtype))
        nodes = tf.tensordot(left, series[:-1], 1)

        def gradient(g):
            series = tf.stack(_powers(lambda u: transposed(u, *parameters), g, terms))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(parameters)
                images = matvec(nodes, *parameters)
            weights = tf.tensordot(right, series[:-1], 1)
            return _sum(series), *tape.gradient(images, parameters, weights)

        return _sum(series), gradient

    return action(x, *parameters)


def _sum(series: tf.Tensor) -> tf.Tensor:
    """Returns the sum of stacked terms, in an order that does not depend on chance.

    `tf.add_n` writes over the first term that nobody else still reads, and begins with that one:
    with other operations reading them at the same time, sums differ from run to run by rounding.
    """
    return tf.reduce_sum(series, axis=0)


def _powers(matvec: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, terms: int) -> list[tf.Tensor]:
    """Returns `M^i x / i!` for `i` from 0 to `terms`."""
    series = [x]
    for i in range(1, terms + 1):
        series.append(matvec(series[-1]) / i)
    return series


def conv_exponential(
    x: TensorLike,
    kernel: TensorLike,
    *,
    inverse: bool = False,
    padding: str = "zero",
    terms: int,
    steps: int | tf.Tensor = 1,
) -> tf.Tensor:
    """Returns `exp(M) x`, or `exp(-M) x`, for the cross-correlation `M` with a kernel.

        y = S^steps x,   S = sum_{i<=terms} (+-M / steps)^i / i!

    The gradients are those of the truncated series, to rounding. With `g` the gradient with respect
    to `S x`, that for the kernel is

        sum_{i+j<terms} corr(M^i x, (M^T)^j g) / (i + j + 1)!
        = int_0^1 corr(exp(s M) x, exp((1 - s) M^T) g) ds   up to c^terms / terms!, c = |M|_2,

    whose matrix of coefficients has a low numerical rank: `corr` is evaluated for 4 pairs of linear
    combinations in float32, 6 in float64, all in one call, and only those combinations of `M^i x`
    are kept for the backward pass (of a bijector under `memory("recompute")`, its input alone).

    Args:
      x: images `[N, H, W, C]`.
      kernel: `[kh, kw, C, C]` with odd `kh` and `kw`, as in `tf.nn.conv2d`.
      inverse: whether to apply `exp(-M)`.
      padding: `"zero"` or `"periodic"`.
      terms: number of convolutions of a step, from `num_terms(norm / steps, dtype)`.
      steps: number of scaling steps. A scalar integer `Tensor` makes a loop, see `repeat`.

    Returns:
      Images of the shape of `x`.

    Raises:
      ValueError: if the kernel has an even size, or `padding` or `terms` is not one of the above.

    #### References

    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910, section 3.
    """
    x = as_data(x)
    kernel = as_data(kernel, x.dtype)
    if any(size % 2 == 0 for size in kernel.shape[:2]):
        raise ValueError(
            f"`kernel` must have odd spatial sizes. Received: kernel.shape={tuple(kernel.shape)}."
        )
    if padding not in ("zero", "periodic"):
        raise ValueError(f'`padding` must be "zero" or "periodic". Received: padding={padding!r}.')
    if terms < 1:
        raise ValueError(f"`terms` must be at least 1. Received: terms={terms}.")
    kernel = kernel / tf.cast(-steps if inverse else steps, kernel.dtype)

    def evaluate(x):
        return repeat(lambda x, kernel: _step(x, kernel, padding, terms), x, [kernel], steps)

    return with_rows(evaluate, x)


def _step(x: tf.Tensor, kernel: tf.Tensor, padding: str, terms: int) -> tf.Tensor:
    """Returns `S x` for one step, with the gradient of `conv_exponential`."""

    @tf.custom_gradient
    def step(x, kernel):
        y, nodes = _forward(x, kernel, padding, terms)
        return y, lambda g: _backward(g, nodes, kernel, padding, terms)

    return step(x, kernel)


def _forward(
    x: tf.Tensor, kernel: tf.Tensor, padding: str, terms: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `S x` and the combinations of `M^i x` for `_backward`."""
    series = _series(x, kernel, padding, terms)
    weights, _ = gradient_weights(terms, x.dtype)
    return _sum(series), _combine(weights, series)


def _backward(
    g: tf.Tensor, nodes: tf.Tensor, kernel: tf.Tensor, padding: str, terms: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients with respect to the `x` and the `kernel` of `_forward`."""
    series = _series(g, transpose(kernel), padding, terms)
    _, weights = gradient_weights(terms, g.dtype)
    periodic = padding == "periodic"
    kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
        input=wrap(nodes, kernel) if periodic else nodes,
        filter_sizes=kernel.shape,
        out_backprop=_combine(weights, series),
        strides=[1, 1, 1, 1],
        padding="VALID" if periodic else "SAME",
    )
    return _sum(series), kernel_gradient


def _series(x: tf.Tensor, kernel: tf.Tensor, padding: str, terms: int) -> tf.Tensor:
    """Returns `M^i x / i!` for `i` from 0 to `terms`, stacked."""
    series = [x]
    for i in range(1, terms + 1):
        # The kernel is smaller than the images: dividing it saves a pass over them.
        series.append(correlate(series[-1], kernel / i, padding))
    return tf.stack(series)


def _combine(weights: np.ndarray, series: tf.Tensor) -> tf.Tensor:
    """Returns `sum_i weights[q, i] series[i]` for all `q`, one after the other along the batch."""
    count, terms = weights.shape
    flat = tf.reshape(series[:terms], [terms, -1])
    shape = tf.shape(series)[1:]
    shape = tf.concat([count * shape[:1], shape[1:]], axis=0)
    nodes = tf.reshape(tf.matmul(tf.constant(weights, series.dtype), flat), shape)
    return with_shape(nodes, [None, *series.shape[2:]])


@functools.cache
def gradient_weights(terms: int, dtype: tf.DType) -> tuple[np.ndarray, np.ndarray]:
    """Factors the coefficients of the gradient with respect to the kernel.

    `1 / (i + j + 1)!`, for `i + j < terms`, is approximated by `sum_q a_qi b_qj`. The singular
    value decomposition is that of the matrix times `c^i c^j`, with `c` the largest norm that
    `terms` terms are enough for, at least 1: so the error is relative to `M^i x` of norm `c^i` and
    `(M^T)^j g` of norm `c^j`.

    Returns:
      `a` and `b`, `[Q, terms]`, for `M^i x / i!` and `(M^T)^j g / j!`.
    """
    norm = 1.0
    while num_terms(norm + 0.5, dtype) <= terms:
        norm += 0.5
    index = np.arange(terms)
    factorial = np.array([math.factorial(i) for i in range(2 * terms)], float)
    order = index[:, None] + index
    scaled = np.where(order < terms, norm**order / factorial[order + 1], 0.0)
    u, s, v = np.linalg.svd(scaled)
    rank = np.count_nonzero(s > (3e-13 if dtype == tf.float64 else 3e-7) * s[0])
    scale = np.sqrt(s[:rank, None]) * factorial[:terms] / norm**index
    return u.T[:rank] * scale, v[:rank] * scale
