"""What the files for JAX compute: the functions of a model, of seeds as JAX has them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tfflows.distributions import density_of, is_discrete, with_temperature
from trainers.exporting import condition_of, is_estimated, make_functions

tfd = tfp.distributions
SEED = tf.TensorSpec([2], tf.uint32, "seed")


@dataclasses.dataclass(frozen=True)
class Function:
    """What a file computes.

    Attributes:
      compute: a function of tensors, first the `rows` and then the `others`, to a dict of tensors
        `[N, ...]`. It is of each row by itself, but for the noise that a seed stands for.
      rows: the arguments that are batches, `[None, ...]`.
      others: those that are not.
      has_gradient: whether the gradient with respect to its `rows` of floats is in the file.
    """

    compute: Callable[..., dict[str, tf.Tensor]]
    rows: list[tf.TensorSpec]
    others: list[tf.TensorSpec]
    has_gradient: bool = True

    @property
    def arguments(self) -> list[tf.TensorSpec]:
        """All arguments."""
        return [*self.rows, *self.others]

    def gradient(self, *arguments: tf.Tensor) -> list[tf.Tensor]:
        """Returns the cotangents of the rows of floats.

        Args:
          *arguments: the rows, the cotangents of the results of floats, the others.
        """
        count = len(self.others)
        rows, others = arguments[: len(self.rows)], arguments[len(arguments) - count :]
        cotangents = arguments[len(self.rows) : len(arguments) - count]
        watched = [row for row in rows if row.dtype.is_floating]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            results = self.compute(*rows, *others).values()
            results = [value for value in results if value.dtype.is_floating]
        return tape.gradient(
            results,
            watched,
            list(cotangents),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )


def make_jax_functions(
    distribution: tfd.Distribution, num_classes: int | None = None
) -> dict[str, Function]:
    """Returns the functions of a model, by name.

    They are those of `trainers.export.make_module`, but for `sample`, which takes a seed for each
    sample, and for `density` of models of images, `log p` of real ones. Seeds are `uint32` `[2]`,
    as `jax.random.PRNGKey` returns them.
    """
    given, bind = condition_of(distribution, num_classes)
    density = density_of(distribution)
    functions = {}
    for name, (compute, signature) in make_functions(distribution, num_classes).items():
        if name != "sample":
            functions[name] = _of_rows(compute, signature)
    decode = functions["decode"].compute
    conditions = [] if given is None else [given]

    def log_prob(x, *others):
        *y, seed = others if is_estimated(density) else (*others, None)
        with tfflows.evaluation.estimating(seed):
            return {"log_prob": density_of(bind(*y) if y else distribution).log_prob(x)}

    def sample(*arguments):
        *y, seeds, temperature = arguments
        bound = with_temperature(density_of(bind(*y) if y else distribution), temperature)
        base = bound.distribution
        if base.batch_shape.rank != 0:
            raise ValueError(
                "The base of the model must be one for all events. "
                f"Received: a base of batch shape {base.batch_shape}."
            )
        z = tf.map_fn(
            lambda seed: base.sample(seed=seed),
            tf.bitcast(seeds, tf.int32),
            fn_output_signature=tf.TensorSpec(base.event_shape, base.dtype),
        )
        # There are no assertions under XLA.
        return decode(tf.where(temperature > 0, z, np.nan), *y)

    if is_discrete(distribution) and distribution.entries is None:
        x = tf.TensorSpec([None, *distribution.event_shape], density.dtype, "x")
        seed = [tf.TensorSpec([2], tf.int32, "seed")] if is_estimated(density) else []
        functions["density"] = _of_rows(log_prob, [x, *conditions, *seed])
    seeds = tf.TensorSpec([None, 2], tf.uint32, "seeds")
    temperature = tf.TensorSpec([], density.dtype, "temperature")
    functions["sample"] = Function(sample, [*conditions, seeds], [temperature], False)
    return functions


def _of_rows(compute, signature):
    """Returns a function of rows, and perhaps a seed as JAX has them."""
    rows = [spec for spec in signature if spec.name != "seed"]

    def compute_with_seed(*arguments):
        *arguments, seed = arguments
        return results(compute(*arguments, tf.bitcast(seed, tf.int32)))

    def results(found):
        return {name: value for name, value in found.items() if name != "bits_per_dim"}

    has_gradient = any(spec.dtype.is_floating for spec in rows)
    if len(rows) == len(signature):
        return Function(lambda *rows: results(compute(*rows)), rows, [], has_gradient)
    return Function(compute_with_seed, rows, [SEED], has_gradient)


def fold(jax: Any, other: Any, number: Any) -> Any:
    """Returns what a chunk gets: the first a seed as it is, the others one that follows from it."""
    if other.shape != (2,):
        return other
    key = jax.random.wrap_key_data(other, impl="threefry2x32")
    folded = jax.random.key_data(jax.random.fold_in(key, number))
    return jax.numpy.where(number == 0, other, folded)
