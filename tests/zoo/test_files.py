"""Paths, JSON and weights that presets are made of."""

import json
import math
import pathlib

import numpy as np
import pytest

import zoo
from tests.small_presets import save_small
from tfflows.variables import named_variables
from zoo.storage import files, presets


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home directory."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~", "{home}"),
        ("~/x", "{home}/x"),
        ("a/~/x", "a/~/x"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("/x~", "/x~"),
    ],
)
def test_the_home_directory_is_put_in(home, path, expected):
    assert files.expand_home(path) == expected.format(home=home)


def test_a_user_who_is_not_there(home):
    with pytest.raises(ValueError, match="no home directory of such a user. Received: ~nobody_7/x"):
        files.local("~nobody_7/x")


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


def strictly(text):
    """Reads what is JSON, in which there is no NaN."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_json_has_no_nan(tmp_path):
    content = {"a": [1.5, math.nan, {"b": (math.inf, 2)}], "c": -math.inf, "d": None, "e": "NaN"}
    expected = {"a": [1.5, None, {"b": [None, 2]}], "c": None, "d": None, "e": "NaN"}
    files.write_json(tmp_path / "a.json", content)
    assert strictly((tmp_path / "a.json").read_text()) == expected
    assert strictly(files.to_json(content)) == expected
    files.write_json(tmp_path / "a.json", {"a": 0.1, "b": "\udce9"})
    assert strictly((tmp_path / "a.json").read_text()) == {"a": 0.1, "b": "\udce9"}


IMAGES = "glow.digits balanced.digits sylvester.digits convexp_glow.digits realnvp.digits"


@pytest.mark.parametrize("name", [*IMAGES.split(), "emerging_glow.cifar10"])
@pytest.mark.parametrize(
    "shape",
    [(6, 6, 1), (2, 2, 1), (1, 1, 1), (0, 8, 1), (8, 8, 0), (8, 8), (-8, 8, 1), (8.0, 8, 1), "88"],
)
def test_sides_that_shrink_to_nothing(name, shape):
    if name == "realnvp.digits" and shape in ((6, 6, 1), (2, 2, 1)):
        return  # One level less.
    with pytest.raises(ValueError, match=r"`image_shape` must be \(height.*image_shape=") as error:
        zoo.create(name, image_shape=shape)
    assert "Take fewer levels, or pad or resize the images" in str(error.value)
