"""Determinant and inverse of general matrices, real or complex, in operations that XLA compiles.

`tf.linalg.slogdet`, and for complex matrices `tf.linalg.inv`, do not compile; QR decompositions do.
"""

import tensorflow as tf


def log_abs_det(matrix: tf.Tensor) -> tf.Tensor:
    """Returns `log|det A|`, real, for matrices `[..., n, n]`."""

    @tf.custom_gradient
    def function(matrix):
        q, r = tf.linalg.qr(matrix)
        value = tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(r))), axis=-1)

        def gradient(g):
            # Cheaper than that of the decomposition: A^-H.
            return tf.cast(g, matrix.dtype)[..., None, None] * tf.linalg.adjoint(_inverse(q, r))

        return value, gradient

    return function(matrix)


def inverse(matrix: tf.Tensor) -> tf.Tensor:
    """Returns `A^-1` for matrices `[..., n, n]`."""

    @tf.custom_gradient
    def function(matrix):
        result = _inverse(*tf.linalg.qr(matrix))
        adjoint = tf.linalg.adjoint(result)
        return result, lambda g: -adjoint @ g @ adjoint

    return function(matrix)


def _inverse(q: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
    """Returns `(Q R)^-1`."""
    return tf.linalg.triangular_solve(r, tf.linalg.adjoint(q), lower=False)
