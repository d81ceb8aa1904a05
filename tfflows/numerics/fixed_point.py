"""Solves `u + f(u) = v`: the inverse of Sylvester and residual flows."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfflows import _tensorflow
from tfflows.numerics.parameters import as_data
from tfflows.numerics.pull_back import PullBack, custom_gradient
from tfflows.types import TensorLike

# A residual this small, relative to the largest entry of an element, ends its iteration.
TOLERANCE = {tf.float32: 2e-6, tf.float64: 2e-14}


def tolerance_of(dtype: tf.DType) -> float:
    """Returns `TOLERANCE` of a dtype.

    Raises:
      ValueError: if there is none: half precision does not settle.
    """
    if dtype not in TOLERANCE:
        raise ValueError(
            "`dtype` of events must be float32 or float64 for an inverse by iteration; networks "
            f"may compute in lower precision. Received: dtype={dtype.name}."
        )
    return TOLERANCE[dtype]


class Solution(NamedTuple):
    """What `solve` found.

    Attributes:
      value: `u`, of the shape of `v`; NaN for each element whose iteration did not converge.
      num_iterations: steps that each element took, `int32`, of the batch shape of `v`.
    """

    value: tf.Tensor
    num_iterations: tf.Tensor


def solve(
    function: Callable,
    v: TensorLike,
    *,
    event_ndims: int,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Solution:
    """Solves `u + f(u) = v` for `u` by fixed-point iteration, from `u = v`.

        u <- v - f(u)                              if `function` returns f(u)
        u <- u - (u + f(u) - v) / (1 + d(u))       if it returns f(u) and d(u)

    with `d` the diagonal of the Jacobian of `f`: Newton's method without the rest of the Jacobian.
    The first converges for a contraction; both do if the Jacobian is triangular and, each entry
    alone, the iteration in one variable converges, since one entry after the other is then final.

    Each element of the batch stops by itself, when no entry of `u + f(u) - v` is larger than
    `tolerance` times the largest entry of `u` or `v`, or 1. That step is still taken. **An element
    that has not converged after `max_iterations`, or is no longer finite, comes back as NaN**, and
    so do its gradients: there is no assertion under XLA, and no other sign that could not be
    overlooked.

    **Gradients** are those of the implicit function theorem. For `g` the gradient with respect to
    `u` and `J` the Jacobian of `f` there, `(I + J^T) w = g` is solved by the same iteration, and
    `w` is the gradient with respect to `v`, `-w^T df` that with respect to all that `function`
    depends on: variables, or tensors that it closes over. It can be differentiated again. Neither
    loop keeps its steps.

    Args:
      function: `f`; returns a tensor of the shape of its argument, or a pair of them. It must be
        differentiable. What does not depend on `u` it should have computed before: the loops call
        it again and again.
      v: `[..., *event]`.
      event_ndims: rank of an event; the dimensions before are the batch.
      tolerance: by default 2e-6 in float32, 2e-14 in float64.
      max_iterations: bound on the steps of each loop.

    Returns:
      A `Solution`.
    """
    v = as_data(v)
    if tolerance is None:
        tolerance = tolerance_of(v.dtype)
    return _solve(function, v, event_ndims, tolerance, max_iterations, smallest=1.0)


def _solve(function, v, event_ndims, tolerance, max_iterations, smallest):
    """Returns the `Solution`; `smallest` is the size below which an error is not relative."""
    with _tensorflow.stop_recording():
        u, num_iterations = _iterate(
            function, v, event_ndims, tolerance, max_iterations, smallest=smallest
        )
    u = attach_gradient(function, u, v, event_ndims, tolerance, max_iterations, smallest)
    return Solution(u, num_iterations)


def attach_gradient(
    function: Callable,
    u: tf.Tensor,
    v: tf.Tensor,
    event_ndims: int,
    tolerance: float | None = None,
    max_iterations: int = 1000,
    smallest: float = 1.0,
) -> tf.Tensor:
    """Returns a solution of `u + f(u) = v` that was found without `solve`, with its gradients.

    Args:
      function: see `solve`.
      u: the solution, `[..., *event]`.
      v: see `solve`.
      event_ndims: see `solve`.
      tolerance: see `solve`; of the loop for the gradients.
      max_iterations: see `solve`.
      smallest: the size below which an error is not relative.
    """
    if tolerance is None:
        tolerance = tolerance_of(v.dtype)
    u = tf.stop_gradient(u)

    @custom_gradient
    def attach(u, image):
        """Returns `u`, which is equal to `image = v - f(u)`, with the gradient of the solution."""

        def gradient(g):
            again = attach(u, image)  # For second derivatives, which depend on `u`.
            diagonals = []

            def value(u):
                value, diagonal = _evaluate(function, u)
                diagonals.append(diagonal)
                return value

            pull_back = PullBack(value, [again])
            diagonal = diagonals[0]

            def transposed(w):  # J^T w, by the backward pass of the one evaluation above.
                (product,) = pull_back(w)
                return product if diagonal is None else (product, diagonal)

            # Linear, so that tiny gradients are as accurate as large ones.
            w = _solve(transposed, g, event_ndims, tolerance, max_iterations, smallest=0.0).value
            return tf.zeros_like(u), w

        return tf.identity(u), gradient

    return attach(u, v - _evaluate(function, u)[0])


def _iterate(function, v, event_ndims, tolerance, max_iterations, smallest):
    """Returns `u`, NaN where it did not converge, and the number of steps."""
    axes = list(range(-event_ndims, 0))
    batch = tf.shape(v)[: v.shape.rank - event_ndims]
    size_of_v = tf.maximum(_largest(v, axes), tf.cast(smallest, v.dtype))

    def proceed(i, u, active, converged, counts):
        return (i < max_iterations) & tf.reduce_any(active)

    def step(i, u, active, converged, counts):
        value, diagonal = _evaluate(function, u)
        residual = v - u - value
        # Not the change: divided by a small 1 + d, it may never get below the rounding errors.
        size = tf.maximum(_largest(u, axes), size_of_v)
        done = tf.reduce_all(tf.abs(residual) <= tolerance * size, axes, keepdims=True)
        moving = tf.reshape(active, tf.concat([batch, [1] * event_ndims], axis=0))
        if diagonal is None:
            change = residual
        else:
            change = residual / (1 + diagonal)
            # An entry that is exact to rounding stays until the last step, so that those that
            # depend on it can settle.
            moving &= done | (tf.abs(residual) > tolerance / 8 * size)
        u = tf.where(moving, u + change, u)
        finite = tf.reduce_all(tf.math.is_finite(u), axes)
        converged |= active & finite & tf.reshape(done, batch)
        counts += tf.cast(active, tf.int32)
        active &= finite & ~converged
        return i + 1, u, active, converged, counts

    start = (
        tf.constant(0),
        v,
        tf.ones(batch, tf.bool),
        tf.zeros(batch, tf.bool),
        tf.zeros(batch, tf.int32),
    )
    _, u, _, converged, counts = tf.while_loop(proceed, step, start)
    converged = tf.reshape(converged, tf.concat([batch, [1] * event_ndims], axis=0))
    return tf.where(converged, u, tf.constant(np.nan, u.dtype)), counts


def _evaluate(function, u):
    """Returns `f(u)`, and the diagonal of its Jacobian or `None`."""
    result = function(u)
    if not isinstance(result, tuple):
        return result, None
    return result[0], tf.stop_gradient(result[1])  # It sets the speed, not the solution.


def _largest(x, axes):
    return tf.reduce_max(tf.abs(x), axes, keepdims=True)
