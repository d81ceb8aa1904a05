"""Presets: a folder that holds a trained model.

config.json          name, arguments of the architecture, num_levels
model.weights.h5     the weights, written by Keras
metadata.json        sha256 of the weights, metric and its definition, data, command, versions
README.md            the card, made from the other two
"""

import hashlib
import json
import os
import pathlib
import shutil
import tempfile

import tfflows
from zoo import cards, registry

WEIGHTS = "model.weights.h5"
_SHIPPED = pathlib.Path(__file__).parent / "presets"


def folder(name):
    """Returns the folder of a name or path."""
    return pathlib.Path(name) if os.path.isdir(name) else _SHIPPED / name


def has_weights(name):
    """Returns whether `name` is a preset with weights."""
    return (folder(name) / WEIGHTS).is_file()


def read_card(name):
    """Returns the text of the card."""
    return (folder(name) / "README.md").read_text()


def read_json(path):
    """Returns the object in a JSON file; a damaged file raises an error that names it."""
    path = pathlib.Path(path)
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(
            f"A preset must have a file {path.name}. Received: the folder {path.parent}."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged, it is no JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object. Received: {type(content).__name__}.")
    return content


def sha256(path):
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_trained(name, weights=True, seed=0):
    """Returns the distribution of a preset as it was trained: `Dequantized` for images.

    Args:
      name: name or path of the preset.
      weights: whether to load the weights.
      seed: seed of the initial weights.

    Raises:
      ValueError: if there is no such preset, or a file of it is missing, damaged or altered.
    """
    path = folder(name)
    if not path.is_dir():
        model = registry.find(name)  # Raises with suggestions if the name is unknown.
        raise ValueError(
            f"{model.name!r} has no pretrained weights; those that have: "
            f"{', '.join(filter(has_weights, registry.names()))}. Train it with "
            f"`python -m trainers.train --model={model.name}`."
        )
    config = read_json(path / "config.json")
    try:
        entry, arguments = registry.find(config["model"]), dict(config["arguments"])
    except (KeyError, TypeError):
        raise ValueError(
            f"{path / 'config.json'} must have the entries `model` and `arguments`. "
            f"Received: {sorted(config)}."
        ) from None
    distribution = entry.build(seed=seed, **arguments)
    if weights:
        load_weights(distribution, path)
    return distribution


def load_weights(distribution, path):
    """Loads the weights of the preset in folder `path` after checking their SHA-256."""
    path = pathlib.Path(path)
    expected = read_json(path / "metadata.json").get("sha256")
    received = sha256(path / WEIGHTS)
    if received != expected:
        raise ValueError(
            f"{path / WEIGHTS} is damaged or was altered: its sha256 must be {expected} "
            f"(metadata.json). Received: {received}."
        )
    tfflows.FlowModel(distribution).load_weights(path / WEIGHTS)


def update_metric(path, metric):
    """Replaces the metric of a preset and renders its card anew.

    Args:
      path: folder of the preset.
      metric: a dict with the entries name, value, definition, data and command.
    """
    path = pathlib.Path(path)
    metadata = {**read_json(path / "metadata.json"), "metric": metric}
    (path / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
    (path / "README.md").write_text(cards.render(read_json(path / "config.json"), metadata))


def save(path, distribution, model_name, arguments, metadata):
    """Writes a preset. Nothing is left at `path` unless all of it was written.

    Args:
      path: folder to make; an existing preset there is replaced.
      distribution: the distribution as it was trained.
      model_name: name of the entry that built it.
      arguments: all arguments of its builder.
      metadata: a dict for `metadata.json`, see `trainers.evaluate`; `sha256` is added.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        tfflows.FlowModel(distribution).save_weights(work / WEIGHTS)
        config = {"model": model_name, "arguments": dict(arguments)}
        metadata = {**metadata, "sha256": sha256(work / WEIGHTS)}
        (work / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (work / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
        (work / "README.md").write_text(cards.render(config, metadata))
        work.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        work.rename(path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
