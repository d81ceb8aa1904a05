"""Measures what models cost with and without XLA: steps, samples, memory, operations.

    python -m trainers.benchmark --model=convexp_glow.cifar10_small
    python -m trainers.benchmark --model=glow.digits,balanced.digits --output=costs.json

Each model is measured without XLA and with it, or, by `--jit=off` and `--jit=on`, in one way. Each
of these variants has a process of its own, which is what its peak memory is that of; they take
turns, one at a time, so that drift of the machine hits all alike. Leave it alone meanwhile, and
mind that all of them are in memory at once.

A step is that of `trainers.train` with the same flags, on noise and at a learning rate of 0.
Samples are drawn in a graph, `--draws` at a time, from weights as they are initialised, or from
those of a preset if its path is given. `tfflows.analysis.operations` says what counts as a
floating-point operation; a `+` stands where there are loops, whose bodies count once, or functions
of libraries, which count nothing but for QR.
"""

import contextlib
import dataclasses
import multiprocessing
import pathlib
import resource
import time
import traceback
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfflows
import zoo
from tfflows.analysis import operations
from tfflows.distributions import density_of, is_discrete
from trainers import command_line, program
from trainers.runs import environment, strategies, training
from trainers.runs.run import Run, is_run
from zoo import columns
from zoo.storage import files, presets

FLAGS = flags.FLAGS
SHARED_FLAGS = (
    *("model", "output", "batch_size", "seed", "jit", "loop", "shards"),
    *command_line.DEVICE_FLAGS,
    *("set", "memory", "recipe", "ema", "transport_cost", "weight_l2", "spectral_cap"),
    "check_finite",
)
NUM_EXAMPLES = 1000  # Of the data that a schedule is made for; at a rate of 0 they don't matter.
flags.DEFINE_integer("rounds", 7, "Turns of each model.", lower_bound=1)
flags.DEFINE_integer("draws", 100, "Samples to draw at a time.", lower_bound=1)
COUNTED = ("step", "log_prob", "samples")
COLUMNS = ("parameters", "batch size", "first step, s", "step, s", "examples/s", "samples/s")


def read_run(name: str) -> Run:
    """Returns the run of `trainers.train` that the flags ask for, of a name or of a preset."""
    if is_run(name):
        raise ValueError(
            "`--model` must be names or presets; that of a run is the folder `preset` in it. "
            f"Received: --model={name}."
        )
    if not presets.is_place(name):
        entry = command_line.read_entry(zoo.find(name))
    elif FLAGS.set:
        raise app.UsageError(f"--set can't change what a preset is. Received: --model={name}.")
    else:
        config = files.read_json(presets.folder(name) / "config.json")
        entry = dataclasses.replace(zoo.find(config["model"]), arguments=config["arguments"])
    recipe = command_line.read_recipe(entry.recipe)
    names = ("seed", "jit", "loop", "shards", "transport_cost", "weight_l2", "spectral_cap")
    return Run(
        entry,
        dataclasses.replace(recipe, learning_rate=0.0),
        devices=command_line.read_devices(),
        memory=FLAGS.memory or "store",
        check_finite=FLAGS.check_finite,
        changes=tuple(FLAGS.set),
        num_examples=NUM_EXAMPLES * recipe.batch_size,
        **{flag: getattr(FLAGS, flag) for flag in names},
    )


def noise(entry: zoo.Model, count: int) -> tf.Tensor:
    """Returns a batch of the shape and type of a model's data, which decide what a step costs."""
    rng, shape = np.random.default_rng(0), [count, *entry.event_shape]
    if entry.kind == zoo.TABLES:
        return columns.noise(entry.arguments["columns"], count)
    if entry.num_levels is None:
        return tf.constant(rng.normal(size=shape), tf.float32)
    return tf.constant(rng.integers(entry.num_levels, size=shape), tf.uint8)


def contexts(entry: zoo.Model, count: int) -> list[tf.Tensor]:
    """Returns what a batch is given, in a list, which is empty if the model is not conditional."""
    if entry.context_size is None:
        return []
    values = np.random.default_rng(1).normal(size=[count, entry.context_size])
    return [tf.constant(values, tf.float32)]


