"""Trains a model of the zoo.

    python -m trainers.train --model=convexp_glow.digits --workdir=runs/digits

Each "epoch" of the progress bar is a report: a line in `metrics.jsonl` and `metrics.csv`, the loss
on the validation split, a picture of samples, and a backup from which `--resume` goes on exactly.
The trained model ends in `workdir/preset`, which `zoo.load` reads.
"""

import contextlib
import dataclasses
import functools
import json
import math
import shlex
import shutil

import keras
from absl import app, flags, logging

import tfflows
import zoo
from tfflows import regularizers
from trainers import deform, pictures, program, volume
from trainers.data import batching, loading, planar
from trainers.runs import backup, callbacks, rewind, run_folder, schedules, settings, strategies

FLAGS = flags.FLAGS
SHARED_FLAGS = (
    *settings.PRESET_FLAGS,
    *("dataset", "data_dir", "batch_size", "seed", "jit", "loop", "shards"),
    *("set", "memory", "resume"),
)
UNITS = {"bits_per_dim": "bits/dim", "nats": "nats", "nats_per_node": "nats/node"}
DEFINITIONS = {
    "bits_per_dim": "-log2 P(x) / D",
    "nats": "-log p(x)",
    "nats_per_node": "-log p(x) / k of k nodes",
}
flags.DEFINE_integer(
    "steps", None, "Number of optimiser steps. Default: the model's.", lower_bound=1
)
flags.DEFINE_float("epochs", None, "Passes over the data, in place of --steps.")
flags.DEFINE_float(
    "learning_rate", None, "Peak learning rate. Default: the model's.", lower_bound=0.0
)
flags.DEFINE_float(
    "ema",
    None,
    "Momentum of a moving average of the weights; 0 for none.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer(
    "report_every",
    None,
    "Steps between reports, a divisor of the steps. Default: about 20 reports.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "steps_per_execution",
    None,
    "Steps that run before the host, which reads their loss, is waited for; a divisor of those "
    "between reports. Default: up to 20 on one accelerator, 1 on a CPU and on several replicas, "
    "where Keras can do no other.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "num_validation",
    1000,
    "Images of the validation split to score a report; 0 for none.",
    lower_bound=0,
)
flags.DEFINE_multi_string(
    "recipe", [], "Entry of the recipe to change, in the same way: --recipe=optimizer=adamax."
)
flags.DEFINE_float(
    "transport_cost", 0.0, "Weight of the L2 transport cost of the blocks.", lower_bound=0.0
)
flags.DEFINE_float(
    "weight_l2",
    0.0,
    "Weight of the squared norm of the matrices of linear layers.",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "spectral_cap",
    None,
    "Norm of these matrices beyond which a penalty is added.",
    lower_bound=0.0,
)
flags.DEFINE_bool(
    "volume",
    False,
    "Record log-det, variance and steepness of every layer at every report: volume.jsonl, "
    "TensorBoard, and the figure volume.png.",
)
flags.DEFINE_integer(
    "volume_iterations",
    4,
    "Power iterations for the steepness of each layer; 0 for none.",
    lower_bound=0,
)
flags.DEFINE_bool(
    "check_finite",
    True,
    "Stop before the update of a step whose loss or gradients are not finite. On a GPU the host "
    "waits for the gradients of each step to know; never on a TPU.",
)
flags.DEFINE_bool("list", False, "List the models and exit.")


def resolve(recipe, num_examples=None):
    """Returns the recipe with the flags' overrides."""
    changes = {
        name: getattr(FLAGS, name)
        for name in ("dataset", "batch_size", "steps", "learning_rate", "ema")
        if getattr(FLAGS, name) is not None
    }
    entries = run_folder.changed(dataclasses.asdict(recipe), FLAGS.recipe, "--recipe")
    recipe = dataclasses.replace(recipe, **entries | changes)
    if FLAGS.epochs is not None and not 0 < FLAGS.epochs < math.inf:
        raise ValueError(f"`--epochs` must be positive. Received: --epochs={FLAGS.epochs}.")
    if FLAGS.epochs is not None and num_examples is not None:
        steps = max(1, round(FLAGS.epochs * num_examples / recipe.batch_size))
        recipe = dataclasses.replace(recipe, steps=steps)
    return recipe


