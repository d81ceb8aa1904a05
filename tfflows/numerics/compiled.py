"""`CompiledFunction`: many elementwise operations as one XLA kernel each way."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfflows import _tensorflow


class CompiledFunction:
    """A function of tensors that XLA compiles by itself, with a gradient written by hand.

    TensorFlow runs a graph operation by operation, each of which reads and writes all its tensors:
    dozens of small operations in a row wait for memory and for the start of the next one. Compiled,
    they are one kernel in the forward and one in the backward pass, on any device and whether or
    not the graph around them is compiled. Under a compiled graph they become part of it.

    - In eager mode nothing is compiled, as each new shape would take a second: the plain function
      runs, and TensorFlow differentiates it. So it does in forward mode, in graphs too.
    - Each shape compiles once for the process: layers share a module's `CompiledFunction`.
    - Second derivatives are by TensorFlow: of `gradient` if it is given, else of the plain
      function, not compiled.

    Args:
      function: `function(*inputs, **options)` returns outputs, a tuple of tensors, and residuals,
        any structure of tensors that `pull_back` can use. It must be differentiable.
      pull_back: `pull_back(inputs, residuals, gradients, **options)` returns the gradients with
        respect to all `inputs`, given those with respect to the outputs.
      gradient: `gradient(inputs, gradients, **options)` returns the same, and is differentiable. To
        be given if TensorFlow can't differentiate `function` twice.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        pull_back: Callable[..., Any],
        gradient: Callable[..., Any] | None = None,
    ) -> None:
        self._plain = function
        self._differentiable_gradient = gradient or self._plain_gradient
        self._function = _compiled(function)
        self._pull_back = _compiled(pull_back)

    def __call__(self, *inputs: tf.Tensor, **options: Any) -> tuple[tf.Tensor, ...]:
        """Returns the outputs.

        Args:
          *inputs: tensors.
          **options: Python values, each a compilation of its own.
        """
        if tf.executing_eagerly() or _tensorflow.have_tangents(inputs):
            return self._plain(*inputs, **options)[0]

        @tf.custom_gradient
        def call(*inputs):
            outputs, residuals = self._function(*inputs, **options)
            return outputs, lambda *gradients: self._gradient(inputs, residuals, gradients, options)

        return call(*inputs)

    def _plain_gradient(self, inputs, gradients, **options):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs, _ = self._plain(*inputs, **options)
        return tape.gradient(outputs, inputs, gradients)

    def _gradient(self, inputs, residuals, gradients, options):
        """Returns the gradients with respect to `inputs`, in a way that can be differentiated."""
        count = len(inputs)

        @tf.custom_gradient
        def first_order(*arguments):
            inputs, gradients = arguments[:count], arguments[count:]
            result = self._pull_back(inputs, residuals, gradients, **options)

            def second_order(*upstream):
                with tf.GradientTape() as tape:
                    tape.watch(arguments)
                    again = self._differentiable_gradient(inputs, gradients, **options)
                return tape.gradient(again, arguments, upstream)

            return result, second_order

        return first_order(*inputs, *gradients)


def _compiled(function):
    """Returns the function compiled, without the warning that it is traced for many shapes."""
    function = tf.function(function, jit_compile=True, autograph=False)

    def call(*args, **kwargs):
        concrete = function.get_concrete_function(*args, **kwargs)  # It may have tapes of its own.
        with _tensorflow.stop_recording():  # Those around would go into it, and fail at loops.
            return concrete(*args, **kwargs)

    return call
