"""Flags that the binaries share, and what they set up: workdir, model, precision."""

import importlib.metadata
import os
import pathlib
import platform
import shlex

import tensorflow as tf
from absl import app, flags

from trainers.runs import strategies
from zoo.storage import files

FLAGS = flags.FLAGS
# What `required_preset` reads.
PRESET_FLAGS = ("model", "workdir", "strategy", "tpu", "cpu_devices", "precision")
CONFIG = "config.json"
DEEP = 500  # Trainable variables from which on a sooner start outweighs slower steps.
write_json = files.write_json
PACKAGES = ("tensorflow", "tensorflow-probability", "keras", "tensorflow-datasets", "numpy")

flags.DEFINE_string(
    "model",
    None,
    "Name of a model of the zoo, such as convexp_glow.digits; `python -m trainers.train --list` "
    "shows all. Sampling and evaluation also take the path of a preset.",
)
flags.DEFINE_string(
    "workdir", None, "Folder of a run: checkpoints, logs, pictures and the trained preset."
)
flags.DEFINE_string(
    "dataset",
    None,
    "digits (ships with scikit-learn), a planar set such as checkerboard, a set of nodes such as "
    "mog4, the name of any image data set of TFDS, folder:/path, or the path of a .npz file. "
    "Default: that of the model.",
)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared data. Default: TFDS's own.")
flags.DEFINE_string(
    "output", None, "Where a result goes that is not for the work directory: metrics or picture."
)
flags.DEFINE_integer(
    "batch_size", None, "Images a step, over all replicas. Default: the model's.", lower_bound=1
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
    "takes less memory. auto: on where XLA compiles it and the model is deep, with "
    f"{DEEP} variables or more, but for convolutions on a CPU.",
)
flags.DEFINE_integer(
    "log_det_terms",
    20,
    "Terms of the log-det of residual layers that are computed for sure, where it is estimated.",
    lower_bound=1,
)


def use_jit(event_shape):
    """Returns whether XLA compiles the step for such events."""
    return _suits_xla(event_shape) if FLAGS.jit == "auto" else FLAGS.jit == "on"


def use_loop(event_shape, num_variables):
    """Returns whether layers of the step that repeat are a loop."""
    if FLAGS.loop == "auto":
        return use_jit(event_shape) and _suits_xla(event_shape) and num_variables >= DEEP
    return FLAGS.loop == "on"


def _suits_xla(event_shape):
    return has_accelerator() or len(event_shape) < 3


def has_accelerator():
    """Returns whether there is a GPU or a TPU."""
    return bool(tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU"))


def versions():
    """Returns the versions of Python and of the packages that decide what a run computes."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


def machine():
    """Returns what the run is on, in a few words."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return f"{len(gpus)} GPU"
    return f"{len(os.sched_getaffinity(0))} CPU cores"


def output(workdir, name):
    """Returns where a result goes: --output, or a file of the folder of the run or of this one."""
    return files.local(FLAGS.output or (workdir or pathlib.Path()) / name)


def required_preset():
    """Returns the preset that `--workdir` or `--model` names, and the folder and configuration.

    Returns:
      The name or path of a preset, the work directory or `None`, its configuration or `None`.
    """
    if bool(FLAGS.workdir) == bool(FLAGS.model):
        raise app.UsageError("Either --workdir or --model must be given.")
    strategies.make()
    if FLAGS.model:
        return FLAGS.model, None, None
    workdir, config = required_workdir()
    return str(workdir / "preset"), workdir, config


def required_workdir():
    """Returns the folder of a finished run that `--workdir` names, and its configuration.

    Raises:
      ValueError: if it holds no run, or one that has not finished.
    """
    workdir = files.local(FLAGS.workdir)
    if not (workdir / CONFIG).is_file():
        raise ValueError(
            "`--workdir` must be the folder of a run of `trainers.train`, with a config.json. "
            f"Received: --workdir={workdir}."
        )
    if not (workdir / "preset").is_dir():
        raise ValueError(
            "The run has not finished: go on with `python -m trainers.train "
            f"--workdir={shlex.quote(str(workdir))} --resume`. "
            f"Received: --workdir={workdir}, without preset/."
        )
    return workdir, files.read_json(workdir / CONFIG)
