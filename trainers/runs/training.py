"""A training from its `Run` to the preset: what `trainers.train` does once its flags are read."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import shlex
import shutil
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import logging

import tfflows
import zoo
from tfflows import regularizers
from trainers import deform, pair_plots, pictures
from trainers.data import batching, loading, planar, sources
from trainers.data.tables import table_names
from trainers.runs import (
    backup,
    callbacks,
    conditions,
    environment,
    rewind,
    run_folder,
    schedules,
    start,
    stopping,
    strategies,
    table_columns,
    volume,
)
from trainers.runs.run import CONFIG, Run
from zoo import columns


def train(run: Run) -> None:
    """Takes the steps of a run that are left, and writes the preset."""
    recipe, shape = run.recipe, run.entry.event_shape
    shards = strategies.set_shards(run.shards, recipe.batch_size, shape, run.devices)
    strategy = strategies.make(run.devices)
    strategies.check_batch(recipe.batch_size, strategy.num_replicas_in_sync)
    run = table_columns.with_columns(run)
    run = conditions.with_classes(run, *splits(run, strategy.num_replicas_in_sync))
    entry, known = run.entry, open_data(run)
    run = with_data(run, known.num_examples)
    check_validation(run, strategy.num_replicas_in_sync)
    if not run.resume:  # An error before there is a folder.
        interval = report_interval(run, run.recipe.steps)
        steps_per_execution(run, interval, strategy.num_replicas_in_sync)
    is_chief = strategies.is_chief(strategy)
    if is_chief:
        run_folder.check(run)
    with strategy.scope():
        model = build_model(run, shards)
        best = make_stopping(run)
    with contextlib.ExitStack() as stack:
        loaded: frozenset[int] = frozenset()
        if is_chief:
            stack.enter_context(run_folder.hold(run))
            done = backup.restore(run.workdir / "backup", model, best)
            if run.init and not done:
                record, loaded = start.load(model, run.init)
                run = dataclasses.replace(run, start=record)
        state = [variable.value for variable in model.optimizer.variables]
        followed = best.variables if best else []
        strategies.broadcast(strategy, [*model.weights, *state, *followed])
        done = int(model.optimizer.iterations.numpy())
        steps = run.recipe.steps
        if done > steps:
            raise ValueError(
                f"The run has taken {done} steps: `--steps` must not be less. "
                f"Received: {steps} steps."
            )
        interval = report_interval(run, steps - done or steps)
        watchers = [stopping.AveragedScores(), *([best] if best else [])]
        if is_chief:
            jit = environment.use_jit(run.jit, entry.event_shape)
            decisions = {"shards": shards, "jit": jit, "loop": model.loop}
            run_folder.write(dataclasses.replace(run, reported_every=interval), decisions)
            rewind.rewind(run.workdir, done)
            draw = make_sampler(run, model)
            watchers += make_callbacks(run, known.dataset, draw, best)
            if known.made:
                print(f"{recipe.dataset}: {known.made}")
            trained, count = start.count(model, run.freeze)
            print(f"{entry.name}: {count} parameters, {done} of {steps} steps done")
            if run.freeze:
                print(f"{trained} of {count} parameters are trained, the others are frozen")
        if done < steps and not (best and best.is_over):
            with strategies.explain_errors(strategy):
                fit(run, model, done, interval, watchers, loaded)
        else:  # As the end of `fit` does: with the moving average, where there is one.
            model.optimizer.finalize_variable_values(model.trainable_weights)
        if is_chief:
            finish(run, model, draw, best)


def check_validation(run: Run, replicas: int) -> None:
    """Refuses a run that asks for the best of scores that it will not have."""
    if (run.early_stopping or run.keep == "best") and splits(run, replicas)[1] is None:
        asked = f"--early_stopping={run.early_stopping}" if run.early_stopping else "--keep=best"
        raise ValueError(
            "`--early_stopping` and `--keep=best` need a validation split: data with one, and a "
            f"--num_validation that is not 0. Received: {asked}, --dataset={run.recipe.dataset} "
            f"with --num_validation={run.num_validation}, of which none is left to score."
        )


def make_stopping(run: Run) -> stopping.Stopping | None:
    """Returns what follows the best score, if that is asked for."""
    if run.early_stopping is None and not run.keeps_best:
        return None
    return stopping.Stopping(f"val_{run.entry.units}", run.early_stopping, run.keeps_best)


def with_data(run: Run, num_examples: int) -> Run:
    """Returns the run with the size of its data, and so with its steps."""
    recipe = run.recipe
    if run.epochs is not None:
        steps = max(1, round(run.epochs * num_examples / recipe.batch_size))
        recipe = dataclasses.replace(recipe, steps=steps)
    return dataclasses.replace(run, recipe=recipe, num_examples=num_examples)


def report_interval(run: Run, left: int) -> int:
    """Returns the number of steps between reports: the divisor that gives nearest to 20.

    Args:
      run: the run.
      left: the steps that are still to be taken.
    """
    if run.report_every is not None:
        if left % run.report_every:
            raise ValueError(
                "`--report_every` must divide the number of steps. "
                f"Received: --report_every={run.report_every}, {left} steps."
            )
        return run.report_every
    if run.reported_every and left % run.reported_every == 0:
        return run.reported_every
    divisors = [d for d in range(1, left + 1) if left % d == 0]
    return min(divisors, key=lambda d: abs(run.recipe.steps / d - 20))


def steps_per_execution(run: Run, interval: int, replicas: int) -> int:
    """Returns how many of the steps between reports run as one call."""
    asked = run.steps_per_execution
    if asked is None:
        short = environment.suits_xla(run.entry.event_shape) and replicas == 1
        most = min(20, interval // 2) if short else 1  # Two calls, of which one is timed.
        return max(n for n in range(1, max(1, most) + 1) if interval % n == 0)
    if interval % asked:
        raise ValueError(
            "`--steps_per_execution` must divide the steps between reports. Received: "
            f"--steps_per_execution={asked}, {interval} steps between reports."
        )
    if asked > 1 and replicas > 1:  # Fails with Keras 3.15, TensorFlow 2.21.
        raise ValueError(
            "`--steps_per_execution` must be 1 on several replicas. Received: "
            f"--steps_per_execution={asked}, {replicas} replicas."
        )
    return asked


def open_data(run: Run) -> loading.Data:
    """Returns the training data, checked against the model."""
    recipe, entry = run.recipe, run.entry
    data = loading.load(
        recipe.dataset,
        splits(run)[0],
        batch_size=recipe.batch_size,
        data_dir=run.data_dir,
        num_bits=loading.bits_to_keep(entry.num_levels),
        preparation=run.preparation,
        condition=recipe.condition,
        classes=run.classes,
    )
    given = (data.kind, data.event_shape, data.num_levels)
    if given != (entry.kind, entry.event_shape, entry.num_levels):
        wanted = entry.kind.describe(entry.event_shape, entry.num_levels)
        raise ValueError(
            f"The model {entry.name!r} takes {wanted}. "
            f"Received: --dataset={recipe.dataset} with {data.describe()}."
        )
    loading.check_flip(recipe.flip, data.event_shape)
    if data.num_examples < recipe.batch_size:
        logging.warning(
            "%s has %d to train on, fewer than --batch_size=%d: they are in a batch again and "
            "again, and the model will learn them by heart.",
            table_names.shown(recipe.dataset),
            data.num_examples,
            recipe.batch_size,
        )
    return data


def splits(run: Run, replicas: int = 1) -> tuple[str, str | None]:
    """Returns what is trained on, and what scores reports or `None`."""
    return loading.divide(run.recipe.dataset, run.num_validation, replicas, run.data_dir)


def validation_data(run: Run, strategy: tf.distribute.Strategy) -> dict:
    """Returns what `fit` needs to score reports."""
    dataset = run.recipe.dataset
    split = splits(run, strategy.num_replicas_in_sync)[1]
    if split is None:
        why = "a validation split" if run.num_validation else "--num_validation"
        shown = table_names.shown(dataset)
        logging.warning("%s without %s: reports have no score.", shown, why)
        return {}
    load = functools.partial(
        loading.load,
        dataset,
        split,
        data_dir=run.data_dir,
        num_bits=loading.bits_to_keep(run.entry.num_levels),
        preparation=run.preparation,
        condition=run.recipe.condition,
        classes=run.classes,
    )
    count = load(batch_size=1).num_examples
    # What can't be read is left out after the division.
    batch_size = min(run.recipe.batch_size, count)
    batch_size -= batch_size % strategy.num_replicas_in_sync
    load = functools.partial(load, batch_size=batch_size, drop_remainder=True)
    if strategies.is_chief(strategy):
        print(f"Reports are scored on {table_names.shown(dataset)}, {split}")
    images = strategies.feed(strategy, load)
    return {"validation_data": images, "validation_steps": count // batch_size}


def make_regularizers(run: Run) -> dict:
    """Returns the penalties of a run; each is reported beside the likelihood."""
    found = {}
    if run.transport_cost:
        found["transport_cost"] = regularizers.transport_cost(run.transport_cost)
    if run.weight_l2:
        found["weight_l2"] = regularizers.linear_weights(run.weight_l2)
    if run.spectral_cap is not None:
        found["spectral_cap"] = regularizers.spectral_cap(run.spectral_cap)
    return found


def build_model(run: Run, shards: int) -> tfflows.FlowModel:
    """Returns the compiled `FlowModel`; `run.num_examples` has to be known."""
    entry = run.entry
    usual = zoo.find(entry.name).arguments
    changes = {key: value for key, value in entry.arguments.items() if value != usual[key]}
    builder_kwargs = {"name": entry.name, "seed": run.seed, **changes}
    try:
        model = tfflows.FlowModel.from_builder(
            zoo.build,
            builder_kwargs,
            context=conditions.context_network(run),
            context_dropout=run.recipe.context_dropout,
            units=entry.units,
            seed=run.seed,
            shards=shards,
            # On a TPU it could not ask the host.
            check_finite=run.check_finite and run.devices.strategy != "tpu",
            regularizers=make_regularizers(run),
            memory=run.memory,
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if not run.changes:
            raise
        given = " ".join(f"--set={text}" for text in run.changes)
        raise ValueError(
            f"There is no such model: {type(error).__name__}: {error} Received: {given}."
        ) from error
    start.freeze(model, run.freeze)
    jit = environment.use_jit(run.jit, entry.event_shape)
    count = len(model.trainable_weights)
    model.loop = environment.use_loop(run.loop, jit, entry.event_shape, count)
    steps_per_pass = run.num_examples / run.recipe.batch_size
    optimizer = schedules.make_optimizer(run.recipe, steps_per_pass)
    model.compile(optimizer, jit_compile=jit)
    model.optimizer.build(model.trainable_weights)
    return model


def make_callbacks(
    run: Run,
    dataset: tf.data.Dataset,
    draw: Callable,
    best: stopping.Stopping | None = None,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a run; `--volume` looks at the first images of `dataset`.

    That is in the stored order: a run that is resumed has to look at the same images. `draw` draws
    samples, and a backup holds `best`, too.
    """
    workdir = run.workdir
    lines = callbacks.read_lines(workdir / "metrics.jsonl")
    return [
        callbacks.Throughput(run.recipe.batch_size, run.entry.kind.event),
        callbacks.JsonLines(workdir / "metrics.jsonl", lines[-1]["seconds"] if lines else 0.0),
        keras.callbacks.CSVLogger(workdir / "metrics.csv", append=True),
        callbacks.TensorBoard(workdir / "tensorboard", update_freq="epoch"),
        callbacks.SamplePictures(workdir / "samples", draw),
        *_volume_log(run, dataset),
        stopping.PartingWarning(run.entry.units, lines),
        backup.Backup(workdir / "backup", best),  # The last: what it has a backup of was reported.
    ]


