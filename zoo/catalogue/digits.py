"""Models of the 8x8 digits that scikit-learn ships; each trains in minutes on two cores."""

import dataclasses

from zoo.architectures.balanced import balanced
from zoo.architectures.glow import glow
from zoo.architectures.jet import jet
from zoo.architectures.realnvp import realnvp
from zoo.architectures.residual_type import residual_type
from zoo.architectures.tarflow import tarflow
from zoo.catalogue import papers
from zoo.catalogue.recipes import DIGITS, DIGITS_RECIPE, transformer_recipe
from zoo.registry import IMAGES, register

_SMALL = {"steps": (4, 4), "widths": (32, 32), "network": "conv_net", "exponentials": 1}
_RESIDUAL = {"steps": (4, 4), "prior_network": "conv_net", "prior_width": 32}


def _register(name, builder, paper, summary, recipe=DIGITS_RECIPE, **arguments):
    register(
        f"{name}.digits",
        builder,
        kind=IMAGES,
        recipe=recipe,
        summary=summary,
        paper=paper,
        **DIGITS | arguments,
    )


_register(
    "glow",
    glow,
    papers.GLOW,
    "Glow for the 8x8 digits that scikit-learn ships; trains in minutes on two cores.",
    **_SMALL,
    mixing="conv1x1",
)
register(
    "glow.digits_by_class",
    glow,
    kind=IMAGES,
    recipe=dataclasses.replace(DIGITS_RECIPE, condition="label"),
    summary="Glow for the 8x8 digits given their labels; trains in minutes on two cores.",
    paper=papers.GLOW,
    **DIGITS,
    **_SMALL,
    mixing="conv1x1",
    context_size=10,
)
_register(
    "convexp_glow",
    glow,
    papers.CONVEXP,
    "Glow with convolution exponentials for the 8x8 digits; trains in minutes on 2 cores.",
    **_SMALL,
    mixing="conv_exponential",
)
for _mixing, (_layers, _paper) in papers.MIXING_BASELINES.items():
    _register(
        f"{_mixing}_glow",
        glow,
        _paper,
        f"Glow with {_layers} for the 8x8 digits; trains in minutes on two cores.",
        **_SMALL,
        mixing=_mixing,
    )
_register(
    "rq_nsf",
    glow,
    papers.RQ_NSF,
    "Neural spline flow (RQ-NSF with couplings) for the 8x8 digits.",
    **_SMALL | {"widths": (12, 12)},
    mixing="conv1x1",
    num_bins=4,
)
for _name, _options in (
    ("balanced", {"width": 32}),
    ("convexp_balanced", {"width": 31, "exponentials": 1}),
):
    _what, _paper = papers.BALANCED_FLOWS[_name]
    _register(
        _name,
        balanced,
        _paper,
        f"{_what.capitalize()} for the 8x8 digits that scikit-learn ships.",
        recipe=dataclasses.replace(
            DIGITS_RECIPE, steps=800, optimizer="adamax", learning_rate=1e-2, beta_2=0.999
        ),
        steps=(2, 2),
        split_fraction=0.5,
        network="conv_net",
        **_options,
    )
_register(
    "realnvp",
    realnvp,
    papers.REALNVP,
    "RealNVP for the 8x8 digits that scikit-learn ships.",
    widths=(32, 44),
    network="conv_net",
)
for _layer, _paper, _summary, _widths in (
    ("sylvester", papers.CONVEXP, "Convolutional Sylvester flow for the 8x8 digits.", (24, 24)),
    (
        "residual",
        papers.RESIDUAL,
        "Residual flow for the 8x8 digits, the size of sylvester.digits.",
        (30, 34),
    ),
    (
        "coupling",
        papers.CONVEXP,
        "Plain couplings for the 8x8 digits, the size of sylvester.digits.",
        (35, 40),
    ),
):
    _register(
        _layer,
        residual_type,
        _paper,
        _summary,
        recipe=dataclasses.replace(DIGITS_RECIPE, warmup_power=2.0),
        **_RESIDUAL,
        widths=_widths,
        layer=_layer,
    )
_register(
    "tarflow",
    tarflow,
    papers.TARFLOW,
    "TarFlow, an autoregressive flow of transformers over patches, for the 8x8 digits.",
    recipe=transformer_recipe(DIGITS_RECIPE, steps=2_000, learning_rate=1e-3, ema=0.99),
    patch=2,
    width=48,
    num_blocks=4,
    depth=1,
)
_register(
    "jet",
    jet,
    papers.JET,
    "Jet, couplings of patches whose networks are transformers, for the 8x8 digits.",
    recipe=transformer_recipe(DIGITS_RECIPE, steps=2_000, learning_rate=1e-3, ema=0.99),
    patch=2,
    width=24,
    num_couplings=16,
    depth=1,
)
