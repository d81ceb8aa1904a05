"""Keras's Adam and Adamax with one operation a variable where Keras has dozens.

Of a flow of hundreds of variables, Keras's updates are half of a step's graph: of what TensorFlow
takes to trace it, to prepare it, and to hold it. The state is Keras's, and so are the results, to
rounding. Rests on names of Keras that are not public.
"""

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from tfflows._tensorflow import tf_variable


@contextlib.contextmanager
def fused_updates(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Makes `optimizer.apply` faster to trace while it lasts.

    That is, of Adam, AdamW and Adamax, on one replica and without `amsgrad`. All else, classes that
    are derived from these too, updates as Keras does.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    update = _UPDATES.get(type(inner))
    if update is None or replicas > 1 or getattr(inner, "amsgrad", False):
        yield
        return
    step = _Step(inner)
    inner.update_step = lambda *args: update(step, *args)
    inner._update_model_variables_moving_average = step.update_averages
    try:
        yield
    finally:
        del inner.update_step, inner._update_model_variables_moving_average


class _Step:
    """A step of an optimizer, which computes once what all variables have in common."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self._known = {}

    def _once(
        self, name: str, dtype: tf.DType, make: Callable[[tf.DType], tf.Tensor | float]
    ) -> tf.Tensor:
        """Returns `make(dtype)`, or what it was before in the same graph."""
        graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
        key = name, dtype, graph
        if key not in self._known:
            self._known[key] = tf.convert_to_tensor(make(dtype), dtype)
        return self._known[key]

    def _power(self, beta, dtype):
        def make(dtype):
            steps = tf.convert_to_tensor(self._optimizer.iterations) + 1
            return tf.constant(beta, dtype) ** tf.cast(steps, dtype)

        return self._once(f"{beta} to the steps", dtype, make)

    def _arguments(self, gradient, variable, rate, names):
        """Returns what `ResourceApplyAdam` and `ResourceApplyAdaMax` have in common.

        Args:
          gradient: that of `variable`.
          variable: a `tf.Variable`.
          rate: the learning rate.
          names: of the optimizer's attributes with what it keeps for each variable: first the mean
            of the gradients, then of their size.
        """
        of, dtype = self._optimizer, variable.dtype
        index = of._get_variable_index(variable)
        m, v = (tf_variable(getattr(of, name)[index]).handle for name in names)
        return {
            "var": variable.handle,
            "m": m,
            "v": v,
            "beta1_power": self._power(of.beta_1, dtype),
            "lr": self._once("rate", dtype, lambda dtype: tf.cast(rate, dtype)),
            "beta1": self._once("beta_1", dtype, lambda _: of.beta_1),
            "beta2": self._once("beta_2", dtype, lambda _: of.beta_2),
            "epsilon": self._once("epsilon", dtype, lambda _: of.epsilon),
            "grad": tf.cast(gradient, dtype),
        }

    def update_adam(self, gradient, variable, rate):
        """Kingma and Ba (2015), algorithm 1, in the order of its section 2: step `t`, rate `a`.

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        x <- x - a sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon)
        """
        of, dtype = self._optimizer, variable.dtype
        tf.raw_ops.ResourceApplyAdam(
            beta2_power=self._power(of.beta_2, dtype),
            **self._arguments(gradient, variable, rate, ("_momentums", "_velocities")),
        )

    def update_adamax(self, gradient, variable, rate):
        """Kingma and Ba (2015), algorithm 2, with an `epsilon`.

        m <- b1 m + (1 - b1) g,   u <- max(b2 u, |g|)
        x <- x - a / (1 - b1^t) m / (u + epsilon)
        """
        tf.raw_ops.ResourceApplyAdaMax(**self._arguments(gradient, variable, rate, ("_m", "_u")))

    def _portion(self, dtype):
        """Returns the portion of a step in averages of weights, which are 0 before the first."""
        is_first = tf.equal(tf.convert_to_tensor(self._optimizer.iterations), 0)
        rest = tf.constant(1.0 - self._optimizer.ema_momentum, dtype)
        return tf.where(is_first, tf.ones_like(rest), rest)

    def update_averages(self, variables: list[keras.Variable]) -> None:
        """Moves the averages of weights on, if there are any."""
        if not self._optimizer.use_ema:
            return
        averages = self._optimizer._model_variables_moving_average
        for variable, average in zip(variables, averages, strict=True):
            if average is not None:
                value = tf.convert_to_tensor(variable)
                portion = self._once("portion", value.dtype, self._portion)
                average.assign_add((value - average) * portion)


_UPDATES = {
    keras.optimizers.Adam: _Step.update_adam,
    keras.optimizers.AdamW: _Step.update_adam,
    keras.optimizers.Adamax: _Step.update_adamax,
}
