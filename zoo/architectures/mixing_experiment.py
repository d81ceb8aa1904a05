"""The mixing layers of Hoogeboom et al. (2020), at full size."""

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import distributions
from zoo.architectures.building import (
    Seeds,
    coupling,
    image_flow,
    repeat,
    squeezed_levels,
    vector,
)
from zoo.architectures.dequantizer import flow_dequantizer
from zoo.architectures.mixing import is_alike, mixing_layers

tfb = tfp.bijectors


def mixing_experiment(
    image_shape: Sequence[int],
    num_levels: int,
    steps: Sequence[int],
    growth: int,
    mixing: str,
    context_size: int | None = None,
    seed: int = 0,
) -> distributions.Dequantized:
    """Builds the mixing experiment of Hoogeboom et al. (2020): DenseNets, no ActNorm, split priors.

    Squeeze, mixing, then per level steps of (affine coupling, mixing), each mixing between two
    learned bias maps; a split prior (a coupling before the split) and a squeeze between levels; a
    diagonal Gaussian with learned mean and scale per channel.

    Args:
      image_shape: `(H, W, C)`.
      num_levels: number of values of a pixel.
      steps: steps of each level.
      growth: channels that each of the 8 layers of a DenseNet adds.
      mixing: see `mixing_layers`.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    seeds, arguments = Seeds(seed), {"width": 64, "depth": 8, "growth": growth}
    context = vector(context_size)

    def mix(shape, name):
        return _between_biases(mixing_layers(mixing, shape, seeds, name), shape)

    def layers(level, shape):
        parts, turns = [] if level else mix(shape, "first"), []
        for step in range(steps[level]):
            name = f"level{level}_step{step}"
            name_of_coupling = f"{name}_coupling"
            moved = coupling(shape, "dense_net", seeds, arguments, name_of_coupling, context)
            turns.append([moved, *mix(shape, name)])
        return [*parts, *repeat(turns, is_alike(mixing))]

    def prior(level, shape, name):
        del level
        return coupling(shape, "dense_net", seeds, arguments, name, context)

    levels = squeezed_levels(image_shape, num_levels, len(steps), "glow", layers, prior)
    dequantizer = flow_dequantizer(image_shape, num_levels, "dense_net", arguments, mixing, seeds)
    return image_flow(levels, image_shape, num_levels, dequantizer)


def _between_biases(layers, shape):
    """Returns the layers with a learned shift of every entry before and after them."""
    before, after = (
        tfb.Shift(tf.Variable(tf.zeros(shape), name=f"bias_{side}"), name=f"bias_{side}")
        for side in ("before", "after")
    )
    return [before, *layers, after]
