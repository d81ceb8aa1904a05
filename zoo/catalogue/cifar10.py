"""Small and medium models of 32x32 colour images; small ones train in half an hour on two cores."""

import dataclasses

from zoo.architectures.balanced import balanced
from zoo.architectures.glow import glow
from zoo.architectures.jet import jet
from zoo.architectures.realnvp import realnvp
from zoo.architectures.residual_type import residual_type
from zoo.architectures.tarflow import tarflow
from zoo.catalogue import papers
from zoo.catalogue.recipes import CIFAR10, CIFAR10_MEDIUM_RECIPE, CIFAR10_RECIPE, transformer_recipe
from zoo.registry import IMAGES, register

_GLOW = {"steps": (8, 6, 4), "widths": (64, 96, 96), "network": "conv_net", "exponentials": 1}
_MEDIUM = {"steps": (16, 12, 8), "widths": (192, 192, 192), "exponentials": 2}
_RESIDUAL = {"steps": (4, 4, 4), "prior_network": "conv_net", "prior_width": 64}
# Widths that give the baselines the parameters of convexp_glow.cifar10_small, to 1 %.
_WIDTHS = {"emerging": (64, 96, 96), "periodic": (64, 96, 96), "woodbury": (67, 96, 96)}


def _register(name, builder, paper, summary, recipe=CIFAR10_RECIPE, **arguments):
    register(
        name,
        builder,
        kind=IMAGES,
        recipe=recipe,
        summary=summary,
        paper=paper,
        **CIFAR10 | arguments,
    )


_register(
    "glow.cifar10_small",
    glow,
    papers.GLOW,
    "A small Glow for 32x32 colour images; trains in half an hour on two cores.",
    **_GLOW,
    mixing="conv1x1",
)
_register(
    "glow.cifar10_small_wide",
    glow,
    papers.GLOW,
    "glow.cifar10_small with wider networks, the size of convexp_glow.cifar10_small.",
    **_GLOW | {"widths": (67, 98, 99)},
    mixing="conv1x1",
)
_register(
    "convexp_glow.cifar10_small",
    glow,
    papers.CONVEXP,
    "A small Glow with convolution exponentials for 32x32 colour images; trains in half an hour "
    "on two cores.",
    **_GLOW,
    mixing="conv_exponential",
)
_register(
    "convexp_glow.cifar10_medium",
    glow,
    papers.CONVEXP,
    "Glow with convolution exponentials for 32x32 colour images, of 3.8M parameters; for an "
    "accelerator.",
    recipe=CIFAR10_MEDIUM_RECIPE,
    **_GLOW | _MEDIUM,
    mixing="conv_exponential",
)
for _mixing, (_layers, _paper) in papers.MIXING_BASELINES.items():
    _register(
        f"{_mixing}_glow.cifar10_small",
        glow,
        _paper,
        f"A small Glow with {_layers} for 32x32 colour images, the size of "
        "convexp_glow.cifar10_small.",
        **_GLOW | {"widths": _WIDTHS[_mixing]},
        mixing=_mixing,
    )
_register(
    "rq_nsf.cifar10_small",
    glow,
    papers.RQ_NSF,
    "A small neural spline flow (RQ-NSF with couplings) for 32x32 colour images, the size of "
    "glow.cifar10_small.",
    **_GLOW | {"widths": (20, 31, 31)},
    mixing="conv1x1",
    num_bins=4,
)
for _name, _options in (
    ("balanced", {"width": 72}),
    ("convexp_balanced", {"width": 70, "exponentials": 2}),
):
    _what, _paper = papers.BALANCED_FLOWS[_name]
    _register(
        f"{_name}.cifar10_small",
        balanced,
        _paper,
        f"A small {_what} for 32x32 colour images, the size of glow.cifar10_small.",
        recipe=dataclasses.replace(CIFAR10_RECIPE, optimizer="adamax", learning_rate=2e-2),
        steps=(6, 4, 1),
        split_fraction=0.5,
        network="conv_net",
        **_options,
    )
_register(
    "realnvp.cifar10_small",
    realnvp,
    papers.REALNVP,
    "A small RealNVP for 32x32 colour images, the size of glow.cifar10_small.",
    widths=(64, 128, 176),
    network="conv_net",
)
for _layer, _paper, _summary, _widths in (
    (
        "sylvester",
        papers.CONVEXP,
        "A small convolutional Sylvester flow for 32x32 colour images, the size of "
        "glow.cifar10_small.",
        (72, 72, 48),
    ),
    (
        "residual",
        papers.RESIDUAL,
        "A small residual flow for 32x32 colour images, the size of sylvester.cifar10_small.",
        (92, 101, 87),
    ),
    (
        "coupling",
        papers.CONVEXP,
        "Plain couplings for 32x32 colour images, the size of sylvester.cifar10_small.",
        (105, 120, 107),
    ),
):
    _register(
        f"{_layer}.cifar10_small",
        residual_type,
        _paper,
        _summary,
        recipe=dataclasses.replace(CIFAR10_RECIPE, warmup_power=2.0),
        **_RESIDUAL,
        widths=_widths,
        layer=_layer,
    )
_register(
    "tarflow.cifar10_small",
    tarflow,
    papers.TARFLOW,
    "A small TarFlow for 32x32 colour images: 64 patches, 4 blocks of 2 layers.",
    recipe=transformer_recipe(CIFAR10_RECIPE, learning_rate=1e-3),
    patch=4,
    width=96,
    num_blocks=4,
    depth=2,
)
_register(
    "jet.cifar10_small",
    jet,
    papers.JET,
    "A small Jet for 32x32 colour images: 64 patches, 24 couplings with networks of one layer.",
    recipe=transformer_recipe(CIFAR10_RECIPE, learning_rate=1e-3),
    patch=4,
    width=48,
    num_couplings=24,
    depth=1,
)
