"""Models by name: `zoo.create("convexp_glow.digits", pretrained=True)`."""

from zoo.architectures import balanced as _balanced
from zoo.architectures import glow as _glow
from zoo.architectures import graphs as _graphs
from zoo.architectures import mixing_experiment as _mixing_experiment
from zoo.architectures import planar as _planar
from zoo.architectures import realnvp as _realnvp
from zoo.architectures import residual_type as _residual_type
from zoo.models import build, create, create_trained, describe, list_models, load
from zoo.registry import Model, Recipe, find, register
from zoo.storage.presets import save

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
