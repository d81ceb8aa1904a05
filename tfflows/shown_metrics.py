"""Metrics of which Keras knows that smaller is better."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfflows._tensorflow import MetricsList


class ShownMetrics(MetricsList):
    """Metrics of losses. `EarlyStopping` and `ModelCheckpoint` ask such a list for a direction.

    Args:
      metrics: `keras.metrics.Mean`s.
    """

    def __init__(self, metrics: Sequence[keras.metrics.Metric]) -> None:
        super().__init__(metrics, name="shown")
        for metric in metrics:
            metric._direction = "down"

    def show(self, metric: keras.metrics.Metric, on: bool) -> None:
        """Adds a metric as the last, or takes it away; does nothing where this is done."""
        metric._direction = "down"
        others = [known for known in self.metrics if known is not metric]
        self.metrics[:] = [*others, metric] if on else others

    def result(self) -> dict[str, tf.Tensor]:
        """Returns the values under their names."""
        return self.get_result()
