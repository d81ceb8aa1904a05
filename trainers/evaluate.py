"""Scores a model, in bits per dimension, nats or nats per node, and checks that it can be inverted.

    python -m trainers.evaluate --workdir=runs/digits
    python -m trainers.evaluate --model=convexp_glow.digits

Prints and writes `metrics.json`: into the work directory, or to `--output`.
"""

import math
import shlex
import sys

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import tfflows
import zoo
from tfflows.distributions import Dequantized
from trainers import program
from trainers.data import batching, loading, node_sets, planar
from trainers.runs import settings
from zoo.storage import presets

FLAGS = flags.FLAGS
SHARED_FLAGS = (
    *settings.PRESET_FLAGS,
    *("dataset", "data_dir", "output", "batch_size", "seed", "jit", "log_det_terms"),
)
flags.DEFINE_string("split", "test", "Split to score, as TFDS writes it: test, test[:1000].")
flags.DEFINE_integer(
    "num_samples",
    1,
    "Samples of the dequantiser an image: 1 for the bound, more to tighten it.",
    lower_bound=1,
)


def make_scorer(distribution, num_samples, seed):
    """Returns the compiled function that scores a batch: bits/dim, nats, or nats a node.

    Args:
      distribution: a model as it is trained: `Dequantized` for images.
      num_samples: samples of the dequantiser an image.
      seed: seed of the dequantiser, and of log-dets that are estimated.

    Returns:
      A function of a batch and its number, from which its noise follows. It raises a `ValueError`
      for images that are not the integers that the model is over.
    """
    num_dims = distribution.event_shape.num_elements()

    @tf.function(reduce_retracing=True, jit_compile=settings.use_jit(distribution.event_shape))
    def score_batch(x, step):
        if not isinstance(distribution, Dequantized):
            with tfflows.evaluation.estimating(tf.stack([seed, step])):
                return -distribution.log_prob(x) / num_nodes(distribution)
        log_prob = distribution.importance_log_prob(x, num_samples, seed=[seed, step * num_samples])
        return tfflows.analysis.bits_per_dim(log_prob, num_dims)

    def score_images(x, step):
        distribution.check(x)  # XLA can't.
        return score_batch(x, step)

    return score_images if isinstance(distribution, Dequantized) else score_batch


def num_nodes(distribution):
    """Returns the nodes of a set, by whose number its score is divided; 1 for other events."""
    return distribution.event_shape[0] if distribution.event_shape.rank == 2 else 1


def score(distribution, dataset, num_examples, num_samples, seed):
    """Returns the score of every event: bits/dim of images, nats of points, nats/node of sets.

    Args:
      distribution: a model as it is trained: `Dequantized` for images.
      dataset: batches of events.
      num_examples: number of events, for the progress bar.
      num_samples: samples of the dequantiser an image.
      seed: seed of the dequantiser, and of log-dets that are estimated.
    """
    score_batch = make_scorer(distribution, num_samples, seed)
    bar = keras.utils.Progbar(num_examples, unit_name="image")
    scores = []
    for step, x in enumerate(dataset):
        scores.append(score_batch(x, tf.constant(step)).numpy())
        bar.add(len(x), [("score", scores[-1].mean())])
    return np.concatenate(scores)


def open_images(distribution, dataset, batch_size, start_step=0):
    """Returns the data from a batch on, checked against the model."""
    images = loading.load(
        dataset,
        FLAGS.split,
        batch_size=batch_size,
        data_dir=FLAGS.data_dir,
        num_bits=loading.bits_to_keep(getattr(distribution, "num_levels", None)),
        start_step=start_step,
    )
    loading.check_shape(images, distribution.event_shape, dataset)
    return images


def round_trip(distribution, x, seed):
    """Inverts what the flow makes of a batch.

    Returns:
      The largest `|f^-1(f(x)) - x|`, for images in values of a pixel; and the iterations of each
      layer whose inverse iterates, an array `[layers, events]`.
    """
    if isinstance(distribution, Dequantized):
        x, _ = distribution.dequantize(x, seed=[seed, -1])
        distribution = distribution.distribution
    flow = distribution.bijector.bijector
    error = float(tf.reduce_max(tfflows.analysis.round_trip_error(flow, x)))
    return error, tfflows.analysis.inverse_iterations(flow, x).numpy()


