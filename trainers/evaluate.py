"""Scores a model, in bits per dimension, nats or nats per node, and checks that it can be inverted.

    python -m trainers.evaluate --workdir=runs/digits
    python -m trainers.evaluate --model=convexp_glow.digits

A model that is conditional on labels is scored by log p(x | y) with the labels y of the data. With
an evaluation for each class (`--nobayes` does without) it is also a classifier, argmax_y log p(x |
y) + log p(y), whose accuracy is measured, and a mixture, p(x).

Prints and writes `metrics.json`: into the work directory, or to `--output`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import tfflows
import zoo
from tfflows import evaluation
from trainers import command_line, program
from trainers.data import batching, loading, node_sets, photographs, planar, sources
from trainers.data.tables import column_choice, column_support, table_names
from trainers.runs import environment
from zoo import columns
from zoo.storage import files, presets

FLAGS = flags.FLAGS
SHARED_FLAGS = (
    *command_line.PRESET_FLAGS,
    *command_line.PICTURE_FLAGS,
    *("dataset", "data_dir", "output", "batch_size", "seed", "jit", "log_det_terms"),
    *("split", "num_samples"),
)
flags.DEFINE_bool(
    "bayes",
    True,
    "Of a model that is conditional on labels, also measure the accuracy of Bayes' rule, and the "
    "score of the mixture of all classes: as many evaluations of an image as there are classes.",
)


def make_scorer(model: zoo.Trained, num_samples: int, seed: int, jit: str = "auto") -> Callable:
    """Returns the compiled function that scores a batch, in the units of the model.

    Args:
      model: a `zoo.Trained`.
      num_samples: samples of the dequantiser an image.
      seed: seed of the dequantiser, and of log-dets that are estimated.
      jit: whether XLA compiles it: "auto", "on" or "off".

    Returns:
      A function of a batch, its number, from which its noise follows, and of a conditional model
      what the events are given. It raises a `ValueError` for images that are not the integers that
      the model is over.
    """

    @tf.function(reduce_retracing=True, jit_compile=environment.use_jit(jit, model.event_shape))
    def score_batch(x, step, y=None):
        return model.given(y).score(x, tf.stack([seed, step * num_samples]), num_samples)

    def check_and_score(x, step, y=None):
        model.check(x)  # XLA can't.
        return score_batch(x, step) if y is None else score_batch(x, step, y)

    return check_and_score


class ScoreBar(keras.utils.Progbar):
    """A progress bar that shows the mean of all scores so far; Keras's ends with the last value.

    Args:
      num_examples: number of events.
      event: what an event is, such as `"image"`.
    """

    def __init__(self, num_examples: int, event: str) -> None:
        super().__init__(num_examples, unit_name=event, stateful_metrics=["score"])
        self._sum, self._count = 0.0, 0

    def see(self, scores: np.ndarray) -> None:
        """Takes the scores of a batch."""
        self._sum, self._count = self._sum + float(np.sum(scores)), self._count + len(scores)
        self.add(len(scores), [("score", self._sum / self._count)])


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
      dataset: batches of events, of a conditional model pairs with what they are given.
      num_examples: number of events, for the progress bar.
      num_samples: samples of the dequantiser an image.
      seed: seed of the dequantiser, and of log-dets that are estimated.
      jit: see `make_scorer`.
    """
    score_batch = make_scorer(model, num_samples, seed, jit)
    bar = ScoreBar(num_examples, model.kind.event)
    scores = []
    for step, batch in enumerate(dataset):
        x, *y = batch if isinstance(batch, tuple) else (batch,)
        scores.append(score_batch(x, tf.constant(step), *y).numpy())
        bar.see(scores[-1])
    return np.concatenate(scores)


