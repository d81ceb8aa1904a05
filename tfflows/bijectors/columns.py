"""Orthonormal columns: the bases of the dense Sylvester flows."""

import tensorflow as tf

from tfflows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfflows.numerics.parameters import as_parameter
from tfflows.types import Parameter, TensorLike


class _Columns(tf.Module):
    """Base of a `Q` `[..., D, M]` with orthonormal columns; a subclass has `matrix()`."""

    def __init__(self, parameter: Parameter, num_dims: int, num_columns: int) -> None:
        super().__init__()
        self._parameter = parameter
        self.num_dims, self.num_columns = num_dims, num_columns
        self.dtype, self.batch_shape = parameter.dtype, parameter.shape[:-2]
        if num_columns > num_dims:
            raise ValueError(
                "There can be no more orthonormal columns than dimensions. "
                f"Received: {num_columns} columns of {num_dims} dimensions."
            )

    def batch_shape_tensor(self) -> tf.Tensor:
        """Returns the batch shape of the parameter."""
        return tf.shape(self._parameter)[:-2]


class OrthonormalColumns(_Columns):
    """Gram-Schmidt process of the columns of a matrix: the identity if they are orthonormal.

    Args:
      columns: `[..., D, M]`, `M <= D`, of full rank.
    """

    def __init__(self, columns: TensorLike) -> None:
        self._columns = as_parameter(columns)
        super().__init__(self._columns, *self._columns.shape[-2:])

    def matrix(self) -> tf.Tensor:
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

    def __init__(self, reflections: TensorLike, num_columns: int) -> None:
        self._product = InvertibleConv1x1(
            parameterization="householder", reflections=reflections, event_ndims=1
        )
        reflections = self._product.parameters["reflections"]
        super().__init__(as_parameter(reflections), reflections.shape[-1], num_columns)

    def matrix(self) -> tf.Tensor:
        """Returns `Q`."""
        return self._product.matrix()[..., : self.num_columns]
