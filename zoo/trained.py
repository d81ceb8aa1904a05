"""`Trained`: a trained model with all that programs ask of it."""

import dataclasses
import os
import pathlib
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import evaluation
from tfflows.distributions import density_of, is_discrete, to_real
from zoo import registry
from zoo.storage import files, presets

tfb = tfp.bijectors
tfd = tfp.distributions


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
      name: a name of `zoo.list_models(pretrained=True)`, or the path of a preset, a folder.
      dataset: what it was trained on, if that is not what the recipe of its entry says.

    Raises:
      ValueError: if there is no such model, or a file of it is missing, damaged or altered.

    #### Example

    ```python
    import tensorflow as tf
    import zoo

    model = zoo.open_trained("balanced.two_moons")
    scores = model.score(tf.zeros([5, 2]), seed=[0, 0])  # nats, [5]
    ```
    """
    distribution, entry = presets.load_trained(name)
    folder = files.local(presets.folder(name))
    return Trained(distribution, entry, dataset or entry.recipe.dataset, folder)
