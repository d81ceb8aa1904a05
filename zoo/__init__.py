"""Models by name: `zoo.create("convexp_glow.digits", pretrained=True)`."""

from zoo import glow as _glow  # Registers its models.
from zoo.presets import load, save
from zoo.registry import Model, Recipe, create, describe, list_models, register

del _glow

__all__ = ["Model", "Recipe", "create", "describe", "list_models", "load", "register", "save"]
