"""Draws samples of a model, images with part of their latents drawn anew, or what lies between two.

    python -m trainers.sample --workdir=runs/digits --temperature=0.8
    python -m trainers.sample --model=convexp_glow.digits --output=samples.png
    python -m trainers.sample --workdir=runs/digits --interpolate
    python -m trainers.sample --workdir=runs/digits --nearest=5
    python -m trainers.sample --workdir=runs/digits --keep_levels=0,1,2 --resample_levels=0,1,2
    python -m trainers.sample --workdir=runs/wine --count=10000 --output=wine.csv
    python -m trainers.sample --workdir=runs/wine --given=target=1 --count=100 --output=one.csv
    python -m trainers.sample --model=glow.digits_by_class --label=3
    python -m trainers.sample --workdir=runs/noisy --denoise

The third draws a row for each pair of test images, or those of `--split`: between the two, what is
decoded from the latents on an arc from one to the other (`tfflows.analysis.interpolate`). Of points
it draws the ways from one to the other. The fourth draws samples, each at the start of a row, and
after it the images of the training split that are nearest to it: was it learnt by heart?

Of a model that is conditional on labels, samples are a row for each class, or of the class that
`--label` names; test images are decoded with their own label, and pairs are of one class.

The last one draws the figure of *Jacobian Determinant of Normalizing Flows*, section 6.3, for test
images: each in the first column; beside it, a column for each number k of the list, decoded from
the latents of its first k levels and new ones elsewhere (`--keep_levels`, first row of an image)
and the other way round (`--resample_levels`, second row).
"""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import zoo
from tfflows.analysis import interpolate, resample_levels
from tfflows.distributions import with_temperature
from trainers import command_line, evaluate, pair_plots, pictures, program
from trainers.data import batching, labels, loading, nearest, sources
from trainers.data.tables import column_choice, table_files, table_names
from zoo import columns

