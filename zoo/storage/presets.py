"""Presets: a folder that holds a trained model.

config.json          name, arguments of the architecture, num_levels
model.weights.h5     the weights, written by Keras
metadata.json        sha256 of the weights, metric and its definition, data, command, versions;
                     url of the weights, if they are not in the folder
README.md            the card, made from the other two
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Mapping

import numpy as np
import tensorflow_probability as tfp

import tfflows
from tfflows.variables import named_variables
from zoo import registry
from zoo.storage import cards, files, limits, read_weights, remote

WEIGHTS = remote.WEIGHTS
_SHIPPED = pathlib.Path(__file__).parent.parent / "weights"


def folder(name: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of a name, path or URL."""
    if remote.is_url(name):
        return remote.fetch(name)
    path = files.local(name)
    # Only a name leads into the package, not a path that leaves it again.
    is_name = os.path.basename(name) == os.fspath(name)
    return _SHIPPED / name if is_name and not path.is_dir() else path


def is_place(name: str | os.PathLike) -> bool:
    """Returns whether `name` is the path of a folder, or a URL."""
    return remote.is_url(name) or os.path.isdir(files.expand_home(name))


def has_weights(name: str | os.PathLike) -> bool:
    """Returns whether `name` is a preset with weights, in its folder or at a URL."""
    path = folder(name)
    return (path / WEIGHTS).is_file() or _url_of(path) is not None


def _url_of(path):
    """Returns the URL that the metadata of a preset name for its weights, or `None`."""
    metadata = path / "metadata.json"
    return files.read_json(metadata).get("url") if metadata.is_file() else None


def read_card(name: str | os.PathLike) -> str:
    """Returns the text of the card."""
    path = folder(name) / "README.md"
    files.check_file(path, files.MAX_JSON_BYTES)
    return path.read_text(errors="replace")


def load_trained(
    name: str | os.PathLike, weights: bool = True, seed: int = 0
) -> tuple[tfp.distributions.Distribution, registry.Model]:
    """Returns the distribution of a preset as it was trained, `Dequantized` for images; its entry.

    Args:
      name: name, path or URL of the preset.
      weights: whether to load the weights.
      seed: seed of the initial weights.

    Raises:
      ValueError: if there is no such preset, or a file of it is missing, damaged or altered.
    """
    path = find(name)
    config = _read_config(path)
    arrays = read_arrays(path) if weights else None
    distribution, entry = _build(config, seed, path / "config.json", arrays)
    if weights:
        _assign(distribution, arrays, path / WEIGHTS)
    return distribution, entry


