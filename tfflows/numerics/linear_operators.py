"""`tf.linalg.LinearOperator`s: their products with vectors, and the tensors they are made of."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.numerics import norms
from tfflows.numerics.shapes import with_shape

Operator: TypeAlias = tf.linalg.LinearOperator


def matvec(operator: Operator, x: tf.Tensor, adjoint: bool = False) -> tf.Tensor:
    """Returns `M x`, or `M^T x`, for vectors `[..., N]`: the columns of one product of matrices."""
    if _is_kronecker(operator) and not x.shape.is_fully_defined():
        return _factor_by_factor(lambda part, u: matvec(part, u, adjoint), operator, x)
    return _on_columns(lambda columns: operator.matmul(columns, adjoint=adjoint), operator, x)


def solvevec(operator: Operator, y: tf.Tensor) -> tf.Tensor:
    """Returns `M^-1 y` for vectors `[..., N]`."""
    if _is_kronecker(operator) and not y.shape.is_fully_defined():
        return _factor_by_factor(solvevec, operator, y)
    return _on_columns(operator.solve, operator, y)


def _is_kronecker(operator):
    is_one = isinstance(operator, tf.linalg.LinearOperatorKronecker)
    return is_one and operator.batch_shape.rank == 0


def _factor_by_factor(function, operator, x):
    """Applies a function of an operator and vectors to each factor of a Kronecker product.

    TensorFlow's own product does not take an unknown number of columns.
    """
    sizes = [part.domain_dimension for part in operator.operators]
    u, count = tf.reshape(x, tf.concat([tf.shape(x)[:-1], sizes], axis=0)), len(sizes)
    batch = list(range(x.shape.rank - 1))
    for part in operator.operators:  # The first axis of the factors is moved last, and around.
        axes = [*range(len(batch) + 1, len(batch) + count), len(batch)]
        u = function(part, tf.transpose(u, [*batch, *axes]))
    return with_shape(tf.reshape(u, tf.shape(x)), x.shape)


def broadcast(operator: Operator, x: tf.Tensor) -> tf.Tensor:
    """Gives vectors `[..., N]` the batch dimensions of an operator, where they have fewer."""
    batch = tf.broadcast_static_shape(x.shape[:-1], operator.batch_shape)
    if batch == x.shape[:-1]:
        return x
    shape = tf.broadcast_dynamic_shape(tf.shape(x)[:-1], operator.batch_shape_tensor())
    x = tf.broadcast_to(x, tf.concat([shape, tf.shape(x)[-1:]], axis=0))
    return with_shape(x, batch + x.shape[-1:])


def _on_columns(function, operator, x):
    """Applies a function of `[*batch, N, S]` to `[..., *batch, N]`.

    With one column each, as `operator.matvec` has them, the products would be many small ones, of
    four dimensions and more: see `_matrix`.
    """
    x = broadcast(operator, x)
    rank = operator.batch_shape.rank + 1  # Of what is transformed by one matrix each.
    shape = tf.shape(x)
    flat = tf.reshape(x, tf.concat([[-1], shape[x.shape.rank - rank :]], axis=0))
    columns = function(tf.transpose(flat, [*range(1, rank + 1), 0]))
    return tf.reshape(tf.transpose(columns, [rank, *range(rank)]), shape)


def is_known(operator: Operator) -> bool:
    """Returns whether the operator and all its parts are TensorFlow's, and not one's own."""
    if not type(operator).__module__.startswith("tensorflow."):
        return False
    parts = tf.nest.flatten(list(operator.parameters.values()))
    return all(is_known(part) for part in parts if isinstance(part, tf.linalg.LinearOperator))


def parameters(operator: Operator) -> list[tf.Tensor]:
    """Returns the values of all tensors and variables of an operator; none of one's own."""
    return list(_parameters(operator)) if is_known(operator) else []


def with_parameters(operator: Operator, values: Iterable[tf.Tensor]) -> Operator:
    """Returns the operator with other values, see `parameters`."""
    return _replace(operator, iter(values)) if is_known(operator) else operator


def _parameters(value: Any) -> Iterator[tf.Tensor]:
    if isinstance(value, tf.linalg.LinearOperator):
        value = list(value.parameters.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _parameters(part)
    elif _is_parameter(value):
        yield tf.convert_to_tensor(value)


def _replace(value, values):
    if isinstance(value, tf.linalg.LinearOperator):
        return type(value)(**{key: _replace(v, values) for key, v in value.parameters.items()})
    if isinstance(value, list | tuple):
        return type(value)(_replace(part, values) for part in value)
    return next(values) if _is_parameter(value) else value


def _is_parameter(value):
    kinds = tf.Tensor | tf.Variable | tfp.util.DeferredTensor
    return isinstance(value, kinds) and value.dtype.is_floating


@functools.singledispatch
def operator_norm_bound(operator: Operator) -> tf.Tensor:
    """Returns an upper bound on the operator norm of a `tf.linalg.LinearOperator`.

    Certified never to be too small: `numerics.matrix_norm_bound` for dense operators; for
    Toeplitz operators the largest magnitude of the symbol `sum_k c_k exp(i k w)`, from a grid of
    `w` as in `numerics.conv_norm_bound`; for the others what follows from their structure.
    Register a bound for an operator of one's own with
    `operator_norm_bound.register(MyOperator)`.

    Args:
      operator: a `tf.linalg.LinearOperator`.

    Returns:
      A `Tensor` of shape `operator.batch_shape`.
    """
    raise ValueError(
        "`norm_bound` must be given: no bound on the operator norm is known for a "
        f"{type(operator).__name__}. Received: norm_bound=None."
    )


@operator_norm_bound.register(tf.linalg.LinearOperatorFullMatrix)
@operator_norm_bound.register(tf.linalg.LinearOperatorLowerTriangular)
def _dense(operator):
    return norms.matrix_norm_bound(operator.to_dense())


@operator_norm_bound.register(tf.linalg.LinearOperatorToeplitz)
def _toeplitz(operator):
    # M is a part of the convolution of infinite sequences with c.
    c = tf.concat([tf.reverse(operator.row[..., 1:], [-1]), operator.col], axis=-1)
    return norms.sequence_norm_bound(c)


@operator_norm_bound.register(tf.linalg.LinearOperatorDiag)
@operator_norm_bound.register(tf.linalg.LinearOperatorIdentity)
@operator_norm_bound.register(tf.linalg.LinearOperatorScaledIdentity)
@operator_norm_bound.register(tf.linalg.LinearOperatorZeros)
def _diagonal(operator):
    return tf.reduce_max(tf.abs(operator.diag_part()), axis=-1)


@operator_norm_bound.register(tf.linalg.LinearOperatorKronecker)
@operator_norm_bound.register(tf.linalg.LinearOperatorComposition)
def _product(operator):
    return functools.reduce(tf.multiply, map(operator_norm_bound, operator.operators))


@operator_norm_bound.register(tf.linalg.LinearOperatorBlockDiag)
def _block_diagonal(operator):
    return functools.reduce(tf.maximum, map(operator_norm_bound, operator.operators))
