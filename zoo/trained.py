"""`Trained`: a trained model with all that programs ask of it."""

import dataclasses
import os
import pathlib
import re
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import evaluation, networks
from tfflows.conditioning import expected_context, guide
from tfflows.distributions import density_of, is_discrete, to_real
from tfflows.inference import for_inference
from zoo import registry
from zoo.storage import files, presets

tfb = tfp.bijectors
tfd = tfp.distributions
_LONGEST = 200  # Name of a class, which may come from strangers.


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
      distribution: the model as it was trained: `Dequantized` for images, and for rows of a table
        with integers.
      entry: the entry of the zoo that it is one of, with the arguments that it was built from.
      dataset: name of the data that it was trained on.
      folder: the preset.

    #### Example

    ```python
    import zoo

    model = zoo.open_trained("balanced.two_moons")
    model.density.sample(5, seed=1).shape  # [5, 2]
    ```
    """

    distribution: tfd.Distribution
    entry: registry.Model
    dataset: str
    folder: pathlib.Path

    @property
    def kind(self) -> registry.Kind:
        """What its events are."""
        return self.entry.kind

    @property
    def is_discrete(self) -> bool:
        """Whether its events, or columns of them, are integers."""
        return is_discrete(self.distribution)

    @property
    def density(self) -> tfd.TransformedDistribution:
        """The density over real events: of images, the one with noise."""
        return density_of(self.distribution)

    @property
    def flow(self) -> tfb.Bijector:
        """The flow, from data to latents."""
        return self.density.bijector.bijector

    @property
    def event_shape(self) -> tf.TensorShape:
        """Shape of an event."""
        return self.distribution.event_shape

    @property
    def num_levels(self) -> int | None:
        """Number of values of a pixel; `None` if the events are no integers."""
        return self.entry.num_levels

    @property
    def metadata(self) -> dict:
        """What the preset says of its training; empty if it has no `metadata.json`."""
        path = self.folder / "metadata.json"
        return files.read_json(path) if path.is_file() else {}

    @property
    def is_conditional(self) -> bool:
        """Whether it is a distribution given something that it has not been given."""
        return expected_context(self.distribution) is not None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes whose labels it is conditional on; `None` if it is on none."""
        names = self.metadata.get("classes")
        if names is None:
            return None
        size = self.entry.context_size
        if not (
            isinstance(names, list)
            and len(names) == size
            and all(isinstance(name, str) and len(name) <= _LONGEST for name in names)
        ):
            raise ValueError(
                f"{self.folder / 'metadata.json'} must have `classes`, {size} short texts. "
                f"Received: {str(names)[:_LONGEST]}."
            )
        return tuple(names)

    @property
    def class_frequencies(self) -> np.ndarray:
        """Frequencies of the classes among what it was trained on; alike if that is not known."""
        count = len(self.classes or ())
        found = self.metadata.get("class_frequencies", [1 / max(count, 1)] * count)
        known = isinstance(found, list) and all(isinstance(f, (int, float)) for f in found)
        if not (known and len(found) == count and min(found) >= 0 and 0 < sum(found) < 2):
            raise ValueError(
                f"{self.folder / 'metadata.json'} must have `class_frequencies`, a part of 1 for "
                f"each of {count} classes. Received: {str(found)[:_LONGEST]}."
            )
        return np.array(found) / sum(found)

    def number_of(self, label: str | int) -> int:
        """Returns the number of a class.

        Args:
          label: its name, or if there is none of that name its number; an `int` is a number.

        Raises:
          ValueError: if there is no such class, or the model knows none.
        """
        classes = self.classes
        if classes is None or not self.is_conditional:
            raise ValueError(
                "`label` must not be given: the model is not conditional on labels. "
                f"Received: label={label}, model {self.entry.name!r}."
            )
        if isinstance(label, str) and label in classes:
            return classes.index(label)
        if re.fullmatch(r"\d{1,9}", str(label)) and int(label) < len(classes):
            return int(label)
        shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        raise ValueError(
            f"`label` must be one of {len(classes)} classes, {shown}, or a number from 0 to "
            f"{len(classes) - 1}. Received: label={label}."
        )

    def condition(self, label: str | int) -> tfd.Distribution:
        """Returns the distribution of a class, as `distribution` is one.

        Args:
          label: see `number_of`.

        #### Example

        ```python
        import zoo

        model = zoo.open_trained("glow.digits_by_class")
        model.condition(3).sample(4, seed=1).shape  # [4, 8, 8, 1]
        ```
        """
        return self.given(self.number_of(label)).distribution

    def given(self, y: Any, guidance: float = 0.0) -> "Trained":
        """Returns the model given something, as which it is conditional no more.

        Args:
          y: numbers of classes, `[N]`, or contexts `[N, K]`, for batches of `N` events; or one of
            them, `[]` or `[K]`, for any. `None` of a model that is not conditional.
          guidance: how much more it counts, see `tfflows.guide`.

        Raises:
          ValueError: if it is not what the model is conditional on.
        """
        if y is None and not self.is_conditional:
            return self
        if y is None or not self.is_conditional:
            what = "must be given" if self.is_conditional else "must not be given"
            raise ValueError(f"`y` {what} to {self.entry.name!r}. Received: y={y!s:.50}.")
        y = tf.convert_to_tensor(y)
        if y.dtype.is_integer and self.classes is not None:
            y = networks.OneHot(len(self.classes), dtype="float32")(y)
        return dataclasses.replace(self, distribution=guide(self.distribution, y, guidance))

    def for_inference(self) -> "Trained":
        """Returns the model with all that depends on its weights alone computed once.

        See `tfflows.for_inference`.
        """
        return dataclasses.replace(self, distribution=for_inference(self.distribution))

    def check(self, x: tf.Tensor) -> None:
        """Raises a `ValueError` if events are not the integers that the model is over."""
        if self.is_discrete:
            self.distribution.check(x)

    def log_prob(self, x: tf.Tensor, seed: Any, num_samples: int = 1) -> tf.Tensor:
        """Returns `log P(x)` or `log p(x)`, in nats, one value an event.

        Args:
          x: a batch of events, `[N, ...]`.
          seed: stateless seed `[2]` of the dequantiser, and of log-dets that are estimated.
          num_samples: samples of the dequantiser an image; more than 1 tighten the bound.
        """
        if self.is_discrete:
            return self.distribution.importance_log_prob(x, num_samples, seed=seed)
        with evaluation.estimating(seed):
            return self.distribution.log_prob(x)

    def score(self, x: tf.Tensor, seed: Any, num_samples: int = 1) -> tf.Tensor:
        """Returns `-log_prob`, see there, in the units of the kind."""
        nats = self.kind.nats(self.event_shape.as_list())
        return -self.log_prob(x, seed, num_samples) / nats

    def dequantize(self, x: tf.Tensor, seed: Any) -> tf.Tensor:
        """Returns what the flow gets of a batch: images plus noise, other events as they are."""
        return to_real(self.distribution, x, seed)


def open_trained(name: str | os.PathLike, dataset: str | None = None) -> Trained:
    """Returns a trained model by name or path.

    Args:
      name: a name of `zoo.list_models(pretrained=True)`, or the path of a preset, a folder, or the
        URL of one that `zoo.bundle` wrote, which is fetched once.
      dataset: what it was trained on, if that is not what the recipe of its entry says.

    Raises:
      ValueError: if there is no such model, or a file of it is missing, damaged or altered.
      OSError: if a URL can't be fetched.

    #### Example

    ```python
    import tensorflow as tf
    import zoo

    model = zoo.open_trained("balanced.two_moons")
    scores = model.score(tf.zeros([5, 2]), seed=[0, 0])  # nats, [5]
    ```
    """
    folder = presets.find(name)
    distribution, entry = presets.load_trained(folder)
    return Trained(distribution, entry, dataset or entry.recipe.dataset, folder)
