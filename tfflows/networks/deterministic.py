"""`Deterministic`: a layer that is called as outside of training."""

from collections.abc import Mapping
from typing import Any, Self

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfflows")
class Deterministic(keras.layers.Layer):
    """Calls a layer with `training=False`, always.

    In training a flow refuses layers that make it no bijection, such as `Dropout`, `GaussianNoise`
    and `BatchNormalization`. Wrapped, these are what they are outside of training: the first two do
    nothing, the last uses its moving averages, which stay as they are. Weights are trained all the
    same. Variables, and their order, are those of the layer.

    Args:
      layer: a Keras layer, or a whole network.
      **kwargs: other arguments of `keras.layers.Layer`.

    #### Example

    ```python
    import keras
    from tfflows import bijectors, networks

    network = keras.Sequential([
        keras.Input([1]), keras.layers.Dense(8, "silu"), keras.layers.Dropout(0.1),
        keras.layers.Dense(2)])
    flow = bijectors.Coupling(networks.Deterministic(network), [2], bijectors.transforms.Affine())
    ```
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.built = layer.built

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Calls the layer."""
        return self.layer(*([x] if context is None else [x, context]), training=False)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Self:
        """Makes a layer from what `get_config` returned."""
        layer = keras.saving.deserialize_keras_object(config["layer"], custom_objects)
        return cls(**{**config, "layer": layer})
