"""Models by name: `zoo.create("convexp_glow.digits", pretrained=True)`."""

from zoo import balanced as _balanced  # Registers its models.
from zoo import glow as _glow
from zoo import realnvp as _realnvp
from zoo.models import build, create, describe, list_models
from zoo.presets import load, save
from zoo.registry import Model, Recipe, find, register

del _balanced, _glow, _realnvp

__all__ = [
    "Model",
    "Recipe",
    "build",
    "create",
    "describe",
    "find",
    "list_models",
    "load",
    "register",
    "save",
]
