"""What the builders share: seeds, networks, couplings, levels of image flows."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions

NETWORKS = {
    "attention_net": networks.AttentionNet,
    "conv_net": networks.ConvNet,
    "dense_net": networks.DenseNet,
    "gated_res_net": networks.GatedResNet,
    "mlp": networks.MLP,
}


class Seeds:
    """Hands out a new seed for every layer, in the order of building."""

    def __init__(self, seed: int) -> None:
        self._seed, self._count = seed, 0

    def __call__(self) -> int:
        """Returns the next seed."""
        self._count += 1
        return self._seed * 10_000 + self._count


def build_conditioner(
    kind: str,
    input_shape: Sequence[int],
    num_outputs: int,
    seeds: Seeds,
    arguments: Mapping,
    context_shape: Sequence[int] | None = None,
) -> keras.layers.Layer:
    """Returns a built network of a kind from `NETWORKS`."""
    if kind not in NETWORKS:
        raise ValueError(f"`network` must be one of {', '.join(NETWORKS)}. Received: {kind!r}.")
    network = NETWORKS[kind](num_outputs, seed=seeds(), **arguments)
    return networks.build_network(network, input_shape, context_shape)


def transform_of(
    num_bins: int | None, bound: float = 3.0, num_mixtures: int | None = None
) -> transforms.Transform:
    """Returns splines of so many bins, or mixtures of so many logistics, or an affine transform."""
    if num_bins is not None and num_mixtures is not None:
        raise ValueError(
            "One of `num_bins` and `num_mixtures` must be None. "
            f"Received: num_bins={num_bins!r}, num_mixtures={num_mixtures!r}."
        )
    check_positive(num_mixtures=num_mixtures)
    if num_mixtures is not None:
        return transforms.LogisticMixture(num_mixtures)
    if num_bins is not None:
        return transforms.RationalQuadratic(num_bins, bound)
    return transforms.Affine()


def coupling(
    shape: Sequence[int],
    kind: str,
    seeds: Seeds,
    arguments: Mapping,
    name: str,
    context_shape: Sequence[int] | None = None,
    transform: transforms.Transform | None = None,
) -> bijectors.Coupling:
    """Returns a coupling of channel halves with a network of its own, by default affine."""
    height, width, channels = shape
    kept, transform = channels // 2, transform or transforms.Affine()
    outputs = transform.num_parameters * (channels - kept)
    network = build_conditioner(
        kind, [height, width, kept], outputs, seeds, arguments, context_shape
    )
    return bijectors.Coupling(network, shape, transform, name=name, **takes(context_shape))


def vector(context_size: int | None) -> list[int] | None:
    """Returns the shape of a context that is a vector; `None` for no context."""
    if context_size is not None and context_size < 1:
        raise ValueError(
            f"`context_size` must be positive or None. Received: context_size={context_size}."
        )
    return None if context_size is None else [context_size]


def takes(context_shape: Sequence[int] | None) -> dict[str, Any]:
    """Returns the arguments of a layer whose network was built with a context of this shape."""
    if context_shape is None:
        return {}
    return {"conditional": True, "context_ndims": len(context_shape)}


def repeat(turns: Sequence, alike: bool = True) -> list:
    """Returns layers, a list for each turn, as a `Repeat`, or one after the other."""
    return [bijectors.Repeat(turns)] if alike else list(itertools.chain(*turns))


def spread(number: int | None, count: int) -> set[int]:
    """Returns `number` of the steps `0 .. count - 1`, evenly spread; all for `None`."""
    number = count if number is None else number
    return {i * count // number for i in range(number)}


def pairs(blocks: list[bijectors.Block]) -> list:
    """Returns blocks that take turns as a `Repeat` of pairs, and a last one without a partner."""
    pairs = zip(blocks[::2], blocks[1::2], strict=False)
    return [bijectors.Repeat(pairs), *blocks[len(blocks) // 2 * 2 :]]


def check_positive(**values: float | None) -> None:
    """Refuses arguments that are neither `None` nor positive and finite, by their names."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(
                f"`{name}` must be None or positive and finite. Received: {name}={value!r}."
            )


TOKEN_MIXING = ("conv_exponential", "matrix_exponential")


