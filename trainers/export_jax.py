"""Writes a trained model as files for JAX, which needs nothing else to use them: `--format=jax`.

Each function of the model is a program of XLA, see `tfflows.programs`, of batches of one size; what
is written is a function of JAX around it, which takes a batch of any size in chunks of that one.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tfflows import programs
from tfflows.distributions import density_of, is_discrete, with_temperature
from trainers.exporting import (
    appearing,
    condition_of,
    flow_of,
    is_estimated,
    make_functions,
    some_conditions,
)
from zoo.storage import files

tfd = tfp.distributions
DESCRIPTION = "model.json"
BATCH_SIZE = 64
_SEED = tf.TensorSpec([2], tf.uint32, "seed")


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
    return Function(compute_with_seed, rows, [_SEED], has_gradient)


class _Compiled:
    """A function as programs for batches of some sizes, and as a function of JAX for any.

    Args:
      name: of the function.
      function: a `Function`.
      sizes: of batches: of 1, and of a chunk.
      module: what has the variables.
    """

    def __init__(self, name, function, sizes, module):
        self.name, self.function, self.sizes = name, function, sizes
        self.values, self.gradients = {}, {}
        for size in sizes:
            rows, others = [_sized(spec, size) for spec in function.rows], function.others
            value = self._compile(function.compute, [*rows, *others], module)
            self.values[size], self.results = value, value.results
            if function.has_gradient:
                floats = [spec for spec in value.results.values() if spec.dtype.is_floating]
                arguments = [*rows, *floats, *others]
                self.gradients[size] = self._compile(function.gradient, arguments, module)

    def _compile(self, compute, arguments, module):
        # Layers that repeat are one: XLA compiles them in a fraction of the time. Convolutions in a
        # loop are slow on a CPU.
        loop = density_of(module).event_shape.rank != 3
        try:
            with tfflows.evaluation.looping(loop):
                return programs.make_program(compute, *arguments, module=module, name=self.name)
        except Exception as error:  # Whatever a layer may raise.
            raise ValueError(
                f"The model can't be exported: its `{self.name}` can't be a program of XLA for a "
                f"batch of known size. Received: {type(error).__name__}: {error}"
            ) from error

    def export(self, constants: Callable[[np.ndarray], Any]) -> Any:
        """Returns a `jax.export.Exported`."""
        every = [*self.values.values(), *self.gradients.values()]
        wide = any(program.has_wide_types for program in every)
        jax = programs.import_jax()
        with jax.enable_x64(wide):
            function = self._make_jax_function(jax, constants)
        return programs.export_to_jax(function, self.function.arguments, wide_types=wide)

    def _make_jax_function(self, jax, constants):
        count = len(self.function.rows)
        names = sorted(self.results)
        floats = [name for name in names if self.results[name].dtype.is_floating]
        value = _in_chunks(jax, self.values, constants)

        def compute(*arguments):
            found = value(arguments[:count], arguments[count:])
            return found if len(names) > 1 else found[names[0]]

        if not self.gradients:
            return compute
        gradient = _in_chunks(jax, self.gradients, constants)

        def backward(arguments, cotangents):
            rows, others = arguments[:count], arguments[count:]
            if len(names) == 1:
                cotangents = {names[0]: cotangents}
            found = iter(gradient([*rows, *(cotangents[name] for name in floats)], others))
            specs = self.function.arguments
            return tuple(
                next(found) if index < count and spec.dtype.is_floating else None
                for index, spec in enumerate(specs)
            )

        differentiable = jax.custom_vjp(compute)
        differentiable.defvjp(lambda *arguments: (compute(*arguments), arguments), backward)
        return differentiable


def _sized(spec, size):
    return tf.TensorSpec([size, *spec.shape[1:]], spec.dtype)


def _in_chunks(jax, compiled, constants):
    """Returns programs of chunks as a function of a batch, which is of rows and what else there is.

    A chunk that is not full has its last row several times. One row alone is a chunk of one.

    Args:
      jax: the module.
      compiled: size -> program.
      constants: makes an array of JAX of what a program captures.
    """
    jnp, size = jax.numpy, max(compiled)
    calls = {}
    for n, program in compiled.items():
        captured = {name: constants(value) for name, value in program.captured.items()}
        calls[n] = program.to_jax_function(), captured

    def call(n, rows, others):
        function, captured = calls[n]
        return function(captured, *rows, *others)

    def compute(rows, others):
        n = rows[0].shape[0]

        def one(rows):
            found = call(1, [row[:1] for row in rows], others)
            return jax.tree.map(lambda v: jnp.broadcast_to(v, (n, *v.shape[1:])), found)

        def several(rows):
            chunks = (n + size - 1) // size
            index = jnp.minimum(jnp.arange(chunks * size), n - 1).reshape(chunks, size)

            def chunk(numbered):
                number, index = numbered
                of_chunk = [_fold(jax, other, number) for other in others]
                return call(size, [row[index] for row in rows], of_chunk)

            found = jax.lax.map(chunk, (jnp.arange(chunks), index))
            return jax.tree.map(lambda v: v.reshape(chunks * size, *v.shape[2:])[:n], found)

        if size == 1:
            return several(list(rows))
        return jax.lax.cond(jnp.equal(jnp.asarray(n), 1), one, several, list(rows))

    return compute


def _fold(jax, other, number):
    """Returns what a chunk gets: the first a seed as it is, the others one that follows from it."""
    if other.shape != (2,):
        return other
    key = jax.random.wrap_key_data(other, impl="threefry2x32")
    folded = jax.random.key_data(jax.random.fold_in(key, number))
    return jax.numpy.where(number == 0, other, folded)


def export(
    distribution: tfd.Distribution,
    path: str | os.PathLike,
    description: Mapping | None = None,
    log_det_terms: int = 20,
    num_classes: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Writes a folder of files for JAX; nothing is left unless all of it was written and works.

    Args:
      distribution: a model as it is trained: `Dequantized` for images.
      path: folder to make. It has a file NAME.jax for each function of `make_jax_functions`, which
        `jax.export.deserialize` reads, with the weights, and `model.json`.
      description: a dict for `model.json`, which also says what the functions take and return.
      log_det_terms: terms of the log-det of residual layers that are computed for sure.
      num_classes: of a model that is conditional on labels, how many classes there are.
      batch_size: rows of a chunk: batches of all sizes are computed in chunks of this one, and a
        row alone in one of 1.

    Raises:
      FileExistsError: if there is something at `path`.
      ImportError: if there is no JAX; says what to install.
      ValueError: if the model can't be a program of XLA, or computes something else in JAX.
    """
    jax = programs.import_jax("its files")
    constants = _Constants(jax)
    description = {**(description or {}), "batch_size": batch_size, "jax": jax.__version__}
    described = description["functions"] = {}
    with appearing(path) as work, tfflows.evaluation.estimating([0, 0], log_det_terms):
        for name, function in make_jax_functions(distribution, num_classes).items():
            compiled = _Compiled(name, function, sorted({1, batch_size}), distribution)
            exported = compiled.export(constants)
            content = bytes(exported.serialize(vjp_order=int(function.has_gradient)))
            (work / f"{name}.jax").write_bytes(content)
            described[name] = _describe(function, compiled.results)
            loaded = jax.export.deserialize(bytearray(content))
            check(distribution, name, function, loaded, batch_size, num_classes)
        files.write_json(work / DESCRIPTION, description)


class _Constants:
    """Makes arrays of JAX, of equal ones the same: a file has it once."""

    def __init__(self, jax):
        self._jax, self._known = jax, {}

    def __call__(self, value):
        key = value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).digest()
        if key not in self._known:
            self._known[key] = self._jax.numpy.asarray(value)
        return self._known[key]


def _describe(function, results):
    """Returns what a function takes, in order, and returns, for JSON; a batch is of "N" rows."""

    def said(name, spec):
        shape = ["N" if size is None else size for size in spec.shape]
        return {"name": name, "dtype": spec.dtype.name, "shape": shape}

    batches = {name: tf.TensorSpec([None, *s.shape[1:]], s.dtype) for name, s in results.items()}
    return {
        "arguments": [said(spec.name, spec) for spec in function.arguments],
        "results": [said(name, spec) for name, spec in batches.items()],
        "has_gradient": function.has_gradient,
    }


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
        self._is_random = _SEED in function.others or not function.has_gradient
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
            of_chunk = [np.asarray(_fold(self._jax, other, number)) for other in others]
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
