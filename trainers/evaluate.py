"""Scores a model in bits per dimension, and checks that it can be inverted.

    python -m trainers.evaluate --workdir=runs/digits
    python -m trainers.evaluate --model=convexp_glow.digits

Prints and writes `metrics.json`: into the work directory, or to `--output`.
"""

import math
import pathlib
import shlex
import sys

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfflows
import zoo
from trainers import data, settings
from zoo import presets

FLAGS = flags.FLAGS
flags.DEFINE_string("split", "test", "Split to score, as TFDS writes it: test, test[:1000].")
flags.DEFINE_integer(
    "num_samples", 1, "Samples of the dequantiser an image: 1 for the bound, more to tighten it."
)


def score(distribution, dataset, num_examples, num_samples, seed):
    """Returns bits/dim of every image of a data set.

    Args:
      distribution: a `Dequantized` distribution.
      dataset: batches of images.
      num_examples: number of images, for the progress bar.
      num_samples: samples of the dequantiser an image.
      seed: seed of the dequantiser.
    """
    num_dims = distribution.event_shape.num_elements()

    @tf.function(reduce_retracing=True, jit_compile=settings.use_jit())
    def bits(x, step):
        log_prob = distribution.importance_log_prob(x, num_samples, seed=[seed, step * num_samples])
        return tfflows.analysis.bits_per_dim(log_prob, num_dims)

    bar = keras.utils.Progbar(num_examples, unit_name="image")
    scores = []
    for step, x in enumerate(dataset):
        scores.append(bits(x, tf.constant(step)).numpy())
        bar.add(len(x), [("bits_per_dim", scores[-1].mean())])
    return np.concatenate(scores)


def round_trip(distribution, x, seed):
    """Returns the largest `|f^-1(f(v)) - v|` over a batch, in units of a pixel's value."""
    v, _ = distribution.dequantize(x, seed=[seed, -1])
    flow = distribution.distribution.bijector.bijector
    return float(tf.reduce_max(tfflows.analysis.round_trip_error(flow, v)))


def main(argv):
    """Loads the model, scores it and writes the result."""
    del argv
    name, workdir, config = settings.required_preset()
    output = pathlib.Path(FLAGS.output or (workdir or pathlib.Path()) / "metrics.json")
    distribution = zoo.create(name, pretrained=True, discrete=True)
    entry = zoo.find(presets.read_json(presets.folder(name) / "config.json")["model"])
    trained_on = config["recipe"]["dataset"] if config else entry.recipe.dataset
    dataset = FLAGS.dataset or trained_on
    images = data.load(
        dataset,
        FLAGS.split,
        batch_size=FLAGS.batch_size or settings.most_images(200, distribution.event_shape),
        data_dir=FLAGS.data_dir,
        num_bits=data.bits_to_keep(distribution.num_levels),
    )
    scores = score(distribution, images.dataset, images.num_examples, FLAGS.num_samples, FLAGS.seed)
    error = round_trip(distribution, next(iter(images.dataset)), FLAGS.seed)
    kind = "uniform" if distribution.dequantizer is None else "variational"
    metrics = {
        "bits_per_dim": float(scores.mean()),
        "standard_error": float(scores.std(ddof=1) / math.sqrt(len(scores))),
        "definition": (
            f"-log2 P(x) / D of integer images, {kind} dequantisation, "
            f"{FLAGS.num_samples} sample(s) an image"
        ),
        "data": f"{dataset}, {FLAGS.split}, {len(scores)} images",
        "round_trip_error": error,
        "model": entry.name,
        "command": shlex.join(["python", "-m", "trainers.evaluate", *sys.argv[1:]]),
        "versions": settings.versions(),
    }
    settings.write_json(output, metrics)
    if workdir and FLAGS.split == "test":
        metric = {key: metrics[key] for key in ("definition", "data", "command")}
        metric |= {"name": "test bits/dim", "value": metrics["bits_per_dim"]}
        presets.update_metric(workdir / "preset", metric)
    print(f"\n{entry.name} on {metrics['data']}")
    print(f"  bits/dim          {metrics['bits_per_dim']:.4f} +- {metrics['standard_error']:.4f}")
    print(f"  defined as        {metrics['definition']}")
    print(f"  round-trip error  {error:.2e} of {distribution.num_levels} values")
    print(f"  written to        {output}")


if __name__ == "__main__":
    app.run(main)
