"""Jet: couplings of the patches of images, whose networks are vision transformers: `jet.*`."""

import itertools
import math
import warnings
from collections.abc import Sequence

import numpy as np
import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms
from zoo.architectures.building import (
    Seeds,
    check_patch,
    check_positive,
    repeat,
    takes,
    token_mixing,
    vector,
)

tfb = tfp.bijectors
tfd = tfp.distributions

# Which part of the tokens moves the other: four times half of their channels, then half of the
# tokens, which are those in one of these orders, or the others.
_CHANNELS = 4
_ORDERS = ("checkerboard", "row_stripes", "column_stripes")
_HALVES = [(order, last) for last in (False, True) for order in _ORDERS]
_PERIOD = (_CHANNELS + 1) * len(_HALVES)


def jet(
    image_shape: Sequence[int],
    num_levels: int,
    patch: int,
    width: int,
    num_couplings: int,
    depth: int,
    scale: str | None = "double_sigmoid",
    positions: str = "learned",
    mixing: str | None = None,
    noise: float | None = None,
    context_size: int | None = None,
    seed: int = 0,
) -> distributions.Dequantized:
    """Builds Jet: couplings of tokens, four of halves of the channels for one of halves of tokens.

    Channels are in an order at random before each coupling of them. The tokens that move the others
    are in turn those of one colour of a checkerboard, in every other row, in every other column,
    and then the other half of each; after 30 couplings all begins anew. Between the pixels and the
    first coupling is an `ActNorm` of the entries of a patch, in place of the paper's scaling to
    [-1, 1].

    **Few couplings.** With `scale="double_sigmoid"`, the paper's, a coupling expands no dimension
    more than twofold, and every other one moves it: `num_couplings` of them expand a dimension at
    most `2**(num_couplings / 2)` times. What can't reach `num_levels` so is warned of.

    Args:
      image_shape: `(H, W, C)`; height and width divisible by `patch`.
      num_levels: number of values of a pixel.
      patch: side of the patches, of which there must be an even number.
      width: features of a token.
      num_couplings: number of couplings.
      depth: layers of each network.
      scale: see `bijectors.transforms.Affine`.
      positions: `"learned"` or `"rotary"`, see `networks.VisionTransformer`.
      mixing: what mixes tokens before every five couplings, see
        `zoo.architectures.building.token_mixing`.
      noise: standard deviation of Gaussian noise that images get in the place of uniform noise, in
        steps between integers, see `tfflows.distributions.Dequantized`; `None` for none. The
        paper's is 0.025 `num_levels`.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    check_patch(image_shape, patch)
    check_positive(noise=noise, num_levels=num_levels)
    context, seeds = vector(context_size), Seeds(seed)
    patchify = bijectors.Patchify(image_shape, patch)
    tokens, channels = patchify.token_shape
    if tokens % 2 or channels < 2:
        raise ValueError(
            "`patch` must leave an even number of patches, each of two entries or more. "
            f"Received: patch={patch}, image_shape={image_shape}."
        )
    if scale == "double_sigmoid" and num_couplings < 2 * math.log2(num_levels):
        warnings.warn(
            f"{num_couplings} couplings of scale below 2 expand a dimension at most "
            f"{2 ** (num_couplings / 2):.3g} times, data of {num_levels} levels may need as many: "
            'take more of them, or another scale, such as "tanh".',
            stacklevel=2,
        )
    transform = transforms.Affine(scale)

    def coupling(index):
        """Returns the layers of a coupling; those of the same place in a period are alike."""
        place, name = index % _PERIOD, f"coupling{index}"
        turn, kind = divmod(place, _CHANNELS + 1)
        half, last = _HALVES[turn]
        of_channels = kind < _CHANNELS
        shape = [tokens, channels // 2] if of_channels else [tokens // 2, channels]
        moved = channels - channels // 2 if of_channels else channels
        network = networks.VisionTransformer(
            shape,
            transform.num_parameters * moved,
            width=width,
            depth=depth,
            positions=positions,
            context_size=context_size,
            seed=seeds(),
        )
        networks.build_network(network, shape, context)
        moving = bijectors.Coupling(
            network,
            patchify.token_shape,
            transform,
            split="channel" if of_channels else "token",
            reverse=not of_channels and last,
            name=name,
            **takes(context),
        )
        if of_channels:
            order = np.random.RandomState(place).permutation(channels)  # The same in every NumPy.
            mixed = token_mixing(mixing if kind == 0 else None, patchify, seeds, name)
            return [*mixed, tfb.Permute(order.astype(np.int32), axis=-1), moving]
        there = bijectors.order_tokens(half, patchify.grid)
        return [there, moving, tfb.Invert(there)]

    layers = [coupling(index) for index in range(num_couplings)]
    whole = num_couplings // _PERIOD * _PERIOD
    turns = [list(itertools.chain(*layers[i : i + _PERIOD])) for i in range(0, whole, _PERIOD)]
    flow = bijectors.Sequential(
        [
            bijectors.NormalizeImage(num_levels),
            patchify,
            bijectors.ActNorm.trainable([None, channels]),
            *repeat(turns, alike=len(turns) > 1),
            *itertools.chain(*layers[whole:]),
        ]
    )
    base = distributions.standard_normal(patchify.token_shape)
    density = tfd.TransformedDistribution(base, tfb.Invert(flow))
    return distributions.Dequantized(density, num_levels=num_levels, stddev=noise)