def make_sampler(run: Run, model: tfflows.FlowModel) -> Callable:
    """Returns the function that draws samples into a file, those of a table beside its rows."""
    if run.classes:
        return pictures.class_sampler(model.condition, len(run.classes), run.seed)
    if run.entry.kind != zoo.TABLES:
        return pictures.sampler(model.distribution, run.seed)
    table, numbers = sources.rows_of(run.recipe.dataset, splits(run)[0])
    rows = table.rows[numbers[: pair_plots.MOST_ROWS]]
    names = columns.names(run.entry.arguments["columns"])
    rows, given = rows[:, : len(names)], rows[:, len(names) :]
    save = pair_plots.saver(names, rows)
    distribution = model.condition(given) if table.num_conditions else model.distribution
    return pictures.sampler(distribution, run.seed, count=len(rows), save=save)


def _volume_log(run, dataset, num_images=32):
    """Returns the callback that `--volume` asks for, in a list, or an empty list."""
    if not run.volume:
        return []
    num_images = batching.most_events(num_images, run.entry.event_shape)
    batch = next(iter(dataset.unbatch().batch(num_images)))
    batch = batch if isinstance(batch, tuple) else (batch,)
    return [volume.VolumeLog(run.workdir, *batch, num_iterations=run.volume_iterations)]


