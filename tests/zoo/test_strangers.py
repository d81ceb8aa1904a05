"""Presets, weights and `.keras` files from strangers: an error that says why, never harm."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest

import zoo
from tests.zoo import fuzz_presets
from tfflows import FlowModel
from zoo import registry
from zoo.storage import files, limits, presets, read_weights

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a preset."""
    path = tmp_path_factory.mktemp("strangers") / "preset"
    fuzz_presets.make_preset(path)
    return path


@pytest.fixture
def preset(whole, tmp_path):
    """A copy of it, with hard links: what is written anew leaves the first as it is."""
    path = tmp_path / "preset"
    path.mkdir()
    for name in ("config.json", "metadata.json", presets.WEIGHTS):
        (path / name).write_bytes((whole / name).read_bytes())
    return path


def refused(preset, match):
    with pytest.raises(ValueError, match=match) as caught:
        zoo.load(str(preset))
    assert str(preset) in str(caught.value)


def configure(preset, **arguments):
    config = json.loads((preset / "config.json").read_text())
    config["arguments"] |= arguments
    (preset / "config.json").write_text(json.dumps(config))


def sign(preset):
    """Makes the SHA-256 in metadata.json that of the weights."""
    metadata = json.loads((preset / "metadata.json").read_text())
    digest = files.sha256(preset / presets.WEIGHTS)
    (preset / "metadata.json").write_text(json.dumps({**metadata, "sha256": digest}))


# config.json and metadata.json.


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"widths": [10**6, 10**6]}, "`widths` must have numbers of at most 4096"),
        ({"widths": [4096, 4096]}, r"at most 152 variables of 3144 parameters in all"),
        ({"steps": [4000, 4000]}, r"at most 152 variables of 3144 parameters in all"),
        ({"steps": [1] * 100}, "`steps` must have fewer levels"),
        ({"steps": [1] * 12}, "at most 4096 channels in the last level"),
        ({"image_shape": [10**4, 10**4, 3]}, "`image_shape` must have numbers of at most"),
        ({"image_shape": [4096, 4096, 5]}, "`image_shape` must be three positive integers"),
        ({"image_shape": [4, 4, -1]}, "`image_shape` must be three positive integers"),
        ({"image_shape": "444"}, r"`image_shape` must be of the kind of \(8, 8, 1\)"),
        ({"num_levels": math.nan}, "`num_levels` must have numbers of at most"),
        ({"num_levels": 10**400}, "`num_levels` must have numbers of at most"),
        ({"num_levels": True}, "`num_levels` must be of the kind of 17. Received: num_levels=True"),
        ({"mixing": "x" * 101}, "`mixing` must be shorter"),
        ({"mixing": {"class_name": "__lambda__"}}, "`mixing` must be of the kind of 'conv1x1'"),
        ({"num_bins": {"class_name": "__lambda__"}}, "`num_bins` must not be an object"),
        ({"strange": 1}, "`arguments` of 'glow.digits' must be among"),
        ({"widths": ["4", "4"]}, "must describe a model of the zoo"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_arguments_are_checked_and_bounded(preset, arguments, match):
    configure(preset, **arguments)
    start = time.process_time()
    refused(preset, match)
    assert time.process_time() - start < 60


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_model_of_the_zoo_is_within_the_bounds(name):
    entry = registry.find(name)
    limits.check_arguments(entry, json.loads(json.dumps(dict(entry.arguments))))


@pytest.mark.parametrize("model", ["os.system", "../../etc", 7, None, ["glow.digits"], "x" * 10**5])
def test_a_model_is_a_name_of_the_zoo(preset, model):
    config = json.loads((preset / "config.json").read_text())
    (preset / "config.json").write_text(json.dumps({**config, "model": model}))
    refused(preset, "There is no model of this name")


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
def test_a_json_file_is_bounded(preset, name):
    os.truncate(preset / name, 1 << 30)  # Sparse: it takes no room.
    refused(preset, rf"{name} must have at most {1 << 20} bytes. Received: {1 << 30} bytes")
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


def test_a_model_that_was_refused_leaves_keras_as_it_was(preset, whole):
    configure(preset, widths=[64, 64])
    refused(preset, "parameters in all")
    assert zoo.load(str(whole)).event_shape == (4, 4, 1)


# Weights.


def replace(name, make):
    """Returns a function that replaces an array of a weights file."""

    def change(path):
        with h5py.File(path, "r+") as file:
            value = file["vars"][name][()]
            del file["vars"][name]
            make(file["vars"], name, value)

    return change


def external_data(group, name, value):
    group.create_dataset(name, value.shape, "f4", external=[("/etc/passwd", 0, 1000)])


def virtual(group, name, value):
    layout = h5py.VirtualLayout(value.shape, "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", value.shape)
    group.create_virtual_dataset(name, layout)


def put(value):
    return lambda group, name, old: group.__setitem__(name, value)


def dataset(shape=None, **kwargs):
    return lambda group, name, old: group.create_dataset(name, shape or old.shape, **kwargs)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (put(h5py.ExternalLink("/etc/hostname", "/x")), "as ExternalLink"),
        (put(h5py.SoftLink("/vars")), "as SoftLink"),
        (external_data, "in another file, compressed, or of type"),
        (virtual, "in another file, compressed, or of type"),
        (dataset(compression="gzip"), "in another file, compressed, or of type"),
        (dataset([2**60], dtype="f4"), r"of shape \(1152921504606846976,\), 4611686018427387904 "),
        (dataset([2**40, 2**40], dtype="u1"), r"of shape \(1099511627776, 1099511627776\)"),
        (dataset([4], dtype=h5py.string_dtype()), "or of type object"),
        (put(["a", "b"]), "or of type object"),
        (lambda group, name, old: group.create_group(name), "as Group"),
        (put(np.zeros([3, 3])), "The weights are those of another model"),
        (lambda group, name, old: None, "The weights are those of another model"),
    ],
)
def test_weights_are_what_they_seem(preset, make, match):
    name = sorted(read_weights.read_weights(preset / presets.WEIGHTS))[0]
    replace(name, make)(preset / presets.WEIGHTS)
    refused(preset, "is damaged or was altered")
    sign(preset)
    refused(preset, match)


def test_what_is_no_hdf5_file(preset):
    for content in (b"", b"text", (preset / presets.WEIGHTS).read_bytes()[:5000]):
        (preset / presets.WEIGHTS).write_bytes(content)
        sign(preset)
        refused(preset, r"must be a whole weights file of a preset. Received: OSError")


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("kill -SEGV $$", "reading it ended with SIGSEGV"),
        ("exec sleep 60", "reading it took more than 1 s"),
        ("ulimit -t 1; while :; do :; done", "reading it ended with SIG(KILL|XCPU)"),
        ("exit 3", "it can't be read"),
    ],
)
def test_a_crash_or_a_hang_while_weights_are_read_is_an_error(preset, monkeypatch, script, match):
    program = preset / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(read_weights.sys, "executable", str(program))
    monkeypatch.setattr(read_weights, "_SECONDS", 1)
    monkeypatch.setattr(read_weights, "_WAIT", 1 if "sleep" in script else 60)
    refused(preset, match)


def test_weights_are_read_as_they_were_written(whole):
    arrays = read_weights.read_weights(whole / presets.WEIGHTS)
    with h5py.File(whole / presets.WEIGHTS) as file:
        assert set(arrays) == set(file["vars"])
        for name, value in arrays.items():
            np.testing.assert_array_equal(value, file["vars"][name][()])
            assert value.dtype == np.float32


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
