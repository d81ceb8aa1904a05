"""Writes a trained model as files for JAX, which needs nothing else to use them: `--format=jax`.

Each function of the model is a program of XLA, see `tfflows.programs`, of batches of one size; what
is written is a function of JAX around it, which takes a batch of any size in chunks of that one.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tfflows import programs
from tfflows.distributions import density_of
from trainers.exporting import appearing
from trainers.jax_check import check
from trainers.jax_functions import fold, make_jax_functions
from zoo.storage import files

tfd = tfp.distributions
DESCRIPTION = "model.json"
BATCH_SIZE = 64


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
                of_chunk = [fold(jax, other, number) for other in others]
                return call(size, [row[index] for row in rows], of_chunk)

            found = jax.lax.map(chunk, (jnp.arange(chunks), index))
            return jax.tree.map(lambda v: v.reshape(chunks * size, *v.shape[2:])[:n], found)

        if size == 1:
            return several(list(rows))
        return jax.lax.cond(jnp.equal(jnp.asarray(n), 1), one, several, list(rows))

    return compute


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
        constant = tfflows.for_inference(distribution)
        for name, function in make_jax_functions(constant, num_classes).items():
            compiled = _Compiled(name, function, sorted({1, batch_size}), constant)
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