FLAGS = flags.FLAGS
AT_ONCE = 1000  # Images that samples are compared with.
BESIDE_NEAREST = 8  # Samples; of each class one.
BETWEEN = 9  # Images of a row, or points of a way, both ends among them.
WAYS_AMONG = 2000  # Samples, in the background.
SHARED_FLAGS = (
    *command_line.PRESET_FLAGS,
    *command_line.PICTURE_FLAGS,
    *("dataset", "data_dir", "split", "output", "seed"),
)
flags.DEFINE_integer(
    "count",
    None,
    "Number of samples, by default 64 images (fewer if larger than 128x128), 20,000 points or sets "
    "with as many nodes; of samples a class, by default 8, with labels; of test images with "
    "--keep_levels; of pairs with --interpolate; of rows, or rows a class, with --nearest.",
    lower_bound=1,
)
flags.DEFINE_float(
    "temperature", 1.0, "Factor on the standard deviation of the latents.", lower_bound=0.0
)
flags.DEFINE_string(
    "label",
    None,
    "Class to draw, by name or number, of a model that is conditional on labels. Default: all, a "
    "row each.",
)
flags.DEFINE_float(
    "guidance",
    0.0,
    "How much more the label counts than it does, for a model that was trained with "
    "--recipe=context_dropout=0.1.",
    lower_bound=0.0,
)
flags.DEFINE_bool(
    "denoise",
    False,
    "Take the noise out of samples, for a model that was trained with Gaussian noise "
    "(--set=noise=6.4): what comes out has no likelihood.",
)
flags.DEFINE_multi_string(
    "given",
    [],
    "Of a table, as NAME=VALUE, a column that the others are conditioned by; one for each. "
    "Default: those of the rows of --dataset, a sample each; or of rows that were trained on.",
)
flags.DEFINE_bool(
    "interpolate",
    False,
    "Draw what lies between pairs of test images or points, by an arc between their latents: a row "
    "for each of --count pairs, by default 8.",
)
flags.DEFINE_integer(
    "nearest",
    None,
    "Draw beside each of --count samples, by default 8 or one of each class, so many of the "
    "nearest images of --dataset, by default of all that are in the split train.",
    lower_bound=1,
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


def make_sampler(
    model: zoo.Trained, number: int | None, save: Callable | None = None
) -> tuple[Callable, int, str]:
    """Returns what draws samples into a file, as the flags say; how many; and that in words.

    Args:
      model: a `zoo.Trained`.
      number: of the class to draw; `None` for all, or of a model that is not conditional.
      save: writes samples, a row for each; by default they are next to each other.
    """
    options = (FLAGS.seed, FLAGS.temperature)
    if not model.is_conditional or number is not None:
        name = "" if number is None else f" of the class {model.classes[number]}"
        distribution = model.given(number, FLAGS.guidance).distribution
        usual = BESIDE_NEAREST if save else pictures.usual_count(distribution)
        count = FLAGS.count or usual
        draw = pictures.sampler(distribution, *options, count, save, denoise=FLAGS.denoise)
        return draw, count, f"{count} samples{name}"
    rows = min(len(model.classes), pictures.MOST_CLASSES)
    usual = 1 if save else pictures.usual_class_count(model.event_shape, rows)
    count = FLAGS.count or usual

    def condition(y):
        return model.given(y, FLAGS.guidance).distribution

    names = labels.describe(model.classes[:rows])
    what = f"{rows * count} samples, {count} {'' if save else 'a row '}of each of {names},"
    draw = pictures.class_sampler(condition, rows, *options, count, save, FLAGS.denoise)
    return draw, rows * count, what


def make_nearest_saver(model: zoo.Trained, count: int) -> Callable:
    """Returns what writes a picture of samples, each before the images that are nearest to it.

    Args:
      model: a `zoo.Trained`.
      count: images of the data of the flags in a row, after the sample.

    Raises:
      ValueError: if the model is not one of images, or the data are not for it or too few.
    """
    if model.kind != zoo.IMAGES:
        raise ValueError(
            "`--nearest` is for models of images. "
            f"Received: {model.entry.name}, a model of {model.kind.noun}."
        )
    dataset = FLAGS.dataset or model.dataset
    split = FLAGS.split if command_line.is_given("split") else "train"
    data = evaluate.open_images(
        model,
        dataset,
        split,
        batching.most_events(AT_ONCE, tuple(model.event_shape)),
        FLAGS.data_dir,
        preparation=command_line.read_preparation(model),
        with_labels=False,
    )
    if data.num_examples < count:
        raise ValueError(
            f"`--nearest` must be {data.num_examples} at most, as many as there are images of "
            f"{dataset}, {split}. Received: --nearest={count}."
        )

    def save(path, samples, least_size):
        samples = np.asarray(samples)
        batches = data.dataset.as_numpy_iterator()
        found, distances = nearest.find_nearest(samples, batches, count)
        rows = np.concatenate([samples[:, np.newaxis], found], axis=1)
        rows = rows.reshape(-1, *samples.shape[1:])
        pictures.save_grid(path, rows, model.num_levels, 1 + count, least_size)
        print(
            f"Of {data.num_examples} images of {dataset}, {split}, the nearest to a sample is "
            f"{distances[:, 0].min():.3g} to {distances[:, 0].max():.3g} of {model.num_levels} "
            "values a pixel away, the root of the mean square."
        )

    return save


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
    images: tf.Tensor,
    keep: Sequence[int],
    resample: Sequence[int],
    temperature: float,
    seed: int,
) -> None:
    """Draws the figure of images with part of their latents drawn anew.

    Args:
      model: a `zoo.Trained`.
      output: the PNG to write.
      images: integer images `[N, H, W, C]`.
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
    images, columns = perturb(model, images, keep, resample, temperature, seed)
    pictures.save_grid(output, images, model.num_levels, columns)


def open_events(
    model: zoo.Trained, count: int, number: int | None = None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns the first events of the split of the flags, as many as asked for if there are.

    Args:
      model: a `zoo.Trained`.
      count: how many.
      number: of the class that they are of; by default they are of any.

    Returns:
      The events; and their labels, `None` of a model that is not conditional.

    Raises:
      ValueError: if there are none.
    """
    dataset = FLAGS.dataset or model.dataset
    source = loading.load(
        dataset,
        FLAGS.split,
        batch_size=count,
        data_dir=FLAGS.data_dir,
        num_bits=loading.bits_to_keep(model.num_levels),
        preparation=command_line.read_preparation(model),
        **evaluate.read_condition(model),
    )
    loading.check_shape(source, model.event_shape, dataset)
    loading.check_kind(source, model.kind, dataset)
    if not source.is_conditional:
        return next(iter(source.dataset)), None
    found = source.dataset
    if number is not None:
        found = found.unbatch().filter(lambda _, label: label == number).batch(count)
    batch = next(iter(found), None)
    if batch is None:
        raise ValueError(
            f"`{dataset}`, {FLAGS.split}, must have events of the class "
            f"{model.classes[number]!r}. Received: none."
        )
    return batch