def definition(distribution, num_samples):
    """Returns the units of a score and what it is, in words."""
    if not isinstance(distribution, Dequantized):
        if distribution.event_shape.rank == 2:
            return "nats/node", f"-log p(x) / {distribution.event_shape[0]} of sets of nodes"
        return "nats", "-log p(x) of points"
    kind = "uniform" if distribution.dequantizer is None else "variational"
    return "bits/dim", (
        f"-log2 P(x) / D of integer images, {kind} dequantisation, {num_samples} sample(s) an image"
    )


def log_det_definition(distribution, num_samples):
    """Returns how the log-dets that are not exact are computed, in words; empty if all are."""
    layers = [m for m in distribution.submodules if isinstance(m, tfflows.bijectors.ResidualFlow)]
    kinds = sorted({layer.log_det for layer in layers} - {"exact"})
    if not kinds:
        return ""
    names = {
        "series": "the series of {} terms, biased",
        "unbiased": "the unbiased estimator with {} terms for sure",
    }
    used = " and ".join(names[kind].format(FLAGS.log_det_terms) for kind in kinds)
    biased = ", too small a score since samples are averaged inside the logarithm"
    return f", log-det of residual layers by {used}{biased if num_samples > 1 else ''}"


def floor(dataset):
    """Returns the entropy of a data set whose density is known, in its units; `None` of others."""
    if dataset in planar.NAMES:
        return planar.entropy(dataset)
    if dataset in node_sets.NAMES:
        return node_sets.entropy(dataset) / node_sets.num_nodes(dataset)
    return None


def main(argv):
    """Loads the model, scores it and writes the result."""
    del argv
    name, workdir, config = settings.required_preset()
    output = settings.output(workdir, "metrics.json")
    distribution = zoo.create_trained(name, pretrained=True)
    entry = zoo.find(presets.read_json(presets.folder(name) / "config.json")["model"])
    trained_on = config["recipe"]["dataset"] if config else entry.recipe.dataset
    dataset = FLAGS.dataset or trained_on
    batch_size = FLAGS.batch_size or batching.most_events(200, distribution.event_shape)
    images = open_images(distribution, dataset, batch_size)
    with tfflows.evaluation.estimating(num_terms=FLAGS.log_det_terms):
        scores = score(
            distribution, images.dataset, images.num_examples, FLAGS.num_samples, FLAGS.seed
        )
    error, iterations = round_trip(distribution, next(iter(images.dataset)), FLAGS.seed)
    kind = {1: "points", 2: "sets", 3: "images"}[distribution.event_shape.rank]
    units, meaning = definition(distribution, FLAGS.num_samples)
    meaning += log_det_definition(distribution, FLAGS.num_samples)
    entropy = floor(dataset)
    if entropy is not None:
        meaning += f", whose entropy, the least a model can reach, is {entropy:.4f}"
    mean, error_of_mean = float(scores.mean()), None  # Of one event there is no error.
    if len(scores) > 1:
        error_of_mean = float(scores.std(ddof=1) / math.sqrt(len(scores)))
    metrics = {
        entry.units: mean,
        "standard_error": error_of_mean,
        "definition": meaning,
        "data": f"{dataset}, {FLAGS.split}, {len(scores)} {kind}",
        "round_trip_error": error,
        "model": entry.name,
        "command": shlex.join(["python", "-m", "trainers.evaluate", *sys.argv[1:]]),
        "versions": settings.versions(),
    }
    if entropy is not None:
        metrics["entropy"] = entropy
    if iterations.size:
        metrics["inverse_iterations"] = {
            "layers": len(iterations),
            "mean": float(iterations.mean()),
            "largest": int(iterations.max()),
        }
    print(f"\n{entry.name} on {metrics['data']}")
    error_text = ", of one only: no error of the mean"
    if error_of_mean is not None:
        error_text = f" +- {error_of_mean:.4f}"
    print(f"  {units:17} {mean:.4f}{error_text}")
    print(f"  defined as        {metrics['definition']}")
    values = f" of {images.num_levels} values" if images.num_levels else ""
    print(f"  round-trip error  {error:.2e}{values}")
    if iterations.size:
        print(
            f"  inverse           {iterations.mean():.1f} iterations a layer and event, at most "
            f"{iterations.max()}, in {len(iterations)} layers"
        )
    settings.write_json(output, metrics)
    if workdir and FLAGS.split == "test":
        metric = {key: metrics[key] for key in ("definition", "data", "command")}
        metric |= {"name": f"test {units}", "value": mean}
        presets.update_metric(workdir / "preset", metric)
    print(f"  written to        {output}")


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
