"""The benchmark of models: processes of their own, memory, operations, XLA side by side."""

import json

import pytest
import tensorflow as tf
from absl import app
from absl.testing import flagsaver

import zoo
from tests.small_presets import save_small
from tfflows.analysis import operations
from trainers import benchmark

MODELS = {
    "glow.digits": {"image_shape": (4, 4, 1), "steps": (1, 1), "widths": (4, 4)},
    "realnvp.two_moons": {"num_blocks": 1, "width": 4},
}


def run(**values):
    with flagsaver.flagsaver(shards=1, rounds=1, draws=2, batch_size=8, **values):
        benchmark.main(["binary"])


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Paths of two small presets."""
    folder = tmp_path_factory.mktemp("presets")
    return {name: save_small(folder / name, name, **changes) for name, changes in MODELS.items()}


def check(row, name, jit):
    assert (row["model"], row["XLA"], row["batch size"]) == (name, jit, 8)
    assert row["examples/s"] == pytest.approx(8 / row["step, s"])
    assert 0 < row["step, s"] < row["first step, s"]
    assert row["samples/s"] > 0
    assert 1e8 < row["memory of the libraries, bytes"] < row["peak memory, bytes"] < 1e11
    # With a gradient, at least the operations of the density and something more.
    assert 0 < row["log_prob, operations"] < row["step, operations"]
    assert row["samples, operations"] > 0


def test_a_model_is_measured_in_a_process_of_its_own(presets, tmp_path, capsys):
    path = presets["glow.digits"]
    run(model=path, jit="off", output=str(tmp_path / "costs.json"))
    (row,) = json.loads((tmp_path / "costs.json").read_text())["models"]
    check(row, path, jit=False)
    # Nothing but the parent's copy of the weights could make this one differ.
    model = zoo.create(path, pretrained=True, discrete=True)
    x = tf.zeros([8, 4, 4, 1], tf.uint8)
    counted = operations.count(lambda x: model.log_prob(x, seed=[0, 1]), x).operations
    assert row["log_prob, operations"] == counted
    table = capsys.readouterr().out
    assert f"| {path} | no |" in table
    assert "peak memory, MB | step, GFLOP | log_prob, GFLOP | samples, GFLOP |" in table


@pytest.mark.slow
def test_models_are_measured_side_by_side_with_and_without_xla(presets, tmp_path):
    paths = list(presets.values())
    run(model=",".join(paths), output=str(tmp_path / "costs.json"))
    rows = json.loads((tmp_path / "costs.json").read_text())["models"]
    variants = [(path, jit) for path in paths for jit in (False, True)]
    for row, variant in zip(rows, variants, strict=True):
        check(row, *variant)
    assert rows[0]["step, operations"] == rows[1]["step, operations"]


def test_errors_of_a_process_are_those_of_the_program(presets):
    with pytest.raises(RuntimeError, match=r"with --jit=off can't be measured(.|\n)*`--shards`"):
        run_with_shards = {"model": presets["realnvp.two_moons"], "jit": "off"}
        with flagsaver.flagsaver(shards=3, rounds=1, batch_size=8, **run_with_shards):
            benchmark.main(["binary"])


def test_arguments_are_changed_of_models_and_not_of_presets(presets):
    with flagsaver.flagsaver(set=["steps=[1,1]"]):
        assert benchmark.read_run("glow.digits").entry.arguments["steps"] == [1, 1]
        with pytest.raises(app.UsageError, match="--set can't change what a preset is"):
            benchmark.read_run(presets["glow.digits"])


def test_an_unknown_model_is_refused_before_one_is_built():
    with pytest.raises(ValueError, match="no model of this name"):
        run(model="glow.digits,glow.digit")
    with pytest.raises(app.UsageError, match="--model must be given"):
        run(model=None)
