"""Models of points in the plane, each architecture for eight data sets."""

from zoo.architectures.planar import planar_balanced, planar_coupling, planar_maf
from zoo.catalogue import papers
from zoo.registry import POINTS, Recipe, register

DATASETS = (
    "checkerboard",
    "cosine",
    "eight_gaussians",
    "pinwheel",
    "rings",
    "spirals",
    "swiss_roll",
    "two_moons",
)
_RECIPE = {"batch_size": 512, "steps": 5_000, "learning_rate": 2e-3, "clip": None}
_BALANCED_RECIPE = {
    "batch_size": 512,
    "steps": 5_000,
    "optimizer": "adamax",
    "learning_rate": 1e-2,
    "final_learning_rate": 1e-3,
    "clip": None,
}


def _register(architecture, builder, recipe, what, paper, **arguments):
    for dataset in DATASETS:
        register(
            f"{architecture}.{dataset}",
            builder,
            kind=POINTS,
            recipe=Recipe(dataset=dataset, **recipe),
            summary=f"{what} for points in the plane: {dataset.replace('_', ' ')}.",
            paper=paper,
            **arguments,
        )


_register("balanced", planar_balanced, _BALANCED_RECIPE, "Volume-balanced flow", papers.BALANCED)
_register(
    "realnvp", planar_coupling, _RECIPE, "RealNVP", papers.REALNVP, num_bins=None, linear=False
)
_register("glow", planar_coupling, _RECIPE, "Glow", papers.GLOW, num_bins=None, linear=True)
_register(
    "rq_nsf",
    planar_coupling,
    _RECIPE,
    "Neural spline flow",
    papers.RQ_NSF,
    num_blocks=8,
    num_bins=16,
    linear=True,
)
_register("maf", planar_maf, _RECIPE, "Masked autoregressive flow", papers.MAF)