def open_pairs(
    model: zoo.Trained, count: int, number: int | None = None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns pairs of events, one after the other; those of labels are of one.

    Args:
      model: a `zoo.Trained`.
      count: how many pairs.
      number: of the class that they are of; by default they are of any.

    Returns:
      The events, and the labels or `None`, as `open_events`.
    """
    among = 2 * count
    if model.is_conditional and number is None:  # Of each class one may be left over.
        among += len(model.classes)
    x, y = open_events(model, among, number)
    if y is None:
        return x, None
    chosen, waiting = [], {}
    for place, label in enumerate(y.numpy()):
        if label in waiting:
            chosen += [waiting.pop(label), place]
        else:
            waiting[label] = place
    chosen = np.array(chosen[: 2 * count], np.int32)
    return tf.gather(x, chosen), tf.gather(y, chosen)


def draw_between(
    model: zoo.Trained,
    output: pathlib.Path,
    events: tf.Tensor,
    seed: int,
    y: tf.Tensor | None = None,
) -> int:
    """Draws what lies between events, the first and the second, the third and the fourth, ...

    Args:
      model: a `zoo.Trained` of images, or of points or sets of them in the plane.
      output: the PNG to write.
      events: a batch, of which a last one without a partner is left out.
      seed: Python `int`, of the noise of images.
      y: of a conditional model, the labels of the events, alike in each pair.

    Returns:
      The number of pairs.

    Raises:
      ValueError: if there are no two events, or they can't be drawn.
    """
    count = len(events) // 2
    if not count or (model.kind != zoo.IMAGES and model.event_shape[-1] != 2):
        raise ValueError(
            "`--interpolate` needs two images or more, or points in the plane. Received: "
            f"{len(events)} events of shape {tuple(model.event_shape)}."
        )
    if y is None:
        x = model.dequantize(events[: 2 * count], seed=[seed, -1])
        between = interpolate(model.density, x[::2], x[1::2], BETWEEN)
    else:
        pairs = zip(tf.split(events[: 2 * count], count), y[::2], strict=True)
        between = tf.concat([_between(model.given(label), pair, seed) for pair, label in pairs], 0)
    if model.kind == zoo.IMAGES:
        images = model.distribution.to_integers(between)
        images = tf.reshape(images, [-1, *events.shape[1:]])
        pictures.save_grid(output, images, model.num_levels, BETWEEN)
    else:
        samples = model.density.sample(WAYS_AMONG, seed=[seed, 1])
        pictures.save_ways(output, samples, between)
    return count


def _between(model, pair, seed):
    """Returns what lies between the two events of a pair."""
    x = model.dequantize(pair, seed=[seed, -1])
    return interpolate(model.density, x[:1], x[1:], BETWEEN)


def draw_rows(model: zoo.Trained, output: pathlib.Path) -> None:
    """Draws rows of a table: a file of them, and a pair plot beside it.

    Args:
      model: a `zoo.Trained` of a table.
      output: file of rows, or a .png for the picture alone.

    Raises:
      ValueError: if pictures are asked for, or the file is of no such kind.
    """
    if FLAGS.keep_levels or FLAGS.resample_levels or FLAGS.interpolate or FLAGS.nearest:
        raise ValueError(
            "`--keep_levels`, `--resample_levels`, `--interpolate` and `--nearest` draw pictures, "
            f"of images or points. Received: {model.entry.name}, a model of {model.kind.noun}."
        )
    command_line.read_preparation(model)  # Refuses flags of pictures.
    if output.suffix not in (*table_files.WRITTEN, ".png"):
        raise ValueError(
            f"`--output` must end in {', '.join(table_files.WRITTEN)} or .png. "
            f"Received: --output={output}."
        )
    arguments = model.entry.arguments
    names, given = columns.names(arguments["columns"]), read_given(model)
    others = columns.names(arguments["condition_columns"])
    integers = [*columns.are_integers(arguments["columns"])]
    integers += [bool(np.all(values == np.floor(values))) for values in given.T]
    save_plot = pair_plots.saver(names, _some_rows(model))

    def save(path, samples, least_size):
        rows = np.asarray(samples)
        if path.suffix in table_files.WRITTEN:
            found = np.concatenate([rows, given], axis=1) if others else rows
            found = found[~np.isnan(found).any(axis=1)]
            table_files.write(path, table_files.columns_of(found, [*names, *others], integers))
        save_plot(path.with_suffix(".png"), rows, least_size)

    count = len(given) or FLAGS.count or pair_plots.MOST_ROWS
    distribution = model.given(given).distribution if others else model.distribution
    draw = pictures.sampler(distribution, FLAGS.seed, FLAGS.temperature, count, save)
    drawn = draw(output)
    if not drawn:
        raise ArithmeticError(f"All {count} samples are NaN: an inverse did not converge.")
    picture = output.with_suffix(".png")
    where = str(output) if picture == output else f"{output}, and as a picture {picture}"
    print(f"{drawn} samples at temperature {FLAGS.temperature}: {where}")


def read_given(model: zoo.Trained) -> np.ndarray:
    """Returns what the samples of a table are conditioned by, as the flags say, `float32` `[N, K]`.

    There are none, `[0, 0]`, of a model that is not conditional.

    Raises:
      ValueError: if `--given` has other columns, or there are no data to take them from.
    """
    names = columns.names(model.entry.arguments["condition_columns"])
    pairs = [text.rpartition("=")[::2] for text in FLAGS.given]
    if not names:
        if pairs:
            raise ValueError(
                f"`--given` is for models of tables with a condition, which {model.entry.name} has "
                f"not. Received: --given={FLAGS.given[0]}."
            )
        return np.empty([0, 0], np.float32)
    if pairs:
        try:
            values = {name: float(value) for name, value in pairs}
        except ValueError:
            values = {}
        if (
            len(values) < len(pairs)
            or set(values) != set(names)
            or not all(map(np.isfinite, values.values()))
        ):
            raise ValueError(
                "`--given` must be NAME=NUMBER, once for each of the columns of the condition, "
                f"{', '.join(names)}. Received: {' '.join(f'--given={t}' for t in FLAGS.given)}."
            )
        row = np.array([values[name] for name in names], np.float32)
        return np.tile(row, [FLAGS.count or pair_plots.MOST_ROWS, 1])
    dataset = table_names.name_with(FLAGS.dataset or model.dataset, columns=names, condition=None)
    split = "all" if FLAGS.dataset else "train"
    if command_line.is_given("split"):
        split = FLAGS.split
    try:
        table, numbers = sources.rows_of(dataset, split)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`--given=NAME=NUMBER` must be given for each of {', '.join(names)}, or --dataset "
            f"with rows to take them from: {error}"
        ) from error
    if not FLAGS.dataset:
        count = FLAGS.count or pair_plots.MOST_ROWS
        numbers = np.random.default_rng(FLAGS.seed).choice(numbers, count)
    return np.asarray(table.rows[numbers[: FLAGS.count]])


def _some_rows(model):
    """Returns rows of the data of a model, or `None`, with a warning, if they are not there."""
    dataset = column_choice.name_with_columns_of(FLAGS.dataset or model.dataset, model.entry)
    dataset = table_names.name_with(dataset, condition=None)
    try:
        table, numbers = sources.rows_of(dataset, "train")
    except (OSError, ValueError) as error:
        if FLAGS.dataset and not model.is_conditional:
            raise
        logging.warning("The picture has samples alone, no data: %s", error)
        return None
    return table.rows[numbers[: pair_plots.MOST_ROWS]]


def check_guidance(model: zoo.Trained, draws_samples: bool) -> None:
    """Refuses guidance where it changes nothing, and warns where the model knows no null context.

    Args:
      model: a `zoo.Trained`.
      draws_samples: whether samples are drawn.
    """
    if model.classes is None or not draws_samples:
        raise app.UsageError(
            "--guidance is for samples of a model that is conditional on labels. "
            f"Received: --guidance={FLAGS.guidance}, {model.entry.name}."
        )
    if not model.metadata.get("context_dropout"):
        logging.warning(
            "%s was trained without --recipe=context_dropout=0.1: what it makes of no label is by "
            "chance, and so is where --guidance leads.",
            model.entry.name,
        )


def check_denoise(model: zoo.Trained, draws_samples: bool) -> None:
    """Refuses to take noise out of what has none.

    Args:
      model: a `zoo.Trained`.
      draws_samples: whether samples are drawn.
    """
    if not draws_samples or not model.is_discrete or model.distribution.stddev is None:
        raise app.UsageError(
            "--denoise is for samples of a model that was trained with Gaussian noise, such as "
            f"tarflow.* with --set=noise=6.4. Received: --denoise, {model.entry.name}."
        )


def main(argv: list[str]) -> None:
    """Loads the model and draws."""
    del argv
    model, workdir = command_line.open_model()
    evaluate.read_condition(model)  # An error if there are no labels.
    number = None if FLAGS.label is None else model.number_of(FLAGS.label)
    if model.kind == zoo.TABLES:
        if FLAGS.guidance:
            check_guidance(model, draws_samples=False)
        if FLAGS.denoise:
            check_denoise(model, draws_samples=False)
        draw_rows(model, command_line.read_output(workdir, "samples.csv"))
        return
    output = command_line.read_output(workdir, "samples.png")
    count = FLAGS.count or pictures.usual_count(model.distribution)
    keep, resample = read_levels("keep_levels"), read_levels("resample_levels")
    if FLAGS.interpolate and (keep or resample or FLAGS.temperature != 1):
        raise app.UsageError(
            "--interpolate draws a figure of its own, of no samples: it goes without "
            "--keep_levels, --resample_levels and --temperature."
        )
    if FLAGS.nearest and (FLAGS.interpolate or keep or resample):
        raise app.UsageError(
            "--nearest draws samples beside images: it goes without --interpolate, --keep_levels "
            "and --resample_levels."
        )
    draws_samples = not (FLAGS.interpolate or keep or resample)
    if FLAGS.guidance:
        check_guidance(model, draws_samples)
    if FLAGS.denoise:
        check_denoise(model, draws_samples)
    if FLAGS.interpolate:
        x, y = open_pairs(model, FLAGS.count or 8, number)
        count = draw_between(model, output, x, FLAGS.seed, y)
        alike = "" if y is None else ", each of one class,"
        what = f"{count} pairs of {FLAGS.split} {model.kind.noun}{alike}"
        print(f"{what} and what lies between: {output}")
        return
    if keep or resample:
        images, y = open_events(model, count, number)
        given = (images, keep, resample, FLAGS.temperature, FLAGS.seed)
        draw_levels(model.given(y), output, *given)
        what = f"{FLAGS.split.capitalize()} images with latents drawn anew"
    else:
        save = make_nearest_saver(model, FLAGS.nearest) if FLAGS.nearest else None
        draw, count, what = make_sampler(model, number, save)
        drawn = draw(output)
        if not drawn:
            raise ArithmeticError(f"All {count} samples are NaN: an inverse did not converge.")
        what = what if drawn == count else f"{drawn} of {what}"
    print(f"{what} at temperature {FLAGS.temperature}: {output}")


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