def find(name: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of a preset.

    Raises:
      ValueError: if there is none.
    """
    path = folder(name)
    if not path.is_dir() and path.parent != _SHIPPED:
        raise ValueError(f"There must be a folder with a preset. Received: {str(name)[:200]!r}.")
    if not path.is_dir():
        model = registry.find(name)  # Raises with suggestions if the name is unknown.
        raise ValueError(
            f"{model.name!r} has no pretrained weights; those that have: "
            f"{', '.join(filter(has_weights, registry.names()))}. Train it with "
            f"`python -m trainers.train --model={model.name}`."
        )
    return path


def read_entry(path: pathlib.Path) -> registry.Model:
    """Returns the entry of the preset in a folder, with the arguments that it was built from.

    Raises:
      ValueError: if its `config.json` is damaged or describes no model of the zoo.
    """
    config = _read_config(path)
    with _explain(path / "config.json"):
        return _entry_of(config)


def _read_config(path):
    config = files.read_json(path / "config.json")
    if not {"model", "arguments"} <= set(config):
        raise ValueError(
            f"{path / 'config.json'} must have the entries `model` and `arguments`. "
            f"Received: {sorted(config)[:10]}."
        )
    return config


def _entry_of(config):
    entry = registry.find(str(config["model"])[:200])
    limits.check_arguments(entry, config["arguments"])
    return dataclasses.replace(entry, arguments={**entry.arguments, **config["arguments"]})


@contextlib.contextmanager
def _explain(path):
    """Makes of any error one that names the file."""
    try:
        yield
    except Exception as error:  # Builders raise many kinds for what no builder is meant to get.
        raise ValueError(f"{path} must describe a model of the zoo: {error}") from error


def _build(config, seed, path, arrays):
    """Returns the distribution, about as large as its weights at most, and entry of a config."""
    size, count = limits.MAX_PARAMETERS, limits.MAX_VARIABLES
    if arrays:  # Builders also make variables that they do not keep.
        size = 2 * sum(array.size for array in arrays.values()) + 1000
        count = 2 * len(arrays) + 100
    with _explain(path):
        entry = _entry_of(config)
        with limits.limit(size, count):
            return entry.build(seed=seed), entry


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the weights of the preset in folder `path`, by name, after checking them."""
    path = checked_weights(path)
    arrays = read_weights.read_weights(path)
    _check_finite(arrays, path)
    return arrays


def checked_weights(path: str | os.PathLike) -> pathlib.Path:
    """Returns the file with the weights of the preset in folder `path`, after comparing its sum.

    It is in the folder, or fetched from the URL in the metadata if there is none.
    """
    path = files.local(path)
    weights, url = path / WEIGHTS, _url_of(path)
    if url is not None and not weights.exists():
        return remote.fetch_weights(url, files.read_json(path / "metadata.json").get("sha256"))
    files.check_file(weights, read_weights.MAX_BYTES)
    expected = files.read_json(path / "metadata.json").get("sha256")
    received = files.sha256(weights)
    if received != expected:
        raise ValueError(
            f"{weights} is damaged or was altered: its sha256 must be {str(expected)[:100]} "
            f"(metadata.json). Received: {received}."
        )
    return weights


def _check_finite(arrays, path):
    """Refuses weights that are NaN or infinite."""
    for name, array in arrays.items():
        count = array.size - int(np.isfinite(array).sum())
        if count:
            raise ValueError(
                f"{path} must have finite weights. Received: {count} of {array.size} entries of "
                f"{name!r} that are NaN or infinite. Train the model again."
            )


def load_weights(distribution: tfp.distributions.Distribution, path: str | os.PathLike) -> None:
    """Loads the weights of the preset in folder `path` after checking them."""
    path = files.local(path)
    _assign(distribution, read_arrays(path), path / WEIGHTS)


def _assign(distribution, arrays, path):
    """Gives the variables the values in `arrays`."""
    try:
        tfflows.FlowModel(distribution).load_own_variables(arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must have the weights of config.json's model: {error}") from error


def update_metric(path: str | os.PathLike, metric: Mapping) -> None:
    """Replaces the metric of a preset and renders its card anew.

    Args:
      path: folder of the preset.
      metric: a dict with the entries name, value, definition, data and command.
    """
    path = files.local(path)
    metadata = {**files.read_json(path / "metadata.json"), "metric": metric}
    try:
        card = cards.render(files.read_json(path / "config.json"), metadata)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must have the entries of a card in config.json and metadata.json. "
            f"Received: {error!r}."
        ) from error
    files.write_json(path / "metadata.json", metadata)
    files.write_text(path / "README.md", card)


def save(
    path: str | os.PathLike,
    distribution: tfp.distributions.Distribution,
    model_name: str,
    arguments: Mapping,
    metadata: Mapping,
    *,
    half: bool = False,
) -> None:
    """Writes a preset. Nothing is left at `path` unless all of it was written.

    Args:
      path: folder to make; an existing preset there is replaced.
      distribution: the distribution as it was trained.
      model_name: name of the entry that built it.
      arguments: all arguments of its builder.
      metadata: a dict for `metadata.json`, see `trainers.evaluate`; `sha256` is added.
      half: whether the file has the weights in `float16`, half the size: a metric is then to be
        measured with what is loaded from it.
    """
    path = files.local(path)
    model = tfflows.FlowModel(distribution)
    named = named_variables(distribution)
    stored = np.float16 if half else None
    _check_finite({name: np.asarray(v.numpy(), stored) for name, v in named.items()}, path)
    with files.appearing(path) as work:
        files.write_weights(model, work / WEIGHTS, half)
        config = {"model": model_name, "arguments": dict(arguments)}
        metadata = {**metadata, "sha256": files.sha256(work / WEIGHTS)}
        files.write_json(work / "config.json", config)
        files.write_json(work / "metadata.json", metadata)
        files.write_text(work / "README.md", cards.render(config, metadata))


def bundle(name: str | os.PathLike, path: str | os.PathLike) -> str:
    """Writes a folder that any static host can serve, from whose URL models are loaded.

    It has the files of the preset, its pictures, and `SHA256SUMS`. The card and `metadata.json`
    tell with which command the model was trained, paths included, and on which machine.

    Args:
      name: a name of `zoo.list_models(pretrained=True)`, or the path of a preset.
      path: folder to make; an earlier bundle there is replaced.

    Returns:
      The SHA-256 of `SHA256SUMS`, which a URL may promise: `https://HOST/FOLDER#sha256=...`.

    Raises:
      ValueError: if there is no such preset, a file of it is missing or altered, or there is
        something else at `path`.

    #### Example

    ```python
    import tempfile

    import zoo

    with tempfile.TemporaryDirectory() as folder:
        digest = zoo.bundle("rq_nsf.two_moons", f"{folder}/two_moons")
    print(f"https://example.org/two_moons#sha256={digest}")
    ```
    """
    source, target = find(name), files.local(path)
    if remote.is_url(path) or (target.exists() and not (target / remote.SUMS).is_file()):
        raise ValueError(f"`path` must be a new folder, or a bundle. Received: path={path}.")
    pictures = files.read_json(source / "metadata.json").get("pictures", cards.PICTURES)
    named = pictures.values() if isinstance(pictures, Mapping) else ()
    plain = [p for p in named if isinstance(p, str) and re.fullmatch(r"\w[\w.-]*\.png", p)]
    texts = [name for name in remote.FILES if name != WEIGHTS]
    with files.appearing(target) as work:
        shutil.copyfile(checked_weights(source), work / WEIGHTS)
        for file in (*texts, *(p for p in plain if (source / p).exists())):
            files.check_file(source / file, files.MAX_JSON_BYTES)
            shutil.copyfile(source / file, work / file)
        return remote.write_sums(work)
