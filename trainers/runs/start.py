"""Where a run starts that is not from nothing: a preset's weights, and some of them frozen."""

import dataclasses
import math
import pathlib
from typing import Any

import tfflows
import zoo
from tfflows import weight_files
from trainers.runs.run import Run, find_preset, is_run, read_config
from zoo.storage import cards, files, presets

_LISTED = 5  # Variables that do not fit, in what is printed.


def find(name: str) -> pathlib.Path:
    """Returns the folder of the preset that `--init` names; or of a run, whose preset it is.

    Raises:
      ValueError: if there is none, or the run has not finished.
    """
    if not name:
        raise ValueError("`--init` must be a preset or the folder of a run. Received: --init=.")
    return presets.find(find_preset(files.local(name)) if is_run(name) else name)


def read_entry(name: str) -> zoo.Model:
    """Returns the entry of the preset that `--init` names, with its arguments and condition.

    If it is that of a run, its recipe has the data of the run.
    """
    folder = find(name)
    entry = presets.read_entry(folder)
    changes = {"condition": files.read_json(folder / "metadata.json").get("condition")}
    if is_run(name):
        changes["dataset"] = _read_config(name)["recipe"]["dataset"]
    return dataclasses.replace(entry, recipe=dataclasses.replace(entry.recipe, **changes))


def read_data(name: str) -> dict[str, Any]:
    """Returns what a run that `--init` names says of its data, as attributes of a `Run`."""
    config = _read_config(name) if is_run(name) else {}
    keys = ("data_dir", "image_size", "crop", "resize")
    found = {key: config[key] for key in keys if config.get(key) is not None}
    return found | ({"image_size": tuple(found["image_size"])} if "image_size" in found else {})


def _read_config(name):
    return read_config(files.local(name))


def load(model: tfflows.FlowModel, name: str) -> tuple[dict[str, Any], frozenset[int]]:
    """Gives a model those of a preset's weights that fit by path and shape, and prints which.

    Args:
      model: the model.
      name: name or path of the preset.

    Returns:
      A record for `config.json`: what the preset is, and how much of it fits; and the identities of
      the variables that have its values.

    Raises:
      ValueError: if there is no such preset, it is damaged, or nothing of it fits.
    """
    folder = find(name)
    arrays = presets.read_arrays(folder)
    fitting, others = weight_files.read_fitting(model.distribution, arrays)
    named = tfflows.named_variables(model.distribution)
    if not fitting:
        raise ValueError(
            "`--init` must be a preset with variables of the model, by path and shape. "
            f"Received: --init={name}, of whose {len(arrays)} variables none fits."
        )
    own = sum(path in named for path in others)
    parameters = [sum(named[p].shape.num_elements() for p in paths) for paths in (fitting, named)]
    share = f"{100 * parameters[0] / parameters[1]:.3g} % of the parameters"
    print(f"--init={name}: {len(fitting)} of {len(named)} variables start from there, {share}")
    if others:
        print(f"  {own} start anew, {len(others) - own} are there alone:")
        for path, what in [*others.items()][:_LISTED]:
            print(f"  {path}: {what}")
        if len(others) > _LISTED:
            print(f"  and {len(others) - _LISTED} others")
    metadata = files.read_json(folder / "metadata.json")
    record = {
        "stages": cards.list_stages(presets.read_entry(folder).name, metadata),
        "fitting": len(fitting),
        "variables": len(named),
    }
    return record, frozenset(id(named[path]) for path in fitting)


def freeze(model: tfflows.FlowModel, patterns: tuple[str, ...]) -> None:
    """Freezes what `--freeze` names.

    Raises:
      ValueError: if a pattern matches nothing, or nothing is left to train.
    """
    if patterns:
        tfflows.freeze(model.distribution, patterns)
        if not model.trainable_weights:
            given = " ".join(f"--freeze={pattern}" for pattern in patterns)
            raise ValueError(f"`--freeze` must leave something to train. Received: {given}.")


def count(model: tfflows.FlowModel, patterns: tuple[str, ...]) -> tuple[int, int]:
    """Returns how many parameters are trained, and how many there are with those frozen."""
    trained, frozen = model.count_params(), 0
    if patterns:
        named = tfflows.named_variables(model.distribution)
        paths = tfflows.freeze(model.distribution, patterns)  # Which are so already.
        frozen = sum(math.prod(named[path].shape) for path in paths)
    return trained, trained + frozen


def stages(run: Run, model: tfflows.FlowModel, data: str) -> list[dict]:
    """Returns what metadata and card say of the stages of a training; `[]` if it is the first."""
    if run.start is None and not run.freeze:
        return []
    trained, parameters = count(model, run.freeze)
    now = {"data": data, "trained_parameters": trained, "parameters": parameters}
    if run.start:
        now |= {key: run.start[key] for key in ("fitting", "variables")}
    if run.freeze:
        now["frozen"] = " ".join(run.freeze)
    return [*(run.start["stages"] if run.start else []), now]