def report_interval(left, steps):
    """Returns the number of steps between reports: the divisor that gives nearest to 20.

    Args:
      left: the steps that are still to be taken.
      steps: all steps of the run.
    """
    if FLAGS.report_every is not None:
        if FLAGS.report_every < 1 or left % FLAGS.report_every:
            raise ValueError(
                "`--report_every` must divide the number of steps. "
                f"Received: --report_every={FLAGS.report_every}, {left} steps."
            )
        return FLAGS.report_every
    stored = run_folder.stored_interval()
    if stored and left % stored == 0:
        return stored
    divisors = [d for d in range(1, left + 1) if left % d == 0]
    return min(divisors, key=lambda d: abs(steps / d - 20))


def steps_per_execution(interval, replicas):
    """Returns how many of the steps between reports run as one call."""
    if FLAGS.steps_per_execution is None:
        most = 20 if settings.has_accelerator() and replicas == 1 else 1
        return max(n for n in range(1, most + 1) if interval % n == 0)
    if FLAGS.steps_per_execution < 1 or interval % FLAGS.steps_per_execution:
        raise ValueError(
            "`--steps_per_execution` must divide the steps between reports. Received: "
            f"--steps_per_execution={FLAGS.steps_per_execution}, {interval} steps between reports."
        )
    if FLAGS.steps_per_execution > 1 and replicas > 1:  # Fails with Keras 3.15, TensorFlow 2.21.
        raise ValueError(
            "`--steps_per_execution` must be 1 on several replicas. Received: "
            f"--steps_per_execution={FLAGS.steps_per_execution}, {replicas} replicas."
        )
    return FLAGS.steps_per_execution


def open_data(model, recipe):
    """Returns the training data, checked against the model."""
    train = loading.load(
        recipe.dataset,
        splits(recipe)[0],
        batch_size=recipe.batch_size,
        data_dir=FLAGS.data_dir,
        num_bits=loading.bits_to_keep(model.num_levels),
    )
    if (train.event_shape, train.num_levels) != (model.event_shape, model.num_levels):
        raise ValueError(
            f"The model {model.name!r} takes {describe(model)}. "
            f"Received: --dataset={recipe.dataset} with {describe(train)}."
        )
    loading.check_flip(recipe.flip, train.event_shape)
    if train.num_examples < recipe.batch_size:
        logging.warning(
            "%s has %d to train on, fewer than --batch_size=%d: they are in a batch again and "
            "again, and the model will learn them by heart.",
            recipe.dataset,
            train.num_examples,
            recipe.batch_size,
        )
    return train


def describe(data):
    """Returns what the data are like, for messages; takes a `zoo.Model` or `loading.Data`."""
    if loading.num_levels is None:
        what = "points" if len(loading.event_shape) == 1 else "sets of nodes"
        return f"{what} {list(loading.event_shape)}"
    return f"images {list(loading.event_shape)} with {loading.num_levels} values"


def splits(recipe, replicas=1):
    """Returns what is trained on, and what scores reports or `None`."""
    return loading.divide(recipe.dataset, FLAGS.num_validation, replicas, FLAGS.data_dir)


