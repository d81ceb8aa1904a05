"""Gradient checkpointing: what a layer computes is not kept for the backward pass but made again.

Chen, Xu, Zhang, Guestrin, *Training Deep Nets with Sublinear Memory Cost*, 2016, arXiv:1604.06174.
"""

import contextlib
import threading

import tensorflow as tf

from tfflows.bijectors import _private, estimation


class _State(threading.local):  # The replicas of a strategy are threads.
    on = False
    inside = False


_state = _State()


@contextlib.contextmanager
def recomputing(on=True):
    """Saves memory: inside the `with` block, gradients compute layers anew from their inputs.

    A gradient tape then keeps the input of each `Block`, and of each coupling or spline outside of
    a block, but nothing of what is computed in it, which is done a second time when the gradient
    gets there. Values and gradients are the same to rounding. It applies to the parts of a composed
    flow, in eager mode, in graphs and under XLA.

    What watches a flow, such as `observe_layers`, sees these layers but not what is inside of them.

    Args:
      on: `False` for a `with` block that changes nothing.

    #### Example

    ```python
    import tensorflow as tf
    import zoo
    from tfflows import bijectors

    density = zoo.create("balanced.digits")
    with tf.GradientTape() as tape, bijectors.recomputing():
        loss = -tf.reduce_mean(density.log_prob(tf.ones([4, 8, 8, 1])))
    gradients = tape.gradient(loss, density.trainable_variables)
    ```

    #### References

    Chen, Xu, Zhang, Guestrin, *Training Deep Nets with Sublinear Memory Cost*, 2016,
    arXiv:1604.06174.
    """
    before, _state.on = _state.on, on
    try:
        yield
    finally:
        _state.on = before


def is_inside():
    """Returns whether a layer is being evaluated that is recomputed as a whole."""
    return _state.inside


def evaluate(bijector, function, x):
    """Returns `function(x)`, an output and a log-det; recomputed, if it is the bijector's turn.

    Args:
      bijector: the `FlowBijector` that `function` is a method of.
      function: `_forward_and_log_det` or `_inverse_and_log_det`.
      x: a `Tensor`.
    """
    if not (_state.on and bijector.recomputed) or _state.inside:
        return function(x)
    # The second time as the first: noise is drawn again from the same seed.
    return _recomputed(estimation.as_now(function), x, _tensors_of(bijector))


def _recomputed(function, x, constants):
    """Returns `function(x)`, differentiable by `x`, by variables and by the tensors it closes over.

    Args:
      function: maps a `Tensor` to a pair of them.
      x: a `Tensor`.
      constants: the tensors that `function` finds by itself, such as a context.
    """

    @tf.custom_gradient
    def run(x, *constants):
        with _private.stop_recording():
            outputs = _inside(function, x)

        def gradient(*upstream, variables=()):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                again = _after(upstream[0], x)
                sources = [again, *constants, *variables]
                tape.watch(sources)
                values = _inside(function, again)
            found = tape.gradient(values, sources, upstream, unconnected_gradients="zero")
            found = [tf.convert_to_tensor(g) for g in found]
            count = 1 + len(constants)
            return found[:count], found[count:]

        return outputs, gradient

    return run(x, *constants)


def _inside(function, x):
    before, _state.inside = _state.inside, True
    try:
        y, log_det = function(x)
    finally:
        _state.inside = before
    return y, tf.convert_to_tensor(log_det)


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


def _tensors_of(bijector):
    """Returns the tensors among the parameters of a bijector and its parts, each once."""

    def is_constant(value):
        return (
            tf.is_tensor(value) and not isinstance(value, tf.Variable) and value.dtype.is_floating
        )

    found = bijector._flatten(recursive=True, predicate=is_constant)
    return list({id(tensor): tensor for tensor in found}.values())