def seconds(function: Callable) -> float:
    """Returns how long a call takes."""
    start = time.perf_counter()
    tf.nest.map_structure(lambda t: t.numpy(), function())
    return time.perf_counter() - start


def resident_bytes(key: str) -> int:
    """Returns the resident bytes of this process: `VmRSS` now, or `VmHWM` at most so far."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # Not `ru_maxrss` where there is a choice: it begins with the size of the parent process.
    line = next(s for s in status.read_text().splitlines() if s.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


class Variant:
    """A model, with or without XLA, in the process that measures it.

    Args:
      run: the run whose steps are measured.
      draws: samples to draw at a time.
      preset: folder of the weights, or `None` for initial ones.
    """

    def __init__(self, run: Run, draws: int, preset: str | None) -> None:
        before = resident_bytes("VmRSS")
        self._draws, self._run = draws, run
        recipe, shape = run.recipe, run.entry.event_shape
        self._shards = strategies.set_shards(run.shards, recipe.batch_size, shape, run.devices)
        strategies.make(run.devices)
        size = recipe.batch_size
        self._batch = (noise(run.entry, size), *contexts(run.entry, size))
        self._model = training.build_model(run, self._shards)
        if preset:
            presets.load_weights(self._model.distribution, preset)
        else:
            self._model.initialize(*self._batch)
        # Keras's `train_step` takes events alone, or pairs.
        self._data = self._batch if len(self._batch) > 1 else self._batch[0]
        self._step = tf.function(self._model.train_step, autograph=False)
        jit = environment.use_jit(run.jit, shape)
        self._draw = tf.function(self._sample, autograph=False, jit_compile=jit)
        first = seconds(lambda: self._step(self._data))
        self._draw()
        self._row = {
            "XLA": jit,
            "parameters": self._model.count_params(),
            "batch size": recipe.batch_size,
            "first step, s": first,
            "memory of the libraries, bytes": before,
        }

    def _sample(self):
        density = density_of(self._given([y[0] for y in self._batch[1:]]))
        return density.sample(self._draws, seed=[self._run.seed, 1])

    def _given(self, context):
        """Returns the distribution given a context in a list, which is empty if there is none."""
        distribution = self._model.distribution
        return tfflows.condition(distribution, *context) if context else distribution

    def _log_prob(self, x, *context):
        distribution = self._given(context)
        options = {"seed": [0, 1]} if is_discrete(distribution) else {}
        return distribution.log_prob(x, **options)

    def turn(self) -> tuple[float, float]:
        """Returns the seconds of a step and of a batch of samples."""
        return seconds(lambda: self._step(self._data)), seconds(self._draw)

    def row(self) -> dict:
        """Returns what does not change from turn to turn."""
        return self._row | {"peak memory, bytes": resident_bytes("VmHWM")}

    def operations(self) -> dict:
        """Returns the operations of a step, of `log_prob` of a batch, and of the samples."""
        model = training.build_model(
            self._run, self._shards
        )  # Traced for XLA: that one may not have been.
        model.check_finite = False  # XLA can't translate its diagnosis, a Python function.
        counted = (
            operations.count(model.train_step, self._data),
            operations.count(self._log_prob, *self._batch),
            operations.count(self._sample),
        )
        row = {}
        for name, found in zip(COUNTED, counted, strict=True):
            row[f"{name}, operations"] = found.operations
            row[f"{name}, loops counted once"] = found.loops
            row[f"{name}, not counted"] = sorted(found.unknown)
        return row


def serve(connection: Any, *arguments: Any) -> None:
    """Measures a variant as the other end of a connection asks, until that is closed.

    Args:
      connection: gets names of methods of `Variant`; sends `(result, None)` or `(None, error)`.
      *arguments: see `Variant`.
    """
    try:
        variant = Variant(*arguments)
        connection.send((None, None))
        while True:
            connection.send((getattr(variant, connection.recv())(), None))
    except (EOFError, KeyboardInterrupt):  # The other end is gone, or is interrupted as this is.
        return
    except Exception as error:
        connection.send((None, program.message(error) or traceback.format_exc()))


class Worker:
    """The process of a variant, as the one that asks sees it."""

    def __init__(self, name: str, run: Run, draws: int) -> None:
        self._what = f"{name} with --jit={run.jit}"
        context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork.
        self._connection, other = context.Pipe()
        arguments = (other, run, draws, presets.find(name) if presets.is_place(name) else None)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        other.close()  # So that the end of the process is the end of the connection.
        self._answer()

    def ask(self, method: str) -> Any:
        """Returns what a method of `Variant` does."""
        self._connection.send(method)
        return self._answer()

    def _answer(self):
        try:
            result, error = self._connection.recv()
        except EOFError:
            error = "its process ended, as it does when memory is short."
        if error:
            raise RuntimeError(f"{self._what} can't be measured: {error}")
        return result

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(10)
        self._process.kill()


def measure(runs: dict[str, Run], rounds: int, draws: int) -> list[dict]:
    """Returns a row for each run with and without XLA, the medians over all turns.

    Args:
      runs: a dict from names to runs; `jit="auto"` is measured in both ways.
      rounds: turns of each.
      draws: samples to draw at a time.
    """
    jits = {name: ("off", "on") if run.jit == "auto" else (run.jit,) for name, run in runs.items()}
    count = sum(map(len, jits.values()))
    with contextlib.ExitStack() as stack:
        workers = {}
        bar = keras.utils.Progbar(count, unit_name="process")
        for name, run in runs.items():
            for jit in jits[name]:
                workers[name, jit] = Worker(name, dataclasses.replace(run, jit=jit), draws)
                stack.callback(workers[name, jit].close)
                bar.add(1)
        turns = {key: [] for key in workers}
        bar = keras.utils.Progbar(rounds, unit_name="round")
        for _ in range(rounds):
            for key, worker in workers.items():
                turns[key].append(worker.ask("turn"))
            bar.add(1)
        rows = {key: {"model": key[0], **worker.ask("row")} for key, worker in workers.items()}
        # The mathematics, and so the count, is the same with and without XLA.
        counted = {name: workers[name, jits[name][0]].ask("operations") for name in runs}
        for name, jit in workers:
            step, samples = map(float, np.median(turns[name, jit], axis=0))
            row = rows[name, jit]
            row |= {"step, s": step, "examples/s": row["batch size"] / step}
            row |= {"samples/s": draws / samples, **counted[name]}
    return list(rows.values())


def print_table(rows: list[dict], draws: int) -> None:
    """Prints the rows as a table in Markdown."""
    gigas = [f"{name}, GFLOP" for name in COUNTED]
    header = ["model", "XLA", *COLUMNS, "peak memory, MB", *gigas]
    print(f"\n| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    for row in rows:
        cells = [row["model"], "yes" if row["XLA"] else "no"]
        cells += [f"{row[c]:,}" if isinstance(row[c], int) else f"{row[c]:.3g}" for c in COLUMNS]
        cells.append(f"{row['peak memory, bytes'] / 1e6:,.0f}")
        for name in COUNTED:
            more = row[f"{name}, loops counted once"] or row[f"{name}, not counted"]
            cells.append(f"{row[f'{name}, operations'] / 1e9:.3g}{'+' if more else ''}")
        print(f"| {' | '.join(cells)} |")
    libraries = np.median([row["memory of the libraries, bytes"] for row in rows])
    print(
        f"\nstep and log_prob of a batch, {draws} samples; peak memory of the process, of "
        f"which {libraries / 1e6:,.0f} MB are there before the model is built"
    )


def main(argv: list[str]) -> None:
    """Measures, prints the table, writes the JSON."""
    del argv
    if not FLAGS.model:
        raise app.UsageError("--model must be given.")
    runs = {name: read_run(name) for name in FLAGS.model.split(",")}
    rows = measure(runs, FLAGS.rounds, FLAGS.draws)
    print_table(rows, FLAGS.draws)
    if FLAGS.output:
        files.write_json(
            files.local(FLAGS.output),
            {
                "models": rows,
                "draws": FLAGS.draws,
                "command": command_line.command("trainers.benchmark"),
                "machine": environment.machine(),
                "versions": environment.versions(),
            },
        )


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
