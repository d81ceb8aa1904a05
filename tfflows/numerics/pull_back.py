"""Gradients written by hand that forward-mode differentiation understands."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfflows import _tensorflow


def custom_gradient(function: Callable) -> Callable:
    """As `tf.custom_gradient`, for a function of tensors alone, that is right in forward mode.

    In graphs that of TensorFlow is differentiated as if its gradient were not given, or as 0.
    """

    def call(*inputs):
        gradients = []

        def keep(*inputs):
            outputs, gradient = function(*inputs)
            gradients.append(gradient)
            return outputs, gradient

        with _tensorflow.stop_recording():
            outputs = tf.custom_gradient(keep)(*inputs)
        _tensorflow.record_operation(
            function.__name__,
            tf.nest.flatten(outputs),
            list(inputs),
            lambda *g: tf.nest.flatten(gradients[0](*g)),
        )
        return outputs

    return call


class PullBack:
    """`g -> J^T g` for a function, to be called inside of a gradient written by hand.

    Forward mode runs that gradient to find out how it depends on `g`, and meanwhile no tape that is
    made there records anything: what it returns is None, or 0. Here it is right, and linear in `g`.

    Args:
      function: maps tensors to a tensor.
      inputs: the tensors.
    """

    def __init__(self, function: Callable[..., tf.Tensor], inputs: Sequence[tf.Tensor]) -> None:
        self._inputs, self._is_forward_mode = inputs, _tensorflow.is_forward_mode()
        if not self._is_forward_mode:
            self._tape, self._value = _evaluate(function, inputs)
            return
        with _tensorflow.apart_from_forward_mode():
            self._tape, self._value = _evaluate(function, inputs)
            # J t is the gradient of J^T g with respect to g, whatever g is.
            self._zero = tf.zeros_like(self._value)
            self._twice, self._pulled = _evaluate(
                lambda g: _gradient(*_evaluate(function, inputs), inputs, g), [self._zero]
            )

    def __call__(self, g: tf.Tensor) -> list[tf.Tensor]:
        """Returns the gradients with respect to the inputs, zeros where there are none."""
        if not self._is_forward_mode:
            return _gradient(self._tape, self._value, self._inputs, g)

        @custom_gradient
        def linear(g):
            def push_forward(*tangents):
                return _gradient(self._twice, self._pulled, self._zero, list(tangents))

            return _gradient(self._tape, self._value, self._inputs, g), push_forward

        return linear(g)


def _evaluate(
    function: Callable[..., Any], inputs: Sequence[tf.Tensor]
) -> tuple[tf.GradientTape, Any]:
    """Returns a tape and the value of `function(*inputs)` that it saw."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        value = function(*inputs)
    return tape, value


def _gradient(tape, value, inputs, g):
    return tape.gradient(value, inputs, g, unconnected_gradients="zero")
