"""Where the first value of a training step that is not finite appears."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import keras_data
from tfflows._tensorflow import steps_taken
from tfflows.analysis.layers import first_non_finite
from tfflows.distributions import integer_images
from tfflows.distributions.discrete import is_discrete
from tfflows.evaluation import determinism, network_calls
from tfflows.networks import one_hot
from tfflows.variables import named_variables

if TYPE_CHECKING:
    from tfflows.training import FlowModel


class NonFiniteError(ArithmeticError):
    """The loss or a gradient was not finite; the message names the first place where."""


@contextlib.contextmanager
def explain_errors(model: "FlowModel") -> Iterator[None]:
    """Raises what an error of TensorFlow says about data, loss or gradients in its place.

    Args:
      model: the `FlowModel` that Keras trains or evaluates meanwhile.
    """
    try:
        yield
    except ValueError as error:
        if told := determinism.told(str(error)) or keras_data.told(str(error)):
            raise ValueError(told) from None  # Without the lines of the functions it came through.
        raise
    except tf.errors.OpError as error:
        message = error.message or ""
        if told := integer_images.told(message) or one_hot.told(message):
            raise ValueError(told) from None
        if "NonFiniteError" not in message:
            raise
        start = message.index("NonFiniteError") + len("NonFiniteError: ")
        text = message[start:].split("Traceback")[0].split("\n\n")[0]
        step = int(steps_taken(model.optimizer).numpy()) + 1
        raise NonFiniteError(f"In step {step}: {text}") from None


def _rows_not_finite(x):
    """Returns the numbers of the rows of a batch that are not finite."""
    if x is None or isinstance(x, tf.SparseTensor) or not x.dtype.is_floating:
        return []
    finite = tf.reduce_all(tf.math.is_finite(x), range(1, x.shape.rank))
    return tf.where(~finite)[:, 0].numpy().tolist()


def diagnose_non_finite(
    model: "FlowModel", x: tf.Tensor, y: Any, seed: tf.Tensor, weights: tf.Tensor | None = None
) -> str:
    """Returns a sentence that says where the first non-finite value of a step appears.

    Args:
      model: a `FlowModel`.
      x: the batch of the step.
      y: what it is given, or `None`.
      seed: the seed of the step.
      weights: the weights of the events of the batch, if they have any.
    """
    if weights is not None and not bool(tf.reduce_all(tf.math.is_finite(weights))):
        return "The sample weights are not finite."
    v = tf.cast(x, tf.float32) if x.dtype.is_integer else x
    for what, part in [("data", v), *(("contexts `y`", part) for part in tf.nest.flatten(y))]:
        if rows := _rows_not_finite(part):
            return (
                f"The {what} are not finite: of the batch, {len(rows)} event(s) contain NaN or "
                f"infinity, number {', '.join(map(str, rows[:5]))}. Mend or leave out these data."
            )
    try:
        context = model._conditioned.context_of(y)
    except ValueError as error:  # Under XLA, where nothing was said.
        return str(error)
    if rows := _rows_not_finite(context):
        return (
            f"The context network's output is not finite for {len(rows)} event(s) of the batch, "
            f"number {', '.join(map(str, rows[:5]))}; `y` is."
        )
    distribution = model._conditioned.bind(y)
    if is_discrete(distribution):
        v, log_q = distribution.dequantize(x, seed)
        if not bool(tf.reduce_all(tf.math.is_finite(log_q))):
            return "The dequantizer's log q(u | x) is not finite."
        distribution = distribution.distribution
    if isinstance(getattr(distribution, "bijector", None), tfp.bijectors.Bijector):
        record = first_non_finite(tfp.bijectors.Invert(distribution.bijector), v)
        if record is not None:
            return (
                f"The first layer that is not finite is {record.name!r} "
                f"({type(record.bijector).__name__}): its output or log-det is NaN or infinite, "
                "its input is finite. A smaller learning rate, warm-up or gradient clipping "
                "usually helps."
            )
    with tf.GradientTape() as tape, network_calls.apart() as calls:
        loss, *penalties = model._terms(x, y, seed, weights, calls)
        total = tf.add_n([loss, *penalties])
    if not bool(tf.math.is_finite(loss)):
        return "The base distribution's log-probability is not finite; all layers are."
    for name, penalty in zip([*model.regularizers, "network_losses"], penalties, strict=False):
        if not bool(tf.math.is_finite(penalty)):
            return f"The penalty {name!r} is not finite; the likelihood is."
    trained = {id(variable) for variable in model.trainable_weights}
    names = {k: v for k, v in named_variables(model._module).items() if id(v) in trained}
    for name, gradient in zip(names, tape.gradient(total, list(names.values())), strict=True):
        if gradient is not None and not bool(tf.reduce_all(tf.math.is_finite(gradient))):
            return f"The loss is finite; the gradient of {name!r} is not."
    return "The gradients are finite one by one; their norm overflows."
