"""The command line of the programs: the flags that several have, and the values they stand for.

Programs read their flags in `main`, with the functions here. Nothing below knows of flags.
"""

import dataclasses
import json
import math
import pathlib
import shlex
import sys

from absl import app, flags

import zoo
from trainers.data import loading, photographs
from trainers.data.tables import column_lists, table_names, table_paths
from trainers.runs import run as runs
from trainers.runs import start, strategies, table_columns
from zoo.architectures.building import ImageShapeError
from zoo.storage import files, limits, presets

FLAGS = flags.FLAGS
PICTURE_FLAGS = ("image_size", "crop", "resize")
TABLE_FLAGS = (  # Of `trainers.train`; then they are part of the name of the data.
    *("columns", "condition_columns", "column_kind"),
    *("split_column", "split_fractions", "split_seed"),
)
DEVICE_FLAGS = ("strategy", "tpu", "cpu_devices", "precision")
# What `open_model` reads.
PRESET_FLAGS = ("model", "workdir", *DEVICE_FLAGS)

flags.DEFINE_string(
    "model",
    None,
    "Name of a model of the zoo, such as convexp_glow.digits; `python -m trainers.train --list` "
    "shows all. Sampling and evaluation also take the path or URL of a preset.",
)
flags.DEFINE_string(
    "workdir", None, "Folder of a run: checkpoints, logs, pictures and the trained preset."
)
flags.DEFINE_string(
    "dataset",
    None,
    "digits (ships with scikit-learn), a planar set such as checkerboard, a set of nodes such as "
    "mog4, the name of any image data set of TFDS, folder:/path, the path of a .npz file, or a "
    "table: the path of a .csv, .parquet or .npz file, or of a folder of these, or sklearn:wine. "
    "Default: that of the model.",
)
flags.DEFINE_string(
    "image_size",
    None,
    "Height and width of the images that are made of pictures of any size: 64, or 64x96. The "
    "model becomes one of such images. Default: images are taken as they are.",
)
flags.DEFINE_enum(
    "crop",
    "center",
    photographs.CROPS,
    "With --image_size, what is cut from a picture: the largest part of the proportions of an "
    "image, in the centre, or in training anywhere; or none, and all is stretched to them.",
)
flags.DEFINE_enum(
    "resize",
    "area",
    photographs.FILTERS,
    "With --image_size, how what is cut is resized: area, the mean of what a pixel covers; or "
    "lanczos, sharper. Both antialias.",
)
flags.DEFINE_string(
    "condition",
    None,
    "What of the data the model is conditional on: label, of digits, of image sets of TFDS (or "
    "the name of another feature), of folders of classes as in train/CLASS/1.png, and of .npz "
    "files with an array labels, or train_labels beside train. Default: the recipe's.",
)
flags.DEFINE_string(
    "columns",
    None,
    "Columns of a table, names or numbers, or patterns such as *_share; or -name for all but some. "
    "Default: all.",
)
flags.DEFINE_string(
    "condition_columns", None, "Columns of a table that the others are conditioned by."
)
flags.DEFINE_multi_string(
    "column_kind",
    [],
    "What a column of a table is, as NAME=KIND, where * stands for any text in a name: real, "
    "integer, integer:LOW:HIGH, positive, positive:LOW, interval:LOW:HIGH, simplex (columns that "
    "are positive and sum to 1), simplex:SUM. Default: integer if all its numbers are of an "
    "integer type, else real.",
)
flags.DEFINE_string(
    "split_column", None, "Column of a table that says train, validation or test of each row."
)
flags.DEFINE_string(
    "split_fractions",
    None,
    "Fractions of the rows of a table for train, validation and test. Default: 0.8,0.1,0.1.",
)
flags.DEFINE_integer("split_seed", None, "Seed of these splits. Default: 0.", lower_bound=0)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared data. Default: TFDS's own.")
flags.DEFINE_string(
    "output", None, "Where a result goes that is not for the work directory: metrics or picture."
)
flags.DEFINE_enum(
    "format",
    "savedmodel",
    ["savedmodel", "jax"],
    "What a model is exported as: a SavedModel, for TensorFlow; or files for JAX, for which JAX is "
    "needed here, too.",
)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Images a step, over all replicas. Default: the model's. Of trainers.export --format=jax: "
    "events that are computed at once, 64 by default.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Seed of initial weights, data order, noise and samples.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_enum(
    "jit",
    "auto",
    ["auto", "on", "off"],
    "Whether XLA compiles the step. auto: on with an accelerator; on CPU, where XLA is slower for "
    "convolutions and faster for dense layers, on for points and sets and off for images.",
)
flags.DEFINE_enum(
    "loop",
    "auto",
    ["auto", "on", "off"],
    "Whether layers that repeat are one loop in the graph of the step, which starts sooner and "
    "takes less memory. auto: on where XLA compiles it and the model is deep, with 500 variables "
    "or more, but for convolutions on a CPU.",
)
flags.DEFINE_integer(
    "log_det_terms",
    20,
    "Terms of the log-det of residual layers that are computed for sure, where it is estimated.",
    lower_bound=1,
)
flags.DEFINE_string(
    "split", "test", "Split to score, or to draw events of, as TFDS writes it: test, test[:1000]."
)
flags.DEFINE_integer(
    "num_samples",
    1,
    "Samples of the dequantiser an image: 1 for the bound, more to tighten it.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "one_device", "mirrored", "multi_worker", "tpu"],
    "tf.distribute strategy. auto: mirrored over all GPUs if there are several, else one device. "
    "mirrored without a GPU: over logical CPU devices, see --cpu_devices. multi_worker: one "
    "process a host, which finds the others in the environment variable TF_CONFIG.",
)
flags.DEFINE_string("tpu", "local", "Name or address of the TPU for --strategy=tpu.")
flags.DEFINE_integer(
    "cpu_devices",
    1,
    "Number of logical CPU devices, each a replica of mirrored.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "shards",
    None,
    "Parts of a batch that a step evaluates side by side, each on one thread. Default: on CPU one "
    "a core if the images are large enough, which is faster than sharing every small convolution "
    "among the cores; else 1.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "mixed_bfloat16", "mixed_float16"],
    "Keras precision policy of the networks; flow arithmetic and log-dets stay in float32. "
    "mixed_float16 scales the loss, and leaves out steps whose gradients overflow.",
)
flags.DEFINE_multi_string(
    "set",
    [],
    "Argument of the architecture to change, as name=value with a JSON value, such as "
    "--set=steps=[8,8,8] or --set=contraction=tanh; `zoo.describe(name)` lists them.",
)
flags.DEFINE_multi_string(
    "recipe", [], "Entry of the recipe to change, in the same way: --recipe=optimizer=adamax."
)
flags.DEFINE_enum(
    "memory",
    None,
    ["store", "recompute", "invert"],
    "What of the flow a step keeps for its gradient. store: everything. recompute: the input of "
    "each block; about a third more time. invert: next to nothing; inputs are found by inverses. "
    "Default: store, or what the run to resume did.",
)
flags.DEFINE_float(
    "ema",
    None,
    "Momentum of a moving average of the weights; 0 for none.",
    lower_bound=0.0,
    upper_bound=1.0,
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
    "check_finite",
    True,
    "Stop before the update of a step whose loss or gradients are not finite. On a GPU the host "
    "waits for the gradients of each step to know; never on a TPU.",
)


