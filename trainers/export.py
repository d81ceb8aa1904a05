"""Writes a trained model in a form that needs nothing but TensorFlow, or nothing but JAX.

    python -m trainers.export --workdir=runs/digits
    python -m trainers.export --model=convexp_glow.digits --output=convexp_glow_digits
    python -m trainers.export --model=convexp_glow.digits --format=jax --output=digits_jax

A SavedModel, `saved_model/` of the work directory or `--output`, has signatures `log_prob`,
`sample`, `encode` and `decode`; `docs/serving.md` says what they take and return. With
`--format=jax` it is a folder `jax/` with a file for each of them, see `docs/jax.md`. Either appears
when it is whole, and after it has been loaded again and has computed what the model computes.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from absl import app, flags

import tfflows
import zoo
from tfflows import programs
from tfflows.distributions import density_of, is_discrete
from trainers import command_line, export_jax, program
from trainers.exporting import (
    appearing,
    condition_of,
    flow_of,
    is_estimated,
    make_functions,
    some_conditions,
)
from trainers.runs import environment
from zoo.storage import files

FLAGS = flags.FLAGS
FORMATS = {"savedmodel": "saved_model", "jax": "jax"}  # And the folder in the work directory.
SHARED_FLAGS = (*command_line.PRESET_FLAGS, "output", "format", "batch_size", "log_det_terms")
DESCRIPTION = pathlib.Path("assets.extra") / "model.json"


def make_module(
    distribution: tfp.distributions.Distribution,
    log_det_terms: int = 20,
    num_classes: int | None = None,
) -> tf.Module:
    """Returns a `tf.Module` with the functions of a model, for any size of a batch.

    For integer images, a `Dequantized` distribution,

        log_prob(x, seed)            x [N, H, W, C] -> log_prob [N], nats, and bits_per_dim [N]
        encode(x, seed)              x [N, H, W, C] -> z [N, D], the latents of x plus noise
        decode(z)                    z [N, D] -> x, real [N, H, W, C], finite [N]
        sample(n, seed, temperature) -> x, real [n, H, W, C], finite [n]

    where `real` is in units of a pixel, `x` the integers below it, and `finite` is false, and
    `real` NaN, where the inverse did not converge. For points and sets, events `[...]`,

        log_prob(x)                  x [N, ...] -> log_prob [N], nats
        encode(x)                    x [N, ...] -> z [N, ...]
        decode(z)                    z [N, ...] -> x [N, ...], NaN where it did not converge
        sample(n, seed, temperature) -> x [n, ...]

    with a `seed` in the first two as well if log-dets are estimated, or columns of a table are
    integers; `decode` and `sample` of these return `real`, too, whose integer columns are not yet
    rounded down. Seeds are stateless, `int32`
    `[2]`: the same seed gives the same result. `temperature` is the factor on the standard
    deviation of the base, 1 by default.

    The functions of a conditional model take what each event is given, `y`: labels `int32` `[N]`,
    or contexts `[N, K]`. They are `log_prob(x, y, seed)`, `encode(x, y, seed)`, `decode(z, y)` and
    `sample(y, seed, temperature)`, a sample for each `y`.

    Args:
      distribution: a model as it is trained: `Dequantized` for images.
      log_det_terms: terms of the log-det of residual layers that are computed for sure.
      num_classes: of a model that is conditional on labels, how many classes there are.

    Raises:
      ValueError: if a function can't be traced; says which, and why.

    #### Example

    ```python
    import zoo
    from trainers import export

    model = export.make_module(zoo.create("realnvp.two_moons", num_blocks=4))
    x = model.sample(5, [0, 1])["x"]  # [5, 2]
    log_prob = model.log_prob(x)["log_prob"]  # [5]
    ```
    """
    module, distribution = tf.Module(), tfflows.for_inference(distribution)
    # Not the distribution: its Python objects can't be had without tfflows.
    module.parameters = list(distribution.variables)
    for name, (function, signature) in make_functions(distribution, num_classes).items():
        traced = tf.function(function, input_signature=signature, autograph=False)
        try:
            # The seed is for the log-dets that TFP computes beside a value: nobody sees them.
            with tfflows.evaluation.estimating([0, 0], log_det_terms):
                traced.get_concrete_function()
        except Exception as error:  # Whatever a layer may raise.
            raise ValueError(
                f"The model can't be exported: its `{name}` can't be traced for a "
                f"batch of unknown size. Received: {type(error).__name__}: {error}"
            ) from error
        setattr(module, name, traced)
    return module


def export(
    distribution: tfp.distributions.Distribution,
    path: str | os.PathLike,
    description: Mapping | None = None,
    log_det_terms: int = 20,
    num_classes: int | None = None,
) -> None:
    """Writes a SavedModel; nothing is left at `path` unless all of it was written and works.

    Args:
      distribution: a model as it is trained: `Dequantized` for images.
      path: folder to make.
      description: a dict for `assets.extra/model.json`.
      log_det_terms: see `make_module`.
      num_classes: see `make_module`.

    Raises:
      FileExistsError: if there is something at `path`.
      ValueError: if the model can't be traced for batches of any size, has a state that is not in
        its variables, or computes something else once it has been loaded.
    """
    with appearing(path) as work:
        module = make_module(distribution, log_det_terms, num_classes)
        names = ("log_prob", "encode", "decode", "sample")
        signatures = {name: getattr(module, name).get_concrete_function() for name in names}
        save(module, work, signatures)
        (work / DESCRIPTION).parent.mkdir()
        (work / DESCRIPTION).write_text(files.to_json(description or {}, indent=2) + "\n")
        check(distribution, tf.saved_model.load(work), log_det_terms, num_classes=num_classes)


def save(module: tf.Module, path: str | os.PathLike, signatures: Mapping) -> None:
    """Writes a `tf.Module` as a SavedModel, or says why that can't be."""
    try:
        tf.saved_model.save(module, path, signatures)
    except AssertionError as error:  # TensorFlow's word for state that it can't find.
        raise ValueError(
            "The model can't be exported: its functions use a variable or table that is not "
            f"in `distribution.variables`. Received: {error}"
        ) from error
    except ValueError as error:  # Such as a variable whose name begins with an underscore.
        raise ValueError(f"The model can't be exported as a SavedModel: {error}") from error


