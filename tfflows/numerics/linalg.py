"""Products, determinant and inverse of general matrices, real or complex.

**Products.** TensorFlow 2.21 with oneDNN, in float32 on CPUs, writes beyond the end of the result
of `tf.matmul` for `[n, 1, m, k]` and `[k, j]`, `[1, k, j]` or `[1, 1, k, j]` (tensorflow#117700):
it takes the layout of four dimensions for another. So the products here have two dimensions, or
five; three become four under `tf.vectorized_map` and in Jacobians.

**The others** consist of operations that XLA compiles: `tf.linalg.slogdet`, and for complex
matrices `tf.linalg.inv`, do not compile; QR decompositions do.
"""

import tensorflow as tf

from tfflows.numerics.pull_back import custom_gradient


def matmul(a: tf.Tensor, b: tf.Tensor, transpose_b: bool = False) -> tf.Tensor:
    """Returns `a b`, as `tf.matmul` does; one `b` for all `a` is one large product.

    Args:
      a: `[..., m, k]`.
      b: `[..., k, j]`, or its transpose.
      transpose_b: whether to transpose `b`.
    """
    if _is_single(b):
        return _times(a, b, transpose_b, max(0, b.shape.rank - a.shape.rank))
    a, b = (m[..., tf.newaxis, tf.newaxis, :, :] for m in (a, b))
    return tf.squeeze(tf.matmul(a, b, transpose_b=transpose_b), [-4, -3])


def matvec(matrix: tf.Tensor, x: tf.Tensor, transpose: bool = False) -> tf.Tensor:
    """Returns `A x`, or `A^T x`, as `tf.linalg.matvec` does.

    Args:
      matrix: `A`, `[..., m, k]`.
      x: `[..., k]`, or `[..., m]`.
      transpose: whether to transpose `A`.
    """
    if _is_single(matrix):
        return _times(x, matrix, not transpose, max(0, matrix.shape.rank - 1 - x.shape.rank))
    if transpose:
        matrix = tf.linalg.matrix_transpose(matrix)
    return matmul(matrix, x[..., tf.newaxis])[..., 0]


def _is_single(matrix):
    return all(size == 1 for size in matrix.shape[:-2])


def _times(rows, matrix, transpose, num_new):
    """Returns `[..., k]` times a single matrix, with some new dimensions of size 1 in front."""
    if matrix.shape.rank > 2:
        matrix = tf.reshape(matrix, tf.shape(matrix)[-2:])
    product = tf.matmul(tf.reshape(rows, [-1, rows.shape[-1]]), matrix, transpose_b=transpose)
    sizes = [tf.ones([num_new], tf.int32), tf.shape(rows)[:-1], tf.shape(product)[-1:]]
    return tf.reshape(product, tf.concat(sizes, axis=0))


def log_abs_det(matrix: tf.Tensor) -> tf.Tensor:
    """Returns `log|det A|`, real, for matrices `[..., n, n]`."""

    @custom_gradient
    def function(matrix):
        _, r = tf.linalg.qr(matrix)
        value = tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(r))), axis=-1)

        def gradient(g):
            # Cheaper than that of the decomposition: A^-H. Of `matrix`, for second derivatives.
            return tf.cast(g, matrix.dtype)[..., None, None] * tf.linalg.adjoint(_inverse(matrix))

        return value, gradient

    return function(matrix)


def inverse(matrix: tf.Tensor) -> tf.Tensor:
    """Returns `A^-1` for matrices `[..., n, n]`."""

    @custom_gradient
    def function(matrix):
        def gradient(g):
            adjoint = tf.linalg.adjoint(_inverse(matrix))
            return -matmul(matmul(adjoint, g), adjoint)

        return _inverse(matrix), gradient

    return function(matrix)


def _inverse(matrix):
    """Returns `A^-1`, whose gradient is that of the decomposition.

    It is for gradients: a SavedModel does not keep custom gradients inside of those.
    """
    q, r = tf.linalg.qr(matrix)
    return tf.linalg.triangular_solve(r, tf.linalg.adjoint(q), lower=False)
