"""Whether files for JAX compute what the model does."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import programs
from tfflows.distributions import density_of, is_discrete
from trainers.exporting import condition_of, flow_of, some_conditions
from trainers.jax_functions import SEED, Function, fold

tfd = tfp.distributions


def check(
    distribution: tfd.Distribution,
    name: str,
    function: Function,
    loaded: Any,
    batch_size: int,
    num_classes: int | None = None,
) -> None:
    """Compares JAX with TensorFlow, for batches of 1, of 3, and of a chunk and one.

    Args:
      distribution: the model.
      name: of the function.
      function: what TensorFlow computes.
      loaded: what `jax.export.deserialize` returned.
      batch_size: rows of a chunk.
      num_classes: see `export`.

    Raises:
      ValueError: if values or gradients differ by more than rounding.
    """
    jax, rng = programs.import_jax(), np.random.default_rng(0)
    value = _Reference(jax, function, function.compute, batch_size)
    gradient = _Reference(jax, function, function.gradient, batch_size)
    wide = any(aval.dtype.itemsize == 8 for aval in (*loaded.in_avals, *loaded.out_avals))
    for count in sorted({1, 3, batch_size + 1}):
        arguments = _some_arguments(distribution, function, count, num_classes)
        expected = value(arguments)
        with jax.enable_x64(wide), jax.default_device(jax.devices("cpu")[0]):
            if function.has_gradient:
                names = [k for k in sorted(expected) if expected[k].dtype.kind == "f"]
                cotangents = [rng.normal(size=expected[k].shape) for k in names]
                cotangents = [
                    c.astype(expected[k].dtype) for k, c in zip(names, cotangents, strict=True)
                ]
                found, gradients = _with_gradient(jax, loaded, arguments, names, cotangents)
            else:
                found = jax.jit(loaded.call)(*arguments)
        found = found if isinstance(found, dict) else {next(iter(expected)): found}
        for key in expected:
            _compare(name, key, np.asarray(found[key]), expected[key])
        if function.has_gradient:
            rows, others = arguments[: len(function.rows)], arguments[len(function.rows) :]
            wanted = gradient([*rows, *cotangents, *others])
            for part, other in zip(gradients, wanted, strict=True):
                _compare(name, "gradient", np.asarray(part), other)


def _with_gradient(jax, loaded, arguments, names, cotangents):
    """Returns what JAX computes, and the cotangents of the arguments of floats."""
    floats = [i for i, value in enumerate(arguments) if value.dtype.kind == "f"]

    def call(*changed):
        given = list(arguments)
        for i, value in zip(floats, changed, strict=True):
            given[i] = value
        return loaded.call(*given)

    def compute(changed, cotangents):
        found, pull_back = jax.vjp(call, *changed)
        if not isinstance(found, dict):
            return found, pull_back(cotangents[0])
        zeros = {k: np.zeros(v.shape, jax.dtypes.float0) for k, v in found.items()}
        return found, pull_back(zeros | dict(zip(names, cotangents, strict=True)))

    return jax.jit(compute)([arguments[i] for i in floats], cotangents)


def _some_arguments(distribution, function, count, num_classes):
    """Returns arguments of a function, of `count` rows."""
    given, bind = condition_of(distribution, num_classes)
    y = [] if given is None else [some_conditions(given, count, num_classes)]
    bound = bind(*y) if y else distribution
    z = density_of(distribution).distribution.sample(count, seed=[0, 1])
    real = flow_of(bound).inverse(z)
    known = {"z": z, "x": real, "y": y and y[0], "temperature": np.ones([], z.dtype.as_numpy_dtype)}
    if is_discrete(distribution) and function.rows[0].dtype == distribution.dtype:
        known["x"] = bound.to_integers(real)
    rng = np.random.default_rng(1)
    known["seed"] = np.array([3, 4], np.uint32)
    known["seeds"] = rng.integers(2**32, size=[count, 2], dtype=np.uint32)
    return [np.asarray(known[spec.name]) for spec in function.arguments]


class _Reference:
    """What TensorFlow computes, as arrays: without XLA, if no random numbers are drawn.

    Args:
      jax: the module.
      function: what has `compute`.
      compute: a function of its rows, or of these and cotangents, and of its others.
      size: rows of a chunk.
    """

    def __init__(self, jax, function, compute, size):
        self._jax, self._num_others, self._size = jax, len(function.others), size
        # Outside of XLA, TensorFlow draws other numbers of the same seed.
        self._is_random = SEED in function.others or not function.has_gradient
        self._compute = compute
        if self._is_random:
            self._compute = tf.function(compute, jit_compile=True, autograph=False)

    def __call__(self, arguments):
        if not self._is_random:
            return self._arrays(arguments)
        count = len(arguments) - self._num_others
        rows, others = arguments[:count], arguments[count:]
        n, parts = len(rows[0]), []
        size = 1 if n == 1 else self._size
        for number, start in enumerate(range(0, n, size)):
            index = np.minimum(np.arange(start, start + size), n - 1)
            of_chunk = [np.asarray(fold(self._jax, other, number)) for other in others]
            parts.append(self._arrays([*(row[index] for row in rows), *of_chunk]))
        return tf.nest.map_structure(lambda *values: np.concatenate(values)[:n], *parts)

    def _arrays(self, arguments):
        found = self._compute(*map(tf.constant, arguments))
        return tf.nest.map_structure(np.asarray, found)


def _compare(name, key, found, expected):
    """Raises an error if arrays differ by more than rounding."""
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"The model can't be exported: `{key}` of its `{name}` has to be {expected.dtype} "
            f"{expected.shape}. Received: {found.dtype} {found.shape}."
        )
    found, expected = np.float64(found), np.float64(expected)
    size = max(1.0, float(np.nanmax(np.abs(expected), initial=0)))
    tolerance = 1e-3 * size
    if not np.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True):
        raise ValueError(
            f"The model can't be exported: `{key}` of its `{name}` is something else in JAX. "
            f"Received: a difference of {np.nanmax(np.abs(found - expected)):.2e} "
            f"in values up to {size:.2e}."
        )
