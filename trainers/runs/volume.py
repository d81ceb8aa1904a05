"""Volume, variance and steepness of every layer over a training run."""

import dataclasses
import os
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfflows
from tfflows import evaluation
from tfflows.analysis import volume_report
from tfflows.distributions import density_of, to_real
from zoo.storage import files

LINES = "volume.jsonl"
MEASURES = ("log_det_per_dim", "variance", "spectral_norm", "gradient_norm")


class VolumeLog(keras.callbacks.Callback):
    """Writes `analysis.volume_report` of one batch at the start and at the end of every epoch.

    One JSON object a report in `volume.jsonl`, and scalars for TensorBoard.

    Args:
      workdir: folder of the run.
      images: the batch, as `FlowModel.fit` takes it.
      y: its labels, of a conditional model.
      num_iterations: power iterations for the largest singular values.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        images: tf.Tensor,
        y: tf.Tensor | None = None,
        num_iterations: int = 4,
    ) -> None:
        super().__init__()
        self._path = workdir / LINES
        self._images, self._y = images, y
        self._num_iterations = num_iterations
        self._writer = tf.summary.create_file_writer(str(workdir / "tensorboard" / "volume"))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Reports the state before the first step."""
        if not self._step():
            self._report(0)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Reports the state after the epoch."""
        self._report(self._step())

    def _step(self):
        return int(self.model.optimizer.iterations.numpy())

    def _report(self, step):
        layers = report(self.model, self._images, self._num_iterations, self._y)
        with open(self._path, "a") as file:
            file.write(files.to_json({"step": step, "layers": layers}) + "\n")
        with self._writer.as_default(step=step):
            for layer in layers:
                for measure in (*MEASURES, "drift"):
                    if layer[measure] is None:  # Not asked for.
                        continue
                    tf.summary.scalar(f"{measure}/{layer['name']}", layer[measure])
        self._writer.flush()


def report(model: tfflows.FlowModel, images: Any, num_iterations: int, y: Any = None) -> list[dict]:
    """Returns the `LayerVolume`s of a `FlowModel` on a batch, as dictionaries.

    Args:
      model: a `FlowModel`.
      images: a batch, as `fit` takes it.
      num_iterations: power iterations for the largest singular values.
      y: its labels, of a conditional model.
    """
    given = model.distribution if y is None else model.condition(y)
    x = to_real(given, tf.convert_to_tensor(images), seed=[model.seed, -1])
    distribution = density_of(given)
    variables = distribution.trainable_variables
    mode = "store" if model.memory == "store" else "recompute"  # Inverses would have errors.
    with tf.GradientTape() as tape, evaluation.memory(mode):
        loss = -tf.reduce_mean(distribution.log_prob(x))
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    layers = volume_report(
        distribution.bijector.bijector,
        x,
        num_iterations=num_iterations,
        drift=model.memory == "invert",
        gradients=dict(zip([v.ref() for v in variables], gradients, strict=True)),
    )
    return [
        {**dataclasses.asdict(layer), "log_det_per_dim": layer.log_det_per_dim} for layer in layers
    ]


def save_figure(path: str | os.PathLike, lines: list[dict]) -> None:
    """Draws the measures of all layers over the steps; early layers dark, late ones light.

    Args:
      path: the PNG to write.
      lines: what `callbacks.read_lines` returns for `volume.jsonl`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), layout="constrained", sharex=True)
    steps = [line["step"] for line in lines]
    count = len(lines[0]["layers"])
    colors = matplotlib.colormaps["viridis"]
    for axis, measure in zip(axes.flat, MEASURES, strict=True):
        for index in range(count):
            values = [line["layers"][index][measure] for line in lines]
            values = np.array(values, np.float64)  # NaN for what is not there.
            # Layers without parameters have no gradient, and fixed scales say nothing.
            if np.any(np.nan_to_num(values)) and not lines[0]["layers"][index]["name"].startswith(
                "normalize"
            ):
                axis.plot(steps, values, color=colors(index / count), linewidth=0.8)
        axis.set(
            title=measure.replace("_", " "), yscale="linear" if measure == MEASURES[0] else "log"
        )
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
