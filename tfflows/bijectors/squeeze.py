"""`Squeeze`: trades resolution for channels."""

import tensorflow as tf

from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics.shapes import with_shape


class Squeeze(FlowBijector):
    """Moves blocks of `factor x factor` pixels into channels: `[H, W, C] -> [H/f, W/f, f^2 C]`.

    A permutation; the log-det is 0. For the pixel `(dy, dx)` of a block and channel `c`, the new
    channel is

        order="space_to_depth":  (f dy + dx) C + c    (TensorFlow)
        order="glow":            f^2 c + f dy + dx    (Glow and RealNVP)

    Splitting channels in half after `"space_to_depth"` separates the upper from the lower pixels of
    a block; after `"glow"` it separates colours.

    Args:
      factor: size of a block.
      order: order of the new channels.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    bijectors.Squeeze().forward(tf.ones([2, 8, 8, 3])).shape  # [2, 4, 4, 12]
    ```

    #### References

    Dinh, Sohl-Dickstein, Bengio, *Density Estimation using Real NVP*, ICLR 2017, arXiv:1605.08803,
    section 3.6.
    """

    def __init__(
        self,
        factor: int = 2,
        *,
        order: str = "space_to_depth",
        validate_args: bool = False,
        name: str = "squeeze",
    ) -> None:
        parameters = dict(locals())
        if order not in ("space_to_depth", "glow"):
            raise ValueError(
                f'`order` must be "space_to_depth" or "glow". Received: order={order!r}.'
            )
        self._factor = factor
        self._order = order
        super().__init__(
            forward_min_event_ndims=3,
            event_shape=(None, None, None),
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def _is_permutation(self):
        return True

    def _forward_and_log_det(self, x):
        f = self._factor
        height, width, channels = self._forward_sizes(x.shape)
        blocks = tf.reshape(x, [-1, height, f, width, f, channels // f**2])
        axes = [0, 1, 3, 2, 4, 5] if self._order == "space_to_depth" else [0, 1, 3, 5, 2, 4]
        return self._restore_batch(tf.transpose(blocks, axes), x, [height, width, channels])

    def _inverse_and_log_det(self, y):
        f = self._factor
        height, width, channels = self._inverse_sizes(y.shape)
        split, axes = [f, f, channels], [0, 1, 3, 2, 4, 5]
        if self._order == "glow":
            split, axes = [channels, f, f], [0, 1, 4, 2, 5, 3]
        blocks = tf.reshape(y, [-1, height // f, width // f, *split])
        return self._restore_batch(tf.transpose(blocks, axes), y, [height, width, channels])

    def _restore_batch(self, blocks, like, sizes):
        shape = tf.concat([tf.shape(like)[:-3], sizes], axis=0)
        result = tf.reshape(blocks, shape)
        return with_shape(result, like.shape[:-3] + sizes), tf.zeros([], like.dtype)

    def _forward_sizes(self, shape):
        """Returns height, width and channels of `forward` of `[..., H, W, C]`."""
        f = self._factor
        height, width, channels = _known(shape)
        if height % f or width % f:
            raise ValueError(
                f"`Squeeze` needs a height and a width that are multiples of factor={f}. "
                f"Received: event shape {[height, width, channels]}."
            )
        return [height // f, width // f, channels * f**2]

    def _inverse_sizes(self, shape):
        """Returns height, width and channels of `inverse` of `[..., H, W, C]`."""
        f = self._factor
        height, width, channels = _known(shape)
        if channels % f**2:
            raise ValueError(
                f"`Squeeze.inverse` needs a number of channels that is a multiple of factor**2="
                f"{f**2}. Received: event shape {[height, width, channels]}."
            )
        return [height * f, width * f, channels // f**2]

    def _forward_event_shape(self, shape):
        return shape[:-3].concatenate(self._forward_sizes(shape))

    def _inverse_event_shape(self, shape):
        return shape[:-3].concatenate(self._inverse_sizes(shape))

    def _forward_event_shape_tensor(self, shape):
        f = self._factor
        return tf.concat([shape[:-3], shape[-3:-1] // f, shape[-1:] * f**2], axis=0)

    def _inverse_event_shape_tensor(self, shape):
        f = self._factor
        return tf.concat([shape[:-3], shape[-3:-1] * f, shape[-1:] // f**2], axis=0)


def _known(shape):
    shape = tf.TensorShape(shape)[-3:]
    if not shape.is_fully_defined():
        raise ValueError(
            f"`Squeeze` needs static event shapes [H, W, C]. Received: event shape {shape}."
        )
    return shape.as_list()