def fit(
    run: Run,
    model: tfflows.FlowModel,
    done: int,
    interval: int,
    watchers: list,
    loaded: frozenset[int] = frozenset(),
) -> None:
    """Takes the steps that are left.

    Args:
      run: the run.
      model: the model, with the weights after `done` steps.
      done: steps taken so far.
      interval: steps between two reports.
      watchers: callbacks.
      loaded: identities of the variables that have the values of a preset.
    """
    recipe = run.recipe
    load = functools.partial(
        loading.load,
        recipe.dataset,
        splits(run)[0],
        batch_size=recipe.batch_size,
        data_dir=run.data_dir,
        shuffle_seed=run.seed,
        repeat=True,
        flip=recipe.flip,
        num_bits=loading.bits_to_keep(run.entry.num_levels),
        start_step=done,
        preparation=run.preparation,
        condition=recipe.condition,
        classes=run.classes,
    )
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    model.steps_per_execution = steps_per_execution(run, interval, replicas)
    if done == 0:
        count = batching.most_events(256, run.entry.event_shape)
        batch = next(iter(load().dataset.unbatch().batch(count)))
        keep = frozenset() if run.init_act_norm else loaded
        batch = batch if isinstance(batch, tuple) else (batch,)
        model.initialize(*batch, only=lambda part: keep.isdisjoint(map(id, part.variables)))
        strategies.broadcast(strategy, model.weights)
    left = recipe.steps - done
    model.fit(
        strategies.feed(strategy, load),
        initial_epoch=done // interval,
        epochs=done // interval + left // interval,
        steps_per_epoch=interval,
        shuffle=False,  # The data are; Keras would warn that it can't.
        **validation_data(run, strategy),
        callbacks=watchers,
        verbose="auto" if strategies.is_chief(strategy) else 0,
    )


