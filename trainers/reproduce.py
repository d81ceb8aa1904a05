"""Runs the experiments of a paper at a scale that fits on two cores, and writes their figures.

    python -m trainers.reproduce --experiment=density --workdir=runs/density

Each experiment (`trainers.experiments`) is a number of runs of `trainers.train`, `--jobs` of them
at a time with a core each. In the work directory, `results.csv` has a row for each and `curves.png`
its course; a run that stopped with a `NonFiniteError` is a result, too. The same command goes on
with an experiment that was interrupted: runs that have ended are not made again.
"""

import concurrent.futures
import csv
import json
import math
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from absl import app, flags

from tfflows.training import UNITS
from trainers import command_line, experiments, program
from trainers.data import loading
from trainers.runs import callbacks, volume
from zoo.storage import files

FLAGS = command_line.FLAGS
SHARED_FLAGS = ("workdir", "data_dir")
flags.DEFINE_enum("experiment", None, list(experiments.EXPERIMENTS), "What to run.")
flags.DEFINE_integer(
    "jobs", len(os.sched_getaffinity(0)), "Runs at a time, at most one a core.", lower_bound=1
)
flags.DEFINE_string(
    "photographs", None, "A .npz file of large images, cut up where crops exceed those of CIFAR-10."
)
flags.DEFINE_string("only", "", "A regular expression: run only what has a name that it matches.")
FAILURE = "stopped.json"
# The first that a run has is its score.
SCORES = [f"{split}_{unit}" for split in ("test", "val") for unit in UNITS]
CURVES = [f"{split}{unit}" for unit in UNITS for split in ("", "val_")]
CURVES += ["mean_variance", "largest_log_det_per_dim"]
CORES = queue.Queue()  # Those that no run is on.


def save_crops(
    path: pathlib.Path, size: int, data_dir: str | None = None, photographs: str | None = None
) -> None:
    """Writes `.npz` splits of `size` x `size` pixels: CIFAR-10, its middle, or cut-up photographs.

    Args:
      path: the file.
      size: side of the crops.
      data_dir: where TFDS keeps prepared data, or `None`.
      photographs: name of the data that crops larger than 32 pixels are of, or `None`.

    Raises:
      ValueError: if the crops are larger than CIFAR-10's images and `--photographs` is not given.
    """
    if size <= 32:
        images = loading.load("cifar10", "train", batch_size=1000, data_dir=data_dir)
        start = (32 - size) // 2
        crops = np.concatenate(
            [
                batch[:, start : start + size, start : start + size]
                for batch in images.dataset.as_numpy_iterator()
            ]
        )
    elif photographs:
        images = loading.load(photographs, "train", batch_size=1).dataset
        pixels = np.concatenate(list(images.as_numpy_iterator()))
        count, height, width, channels = pixels.shape
        rows, columns = height // size, width // size
        tiles = pixels[:, : rows * size, : columns * size]
        tiles = tiles.reshape([count, rows, size, columns, size, channels])
        crops = tiles.swapaxes(2, 3).reshape([-1, size, size, channels])
    else:
        raise ValueError(
            f"`--photographs` must name a .npz file of images for crops of {size} pixels. "
            "Received: --photographs=None."
        )
    crops = np.random.default_rng(0).permutation(crops)
    held = len(crops) // 10
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial.{path.name}")
    np.savez(partial, train=crops[held:], validation=crops[:held])
    partial.replace(path)


def call(module: str, arguments: Sequence[str], log: str | os.PathLike) -> int:
    """Runs a binary on a core of its own; returns its exit code."""
    command = [sys.executable, "-m", module, "--traceback", *arguments]
    core = CORES.get()
    try:
        with open(log, "a") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
            os.sched_setaffinity(process.pid, {core})  # Before it counts its cores.
            return process.wait()
    finally:
        CORES.put(core)


