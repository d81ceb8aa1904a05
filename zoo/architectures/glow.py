"""Glow with a choice of mixing layers and couplings: `glow.*`, `convexp_glow.*`, `rq_nsf.*`, ..."""

import itertools

from tfflows import bijectors, distributions
from zoo.architectures.building import (
    NETWORKS,
    Seeds,
    build_conditioner,
    coupling,
    image_flow,
    squeezed_levels,
)
from zoo.architectures.mixing import BASELINES, SPATIAL_MIXING, mixing_layers
from zoo.catalogue.papers import CONVEXP, GLOW, RQ_NSF
from zoo.catalogue.recipes import (
    CIFAR10,
    CIFAR10_MEDIUM_RECIPE,
    CIFAR10_RECIPE,
    DIGITS,
    DIGITS_RECIPE,
    MNIST,
    MNIST_RECIPE,
)
from zoo.registry import register

# With the names that were here before they had modules of their own.
__all__ = [
    "CIFAR10_RECIPE",
    "CONVEXP",
    "DIGITS_RECIPE",
    "GLOW",
    "NETWORKS",
    "RQ_NSF",
    "Seeds",
    "build_conditioner",
    "coupling",
    "glow",
    "image_flow",
]


def glow(
    image_shape,
    num_levels,
    steps,
    widths,
    network,
    exponentials,
    mixing,
    num_bins=None,
    conv1x1="dense",
    seed=0,
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
      conv1x1: parameterization of the 1x1 convolutions, see `mixing_layers`.
      seed: seed of the initial weights.
    """
    seeds, arguments = Seeds(seed), [{"width": w} for _, w in zip(steps, widths, strict=True)]
    everywhere = exponentials is None or mixing not in SPATIAL_MIXING

    def layers(level, shape):
        chosen = _spread(steps[level] if everywhere else exponentials, steps[level])
        kinds = [mixing if step in chosen else "conv1x1" for step in range(steps[level])]
        turns = []
        for step, kind in enumerate(kinds):
            name = f"level{level}_step{step}"
            norm = bijectors.ActNorm.trainable(shape, name=f"{name}_act_norm")
            mixed = mixing_layers(kind, shape, seeds, name, conv1x1)
            name = f"{name}_coupling"
            moved = coupling(shape, network, seeds, arguments[level], name, num_bins=num_bins)
            turns.append([norm, *mixed, moved])
        if mixing == "permutation":  # Which differs from step to step.
            return list(itertools.chain(*turns))
        runs = itertools.groupby(range(len(kinds)), key=kinds.__getitem__)
        return [bijectors.Repeat(turns[step] for step in run) for _, run in runs]

    def prior(level, shape, name):
        return coupling(shape, network, seeds, arguments[level], name)

    levels = squeezed_levels(image_shape, num_levels, len(steps), "space_to_depth", layers, prior)
    return image_flow(levels, image_shape, num_levels)


def _spread(number, count):
    """Returns `number` of the steps `0 .. count - 1`, evenly spread."""
    return {i * count // number for i in range(number)}


_CIFAR10 = {
    **CIFAR10,
    "steps": (8, 6, 4),
    "widths": (64, 96, 96),
    "network": "conv_net",
    "exponentials": 1,
}
_MEDIUM = {"steps": (16, 12, 8), "widths": (192, 192, 192), "exponentials": 2}
# For each data set, what all models have in common.
_VARIANTS = {
    "digits": (
        DIGITS_RECIPE,
        {**DIGITS, "steps": (4, 4), "widths": (32, 32), "network": "conv_net", "exponentials": 1},
    ),
    "mnist": (
        MNIST_RECIPE,
        {**MNIST, "steps": (6, 6), "widths": (64, 64), "network": "conv_net", "exponentials": 2},
    ),
    "cifar10_small": (CIFAR10_RECIPE, _CIFAR10),
    "cifar10_small_wide": (CIFAR10_RECIPE, {**_CIFAR10, "widths": (67, 98, 99)}),
    "cifar10_medium": (CIFAR10_MEDIUM_RECIPE, {**_CIFAR10, **_MEDIUM}),
}


def _register(name, paper, summary, **arguments):
    """Registers a model with what is its own beside its variant."""
    recipe, common = _VARIANTS[name.split(".")[1]]
    register(name, recipe=recipe, summary=summary, paper=paper, **{**common, **arguments})(glow)


_register(
    "glow.digits",
    GLOW,
    "Glow for the 8x8 digits that scikit-learn ships; trains in minutes on two cores.",
    mixing="conv1x1",
)
_register(
    "convexp_glow.digits",
    CONVEXP,
    "Glow with convolution exponentials for the 8x8 digits; trains in minutes on 2 cores.",
    mixing="conv_exponential",
)
_register(
    "glow.mnist",
    GLOW,
    "Glow for 28x28 grey images: MNIST, Fashion-MNIST and their like.",
    mixing="conv1x1",
)
_register(
    "convexp_glow.mnist",
    CONVEXP,
    "Glow with convolution exponentials for 28x28 grey images.",
    mixing="conv_exponential",
)
_register(
    "glow.cifar10_small",
    GLOW,
    "A small Glow for 32x32 colour images; trains in half an hour on two cores.",
    mixing="conv1x1",
)
_register(
    "glow.cifar10_small_wide",
    GLOW,
    "glow.cifar10_small with wider networks, the size of convexp_glow.cifar10_small.",
    mixing="conv1x1",
)
_register(
    "convexp_glow.cifar10_small",
    CONVEXP,
    "A small Glow with convolution exponentials for 32x32 colour images; trains in half an hour "
    "on two cores.",
    mixing="conv_exponential",
)
_register(
    "convexp_glow.cifar10_medium",
    CONVEXP,
    "Glow with convolution exponentials for 32x32 colour images, of 3.8M parameters; for an "
    "accelerator.",
    mixing="conv_exponential",
)
_register(
    "rq_nsf.digits",
    RQ_NSF,
    "Neural spline flow (RQ-NSF with couplings) for the 8x8 digits.",
    widths=(12, 12),
    mixing="conv1x1",
    num_bins=4,
)
_register(
    "rq_nsf.cifar10_small",
    RQ_NSF,
    "A small neural spline flow (RQ-NSF with couplings) for 32x32 colour images, the size of "
    "glow.cifar10_small.",
    widths=(20, 31, 31),
    mixing="conv1x1",
    num_bins=4,
)
# Widths that give the small ones the parameters of convexp_glow.cifar10_small, to 1 %.
_WIDTHS = {"emerging": (64, 96, 96), "periodic": (64, 96, 96), "woodbury": (67, 96, 96)}
for _mixing, (_layers, _paper) in BASELINES.items():
    _register(
        f"{_mixing}_glow.digits",
        _paper,
        f"Glow with {_layers} for the 8x8 digits; trains in minutes on two cores.",
        mixing=_mixing,
    )
    _register(
        f"{_mixing}_glow.cifar10_small",
        _paper,
        f"A small Glow with {_layers} for 32x32 colour images, the size of "
        "convexp_glow.cifar10_small.",
        widths=_WIDTHS[_mixing],
        mixing=_mixing,
    )
