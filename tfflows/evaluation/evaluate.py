"""How bijectors are evaluated: output and log-det together, one after the other, watched."""

from collections.abc import Callable, Mapping

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfflows import _tensorflow
from tfflows.evaluation import checkpointing, parts, state
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.evaluation.plan import plan
from tfflows.numerics.parameters import as_data, check_finite
from tfflows.types import Ndims, Structure, TensorLike


def initialize(
    bijector: tfb.Bijector,
    x: TensorLike | Mapping[str, TensorLike],
    only: Callable[[tfb.Bijector], bool] = lambda part: True,
) -> None:
    """Runs the data-dependent initialisation of every part that has one, in order.

    Each part with a method `initialize(x)` (as `ActNorm`) sees what the parts before it, already
    initialised, make of the batch.

    Args:
      bijector: any `tfb.Bijector`.
      x: a batch of data, in eager mode.
      only: says of a part that has one whether to run it; by default of all.

    Raises:
      ValueError: if a row of the batch, or of what layers make of it, is not finite.
    """
    x = _as_input(x, bijector, bijector.forward_min_event_ndims)
    for tensor in tf.nest.flatten(x):
        check_finite(tensor)

    def initialize_part(part, value):
        if hasattr(part, "initialize") and only(part):
            part.initialize(value)

    with state.observe_layers(before=initialize_part):
        forward_and_log_det(bijector, x)


def forward_and_log_det(
    bijector: tfb.Bijector,
    x: TensorLike | Mapping[str, TensorLike],
    event_ndims: Ndims | None = None,
) -> tuple[Structure, tf.Tensor]:
    """Returns `f(x)` and `log|det f'(x)|` from one evaluation.

    Args:
      bijector: any `tfb.Bijector`. `tfb.Chain` and `tfb.Invert` are looked into.
      x: a `Tensor`, or an array or list.
      event_ndims: rank of the events of `x`; by default `bijector.forward_min_event_ndims`.

    Returns:
      A pair: the output, and the log-det, which broadcasts to the batch shape of `x`.
    """
    x = _as_input(x, bijector, bijector.forward_min_event_ndims)
    if event_ndims is None:
        event_ndims = bijector.forward_min_event_ndims
    for before, _ in state.now().watching:
        before(bijector, x)
    if isinstance(bijector, FlowBijector):
        bijector._check(x, bijector._event_shape, "x")

        def evaluate(x):
            y, log_det = checkpointing.evaluate(bijector, bijector._forward_and_log_det, x)
            least = bijector.forward_min_event_ndims
            return y, _sum_over_event(log_det, x, least, event_ndims)

        y, log_det = bijector._with_known_shape(evaluate, x, event_ndims=event_ndims)
    elif parts.is_series(bijector):
        return through(parts.sequence(bijector), x, event_ndims)
    else:
        with _tensorflow.let_tapes_record():  # It may differentiate something itself.
            x = tf.nest.map_structure(tf.identity, x)  # New tensors, which TFP's cache can't know.
            y, log_det = bijector.forward(x), bijector.forward_log_det_jacobian(x, event_ndims)
    for _, after in state.now().watching:
        after(bijector, x, y, log_det)
    return y, log_det


def inverse_and_log_det(
    bijector: tfb.Bijector,
    y: TensorLike | Mapping[str, TensorLike],
    event_ndims: Ndims | None = None,
) -> tuple[Structure, tf.Tensor]:
    """Returns `f^-1(y)` and `log|det (f^-1)'(y)|` from one evaluation.

    Args:
      bijector: any `tfb.Bijector`. `tfb.Chain` and `tfb.Invert` are looked into.
      y: a `Tensor`, or an array or list.
      event_ndims: rank of the events of `y`; by default `bijector.inverse_min_event_ndims`.

    Returns:
      A pair: the preimage, and the log-det, which broadcasts to the batch shape of `y`.
    """
    y = _as_input(y, bijector, bijector.inverse_min_event_ndims)
    if event_ndims is None:
        event_ndims = bijector.inverse_min_event_ndims
    for before, _ in state.now().watching:
        before(bijector, y)
    if isinstance(bijector, FlowBijector):
        bijector._check(y, bijector._inverse_event_shape_expected, "y")

        def evaluate(y):
            x, log_det = checkpointing.evaluate(bijector, bijector._inverse_and_log_det, y)
            least = bijector.inverse_min_event_ndims
            return x, _sum_over_event(log_det, y, least, event_ndims)

        x, log_det = bijector._with_known_shape(evaluate, y, True, event_ndims)
    elif parts.is_series(bijector):
        return through(parts.invert(parts.sequence(bijector)), y, event_ndims)
    else:
        with _tensorflow.let_tapes_record():
            y = tf.nest.map_structure(tf.identity, y)
            x, log_det = bijector.inverse(y), bijector.inverse_log_det_jacobian(y, event_ndims)
    for _, after in state.now().watching:
        after(bijector, y, x, log_det)
    return x, log_det


def _as_input(value, bijector, event_ndims):
    """Returns arrays and lists as `Tensor`s; a bijector of several takes a structure of them."""
    if tf.nest.is_nested(event_ndims):
        return tf.nest.map_structure(as_data, value)
    return as_data(value, parts.dtype_of(bijector))


def through(
    sequence: list[parts.Part | parts.Turns], x: Structure, event_ndims: Ndims
) -> tuple[Structure, tf.Tensor]:
    """Evaluates parts one after the other; returns the output and the sum of the log-dets.

    Args:
      sequence: a list of `parts.Part` and `parts.Turns`.
      x: a `Tensor`, or a structure of them.
      event_ndims: rank of its events.
    """
    total = tf.zeros([], tf.nest.flatten(x)[0].dtype)
    for step in plan(sequence, event_ndims, _evaluate_part, state.now()):
        x, log_det = step(x)
        total += log_det
    return x, total


def _evaluate_part(bijector, inverse, x, event_ndims):
    evaluate = inverse_and_log_det if inverse else forward_and_log_det
    return evaluate(bijector, x, event_ndims)


def _sum_over_event(log_det, value, min_event_ndims, event_ndims):
    """Sums the log-det over the dimensions of an event that a smaller bijector took for a batch."""
    extra = event_ndims - min_event_ndims
    if extra == 0:
        return log_det
    shape = tf.shape(value)[: tf.rank(value) - min_event_ndims]
    return tf.reduce_sum(tf.broadcast_to(log_det, shape), axis=list(range(-extra, 0)))
