"""What `import zoo` offers: list, describe and create models by name or path."""

import dataclasses
import fnmatch
import os
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.distributions import density_of, is_discrete
from zoo import registry
from zoo.architectures.building import ImageShapeError
from zoo.storage import limits, presets


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Returns the names of the models.

    Args:
      pattern: shell wildcards, such as `"convexp_glow.*"`.
      pretrained: whether to list only models with weights.
    """
    names = fnmatch.filter(registry.names(), pattern)
    return [n for n in names if not pretrained or presets.has_weights(n)]


def describe(name: str | os.PathLike) -> str:
    """Returns what is known of a model as text: its card if it is pretrained.

    Args:
      name: a name, or the path or URL of a preset.
    """
    if presets.has_weights(name):
        return presets.read_card(name)
    model = registry.find(str(name))
    lines = [f"# {model.name}", "", model.summary, "", f"Paper: {model.paper}", ""]
    lines += [f"- {key}: {value}" for key, value in model.arguments.items()]
    recipe = dataclasses.asdict(model.recipe)
    lines += ["", "Trained by default with:", *[f"- {k}: {v}" for k, v in recipe.items()]]
    return "\n".join([*lines, "", "No pretrained weights."])


def create(
    name: str | os.PathLike,
    pretrained: bool = False,
    discrete: bool = False,
    seed: int = 0,
    **overrides: Any,
) -> tfp.distributions.Distribution:
    """Returns a model by name.

    Args:
      name: a name of `list_models()`; or the path of a preset, a folder that `trainers.train` or
        `zoo.save` wrote; or the URL of one that `zoo.bundle` wrote, which is fetched once.
      pretrained: whether to load its weights. Works offline for the weights in the package, and
        for what has been fetched.
      discrete: `False` for the density over real images with values in `[0, num_levels]`, over
        points, or over rows of real columns; `True` for the distribution over integer images, or
        rows with integers, which adds the dequantisation that the model was trained with.
      seed: seed of the initial weights.
      **overrides: arguments of the architecture to change; not with `pretrained`.

    Returns:
      A `tfd.TransformedDistribution`, or a `tfflows.distributions.Dequantized` of one.

    Raises:
      ValueError: if the name is unknown, has no weights, its files are damaged, or `discrete` is
        asked of a model of points.
      OSError: if a URL can't be fetched.

    #### Example

    ```python
    import zoo

    model = zoo.create("convexp_glow.digits", pretrained=True)
    images = model.sample(4, seed=1)  # [4, 8, 8, 1], values in [0, 17]
    log_prob = model.log_prob(images)  # nats
    ```
    """
    if pretrained and overrides:
        raise ValueError(
            "`overrides` change the architecture and can't go with `pretrained=True`. "
            f"Received: {sorted(overrides)}."
        )
    if pretrained or presets.is_place(name):
        distribution, entry = presets.load_trained(name, weights=pretrained, seed=seed)
    else:
        entry = registry.find(str(name))
        distribution = entry.build(seed=seed, **overrides)
    if discrete and not is_discrete(distribution):
        raise ValueError(
            f"`discrete` must be False for {name!r}, whose data are no integers. "
            "Received: discrete=True."
        )
    return distribution if discrete else density_of(distribution)


def load(path: str | os.PathLike) -> tfp.distributions.Distribution:
    """Returns the model of a preset with its weights: `create(path, pretrained=True)`.

    Args:
      path: a name, a path or a URL, see `create`.
    """
    return create(path, pretrained=True)


def with_image_size(entry: registry.Model, height: int, width: int) -> registry.Model:
    """Returns an entry for images of another size, such as those that data are cropped to.

    Args:
      entry: an entry of a model of images.
      height: of the images.
      width: of the images.

    Raises:
      ValueError: if it is none of images, or its builder can't have images of such sides; says
        which are the nearest that it can.

    #### Example

    ```python
    import zoo

    entry = zoo.with_image_size(zoo.find("glow.mnist"), 64, 48)
    entry.event_shape  # (64, 48, 1)
    ```
    """
    if entry.kind != registry.IMAGES:
        raise ValueError(f"{entry.name!r} must be a model of images to have an image size.")
    arguments = {**entry.arguments, "image_shape": (height, width, entry.event_shape[-1])}
    entry = dataclasses.replace(entry, arguments=arguments)
    limits.check_arguments(entry, arguments)
    # Builders check sides before they make variables, of which there may be none here. In a graph:
    # devices may still have to be set up, which has to precede the first tensor.
    try:
        with tf.Graph().as_default(), limits.limit(0, 0):
            entry.build()
    except ImageShapeError:
        raise
    except Exception:  # The first variable; or what the true build says again.
        pass
    return entry


@keras.saving.register_keras_serializable(package="zoo")
def build(name: str, seed: int = 0, **overrides: Any) -> tfp.distributions.Distribution:
    """Returns the distribution of a name as it is trained: what a `.keras` file stores.

    Such a file may come from strangers: sizes are bounded, and a path is no name.

    Raises:
      ValueError: if the name is unknown, or an argument of another type or very large.
    """
    entry = registry.find(str(name))
    limits.check_arguments(entry, overrides)
    with limits.limit():
        return entry.build(seed=seed, **overrides)
