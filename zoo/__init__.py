"""Models by name: `zoo.create("convexp_glow.digits", pretrained=True)`."""

from zoo import catalogue as _catalogue  # Registers its models.
from zoo.models import build, create, describe, list_models, load, with_image_size
from zoo.registry import IMAGES, POINTS, SETS, TABLES, Kind, Model, Recipe, find, register
from zoo.storage.presets import bundle, save
from zoo.trained import Trained, open_trained

del _catalogue

__all__ = [
    "IMAGES",
    "POINTS",
    "SETS",
    "TABLES",
    "Kind",
    "Model",
    "Recipe",
    "Trained",
    "build",
    "bundle",
    "create",
    "describe",
    "find",
    "list_models",
    "load",
    "open_trained",
    "register",
    "save",
    "with_image_size",
]
