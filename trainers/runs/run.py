"""`Run`: all that a training is begun with, and what its `config.json` holds."""

import dataclasses
import json
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import zoo
from trainers.data.photographs import Preparation
from zoo.storage import files, presets

CONFIG = "config.json"


@dataclasses.dataclass(frozen=True)
class Devices:
    """What computes, and in which precision.

    Attributes:
      strategy: `tf.distribute` strategy: "auto", "one_device", "mirrored", "multi_worker", "tpu".
      tpu: name or address of the TPU.
      cpu_devices: number of logical CPU devices, each a replica of "mirrored".
      precision: Keras precision policy of the networks.
    """

    strategy: str = "auto"
    tpu: str = "local"
    cpu_devices: int = 1
    precision: str = "float32"


@dataclasses.dataclass(frozen=True)
class Run:
    """A training as it is asked for. `resume` aside, the file of its folder holds all of it.

    Attributes:
      entry: the `zoo.Model`, with the arguments that the model is built from.
      recipe: how it is trained.
      workdir: the folder.
      resume: whether to go on with what is there.
      seed: of initial weights, order of the data, noise and samples.
      data_dir: where TFDS keeps prepared data, or `None` for TFDS's own.
      num_validation: events that score a report.
      image_size: height and width of the images that are made of pictures; `None` to take images as
        they are. Those of `entry` are the same.
      crop: what is cut from pictures, see `photographs.Preparation`.
      resize: how they are resized, see there.
      init: name or path of the preset that it starts from, or `None`.
      init_act_norm: whether `ActNorm` is initialised from the data all the same.
      freeze: patterns of paths of variables that are not trained.
      start: what is known of the preset, see `start.load`.
      early_stopping: reports without improvement after which it ends, or `None`.
      keep: which weights the preset has, "best" or "last"; `None` for the best if it may end early.
      transport_cost: weight of the L2 transport cost of the blocks.
      weight_l2: weight of the squared norm of the matrices of linear layers.
      spectral_cap: norm of these matrices beyond which a penalty is added, or `None`.
      volume: whether to record volume, variance and steepness of every layer.
      volume_iterations: power iterations for the steepness.
      memory: argument of `FlowModel`.
      loop: whether layers that repeat are a loop: "auto", "on" or "off".
      jit: whether XLA compiles the step: "auto", "on" or "off".
      check_finite: argument of `FlowModel`.
      devices: what computes.
      shards: parts of a batch that a step evaluates side by side; `None` to choose.
      report_every: steps between reports; `None` to choose.
      reported_every: what was chosen so far.
      steps_per_execution: steps that run as one call; `None` to choose.
      epochs: passes over the data in place of the steps of the recipe, or `None`.
      num_examples: size of the training data; 0 as long as they were not looked at.
      classes: names of the classes whose labels the model is conditional on, once the data were
        looked at; `None` if it is not.
      changes: `--set` as it was given, for messages.
      column_kinds: what was said of the columns of a table, as `--column_kind` has it; the columns
        themselves are among the arguments of the entry once the data were looked at.
    """

    entry: zoo.Model
    recipe: zoo.Recipe
    workdir: pathlib.Path = pathlib.Path()
    resume: bool = False
    seed: int = 0
    data_dir: str | None = None
    num_validation: int = 1000
    image_size: tuple[int, int] | None = None
    crop: str = "center"
    resize: str = "area"
    init: str | None = None
    init_act_norm: bool = False
    freeze: tuple[str, ...] = ()
    start: dict[str, Any] | None = None
    early_stopping: int | None = None
    keep: str | None = None
    transport_cost: float = 0.0
    weight_l2: float = 0.0
    spectral_cap: float | None = None
    volume: bool = False
    volume_iterations: int = 4
    memory: str = "store"
    loop: str = "auto"
    jit: str = "auto"
    check_finite: bool = True
    devices: Devices = Devices()
    shards: int | None = None
    report_every: int | None = None
    reported_every: int | None = None
    steps_per_execution: int | None = None
    epochs: float | None = None
    num_examples: int = 0
    classes: tuple[str, ...] | None = None
    changes: tuple[str, ...] = ()
    column_kinds: tuple[str, ...] = ()

    @property
    def preparation(self) -> Preparation | None:
        """What is made of pictures; `None` if they are images of the size already."""
        if self.image_size is None:
            return None
        height, width, channels = self.entry.event_shape
        return Preparation(height, width, channels, self.crop, self.resize)

    @property
    def keeps_best(self) -> bool:
        """Whether the preset has the weights of the best report."""
        return self.keep == "best" or (self.keep is None and self.early_stopping is not None)

    def identity(self) -> dict:
        """Returns what must be the same for the weights of one run to be those of another."""
        found = {
            "model": self.entry.name,
            "arguments": dict(self.entry.arguments),
            "seed": self.seed,
            "init": self.init,
            "init_act_norm": self.init_act_norm,
            "freeze": self.freeze,
        }
        return json.loads(json.dumps(found))

    def to_json(self) -> dict:
        """Returns what a file holds of it."""
        left_out = ("entry", "workdir", "resume", "report_every", "epochs", "changes")
        left_out += ("column_kinds",)
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in left_out
        }
        values |= {name: dataclasses.asdict(values[name]) for name in ("recipe", "devices")}
        return {**self.identity(), **values}


