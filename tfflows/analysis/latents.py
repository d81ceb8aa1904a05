"""Latents of events exchanged and mixed: some levels drawn anew, the way from one to another."""

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


def interpolate(
    model: tfd.TransformedDistribution, x: TensorLike, y: TensorLike, count: int
) -> tf.Tensor:
    """Returns what lies between pairs of events, on an arc between their latents.

        z_0 = f(x),  z_1 = f(y),  a the angle between them
        z_t = ((1 - t) |z_0| + t |z_1|) (sin((1 - t) a) z_0 / |z_0| + sin(t a) z_1 / |z_1|) / sin a
        result = f^-1(z_t),  t = 0 .. 1

    The direction moves on the sphere and the norm in proportion. On the straight line the norm
    would fall, by a factor of `sqrt(2)` for two independent latents of many dimensions, whose norm
    is nearly the same in all samples: a model never sees such latents, and makes of them events
    that are too smooth. Latents of opposite directions have no arc; between them it is the line.

    Args:
      model: a `tfd.TransformedDistribution` of a base around 0, and `tfb.Invert(flow)`.
      x: a batch of events, `[N, ...]`.
      y: as many others.
      count: how many events a pair gives, the two themselves included, at least 2.

    Returns:
      Events, `[N, count, ...]`; the first and the last are `x` and `y`, as exactly as `f` inverts.

    Raises:
      ValueError: if `count` is less than 2, or the shapes differ.

    #### Example

    ```python
    import tfflows
    import zoo

    model = zoo.create("realnvp.two_moons", num_blocks=4)
    x, y = model.sample(2, seed=1), model.sample(2, seed=2)
    tfflows.analysis.interpolate(model, x, y, 7).shape  # [2, 7, 2]
    ```
    """
    x, y = as_data(x, model.dtype), as_data(y, model.dtype)
    if count < 2 or x.shape != y.shape:
        raise ValueError(
            "`x` and `y` must have one shape, and `count` must be 2 or more. Received: "
            f"x.shape={x.shape}, y.shape={y.shape}, count={count}."
        )
    first, last = tf.split(model.bijector.inverse(tf.concat([x, y], 0)), 2)
    latent_shape = first.shape[1:]
    first, last = (tf.reshape(z, [x.shape[0], 1, -1]) for z in (first, last))
    norms = [tf.norm(z, axis=-1, keepdims=True) for z in (first, last)]
    u, v = (tf.math.divide_no_nan(z, norm) for z, norm in zip((first, last), norms, strict=True))
    # Of small angles, which the arc cosine of a product of nearly 1 would lose.
    angle = 2 * tf.atan2(tf.norm(u - v, axis=-1), tf.norm(u + v, axis=-1))[..., tf.newaxis]
    t = tf.linspace(tf.zeros([], x.dtype), tf.ones([], x.dtype), count)[:, tf.newaxis]
    is_arc = tf.sin(angle) > 1e-4
    sine = tf.where(is_arc, tf.sin(angle), tf.ones_like(angle))
    weights = [tf.where(is_arc, tf.sin(s * angle) / sine, s) for s in (1 - t, t)]
    direction = weights[0] * u + weights[1] * v
    latents = ((1 - t) * norms[0] + t * norms[1]) * direction
    # Pair by pair: large images fill the memory sooner.
    pairs = [model.bijector.forward(tf.reshape(z, [count, *latent_shape])) for z in latents]
    return tf.stack(pairs)
