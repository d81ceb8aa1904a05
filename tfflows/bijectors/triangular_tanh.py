"""The parts of the dense Sylvester flows: `R_1 tanh(R_2 u + b)`, and orthonormal columns."""

import functools

import tensorflow as tf

from tfflows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfflows.numerics import linalg
from tfflows.numerics.parameters import as_parameter

_LARGEST = 0.999  # Of an entry on a diagonal: 1 + d stays above 0.001 when tanh is rounded to 1.


class TriangularTanh(tf.Module):
    """The autoregressive function of `Sylvester.dense`.

        f(u) = R_1 tanh(R_2 u + b),   d_i(u) = (R_1)_ii (R_2)_ii tanh'((R_2 u + b)_i)

    with `R = triu(r, 1) + 0.999 diag(tanh(diag r))`, van den Berg et al. (2018).

    Args:
      r1: `[..., M, M]`.
      r2: `[..., M, M]`.
      bias: `[..., M]`.
      num_columns: `M`.

    Raises:
      ValueError: if a shape is not the above.
    """

    def __init__(self, r1, r2, bias, num_columns):
        super().__init__()
        self._r1, self._r2, self._bias = (as_parameter(p) for p in (r1, r2, bias))
        expected = {"r1": (num_columns,) * 2, "r2": (num_columns,) * 2, "bias": (num_columns,)}
        for name, tail in expected.items():
            shape = getattr(self, f"_{name}").shape
            if tuple(shape[-len(tail) :]) != tail:
                wanted = ", ".join(["...", *map(str, tail)])
                raise ValueError(
                    f"`{name}` must have shape [{wanted}]. Received: {name}.shape={tuple(shape)}."
                )
        self.dtype = self._r1.dtype
        self.batch_shape = tf.broadcast_static_shape(
            tf.broadcast_static_shape(self._r1.shape[:-2], self._r2.shape[:-2]),
            self._bias.shape[:-1],
        )

    def batch_shape_tensor(self):
        """Returns the batch shape of the parameters."""
        ranks = ((self._r1, 2), (self._r2, 2), (self._bias, 1))
        shapes = [tf.shape(parameter)[:-rank] for parameter, rank in ranks]
        return functools.reduce(tf.broadcast_dynamic_shape, shapes)

    def prepared(self):
        """Returns the function `u -> (f(u), d(u))`."""
        r1, r2 = _triangular(self._r1), _triangular(self._r2)
        bias = tf.convert_to_tensor(self._bias)
        slopes = tf.linalg.diag_part(r1) * tf.linalg.diag_part(r2)

        def function(u):
            h = tf.tanh(linalg.matvec(r2, u) + bias)
            return linalg.matvec(r1, h), slopes * (1 - h**2)

        return function

    def __call__(self, u):
        """Returns `f(u)` and `d(u)`."""
        return self.prepared()(u)


class _Columns(tf.Module):
    """Base of a `Q` `[..., D, M]` with orthonormal columns; a subclass has `matrix()`."""

    def __init__(self, parameter, num_dims, num_columns):
        super().__init__()
        self._parameter = parameter
        self.num_dims, self.num_columns = num_dims, num_columns
        self.dtype, self.batch_shape = parameter.dtype, parameter.shape[:-2]
        if num_columns > num_dims:
            raise ValueError(
                "There can be no more orthonormal columns than dimensions. "
                f"Received: {num_columns} columns of {num_dims} dimensions."
            )

    def batch_shape_tensor(self):
        """Returns the batch shape of the parameter."""
        return tf.shape(self._parameter)[:-2]

    def maps(self):
        """Returns `x -> Q^T x` and `u -> Q u`."""
        q = self.matrix()
        return (
            lambda x: linalg.matvec(q, x, transpose=True),
            lambda u: linalg.matvec(q, u),
        )


class OrthonormalColumns(_Columns):
    """Gram-Schmidt process of the columns of a matrix: the identity if they are orthonormal.

    Args:
      columns: `[..., D, M]`, `M <= D`, of full rank.
    """

    def __init__(self, columns):
        self._columns = as_parameter(columns)
        super().__init__(self._columns, *self._columns.shape[-2:])

    def matrix(self):
        """Returns `Q`."""
        q, r = tf.linalg.qr(tf.convert_to_tensor(self._columns))
        # QR decompositions differ by signs; those of Gram-Schmidt have a positive diagonal.
        negative = tf.linalg.diag_part(r)[..., tf.newaxis, :] < 0
        return tf.where(negative, -q, q)


class HouseholderColumns(_Columns):
    """The first columns of a product of Householder reflections.

    Args:
      reflections: `[..., n, D]`, no row zero.
      num_columns: `M`.
    """

    def __init__(self, reflections, num_columns):
        self._product = InvertibleConv1x1(
            parameterization="householder", reflections=reflections, event_ndims=1
        )
        reflections = self._product.parameters["reflections"]
        super().__init__(as_parameter(reflections), reflections.shape[-1], num_columns)

    def matrix(self):
        """Returns `Q`."""
        return self._product.matrix()[..., : self.num_columns]


def _triangular(parameter):
    """Returns `R`, upper triangular, its diagonal in (-1, 1)."""
    r = tf.convert_to_tensor(parameter)
    diagonal = _LARGEST * tf.tanh(tf.linalg.diag_part(r))
    return tf.linalg.set_diag(tf.linalg.band_part(r, 0, -1), diagonal)
