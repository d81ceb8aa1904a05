"""Glow with a choice of mixing layers and couplings: `glow.*`, `convexp_glow.*`, `rq_nsf.*`, ..."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from zoo.mixing import SPATIAL_MIXING, mixing_layers
from zoo.registry import Recipe, register

tfb = tfp.bijectors
tfd = tfp.distributions

GLOW = "Kingma, Dhariwal, Glow, NeurIPS 2018, arXiv:1807.03039"
CONVEXP = (
    "Hoogeboom, Garcia Satorras, Tomczak, Welling, The Convolution Exponential and Generalized "
    "Sylvester Flows, NeurIPS 2020, arXiv:2006.01910"
)
RQ_NSF = (
    "Durkan, Bekasov, Murray, Papamakarios, Neural Spline Flows, NeurIPS 2019, arXiv:1906.04032"
)
EMERGING = (
    "Hoogeboom, van den Berg, Welling, Emerging Convolutions for Generative Normalizing Flows, "
    "ICML 2019, arXiv:1901.11137"
)
WOODBURY = "Lu, Huang, Woodbury Transformations for Deep Generative Flows, arXiv:2002.12229"
NETWORKS = {
    "attention_net": networks.AttentionNet,
    "conv_net": networks.ConvNet,
    "dense_net": networks.DenseNet,
    "gated_res_net": networks.GatedResNet,
    "mlp": networks.MLP,
}


class Seeds:
    """Hands out a new seed for every layer, in the order of building."""

    def __init__(self, seed):
        self._seed, self._count = seed, 0

    def __call__(self):
        """Returns the next seed."""
        self._count += 1
        return self._seed * 10_000 + self._count


def build_conditioner(kind, input_shape, num_outputs, seeds, arguments, context_shape=None):
    """Returns a built network of a kind from `NETWORKS`."""
    network = NETWORKS[kind](num_outputs, seed=seeds(), **arguments)
    return networks.build_network(network, input_shape, context_shape)


def coupling(shape, kind, seeds, arguments, name, context_shape=None, num_bins=None):
    """Returns a coupling of channel halves with a network of its own: affine, or a spline."""
    height, width, channels = shape
    kept = channels // 2
    count = 2 if num_bins is None else 3 * num_bins - 1
    network = build_conditioner(
        kind, [height, width, kept], count * (channels - kept), seeds, arguments, context_shape
    )
    options = {"conditional": context_shape is not None, "context_ndims": 3, "name": name}
    if num_bins is None:
        return bijectors.AffineCoupling(network, shape, **options)
    return bijectors.RationalQuadraticCoupling(network, shape, num_bins, **options)


def image_flow(levels, image_shape, num_levels, dequantizer=None, split_fraction=0.5):
    """Returns the `Dequantized` distribution of a multi-scale flow with a standard normal base."""
    flow = bijectors.MultiScale(levels, image_shape, split_fraction)
    base = distributions.standard_normal([sum(flow.latent_sizes)])
    model = tfd.TransformedDistribution(base, tfb.Invert(flow))
    return distributions.Dequantized(model, dequantizer, num_levels)


DIGITS_RECIPE = Recipe(
    dataset="digits", batch_size=128, steps=400, learning_rate=5e-3, beta_2=0.99, clip=50.0
)
_DIGITS = {
    "image_shape": (8, 8, 1),
    "num_levels": 17,
    "steps": (4, 4),
    "widths": (32, 32),
    "network": "conv_net",
    "exponentials": 1,
}
_MNIST_RECIPE = Recipe(
    dataset="mnist", batch_size=64, steps=10_000, learning_rate=2e-3, beta_2=0.99, clip=50.0
)
_MNIST = {
    "image_shape": (28, 28, 1),
    "num_levels": 256,
    "steps": (6, 6),
    "widths": (64, 64),
    "network": "conv_net",
    "exponentials": 2,
}
CIFAR10_RECIPE = Recipe(
    dataset="cifar10",
    batch_size=32,
    steps=5_000,
    learning_rate=4e-3,
    beta_2=0.99,
    warmup_steps=200,
    clip=1000.0,  # About half of the gradient norms at first; the loss is in nats.
    flip=True,
)
_CIFAR10 = {
    "image_shape": (32, 32, 3),
    "num_levels": 256,
    "steps": (8, 6, 4),
    "widths": (64, 96, 96),
    "network": "conv_net",
    "exponentials": 1,
}


@register(
    "glow.digits",
    recipe=DIGITS_RECIPE,
    summary="Glow for the 8x8 digits that scikit-learn ships; trains in minutes on two cores.",
    paper=GLOW,
    **_DIGITS,
    mixing="conv1x1",
)
@register(
    "convexp_glow.digits",
    recipe=DIGITS_RECIPE,
    summary="Glow with convolution exponentials for the 8x8 digits; trains in minutes on 2 cores.",
    paper=CONVEXP,
    **_DIGITS,
    mixing="conv_exponential",
)
@register(
    "glow.mnist",
    recipe=_MNIST_RECIPE,
    summary="Glow for 28x28 grey images: MNIST, Fashion-MNIST and their like.",
    paper=GLOW,
    **_MNIST,
    mixing="conv1x1",
)
@register(
    "convexp_glow.mnist",
    recipe=_MNIST_RECIPE,
    summary="Glow with convolution exponentials for 28x28 grey images.",
    paper=CONVEXP,
    **_MNIST,
    mixing="conv_exponential",
)
@register(
    "glow.cifar10_small",
    recipe=CIFAR10_RECIPE,
    summary="A small Glow for 32x32 colour images; trains in half an hour on two cores.",
    paper=GLOW,
    **_CIFAR10,
    mixing="conv1x1",
)
@register(
    "glow.cifar10_small_wide",
    recipe=CIFAR10_RECIPE,
    summary="glow.cifar10_small with wider networks, the size of convexp_glow.cifar10_small.",
    paper=GLOW,
    **{**_CIFAR10, "widths": (67, 98, 99)},
    mixing="conv1x1",
)
@register(
    "convexp_glow.cifar10_small",
    recipe=CIFAR10_RECIPE,
    summary="A small Glow with convolution exponentials for 32x32 colour images; trains in half an "
    "hour on two cores.",
    paper=CONVEXP,
    **_CIFAR10,
    mixing="conv_exponential",
)
@register(
    "rq_nsf.digits",
    recipe=DIGITS_RECIPE,
    summary="Neural spline flow (RQ-NSF with couplings) for the 8x8 digits.",
    paper=RQ_NSF,
    **{**_DIGITS, "widths": (12, 12)},
    mixing="conv1x1",
    num_bins=4,
)
@register(
    "rq_nsf.cifar10_small",
    recipe=CIFAR10_RECIPE,
    summary="A small neural spline flow (RQ-NSF with couplings) for 32x32 colour images, the size "
    "of glow.cifar10_small.",
    paper=RQ_NSF,
    **{**_CIFAR10, "widths": (20, 31, 31)},
    mixing="conv1x1",
    num_bins=4,
)
def glow(
    image_shape, num_levels, steps, widths, network, exponentials, mixing, num_bins=None, seed=0
) -> distributions.Dequantized:
    """Builds Glow: per level a squeeze and steps of (ActNorm, mixing, coupling).

    Between levels half of the channels leave, with a normal prior given the other half.

    Args:
      image_shape: `(H, W, C)`; height and width divisible by `2**len(steps)`.
      num_levels: number of values of a pixel.
      steps: steps of each level.
      widths: hidden channels of the networks of each level.
      network: kind of network: a key of `NETWORKS`.
      exponentials: number of steps in each level whose mixing is that of `mixing`, evenly spread,
        if it mixes positions too (a key of `SPATIAL_MIXING`; the name is from the first of them);
        `None` for all. The other steps have 1x1 convolutions.
      mixing: see `mixing_layers`.
      num_bins: bins of the splines of the couplings; `None` for affine couplings.
      seed: seed of the initial weights.
    """
    seeds, shape, levels = Seeds(seed), list(image_shape), []
    for level, (count, width) in enumerate(zip(steps, widths, strict=True)):
        shape = [shape[0] // 2, shape[1] // 2, shape[2] * 4]
        squeeze = bijectors.Squeeze(order="space_to_depth", name=f"level{level}_squeeze")
        parts = [squeeze] if level else [bijectors.NormalizeImage(num_levels), squeeze]
        everywhere = exponentials is None or mixing not in SPATIAL_MIXING
        number = count if everywhere else exponentials
        chosen = {i * count // number for i in range(number)} if number else set()
        for step in range(count):
            name = f"level{level}_step{step}"
            kind = mixing if step in chosen else "conv1x1"
            parts.append(bijectors.ActNorm.trainable(shape[-1], name=f"{name}_act_norm"))
            parts += mixing_layers(kind, shape, seeds, name)
            parts.append(
                coupling(
                    shape, network, seeds, {"width": width}, f"{name}_coupling", num_bins=num_bins
                )
            )
        if level < len(steps) - 1:
            prior = f"level{level}_split_prior"
            parts.append(coupling(shape, network, seeds, {"width": width}, prior))
            shape = [*shape[:2], shape[2] // 2]
        else:
            # The learned diagonal Gaussian of the last level, as an affine map to a standard one.
            parts.append(bijectors.ActNorm.trainable(shape[-1], name="base_affine"))
        levels.append(bijectors.Sequential(parts, name=f"level{level}"))
    return image_flow(levels, image_shape, num_levels)


# 1000 epochs of 40,000 images, warm-up over 10 of them, as in the paper.
_MIXING_RECIPE = Recipe(
    dataset="cifar10",
    batch_size=256,
    steps=156_000,
    optimizer="adamax",
    learning_rate=1e-3,
    warmup_steps=1560,
    decay=0.995,
    clip=None,
)
_MIXING = {"image_shape": (32, 32, 3), "num_levels": 256, "steps": (10, 10)}


@register(
    "convexp_glow.cifar10",
    recipe=_MIXING_RECIPE,
    summary="The model of the mixing experiment at full size, with variational dequantisation.",
    paper=CONVEXP,
    **_MIXING,
    growth=63,
    mixing="conv_exponential",
)
@register(
    "glow.cifar10",
    recipe=_MIXING_RECIPE,
    summary="The 1x1 baseline of the mixing experiment at full size.",
    paper=CONVEXP,
    **_MIXING,
    growth=64,
    mixing="conv1x1",
)
def mixing_experiment(
    image_shape, num_levels, steps, growth, mixing, seed=0
) -> distributions.Dequantized:
    """Builds the model of paper A's mixing experiment: DenseNets, no ActNorm, split priors.

    Squeeze, mixing, then per level steps of (affine coupling, mixing), each mixing between two
    learned bias maps; a split prior (a coupling before the split) and a squeeze between levels; a
    diagonal Gaussian with learned mean and scale per channel.

    Args:
      image_shape: `(H, W, C)`.
      num_levels: number of values of a pixel.
      steps: steps of each level.
      growth: channels that each of the 8 layers of a DenseNet adds.
      mixing: see `mixing_layers`.
      seed: seed of the initial weights.
    """
    seeds, shape, levels = Seeds(seed), list(image_shape), []
    arguments = {"width": 64, "depth": 8, "growth": growth}
    for level, count in enumerate(steps):
        shape = [shape[0] // 2, shape[1] // 2, shape[2] * 4]
        parts = [bijectors.Squeeze(order="glow", name=f"level{level}_squeeze")]
        if level == 0:
            parts = [bijectors.NormalizeImage(num_levels), *parts]
            parts += _between_biases(mixing_layers(mixing, shape, seeds, "first"), shape)
        for step in range(count):
            name = f"level{level}_step{step}"
            parts.append(coupling(shape, "dense_net", seeds, arguments, f"{name}_coupling"))
            parts += _between_biases(mixing_layers(mixing, shape, seeds, name), shape)
        if level < len(steps) - 1:
            prior = f"level{level}_split_prior"
            parts.append(coupling(shape, "dense_net", seeds, arguments, prior))
            shape = [*shape[:2], shape[2] // 2]
        else:
            parts.append(bijectors.ActNorm.trainable(shape[-1], name="base_affine"))
        levels.append(bijectors.Sequential(parts, name=f"level{level}"))
    dequantizer = _flow_dequantizer(image_shape, num_levels, arguments, mixing, seeds)
    return image_flow(levels, image_shape, num_levels, dequantizer)


def _between_biases(layers, shape):
    """Returns the layers with a learned shift of every entry before and after them."""
    before, after = (
        tfb.Shift(tf.Variable(tf.zeros(shape), name=f"bias_{side}"), name=f"bias_{side}")
        for side in ("before", "after")
    )
    return [before, *layers, after]


def _flow_dequantizer(image_shape, num_levels, arguments, mixing, seeds, steps=4, channels=16):
    """Returns `q(u | x)`: four conditional steps on the squeezed noise, then a sigmoid."""
    height, width, depth = image_shape
    shape = [height // 2, width // 2, depth * 4]
    context_shape = [height, width, channels]
    context_network = build_conditioner("dense_net", image_shape, channels, seeds, arguments)
    squeeze = bijectors.Squeeze(order="glow", name="noise_squeeze")
    parts = [squeeze, *mixing_layers(mixing, shape, seeds, "noise_first")]
    for step in range(steps):
        name = f"noise_step{step}"
        parts.append(
            coupling(shape, "dense_net", seeds, arguments, f"{name}_coupling", context_shape)
        )
        parts += mixing_layers(mixing, shape, seeds, name)
    parts += [tfb.Invert(squeeze), tfb.Sigmoid()]
    base = distributions.standard_normal(image_shape)
    noise = tfd.TransformedDistribution(base, bijectors.Sequential(parts, name="noise_flow"))
    return distributions.FlowDequantizer(noise, context_network, num_levels)


# The mixing layers that paper A compares with, in the same models. The widths of the small ones for
# CIFAR-10 give the number of parameters of convexp_glow.cifar10_small, to 1 %.
_BASELINES = (
    ("emerging", "emerging convolutions", EMERGING, (64, 96, 96)),
    ("periodic", "periodic convolutions", EMERGING, (64, 96, 96)),
    ("woodbury", "Woodbury transformations", WOODBURY, (67, 96, 96)),
)
for _mixing, _layers, _paper, _widths in _BASELINES:
    register(
        f"{_mixing}_glow.digits",
        recipe=DIGITS_RECIPE,
        summary=f"Glow with {_layers} for the 8x8 digits; trains in minutes on two cores.",
        paper=_paper,
        **_DIGITS,
        mixing=_mixing,
    )(glow)
    register(
        f"{_mixing}_glow.cifar10_small",
        recipe=CIFAR10_RECIPE,
        summary=f"A small Glow with {_layers} for 32x32 colour images, the size of "
        "convexp_glow.cifar10_small.",
        paper=_paper,
        **{**_CIFAR10, "widths": _widths},
        mixing=_mixing,
    )(glow)
    register(
        f"{_mixing}_glow.cifar10",
        recipe=_MIXING_RECIPE,
        summary=f"The model of the mixing experiment at full size with {_layers}.",
        paper=_paper,
        **_MIXING,
        growth=63,
        mixing=_mixing,
    )(mixing_experiment)