def token_mixing(kind: str | None, patchify: bijectors.Patchify, seeds: Seeds, name: str) -> list:
    """Returns the linear layers that mix tokens between the blocks of a transformer flow.

    Args:
      kind: `"conv_exponential"`: the exponential of a 3x3 convolution of the image;
        `"matrix_exponential"`: that of a matrix of the entries of a token; `None` for nothing.
      patchify: what makes tokens of images.
      seeds: source of seeds.
      name: prefix of the layers' names.
    """
    if kind is None:
        return []
    if kind not in TOKEN_MIXING:
        raise ValueError(
            f"`mixing` must be None or one of {', '.join(TOKEN_MIXING)}. Received: mixing={kind!r}."
        )
    to_image, size = tfb.Invert(patchify), 3
    if kind == "matrix_exponential":  # A convolution of the grid of patches, with one tap.
        tokens, size = patchify.token_shape, 1
        to_image = tfb.Reshape([*patchify.grid, tokens[-1]], tokens)
    shape = to_image.forward_event_shape(patchify.token_shape)
    exponential = bijectors.ConvExponential.trainable(
        shape, kernel_size=size, seed=seeds(), name=f"{name}_exponential"
    )
    return [to_image, exponential, tfb.Invert(to_image)]


class ImageShapeError(ValueError):
    """Says that the sides of images can't be halved as often as a model does, or cut into patches.

    Attributes:
      factor: what they must be divisible by.
      nearest: the nearest shape whose sides are; `None` of what is no shape.
    """

    def __init__(self, image_shape: Any, factor: int, why: str, remedy: str) -> None:
        self.factor, self.nearest = factor, None
        near = ""
        if _is_image_shape(image_shape):
            *sides, channels = image_shape
            sides = [max(factor, (n + factor // 2) // factor * factor) for n in sides]
            self.nearest = (*sides, channels)
            near = f", of which {self.nearest} is the nearest"
        super().__init__(
            "`image_shape` must be (height, width, channels), positive integers, the first two "
            f"divisible by {factor} for {why}{near}. Received: "
            f"image_shape={image_shape!r}. Take {remedy}, or pad or resize the images."
        )


def _is_image_shape(shape):
    known = isinstance(shape, (list, tuple)) and len(shape) == 3
    return known and all(isinstance(n, int) and n > 0 for n in shape)


def check_image_shape(image_shape: Any, num_squeezes: int) -> None:
    """Refuses images whose sides can't be halved so many times, once for each level."""
    _check_sides(image_shape, 2**num_squeezes, f"{num_squeezes} halvings", "fewer levels")


def check_patch(image_shape: Any, patch: Any) -> None:
    """Refuses images that can't be cut into square patches of a side."""
    if type(patch) is not int or patch < 1:
        raise ValueError(f"`patch` must be a positive integer. Received: patch={patch!r}.")
    _check_sides(image_shape, patch, f"patches of {patch}x{patch}", "another patch")


def _check_sides(image_shape, factor, why, remedy):
    if not _is_image_shape(image_shape) or any(n % factor for n in image_shape[:2]):
        raise ImageShapeError(image_shape, factor, why, remedy)


def squeezed_levels(
    image_shape: Sequence[int],
    num_levels: int,
    count: int,
    order: str,
    steps: Callable,
    prior: Callable,
) -> list[bijectors.Sequential]:
    """Returns the levels of an image flow, each a squeeze and what `steps` makes.

    Between levels half of the channels leave, with a normal prior given the other half: a coupling
    before the split. The last level ends with a learned diagonal Gaussian per channel, as an affine
    map to a standard one.

    Args:
      image_shape: `(H, W, C)`; height and width divisible by `2**count`.
      num_levels: number of values of a pixel.
      count: number of levels.
      order: of `Squeeze`.
      steps: returns the layers of a level, a list for `Sequential`, given its number and event
        shape.
      prior: returns the coupling of a split prior, given the number and event shape of its level,
        and a name.
    """
    check_image_shape(image_shape, count)
    shape, levels = list(image_shape), []
    for level in range(count):
        shape = [shape[0] // 2, shape[1] // 2, shape[2] * 4]
        squeeze = bijectors.Squeeze(order=order, name=f"level{level}_squeeze")
        parts = [squeeze] if level else [bijectors.NormalizeImage(num_levels), squeeze]
        parts += steps(level, shape)
        if level < count - 1:
            parts.append(prior(level, shape, f"level{level}_split_prior"))
            shape = [*shape[:2], shape[2] // 2]
        else:
            parts.append(bijectors.ActNorm.trainable(shape, name="base_affine"))
        levels.append(bijectors.Sequential(parts, name=f"level{level}"))
    return levels


def image_flow(
    levels: list[bijectors.Sequential],
    image_shape: Sequence[int],
    num_levels: int,
    dequantizer: distributions.FlowDequantizer | None = None,
    split_fraction: float | Sequence[float] = 0.5,
) -> distributions.Dequantized:
    """Returns the `Dequantized` distribution of a multi-scale flow with a standard normal base."""
    flow = bijectors.MultiScale(levels, image_shape, split_fraction=split_fraction)
    base = distributions.standard_normal([sum(flow.latent_sizes)])
    model = tfd.TransformedDistribution(base, tfb.Invert(flow))
    return distributions.Dequantized(model, dequantizer=dequantizer, num_levels=num_levels)