def is_given(name: str) -> bool:
    """Returns whether a flag was given; one that a program does not have was not."""
    return name in FLAGS and not FLAGS[name].using_default_value


def read_devices() -> runs.Devices:
    """Returns what computes, as the flags say."""
    return runs.Devices(**{name: getattr(FLAGS, name) for name in DEVICE_FLAGS})


def read_output(workdir: pathlib.Path | None, name: str) -> pathlib.Path:
    """Returns where a result goes: --output, or a file of the folder of the run or of this one."""
    return files.local(FLAGS.output or (workdir or pathlib.Path()) / name)


def command(program: str) -> str:
    """Returns the command that this process is, for people to give again."""
    return shlex.join(["python", "-m", program, *sys.argv[1:]])


def open_model() -> tuple[zoo.Trained, pathlib.Path | None]:
    """Returns the model that --workdir or --model names, and the work directory or `None`.

    The devices are set up before. The model is one `for_inference`.
    """
    if bool(FLAGS.workdir) == bool(FLAGS.model):
        raise app.UsageError("Either --workdir or --model must be given.")
    strategies.make(read_devices())
    if FLAGS.model:
        if runs.is_run(FLAGS.model):
            raise ValueError(
                "`--model` must be a name or a preset; the model of a run is named by its folder, "
                f"--workdir={FLAGS.model}. Received: --model={FLAGS.model}."
            )
        return zoo.open_trained(FLAGS.model).for_inference(), None
    workdir = files.local(FLAGS.workdir)
    if not runs.is_run(workdir):
        is_preset = presets.has_weights(workdir)
        raise ValueError(
            "`--workdir` must be the folder of a run of `trainers.train`, with a config.json"
            f"{f'; a preset is named by --model={workdir}' if is_preset else ''}. "
            f"Received: --workdir={workdir}."
        )
    preset, config = runs.find_preset(workdir), runs.read_config(workdir) or {}
    return zoo.open_trained(preset, config["recipe"]["dataset"]).for_inference(), workdir


