"""Trains a model of the zoo.

    python -m trainers.train --model=convexp_glow.digits --workdir=runs/digits

Each "epoch" of the progress bar is a report: a line in `metrics.jsonl` and `metrics.csv`, bits/dim
on the validation split, a picture of samples, and a backup from which `--resume` goes on exactly.
The trained model ends in `workdir/preset`, which `zoo.load` reads.
"""

import dataclasses
import json
import pathlib
import shlex
import sys

import keras
import tensorflow as tf
from absl import app, flags, logging

import tfflows
import zoo
from trainers import callbacks, data, pictures, schedules, settings

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", None, "Number of optimiser steps. Default: the model's.")
flags.DEFINE_float("epochs", None, "Passes over the data, in place of --steps.")
flags.DEFINE_float("learning_rate", None, "Peak learning rate. Default: the model's.")
flags.DEFINE_float("ema", None, "Momentum of a moving average of the weights; 0 for none.")
flags.DEFINE_integer(
    "report_every",
    None,
    "Steps between reports, a divisor of the steps. Default: about 20 reports.",
)
flags.DEFINE_integer("num_validation", 1000, "Images of the validation split to score a report.")
flags.DEFINE_bool("resume", False, "Go on with the run in --workdir.")
flags.DEFINE_bool("list", False, "List the models and exit.")


def resolve(recipe, num_examples=None):
    """Returns the recipe with the flags' overrides."""
    changes = {
        name: getattr(FLAGS, name)
        for name in ("dataset", "batch_size", "steps", "learning_rate", "ema")
        if getattr(FLAGS, name) is not None
    }
    recipe = dataclasses.replace(recipe, **changes)
    if FLAGS.epochs is not None and num_examples is not None:
        steps = max(1, round(FLAGS.epochs * num_examples / recipe.batch_size))
        recipe = dataclasses.replace(recipe, steps=steps)
    return recipe


def default_recipe(entry):
    """Returns the recipe that flags override: that of the run to resume, or else the model's."""
    path = pathlib.Path(FLAGS.workdir) / settings.CONFIG
    if FLAGS.resume and path.is_file():
        return zoo.Recipe(**json.loads(path.read_text())["recipe"])
    return entry.recipe


def report_interval(steps):
    """Returns the number of steps between reports: the divisor that gives nearest to 20."""
    if FLAGS.report_every:
        if steps % FLAGS.report_every:
            raise ValueError(
                "`--report_every` must divide the number of steps. "
                f"Received: --report_every={FLAGS.report_every}, {steps} steps."
            )
        return FLAGS.report_every
    divisors = [d for d in range(1, steps + 1) if steps % d == 0]
    return min(divisors, key=lambda d: abs(steps / d - 20))


def open_workdir(model, recipe):
    """Makes the work directory, or checks that it is one to resume; returns its path."""
    workdir = pathlib.Path(FLAGS.workdir)
    config = {"model": model.name, "arguments": dict(model.arguments), "seed": FLAGS.seed}
    if not FLAGS.resume:
        if workdir.exists() and any(workdir.iterdir()):
            raise ValueError(
                "`--workdir` is not empty: give --resume to go on with its run, or another "
                f"folder. Received: --workdir={workdir}."
            )
    else:
        path = workdir / settings.CONFIG
        if not path.is_file():
            raise ValueError(
                f"There is no run to resume: {path} does not exist. "
                f"Received: --workdir={workdir}, --resume."
            )
        before = json.loads(path.read_text())
        config = json.loads(json.dumps(config))
        for key in config:
            if before.get(key) != config[key]:
                raise ValueError(
                    f"`--workdir` holds the run of another model: its {key} is "
                    f"{before.get(key)!r}. Received: {config[key]!r}."
                )
    settings.write_json(
        workdir / settings.CONFIG,
        {
            **config,
            "recipe": dataclasses.asdict(recipe),
            "strategy": FLAGS.strategy,
            "precision": FLAGS.precision,
            "jit": settings.use_jit(),
            "data_dir": FLAGS.data_dir,
            "command": shlex.join(["python", "-m", "trainers.train", *sys.argv[1:]]),
            "versions": settings.versions(),
        },
    )
    return workdir


def open_data(model, recipe):
    """Returns the training and the validation data, checked against the model."""
    train = data.load(
        recipe.dataset, "train", batch_size=recipe.batch_size, data_dir=FLAGS.data_dir
    )
    received = (*train.image_shape, train.num_levels)
    if received != (*model.image_shape, model.num_levels):
        raise ValueError(
            f"The model {model.name!r} takes images {list(model.image_shape)} with "
            f"{model.num_levels} values. Received: --dataset={recipe.dataset} with images "
            f"{list(train.image_shape)}, {train.num_levels} values."
        )
    return train


def validation_data(recipe):
    """Returns the data that reports are scored on: the validation split, or else the test split."""
    for split in ("validation", "test"):
        try:
            size = data.load(
                recipe.dataset, split, batch_size=1, data_dir=FLAGS.data_dir
            ).num_examples
        except ValueError:  # No such split.
            continue
        count = min(size, FLAGS.num_validation)
        return data.load(
            recipe.dataset,
            f"{split}[:{count}]",
            batch_size=min(recipe.batch_size, count),
            data_dir=FLAGS.data_dir,
            drop_remainder=True,
        ).dataset
    logging.warning("%s has no validation or test split; reports have no score.", recipe.dataset)
    return None


