"""The residual layers of Hoogeboom et al. (2020): Sylvester flows and what they compare with."""

from collections.abc import Sequence

import tensorflow as tf

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms, triangular
from zoo.architectures.building import (
    Seeds,
    build_conditioner,
    coupling,
    image_flow,
    repeat,
    squeezed_levels,
    takes,
    vector,
)


def residual_layers(
    shape: Sequence[int], width: int, seeds: Seeds, name: str, context: list[int] | None = None
) -> list:
    """Returns the identity plus a contraction: 3x3 - 1x1 - 3x3, LipSwish before each."""
    context_size = context and context[0]
    network = networks.LipschitzNet(shape[-1], width=width, context_size=context_size, seed=seeds())
    networks.build_network(network, shape, context)
    options = {"log_det": "unbiased", "seed": seeds(), "name": name, **takes(context)}
    return [bijectors.ResidualFlow(network, shape, **options)]


def coupling_layers(
    shape: Sequence[int], width: int, seeds: Seeds, name: str, context: list[int] | None = None
) -> list:
    """Returns a 1x1 convolution, without which no channel would change sides, and a coupling."""
    height, wide, channels = shape
    kept = channels // 2
    network = build_conditioner(
        "conv_net", [height, wide, kept], 2 * (channels - kept), seeds, {"width": width}, context
    )
    return [
        bijectors.InvertibleConv1x1.trainable(shape, seed=seeds(), name=f"{name}_conv1x1"),
        bijectors.Coupling(
            network, shape, transforms.Affine(half_tanh), name=name, **takes(context)
        ),
    ]


def half_tanh(h: tf.Tensor) -> tf.Tensor:
    """Returns `log s = tanh(h) / 2`, the scale of this experiment's couplings."""
    return 0.5 * tf.tanh(h)


def sylvester_layers(
    shape: Sequence[int],
    width: int,
    seeds: Seeds,
    name: str,
    context: list[int] | None = None,
    basis: bool = True,
    generalized: bool = True,
) -> list:
    """Returns a convolutional Sylvester flow, or what an ablation leaves of it.

    Args:
      shape: event shape.
      width: hidden channels of the network, a multiple of the channels.
      seeds: source of seeds.
      name: name of the layer.
      context: shape of a context, a vector; `None` for no context.
      basis: `False` for the identity in place of the basis `W`.
      generalized: `False` for the classic `R_1 tanh(R_2 u + b)`, which has no network.
    """
    channels, context_size, options = shape[-1], context and context[0], {"name": name}
    if context is not None:
        options["conditional"] = True
    if generalized:
        network = networks.MaskedConvNet(
            channels, width=width, context_size=context_size, seed=seeds()
        )
        networks.build_network(network, shape, context)
        if basis:
            return [bijectors.ConvSylvester.trainable(shape, network, seed=seeds(), **options)]
        function = triangular.BoundedTanh(network)
    else:
        function = triangular.ConvTriangularTanh.trainable(
            shape, context_size=context_size, seed=seeds(), name=name
        )
    to_basis = bijectors.Flip(axis=())  # The identity.
    if basis:
        rotation = bijectors.InvertibleConv1x1.trainable(
            shape, parameterization="householder", seed=seeds(), name=f"{name}_rotation"
        )
        exponential = bijectors.ConvExponential.trainable(
            shape, seed=seeds(), name=f"{name}_exponential"
        )
        to_basis = bijectors.Sequential([rotation, exponential])
    return [bijectors.Sylvester(to_basis, function, event_shape=tuple(shape), **options)]


LAYERS = {
    "coupling": coupling_layers,
    "residual": residual_layers,
    "sylvester": sylvester_layers,
}


def residual_type(
    image_shape: Sequence[int],
    num_levels: int,
    steps: Sequence[int],
    widths: Sequence[int],
    prior_network: str,
    prior_width: int,
    layer: str,
    basis: bool = True,
    generalized: bool = True,
    context_size: int | None = None,
    seed: int = 0,
) -> distributions.Dequantized:
    """Builds the model of the experiment: per level a squeeze and steps of (ActNorm, X, flip).

    The flip reverses rows and columns, so that autoregressive layers see all of the image; it
    changes nothing for the others, whose convolutions see both sides. Between levels half of the
    channels leave, with a normal prior given the other half.

    Args:
      image_shape: `(H, W, C)`; height and width divisible by `2**len(steps)`.
      num_levels: number of values of a pixel.
      steps: steps of each level.
      widths: hidden channels of the networks of each level.
      prior_network: kind of the split priors' networks: a key of `building.NETWORKS`.
      prior_width: width of these networks.
      layer: what X is: a key of `LAYERS`.
      basis: see `sylvester_layers`.
      generalized: see `sylvester_layers`.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    if layer not in LAYERS:
        raise ValueError(f"`layer` must be one of {sorted(LAYERS)}. Received: layer={layer!r}.")
    context = vector(context_size)
    options = {"basis": basis, "generalized": generalized} if layer == "sylvester" else {}
    if not options and not (basis and generalized):
        raise ValueError(
            '`basis` and `generalized` are for layer="sylvester". '
            f"Received: layer={layer!r}, basis={basis}, generalized={generalized}."
        )
    seeds, sizes = Seeds(seed), list(zip(steps, widths, strict=True))

    def layers(level, shape):
        (count, width), turns = sizes[level], []
        for step in range(count):
            name = f"level{level}_step{step}"
            norm = bijectors.ActNorm.trainable(shape, name=f"{name}_act_norm")
            moved = LAYERS[layer](shape, width, seeds, f"{name}_{layer}", context, **options)
            turns.append([norm, *moved, bijectors.Flip((-3, -2), name=f"{name}_flip")])
        return repeat(turns, alike=layer != "residual")  # Each of those has noise of its own.

    def prior(level, shape, name):
        del level
        return coupling(shape, prior_network, seeds, {"width": prior_width}, name, context)

    levels = squeezed_levels(image_shape, num_levels, len(sizes), "glow", layers, prior)
    return image_flow(levels, image_shape, num_levels)
