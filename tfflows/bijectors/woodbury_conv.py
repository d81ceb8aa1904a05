"""`WoodburyConv`: a low-rank change of all pixels, and one of all channels."""

from typing import Self

import tensorflow as tf

from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import linalg
from tfflows.numerics.parameters import as_parameter, normal_variable, stateless_seed
from tfflows.types import DTypeLike, KnownShape, Seed, TensorLike


class WoodburyConv(FlowBijector):
    """Woodbury transformation, Lu and Huang (2020).

    For an image as a matrix `x` `[H W, C]`,

        forward:  y = (I + U_s V_s) x (I + U_c V_c)
        inverse:  x = (I + U_s V_s)^-1 y (I + U_c V_c)^-1
        log-det:  C log|det(I + V_s U_s)| + H W log|det(I + V_c U_c)|

    where by Woodbury's identity `(I + U V)^-1 = I - U (I + V U)^-1 V`, so that all determinants and
    inverses are of matrices as large as the ranks. Neither factor is a convolution: each pixel has
    weights of its own, and the image's size is fixed.

    Without channel factors, behind a 1x1 convolution and with rank 24, it is the layer that
    Hoogeboom et al. (2020) compare with.

    Nothing keeps `I + V U` from becoming singular but the log-det, which is infinite there.

    Args:
      spatial_u: `U_s`, `[H, W, d]`.
      spatial_v: `V_s`, `[d, H, W]`.
      channel_u: `U_c`, `[C, d']`, or `None` for no change of the channels.
      channel_v: `V_c`, `[d', C]`, or `None`.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the shapes of a pair don't fit, or only one of it is given.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    flow = tfflows.bijectors.WoodburyConv.trainable([8, 8, 12], channel_rank=4, seed=1)
    flow.forward(tf.random.normal([5, 8, 8, 12]))
    ```

    #### References

    Lu, Huang, *Woodbury Transformations for Deep Generative Flows*, NeurIPS 2020, arXiv:2002.12229.
    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910.
    """

    def __init__(
        self,
        spatial_u: TensorLike,
        spatial_v: TensorLike,
        channel_u: TensorLike | None = None,
        channel_v: TensorLike | None = None,
        *,
        validate_args: bool = False,
        name: str = "woodbury_conv",
    ) -> None:
        parameters = dict(locals())
        self._spatial = self._pair("spatial", spatial_u, spatial_v, rank=3)
        self._channel = None
        if channel_u is not None or channel_v is not None:
            self._channel = self._pair("channel", channel_u, channel_v, rank=2)
        channels = None if self._channel is None else self._channel[0].shape[0]
        super().__init__(
            forward_min_event_ndims=3,
            event_shape=(*self._spatial[0].shape[:2], channels),
            is_constant_jacobian=True,
            dtype=self._spatial[0].dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @staticmethod
    def _pair(which, u, v, rank):
        """Returns `U` and `V` after a check."""
        wanted = "[H, W, d] and [d, H, W]" if rank == 3 else "[C, d] and [d, C]"
        u, v = (None if factor is None else as_parameter(factor) for factor in (u, v))
        shapes = [None if factor is None else tuple(factor.shape) for factor in (u, v)]
        if None in shapes or len(shapes[0]) != rank or shapes[1] != shapes[0][-1:] + shapes[0][:-1]:
            raise ValueError(
                f"`{which}_u` and `{which}_v` must have shapes {wanted}. Received: "
                f"{which}_u.shape={shapes[0]}, {which}_v.shape={shapes[1]}."
            )
        return u, v

    @classmethod
    def trainable(
        cls,
        event_shape: KnownShape,
        *,
        rank: int = 24,
        channel_rank: int | None = None,
        seed: Seed = None,
        dtype: DTypeLike = tf.float32,
        name: str = "woodbury_conv",
    ) -> Self:
        """Returns a layer close to the identity with trainable factors.

        At first the factors are `N(0, 1) / n`, `n` the size of the axis, as in Hoogeboom et al.

        Args:
          event_shape: `[H, W, C]`.
          rank: `d`; `H W` if that is less, since then the factor is any matrix already.
          channel_rank: `d'`, or `None` for no change of the channels.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the variables.
          name: name of the bijector.
        """
        height, width, channels = event_shape
        rank = min(rank, height * width)
        shapes = {"spatial_u": [height, width, rank], "spatial_v": [rank, height, width]}
        if channel_rank is not None:
            shapes["channel_u"] = [channels, channel_rank]
            shapes["channel_v"] = [channel_rank, channels]
        seeds = tf.unstack(tf.random.split(stateless_seed(seed), len(shapes)))
        factors = {
            key: normal_variable(
                shape,
                1 / (height * width if key.startswith("spatial") else channels),
                each,
                dtype,
                f"{name}_{key}",
            )
            for (key, shape), each in zip(shapes.items(), seeds, strict=True)
        }
        return cls(**factors, name=name)

    def _factors(self):
        """Returns `U_s` `[H W, d]`, `V_s`, and `U_c`, `V_c` or `None`s."""
        u, v = map(tf.convert_to_tensor, self._spatial)
        rank = u.shape[-1]
        spatial = tf.reshape(u, [-1, rank]), tf.reshape(v, [rank, -1])
        channel = (
            (None, None) if self._channel is None else map(tf.convert_to_tensor, self._channel)
        )
        return *spatial, *channel

    def _small(self, u, v):
        """Returns `I + V U`."""
        return tf.eye(u.shape[-1], dtype=u.dtype) + v @ u

    @of_weights
    def _log_dets(self):
        """Returns `log|det(I + V_s U_s)|` and `log|det(I + V_c U_c)|`, or `None` for the latter."""
        u_s, v_s, u_c, v_c = self._factors()
        of_channels = None if u_c is None else linalg.log_abs_det(self._small(u_c, v_c))
        return linalg.log_abs_det(self._small(u_s, v_s)), of_channels

    @of_weights
    def _inverse_factors(self):
        """Returns what takes the place of `V_s` and `V_c` in the inverse."""
        u_s, v_s, u_c, v_c = self._factors()
        inverse_v_s = -linalg.inverse(self._small(u_s, v_s)) @ v_s
        return inverse_v_s, None if u_c is None else -linalg.inverse(self._small(u_c, v_c)) @ v_c

    def _log_det(self, channels):
        of_pixels, of_channels = self._log_dets()
        log_det = tf.cast(channels, of_pixels.dtype) * of_pixels
        if of_channels is not None:
            height, width = self._spatial[0].shape[:2]
            log_det += height * width * of_channels
        return log_det

    def _multiply(self, x, u_s, v_s, u_c, v_c):
        """Returns `(I + U_s V_s) x (I + U_c V_c)` for `x` `[..., H, W, C]`."""
        flat = tf.reshape(x, [-1, u_s.shape[0], _channels(x)])
        flat += linalg.matmul(u_s, linalg.matmul(v_s, flat))
        if u_c is not None:
            flat += linalg.matmul(linalg.matmul(flat, u_c), v_c)
        return tf.reshape(flat, tf.shape(x))

    def _forward_and_log_det(self, x):
        return self._multiply(x, *self._factors()), self._log_det(_channels(x))

    def _inverse_and_log_det(self, y):
        u_s, _, u_c, _ = self._factors()
        inverse_v_s, inverse_v_c = self._inverse_factors()
        # The two sides commute, so the order of the inverses does not matter.
        x = self._multiply(y, u_s, inverse_v_s, u_c, inverse_v_c)
        return x, -self._log_det(_channels(y))


def _channels(x):
    """Returns the number of channels, a `Tensor` if it is not known."""
    return tf.shape(x)[-1] if x.shape[-1] is None else x.shape[-1]