def build_model(name, recipe, steps_per_pass, shards):
    """Returns the compiled `FlowModel`."""
    model = tfflows.FlowModel.from_builder(
        zoo.build, {"name": name, "seed": FLAGS.seed}, seed=FLAGS.seed, shards=shards
    )
    optimizer = schedules.make_optimizer(recipe, steps_per_pass)
    model.compile(optimizer, jit_compile=settings.use_jit())
    model.optimizer.build(model.trainable_weights)
    return model


def make_callbacks(workdir, model, backup, recipe, interval):
    """Returns the callbacks of a run."""
    lines = callbacks.read_lines(workdir / "metrics.jsonl")
    distribution = model.distribution
    sample = tf.function(lambda: distribution.sample(64, seed=[FLAGS.seed, 1]))
    return [
        callbacks.Throughput(recipe.batch_size),
        callbacks.JsonLines(
            workdir / "metrics.jsonl", interval, lines[-1]["seconds"] if lines else 0.0
        ),
        keras.callbacks.CSVLogger(workdir / "metrics.csv", append=True),
        keras.callbacks.TensorBoard(workdir / "tensorboard", update_freq="epoch"),
        callbacks.SampleGrid(workdir / "samples", sample, interval, distribution.num_levels),
        backup,
    ]


def train(entry):
    """Runs the training of `entry`, a `zoo.Model`."""
    recipe = resolve(default_recipe(entry))
    shards = settings.set_shards(recipe.batch_size, entry.image_shape)
    strategy = settings.make_strategy()
    known = open_data(entry, recipe)
    recipe = resolve(recipe, known.num_examples)
    interval = report_interval(recipe.steps)
    workdir = open_workdir(entry, recipe)
    with strategy.scope():
        model = build_model(entry.name, recipe, known.num_examples / recipe.batch_size, shards)
    backup = callbacks.Backup(workdir / "backup", interval)
    done = backup.restore(model)
    images = data.load(
        recipe.dataset,
        "train",
        batch_size=recipe.batch_size,
        data_dir=FLAGS.data_dir,
        shuffle_seed=FLAGS.seed,
        repeat=True,
        flip=recipe.flip,
        start_step=done,
    ).dataset
    if done == 0:
        model.initialize(next(iter(images.unbatch().batch(256))))
    logging.info(
        "%s: %d parameters, %d of %d steps done",
        entry.name,
        model.count_params(),
        done,
        recipe.steps,
    )
    if done < recipe.steps:
        model.fit(
            images.take(recipe.steps - done),
            initial_epoch=done // interval,
            epochs=recipe.steps // interval,
            steps_per_epoch=interval,
            validation_data=validation_data(recipe),
            callbacks=make_callbacks(workdir, model, backup, recipe, interval),
        )
    finish(workdir, entry, model, recipe)


def finish(workdir, entry, model, recipe):
    """Writes the training curve and the preset."""
    lines = callbacks.read_lines(workdir / "metrics.jsonl")
    pictures.save_curve(workdir / "training_curve.png", lines)
    metric = {
        "name": "training bits/dim",
        "value": lines[-1]["bits_per_dim"],
        "definition": "-log2 P(x) / D, mean over the steps since the last report",
        "data": f"{recipe.dataset}, train",
        "command": "trainers.train",
    }
    metadata = {
        "summary": entry.summary,
        "metric": metric,
        "parameters": model.count_params(),
        "steps": recipe.steps,
        "training_seconds": lines[-1]["seconds"],
        "machine": settings.machine(),
        "command": json.loads((workdir / settings.CONFIG).read_text())["command"],
        "versions": settings.versions(),
        "licence": "Apache-2.0",
        "paper": entry.paper,
    }
    zoo.save(workdir / "preset", model.distribution, entry.name, entry.arguments, metadata)
    images = model.distribution.sample(64, seed=[FLAGS.seed, 1])
    pictures.save_grid(
        workdir / "preset" / "samples.png", images, model.distribution.num_levels, least_size=256
    )
    print(f"Trained model: {workdir / 'preset'}; training curve: {workdir / 'training_curve.png'}")
    print(f"Next: python -m trainers.evaluate --workdir={workdir}")


def main(argv):
    """Checks the flags and trains."""
    del argv
    if FLAGS.list:
        print("\n".join(zoo.list_models()))
        return
    if FLAGS.workdir and FLAGS.resume and not FLAGS.model:
        path = pathlib.Path(FLAGS.workdir) / settings.CONFIG
        if path.is_file():
            FLAGS.model = json.loads(path.read_text())["model"]
    for name in ("model", "workdir"):
        if not getattr(FLAGS, name):
            raise app.UsageError(f"--{name} must be given.")
    train(zoo.find(FLAGS.model))


if __name__ == "__main__":
    app.run(main)
