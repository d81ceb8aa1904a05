"""Presets on disk, and what a damaged one says."""

import json
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.small_presets import save_small
from tests.zoo.small_models import SMALL, images, small
from tfflows.variables import named_variables
from zoo import registry
from zoo.storage import files, presets

METADATA = {
    "summary": "A test.",
    "metric": {"name": "bits/dim", "value": 1.0, "definition": "-", "data": "-", "command": "-"},
    "parameters": 1,
    "steps": 1,
    "training_seconds": 1.0,
    "machine": "-",
    "command": "-",
    "versions": {"python": "3"},
    "licence": "Apache-2.0",
    "paper": "-",
}


@pytest.fixture(scope="module")
def trained():
    """A model that is not at its initial weights."""
    model = small("glow.digits", discrete=True, seed=4)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(0, 0.05, variable.shape).astype("float32"))
    return model


@pytest.fixture
def preset(trained, tmp_path):
    """The folder of a preset."""
    path = tmp_path / "preset"
    arguments = {**registry.find("glow.digits").arguments, **SMALL["glow"]}
    zoo.save(path, trained, "glow.digits", arguments, METADATA)
    return path


def test_weights_in_float16_take_half_of_the_room(trained, preset, tmp_path):
    arguments = files.read_json(preset / "config.json")["arguments"]
    zoo.save(tmp_path / "half", trained, "glow.digits", arguments, METADATA, half=True)
    sizes = [(path / presets.WEIGHTS).stat().st_size for path in (preset, tmp_path / "half")]
    assert sizes[1] < 0.8 * sizes[0]  # These arrays are small beside their headers.
    loaded = zoo.create(tmp_path / "half", pretrained=True, discrete=True)
    for saved, found in zip(trained.variables, loaded.variables, strict=True):
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found, saved.numpy().astype(np.float16))


def test_preset_round_trip(trained, preset):
    assert sorted(p.name for p in preset.iterdir()) == [
        "README.md",
        "config.json",
        "metadata.json",
        "model.weights.h5",
    ]
    v = tf.cast(images(), tf.float32) + 0.5
    expected = trained.distribution.log_prob(v)
    for model in (zoo.load(str(preset)), zoo.create(str(preset), pretrained=True)):
        np.testing.assert_array_equal(model.log_prob(v), expected)
    untrained = zoo.create(str(preset), seed=4)
    assert np.any(untrained.log_prob(v) != expected)
    assert zoo.describe(str(preset)) == (preset / "README.md").read_text()


def test_saving_replaces_a_preset(trained, preset):
    again = small("glow.digits", discrete=True, seed=9)
    config = json.loads((preset / "config.json").read_text())
    zoo.save(preset, again, "glow.digits", config["arguments"], METADATA)
    v = tf.cast(images(), tf.float32) + 0.5
    np.testing.assert_array_equal(zoo.load(str(preset)).log_prob(v), again.distribution.log_prob(v))
    assert [p.name for p in preset.parent.iterdir()] == ["preset"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, alter])
def test_damaged_weights_are_refused(preset, damage):
    damage(preset / presets.WEIGHTS)
    with pytest.raises(
        ValueError, match=r"is damaged or was altered: its sha256 must be [0-9a-f]{64}"
    ):
        zoo.load(str(preset))


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must have a file"),
        (b"{ half", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[1, 2]", "must hold a JSON object. Received: list"),
    ],
    ids=["missing", "half", "binary", "list"],
)
def test_damaged_json_is_refused(preset, name, content, message):
    path = preset / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load(str(preset))
    assert name in str(caught.value)


def test_config_without_a_model_is_refused(preset):
    (preset / "config.json").write_text('{"name": "glow.digits"}')
    with pytest.raises(ValueError, match=r"entries `model` and `arguments`\. Received: \['name'\]"):
        zoo.load(str(preset))


@pytest.mark.parametrize("existing", [False, True])
def test_failed_save_leaves_nothing_behind(trained, tmp_path, monkeypatch, existing):
    path = tmp_path / "preset"
    if existing:
        path.mkdir()
        (path / "kept").write_text("kept")

    def fail(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(presets.cards, "render", fail)
    with pytest.raises(OSError, match="No space"):
        zoo.save(path, trained, "glow.digits", {}, METADATA)
    assert [p.name for p in tmp_path.iterdir()] == (["preset"] if existing else [])
    if existing:
        assert [p.name for p in path.iterdir()] == ["kept"]


def test_presets_below_the_home_directory(home):
    save_small("~/presets/tiny", "realnvp.two_moons", num_blocks=1, width=4)
    assert (home / "presets" / "tiny" / "config.json").is_file()
    model = zoo.load("~/presets/tiny")
    assert zoo.describe("~/presets/tiny").startswith("# realnvp.two_moons")
    presets.load_weights(model, "~/presets/tiny")
    variable = next(iter(named_variables(model).values()))
    for value in (math.nan, math.inf):
        variable.assign(np.full(variable.shape, value))
        with pytest.raises(ValueError, match="must have finite weights.*that are NaN or infinite"):
            zoo.save("~/presets/other", model, "realnvp.two_moons", {}, {})
    assert [path.name for path in (home / "presets").iterdir()] == ["tiny"]


@pytest.mark.parametrize("path", ["/no/where/glow.digits", "~/glow.digits", "./glow.digits"])
def test_a_folder_that_is_not_there_is_no_shipped_preset(home, path):
    with pytest.raises(ValueError, match="There must be a folder with a preset. Received"):
        zoo.load(path)


def test_a_path_object_is_a_name_or_a_folder(home):
    assert presets.folder(pathlib.Path("glow.digits")) == presets.folder("glow.digits")
    assert presets.folder(home) == home
