"""Models of 28x28 grey images: MNIST, Fashion-MNIST and their like."""

import dataclasses

from zoo.architectures.balanced import balanced
from zoo.architectures.glow import glow
from zoo.architectures.tarflow import tarflow
from zoo.catalogue import papers
from zoo.catalogue.recipes import MNIST, MNIST_RECIPE, transformer_recipe
from zoo.registry import IMAGES, register

_GLOW = {"steps": (6, 6), "widths": (64, 64), "network": "conv_net", "exponentials": 2}

for _name, _data in (("mnist", "MNIST"), ("fashion_mnist", "Fashion-MNIST")):
    _recipe = dataclasses.replace(MNIST_RECIPE, dataset=_name)
    for _model, _paper, _what, _mixing in (
        ("glow", papers.GLOW, "Glow", "conv1x1"),
        (
            "convexp_glow",
            papers.CONVEXP,
            "Glow with convolution exponentials",
            "conv_exponential",
        ),
    ):
        register(
            f"{_model}.{_name}",
            glow,
            kind=IMAGES,
            recipe=_recipe,
            summary=f"{_what} for 28x28 grey images: {_data} and its like.",
            paper=_paper,
            **MNIST,
            **_GLOW,
            mixing=_mixing,
        )
    for _model, _options in (
        ("balanced", {"width": 34}),
        ("convexp_balanced", {"width": 33, "exponentials": 2}),
    ):
        _what, _paper = papers.BALANCED_FLOWS[_model]
        register(
            f"{_model}.{_name}",
            balanced,
            kind=IMAGES,
            recipe=dataclasses.replace(
                _recipe, optimizer="adamax", learning_rate=1e-2, warmup_steps=200
            ),
            summary=f"{_what.capitalize()} for 28x28 grey images: {_data} and its like.",
            paper=_paper,
            **MNIST,
            steps=(6, 6),
            split_fraction=0.5,
            network="conv_net",
            **_options,
        )
register(
    "glow.mnist_by_class",
    glow,
    kind=IMAGES,
    recipe=dataclasses.replace(
        MNIST_RECIPE, condition="label", learning_rate=4e-3, ema=0.995, steps=30_000
    ),
    summary="Glow for 28x28 grey images given their labels: MNIST, Fashion-MNIST and their like.",
    paper=papers.GLOW,
    **MNIST,
    **_GLOW | {"steps": (4, 4), "widths": (32, 32)},
    mixing="conv1x1",
    context_size=10,
)
register(
    "tarflow.mnist_by_class",
    tarflow,
    kind=IMAGES,
    recipe=transformer_recipe(MNIST_RECIPE, condition="label", learning_rate=1e-3),
    summary="TarFlow for 28x28 grey images given their labels: MNIST and its like.",
    paper=papers.TARFLOW,
    **MNIST,
    patch=4,
    width=64,
    num_blocks=4,
    depth=2,
    context_size=10,
)
