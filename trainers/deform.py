"""Draws how a flow of the plane deforms its data, block by block, and the density that it learned.

    python -m trainers.deform --workdir=runs/checkerboard
    python -m trainers.deform --model=balanced.checkerboard --output=deformation.png

The figure of *Jacobian Determinant of Normalizing Flows* (Liao, He 2021, arXiv:2102.06539, figures
3 and 7). Left, points of the data; then the same points in the same colours as some of the blocks
leave them, the last as latents; right, the model's density over the domain of the first panel. In
the others, `N x` says that the domain is N times as wide.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from absl import flags

import zoo
from tfflows import bijectors
from tfflows.analysis import record_layers
from tfflows.evaluation import parts
from trainers import command_line, program
from trainers.data import planar

tfb = tfp.bijectors
FLAGS = flags.FLAGS
SHARED_FLAGS = (*command_line.PRESET_FLAGS, "dataset", "output", "seed")
flags.DEFINE_integer("points", 20_000, "Number of points of the data.", lower_bound=1)
flags.DEFINE_integer(
    "panels", 8, "Panels between data and density; at most one for each block.", lower_bound=1
)

# What panels show the output of: the first of these kinds that the flow has.
_STEPS = {
    "block": bijectors.Block,
    "coupling": (bijectors.Coupling, bijectors.DualAffineCoupling),
    "layer": tfb.Bijector,
}
# Hues around the middle of the data, about equally light.
_WHEEL = ("#ff7a5c", "#ffc15e", "#b8d957", "#3fd0b6", "#5aaef5", "#a08cf0", "#f277bd")
_GRID = 256


def stages(
    model: tfp.distributions.Distribution, points: np.ndarray, panels: int
) -> dict[str, np.ndarray]:
    """Returns the points as some steps of the flow leave them, from data to latents.

    Args:
      model: a `tfd.TransformedDistribution` with events `[2]`.
      points: `[N, 2]`.
      panels: number of steps, evenly spaced; all of them if the flow has fewer.

    Returns:
      A dictionary from a panel's name, such as `block 3`, to points `[N, 2]`; last, `latents`.

    Raises:
      ValueError: if an event is not of shape `[2]`, or `panels` not positive.
    """
    _check_model(model)
    if np.ndim(points) != 2 or np.shape(points)[1] != 2:
        raise ValueError(f"`points` must be [N, 2]. Received: points.shape={np.shape(points)}.")
    if panels < 1:
        raise ValueError(f"`panels` must be positive. Received: panels={panels}.")
    flow, x = tfb.Invert(model.bijector), tf.convert_to_tensor(points, model.dtype)
    records = record_layers(flow, x, event_ndims=1)
    what, outputs = _steps(records)
    count = min(panels, len(outputs))
    numbers = [index * len(outputs) // count for index in range(1, count)]
    shown = {f"{what} {number}": outputs[number - 1] for number in numbers}
    # Also what follows the last step, such as a normalisation, which has no panel of its own.
    shown["latents"] = records[-1].output
    return {name: np.reshape(value, [-1, 2]) for name, value in shown.items()}


def _check_model(model):
    """Refuses a model of anything but points."""
    if model.event_shape != [2]:
        raise ValueError(
            f"`model` must have events of shape [2]. Received: event_shape={model.event_shape}."
        )


def _steps(records):
    """Returns what kind of step the flow has, and the output of each."""
    steps = [
        record
        for record in records
        if parts.is_step(record.bijector) or not parts.parts(record.bijector)
    ]
    for what, kind in _STEPS.items():
        outputs = [
            part.output
            for part in steps
            if isinstance(part.bijector, kind) and part.output.shape[1:].num_elements() == 2
        ]
        if outputs:
            return what, outputs
    return "flow", [records[-1].output]  # Its layers move one coordinate each.


def domains(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the squares that hold the points of every panel, and how much wider than the first.

    A square has the middle of the points in its own middle, and 1/1000 of them beyond each side at
    most. Magnifications are rounded to two digits, and the squares made to fit them.

    Args:
      values: a list of points `[N, 2]`.

    Returns:
      Squares `[panels, 4]` as (left, right, bottom, top), and magnifications `[panels]`.
    """
    low, high = np.quantile(np.asarray(values, np.float64), [0.001, 0.999], axis=1)
    half_widths = 1.1 * (high - low).max(axis=1) / 2
    magnifications = np.array([float(f"{h / half_widths[0]:.2g}") for h in half_widths])
    middle = (low + high) / 2
    half_widths = (magnifications * half_widths[0])[:, np.newaxis]
    sides = np.stack([middle - half_widths, middle + half_widths], axis=-1)
    return sides.reshape(-1, 4), magnifications


