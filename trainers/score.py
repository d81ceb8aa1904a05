r"""Scores every image of a data set, one row each: what anomalies are found by.

    python -m trainers.score --model=convexp_glow.digits --output=scores.csv
    python -m trainers.score --workdir=runs/mine --dataset=folder:/photos --split=train \
        --output=photos.parquet

Rows are in the order of the data: `index`; `file`, for a folder; the score in units of the model
(`bits_per_dim` of images, `nats` of points, `nats_per_node` of sets), high for what the model finds
unlikely; and `log_prob`, in nats. Rows of a table have their number in the file, their rank, 1 for
the least likely, and the columns that the model is over; `--split=all` scores all of them. Beside
the table is `OUTPUT.json`, which says what was scored.

A model that is conditional on labels is scored by log p(x | y) with those of the data, which are a
column `label`; by p(x), the mixture of all classes, if the data have none or `--mixture` is given.

The same command goes on where a run was interrupted, and ends with the table of a run that was not.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import tensorflow as tf
from absl import app, flags

import tfflows
import zoo
from trainers import command_line, evaluate, program
from trainers.data import batching, labels, loading, photographs, sources
from trainers.data.tables import column_choice, table_files
from trainers.runs import environment
from zoo.storage import files, presets

FLAGS = flags.FLAGS
SHARED_FLAGS = evaluate.SHARED_FLAGS
flags.DEFINE_bool(
    "mixture",
    False,
    "Of a model that is conditional on labels, score the mixture of all classes, p(x), though the "
    "data have labels: as many evaluations of an image as there are classes.",
)
FORMATS = (".csv", ".parquet")
TAKEN = ("index", "nats", "log_prob", "row", "rank")
MIXTURE = "mixture"
BYTES = np.dtype("<f4").itemsize


@contextlib.contextmanager
def journal(output: pathlib.Path, job: Mapping) -> Iterator[tuple]:
    """Opens the scores so far of an output, for this process alone.

    The file has a line of JSON, `job`, and then one number of 4 bytes after the other, in whole
    batches but for the last. What a killed process had written of a batch is cut off.

    Args:
      output: path of the table to be.
      job: what is to be scored: a dict for JSON.

    Yields:
      The file, at its end, and the number of scores in it; `None` twice if the table is there.

    Raises:
      ValueError: if another process is at it, or the journal or the table is that of another job.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path, header = output.with_name(f".{output.name}.partial"), json.dumps(job).encode() + b"\n"
    with open(path, "a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another process writes to the same output. Received: --output={output}."
            ) from None
        if output.exists():
            path.unlink()  # Of a run that was killed after its last step, or empty.
            check_job(output, _job_of(output), job)
            yield None, None
            return
        file.seek(0)
        first = file.readline()
        if not first.endswith(b"\n"):  # New, or killed while this was written.
            file.truncate(0)
            file.write(header)
        elif first != header:
            check_job(path, json.loads(first), job)
        size, batch = os.fstat(file.fileno()).st_size - len(header), job["batch_size"]
        count = size // BYTES
        if count < job["num_examples"]:
            count -= count % batch
        file.truncate(len(header) + count * BYTES)
        yield file, count


def _job_of(output):
    """Returns what a table was made of, as the JSON beside it says."""
    described = output.with_name(f"{output.name}.json")
    return json.loads(described.read_text())["job"] if described.is_file() else {}


def check_job(path: pathlib.Path, before: Mapping, job: Mapping) -> None:
    """Raises an error that names what differs, if anything does."""
    for key, value in job.items():
        if before.get(key) != value:
            raise ValueError(
                f"`--output` must be new, or of the same scores: {path} has {key}="
                f"{before.get(key)!r}. Received: {key}={value!r}. Name another file or delete it."
            )


def read_scores(file: BinaryIO, count: int) -> np.ndarray:
    """Returns the scores of a journal."""
    file.seek(-count * BYTES, os.SEEK_END)
    return np.frombuffer(file.read(), "<f4")


