"""Draws samples of a model, or images with part of their latents drawn anew.

    python -m trainers.sample --workdir=runs/digits --temperature=0.8
    python -m trainers.sample --model=convexp_glow.digits --output=samples.png
    python -m trainers.sample --workdir=runs/digits --keep_levels=0,1,2 --resample_levels=0,1,2

The last one draws the figure of *Jacobian Determinant of Normalizing Flows*, section 6.3, for test
images: each in the first column; beside it, a column for each number k of the list, decoded from
the latents of its first k levels and new ones elsewhere (`--keep_levels`, first row of an image)
and the other way round (`--resample_levels`, second row).
"""

import pathlib
from collections.abc import Sequence

import tensorflow as tf
from absl import app, flags

import zoo
from tfflows.analysis import resample_levels
from tfflows.distributions import with_temperature
from trainers import command_line, pictures, program
from trainers.data import loading

FLAGS = flags.FLAGS
SHARED_FLAGS = (*command_line.PRESET_FLAGS, "dataset", "data_dir", "output", "seed")
flags.DEFINE_integer(
    "count",
    None,
    "Number of samples, by default 64 images (fewer if larger than 128x128), 20,000 points or sets "
    "with as many nodes; of test images with --keep_levels.",
    lower_bound=1,
)
flags.DEFINE_float(
    "temperature", 1.0, "Factor on the standard deviation of the latents.", lower_bound=0.0
)
flags.DEFINE_list(
    "keep_levels",
    [],
    "Numbers k: decode test images from the latents of their first k levels, new ones elsewhere.",
)
flags.DEFINE_list(
    "resample_levels",
    [],
    "Numbers k: decode test images with the latents of their first k levels drawn anew.",
)


def perturb(
    model: zoo.Trained,
    images: tf.Tensor,
    keep: Sequence[int],
    resample: Sequence[int],
    temperature: float,
    seed: int,
) -> tuple[tf.Tensor, int]:
    """Returns the rows of the figure, one after the other, and its number of columns.

    Args:
      model: a `zoo.Trained` of images.
      images: integer images `[N, H, W, C]`.
      keep: numbers of first levels to keep, a column each; empty for no such row.
      resample: numbers of first levels to draw anew, a column each.
      temperature: of the new latents.
      seed: Python `int`.

    Raises:
      ValueError: if both lists are given and differ in length.
    """
    if keep and resample and len(keep) != len(resample):
        raise ValueError(
            "`--keep_levels` and `--resample_levels` must be of one length. "
            f"Received: {keep} and {resample}."
        )
    density = with_temperature(model.density, temperature)
    x = model.dequantize(images, seed=[seed, -1])
    count = len(model.flow.latent_shapes)
    rows = []
    for name, numbers in (("keep_levels", keep), ("resample_levels", resample)):
        if not all(0 <= k <= count for k in numbers):
            raise ValueError(f"`--{name}` must be from 0 to {count}. Received: {numbers}.")
        levels = [range(k, count) if name == "keep_levels" else range(k) for k in numbers]
        decoded = [resample_levels(density, x, chosen, seed=[seed, 2]) for chosen in levels]
        if numbers:
            columns = [images, *map(model.distribution.to_integers, decoded)]
            rows.append(tf.stack([tf.cast(c, tf.int32) for c in columns], axis=1))
    picture = tf.stack(rows, axis=1)  # [N, rows, columns, H, W, C]
    return tf.reshape(picture, [-1, *images.shape[1:]]), picture.shape[2]


def read_levels(name: str) -> list[int]:
    """Returns the numbers that a flag lists."""
    try:
        return [int(number) for number in getattr(FLAGS, name)]
    except ValueError:
        raise app.UsageError(
            f"--{name} must be numbers, with commas between them. "
            f"Received: --{name}={','.join(getattr(FLAGS, name))}."
        ) from None


def draw_levels(
    model: zoo.Trained,
    output: pathlib.Path,
    dataset: str,
    data_dir: str | None,
    count: int,
    keep: Sequence[int],
    resample: Sequence[int],
    temperature: float,
    seed: int,
) -> None:
    """Draws the figure of test images with part of their latents drawn anew.

    Args:
      model: a `zoo.Trained`.
      output: the PNG to write.
      dataset: name of the data whose test images are shown.
      data_dir: where TFDS keeps prepared data, or `None`.
      count: number of images.
      keep: see `perturb`.
      resample: see `perturb`.
      temperature: of the new latents.
      seed: Python `int`.

    Raises:
      ValueError: if the model is not one of images; and see `perturb`.
    """
    if model.kind != zoo.IMAGES:
        raise ValueError(
            "`--keep_levels` and `--resample_levels` are for models of images. "
            f"Received: {model.entry.name}, with events of shape {tuple(model.event_shape)}."
        )
    source = loading.load(
        dataset,
        "test",
        batch_size=count,
        data_dir=data_dir,
        num_bits=loading.bits_to_keep(model.num_levels),
    )
    loading.check_shape(source, model.event_shape, dataset)
    images = next(iter(source.dataset))
    images, columns = perturb(model, images, keep, resample, temperature, seed)
    pictures.save_grid(output, images, model.num_levels, columns)


def main(argv: list[str]) -> None:
    """Loads the model and draws."""
    del argv
    model, workdir = command_line.open_model()
    output = command_line.read_output(workdir, "samples.png")
    count = FLAGS.count or pictures.usual_count(model.distribution)
    keep, resample = read_levels("keep_levels"), read_levels("resample_levels")
    if keep or resample:
        dataset, given = FLAGS.dataset or model.dataset, (FLAGS.temperature, FLAGS.seed)
        draw_levels(model, output, dataset, FLAGS.data_dir, count, keep, resample, *given)
        what = "Test images with latents drawn anew"
    else:
        draw = pictures.sampler(model.distribution, FLAGS.seed, FLAGS.temperature, count)
        drawn = draw(output)
        if not drawn:
            raise ArithmeticError(f"All {count} samples are NaN: an inverse did not converge.")
        what = f"{count} samples" if drawn == count else f"{drawn} of {count} samples"
    print(f"{what} at temperature {FLAGS.temperature}: {output}")


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
