"""`CompiledFunction`: many elementwise operations as one XLA kernel each way."""

import tensorflow as tf


class CompiledFunction:
    """A function of tensors that XLA compiles by itself, with a gradient written by hand.

    TensorFlow runs a graph operation by operation, each of which reads and writes all its tensors:
    dozens of small operations in a row wait for memory and for the start of the next one. Compiled,
    they are one kernel in the forward and one in the backward pass, on any device and whether or
    not the graph around them is compiled. Under a compiled graph they become part of it.

    - In eager mode nothing is compiled, as each new shape would take a second: the plain function
      runs, and TensorFlow differentiates it.
    - Each shape compiles once for the process: layers share a module's `CompiledFunction`.
    - Second derivatives are those of the plain function, by TensorFlow, not compiled.

    Args:
      function: `function(*inputs, **options)` returns outputs, a tuple of tensors, and residuals,
        any structure of tensors that `pull_back` can use. It must be differentiable.
      pull_back: `pull_back(inputs, residuals, gradients, **options)` returns the gradients with
        respect to all `inputs`, given those with respect to the outputs.
    """

    def __init__(self, function, pull_back):
        self._plain = function
        self._function = _compiled(function)
        self._pull_back = _compiled(pull_back)

    def __call__(self, *inputs, **options):
        """Returns the outputs.

        Args:
          *inputs: tensors.
          **options: Python values, each a compilation of its own.
        """
        if tf.executing_eagerly():
            return self._plain(*inputs, **options)[0]

        @tf.custom_gradient
        def call(*inputs):
            outputs, residuals = self._function(*inputs, **options)
            return outputs, lambda *gradients: self._gradient(inputs, residuals, gradients, options)

        return call(*inputs)

    def _gradient(self, inputs, residuals, gradients, options):
        """Returns the gradients with respect to `inputs`, in a way that can be differentiated."""

        @tf.custom_gradient
        def first_order(*arguments):
            count = len(inputs)
            result = self._pull_back(arguments[:count], residuals, arguments[count:], **options)

            def second_order(*upstream):
                with tf.GradientTape() as outer:
                    outer.watch(arguments)
                    with tf.GradientTape() as inner:
                        inner.watch(arguments[:count])
                        outputs, _ = self._plain(*arguments[:count], **options)
                    plain = inner.gradient(outputs, arguments[:count], arguments[count:])
                return outer.gradient(plain, arguments, upstream)

            return result, second_order

        return first_order(*inputs, *gradients)


def _compiled(function):
    """Returns the function compiled, without the warning that it is traced for many shapes."""
    function = tf.function(function, jit_compile=True, autograph=False)
    return lambda *args, **kwargs: function.get_concrete_function(*args, **kwargs)(*args, **kwargs)
