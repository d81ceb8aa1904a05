"""The flow of variational dequantisation, Ho et al. (2019), of the Glow builders."""

from collections.abc import Mapping, Sequence

import tensorflow_probability as tfp

from tfflows import bijectors, distributions
from zoo.architectures.building import Seeds, build_conditioner, coupling, repeat
from zoo.architectures.mixing import is_alike, mixing_layers

tfb = tfp.bijectors
tfd = tfp.distributions


def flow_dequantizer(
    image_shape: Sequence[int],
    num_levels: int,
    network: str,
    arguments: Mapping,
    mixing: str,
    seeds: Seeds,
    steps: int = 4,
    channels: int = 16,
) -> distributions.FlowDequantizer:
    """Returns `q(u | x)`: conditional steps on the squeezed noise, then a sigmoid.

    Args:
      image_shape: `(H, W, C)`, height and width even.
      num_levels: number of values of a pixel.
      network: kind of the networks: a key of `zoo.architectures.building.NETWORKS`.
      arguments: arguments of the networks.
      mixing: see `mixing_layers`.
      seeds: source of seeds.
      steps: number of steps of a coupling and mixing.
      channels: features of the image at each pixel that the couplings are given.
    """
    height, width, depth = image_shape
    shape = [height // 2, width // 2, depth * 4]
    context_shape = [height, width, channels]
    context_network = build_conditioner(network, image_shape, channels, seeds, arguments)
    squeeze = bijectors.Squeeze(order="glow", name="noise_squeeze")
    parts = [squeeze, *mixing_layers(mixing, shape, seeds, "noise_first")]
    turns = []
    for step in range(steps):
        name = f"noise_step{step}"
        moved = coupling(shape, network, seeds, arguments, f"{name}_coupling", context_shape)
        turns.append([moved, *mixing_layers(mixing, shape, seeds, name)])
    parts += [*repeat(turns, is_alike(mixing)), tfb.Invert(squeeze), tfb.Sigmoid()]
    base = distributions.standard_normal(image_shape)
    noise = tfd.TransformedDistribution(base, bijectors.Sequential(parts, name="noise_flow"))
    return distributions.FlowDequantizer(noise, context_network, num_levels=num_levels)