# What a run that is resumed takes from its file, unless it is given again.
REMEMBERED = tuple(
    field.name
    for field in dataclasses.fields(Run)
    if field.name
    not in ("entry", "recipe", "workdir", "resume", "devices", "changes", "column_kinds")
    and field.name not in ("report_every", "steps_per_execution", "epochs", "num_examples")
)


def read_config(workdir: pathlib.Path) -> dict | None:
    """Returns the configuration of the run in a folder, or `None` if there is no run.

    Raises:
      ValueError: if it is damaged.
    """
    path = workdir / CONFIG
    if not path.is_file():
        return None
    config = files.read_json(path)
    if not {"model", "arguments", "seed", "recipe"} <= set(config):
        raise ValueError(
            f"{path} must have the entries model, arguments, seed and recipe of a run. "
            f"Received: {sorted(config)}."
        )
    return config


def is_run(path: str | pathlib.Path) -> bool:
    """Returns whether a path is the folder of a run, and not a preset."""
    return (files.local(path) / CONFIG).is_file() and not presets.has_weights(path)


def find_preset(workdir: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the preset of a run.

    Raises:
      ValueError: if the run has not finished.
    """
    if not (workdir / "preset").is_dir():
        raise ValueError(
            "The run has not finished: go on with `python -m trainers.train "
            f"--workdir={shlex.quote(str(workdir))} --resume`. "
            f"Received: {workdir}, without preset/."
        )
    return workdir / "preset"


def from_json(config: Mapping, **changes: Any) -> Run:
    """Returns the run of a configuration that was read, with changes.

    Args:
      config: what `read_config` returned.
      **changes: attributes of the run that take the place of what was read.

    Raises:
      ValueError: if the model is unknown, or an entry of the recipe has no such value.
    """
    entry = zoo.find(config["model"])
    entry = dataclasses.replace(entry, arguments=config["arguments"])
    values = {name: config[name] for name in REMEMBERED if name in config}
    if values.get("image_size") is not None:
        values["image_size"] = tuple(values["image_size"])
    if values.get("classes") is not None:
        values["classes"] = tuple(values["classes"])
    values["freeze"] = tuple(values.get("freeze", ()))
    values["devices"] = Devices(**config.get("devices", {}))
    values["recipe"] = dataclasses.replace(entry.recipe, **config["recipe"])
    values["num_examples"] = config.get("num_examples", 0)
    return Run(**{"entry": entry, **values, **changes})
