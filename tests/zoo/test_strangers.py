"""Presets, weights and `.keras` files from strangers: an error that says why, never harm."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import h5py
import keras
import pytest

import zoo
from tests.zoo import fuzz_presets
from tests.zoo.strange_presets import refused, sign
from tfflows import FlowModel
from zoo.storage import presets

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("model", ["os.system", "../../etc", 7, None, ["glow.digits"], "x" * 10**5])
def test_a_model_is_a_name_of_the_zoo(preset, model):
    config = json.loads((preset / "config.json").read_text())
    (preset / "config.json").write_text(json.dumps({**config, "model": model}))
    refused(preset, "There is no model of this name")


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
def test_a_json_file_is_bounded(preset, name):
    os.truncate(preset / name, 1 << 30)  # Sparse: it takes no room.
    refused(preset, rf"{name} must have at most {8 << 20} bytes. Received: {1 << 30} bytes")
    (preset / name).write_text("[" * 10**5 + "]" * 10**5)
    refused(preset, rf"{name} is damaged, it is no JSON")
    (preset / name).write_text('{"model": ' + "9" * 5000 + "}")
    refused(preset, rf"{name} is damaged, it is no JSON")


@pytest.mark.parametrize("name", ["config.json", "metadata.json", presets.WEIGHTS])
def test_what_is_no_file_is_not_read(preset, name):
    (preset / name).unlink()
    os.mkfifo(preset / name)  # Opening it would wait for ever.
    refused(preset, f"{name} must be a regular file")
    (preset / name).unlink()
    (preset / name).symlink_to("/dev/zero")
    refused(preset, f"{name} must be a regular file")


def test_a_name_does_not_lead_out_of_the_package():
    for name in ("../presets/glow.digits", "glow.digits/../glow.digits", "/presets/glow.digits"):
        assert presets.folder(name) == pathlib.Path(name)
    for name in ("../models.py", "..", ""):
        with pytest.raises(
            ValueError, match="folder with a preset|file config.json; there is none"
        ):
            zoo.load(name)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(preset, value):
    with h5py.File(preset / presets.WEIGHTS, "r+") as file:
        name, array = next((k, v) for k, v in file["vars"].items() if v.size > 1)
        array[(0,) * array.ndim] = value
    sign(preset)
    refused(preset, f"must have finite weights. Received: 1 of [0-9]+ entries of '{name}' that are")


# `.keras` files.


@pytest.fixture
def keras_file(tmp_path):
    """A `.keras` file, and what its config.json holds."""
    model = FlowModel.from_builder(zoo.build, {"name": "glow.digits", **fuzz_presets.SMALL})
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        return tmp_path / "model.keras", json.loads(archive.read("config.json"))


def rewrite(path, config, extra=()):
    """Writes a `.keras` file with another config.json and further members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, **dict(extra)}.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "builder",
    [
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
        {"module": "builtins", "class_name": "function", "config": "eval"},
        {"module": "keras.utils", "class_name": "function", "config": "get_file"},
        {"module": None, "class_name": "function", "config": "tfflows>FlowModel"},
        {"config": ["zoo>build"]},
        "os.system",
        None,
    ],
    ids=str,
)
def test_a_keras_file_calls_no_function_but_registered_ones(keras_file, builder, tmp_path):
    path, config = keras_file
    config["config"]["builder"] = builder
    config["config"]["builder_kwargs"] = {"command": f"touch {tmp_path / 'done'}"}
    rewrite(path, config)
    with pytest.raises((ValueError, TypeError), match=r"lambda|`builder` must be a function"):
        keras.models.load_model(path)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"name": "/etc"}, "no model of this name"),
        ({"name": "glow.digits", "widths": [10**6, 10**6]}, "`widths` must have numbers"),
        ({"name": "glow.digits", "mixing": {"a": 1}}, "`mixing` must be of the kind"),
    ],
    ids=str,
)
def test_a_keras_file_is_bounded_too(keras_file, kwargs, match):
    path, config = keras_file
    config["config"]["builder_kwargs"] = kwargs
    rewrite(path, config)
    with pytest.raises((ValueError, TypeError), match=match):
        keras.models.load_model(path)


def test_paths_inside_a_keras_file_do_not_escape(keras_file, tmp_path):
    path, config = keras_file
    escape = tmp_path / "escaped"
    names = (
        "../escaped",
        "assets/../../escaped",
        str(escape),
        "assets/../../../../../" + str(escape),
    )
    rewrite(path, config, {name: b"harm" for name in names})
    try:
        keras.models.load_model(path)
    except Exception as error:  # Keras may refuse the file, or leave such members out.
        assert "escape" in str(error) or "path" in str(error).lower()
    assert not escape.exists()
    assert not (tmp_path.parent / "escaped").exists()


# Altered at random.


def fuzz(cases, seed, seconds):
    """Runs cases in a process of its own, so that a crash or a hang is seen."""
    command = [sys.executable, "-m", "tests.zoo.fuzz_presets", f"--cases={cases}", f"--seed={seed}"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return {
        tuple(re.split(" altered, |: ", line)[:2]): int(line.rpartition(": ")[2])
        for line in result.stdout.splitlines()
        if " altered, " in line
    }


def test_altered_presets_load_or_say_why_not():
    counts = fuzz(cases=20, seed=0, seconds=900)
    assert sum(counts.values()) == 20
    for name in ("config.json", presets.WEIGHTS):
        assert counts[name, "refused"] > 1
    assert counts["metadata.json", "loaded"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_many_altered_presets_load_or_say_why_not(seed):
    assert sum(fuzz(cases=600, seed=seed, seconds=7200).values()) == 600