def check(
    distribution: tfp.distributions.Distribution,
    loaded: Any,
    log_det_terms: int = 20,
    seed: Sequence[int] = (0, 1),
    num_classes: int | None = None,
) -> None:
    """Compares what a SavedModel computes with what the model does, for batches of 1 and of 3.

    Args:
      distribution: the model.
      loaded: what `tf.saved_model.load` returned.
      log_det_terms: see `make_module`.
      seed: of the latents that are decoded, and of the noise.
      num_classes: see `make_module`.

    Raises:
      ValueError: if they differ by more than rounding.
    """
    discrete, density = is_discrete(distribution), density_of(distribution)
    (given, bind), seed = condition_of(distribution, num_classes), tf.constant(seed)
    for count in (1, 3):
        y = []
        if given is not None:
            y = [some_conditions(given, count, num_classes)]
        bound = bind(*y) if y else distribution
        flow = flow_of(bound)
        z = density.distribution.sample(count, seed=seed)
        real = flow.inverse(z)
        x, noisy = real, real
        noise = {} if not (discrete or is_estimated(density)) else {"seed": seed}
        with tfflows.evaluation.estimating(seed, log_det_terms):
            if discrete:
                x = bound.to_integers(real)
                noisy, _ = bound.dequantize(x, seed)
                log_prob = bound.log_prob(x, seed=seed)
            else:
                log_prob = bound.log_prob(x)
        decoded = loaded.decode(z, *y)
        drawn = loaded.sample(*(y or [count]), seed)["x"]
        for name, found, expected in (
            ("decode", decoded["real" if discrete else "x"], real),
            ("encode", loaded.encode(x, *y, **noise)["z"], flow.forward(noisy)),
            ("log_prob", loaded.log_prob(x, *y, **noise)["log_prob"], log_prob),
        ):
            size = max(1.0, float(np.nanmax(np.abs(expected), initial=0)))
            if not np.allclose(found, expected, rtol=0, atol=1e-3 * size, equal_nan=True):
                raise ValueError(
                    f"The model can't be exported: its `{name}` computes something else once it is "
                    "loaded, as if it had a state that is not in its variables. Received: "
                    f"a difference of {np.nanmax(np.abs(found - expected)):.2e} "
                    f"in values up to {size:.2e}."
                )
        if drawn.shape != x.shape or drawn.dtype != x.dtype:
            raise ValueError(
                f"The model can't be exported: `sample({count})` has to return {x.dtype.name} "
                f"{tuple(x.shape)}. Received: {drawn.dtype.name} {tuple(drawn.shape)}."
            )


def describe(model: zoo.Trained, log_det_terms: int) -> dict:
    """Returns what a reader of a SavedModel of a `zoo.Trained` may want to know, for JSON."""
    return {
        **files.read_json(model.folder / "config.json"),
        "event_shape": list(model.event_shape),
        "latent_shape": list(model.density.distribution.event_shape),
        "num_levels": model.num_levels,
        "log_det_terms": log_det_terms if is_estimated(model.density) else None,
        "preset": files.read_json(model.folder / "metadata.json"),
        "command": command_line.command("trainers.export"),
        "versions": environment.versions(),
    }


def main(argv: list[str]) -> None:
    """Loads the model, writes and checks what is asked for."""
    del argv
    is_jax = FLAGS.format == "jax"
    if is_jax:
        _check_jax()
    elif FLAGS.batch_size is not None:
        raise app.UsageError(
            "--batch_size is for --format=jax: a SavedModel takes batches of any size. "
            f"Received: --batch_size={FLAGS.batch_size}."
        )
    model, workdir = command_line.open_model()
    path = command_line.read_output(workdir, FORMATS[FLAGS.format])
    description = describe(model, FLAGS.log_det_terms)
    num_classes = None if model.classes is None else len(model.classes)
    given = model.distribution, path, description, FLAGS.log_det_terms, num_classes
    if is_jax:
        export_jax.export(*given, FLAGS.batch_size or export_jax.BATCH_SIZE)
    else:
        export(*given)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{description['model']} exported to {path}, {size / 1e6:.1f} MB")
    if is_jax:
        names = ", ".join(sorted(file.name for file in path.glob("*.jax")))
        print(f"  files        {names}: docs/jax.md")
    else:
        print("  signatures   log_prob, encode, decode, sample: docs/serving.md")


def _check_jax():
    """Raises the error of a user if there is no JAX."""
    try:
        programs.import_jax("--format=jax")
    except ImportError as error:
        raise ValueError(str(error)) from None


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
