"""Flags as people give them: numbers out of range, the home directory."""

import importlib
import json

import pytest
from absl import flags
from absl.testing import flagsaver

from tests.small_presets import save_small
from trainers import benchmark, command_line, evaluate, train
from trainers.runs import run_folder

FLAGS = flags.FLAGS
PROGRAMS = "benchmark command_line deform evaluate export reproduce sample score train"


def integers():
    names = [f"trainers.{name}" for name in PROGRAMS.split()]
    for name in names:
        importlib.import_module(name)
    modules = FLAGS.flags_by_module_dict()
    found = [flag for name in names for flag in modules.get(name, ())]
    return [flag.name for flag in found if isinstance(flag.parser, flags.IntegerParser)]


def test_every_integer_has_a_least_value():
    assert {"steps", "num_validation", "batch_size", "count", "panels"} <= set(integers())
    for name in integers():
        least = FLAGS[name].parser.lower_bound
        assert least in (0, 1), name
        with pytest.raises(ValueError):
            FLAGS[name].parser.parse(str(least - 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "--steps=0: 0 is not a positive integer"),
        ({"steps": -5}, "--steps=-5: -5 is not a positive integer"),
        (
            {"recipe": ["steps=0"]},
            "`steps` of a recipe must be a positive integer. Received: steps=0",
        ),
        ({"recipe": ["steps=many"]}, "steps='many'"),
        ({"recipe": ["batch_size=0"]}, "`batch_size` of a recipe must be a positive integer"),
        ({"recipe": ["optimizer=sgd"]}, '`optimizer` of a recipe must be "adam" or "adamax"'),
        ({"recipe": ["dataset=3"]}, "`dataset` of a recipe must be a text. Received: dataset=3"),
        ({"set": ["network=nope"]}, "`network` must be one of .*Received: --set=network=nope"),
        ({"set": ["steps=[1]"]}, r"There is no such model: .* Received: --set=steps=\[1\]"),
        ({"set": ["image_shape=null"]}, "`image_shape` must be three positive integers"),
        ({"epochs": 0.0}, "`--epochs` must be positive. Received: --epochs=0.0"),
        ({"epochs": -1.0}, "--epochs=-1.0"),
        ({"epochs": float("nan")}, "--epochs=nan"),
        ({"epochs": float("inf")}, "--epochs=inf"),
        ({"learning_rate": -1.0}, "--learning_rate=-1.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"report_every": 0}, "--report_every=0: 0 is not a positive integer"),
        ({"num_validation": -2}, "--num_validation=-2: -2 is not a non-negative integer"),
    ],
)
def test_numbers_that_no_run_can_have(values, message, tmp_path):
    workdir = str(tmp_path / "run")
    with (
        pytest.raises((ValueError, flags.IllegalFlagValueError), match=message),
        flagsaver.flagsaver(model="glow.digits", workdir=workdir, **values),
    ):
        train.main(["binary"])
    assert not (tmp_path / "run").exists()


def test_folders_below_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with flagsaver.flagsaver(model="glow.digits", workdir="~/run", resume=False):
        run = command_line.read_run()
        with run_folder.hold(run) as workdir:
            assert workdir == tmp_path / "run"
    run_folder.write(run, {})
    save_small(tmp_path / "run" / "preset", "glow.digits", steps=(1, 1), widths=(4, 4))
    with flagsaver.flagsaver(workdir="~/run", output="~/a.json"):
        assert command_line.open_model()[1] == tmp_path / "run"
        assert command_line.read_output(None, "b.json") == tmp_path / "a.json"


@pytest.fixture
def photos(tmp_path):
    """The folder of a run on pictures, without its weights."""
    workdir = tmp_path / "photos"
    (workdir / "preset").mkdir(parents=True)
    model = {"model": "glow.mnist", "arguments": {"image_shape": [8, 12, 1], "num_levels": 256}}
    data = {"image_size": [8, 12], "crop": "random", "resize": "lanczos"}
    run = {**model, **data, "seed": 0, "recipe": {"dataset": "/photos"}}
    (workdir / "config.json").write_text(json.dumps(run))
    (workdir / "preset" / "config.json").write_text(json.dumps(model))
    (workdir / "preset" / "metadata.json").write_text("{}")
    (workdir / "preset" / "model.weights.h5").touch()
    return workdir


@pytest.mark.parametrize(
    ("main", "flag", "folder", "match"),
    [
        (evaluate.main, "model", "photos", "is named by its folder, --workdir=.*photos. Rec"),
        (evaluate.main, "workdir", "photos/preset", "is named by --model=.*photos/preset. Rec"),
        (evaluate.main, "workdir", "none", "with a config.json. Received: --workdir=.*none"),
        (train.main, "model", "photos", "starts by --init=.*photos. Received"),
        (train.main, "model", "photos/preset", "starts by --init=.*preset. Received"),
        (benchmark.main, "model", "photos", "is the folder `preset` in it. Received"),
    ],
)
def test_a_folder_that_another_flag_is_for(main, flag, folder, match, photos, tmp_path):
    flags_ = {"workdir": str(tmp_path / "new")} if main is train.main else {}
    flags_[flag] = str(tmp_path / folder)
    with flagsaver.flagsaver(**flags_), pytest.raises(ValueError, match=match) as error:
        main(["binary"])
    assert "\n" not in str(error.value)


def test_a_start_from_a_run_has_its_pictures(photos, tmp_path):
    with flagsaver.flagsaver(init=str(photos), workdir=str(tmp_path / "new")):
        run = command_line.read_run()
        assert run.recipe.dataset == "/photos"
        assert (run.image_size, run.crop, run.resize) == ((8, 12), "random", "lanczos")
        assert run.entry.event_shape == (8, 12, 1)
    for other in ({"dataset": "mnist"}, {"model": "glow.mnist"}):
        with flagsaver.flagsaver(init=str(photos), workdir=str(tmp_path / "new"), **other):
            run = command_line.read_run()
            assert (run.recipe.dataset, run.image_size) == ("mnist", None)
