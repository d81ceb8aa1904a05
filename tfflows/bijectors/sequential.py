"""`Sequential`: bijectors one after the other, in the order in which data passes them."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.evaluate import forward_through, inverse_through
from tfflows.evaluation.flow_bijector import FlowBijector

tfb = tfp.bijectors


class Sequential(FlowBijector):
    """Composition of bijectors, first to last: `f(x) = f_n(... f_2(f_1(x)))`.

    The order is that of reading, the reverse of `tfb.Chain`. Each part is evaluated once for output
    and log-det together, in graphs and in eager mode, and never from a stale cache.

    Args:
      bijectors: a non-empty list of `tfb.Bijector`s, of tfflows or not. Between them there may be
        several tensors (`tfb.Split`, `tfb.JointMap`), at the ends one.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    import tensorflow_probability as tfp
    import tfflows

    flow = tfflows.bijectors.Sequential([
        tfflows.bijectors.Squeeze(), tfp.bijectors.Shift(1.), tfp.bijectors.Scale(2.)])
    flow.forward(tf.zeros([5, 4, 4, 3])).shape  # [5, 2, 2, 12]
    ```
    """

    is_series = True

    def __init__(self, bijectors, validate_args=False, name="sequential"):
        parameters = dict(locals())
        bijectors = list(bijectors)
        if not bijectors or not all(isinstance(b, tfb.Bijector) for b in bijectors):
            raise ValueError(
                "`bijectors` must be a non-empty list of `tfb.Bijector`s. "
                f"Received: bijectors={bijectors}."
            )
        shape_rules = tfb.Chain(bijectors[::-1], name="shape_rules")
        ends = [shape_rules.forward_min_event_ndims, shape_rules.inverse_min_event_ndims]
        if any(map(tf.nest.is_nested, ends)):
            raise ValueError(
                "`bijectors` must map one `Tensor` to one: put a `tfb.Split` or `tfb.JointMap` at "
                f"an end around it, in a `tfb.Chain`. Received: bijectors={bijectors}."
            )
        self._bijectors = bijectors
        super().__init__(
            forward_min_event_ndims=shape_rules.forward_min_event_ndims,
            inverse_min_event_ndims=shape_rules.inverse_min_event_ndims,
            is_constant_jacobian=all(b.is_constant_jacobian for b in bijectors),
            dtype=next((b.dtype for b in bijectors if b.dtype is not None), None),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def bijectors(self):
        """The parts, in the order in which `forward` applies them."""
        return list(self._bijectors)

    def _forward_and_log_det(self, x):
        return forward_through(self._bijectors, x, self.forward_min_event_ndims)

    def _inverse_and_log_det(self, y):
        return inverse_through(self._bijectors[::-1], y, self.inverse_min_event_ndims)

    def _forward_event_shape(self, shape):
        for bijector in self._bijectors:
            shape = bijector.forward_event_shape(shape)
        return shape

    def _inverse_event_shape(self, shape):
        for bijector in reversed(self._bijectors):
            shape = bijector.inverse_event_shape(shape)
        return shape

    def _forward_event_shape_tensor(self, shape):
        for bijector in self._bijectors:
            shape = bijector.forward_event_shape_tensor(shape)
        return shape

    def _inverse_event_shape_tensor(self, shape):
        for bijector in reversed(self._bijectors):
            shape = bijector.inverse_event_shape_tensor(shape)
        return shape

    @classmethod
    def _parameter_properties(cls, dtype):
        def event_ndims(self, x_event_ndims):
            ndims = [x_event_ndims]
            for bijector in self._bijectors[:-1]:
                ndims.append(bijector.forward_event_ndims(ndims[-1]))
            return ndims

        return {"bijectors": tfp.util.BatchedComponentProperties(event_ndims=event_ndims)}


class Block(Sequential):
    """A `Sequential` that is one step of a deeper flow.

    What looks at a flow step by step, such as `regularizers.transport_cost`, takes it as a whole,
    and so does `memory`.

    Args:
      bijectors: see `Sequential`.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.
    """

    recomputed = True
    is_series = False

    def __init__(self, bijectors, validate_args=False, name="block"):
        super().__init__(bijectors, validate_args=validate_args, name=name)
