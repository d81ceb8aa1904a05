"""Scores a model, in bits per dimension, nats or nats per node, and checks that it can be inverted.

    python -m trainers.evaluate --workdir=runs/digits
    python -m trainers.evaluate --model=convexp_glow.digits

Prints and writes `metrics.json`: into the work directory, or to `--output`.
"""

import math
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import tfflows
import zoo
from tfflows import evaluation
from trainers import command_line, program
from trainers.data import batching, loading, node_sets, photographs, planar, sources, tables
from trainers.runs import environment
from zoo.storage import files, presets

FLAGS = flags.FLAGS
SHARED_FLAGS = (
    *command_line.PRESET_FLAGS,
    *command_line.PICTURE_FLAGS,
    *("dataset", "data_dir", "output", "batch_size", "seed", "jit", "log_det_terms"),
    *("split", "num_samples"),
)


def make_scorer(model: zoo.Trained, num_samples: int, seed: int, jit: str = "auto") -> Callable:
    """Returns the compiled function that scores a batch, in the units of the model.

    Args:
      model: a `zoo.Trained`.
      num_samples: samples of the dequantiser an image.
      seed: seed of the dequantiser, and of log-dets that are estimated.
      jit: whether XLA compiles it: "auto", "on" or "off".

    Returns:
      A function of a batch and its number, from which its noise follows. It raises a `ValueError`
      for images that are not the integers that the model is over.
    """

    @tf.function(reduce_retracing=True, jit_compile=environment.use_jit(jit, model.event_shape))
    def score_batch(x, step):
        return model.score(x, tf.stack([seed, step * num_samples]), num_samples)

    def check_and_score(x, step):
        model.check(x)  # XLA can't.
        return score_batch(x, step)

    return check_and_score


def score(
    model: zoo.Trained,
    dataset: tf.data.Dataset,
    num_examples: int,
    num_samples: int,
    seed: int,
    jit: str = "auto",
) -> np.ndarray:
    """Returns the score of every event: bits/dim of images, nats of points, nats/node of sets.

    Args:
      model: a `zoo.Trained`.
      dataset: batches of events.
      num_examples: number of events, for the progress bar.
      num_samples: samples of the dequantiser an image.
      seed: seed of the dequantiser, and of log-dets that are estimated.
      jit: see `make_scorer`.
    """
    score_batch = make_scorer(model, num_samples, seed, jit)
    bar = keras.utils.Progbar(num_examples, unit_name="image")
    scores = []
    for step, x in enumerate(dataset):
        scores.append(score_batch(x, tf.constant(step)).numpy())
        bar.add(len(x), [("score", scores[-1].mean())])
    return np.concatenate(scores)


def open_images(
    model: zoo.Trained,
    dataset: str,
    split: str,
    batch_size: int,
    data_dir: str | None = None,
    start_step: int = 0,
    preparation: photographs.Preparation | None = None,
) -> loading.Data:
    """Returns the data from a batch on, checked against the model; see `loading.load`."""
    if model.kind == zoo.TABLES:
        dataset = tables.name_with_columns_of(dataset, model.entry)
    images = loading.load(
        dataset,
        split,
        batch_size=batch_size,
        data_dir=data_dir,
        num_bits=loading.bits_to_keep(model.num_levels),
        start_step=start_step,
        preparation=preparation,
    )
    loading.check_shape(images, model.event_shape, dataset)
    loading.check_kind(images, model.kind, dataset)
    return images


def check_rows(model: zoo.Trained, dataset: str, split: str) -> None:
    """Refuses rows of a table of which a model says that there are none: their mean is infinite."""
    table, numbers = sources.rows_of(tables.name_with_columns_of(dataset, model.entry), split)
    columns = model.entry.arguments["columns"]
    tables.check_support(columns, table, numbers, tables.path_of(dataset))


def round_trip(model: zoo.Trained, x: tf.Tensor, seed: int) -> tuple[float, np.ndarray]:
    """Inverts what the flow makes of a batch.

    Returns:
      The largest `|f^-1(f(x)) - x|`, for images in values of a pixel; and the iterations of each
      layer whose inverse iterates, an array `[layers, events]`.
    """
    x = model.dequantize(x, seed=[seed, -1])
    error = float(tf.reduce_max(tfflows.analysis.round_trip_error(model.flow, x)))
    return error, tfflows.analysis.inverse_iterations(model.flow, x).numpy()


def define(model: zoo.Trained, num_samples: int, log_det_terms: int) -> str:
    """Returns what a score is, in words."""
    formula, kind = model.kind.definition, model.kind
    if kind == zoo.IMAGES:
        noise = "uniform" if model.distribution.dequantizer is None else "variational"
        text = (
            f"{formula} of integer images, {noise} dequantisation, {num_samples} sample(s) an image"
        )
    elif model.is_discrete:  # Rows.
        count = sum(model.distribution.entries)
        text = (
            f"-log P(x) of {kind.noun}, uniform dequantisation of {count} integer column(s), "
            f"{num_samples} sample(s) a row"
        )
    elif kind == zoo.SETS:
        text = f"-log p(x) / {model.event_shape[0]} of sets of nodes"
    else:
        text = f"{formula} of {kind.noun}"
    return text + _define_log_det(model, num_samples, log_det_terms)


