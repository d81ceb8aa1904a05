"""Glow with a choice of mixing layers and couplings: Glow, neural spline flows and others."""

import itertools
from collections.abc import Sequence

from tfflows import bijectors, distributions
from zoo.architectures.building import (
    Seeds,
    coupling,
    image_flow,
    repeat,
    spread,
    squeezed_levels,
    transform_of,
    vector,
)
from zoo.architectures.dequantizer import flow_dequantizer
from zoo.architectures.mixing import SPATIAL_MIXING, is_alike, mixing_layers


def glow(
    image_shape: Sequence[int],
    num_levels: int,
    steps: Sequence[int],
    widths: Sequence[int],
    network: str,
    exponentials: int | None,
    mixing: str,
    num_bins: int | None = None,
    num_mixtures: int | None = None,
    conv1x1: str = "dense",
    dequantizer_width: int | None = None,
    context_size: int | None = None,
    seed: int = 0,
) -> distributions.Dequantized:
    """Builds Glow: per level a squeeze and steps of (ActNorm, mixing, coupling).

    Between levels half of the channels leave, with a normal prior given the other half.

    Args:
      image_shape: `(H, W, C)`; height and width divisible by `2**len(steps)`.
      num_levels: number of values of a pixel.
      steps: steps of each level.
      widths: hidden channels of the networks of each level.
      network: kind of network: a key of `zoo.architectures.building.NETWORKS`.
      exponentials: number of steps in each level whose mixing is that of `mixing`, evenly spread,
        if it mixes positions too (a key of `SPATIAL_MIXING`; the name is from the first of them);
        `None` for all. The other steps have 1x1 convolutions.
      mixing: see `mixing_layers`.
      num_bins: bins of the splines of the couplings; `None` for affine couplings.
      num_mixtures: logistics of the mixtures that are the couplings of Flow++, in their place.
      conv1x1: parameterization of the 1x1 convolutions, see `mixing_layers`.
      dequantizer_width: hidden channels of the networks of a flow that draws the noise of
        dequantisation, whose four steps mix with 1x1 convolutions; `None` for uniform noise.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    seeds, arguments = Seeds(seed), [{"width": w} for _, w in zip(steps, widths, strict=True)]
    context = vector(context_size)
    transform = transform_of(num_bins, num_mixtures=num_mixtures)
    number = exponentials if mixing in SPATIAL_MIXING else None

    def layers(level, shape):
        chosen = spread(number, steps[level])
        kinds = [mixing if step in chosen else "conv1x1" for step in range(steps[level])]
        turns = []
        for step, kind in enumerate(kinds):
            name = f"level{level}_step{step}"
            norm = bijectors.ActNorm.trainable(shape, name=f"{name}_act_norm")
            mixed = mixing_layers(kind, shape, seeds, name, conv1x1)
            name = f"{name}_coupling"
            moved = coupling(shape, network, seeds, arguments[level], name, context, transform)
            turns.append([norm, *mixed, moved])
        runs = itertools.groupby(range(len(kinds)), key=kinds.__getitem__)
        parts = [repeat([turns[i] for i in run], is_alike(kind, conv1x1)) for kind, run in runs]
        return list(itertools.chain(*parts))

    def prior(level, shape, name):
        return coupling(shape, network, seeds, arguments[level], name, context)

    levels = squeezed_levels(image_shape, num_levels, len(steps), "space_to_depth", layers, prior)
    if dequantizer_width is None:
        return image_flow(levels, image_shape, num_levels)
    dequantizer = flow_dequantizer(
        image_shape, num_levels, network, {"width": dequantizer_width}, "conv1x1", seeds
    )
    return image_flow(levels, image_shape, num_levels, dequantizer)