def read_preparation(model: zoo.Trained) -> photographs.Preparation | None:
    """Returns what is made of pictures: what was in training, with what the flags change.

    Raises:
      ValueError: if the preset says of it what can't be.
    """
    stored = model.metadata.get("preparation")
    given = {name: getattr(FLAGS, name) for name in PICTURE_FLAGS if is_given(name)}
    if stored is None and not given:
        return None
    if model.kind != zoo.IMAGES:
        raise ValueError(
            "`--image_size`, `--crop` and `--resize` are for models of images. "
            f"Received: {model.entry.name}, a model of {model.kind.noun}."
        )
    if "image_size" in given:
        given["image_size"] = photographs.parse_size(given["image_size"])
    return photographs.from_json(stored or {}, tuple(model.event_shape), given)


def _with_image_size(run: runs.Run) -> runs.Run:
    """Returns the run with a model of the images that are made of pictures."""
    if run.image_size is None:
        if given := [
            f"--{name}={getattr(FLAGS, name)}" for name in PICTURE_FLAGS if is_given(name)
        ]:
            raise ValueError(
                "`--crop` and `--resize` need `--image_size`, as in --image_size=64. "
                f"Received: {' '.join(given)}."
            )
        return run
    height, width = run.image_size
    try:
        entry = zoo.with_image_size(run.entry, height, width)
    except ImageShapeError as error:
        near = "x".join(map(str, error.nearest[:2]))
        raise ValueError(
            f"`--image_size` must have sides divisible by {error.factor} for {run.entry.name!r}; "
            f"the nearest is --image_size={near}. Received: --image_size={height}x{width}."
        ) from None
    if loading.bits_to_keep(entry.num_levels) is None:  # As the 17 of the digits: not of 8 bits.
        entry = dataclasses.replace(entry, arguments={**entry.arguments, "num_levels": 256})
    return dataclasses.replace(run, entry=entry)


def read_entry(entry: zoo.Model) -> zoo.Model:
    """Returns an entry of the zoo with the arguments of --set."""
    arguments = _changed(entry.arguments, FLAGS.set, "--set")
    limits.check_arguments(entry, {k: v for k, v in arguments.items() if v != entry.arguments[k]})
    return dataclasses.replace(entry, arguments=arguments)


def read_recipe(recipe: zoo.Recipe) -> zoo.Recipe:
    """Returns a recipe with the changes of the flags, but for --epochs, which needs the data."""
    changes = {
        name: getattr(FLAGS, name)
        for name in ("dataset", "batch_size", "steps", "learning_rate", "ema", "condition")
        if name in FLAGS and getattr(FLAGS, name) is not None
    }
    entries = _changed(dataclasses.asdict(recipe), FLAGS.recipe, "--recipe")
    recipe = dataclasses.replace(recipe, **entries | changes)
    return dataclasses.replace(recipe, dataset=_read_table(recipe.dataset))


def _read_table(dataset):
    """Returns the name of the data, with the options of a table among the flags."""
    options = {
        "columns": FLAGS.columns and column_lists.split(FLAGS.columns),
        "condition": FLAGS.condition_columns and column_lists.split(FLAGS.condition_columns),
        "split_column": FLAGS.split_column,
        "split": FLAGS.split_fractions,
        "seed": FLAGS.split_seed,
    }
    options = {name: value for name, value in options.items() if value not in (None, "")}
    if not options and not FLAGS.column_kind:
        return dataset
    table_paths.check_is_table(dataset)
    return table_names.name_with(dataset, **options) if options else dataset


