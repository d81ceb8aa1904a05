"""Which latents of a multi-scale flow carry what: exchange the latents of some levels."""

from collections.abc import Iterable

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflows._tensorflow import InvertBase
from tfflows.bijectors.multi_scale import MultiScale
from tfflows.numerics.parameters import as_data
from tfflows.types import Seed, TensorLike


def resample_levels(
    model: tfd.TransformedDistribution, x: TensorLike, levels: Iterable[int], seed: Seed = None
) -> tf.Tensor:
    """Returns `x` decoded again with new latents in some levels, Liao and He (2021), section 6.3.

        z = f(x);   z_l ~ base for l in `levels`;   result = f^-1(z)

    Args:
      model: a `tfd.TransformedDistribution` of a base and `tfb.Invert(MultiScale(...))`, such as
        the image models of `zoo.create`.
      x: a batch of events of the model, `[N, H, W, C]`.
      levels: numbers of the levels whose latents are drawn anew, from 0, whose latents leave first.
      seed: a seed as `tfd.Distribution.sample` takes it.

    Returns:
      Events of the shape of `x`.

    Raises:
      ValueError: if the flow is not a `MultiScale`, or has no such level.

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """
    flow = model.bijector.bijector if isinstance(model.bijector, InvertBase) else None
    if not isinstance(flow, MultiScale):
        raise ValueError(
            "`model` must have the bijector `tfb.Invert(MultiScale(...))`. "
            f"Received: model.bijector={model.bijector!r}."
        )
    levels = list(levels)
    count = len(flow.latent_shapes)
    if not all(0 <= level < count for level in levels):
        raise ValueError(
            f"`levels` must be numbers from 0 to {count - 1}. Received: levels={levels}."
        )
    x = as_data(x, flow.dtype)
    kept = flow.split_latents(flow.forward(x))
    drawn = flow.split_latents(model.distribution.sample(x.shape[0], seed=seed))
    parts = [
        new if level in levels else old
        for level, (old, new) in enumerate(zip(kept, drawn, strict=True))
    ]
    return flow.inverse(flow.merge_latents(parts))