def execute(run: experiments.Run, workdir: pathlib.Path) -> None:
    """Makes one run, unless it has ended."""
    folder, log = workdir / run.name, workdir / f"{run.name}.log"
    if not (folder / "preset").exists() and not (folder / FAILURE).exists():
        if folder.exists():
            shutil.rmtree(folder)
        log.unlink(missing_ok=True)
        arguments = [*run.flags, f"--workdir={folder}"]
        if run.crops:
            arguments.append(f"--dataset={workdir / f'crops_{run.crops}.npz'}")
        if call("trainers.train", arguments, log):
            found = re.search(r"NonFiniteError: In step (\d+): (.*)", log.read_text())
            if not found:
                raise RuntimeError(f"The run {run.name} failed; its output is in {log}.")
            files.write_json(folder / FAILURE, {"step": int(found[1]), "message": found[2].strip()})
    if run.split and (folder / "preset").exists() and not (folder / "metrics.json").exists():
        arguments = [f"--workdir={folder}", f"--split={run.split}"]
        if call("trainers.evaluate", arguments, log):
            raise RuntimeError(f"Scoring {run.name} failed; the output is in {log}.")


def summary(run: experiments.Run, workdir: pathlib.Path) -> dict:
    """Returns the row of a run in `results.csv`."""
    folder = workdir / run.name
    row = dict(run.labels)
    lines = callbacks.read_lines(folder / "metrics.jsonl")
    row["steps"] = lines[-1]["step"] if lines else 0
    if (folder / FAILURE).exists():
        row["stopped_in_step"] = json.loads((folder / FAILURE).read_text())["step"]
    for key in (*UNITS, *(f"val_{unit}" for unit in UNITS), "seconds"):
        if lines and key in lines[-1]:
            row[key] = lines[-1][key]
    if (folder / "metrics.json").exists():
        scores = json.loads((folder / "metrics.json").read_text())
        for key in (*UNITS, "entropy"):
            if key in scores:
                row[f"test_{key}"] = scores[key]
    if (folder / "preset").exists():
        metadata = json.loads((folder / "preset" / "metadata.json").read_text())
        row["parameters"] = metadata["parameters"]
    reports = callbacks.read_lines(folder / volume.LINES)
    for when, report in (("first", reports[:1]), ("last", reports[-1:])):
        for measures in map(layer_measures, report):
            row |= {f"{when}_{measure}": value for measure, value in measures.items()}
    return row


def layer_measures(report: Mapping) -> dict:
    """Returns what a line of `volume.jsonl` says of all layers together."""
    # Not of those that bring pixels to mean 0 and variance 1.
    layers = [v for v in report["layers"] if not v["name"].startswith(("normalize", "data_"))]
    gradients = [v["gradient_norm"] for v in layers if v["gradient_norm"]]
    return {
        "largest_log_det_per_dim": max(abs(v["log_det_per_dim"]) for v in layers),
        "largest_log_det": max(abs(v["log_det"]) for v in layers),
        "mean_variance": float(np.mean([v["variance"] for v in layers])),
        "largest_gradient_norm": max(gradients),
        "median_gradient_norm": float(np.median(gradients)),
    }


