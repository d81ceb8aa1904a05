"""`of_weights`: marks what a bijector computes of its weights alone, see `for_inference`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def of_weights(method: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a method of a `FlowBijector` whose result depends on its weights alone.

    What `tfflows.for_inference` returns has the result in place of the method, computed once. A
    method that also takes sizes of events is computed once for those that it is called with.

    Args:
      method: returns a `Tensor` of floats, `None`, or a list or tuple of these. It takes nothing,
        or sizes, each a Python `int` or, where that is not known, a `Tensor`.

    #### Example

    ```python
    import tensorflow as tf

    import tfflows
    from tfflows import bijectors, evaluation

    class Rotation(bijectors.FlowBijector):
        def __init__(self, weight, name="rotation"):
            parameters = dict(locals())
            self._weight = weight
            super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

        @evaluation.of_weights
        def matrix(self):
            return tf.linalg.expm(self._weight - tf.transpose(self._weight))

        def _forward_and_log_det(self, x):
            return tf.linalg.matvec(self.matrix(), x), tf.zeros([], x.dtype)

        def _inverse_and_log_det(self, y):
            return tf.linalg.matvec(self.matrix(), y, transpose_a=True), tf.zeros([], y.dtype)

    flow = tfflows.for_inference(Rotation(tf.Variable(tf.ones([3, 3]))))
    flow.forward(tf.ones([2, 3]))  # Without another `tf.linalg.expm`.
    ```
    """
    name, takes_sizes = method.__name__, len(inspect.signature(method).parameters) > 1

    def call(self, *sizes):
        known = self._of_weights
        if not takes_sizes and known is not None and name in known:
            return known[name]
        if not sizes or not all(isinstance(s, int) for s in sizes) or not is_constant(self):
            return method(self, *sizes)
        if (name, sizes) not in self._of_sizes:
            with tf.init_scope():  # Outside of the graph that may just be traced.
                if not tf.executing_eagerly():
                    return method(self, *sizes)
                self._of_sizes[name, sizes] = method(self, *sizes)
        return self._of_sizes[name, sizes]

    marked: Any = functools.wraps(method)(call)
    marked._is_kept = not takes_sizes
    return marked


def is_constant(bijector: Any) -> bool:
    """Returns whether `for_inference` made the weights of a bijector constants.

    Inside of a loop over layers they are those of a turn: tensors of the graph.
    """
    known = bijector._of_weights
    return known is not None and not any(map(tf.is_symbolic_tensor, tf.nest.flatten(known)))


def kept(bijector: Any) -> dict[str, Any] | None:
    """Returns the results of the methods of a bijector that are marked, by name, `None` of none."""
    methods = {name: m for c in reversed(type(bijector).__mro__) for name, m in vars(c).items()}
    marked = [name for name, method in methods.items() if hasattr(method, "_is_kept")]
    if not marked:
        return None
    return {name: getattr(bijector, name)() for name in marked if methods[name]._is_kept}
