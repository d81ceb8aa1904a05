"""Models at the size of their papers, for accelerators."""

import dataclasses

from zoo.architectures.balanced import balanced
from zoo.architectures.jet import jet
from zoo.architectures.mixing_experiment import mixing_experiment
from zoo.architectures.residual_type import residual_type
from zoo.architectures.tarflow import tarflow
from zoo.catalogue import papers
from zoo.catalogue.recipes import CIFAR10, transformer_recipe
from zoo.registry import IMAGES, Recipe, register

# 1000 epochs of 40,000 images, warm-up over 10 of them, as in Hoogeboom et al. (2020).
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
_RESIDUAL_RECIPE = Recipe(
    dataset="cifar10",
    batch_size=256,
    steps=156_000,
    learning_rate=1e-3,
    beta_2=0.99,
    warmup_steps=1560,
    warmup_power=2.0,
    decay=0.995,
    clip=1.0,
)
# Learning rate and decay of appendix C of Liao and He (2021).
_BALANCED_RECIPE = Recipe(
    dataset="cifar10",
    batch_size=1024,
    steps=100_000,
    optimizer="adamax",
    learning_rate=1e-2,
    final_learning_rate=1e-3,
    decay=0.98,
    decay_steps=1000,
    warmup_steps=0,
    clip=None,
)
_RESIDUAL = {
    "steps": (16, 16, 16),
    "widths": (528, 528, 528),
    "prior_network": "dense_net",
    "prior_width": 64,
}
_BALANCED = {
    **CIFAR10,
    "steps": (16, 16, 16),
    "split_fraction": 0.5,
    "network": "attention_net",
    "width": 128,
}

for _name, _paper, _summary, _growth, _mixing in (
    (
        "convexp_glow",
        papers.CONVEXP,
        "The model of the mixing experiment at full size, with variational dequantisation.",
        63,
        "conv_exponential",
    ),
    (
        "glow",
        papers.CONVEXP,
        "The 1x1 baseline of the mixing experiment at full size.",
        64,
        "conv1x1",
    ),
    *(
        (
            f"{mixing}_glow",
            paper,
            f"The model of the mixing experiment at full size with {layers}.",
            63,
            mixing,
        )
        for mixing, (layers, paper) in papers.MIXING_BASELINES.items()
    ),
):
    register(
        f"{_name}.cifar10",
        mixing_experiment,
        kind=IMAGES,
        recipe=_MIXING_RECIPE,
        summary=_summary,
        paper=_paper,
        **CIFAR10,
        steps=(10, 10),
        growth=_growth,
        mixing=_mixing,
    )
for _layer, _paper, _summary in (
    ("sylvester", papers.CONVEXP, "The model of the Sylvester experiment at full size."),
    (
        "residual",
        papers.RESIDUAL,
        "The residual baseline of the Sylvester experiment at full size.",
    ),
    (
        "coupling",
        papers.CONVEXP,
        "The coupling baseline of the Sylvester experiment at full size.",
    ),
):
    register(
        f"{_layer}.cifar10",
        residual_type,
        kind=IMAGES,
        recipe=_RESIDUAL_RECIPE,
        summary=_summary,
        paper=_paper,
        **CIFAR10,
        **_RESIDUAL,
        layer=_layer,
    )
register(
    "balanced.cifar10",
    balanced,
    kind=IMAGES,
    recipe=_BALANCED_RECIPE,
    summary="The volume-balanced flow of the paper for CIFAR-10: 3 levels of 16 blocks.",
    paper=papers.BALANCED,
    **_BALANCED,
)
register(
    "balanced.imagenet32",
    balanced,
    kind=IMAGES,
    recipe=dataclasses.replace(_BALANCED_RECIPE, dataset="imagenet_resized/32x32"),
    summary="The volume-balanced flow of the paper for ImageNet at 32x32: 3 levels of 16 blocks.",
    paper=papers.BALANCED,
    **_BALANCED,
)
register(
    "balanced.celebahq1024",
    balanced,
    kind=IMAGES,
    # At the full rate from the first step on, the second is not finite (photographs, batch 1).
    recipe=dataclasses.replace(
        _BALANCED_RECIPE, dataset="folder:celeba_hq", batch_size=4, warmup_steps=1000
    ),
    summary="The volume-balanced flow of the paper for 5-bit 1024x1024 photographs: 8 levels of 12 "
    "blocks.",
    paper=papers.BALANCED,
    image_shape=(1024, 1024, 3),
    num_levels=32,
    steps=(12,) * 8,
    split_fraction=0.75,
    network="conv_net",
    width=256,
)
register(
    "tarflow.imagenet64",
    tarflow,
    kind=IMAGES,
    recipe=transformer_recipe(
        Recipe(
            dataset="downsampled_imagenet/64x64",
            batch_size=256,
            steps=1_000_000,
            learning_rate=1e-4,
            warmup_steps=5_000,
            final_learning_rate=1e-6,
            flip=True,
        ),
        ema=0.9999,
    ),
    summary="TarFlow of the paper for ImageNet at 64x64: 1024 patches, 8 blocks of 8 layers.",
    paper=papers.TARFLOW,
    image_shape=(64, 64, 3),
    num_levels=256,
    patch=2,
    width=768,
    num_blocks=8,
    depth=8,
)
register(
    "jet.imagenet64",
    jet,
    kind=IMAGES,
    recipe=transformer_recipe(
        Recipe(
            dataset="downsampled_imagenet/64x64",
            batch_size=1024,
            steps=250_000,
            learning_rate=3e-4,
            warmup_steps=25_000,
        )
    ),
    summary="Jet of the paper for ImageNet at 64x64: 256 patches, 64 couplings of 5 layers.",
    paper=papers.JET,
    image_shape=(64, 64, 3),
    num_levels=256,
    patch=4,
    width=512,
    num_couplings=64,
    depth=5,
)
