"""Models of 28x28 grey images: MNIST, Fashion-MNIST and their like."""

from zoo.architectures.glow import glow
from zoo.catalogue import papers
from zoo.catalogue.recipes import MNIST, MNIST_RECIPE
from zoo.registry import IMAGES, register

_GLOW = {"steps": (6, 6), "widths": (64, 64), "network": "conv_net", "exponentials": 2}

register(
    "glow.mnist",
    glow,
    kind=IMAGES,
    recipe=MNIST_RECIPE,
    summary="Glow for 28x28 grey images: MNIST, Fashion-MNIST and their like.",
    paper=papers.GLOW,
    **MNIST,
    **_GLOW,
    mixing="conv1x1",
)
register(
    "convexp_glow.mnist",
    glow,
    kind=IMAGES,
    recipe=MNIST_RECIPE,
    summary="Glow with convolution exponentials for 28x28 grey images.",
    paper=papers.CONVEXP,
    **MNIST,
    **_GLOW,
    mixing="conv_exponential",
)
