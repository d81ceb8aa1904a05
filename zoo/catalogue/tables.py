"""Models of the rows of tables, of any number of columns: those of the data that they train on."""

from zoo.architectures.tables import (
    table_autoregressive,
    table_balanced,
    table_coupling,
    table_tarflow,
)
from zoo.catalogue import papers
from zoo.registry import TABLES, Recipe, register

_RECIPE = Recipe(
    dataset="sklearn:wine",
    batch_size=128,
    steps=2_000,
    learning_rate=1e-3,
    warmup_steps=100,
    clip=5.0,
)
# Until the data of a run are known, which bring their own.
_COLUMNS = 2


def _register(architecture, builder, what, paper, **arguments):
    register(
        f"{architecture}.table",
        builder,
        kind=TABLES,
        recipe=_RECIPE,
        summary=f"{what} for the rows of a table.",
        paper=paper,
        columns=_COLUMNS,
        **arguments,
    )


_register(
    "maf",
    table_autoregressive,
    "Masked autoregressive flow",
    papers.MAF,
    num_bins=None,
    linear=False,
)
_register(
    "rq_nsf_ar",
    table_autoregressive,
    "Autoregressive neural spline flow",
    papers.RQ_NSF,
    num_bins=8,
    linear=True,
)
_register("realnvp", table_coupling, "RealNVP", papers.REALNVP, num_bins=None, linear=False)
_register("rq_nsf", table_coupling, "Neural spline flow", papers.RQ_NSF, num_bins=8, linear=True)
_register("balanced", table_balanced, "Volume-balanced flow", papers.BALANCED)
_register("tarflow", table_tarflow, "TarFlow with a token for each column", papers.TARFLOW)
