"""RealNVP for images: `realnvp.*`."""

from collections.abc import Sequence

from tfflows import bijectors, distributions
from tfflows.bijectors import transforms
from zoo.architectures.building import (
    Seeds,
    build_conditioner,
    check_image_shape,
    image_flow,
    takes,
    vector,
)


def realnvp(
    image_shape: Sequence[int],
    num_levels: int,
    widths: Sequence[int],
    network: str,
    context_size: int | None = None,
    seed: int = 0,
) -> distributions.Dequantized:
    """Builds RealNVP: per scale 3 checkerboard couplings, a squeeze, 3 channel couplings.

    Half of the channels leave after each scale; the last one has 4 checkerboard couplings and no
    squeeze. An `ActNorm` before each coupling stands for the paper's batch normalisation, and
    `NormalizeImage` for its logit, so that the models of the zoo differ in the flow alone.

    Args:
      image_shape: `(H, W, C)`; height and width divisible by `2**(len(widths) - 1)`.
      num_levels: number of values of a pixel.
      widths: hidden channels of the networks of each scale.
      network: kind of network: a key of `zoo.architectures.building.NETWORKS`.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    check_image_shape(image_shape, len(widths) - 1)
    context = vector(context_size)
    seeds, shape, levels = Seeds(seed), list(image_shape), []

    def couplings(split, count, name, width):
        seen = shape[-1] if split == "checkerboard" else shape[-1] // 2
        moved = shape[-1] if split == "checkerboard" else shape[-1] - seen
        parts = []
        for step in range(count):
            label = f"{name}_{split}{step}"
            conditioner = build_conditioner(
                network, [*shape[:2], seen], 2 * moved, seeds, {"width": width}, context
            )
            parts.append(bijectors.ActNorm.trainable(shape, name=f"{label}_act_norm"))
            parts.append(
                bijectors.Coupling(
                    conditioner,
                    shape,
                    transforms.Affine(),
                    split=split,
                    reverse=step % 2 == 1,
                    name=label,
                    **takes(context),
                )
            )
        return parts

    for scale, width in enumerate(widths):
        name, last = f"scale{scale}", scale == len(widths) - 1
        parts = [] if scale else [bijectors.NormalizeImage(num_levels)]
        parts += couplings("checkerboard", 4 if last else 3, name, width)
        if not last:
            parts.append(bijectors.Squeeze(name=f"{name}_squeeze"))
            shape = [shape[0] // 2, shape[1] // 2, shape[2] * 4]
            parts += couplings("channel", 3, name, width)
            shape = [*shape[:2], shape[2] // 2]
        else:
            parts.append(bijectors.ActNorm.trainable(shape, name="base_affine"))
        levels.append(bijectors.Sequential(parts, name=name))
    return image_flow(levels, image_shape, num_levels)
