"""The experiments that `trainers.reproduce` runs: what is trained, with which flags."""

import dataclasses
import itertools
from collections.abc import Sequence

from trainers.data.node_sets import NAMES as NODE_SETS
from zoo.architectures.building import TOKEN_MIXING
from zoo.catalogue.planar import DATASETS

SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      labels: what tells it from the other runs of the experiment; its columns in the table.
      flags: flags of `trainers.train`.
      crops: side of the crops that it is trained on; `None` for the data of its flags.
      split: what `trainers.evaluate` scores; `None` for nothing.
    """

    labels: dict
    flags: tuple[str, ...]
    crops: int | None = None
    split: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        return "-".join(str(value).replace(" ", "_") for value in self.labels.values())


# Adamax at the paper's 0.01, without warm-up and clipping, so that nothing hides an instability.
_BARE = tuple(
    f"--recipe={entry}"
    for entry in (
        "optimizer=adamax",
        "learning_rate=0.01",
        "final_learning_rate=0.001",
        "decay=0.98",
        "decay_steps=1000",
        "warmup_steps=0",
        "clip=null",
    )
)
# Couplings as the paper has them. Those of tfflows return one over the number of blocks of it.
_PAPER = "--set=gain=1.0"
_STABILITY = {
    "Glow": ("--model=glow.cifar10_small", "--set=widths=[16,16]"),
    "balanced": ("--model=balanced.cifar10_small", "--set=width=16"),
    "paper": ("--model=balanced.cifar10_small", "--set=width=16", _PAPER),
    "unconstrained": (
        "--model=balanced.cifar10_small",
        "--set=width=16",
        _PAPER,
        "--set=constrained=false",
    ),
}


def stability(
    depths: Sequence[int] = (8, 32, 64), sizes: Sequence[int] = (8, 32, 64), steps: int = 80
) -> list[Run]:
    """Glow, balanced flow and the balanced flow without its constraints, by depth and size."""
    runs = []
    for (model, flags), depth, size in itertools.product(_STABILITY.items(), depths, sizes):
        half = depth // 2
        runs.append(
            Run(
                {"model": model, "blocks": depth, "size": size},
                (
                    *flags,
                    *_BARE,
                    "--recipe=warmup_steps=40",  # Without, all stop at once at 64 blocks.
                    f"--set=steps=[{half},{half}]",
                    f"--set=image_shape=[{size},{size},3]",
                    "--batch_size=16",
                    f"--steps={steps}",
                    f"--report_every={steps // 2}",
                    "--num_validation=128",
                    "--volume",
                    "--volume_iterations=0",
                ),
                crops=size,
            )
        )
    return runs


def depth(steps: int = 2000) -> list[Run]:
    """A balanced flow of 64 blocks on crops: a recipe that starts slowly, and a bare one."""
    flags = (
        "--model=balanced.cifar10_small",
        "--set=steps=[32,32]",
        "--set=image_shape=[8,8,3]",
        "--set=width=32",
        _PAPER,
        "--batch_size=64",
        f"--steps={steps}",
        f"--report_every={steps // 4}",
        "--num_validation=1024",
        "--volume",
        "--volume_iterations=2",
    )
    slow = [
        f"--recipe={entry}" for entry in ("learning_rate=0.005", "warmup_steps=400", "clip=100.0")
    ]
    return [
        Run({"recipe": name, "blocks": 64, "size": 8}, (*flags, *recipe), crops=8)
        for name, recipe in (("slow start", slow), ("bare", _BARE))
    ]


def lipschitz(steps: int = 200, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """The balanced flow, with tighter constraints on its blocks, and with none (Fig. 4)."""
    variants = {
        "baseline": (),
        "tanh": ("--set=contraction=tanh",),
        "normal CDF": ("--set=contraction=normal_cdf",),
        "transport cost": ("--transport_cost=0.05",),
        "unconstrained": ("--set=constrained=false",),
    }
    return [
        Run(
            {"variant": variant, "seed": seed},
            (
                "--model=balanced.cifar10_small",
                "--dataset=cifar10",
                "--set=steps=[3,2,2]",
                "--set=width=48",
                _PAPER,
                *flags,
                "--recipe=warmup_steps=100",
                f"--steps={steps}",
                f"--report_every={steps // 5}",
                "--num_validation=512",
                "--volume",
                "--volume_iterations=0",
                f"--seed={seed}",
            ),
        )
        for (variant, flags), seed in itertools.product(variants.items(), seeds)
    ]


def density(steps: int = 1000, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """RealNVP, neural spline flow, Glow and balanced flow of one size on CIFAR-10.

    The last two with convolution exponentials, too.
    """
    adam, adamax = ("adam", 8e-3), ("adamax", 2e-2)
    contestants = [(m, *adam, seed) for seed in seeds for m in ("realnvp", "glow", "rq_nsf")]
    contestants += [("balanced", *adamax, seed) for seed in seeds]
    contestants += [("convexp_glow", *adam, seed) for seed in seeds]
    contestants += [("convexp_balanced", *adamax, seed) for seed in seeds]
    # Is it the optimiser?
    contestants += [("glow", *adamax, seeds[0]), ("balanced", *adam, seeds[0])]
    return [
        Run(
            {"model": model, "optimizer": optimizer, "rate": rate, "seed": seed},
            (
                f"--model={model}.cifar10_small",
                *([_PAPER] if model == "balanced" else []),
                "--dataset=cifar10",
                f"--recipe=optimizer={optimizer}",
                f"--learning_rate={rate}",
                f"--steps={steps}",
                f"--report_every={steps // 5}",
                "--num_validation=512",
                f"--seed={seed}",
            ),
            split="test[:3000]",
        )
        for model, optimizer, rate, seed in contestants
    ]


def planar(steps: int = 2000) -> list[Run]:
    """All architectures on the data sets in the plane."""
    return [
        Run(
            {"model": architecture, "dataset": dataset},
            (
                f"--model={architecture}.{dataset}",
                *([_PAPER] if architecture == "balanced" else []),
                f"--steps={steps}",
                f"--report_every={steps // 4}",
            ),
            split="test",
        )
        for dataset, architecture in itertools.product(
            DATASETS, ("realnvp", "glow", "maf", "rq_nsf", "balanced")
        )
    ]


def _cifar10(labels, model, steps, seed, *flags, reports=5):
    """Returns a run on CIFAR-10, scored on 3000 test images."""
    return Run(
        {**labels, "seed": seed},
        (
            f"--model={model}",
            "--dataset=cifar10",
            *flags,
            f"--steps={steps}",
            f"--report_every={steps // reports}",
            "--num_validation=512",
            f"--seed={seed}",
        ),
        split="test[:3000]",
    )


def mixing(steps: int = 300, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """Five mixing layers in the same Glow: the first experiment of Hoogeboom et al. (2020)."""
    models = {
        "1x1": "glow.cifar10_small_wide",
        "emerging": "emerging_glow.cifar10_small",
        "Woodbury": "woodbury_glow.cifar10_small",
        "periodic": "periodic_glow.cifar10_small",
        "exponential": "convexp_glow.cifar10_small",
    }
    return [
        _cifar10({"mixing": kind}, model, steps, seed)
        for seed, (kind, model) in itertools.product(seeds, models.items())
    ]


# Two steps a level, and a warm-up that leaves most of a short run for training.
_SHORT = ("--set=steps=[2,2,2]", "--recipe=warmup_steps=50")


def residual_type(steps: int = 400, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """Couplings, residual blocks and convolutional Sylvester layers."""
    return [
        _cifar10({"layer": layer}, f"{layer}.cifar10_small", steps, seed, *_SHORT)
        for seed, layer in itertools.product(seeds, ("coupling", "residual", "sylvester"))
    ]


def ablations(steps: int = 400, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """The Sylvester layer without its basis, and without the generalisation."""
    variants = {"no basis": "--set=basis=false", "not generalised": "--set=generalized=false"}
    return [
        _cifar10({"variant": variant}, "sylvester.cifar10_small", steps, seed, *_SHORT, flag)
        for seed, (variant, flag) in itertools.product(seeds, variants.items())
    ]


# What is changed of `convexp_glow.cifar10_small`; widths keep its 743,844 parameters, to 1 %.
_IMPROVEMENTS = {
    "nothing": (),
    "averaged weights": ("--ema=0.98",),
    "bfloat16": ("--precision=mixed_bfloat16",),
    "twice the rate": ("--learning_rate=0.008",),
    "twice the batch": ("--batch_size=64", "--recipe=warmup_steps=100"),
    "wide first": ("--set=widths=[96,84,80]",),
    "narrow first": ("--set=widths=[32,96,118]",),
    "two exponentials": ("--set=exponentials=2", "--set=widths=[64,93,92]"),
    "all exponentials": ("--set=exponentials=null", "--set=widths=[62,82,82]"),
    "splines": ("--set=num_bins=8", "--set=widths=[12,15,16]"),
    "mixtures": ("--set=num_mixtures=4", "--set=widths=[17,25,25]"),
    "flow dequantiser": ("--set=dequantizer_width=24", "--set=widths=[60,92,92]"),
}


def improvements(steps: int = 400, seeds: Sequence[int] = SEEDS[:2]) -> list[Run]:
    """One change at a time to a small Glow, at as many parameters and training images."""
    return [
        _cifar10(
            {"change": change},
            "convexp_glow.cifar10_small",
            steps // 2 if change == "twice the batch" else steps,
            seed,
            *flags,
            reports=1,
        )
        for seed, (change, flags) in itertools.product(seeds, _IMPROVEMENTS.items())
    ]


def graph(steps: int = 1000, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """Three flows of node features, of half their usual depth, on four sets."""
    models = ("graph_coupling", "gnf", "gnf_convexp")
    return [
        Run(
            {"model": model, "dataset": dataset, "seed": seed},
            (
                f"--model={model}.{dataset}",
                "--set=num_blocks=4",
                "--batch_size=128",
                "--recipe=warmup_steps=100",
                f"--steps={steps}",
                f"--report_every={steps // 5}",
                f"--seed={seed}",
            ),
            split="test[:20000]",
        )
        for seed, dataset, model in itertools.product(seeds, NODE_SETS, models)
    ]


def tokens(steps: int = 2000, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """Transformer flows of the digits, with and without exponentials between their blocks."""
    return [
        Run(
            {"model": model, "between": between or "nothing", "seed": seed},
            (
                f"--model={model}.digits",
                *([] if between is None else [f"--set=mixing={between}"]),
                f"--steps={steps}",
                f"--report_every={steps // 5}",
                f"--seed={seed}",
            ),
            split="test",
        )
        for seed, model, between in itertools.product(
            seeds, ("tarflow", "jet"), (None, *TOKEN_MIXING)
        )
    ]


EXPERIMENTS = {
    "mixing": mixing,
    "residual_type": residual_type,
    "ablations": ablations,
    "improvements": improvements,
    "graph": graph,
    "planar": planar,
    "stability": stability,
    "depth": depth,
    "lipschitz": lipschitz,
    "density": density,
    "tokens": tokens,
}