def finish(
    run: Run, model: tfflows.FlowModel, draw: Callable, best: stopping.Stopping | None = None
) -> None:
    """Writes the training curve and the preset, with the weights that `best` kept if it did."""
    workdir, entry = run.workdir, run.entry
    lines = callbacks.read_lines(workdir / "metrics.jsonl")
    if not lines:
        raise ValueError(
            f"{workdir / 'metrics.jsonl'} must have the reports of the run; it has none. Put it "
            "back, or raise `--steps` so that there is one more report."
        )
    if (workdir / volume.LINES).is_file():
        volume.save_figure(workdir / "volume.png", callbacks.read_lines(workdir / volume.LINES))
    done = int(model.optimizer.iterations.numpy())
    kept = done
    if best:
        kept = best.load(model) or done
    curve = workdir / "training_curve.png"
    pictures.save_curve(curve, lines, kept)
    last = next((line for line in lines if line["step"] == kept), lines[-1])
    metadata = describe(run, model, last) | {"steps": kept}
    if best:
        scored = splits(run, model.distribute_strategy.num_replicas_in_sync)[1]
        score = f"{run.recipe.dataset}, {scored}", entry.kind.label
        remarks = best.describe(done, run.recipe.steps, *score)
        metadata["remarks"] |= remarks
        print("; ".join(f"{name} {text}" for name, text in remarks.items()))
    preset = workdir / "preset"
    zoo.save(preset, model.distribution, entry.name, entry.arguments, metadata)
    for folder in workdir.glob(".preset.*"):  # Of a run that was killed while it wrote one.
        shutil.rmtree(folder)
    draw_pictures(run, model, draw, preset)
    shutil.copyfile(curve, preset / curve.name)
    print(f"Trained model: {preset}; training curve: {curve}")
    has_test = loading.has_split(run.recipe.dataset, "test", run.data_dir)
    program = "evaluate" if has_test else "sample"
    print(f"Next: python -m trainers.{program} --workdir={shlex.quote(str(workdir))}")


def describe(run: Run, model: tfflows.FlowModel, last: dict) -> dict:
    """Returns the metadata of the preset; `last` is the last report."""
    kind = run.entry.kind
    split = splits(run)[0]
    metadata = {
        "summary": run.entry.summary,
        "metric": {
            "name": f"training {kind.label}",
            "value": last[kind.units],
            "definition": f"{kind.definition}, mean over the steps since the last report",
            "data": f"{table_names.shown(run.recipe.dataset)}, {split}",
            "command": "trainers.train",
        },
        "parameters": start.count(model, run.freeze)[1],
        "steps": run.recipe.steps,
        "training_seconds": last["seconds"],
        "machine": environment.machine(),
        "command": json.loads((run.workdir / CONFIG).read_text())["command"],
        "versions": environment.versions(),
        "licence": "Apache-2.0",
        "paper": run.entry.paper,
        "pictures": {"Samples": "samples.png", "Training curve": "training_curve.png"},
        "remarks": {},
    }
    metadata |= conditions.describe(run, split)
    if run.classes:
        metadata["metric"]["definition"] += ", given the label"
    if stages := start.stages(run, model, f"{run.recipe.dataset}, {split}"):
        metadata["stages"] = stages
    if run.preparation:
        metadata["preparation"] = run.preparation.to_json()
        metadata["remarks"]["pictures"] = run.preparation.describe()
    if run.recipe.dataset in planar.NAMES:
        metadata["pictures"]["Deformation of the data, and the density"] = "deformation.png"
    return metadata


def draw_pictures(run: Run, model: tfflows.FlowModel, draw: Callable, folder: pathlib.Path) -> None:
    """Draws the pictures of the preset, samples with `draw`."""
    draw(folder / "samples.png", least_size=256)
    if run.recipe.dataset in planar.NAMES:
        points = planar.sample(run.recipe.dataset, 10_000, run.seed)
        deform.save_figure(folder / "deformation.png", model.distribution, points, 6)
