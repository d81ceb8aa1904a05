"""Flows of points in the plane."""

import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms
from zoo.architectures import balanced
from zoo.architectures.building import (
    Seeds,
    build_conditioner,
    pairs,
    takes,
    transform_of,
    vector,
)

tfb = tfp.bijectors
tfd = tfp.distributions


def _model(layers):
    """Returns the density of a flow from points `[2]` to a standard normal."""
    flow = bijectors.Sequential([bijectors.ActNorm.trainable([2]), *layers])
    return tfd.TransformedDistribution(distributions.standard_normal([2]), tfb.Invert(flow))


def planar_balanced(
    num_blocks: int = 16,
    width: int = 64,
    slope: float = 0.75,
    num_hats: int = 2,
    num_bins: int = 16,
    gain: float | None = None,
    context_size: int | None = None,
    seed: int = 0,
) -> tfp.distributions.Distribution:
    """Builds the volume-balanced flow: blocks of `balanced` on images of one pixel.

    Args:
      num_blocks: number of blocks.
      width: hidden units of the networks.
      slope: see `zoo.architectures.balanced.balanced_block`.
      num_hats: see `zoo.architectures.balanced.balanced_block`.
      num_bins: see `zoo.architectures.balanced.balanced_block`.
      gain: see `zoo.architectures.balanced.balanced`.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    seeds = Seeds(seed)
    blocks = [
        balanced.balanced_block(
            [1, 1, 2],
            "mlp",
            seeds,
            {"width": width},
            slope=slope,
            num_hats=num_hats,
            num_bins=num_bins,
            gain=1 / num_blocks if gain is None else gain,
            context_size=context_size,
            name=f"block{index}",
        )
        for index in range(num_blocks)
    ]
    reshape = tfb.Reshape(event_shape_out=[1, 1, 2], event_shape_in=[2])
    return _model([reshape, bijectors.Repeat(blocks), tfb.Invert(reshape)])


def planar_coupling(
    num_bins: int | None,
    linear: bool,
    num_blocks: int = 16,
    width: int = 64,
    bound: float = 4.0,
    context_size: int | None = None,
    seed: int = 0,
) -> tfp.distributions.Distribution:
    """Builds a flow of couplings, each of which moves one coordinate by the other.

    Args:
      num_bins: bins of rational-quadratic splines; `None` for affine couplings.
      linear: `True` for an `ActNorm` and a rotation with trainable entries before each coupling;
        `False` for couplings that take turns.
      num_blocks: number of blocks, of a coupling each.
      width: hidden units of the networks.
      bound: half the side of the box of the splines.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    seeds, blocks, transform = Seeds(seed), [], transform_of(num_bins, bound)
    context = vector(context_size)
    for index in range(num_blocks):
        name, layers = f"block{index}", []
        if linear:
            layers.append(
                bijectors.ActNorm.trainable([2], name=f"{name}_act_norm"),
            )
            layers.append(
                bijectors.InvertibleConv1x1.trainable([2], seed=seeds(), name=f"{name}_conv1x1")
            )
        outputs = transform.num_parameters
        network = build_conditioner("mlp", [1], outputs, seeds, {"width": width}, context)
        options = {"reverse": not linear and index % 2 == 1, "name": f"{name}_coupling"}
        options |= takes(context)
        layers.append(bijectors.Coupling(network, [2], transform, **options))
        blocks.append(bijectors.Block(layers, name=name))
    return _model([bijectors.Repeat(blocks)] if linear else pairs(blocks))


def planar_maf(
    num_blocks: int = 8, width: int = 64, context_size: int | None = None, seed: int = 0
) -> tfp.distributions.Distribution:
    """Builds the masked autoregressive flow, the coordinates reversed between the blocks.

    Args:
      num_blocks: number of blocks.
      width: hidden units of the networks.
      context_size: length of a context vector that the model is conditional on, see
        `tfflows.condition`; `None` for no context.
      seed: seed of the initial weights.
    """
    seeds, blocks, context = Seeds(seed), [], vector(context_size)
    for index in range(num_blocks):
        network = networks.MaskedMLP(2, 2, width=width, context_size=context_size, seed=seeds())
        networks.build_network(network, [2], context)
        layers = [
            bijectors.Autoregressive(network, [2], transforms.Affine("exp"), **takes(context)),
            bijectors.Flip(event_ndims=1),
        ]
        blocks.append(bijectors.Block(layers, name=f"block{index}"))
    return _model([bijectors.Repeat(blocks)])
