"""`OneHot`: labels as contexts."""

import re
from typing import Any

import keras
import tensorflow as tf

from tfflows._tensorflow import is_compiled_by_xla
from tfflows.types import TensorLike

_RULE = "`y` must be labels 0 .. {}."
_TOLD = re.compile(_RULE.replace("{}", r"\d+") + r" Received: labels from \S+ to -?\d+")
_NO_INDEX = re.compile(r"indices\S* = (-?\d+) is not in \[0, (\d+)\)")


@keras.saving.register_keras_serializable(package="tfflows")
class OneHot(keras.layers.Layer):
    """Labels `0 .. num_classes - 1` as vectors with a 1 at the label: `context=` of `FlowModel`.

    Other labels, which `tf.one_hot` maps to zeros without a word, are an error: a `ValueError` in
    eager mode and in `FlowModel`, an assertion in a `tf.function`. **Under XLA, where there are no
    assertions, they get NaN.**

    Args:
      num_classes: length of the vectors.
      **kwargs: arguments of `keras.layers.Layer`.

    #### Example

    ```python
    from tfflows import networks

    networks.OneHot(3)([2, 0])  # [[0, 0, 1], [1, 0, 0]]
    ```
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "num_classes": self.num_classes}

    def __call__(self, y: TensorLike, **kwargs: Any) -> tf.Tensor | keras.KerasTensor:
        """Calls the layer; labels may be a list."""
        return super().__call__(tf.convert_to_tensor(y) if isinstance(y, list) else y, **kwargs)

    def call(self, y: tf.Tensor) -> tf.Tensor:
        """Maps labels `[...]`, or a column of them `[N, 1]`, to `[..., num_classes]`."""
        y = tf.convert_to_tensor(y)
        if not y.dtype.is_integer:
            rule = _RULE.format(self.num_classes - 1)
            raise ValueError(f"{rule} Received: dtype={y.dtype.name}.")
        if y.shape.rank == 2 and y.shape[-1] == 1:
            y = y[:, 0]
        strange = (y < 0) | (y >= self.num_classes)
        vectors = tf.one_hot(y, self.num_classes, dtype=self.compute_dtype)
        if is_compiled_by_xla():
            return tf.where(
                strange[..., tf.newaxis], tf.constant(float("nan"), vectors.dtype), vectors
            )
        with tf.control_dependencies(self._assert(y, strange)):
            return tf.identity(vectors)

    def _assert(self, y, strange):
        """Returns a graph's assertion that no label is strange; in eager mode raises an error."""
        y, any_strange = tf.cast(y, tf.int64), tf.reduce_any(strange)
        low, high = tf.reduce_min(y), tf.reduce_max(y)
        rule = _RULE.format(self.num_classes - 1)
        if not tf.executing_eagerly():
            message = [f"{rule} Received: labels from", low, "to", high]
            return [tf.debugging.Assert(~any_strange, message)]
        if any_strange:
            raise ValueError(f"{rule} Received: labels from {low} to {high}.")
        return []


def told(message: str) -> str | None:
    """Returns what an error of TensorFlow says of labels that there are not; `None` if nothing.

    Args:
      message: of an error of `OneHot`, or of what a `keras.layers.Embedding` is made of.
    """
    if found := _NO_INDEX.search(message):
        return f"{_RULE.format(int(found[2]) - 1)} Received: label {found[1]}."
    found = _TOLD.search(message.replace("[", "").replace("]", ""))
    return found and f"{found[0]}."
