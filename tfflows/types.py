"""The types that signatures name.

TensorFlow, TFP and Keras have no types that a checker knows: it takes theirs for `Any`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

# What `tf.convert_to_tensor` takes: a tensor, variable, array, number, or (nested) list of numbers.
TensorLike: TypeAlias = tf.types.experimental.TensorLike | tfp.util.DeferredTensor

# A parameter of a layer, kept as it is given: variables are read when they are used.
Parameter: TypeAlias = tf.Tensor | tf.Variable | tfp.util.DeferredTensor

# What `tf.as_dtype` takes: a dtype of TensorFlow or NumPy, or its name.
DTypeLike: TypeAlias = tf.DType | np.dtype | type | str

# One value, or a list, tuple or dictionary of them, see `tf.nest`.
Structure: TypeAlias = Any

# Sizes, `None` where any will do or none is known.
Shape: TypeAlias = tf.TensorShape | Sequence[int | None]

# Sizes that all have to be known.
KnownShape: TypeAlias = tf.TensorShape | Sequence[int]

# The rank of an event; of several tensors, one each.
Ndims: TypeAlias = int | np.integer | Sequence[int] | Mapping[str, int]

# An `int` or a stateless seed `[2]` gives the same values at every call, `None` fresh ones.
Seed: TypeAlias = int | Sequence[int] | np.ndarray | tf.Tensor | None

# A Keras layer that is built, or any other function of tensors.
Network: TypeAlias = Callable[..., Any]

TensorFunction: TypeAlias = Callable[[tf.Tensor], tf.Tensor]

# Such as a tensor to an output and the log-det.
PairFunction: TypeAlias = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