def density(model: tfp.distributions.Distribution, square: Sequence[float]) -> np.ndarray:
    """Returns the model's density over a square, `[256, 256]`, the lowest row first."""
    left, right, bottom, top = square
    places = (np.arange(_GRID) + 0.5) / _GRID
    x, y = np.meshgrid(left + (right - left) * places, bottom + (top - bottom) * places)
    points = tf.cast(np.stack([x.ravel(), y.ravel()], axis=-1), model.dtype)
    # In parts, so that the parameters of splines at all points need not be in memory together.
    log_prob = np.concatenate([model.log_prob(part) for part in tf.split(points, 8)])
    return np.exp(log_prob).reshape(_GRID, _GRID)


def colors(points: np.ndarray) -> np.ndarray:
    """Returns a colour for each point, `[N, 3]`: the hue is its direction, pale in the middle."""
    from matplotlib.colors import LinearSegmentedColormap

    x, y = (points - points.mean(axis=0)).T
    wheel = LinearSegmentedColormap.from_list("wheel", [*_WHEEL, _WHEEL[0]], N=512)
    hues = wheel(np.arctan2(y, x) / (2 * np.pi) % 1)[:, :3]
    radius = np.hypot(x, y)
    depth = 0.55 + 0.45 * np.minimum(1.5 * radius / radius.max(), 1)
    return 1 - (1 - hues) * depth[:, np.newaxis]


def save_figure(
    path: str | os.PathLike,
    model: tfp.distributions.Distribution,
    points: np.ndarray,
    panels: int = 8,
) -> dict[str, float]:
    """Draws the points, what the flow makes of them step by step, and the model's density.

    Args:
      path: the PNG to write.
      model: a `tfd.TransformedDistribution` with events `[2]`.
      points: points of the data, `[N, 2]`.
      panels: see `stages`.

    Returns:
      A dictionary from each panel's name to its magnification, but for the density.

    Raises:
      ValueError: see `stages`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = {"data": np.asarray(points), **stages(model, points, panels)}
    squares, magnifications = domains(list(values.values()))
    count = len(values) + 1
    figure, axes = pyplot.subplots(1, count, figsize=(1.6 * count, 1.85), layout="constrained")
    for axis, (name, value), square, magnification in zip(
        axes[:-1], values.items(), squares, magnifications, strict=True
    ):
        axis.scatter(*value.T, c=colors(values["data"]), s=0.5, linewidths=0)
        axis.set(xlim=square[:2], ylim=square[2:])
        axis.set_title(name, loc="left", fontsize=9)
        axis.set_title(rf"{magnification:g} $\times$", loc="right", fontsize=9)
    image, palette = density(model, squares[0]), matplotlib.colormaps["magma"]
    # A few spikes, as flows have them where they tear, would leave all else in the dark.
    brightest = np.quantile(image, 0.998)
    axes[-1].imshow(image, palette, extent=squares[0], vmin=0, vmax=brightest, origin="lower")
    axes[-1].set_title("density", loc="left", fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[], aspect="equal", facecolor=palette(0.0))
        axis.spines[:].set_visible(False)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    pyplot.close(figure)
    return dict(zip(values, magnifications.tolist(), strict=True))


def main(argv: list[str]) -> None:
    """Loads the model and draws."""
    del argv
    model, workdir = command_line.open_model()
    _check_model(model.density)  # Before its data set is looked for among those of the plane.
    if model.kind != zoo.POINTS:
        raise ValueError(
            "The model must be one of points in the plane. "
            f"Received: {model.entry.name}, of {model.kind.noun}."
        )
    if model.is_conditional:
        raise ValueError(
            "The model must not be conditional: a deformation is that of one density. "
            f"Received: {model.entry.name}, with a context of size {model.entry.context_size}."
        )
    dataset = FLAGS.dataset or model.dataset
    output = command_line.read_output(workdir, "deformation.png")
    points = planar.sample(dataset, FLAGS.points, FLAGS.seed)
    magnifications = save_figure(output, model.density, points, FLAGS.panels)
    print(", ".join(f"{panel} {value:g} x" for panel, value in magnifications.items()))
    print(f"Deformation of {dataset}: {output}")


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