def score_rest(
    model: zoo.Trained, images: tf.data.Dataset, file: BinaryIO, done: int, job: Mapping
) -> None:
    """Scores the batches that `images` has, which follow on `done` scores, into a journal.

    Raises:
      ValueError: if an image has more levels than the model.
    """
    jit = "on" if job["jit"] else "off"
    score_batch = evaluate.make_scorer(model, job["num_samples"], job["seed"], jit)
    if job.get("given") == MIXTURE:
        score_batch = evaluate.make_mixture_scorer(model, score_batch)
    bar = evaluate.ScoreBar(job["num_examples"], model.kind.event)
    bar.update(done)
    for batch in images:
        x, *y = batch if isinstance(batch, tuple) else (batch,)
        try:
            scores = np.asarray(score_batch(x, tf.constant(done // job["batch_size"]), *y))
        except ValueError as error:
            raise ValueError(f"Images {done} to {done + len(x) - 1}: {error}") from None
        content = scores.astype("<f4").tobytes()
        if file.write(content) < len(content):
            raise OSError(f"There is no space left for {file.name}.")
        os.fsync(file.fileno())
        done += len(x)
        bar.see(scores)


def make_columns(
    model: zoo.Trained,
    scores: np.ndarray,
    names: Sequence[str] | None,
    y: np.ndarray | None = None,
) -> dict:
    """Returns the columns of the table.

    Args:
      model: a `zoo.Trained`.
      scores: of its events.
      names: their files, if they have any.
      y: numbers of their classes, if they were scored given these.
    """
    factor = model.kind.nats(model.event_shape.as_list())
    columns = {"index": np.arange(len(scores))}
    if names is not None:
        columns["file"] = list(names)
    if y is not None:
        columns["label"] = [model.classes[number] for number in y]
    log_prob = (-factor * scores.astype(np.float64)).astype(np.float32)
    return columns | {model.kind.units: scores, "log_prob": log_prob}


def beside(model: zoo.Trained, dataset: str, split: str, scores: np.ndarray) -> dict:
    """Returns what stands beside the scores of a table: numbers of rows, ranks, and the columns.

    The row of rank 1 is the least likely.
    """
    name = column_choice.name_with_columns_of(dataset, model.entry)
    table, numbers = sources.rows_of(name, split)
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    found = table_files.columns_of(table.rows[numbers], table.names, table.is_integer)
    columns = {"row": numbers + 1, "rank": ranks}
    return columns | {n if n not in TAKEN else f"{n}_": values for n, values in found.items()}


def open_scored(
    model: zoo.Trained,
    dataset: str,
    split: str,
    batch_size: int,
    data_dir: str | None,
    preparation: photographs.Preparation | None,
) -> tuple[loading.Data, str | None]:
    """Returns the data, and what events are given: a condition, `MIXTURE`, or `None`.

    See `evaluate.open_images`.
    """
    condition = evaluate.read_condition(model).get("condition")
    options = (model, dataset, split, batch_size, data_dir, 0, preparation)
    if condition is None:
        if FLAGS.mixture:
            raise ValueError(
                "`--mixture` is for a model that is conditional on labels. "
                f"Received: {model.entry.name}, which is not."
            )
        return evaluate.open_images(*options), None
    if not FLAGS.mixture:
        try:
            return evaluate.open_images(*options), condition
        except labels.NoLabelsError as error:
            print(f"Without labels: {error}")
    print(f"Scores are of p(x), the mixture of {len(model.classes)} classes: as many evaluations")
    return evaluate.open_images(*options, False), MIXTURE


def _checksum(values):
    """Returns a text that tells a list or array, or `None`, from others."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def main(argv: list[str]) -> None:
    """Loads the model, scores what has not been scored, and writes the table."""
    del argv
    output = files.local(FLAGS.output or "")
    if output.suffix not in FORMATS:
        raise app.UsageError(
            f"--output must be a file that ends in {' or '.join(FORMATS)}. "
            f"Received: --output={FLAGS.output}."
        )
    model, _ = command_line.open_model()
    dataset = FLAGS.dataset or model.dataset
    batch_size = FLAGS.batch_size or batching.most_events(200, model.event_shape)
    data = (model, dataset, FLAGS.split, batch_size, FLAGS.data_dir)
    preparation = command_line.read_preparation(model)
    images, given = open_scored(*data, preparation)
    if images.made:
        print(f"{dataset}, {FLAGS.split}: {images.made}")
    job = {
        "model": model.entry.name,
        "weights": files.sha256(presets.checked_weights(model.folder)),
        "dataset": dataset,
        "split": FLAGS.split,
        "num_examples": images.num_examples,
        "names": _checksum(images.names),
        "batch_size": batch_size,
        "num_samples": FLAGS.num_samples,
        "seed": FLAGS.seed,
        "log_det_terms": FLAGS.log_det_terms,
        "jit": environment.use_jit(FLAGS.jit, model.event_shape),
    }
    if preparation:
        job["preparation"] = preparation.to_json()
    if given:
        job |= {"given": given, "labels": _checksum(images.labels)}
    with journal(output, job) as (file, done):
        if file is None:
            print(f"{output} is there already, all {images.num_examples} rows of it.")
            return
        if done < images.num_examples:
            start = done // batch_size
            with_labels = given != MIXTURE
            rest = evaluate.open_images(*data, start, preparation, with_labels).dataset
            try:
                with tfflows.evaluation.estimating(num_terms=FLAGS.log_det_terms):
                    score_rest(model, rest, file, done, job)
            except KeyboardInterrupt as error:
                error.add_note("The same command goes on.")
                raise
        scores = read_scores(file, images.num_examples)
        summary = {
            "job": job,
            f"mean_{model.kind.units}": float(scores.mean()),
            "not_finite": int(np.sum(~np.isfinite(scores))),
            "definition": evaluate.define(
                model, FLAGS.num_samples, FLAGS.log_det_terms, given == MIXTURE
            ),
            "command": command_line.command("trainers.score"),
            "versions": environment.versions(),
        }
        files.write_json(output.with_name(f"{output.name}.json"), summary)
        columns = make_columns(model, scores, images.names, images.labels)
        if model.kind == zoo.TABLES:
            columns |= beside(model, dataset, FLAGS.split, scores)
        table_files.write(output, columns)
        pathlib.Path(file.name).unlink()
    print(f"\n{len(scores)} rows written to {output}, mean {model.kind.label} {scores.mean():.4f}")
    if summary["not_finite"]:
        print(f"{summary['not_finite']} of the scores are not finite.")


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