def _define_log_det(model, num_samples, log_det_terms):
    """Returns how the log-dets that are not exact are computed, in words; empty if all are."""
    parts = model.distribution.submodules
    layers = [part for part in parts if isinstance(part, tfflows.bijectors.ResidualFlow)]
    kinds = sorted({layer.log_det for layer in layers} - {"exact"})
    if not kinds:
        return ""
    names = {
        "series": "the series of {} terms, biased",
        "unbiased": "the unbiased estimator with {} terms for sure",
    }
    used = " and ".join(names[kind].format(log_det_terms) for kind in kinds)
    biased = ", too small a score since samples are averaged inside the logarithm"
    return f", log-det of residual layers by {used}{biased if num_samples > 1 else ''}"


def floor(dataset: str) -> float | None:
    """Returns the entropy of a data set whose density is known, in its units; `None` of others."""
    if dataset in planar.NAMES:
        return planar.entropy(dataset)
    if dataset in node_sets.NAMES:
        return node_sets.entropy(dataset) / node_sets.num_nodes(dataset)
    return None


def main(argv: list[str]) -> None:
    """Loads the model, scores it and writes the result."""
    del argv
    model, workdir = command_line.open_model()
    output = command_line.read_output(workdir, "metrics.json")
    dataset, split = FLAGS.dataset or model.dataset, FLAGS.split
    batch_size = FLAGS.batch_size or batching.most_events(200, model.event_shape)
    preparation = command_line.read_preparation(model)
    data = (model, dataset, split, batch_size, FLAGS.data_dir)
    images = open_images(*data, preparation=preparation)
    if model.kind == zoo.TABLES:
        check_rows(model, dataset, split)
    with evaluation.estimating(num_terms=FLAGS.log_det_terms):
        scores = score(
            model, images.dataset, images.num_examples, FLAGS.num_samples, FLAGS.seed, FLAGS.jit
        )
    error, iterations = round_trip(model, next(iter(images.dataset)), FLAGS.seed)
    metrics = summarize(model, scores, error, iterations)
    meaning, entropy = define(model, FLAGS.num_samples, FLAGS.log_det_terms), floor(dataset)
    if entropy is not None:
        metrics["entropy"] = entropy
        meaning += f", whose entropy, the least a model can reach, is {entropy:.4f}"
    metrics |= {
        "definition": meaning,
        "data": f"{tables.shown(dataset)}, {split}, {len(scores)} {model.kind.noun}"
        + (f" made of {images.made}" if images.made else ""),
        "command": command_line.command("trainers.evaluate"),
        "versions": environment.versions(),
    }
    print_metrics(model, metrics)
    files.write_json(output, metrics)
    if workdir and split == "test":
        metric = {key: metrics[key] for key in ("definition", "data", "command")}
        metric |= {"name": f"test {model.kind.label}", "value": metrics[model.kind.units]}
        presets.update_metric(model.folder, metric)
    print(f"  written to        {output}")


def summarize(
    model: zoo.Trained, scores: np.ndarray, round_trip_error: float, iterations: np.ndarray
) -> dict:
    """Returns the figures of a model, for JSON."""
    error_of_mean = None  # Of one event there is none.
    if len(scores) > 1:
        error_of_mean = float(scores.std(ddof=1) / math.sqrt(len(scores)))
    metrics = {
        model.kind.units: float(scores.mean()),
        "standard_error": error_of_mean,
        "round_trip_error": round_trip_error,
        "model": model.entry.name,
    }
    if iterations.size:
        metrics["inverse_iterations"] = {
            "layers": len(iterations),
            "mean": float(iterations.mean()),
            "largest": int(iterations.max()),
        }
    return metrics


def print_metrics(model: zoo.Trained, metrics: Mapping) -> None:
    """Prints the figures for people."""
    print(f"\n{model.entry.name} on {metrics['data']}")
    error = ", of one only: no error of the mean"
    if metrics["standard_error"] is not None:
        error = f" +- {metrics['standard_error']:.4f}"
    print(f"  {model.kind.label:17} {metrics[model.kind.units]:.4f}{error}")
    print(f"  defined as        {metrics['definition']}")
    values = f" of {model.num_levels} values" if model.num_levels else ""
    print(f"  round-trip error  {metrics['round_trip_error']:.2e}{values}")
    if found := metrics.get("inverse_iterations"):
        print(
            f"  inverse           {found['mean']:.1f} iterations a layer and event, at most "
            f"{found['largest']}, in {found['layers']} layers"
        )


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
