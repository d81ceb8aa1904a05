"""`Flip`: reverses axes of an event."""

from collections.abc import Iterable

import tensorflow as tf

from tfflows.evaluation.flow_bijector import FlowBijector


class Flip(FlowBijector):
    """Reverses an event along some of its axes. Its own inverse; the log-det is 0.

    `Flip(axis=-1)` reverses the channels, as between couplings of RealNVP; `Flip(axis=(-3, -2))`
    rotates an image by half a turn, as between autoregressive convolutions.

    Args:
      axis: a negative `int`, or several.
      event_ndims: rank of an event.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    bijectors.Flip(event_ndims=1).forward(tf.constant([1.0, 2.0, 3.0]))  # [3., 2., 1.]
    ```
    """

    def __init__(
        self,
        axis: int | Iterable[int] = -1,
        *,
        event_ndims: int = 3,
        validate_args: bool = False,
        name: str = "flip",
    ) -> None:
        parameters = dict(locals())
        self._axes = [axis] if isinstance(axis, int) else list(axis)
        if not all(-event_ndims <= a < 0 for a in self._axes):
            raise ValueError(
                f"`axis` must lie in [-event_ndims, -1]. "
                f"Received: axis={axis}, event_ndims={event_ndims}."
            )
        super().__init__(
            forward_min_event_ndims=event_ndims,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def _is_permutation(self):
        return True

    def _forward_and_log_det(self, x):
        rank = x.shape.rank
        return tf.reverse(x, [rank + a for a in self._axes]), tf.zeros([], x.dtype)

    def _inverse_and_log_det(self, y):
        return self._forward_and_log_det(y)