def read_run() -> runs.Run:
    """Returns the run that the flags of `trainers.train` or `trainers.benchmark` ask for.

    A run to resume is what its `config.json` says, with what was given again.

    Raises:
      ValueError: if there is no such model, or no run can have such a value.
    """
    workdir = files.local(FLAGS.workdir or "")
    resume = "resume" in FLAGS and FLAGS.resume
    stored = runs.read_config(workdir) if resume else None
    names = [name for name in runs.REMEMBERED if name in FLAGS and name != "memory"]
    values = {name: getattr(FLAGS, name) for name in names if stored is None or is_given(name)}
    if FLAGS.memory:
        values["memory"] = FLAGS.memory
    asked = ("report_every", "steps_per_execution")
    values |= {name: getattr(FLAGS, name) for name in asked if name in FLAGS}
    if values.get("image_size") is not None:
        values["image_size"] = photographs.parse_size(values["image_size"])
    values["epochs"] = _read_epochs()
    values |= {"workdir": workdir, "resume": resume, "changes": tuple(FLAGS.set)}
    if "freeze" in values:
        values["freeze"] = tuple(values["freeze"])
    values["column_kinds"] = tuple(FLAGS.column_kind)
    if stored is None:
        entry = read_entry(_named_entry(values.get("init")))
        if values.get("init") and FLAGS.model is None and FLAGS.dataset is None:
            known = start.read_data(values["init"])  # Of the run that it starts from.
            values |= {name: value for name, value in known.items() if not is_given(name)}
        run = runs.Run(entry, entry.recipe, devices=read_devices(), **values)
    else:
        run = runs.from_json(stored, **values)
        _check_condition(run.recipe.condition)
        given = {name: getattr(FLAGS, name) for name in DEVICE_FLAGS if is_given(name)}
        run = dataclasses.replace(run, devices=dataclasses.replace(run.devices, **given))
        if FLAGS.set or FLAGS.model not in (None, stored["model"]):
            entry = read_entry(zoo.find(FLAGS.model or stored["model"]))
            entry = table_columns.keep_columns(entry, run.entry)
            run = dataclasses.replace(run, entry=entry)
    return _with_image_size(dataclasses.replace(run, recipe=read_recipe(run.recipe)))


def _check_condition(before):
    """Refuses another condition than that of a run to resume."""
    if "condition" in FLAGS and FLAGS.condition not in (None, before):
        raise ValueError(
            f"`--condition` can't change a run, whose condition is {before}. "
            f"Received: --condition={FLAGS.condition}."
        )


def _named_entry(init):
    """Returns the entry that --model names; without it, that of the preset to start from."""
    if init is None and not FLAGS.model:
        raise app.UsageError("--model must be given.")
    if FLAGS.model and FLAGS.model not in zoo.list_models() and files.local(FLAGS.model).is_dir():
        raise ValueError(
            "`--model` must be a name, see --list; from the preset or run in a folder a training "
            f"starts by --init={FLAGS.model}. Received: --model={FLAGS.model}."
        )
    named = zoo.find(FLAGS.model) if FLAGS.model else None
    if init is None:
        return named
    found = start.read_entry(init)  # An error before there is anything.
    entry = named or found
    if entry.kind == zoo.TABLES and FLAGS.dataset is None:
        if found.kind != zoo.TABLES or not runs.is_run(init):
            raise ValueError(
                "`--dataset` must be given with `--init` for a table, unless that is a run on one: "
                f"a preset does not know its rows. Received: --init={init}."
            )
        recipe = dataclasses.replace(entry.recipe, dataset=found.recipe.dataset)
        entry = dataclasses.replace(entry, recipe=recipe)
    return entry


def _read_epochs():
    epochs = FLAGS.epochs if "epochs" in FLAGS else None
    if epochs is not None and not 0 < epochs < math.inf:
        raise ValueError(f"`--epochs` must be positive. Received: --epochs={epochs}.")
    return epochs


def _changed(entries, texts, flag):
    """Returns a copy of a dictionary with the changes `name=value`, the values in JSON or text."""
    entries = dict(entries)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in entries:
            raise ValueError(
                f"`{flag}` must be name=value with a name among {sorted(entries)}. "
                f"Received: {flag}={text}."
            )
        try:
            entries[name] = json.loads(value)
        except json.JSONDecodeError:
            entries[name] = value
    return entries
