"""Metrics of which Keras knows that smaller is better."""

from tfflows.bijectors._private import MetricsList


class ShownMetrics(MetricsList):
    """Metrics of losses. `EarlyStopping` and `ModelCheckpoint` ask such a list for a direction.

    Args:
      metrics: `keras.metrics.Mean`s.
    """

    def __init__(self, metrics):
        super().__init__(metrics, name="shown")
        for metric in metrics:
            metric._direction = "down"

    def result(self):
        """Returns the values under their names."""
        return self.get_result()
