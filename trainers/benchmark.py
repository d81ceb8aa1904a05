"""Measures what models cost: steps of training, samples, memory.

    python -m trainers.benchmark --model=convexp_glow.cifar10_small
    python -m trainers.benchmark --model=glow.digits,balanced.digits --output=costs.json

Several models take turns, so that drift of the machine hits all alike; leave it alone meanwhile. A
step is that of `trainers.train` with the same flags, on noise and at a learning rate of 0. Samples
are drawn in a graph, `--draws` at a time, from weights as they are initialised, or from those of a
preset if its path is given. `memory` is the peak of the whole process, and so of all models.
"""

import dataclasses
import os
import resource
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import zoo
from tfflows.distributions import Dequantized
from trainers import settings, train
from zoo import presets

FLAGS = flags.FLAGS
flags.DEFINE_integer("rounds", 7, "Turns of each model.")
flags.DEFINE_integer("draws", 100, "Samples to draw at a time.")
COLUMNS = ("parameters", "batch size", "first step, s", "step, s", "examples/s", "samples, s")


def find(name):
    """Returns the `zoo.Model` of a name or of the path of a preset."""
    if not os.path.isdir(name):
        return zoo.find(name)
    config = presets.read_json(presets.folder(name) / "config.json")
    return dataclasses.replace(zoo.find(config["model"]), arguments=config["arguments"])


def noise(entry, count):
    """Returns a batch of the shape and type of a model's data, which decide what a step costs."""
    rng, shape = np.random.default_rng(0), [count, *entry.event_shape]
    if entry.num_levels is None:
        return tf.constant(rng.normal(size=shape), tf.float32)
    return tf.constant(rng.integers(entry.num_levels, size=shape), tf.uint8)


def prepare(name, shards):
    """Builds a model and takes its first step.

    Args:
      name: a name, or the path of a preset.
      shards: parts of a batch that a step evaluates side by side.

    Returns:
      A function that takes a step, one that draws samples, and the row of the table so far.
    """
    entry = find(name)
    recipe = dataclasses.replace(train.resolve(entry.recipe), learning_rate=0.0)
    batch = noise(entry, recipe.batch_size)
    model = train.build_model(entry, recipe, 1000, shards)
    if os.path.isdir(name):
        presets.load_weights(model.distribution, name)
    else:
        model.initialize(batch)
    step = tf.function(model.train_step, autograph=False)
    first = seconds(lambda: step(batch))
    density = model.distribution
    if isinstance(density, Dequantized):
        density = density.distribution
    draw = tf.function(lambda: density.sample(FLAGS.draws, seed=[FLAGS.seed, 1]), autograph=False)
    draw()
    row = {
        "parameters": model.count_params(),
        "batch size": recipe.batch_size,
        "first step, s": first,
    }
    return lambda: step(batch), draw, row


def seconds(function):
    """Returns how long a call takes."""
    start = time.perf_counter()
    tf.nest.map_structure(lambda t: t.numpy(), function())
    return time.perf_counter() - start


def measure(names, shards):
    """Returns a row for each name, the medians over all turns."""
    models = {name: prepare(name, shards) for name in names}
    times = {name: ([], []) for name in names}
    bar = keras.utils.Progbar(FLAGS.rounds, unit_name="round")
    for _ in range(FLAGS.rounds):
        for name, functions in models.items():
            for taken, function in zip(times[name], functions[:2], strict=True):
                taken.append(seconds(function))
        bar.add(1)
    rows = {}
    for name, (_, _, row) in models.items():
        step, samples = map(float, map(np.median, times[name]))
        speed = row["batch size"] / step
        rows[name] = row | {"step, s": step, "examples/s": speed, "samples, s": samples}
    return rows


def main(argv):
    """Measures, prints the table, writes the JSON."""
    del argv
    if not FLAGS.model:
        raise app.UsageError("--model must be given.")
    names = FLAGS.model.split(",")
    entries = [find(name) for name in names]
    size = train.resolve(entries[0].recipe).batch_size
    shards = settings.set_shards(size, entries[0].event_shape)
    settings.make_strategy()
    rows = measure(names, shards)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"\n| model | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 1)}")
    for name, row in rows.items():
        cells = [f"{row[c]:,}" if isinstance(row[c], int) else f"{row[c]:.3g}" for c in COLUMNS]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\n{FLAGS.draws} samples at a time; peak memory of the process {memory / 1e6:,.0f} MB")
    if FLAGS.output:
        settings.write_json(
            FLAGS.output,
            {
                "models": rows,
                "draws": FLAGS.draws,
                "peak_memory_bytes": memory,
                "machine": settings.machine(),
                "versions": settings.versions(),
            },
        )


if __name__ == "__main__":
    app.run(main)