def validation_data(model, recipe, strategy):
    """Returns what `fit` needs to score reports."""
    split = splits(recipe, strategy.num_replicas_in_sync)[1]
    if split is None:
        why = "a validation split" if FLAGS.num_validation else "--num_validation"
        logging.warning("%s without %s: reports have no score.", recipe.dataset, why)
        return {}
    load = functools.partial(
        loading.load,
        recipe.dataset,
        split,
        data_dir=FLAGS.data_dir,
        num_bits=loading.bits_to_keep(model.num_levels),
    )
    count = load(batch_size=1).num_examples
    batch_size = min(recipe.batch_size, count)
    load = functools.partial(load, batch_size=batch_size, drop_remainder=True)
    if strategies.is_chief(strategy):
        print(f"Reports are scored on {recipe.dataset}, {split}")
    images = strategies.feed(strategy, load)
    return {"validation_data": images, "validation_steps": count // batch_size}


def make_regularizers():
    """Returns the penalties that the flags ask for; each is reported beside the likelihood."""
    found = {}
    if FLAGS.transport_cost:
        found["transport_cost"] = regularizers.transport_cost(FLAGS.transport_cost)
    if FLAGS.weight_l2:
        found["weight_l2"] = regularizers.linear_weights(FLAGS.weight_l2)
    if FLAGS.spectral_cap is not None:
        found["spectral_cap"] = regularizers.spectral_cap(FLAGS.spectral_cap)
    return found


def build_model(entry, recipe, steps_per_pass, shards):
    """Returns the compiled `FlowModel`."""
    usual = zoo.find(entry.name).arguments
    changes = {key: value for key, value in entry.arguments.items() if value != usual[key]}
    builder_kwargs = {"name": entry.name, "seed": FLAGS.seed, **changes}
    try:
        model = tfflows.FlowModel.from_builder(
            zoo.build,
            builder_kwargs,
            units=entry.units,
            seed=FLAGS.seed,
            shards=shards,
            check_finite=FLAGS.check_finite and FLAGS.strategy != "tpu",  # It asks the host.
            regularizers=make_regularizers(),
            memory=FLAGS.memory or "store",
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if not FLAGS.set:
            raise
        given = " ".join(f"--set={text}" for text in FLAGS.set)
        raise ValueError(
            f"There is no such model: {type(error).__name__}: {error} Received: {given}."
        ) from error
    model.loop = settings.use_loop(entry.event_shape, len(model.trainable_weights))
    optimizer = schedules.make_optimizer(recipe, steps_per_pass)
    model.compile(optimizer, jit_compile=settings.use_jit(entry.event_shape))
    model.optimizer.build(model.trainable_weights)
    return model


def make_callbacks(workdir, model, recipe, dataset):
    """Returns the callbacks of a run; `--volume` looks at the first images of `dataset`.

    That is in the stored order: a run that is resumed has to look at the same images.
    """
    lines = callbacks.read_lines(workdir / "metrics.jsonl")
    draw = pictures.sampler(model.distribution, FLAGS.seed)
    return [
        callbacks.Throughput(recipe.batch_size),
        callbacks.JsonLines(workdir / "metrics.jsonl", lines[-1]["seconds"] if lines else 0.0),
        keras.callbacks.CSVLogger(workdir / "metrics.csv", append=True),
        callbacks.TensorBoard(workdir / "tensorboard", update_freq="epoch"),
        callbacks.SamplePictures(workdir / "samples", draw),
        *volume_log(workdir, dataset),
        backup.Backup(workdir / "backup"),  # The last: what it has a backup of was reported.
    ]


def volume_log(workdir, dataset, num_images=32):
    """Returns the callback that `--volume` asks for, in a list, or an empty list."""
    if not FLAGS.volume:
        return []
    num_images = batching.most_events(num_images, dataset.element_spec.shape[1:])
    images = next(iter(dataset.unbatch().batch(num_images)))
    return [volume.VolumeLog(workdir, images, FLAGS.volume_iterations)]


def train(entry):
    """Runs the training of `entry`, a `zoo.Model`."""
    recipe = resolve(run_folder.default_recipe(entry))
    shards = strategies.set_shards(recipe.batch_size, entry.event_shape)
    strategy = strategies.make()
    strategies.check_batch(recipe.batch_size, strategy.num_replicas_in_sync)
    known = open_data(entry, recipe)
    recipe = resolve(recipe, known.num_examples)
    if not FLAGS.resume:  # An error before there is a folder.
        interval = report_interval(recipe.steps, recipe.steps)
        steps_per_execution(interval, strategy.num_replicas_in_sync)
    is_chief = strategies.is_chief(strategy)
    if is_chief:
        run_folder.check(entry, known.num_examples)
    with strategy.scope():
        model = build_model(entry, recipe, known.num_examples / recipe.batch_size, shards)
    with contextlib.ExitStack() as stack:
        if is_chief:
            workdir = stack.enter_context(run_folder.held(entry, known.num_examples))
            backup.restore(workdir / "backup", model)
        state = [variable.value for variable in model.optimizer.variables]
        strategies.broadcast(strategy, [*model.weights, *state])
        done = int(model.optimizer.iterations.numpy())
        if done > recipe.steps:
            raise ValueError(
                f"The run has taken {done} steps: `--steps` must not be less. "
                f"Received: {recipe.steps} steps."
            )
        interval = report_interval(recipe.steps - done or recipe.steps, recipe.steps)
        watchers = []
        if is_chief:
            run_folder.write(entry, recipe, known.num_examples, shards, interval, model.loop)
            rewind.rewind(workdir, done)
            watchers = make_callbacks(workdir, model, recipe, known.dataset)
            count = model.count_params()
            print(f"{entry.name}: {count} parameters, {done} of {recipe.steps} steps done")
        if done < recipe.steps:
            with strategies.explained(strategy):
                fit(entry, model, recipe, done, interval, watchers)
        else:  # As the end of `fit` does: with the moving average, where there is one.
            model.optimizer.finalize_variable_values(model.trainable_weights)
        if is_chief:
            finish(workdir, entry, model, recipe)


def fit(entry, model, recipe, done, interval, watchers):
    """Takes the steps that are left.

    Args:
      entry: the `zoo.Model`.
      model: the `FlowModel`, with the weights after `done` steps.
      recipe: the `zoo.Recipe`.
      done: steps taken so far.
      interval: steps between two reports.
      watchers: callbacks.
    """
    load = functools.partial(
        loading.load,
        recipe.dataset,
        splits(recipe)[0],
        batch_size=recipe.batch_size,
        data_dir=FLAGS.data_dir,
        shuffle_seed=FLAGS.seed,
        repeat=True,
        flip=recipe.flip,
        num_bits=loading.bits_to_keep(entry.num_levels),
        start_step=done,
    )
    strategy = model.distribute_strategy
    model.steps_per_execution = steps_per_execution(interval, strategy.num_replicas_in_sync)
    if done == 0:
        count = batching.most_events(256, entry.event_shape)
        model.initialize(next(iter(load().dataset.unbatch().batch(count))))
        strategies.broadcast(strategy, model.weights)
    left = recipe.steps - done
    model.fit(
        strategies.feed(strategy, load),
        initial_epoch=done // interval,
        epochs=done // interval + left // interval,
        steps_per_epoch=interval,
        shuffle=False,  # The data are; Keras would warn that it can't.
        **validation_data(entry, recipe, strategy),
        callbacks=watchers,
        verbose="auto" if strategies.is_chief(strategy) else 0,
    )


def finish(workdir, entry, model, recipe):
    """Writes the training curve and the preset."""
    lines = callbacks.read_lines(workdir / "metrics.jsonl")
    if not lines:
        raise ValueError(
            f"{workdir / 'metrics.jsonl'} must have the reports of the run; it has none. Put it "
            "back, or raise `--steps` so that there is one more report."
        )
    pictures.save_curve(workdir / "training_curve.png", lines)
    if (workdir / volume.LINES).is_file():
        volume.save_figure(workdir / "volume.png", callbacks.read_lines(workdir / volume.LINES))
    metric = {
        "name": f"training {UNITS[model.units]}",
        "value": lines[-1][model.units],
        "definition": f"{DEFINITIONS[model.units]}, mean over the steps since the last report",
        "data": f"{recipe.dataset}, {splits(recipe)[0]}",
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
        "pictures": {"Samples": "samples.png"},
    }
    if recipe.dataset in planar.NAMES:
        metadata["pictures"]["Deformation of the data, and the density"] = "deformation.png"
    zoo.save(workdir / "preset", model.distribution, entry.name, entry.arguments, metadata)
    for folder in workdir.glob(".preset.*"):  # Of a run that was killed while it wrote one.
        shutil.rmtree(folder)
    draw = pictures.sampler(model.distribution, FLAGS.seed)
    draw(workdir / "preset" / "samples.png", least_size=256)
    if recipe.dataset in planar.NAMES:
        points = planar.sample(recipe.dataset, 10_000, FLAGS.seed)
        deform.save_figure(workdir / "preset" / "deformation.png", model.distribution, points, 6)
    print(f"Trained model: {workdir / 'preset'}; training curve: {workdir / 'training_curve.png'}")
    print(f"Next: python -m trainers.evaluate --workdir={shlex.quote(str(workdir))}")


def main(argv):
    """Checks the flags and trains."""
    del argv
    if FLAGS.list:
        print("\n".join(zoo.list_models()))
        return
    if FLAGS.workdir and FLAGS.resume:
        run_folder.restore_flags()
    for name in ("model", "workdir"):
        if not getattr(FLAGS, name):
            raise app.UsageError(f"--{name} must be given.")
    train(run_folder.with_changes(zoo.find(FLAGS.model)))


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
