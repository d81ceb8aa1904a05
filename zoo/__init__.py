"""Models by name: `zoo.create("convexp_glow.digits", pretrained=True)`."""

from zoo import balanced as _balanced  # Registers its models.
from zoo import glow as _glow
from zoo import graphs as _graphs
from zoo import mixing_experiment as _mixing_experiment
from zoo import planar as _planar
from zoo import realnvp as _realnvp
from zoo import residual_type as _residual_type
from zoo.models import build, create, create_trained, describe, list_models, load
from zoo.presets import save
from zoo.registry import Model, Recipe, find, register

del _balanced, _glow, _graphs, _mixing_experiment, _planar, _realnvp, _residual_type

__all__ = [
    "Model",
    "Recipe",
    "build",
    "create",
    "create_trained",
    "describe",
    "find",
    "list_models",
    "load",
    "register",
    "save",
]
