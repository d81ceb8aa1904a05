"""The layers that mix dimensions between couplings: what `mixing=` of the Glow builders may be."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors

tfb = tfp.bijectors


def _conv1x1(parameterization):
    """Returns a builder of 1x1 convolutions of a parameterization."""

    def build(shape, seeds, name):
        return bijectors.InvertibleConv1x1.trainable(
            shape, parameterization=parameterization, seed=seeds(), name=f"{name}_conv1x1"
        )

    return build


def _permutation(shape, seeds, name):
    """Returns a fixed random permutation of the channels."""
    order = np.random.default_rng(seeds()).permutation(shape[-1])
    return tfb.Permute(order, axis=-1, name=f"{name}_permutation")


def _matrix_exponential(shape, seeds, name):
    """Returns `x -> exp(A) x` on the channels, a random rotation at first.

    `|A|_2 <= 2` is enough for rotations by up to 2 radians in every plane.
    """
    name = f"{name}_matrix_exponential"
    gaussian = np.random.default_rng(seeds()).normal(size=[shape[-1]] * 2)
    skew = gaussian - gaussian.T
    skew *= 1.5 / np.linalg.norm(skew, 2)  # Below 2 by the certified bound too.
    kernel = tf.Variable(skew[None, None], dtype=tf.float32, name=f"{name}_kernel")
    return bijectors.ConvExponential(kernel, max_norm=2.0, name=name)


def _emerging(shape, seeds, name):
    return bijectors.EmergingConv.trainable(shape, seed=seeds(), name=f"{name}_emerging_conv")


def _periodic(shape, seeds, name):
    return bijectors.PeriodicConv.trainable(shape, seed=seeds(), name=f"{name}_periodic_conv")


def _woodbury(shape, seeds, name):
    return bijectors.WoodburyConv.trainable(shape, seed=seeds(), name=f"{name}_woodbury_conv")


def _conv_exponential(shape, seeds, name):
    return bijectors.ConvExponential.trainable(shape, seed=seeds(), name=f"{name}_conv_exponential")


# One layer for each step, the same at every position.
CHANNEL_MIXING = {
    "permutation": _permutation,
    "conv1x1": _conv1x1("dense"),
    "conv1x1_plu": _conv1x1("plu"),
    "conv1x1_qr": _conv1x1("qr"),
    "householder": _conv1x1("householder"),
    "matrix_exponential": _matrix_exponential,
}
# These mix positions too; each comes behind a 1x1 convolution.
SPATIAL_MIXING = {
    "emerging": _emerging,
    "periodic": _periodic,
    "woodbury": _woodbury,
    "conv_exponential": _conv_exponential,
}


def is_alike(mixing: str, conv1x1: str = "dense") -> bool:
    """Returns whether the layers of all steps are alike: permutations are drawn anew for each."""
    return mixing not in ("permutation", "conv1x1_plu") and conv1x1 != "plu"


def mixing_layers(
    mixing: str, shape: Sequence[int], seeds: Callable[[], int], name: str, conv1x1: str = "dense"
) -> list[tfb.Bijector]:
    """Returns the layers that mix the dimensions between couplings.

    Args:
      mixing: a key of `CHANNEL_MIXING` or `SPATIAL_MIXING`.
      shape: event shape.
      seeds: source of seeds.
      name: prefix of the layers' names.
      conv1x1: parameterization of the 1x1 convolution of `"conv1x1"` and of `SPATIAL_MIXING`, see
        `bijectors.InvertibleConv1x1`.

    Raises:
      ValueError: if there is no such mixing.
    """
    if mixing == "conv1x1":
        return [_conv1x1(conv1x1)(shape, seeds, name)]
    if mixing in CHANNEL_MIXING:
        return [CHANNEL_MIXING[mixing](shape, seeds, name)]
    if mixing in SPATIAL_MIXING:
        first = _conv1x1(conv1x1)(shape, seeds, name)
        return [first, SPATIAL_MIXING[mixing](shape, seeds, name)]
    known = ", ".join(f'"{key}"' for key in [*CHANNEL_MIXING, *SPATIAL_MIXING])
    raise ValueError(f"`mixing` must be one of {known}. Received: mixing={mixing!r}.")
