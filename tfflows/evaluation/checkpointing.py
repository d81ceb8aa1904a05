"""What of a layer is kept for its gradient: all, its input, or nothing.

Chen, Xu, Zhang, Guestrin, *Training Deep Nets with Sublinear Memory Cost*, 2016, arXiv:1604.06174;
Gomez, Ren, Urtasun, Grosse, *The Reversible Residual Network*, NeurIPS 2017, arXiv:1707.04585.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import _tensorflow
from tfflows.evaluation import network_calls, state
from tfflows.types import PairFunction, Structure


def evaluate(
    bijector: tfp.bijectors.Bijector, function: PairFunction, x: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `function(x)`, an output and a log-det; recomputed, if it is the bijector's turn.

    Args:
      bijector: the `FlowBijector` that `function` is a method of.
      function: `_forward_and_log_det` or `_inverse_and_log_det`.
      x: a `Tensor`.
    """
    now = state.now()
    if now.memory == "store" or not bijector.is_unit or now.is_inside:
        return function(x)
    y, log_det, *losses = _recomputed(function, x, tensors_of(bijector))
    network_calls.add(losses)
    return y, log_det


def _recomputed(function, x, constants):
    """Returns `evaluate_inside(function, x)`, differentiable by all that it depends on.

    Args:
      function: maps a `Tensor` to a pair of them.
      x: a `Tensor`.
      constants: the tensors that `function` finds by itself, such as a context.
    """
    # The second time as the first: noise is drawn again from the same seed.
    later = state.bind(functools.partial(evaluate_inside, function))

    @tf.custom_gradient
    def run(x, *constants):
        with _unrecorded():
            outputs = evaluate_inside(function, x, state.now().calls)

        def gradient(*upstream, variables=()):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                again = _after(upstream[0], x)
                sources = [again, *constants, *variables]
                tape.watch(sources)
                values = later(again)
            found = tape.gradient(values, sources, upstream, unconnected_gradients="zero")
            found = [tf.convert_to_tensor(g) for g in found]
            count = 1 + len(constants)
            return found[:count], found[count:]

        return outputs, gradient

    return run(x, *constants)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A bijector or its inverse, as a function of a `Tensor` to an output and the log-det.

    Attributes:
      bijector: a `tfb.Bijector`.
      inverse: whether the layer is its inverse.
      event_ndims: rank of the events of the input.
      output_ndims: rank of the events of the output.
      evaluate: maps the bijector, whether it is inverted, an input and the rank of its events to
        an output and the log-det.
    """

    bijector: tfp.bijectors.Bijector
    inverse: bool
    event_ndims: int
    output_ndims: int
    evaluate: Callable

    def __call__(self, x: Structure) -> tuple[Structure, tf.Tensor]:
        """Returns the output and the log-det."""
        return self.evaluate(self.bijector, self.inverse, x, self.event_ndims)

    def undo(self, y: Structure) -> tuple[Structure, tf.Tensor]:
        """Returns the input and a log-det."""
        return self.evaluate(self.bijector, not self.inverse, y, self.output_ndims)


@dataclasses.dataclass(frozen=True)
class Series:
    """Layers in a row, of which only the output is kept.

    Attributes:
      layers: a tuple of `Layer`s.
    """

    layers: tuple[Layer, ...]

    def __call__(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the output and the log-det."""
        return _keep_output(self.layers, x)


def _keep_output(layers, x):
    later = [state.bind(functools.partial(evaluate_inside, layer)) for layer in layers]
    undo = [state.bind(functools.partial(evaluate_inside, layer.undo)) for layer in layers]
    own = [tensors_of(layer.bijector) for layer in layers]
    shared = tensors_of(*(layer.bijector for layer in layers))

    @tf.custom_gradient
    def run(x, *constants):
        y, total, losses, calls = x, tf.zeros([], x.dtype), [], state.now().calls
        with _unrecorded():
            for layer in layers:
                y, log_det, *more = evaluate_inside(layer, y, calls)
                total += log_det
                losses += more
        output, shape = y, tf.shape(total)

        def gradient(upstream, of_log_det, *of_losses, variables=()):
            y, sums = output, {}
            for layer, function, undone, tensors in zip(
                layers[::-1], later[::-1], undo[::-1], own[::-1], strict=True
            ):
                # Waits for the gradient from above: else all inverses would run ahead, and what
                # they find would have to be kept.
                with _unrecorded():
                    x = undone(_after(upstream, y))[0]
                weights = layer.bijector.trainable_variables
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch([x, *tensors, *weights])
                    value, log_det, *loss = function(x)
                    values = value, tf.broadcast_to(log_det, shape), *loss
                given = upstream, of_log_det, *of_losses[: len(loss)]
                upstream, *found = tape.gradient(values, [x, *tensors, *weights], given, "zero")
                keys = [*map(id, tensors), *(w.ref() for w in weights)]
                for key, part in zip(keys, map(tf.convert_to_tensor, found), strict=True):
                    sums[key] = sums[key] + part if key in sums else part
                y = x
            return (
                [upstream, *(sums[id(tensor)] for tensor in shared)],
                [sums[variable.ref()] for variable in variables],
            )

        return (output, total, *([tf.add_n(losses)] if losses else [])), gradient

    y, log_det, *losses = run(x, *shared)
    network_calls.add(losses)
    return y, log_det


def _unrecorded():
    """Keeps the inside of a layer off the tapes outside, in eager mode.

    In graphs a tape keeps nothing alive, and layers may need tapes of their own.
    """
    return _tensorflow.stop_recording() if tf.executing_eagerly() else contextlib.nullcontext()


def evaluate_inside(
    function: PairFunction, x: tf.Tensor, calls: network_calls.Calls | None = None
) -> tuple[tf.Tensor, ...]:
    """Returns an output and a log-det, evaluated as the inside of a layer, and the losses in it.

    Args:
      function: maps a `Tensor` to an output and a log-det.
      x: a `Tensor`.
      calls: the `Calls` that are to know what networks assign to variables.

    Returns:
      A tuple: the output, the log-det, and the sum of the losses of networks if there are any.
    """
    with state.evaluating(is_inside=True, **state.apart(state.now())):
        own = state.now().calls
        y, log_det = function(x)
    if calls is not None and own is not None:
        calls.add([], own.updates)
    return y, tf.convert_to_tensor(log_det), *(own.total(x.dtype) if own else [])


def _after(upstream, x):
    """Returns `x`, as a value that depends on the gradient that has arrived from above.

    Else a compiler would see the same operations on the same input twice and do them once, and keep
    what we want it to forget. Neither Grappler nor XLA can know that `min(|g|, 0)` is 0. (XLA takes
    no notice of control dependencies, and has its optimization barrier to itself.)
    """
    if tf.executing_eagerly():
        return tf.identity(x)
    element = tf.reduce_sum(tf.reshape(upstream, [-1])[:1])  # Of an empty batch too.
    return x + tf.cast(tf.minimum(tf.abs(element), 0), x.dtype)


def tensors_of(*bijectors: tfp.bijectors.Bijector) -> list[tf.Tensor]:
    """Returns the tensors among the parameters of bijectors and their parts, each once."""

    def is_constant(value):
        # What a deferred tensor is made of is found inside of it.
        is_other = isinstance(value, tf.Variable | tfp.util.DeferredTensor)
        return tf.is_tensor(value) and not is_other and value.dtype.is_floating

    found = [
        tensor.values if isinstance(tensor, tf.SparseTensor) else tensor
        for bijector in bijectors
        for tensor in bijector._flatten(recursive=True, predicate=is_constant)
    ]
    return list({id(tensor): tensor for tensor in found}.values())
