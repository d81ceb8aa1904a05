"""`tf.linalg.LinearOperator`s: their products with vectors, and the tensors they are made of."""

from collections.abc import Iterator

import tensorflow as tf
import tensorflow_probability as tfp

Operator = tf.linalg.LinearOperator


def matvec(operator: Operator, x: tf.Tensor, adjoint: bool = False) -> tf.Tensor:
    """Returns `M x`, or `M^T x`, for vectors `[..., N]`: the columns of one product of matrices."""
    return _on_columns(lambda columns: operator.matmul(columns, adjoint=adjoint), operator, x)


def solvevec(operator: Operator, y: tf.Tensor) -> tf.Tensor:
    """Returns `M^-1 y` for vectors `[..., N]`."""
    return _on_columns(operator.solve, operator, y)


def _on_columns(function, operator, x):
    """Applies a function of `[*batch, N, S]` to `[..., *batch, N]`.

    With one column each, as `operator.matvec` has them, the products would be many small ones, of
    four dimensions and more: see `_matrix`.
    """
    batch = tf.broadcast_static_shape(x.shape[:-1], operator.batch_shape)
    x = tf.broadcast_to(x, batch + x.shape[-1:]) if batch != x.shape[:-1] else x
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
    return all(is_known(part) for part in parts if isinstance(part, Operator))


def parameters(operator: Operator) -> list[tf.Tensor]:
    """Returns the values of all tensors and variables of an operator; none of one's own."""
    return list(_parameters(operator)) if is_known(operator) else []


def with_parameters(operator: Operator, values: list[tf.Tensor]) -> Operator:
    """Returns the operator with other values, see `parameters`."""
    return _replace(operator, iter(values)) if is_known(operator) else operator


def _parameters(value) -> Iterator[tf.Tensor]:
    if isinstance(value, Operator):
        value = list(value.parameters.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _parameters(part)
    elif _is_parameter(value):
        yield tf.convert_to_tensor(value)


def _replace(value, values):
    if isinstance(value, Operator):
        return type(value)(**{key: _replace(v, values) for key, v in value.parameters.items()})
    if isinstance(value, list | tuple):
        return type(value)(_replace(part, values) for part in value)
    return next(values) if _is_parameter(value) else value


def _is_parameter(value):
    kinds = tf.Tensor | tf.Variable | tfp.util.DeferredTensor
    return isinstance(value, kinds) and value.dtype.is_floating
