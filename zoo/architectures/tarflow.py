"""TarFlow: an autoregressive flow over the patches of images: `tarflow.*`."""

from collections.abc import Sequence

import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms
from zoo.architectures.building import (
    Seeds,
    check_patch,
    check_positive,
    takes,
    token_mixing,
    vector,
)

tfb = tfp.bijectors
tfd = tfp.distributions


def affine(clip: float | None) -> transforms.Affine:
    """Returns `z = (x - b) exp(-a)`, `a` in `(-clip, clip)` if there is such a bound."""
    check_positive(clip=clip)
    scale = "exp" if clip is None else transforms.SoftClip(clip)
    return transforms.Affine(scale, shift_first=True)


def tarflow(
    image_shape: Sequence[int],
    num_levels: int,
    patch: int,
    width: int,
    num_blocks: int,
    depth: int,
    positions: str = "learned",
    clip: float | None = None,
    mixing: str | None = None,
    noise: float | None = None,
    context_size: int | None = None,
    seed: int = 0,
) -> distributions.Dequantized:
    """Builds TarFlow: blocks that move every patch by those before it, which a transformer sees.

    Every other block sees the patches from last to first. Between the pixels and the first block
    is an `ActNorm` of the entries of a patch, in place of the paper's scaling to [-1, 1].

    Args:
      image_shape: `(H, W, C)`; height and width divisible by `patch`.
      num_levels: number of values of a pixel.
      patch: side of the patches.
      width: features of a token.
      num_blocks: number of blocks.
      depth: layers of each block.
      positions: `"learned"` or `"rotary"`, see `networks.CausalTransformer`.
      clip: bound on the log-scales; `None` for none, as in the paper.
      mixing: what mixes tokens before each block, see `zoo.architectures.building.token_mixing`.
      noise: standard deviation of Gaussian noise that images get in the place of uniform noise, in
        steps between integers, see `tfflows.distributions.Dequantized`; `None` for none. The
        paper's is 0.025 `num_levels`.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    check_patch(image_shape, patch)
    check_positive(noise=noise)
    context, seeds = vector(context_size), Seeds(seed)
    patchify = bijectors.Patchify(image_shape, patch)
    shape, transform = patchify.token_shape, affine(clip)

    def block(index):
        network = networks.CausalTransformer(
            shape,
            transform.num_parameters,
            width=width,
            depth=depth,
            positions=positions,
            context_size=context_size,
            seed=seeds(),
        )
        networks.build_network(network, shape, context)
        moved = bijectors.Autoregressive(
            network, shape, transform, name=f"block{index}_autoregressive", **takes(context)
        )
        mixed = token_mixing(mixing, patchify, seeds, f"block{index}")
        return bijectors.Block(
            [*mixed, moved, bijectors.Flip(-2, event_ndims=2)], name=f"block{index}"
        )

    flow = bijectors.Sequential(
        [
            bijectors.NormalizeImage(num_levels),
            patchify,
            bijectors.ActNorm.trainable([None, shape[-1]]),
            bijectors.Repeat([block(index) for index in range(num_blocks)]),
        ]
    )
    density = tfd.TransformedDistribution(distributions.standard_normal(shape), tfb.Invert(flow))
    return distributions.Dequantized(density, num_levels=num_levels, stddev=noise)
