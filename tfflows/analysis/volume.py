"""Volume, variance and steepness of every layer: Liao and He (2021), Proposition 1."""

import dataclasses
from collections.abc import Hashable, Mapping

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfflows.analysis.layers import record_layers
from tfflows.analysis.round_trip import round_trip_error
from tfflows.evaluation.evaluate import forward_and_log_det
from tfflows.evaluation.parts import dtype_of, parts
from tfflows.numerics.parameters import as_data
from tfflows.types import TensorLike


@dataclasses.dataclass(frozen=True)
class LayerVolume:
    """What one layer does to volumes, over a batch.

    Attributes:
      name: name of the bijector.
      log_det: mean log-det, nats an event.
      num_dims: `d`, dimensions of an event.
      variance: variance of the output over batch and event.
      spectral_norm: largest singular value of the Jacobian, the largest over the batch; a lower
        bound that power iteration raises towards it. `None` if it was not asked for.
      gradient_norm: norm of the gradient of the loss with respect to the layer's variables. `None`
        if no loss was given.
      drift: largest difference between the layer's input and what its inverse makes of its output:
        the error that `evaluation.memory("invert")` adds there. `None` if it was not asked for.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import analysis, bijectors

    for layer in analysis.volume_report(bijectors.Squeeze(), tf.ones([2, 4, 4, 1])):
        print(layer.name, layer.log_det_per_dim)  # squeeze 0.0
    ```
    """

    name: str
    log_det: float
    num_dims: int
    variance: float
    spectral_norm: float | None = None
    gradient_norm: float | None = None
    drift: float | None = None

    @property
    def log_det_per_dim(self) -> float:
        """Mean log-det over the dimensions: the logarithm of the mean expansion of a side."""
        return self.log_det / self.num_dims


def volume_report(
    flow: tfb.Bijector,
    x: TensorLike,
    *,
    num_iterations: int = 0,
    gradients: Mapping[Hashable, tf.Tensor] | None = None,
    drift: bool = False,
) -> list[LayerVolume]:
    """Returns a `LayerVolume` for every layer of a flow, in the order of evaluation.

    Liao and He (2021), section 2.3: with `|f_l'| <= K_l`, inequality (8) bounds the volume,
    `log|det f_l'| <= d log K_l`, and by Proposition 1 gradients that are bounded need both to be.
    So `log_det_per_dim <= log spectral_norm`, where the report takes the mean of the former and the
    largest of the latter over the batch.

    Args:
      flow: any `tfb.Bijector`; composed ones are reported by their parts.
      x: a batch of data, in eager mode.
      num_iterations: power iterations for the singular values, with products of the Jacobian and
        its transpose with vectors; 0 leaves them out. 10 is a fair estimate.
      gradients: a dictionary from `variable.ref()` to gradient, to report their norm by layer.
      drift: whether to invert each layer, and report by how much it misses its input.

    Returns:
      A list of `LayerVolume`.
    """
    x = as_data(x, dtype_of(flow))
    records = record_layers(flow, x, event_ndims=x.shape.rank - 1)
    layers = [r for r in records if not parts(r.bijector)]
    return [_volume(record, num_iterations, gradients, drift) for record in layers]


def _volume(record, num_iterations, gradients, drift):
    size = record.input[0].shape.num_elements()
    spectral_norm = gradient_norm = None
    if num_iterations:
        norms = jacobian_norm(record.bijector, record.input, num_iterations)
        spectral_norm = float(tf.reduce_max(norms))
    if gradients is not None:
        found = [gradients[v.ref()] for v in record.bijector.trainable_variables]
        gradient_norm = float(tf.linalg.global_norm(found)) if found else 0.0
    error = round_trip_error(record.bijector, record.input) if drift else None
    return LayerVolume(
        name=record.name,
        log_det=float(tf.reduce_mean(record.log_det)),
        num_dims=size,
        variance=float(tf.math.reduce_variance(record.output)),
        spectral_norm=spectral_norm,
        gradient_norm=gradient_norm,
        drift=float(tf.reduce_max(error)) if drift else None,
    )


def jacobian_norm(
    bijector: tfb.Bijector, x: TensorLike, num_iterations: int = 10, seed: int = 0
) -> tf.Tensor:
    """Returns the largest singular value of the Jacobian of `forward` at every event of a batch.

    Power iteration with `J^T J`, by a forward-mode product and a reverse-mode product. The result
    is a lower bound for any number of iterations.

    Args:
      bijector: any `tfb.Bijector`.
      x: a batch `[N, *event]`.
      num_iterations: number of products with `J^T J`.
      seed: Python `int`, of the first vectors.

    Returns:
      A `Tensor` `[N]`.
    """
    x = as_data(x, dtype_of(bijector))
    axes = list(range(1, x.shape.rank))

    def unit(v):
        return tf.math.divide_no_nan(v, tf.sqrt(tf.reduce_sum(v**2, axes, keepdims=True)))

    v = unit(tf.random.stateless_normal(tf.shape(x), [seed, 0], dtype=x.dtype))
    for _ in range(num_iterations):
        v = unit(_transposed_product(bijector, x, _product(bijector, x, v)))
    image = _product(bijector, x, v)
    return tf.sqrt(tf.reduce_sum(tf.reshape(image, [len(x), -1]) ** 2, axis=1))


def _product(bijector, x, v):
    """Returns `J v`: `u -> J^T u` is linear, and its own transposed product is `J v`."""
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            y, _ = forward_and_log_det(bijector, x)
        u = tf.zeros_like(y)
        outer.watch(u)
        pulled = tape.gradient(y, x, u, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return outer.gradient(pulled, u, v, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _transposed_product(bijector, x, u):
    """Returns `J^T u`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y, _ = forward_and_log_det(bijector, x)
    return tape.gradient(y, x, u, unconnected_gradients=tf.UnconnectedGradients.ZERO)
