"""`MultiScale`: a flow that lets go of part of the dimensions after every level."""

from collections.abc import Iterable

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb

from tfflows.evaluation.evaluate import forward_and_log_det, inverse_and_log_det
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics.parameters import as_data
from tfflows.numerics.shapes import with_shape
from tfflows.types import KnownShape, TensorLike


class MultiScale(FlowBijector):
    """Multi-scale architecture, Dinh et al. (2017), section 3.6.

    Level `l` transforms what is left of the image; then a fraction of the channels, the last ones,
    leaves as latents and the rest goes on:

        h_0 = x;   (h_l, z_l) = split(level_l(h_{l-1}));   z_L = level_L(h_{L-1})
        forward:  x [H, W, C] -> z = (z_1, ..., z_L) flattened, [H W C]
        log-det:  the sum over the levels

    A split prior, `p(z_l | h_l)` a Gaussian whose mean and scale a network computes, is the same as
    a standard normal after one more coupling: end the level with
    `Coupling(network, shape, transforms.Affine("exp"), split_size=channels that stay)`.

    Args:
      levels: list of bijectors of events `[H, W, C]`, each usually a `Sequential` that begins with
        `Squeeze`.
      event_shape: `[H, W, C]` of the input.
      split_fraction: fraction of the channels that leaves after each level but the last, or one
        for each. It must give a whole number of channels.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    flow = bijectors.MultiScale([bijectors.Squeeze(), bijectors.Squeeze()], event_shape=[8, 8, 1])
    flow.latent_shapes  # [[4, 4, 2], [2, 2, 8]]
    flow.forward(tf.ones([3, 8, 8, 1])).shape  # [3, 64]
    ```

    #### References

    Dinh, Sohl-Dickstein, Bengio, *Density Estimation using Real NVP*, ICLR 2017, arXiv:1605.08803.
    """

    def __init__(
        self,
        levels: Iterable[tfb.Bijector],
        event_shape: KnownShape,
        *,
        split_fraction: float | list[float] | tuple[float, ...] = 0.5,
        validate_args: bool = False,
        name: str = "multi_scale",
    ) -> None:
        parameters = dict(locals())
        levels = list(levels)
        fractions = (
            list(split_fraction)
            if isinstance(split_fraction, list | tuple)
            else [split_fraction] * (len(levels) - 1)
        )
        if not levels or len(fractions) != len(levels) - 1:
            raise ValueError(
                "`split_fraction` must be one number or one for each level but the last. "
                f"Received: {len(levels)} levels, split_fraction={split_fraction}."
            )
        self._levels = levels
        self._image_shape = tf.TensorShape(event_shape).as_list()
        self._kept, self._latent_shapes = _latent_shapes(levels, self._image_shape, fractions)
        size = self._sizes_sum = sum(self.latent_sizes)
        super().__init__(
            forward_min_event_ndims=3,
            inverse_min_event_ndims=1,
            event_shape=tuple(self._image_shape),
            inverse_event_shape=(size,),
            dtype=next((b.dtype for b in levels if b.dtype is not None), None),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def parts(self) -> list[tfb.Bijector]:  # type: ignore[override]
        """The bijectors, one a level."""
        return list(self._levels)

    levels = parts

    @property
    def latent_shapes(self) -> list[list[int]]:
        """Shapes `[h, w, c]` of the latents that leave after each level."""
        return [list(shape) for shape in self._latent_shapes]

    @property
    def latent_sizes(self) -> list[int]:
        """Number of latents that leave after each level."""
        return [shape[0] * shape[1] * shape[2] for shape in self._latent_shapes]

    def split_latents(self, z: TensorLike) -> list[tf.Tensor]:
        """Returns the latents `[..., H W C]` as a list of `[..., h, w, c]`, one a level."""
        z = as_data(z, self.dtype)
        parts = tf.split(z, self.latent_sizes, axis=-1)
        batch = tf.shape(z)[:-1]
        return [
            with_shape(tf.reshape(part, tf.concat([batch, s], 0)), z.shape[:-1] + list(s))
            for part, s in zip(parts, self._latent_shapes, strict=True)
        ]

    def merge_latents(self, parts: Iterable[TensorLike]) -> tf.Tensor:
        """Returns the list of `split_latents` as one `Tensor` `[..., H W C]` again."""
        return tf.concat([_flatten(as_data(part, self.dtype)) for part in parts], axis=-1)

    def _forward_and_log_det(self, x):
        total, parts = tf.zeros([], x.dtype), []
        for level, kept in zip(self._levels, [*self._kept, 0], strict=True):
            x, log_det = forward_and_log_det(level, x, event_ndims=3)
            total += log_det
            parts.append(x[..., kept:])
            x = x[..., :kept]
        return self.merge_latents(parts), total

    def _inverse_and_log_det(self, y):
        *parts, y = self.split_latents(y)
        y, total = inverse_and_log_det(self._levels[-1], y, event_ndims=3)
        for level, part in zip(self._levels[-2::-1], parts[::-1], strict=True):
            batch = tf.shape(y)[:-3]
            part = tf.broadcast_to(part, tf.concat([batch, part.shape[-3:]], axis=0))
            y, log_det = inverse_and_log_det(level, tf.concat([y, part], axis=-1), event_ndims=3)
            total += log_det
        return y, total

    @classmethod
    def _parameter_properties(cls, dtype):
        def event_ndims(self, x_event_ndims):
            return [x_event_ndims] * len(self._levels)

        return {"levels": tfp.util.BatchedComponentProperties(event_ndims=event_ndims)}

    def _forward_event_shape(self, shape):
        return shape[:-3].concatenate([self._sizes_sum])

    def _inverse_event_shape(self, shape):
        return shape[:-1].concatenate(self._image_shape)

    def _forward_event_shape_tensor(self, shape):
        return tf.concat([shape[:-3], [self._sizes_sum]], axis=0)

    def _inverse_event_shape_tensor(self, shape):
        return tf.concat([shape[:-1], self._image_shape], axis=0)


def _flatten(part):
    shape = tf.concat([tf.shape(part)[:-3], [-1]], axis=0)
    flat = tf.reshape(part, shape)
    return with_shape(flat, [*part.shape[:-3], part.shape[-3:].num_elements()])


def _latent_shapes(levels, shape, fractions):
    """Returns the channels kept after each level but the last, and the shapes of the latents."""
    kept, latents = [], []
    for level, fraction in zip(levels, [*fractions, 1.0], strict=True):
        height, width, channels = level.forward_event_shape(tf.TensorShape(shape)).as_list()
        leaving = fraction * channels
        if abs(leaving - round(leaving)) > 1e-6 or not 0 < round(leaving) <= channels:
            raise ValueError(
                "`split_fraction` must give a whole, positive number of channels. "
                f"Received: split_fraction={fraction} of {channels} channels."
            )
        kept.append(channels - round(leaving))
        latents.append([height, width, round(leaving)])
        shape = [height, width, kept[-1]]
    return kept[:-1], latents
