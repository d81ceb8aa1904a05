"""What is exported of a model, whatever the format: its functions, and a folder that is whole."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tfflows import networks
from tfflows.conditioning import condition, expected_context
from tfflows.distributions import density_of, is_discrete, with_temperature
from zoo.storage import files

tfd = tfp.distributions


def make_functions(
    distribution: tfd.Distribution, num_classes: int | None = None
) -> dict[str, tuple[Callable[..., Any], list[tf.TensorSpec]]]:
    """Returns the functions of a model, each with its signature, by name.

    See `trainers.export.make_module`, which says what they are.
    """
    discrete, density = is_discrete(distribution), density_of(distribution)
    is_image = discrete and distribution.entries is None
    given, bind = condition_of(distribution, num_classes)
    events = tf.TensorSpec([None, *distribution.event_shape], distribution.dtype, "x")
    latents = tf.TensorSpec([None, *density.distribution.event_shape], density.dtype, "z")
    seed = tf.TensorSpec([2], tf.int32, "seed")
    inputs = [events, seed] if discrete or is_estimated(density) else [events]
    count = tf.TensorSpec([], tf.int32, "n")
    factor, one = tf.TensorSpec([], density.dtype, "temperature"), tf.ones([], density.dtype)

    def log_prob(x, seed=None, y=None):
        bound = bind(y)
        if not discrete:
            with tfflows.evaluation.estimating(seed):
                return {"log_prob": bound.log_prob(x)}
        found = bound.log_prob(x, seed=seed)
        if not is_image:
            return {"log_prob": found}
        num_dims = distribution.event_shape.num_elements()
        bits = tfflows.analysis.bits_per_dim(found, num_dims)
        return {"log_prob": found, "bits_per_dim": bits}

    def encode(x, seed=None, y=None):
        bound = bind(y)
        if discrete:
            x, _ = bound.dequantize(x, seed)
        return {"z": flow_of(bound).forward(x)}

    def decode(z, y=None):
        return results(flow_of(bind(y)).inverse(z))

    def sample(n, seed, temperature=one, y=None):
        checks = [
            tf.debugging.assert_non_negative(n, "`n` must not be negative."),
            tf.debugging.assert_positive(temperature, "`temperature` must be positive."),
        ]
        with tf.control_dependencies(checks):  # Before anything else fails of it.
            n, temperature = tf.identity(n), tf.identity(temperature)
        # Not 0: oneDNN's fused convolutions give an empty batch a wrong shape on some processors.
        rows = tf.maximum(n, 1)
        if y is not None:
            y, rows = tf.concat([y, tf.zeros_like(y[:1])], axis=0)[:rows], ()
        drawn = with_temperature(density_of(bind(y)), temperature).sample(rows, seed=seed)
        found = results(drawn)
        return {name: value[:n] for name, value in found.items()}

    def results(real):
        if not discrete:
            return {"x": real}
        if not is_image:
            return {"x": distribution.to_integers(real), "real": real}
        finite = tf.reduce_all(tf.math.is_finite(real), axis=[-3, -2, -1])
        numbers = tf.where(tf.math.is_nan(real), tf.zeros_like(real), real)
        return {"x": distribution.to_integers(numbers), "real": real, "finite": finite}

    functions = {
        "log_prob": (log_prob, inputs),
        "encode": (encode, inputs),
        "decode": (decode, [latents]),
        "sample": (sample, [count, seed, factor]),
    }
    if given is not None:
        functions = {
            "log_prob": (
                lambda x, y, seed=None: log_prob(x, seed, y),
                [events, given, *inputs[1:]],
            ),
            "encode": (lambda x, y, seed=None: encode(x, seed, y), [events, given, *inputs[1:]]),
            "decode": (lambda z, y: decode(z, y), [latents, given]),
            "sample": (
                lambda y, seed, temperature=one: sample(tf.shape(y)[0], seed, temperature, y),
                [given, seed, factor],
            ),
        }
    return functions


def condition_of(
    distribution: tfd.Distribution, num_classes: int | None
) -> tuple[tf.TensorSpec | None, Callable[[Any], tfd.Distribution]]:
    """Returns the signature of what events are given, or `None`, and what binds it."""
    shape = expected_context(distribution)
    if shape is None:
        return None, lambda y: distribution
    if None in shape:
        raise ValueError(
            "The model can't be exported: the context that it takes must be of a known size. "
            f"Received: a context of shape {shape}."
        )
    if num_classes is None:
        dtype = density_of(distribution).dtype
        return tf.TensorSpec([None, *shape], dtype, "y"), lambda y: condition(distribution, y)
    one_hot = networks.OneHot(num_classes, dtype="float32")
    given = tf.TensorSpec([None], tf.int32, "y")
    return given, lambda y: condition(distribution, one_hot(y))


def flow_of(distribution: tfd.Distribution) -> tfp.bijectors.Bijector:
    """Returns the flow of a model, from data to latents."""
    return density_of(distribution).bijector.bijector


def is_estimated(density: tfd.Distribution) -> bool:
    """Returns whether a log-det is random."""
    layers = (m for m in density.submodules if isinstance(m, tfflows.bijectors.ResidualFlow))
    return any(layer.log_det != "exact" for layer in layers)


def some_conditions(given: tf.TensorSpec, count: int, num_classes: int | None) -> tf.Tensor:
    """Returns what some events may be given."""
    if num_classes is not None:
        return tf.range(count) % num_classes
    return tf.random.stateless_normal([count, *given.shape[1:]], [0, 1], dtype=given.dtype)


@contextlib.contextmanager
def appearing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a folder to write into, which gets its name when the block has ended without an error.

    Args:
      path: the name. After an error there is nothing.

    Raises:
      FileExistsError: if there is something at `path`.
    """
    path = files.local(path)
    if path.exists():
        raise FileExistsError(
            f"`path` (--output) must be a folder that does not exist. Received: path={path}."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield work
        work.chmod(0o755)
        work.rename(path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
