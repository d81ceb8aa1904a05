"""The volume-balanced flow of Liao and He (2021): `balanced.*`."""

import itertools
import math
from collections.abc import Mapping, Sequence

from tfflows import bijectors, distributions
from tfflows.bijectors import transforms
from zoo.architectures.building import (
    Seeds,
    build_conditioner,
    check_image_shape,
    image_flow,
    spread,
    takes,
    vector,
)

CONTRACTIONS = {
    "tanh": bijectors.TanhContraction,
    "normal_cdf": bijectors.NormalCDFContraction,
}


def balanced_block(
    shape: Sequence[int],
    network: str,
    seeds: Seeds,
    arguments: Mapping,
    *,
    stride: int = 1,
    slope: float = 0.75,
    num_hats: int = 2,
    num_bins: int = 16,
    contraction: str | None = None,
    constrained: bool = True,
    gain: float = 1.0,
    exponential: bool = False,
    context_size: int | None = None,
    name: str = "block",
) -> bijectors.Block:
    """Returns one block, `f_act o f_aff o f_conv`, equation 18 of the paper.

    With `beta = slope`, the block starts as the identity (for `stride=1`): the convolution as
    `kappa I`, the couplings with the scale `s` everywhere and the activation with slope `beta`,
    `kappa s = 1 / beta`; `kappa = s`, so that both expand alike.

    With `exponential` it is `f_act o f_aff o f_exp o f_conv`, which is not in the paper: `f_exp`, a
    `ConvExponential`, mixes neighbouring pixels, at first a little. Its log-det is bounded, too: by
    0.95 nats a dimension.

    Args:
      shape: event shape `[H, W, C]` of the input.
      network: kind of network, see `zoo.architectures.building.NETWORKS`.
      seeds: source of seeds.
      arguments: arguments of the networks.
      stride: size and stride of the convolution.
      slope: `beta`, in (0, 1]; the paper advises [0.5, 1].
      num_hats: `M`, hats of each scale.
      num_bins: bins of the activation.
      contraction: `None`, `"tanh"` or `"normal_cdf"`: what comes between couplings and activation
        (section 6.2). The block then does not start as the identity.
      constrained: `False` for the variant that the paper reports to diverge: scales `exp(h)`
        without a bound, and no activation.
      gain: factor on what the networks return, 1 in the paper: one over the number of blocks of a
        deep flow, see `bijectors.transforms.Affine`.
      exponential: whether a `ConvExponential` follows the convolution.
      context_size: length of the context of the couplings; `None` for no context.
      name: name of the block, and prefix of the layers' names.
    """
    height, width, channels = shape[0] // stride, shape[1] // stride, shape[2] * stride**2
    first = channels // 2
    scale = slope**-0.5 if constrained else 1.0
    hats = transforms.MexicanHatScale(num_hats, math.log(scale)) if constrained else "exp"
    inputs = (num_hats if constrained else 1) + 1
    networks = [
        build_conditioner(
            network, [height, width, seen], inputs * moved, seeds, arguments, vector(context_size)
        )
        for seen, moved in ((channels - first, first), (first, channels - first))
    ]
    layers = [
        bijectors.StridedConv.trainable(shape, stride=stride, scale=scale, name=f"{name}_conv")
    ]
    if exponential:
        layers.append(
            bijectors.ConvExponential.trainable(
                [height, width, channels], seed=seeds(), name=f"{name}_conv_exponential"
            )
        )
    layers.append(
        bijectors.DualAffineCoupling(
            networks,
            [height, width, channels],
            scale=hats,
            gain=gain,
            name=f"{name}_affine",
            **takes(vector(context_size)),
        )
    )
    if contraction is not None:
        layers.append(CONTRACTIONS[contraction](name=f"{name}_{contraction}"))
    if constrained:
        layers.append(
            bijectors.RationalQuadraticActivation.trainable(
                [height, width, channels], slope=slope, num_bins=num_bins, name=f"{name}_activation"
            )
        )
    return bijectors.Block(layers, name=name)


def balanced(
    image_shape: Sequence[int],
    num_levels: int,
    steps: Sequence[int],
    split_fraction: float,
    network: str,
    width: int,
    slope: float = 0.75,
    num_hats: int = 2,
    num_bins: int = 16,
    contraction: str | None = None,
    constrained: bool = True,
    gain: float | None = None,
    exponentials: int | None = 0,
    context_size: int | None = None,
    seed: int = 0,
) -> distributions.Dequantized:
    """Builds the volume-balanced flow: levels of blocks, the first of each with stride 2.

    The data are first brought to mean 0 and variance 1 in every channel by an `ActNorm`, of which
    the paper says nothing; between the blocks there is no normalisation.

    Args:
      image_shape: `(H, W, C)`; height and width divisible by `2**len(steps)`.
      num_levels: number of values of a pixel.
      steps: blocks of each level.
      split_fraction: fraction of the dimensions that leaves after each level but the last.
      network: kind of network: a key of `zoo.architectures.building.NETWORKS`.
      width: hidden channels of the networks.
      slope: see `balanced_block`.
      num_hats: see `balanced_block`.
      num_bins: see `balanced_block`.
      contraction: see `balanced_block`.
      constrained: see `balanced_block`.
      gain: see `balanced_block`; `None` for one over the number of blocks.
      exponentials: number of blocks in each level with a convolution exponential, evenly spread
        from the first on; `None` for all.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    check_image_shape(image_shape, sum(count > 0 for count in steps))
    seeds, shape, levels = Seeds(seed), list(image_shape), []
    gain = 1 / max(1, sum(steps)) if gain is None else gain
    for level, count in enumerate(steps):
        parts = []
        if level == 0:
            parts.append(bijectors.NormalizeImage(num_levels))
            parts.append(bijectors.ActNorm.trainable(shape, name="data_act_norm"))
        blocks = []
        chosen = spread(exponentials, count)
        for step in range(count):
            stride = 2 if step == 0 else 1
            block = balanced_block(
                shape,
                network,
                seeds,
                {"width": width},
                stride=stride,
                slope=slope,
                num_hats=num_hats,
                num_bins=num_bins,
                contraction=contraction,
                constrained=constrained,
                gain=gain,
                exponential=step in chosen,
                context_size=context_size,
                name=f"level{level}_block{step}",
            )
            blocks.append(block)
            shape = [shape[0] // stride, shape[1] // stride, shape[2] * stride**2]
        parts += blocks[:1]
        runs = itertools.groupby(range(1, count), key=chosen.__contains__)
        parts += [bijectors.Repeat([blocks[step] for step in run]) for _, run in runs]
        levels.append(bijectors.Sequential(parts, name=f"level{level}"))
        if level < len(steps) - 1:
            shape = [*shape[:2], shape[2] - round(split_fraction * shape[2])]
    return image_flow(levels, image_shape, num_levels, split_fraction=split_fraction)