def score_classes(
    model: zoo.Trained,
    dataset: tf.data.Dataset,
    num_examples: int,
    num_samples: int,
    seed: int,
    jit: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the score of every event given each class, with one noise, `[N, K]`; and its label.

    Args:
      model: a `zoo.Trained` that is conditional on labels.
      dataset: batches of events, or of pairs with their labels.
      num_examples: see `score`.
      num_samples: see `score`.
      seed: see `score`.
      jit: see `make_scorer`.

    Returns:
      The scores; and the labels `[N]`, of which there are none if the data have none.
    """
    score_batch = make_scorer(model, num_samples, seed, jit)
    bar = ScoreBar(num_examples, model.kind.event)
    scores, labels = [], []
    for step, batch in enumerate(dataset):
        x, *y = batch if isinstance(batch, tuple) else (batch,)
        scores.append(_score_classes(model, score_batch, x, tf.constant(step)))
        labels += y
        bar.see(scores[-1].min(axis=1))
    return np.concatenate(scores), np.concatenate(labels) if labels else np.zeros([0], np.int32)


def _score_classes(model, score_batch, x, step):
    """Returns the score of every event of a batch given each class, with one noise, `[N, K]`."""
    classes = range(len(model.classes))
    return np.stack([score_batch(x, step, tf.fill([len(x)], k)).numpy() for k in classes], axis=1)


def make_mixture_scorer(model: zoo.Trained, score_batch: Callable) -> Callable:
    """Returns a function that scores a batch, given its number, by the mixture of all classes.

    Args:
      model: a `zoo.Trained` that is conditional on labels.
      score_batch: what `make_scorer` returned.
    """
    none = np.zeros([0], np.int32)
    return lambda x, step: apply_bayes(model, _score_classes(model, score_batch, x, step), none)[0]


def apply_bayes(
    model: zoo.Trained, scores: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the scores given each class say of events without labels.

    Args:
      model: a `zoo.Trained` that is conditional on labels.
      scores: `[N, K]`, in the units of the model.
      labels: true labels `[N]`, or none.

    Returns:
      The score of the mixture p(x), the sum of p(x | y) p(y), of every event; and whether its label
      is the one that argmax_y p(x | y) p(y) says. p(y) is the frequency of the class among the data
      that the model was trained on.
    """
    nats = model.kind.nats(model.event_shape.as_list())
    with np.errstate(divide="ignore"):
        joint = -nats * scores.astype(np.float64) + np.log(model.class_frequencies)
    largest = joint.max(axis=1, keepdims=True)
    total = largest[:, 0] + np.log(np.exp(joint - largest).sum(axis=1))
    return -total / nats, joint.argmax(axis=1)[: len(labels)] == labels


def read_condition(model: zoo.Trained) -> dict:
    """Returns the arguments of `loading.load` that give events what a model is conditional on.

    Raises:
      ValueError: if it is conditional on what no data have.
    """
    if not model.is_conditional or model.kind == zoo.TABLES:
        return {}
    if model.classes is None:
        raise ValueError(
            "The model must be conditional on labels, as `trainers.train --condition=label` makes "
            f"it, or not at all. Received: {model.entry.name}, with a context of size "
            f"{model.entry.context_size}."
        )
    return {"condition": model.metadata.get("condition", "label"), "classes": model.classes}


def open_images(
    model: zoo.Trained,
    dataset: str,
    split: str,
    batch_size: int,
    data_dir: str | None = None,
    start_step: int = 0,
    preparation: photographs.Preparation | None = None,
    with_labels: bool = True,
) -> loading.Data:
    """Returns the data from a batch on, checked against the model; see `loading.load`.

    Those for a conditional model have what it is conditional on, unless they are to be without.
    """
    condition = read_condition(model)
    if model.kind == zoo.TABLES:
        dataset = column_choice.name_with_columns_of(dataset, model.entry)
    images = loading.load(
        dataset,
        split,
        batch_size=batch_size,
        data_dir=data_dir,
        num_bits=loading.bits_to_keep(model.num_levels),
        start_step=start_step,
        preparation=preparation,
        **(condition if with_labels else {}),
    )
    loading.check_shape(images, model.event_shape, dataset)
    loading.check_kind(images, model.kind, dataset)
    return images


def check_rows(model: zoo.Trained, dataset: str, split: str) -> None:
    """Refuses rows of a table of which a model says that there are none: their mean is infinite."""
    table, numbers = sources.rows_of(
        column_choice.name_with_columns_of(dataset, model.entry), split
    )
    columns = model.entry.arguments["columns"]
    column_support.check(columns, table, numbers, table_names.path_of(dataset))


def round_trip(model: zoo.Trained, batch: Any, seed: int) -> tuple[float, np.ndarray]:
    """Inverts what the flow makes of a batch: of events, or of pairs with what they are given.

    Returns:
      The largest `|f^-1(f(x)) - x|`, for images in values of a pixel; and the iterations of each
      layer whose inverse iterates, an array `[layers, events]`.
    """
    x, y = batch if isinstance(batch, tuple) else (batch, None)
    model = model.given(y)
    x = model.dequantize(x, seed=[seed, -1])
    error = float(tf.reduce_max(tfflows.analysis.round_trip_error(model.flow, x)))
    return error, tfflows.analysis.inverse_iterations(model.flow, x).numpy()


def define(
    model: zoo.Trained, num_samples: int, log_det_terms: int, is_mixture: bool = False
) -> str:
    """Returns what a score is, in words.

    Args:
      model: a `zoo.Trained`.
      num_samples: samples of the dequantiser an image.
      log_det_terms: terms of log-dets that are estimated.
      is_mixture: whether a conditional model is scored as the mixture over its classes.
    """
    text = _define_score(model, num_samples)
    if model.is_conditional and is_mixture:
        text += f", p(x) the mixture of {len(model.classes)} classes with their frequencies"
    elif model.is_conditional:
        text = text.replace("(x)", "(x | y)", 1)
        if model.classes:
            text += f", given their labels y of {len(model.classes)} classes"
        elif model.kind == zoo.TABLES:
            names = columns.names(model.entry.arguments["condition_columns"])
            text += f", given {len(names)} column(s) y: {', '.join(names[:20])}"
    return text + _define_log_det(model, num_samples, log_det_terms)


def _define_score(model, num_samples):
    """Returns what a score is, in words, whatever it is given."""
    formula, kind = model.kind.definition, model.kind
    if kind == zoo.IMAGES:
        stddev = model.distribution.stddev
        if stddev is not None:
            noise = (
                f"x drawn after y ~ p from N(y, {stddev:g}^2) on the integers, which noise of "
                f"standard deviation {stddev:g} bounds"
            )
        elif model.distribution.dequantizer is None:
            noise = "uniform dequantisation"
        else:
            noise = "variational dequantisation"
        return f"{formula} of integer images, {noise}, {num_samples} sample(s) an image"
    if model.is_discrete:  # Rows.
        count = sum(model.distribution.entries)
        return (
            f"-log P(x) of {kind.noun}, uniform dequantisation of {count} integer column(s), "
            f"{num_samples} sample(s) a row"
        )
    if kind == zoo.SETS:
        return f"-log p(x) / {model.event_shape[0]} of sets of nodes"
    return f"{formula} of {kind.noun}"


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
    options = (FLAGS.num_samples, FLAGS.seed, FLAGS.jit)
    by_class = bool(model.classes) and FLAGS.bayes
    with evaluation.estimating(num_terms=FLAGS.log_det_terms):
        if by_class:
            count = len(model.classes)
            print(f"{count} evaluations an image, one a class; --nobayes takes one")
            found = score_classes(model, images.dataset, images.num_examples, *options)
            scores = found[0][np.arange(len(found[1])), found[1]]
        else:
            scores = score(model, images.dataset, images.num_examples, *options)
    error, iterations = round_trip(model, next(iter(images.dataset)), FLAGS.seed)
    metrics = summarize(model, scores, error, iterations)
    if by_class:
        metrics |= summarize_classes(model, *found)
    meaning, entropy = define(model, FLAGS.num_samples, FLAGS.log_det_terms), floor(dataset)
    if entropy is not None:
        metrics["entropy"] = entropy
        meaning += f", whose entropy, the least a model can reach, is {entropy:.4f}"
    metrics |= {
        "definition": meaning,
        "data": f"{table_names.shown(dataset)}, {split}, {len(scores)} {model.kind.noun}"
        + (f" made of {images.made}" if images.made else ""),
        "command": command_line.command("trainers.evaluate"),
        "versions": environment.versions(),
    }
    print_metrics(model, metrics)
    files.write_json(output, metrics)
    if workdir and split == "test":
        metric = {key: metrics[key] for key in ("definition", "data", "command")}
        metric |= {"name": f"test {model.kind.label}", "value": metrics[model.kind.units]}
        if by_class:
            metric["others"] = describe_classes(model, metrics)
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


def summarize_classes(model: zoo.Trained, scores: np.ndarray, labels: np.ndarray) -> dict:
    """Returns the figures of a model as a classifier and as a mixture, see `apply_bayes`."""
    mixture, right = apply_bayes(model, scores, labels)
    accuracy, count = float(right.mean()), len(right)
    return {
        "accuracy": accuracy,
        "accuracy_standard_error": math.sqrt(accuracy * (1 - accuracy) / max(count - 1, 1)),
        f"mixture_{model.kind.units}": float(mixture.mean()),
    }


def describe_classes(model: zoo.Trained, metrics: Mapping) -> dict[str, str]:
    """Returns what `summarize_classes` returned in words, for people."""
    mixture = metrics[f"mixture_{model.kind.units}"]
    accuracy, error = (100 * metrics[key] for key in ("accuracy", "accuracy_standard_error"))
    return {
        "accuracy": f"{accuracy:.2f} % +- {error:.2f} of argmax_y p(x | y) p(y)",
        "mixture": f"{mixture:.4f} {model.kind.label} of p(x), the sum of p(x | y) p(y)",
    }


def print_metrics(model: zoo.Trained, metrics: Mapping) -> None:
    """Prints the figures for people."""
    print(f"\n{model.entry.name} on {metrics['data']}")
    error = ", of one only: no error of the mean"
    if metrics["standard_error"] is not None:
        error = f" +- {metrics['standard_error']:.4f}"
    print(f"  {model.kind.label:17} {metrics[model.kind.units]:.4f}{error}")
    print(f"  defined as        {metrics['definition']}")
    if "accuracy" in metrics:
        for name, text in describe_classes(model, metrics).items():
            print(f"  {name:17} {text}")
    values = f" of {model.num_levels} values" if model.num_levels else ""
    print(f"  round-trip error  {metrics['round_trip_error']:.2e}{values}")
    if found := metrics.get("inverse_iterations"):
        print(
            f"  inverse           {found['mean']:.1f} iterations a layer and event, at most "
            f"{found['largest']}, in {found['layers']} layers"
        )


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