def save_curves(
    path: str | os.PathLike, runs: list[experiments.Run], workdir: pathlib.Path
) -> None:
    """Draws loss, variance and log-det of the runs over the steps; a colour a first label."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = {}  # Of each measure that the runs have: a list of a first label and its points.
    for run in runs:
        group = next(iter(run.labels.values()))
        lines = callbacks.read_lines(workdir / run.name / "metrics.jsonl")
        reports = callbacks.read_lines(workdir / run.name / volume.LINES)
        lines += [{"step": r["step"], **layer_measures(r)} for r in reports]
        for measure in CURVES:
            points = [(line["step"], line[measure]) for line in lines if measure in line]
            if points:
                curves.setdefault(measure, []).append((group, points))
    size = {"figsize": (4 * max(1, len(curves)), 4), "layout": "constrained"}
    figure, axes = pyplot.subplots(1, max(1, len(curves)), squeeze=False, **size)
    groups = list(dict.fromkeys(next(iter(run.labels.values())) for run in runs))
    for axis, measure in zip(axes[0], curves, strict=False):
        for group, points in curves[measure]:
            known = group in axis.get_legend_handles_labels()[1]
            style = {"color": f"C{groups.index(group)}", "label": None if known else group}
            axis.plot(*zip(*points, strict=True), linewidth=1, **style)
        axis.set(title=measure.replace("_", " "), xlabel="step", yscale="log")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def write_table(path: str | os.PathLike, rows: list[dict]) -> None:
    """Writes the rows as CSV."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def means(runs: list[experiments.Run], rows: list[dict]) -> list[str]:
    """Returns lines of text: the mean score over the seeds of each kind of run, and its error.

    Runs of one seed share data and noise: a line also has the mean difference from the first kind
    on the same data, seed by seed.
    """
    groups, firsts = {}, {}
    for run, row in zip(runs, rows, strict=True):
        kind = ", ".join(f"{k} {v}" for k, v in run.labels.items() if k != "seed")
        first = firsts.setdefault(run.labels.get("dataset"), kind)
        score = next((row[k] for k in SCORES if k in row), None)
        groups.setdefault(kind, (first, {}))[1][run.labels.get("seed")] = score
    lines = []
    for kind, (first, scores) in groups.items():
        found = [score for score in scores.values() if score is not None]
        text = f"{kind}: {len(found)} of {len(scores)} runs ended"
        if found:
            text += f", {np.mean(found):.4f}{_error(found)}"
        pairs = [(scores.get(seed), other) for seed, other in groups[first][1].items()]
        apart = [score - other for score, other in pairs if None not in (score, other)]
        if kind != first and len(apart) > 1:
            text += f", {np.mean(apart):+.4f}{_error(apart)} from the first in pairs of one seed"
        lines.append(text)
    return lines


def _error(values):
    """Returns the standard error of a mean as text, nothing for one value."""
    count = len(values)
    return f" +- {np.std(values, ddof=1) / math.sqrt(count):.4f}" if count > 1 else ""


def main(argv: list[str]) -> None:
    """Makes the runs and writes the table."""
    del argv
    for name in ("experiment", "workdir"):
        if not getattr(FLAGS, name):
            raise app.UsageError(f"--{name} must be given.")
    workdir = files.local(FLAGS.workdir)
    runs = experiments.EXPERIMENTS[FLAGS.experiment]()
    try:
        runs = [run for run in runs if re.search(FLAGS.only, run.name)]
    except re.error as error:
        raise app.UsageError(
            f"--only must be a regular expression: {error}. Received: --only={FLAGS.only}."
        ) from None
    if not runs:
        raise app.UsageError(f"No run has a name that --only={FLAGS.only} matches.")
    for size in {run.crops for run in runs if run.crops}:
        if not (workdir / f"crops_{size}.npz").exists():
            save_crops(workdir / f"crops_{size}.npz", size, FLAGS.data_dir, FLAGS.photographs)
    workdir.mkdir(parents=True, exist_ok=True)
    for core in sorted(os.sched_getaffinity(0))[: FLAGS.jobs]:
        CORES.put(core)
    bar = keras.utils.Progbar(len(runs), unit_name="run")
    with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
        waiting = [pool.submit(execute, run, workdir) for run in runs]
        try:
            for done in concurrent.futures.as_completed(waiting):
                done.result()
                bar.add(1)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                error.add_note("The same command goes on; runs that have ended are kept.")
            raise
    rows = [summary(run, workdir) for run in runs]
    write_table(workdir / "results.csv", rows)
    save_curves(workdir / "curves.png", runs, workdir)
    print("\n".join(["", *means(runs, rows)]))
    print(f"Table: {workdir / 'results.csv'}; curves: {workdir / 'curves.png'}")


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
