"""Runs: one that stops goes on exactly, it leaves its files, and wrong flags say so."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from absl import app

import tfflows
import zoo
from tests.trainers.tiny_runs import (
    check_same_weights,
    killed,
    killed_at_epoch,
    run,
    run_and_copy,
    trained_weights,
)
from tfflows.variables import named_variables
from trainers import evaluate
from trainers.runs import callbacks

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def resumed(finished, tmp_path_factory):
    """The folder of a run that was killed after two steps, and went on."""
    workdir = tmp_path_factory.mktemp("resumed") / "digits"
    shutil.copytree(killed(finished), workdir)
    assert not (workdir / "preset").exists()
    assert [line["step"] for line in callbacks.read_lines(workdir / "metrics.jsonl")] == [2]
    run(workdir=str(workdir), resume=True, report_every=2)
    return workdir


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(finished, resumed):
    check_same_weights(resumed, finished)
    lines = [callbacks.read_lines(w / "metrics.jsonl") for w in (finished, resumed)]
    for line, other in zip(*lines, strict=True):
        assert line["step"] == other["step"]
        for key in ("bits_per_dim", "val_bits_per_dim"):
            assert other[key] == line[key]


def test_training_moved_the_weights(finished):
    initial = zoo.create("tiny.digits", seed=0)
    for name, value in named_variables(initial).items():
        if "kernel" in name:
            assert np.any(trained_weights(finished)[name] != value.numpy())


def test_a_run_leaves_its_files(finished):
    files = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    expected = {"config.json", "metrics.jsonl", "metrics.csv", "training_curve.png"}
    expected |= {"samples/step_0000002.png", "samples/step_0000004.png"}
    expected |= {f"preset/{f}" for f in ("config.json", "metadata.json", "README.md")}
    assert expected <= files
    assert any(f.startswith("tensorboard/") for f in files)
    lines = [json.loads(text) for text in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    for line in lines:
        assert 0 < line["bits_per_dim"] < 20
        assert line["images_per_second"] > 0
    table = (finished / "metrics.csv").read_text().splitlines()
    assert len(table) == 3
    assert "bits_per_dim" in table[0]
    config = json.loads((finished / "config.json").read_text())
    assert config["model"] == "tiny.digits"
    assert config["recipe"]["steps"] == 4
    assert config["versions"]["tensorflow"] == tf.__version__
    curve = (finished / "training_curve.png").read_bytes()
    assert curve.startswith(b"\x89PNG")
    assert (finished / "preset/training_curve.png").read_bytes() == curve
    assert "![Training curve](training_curve.png)" in (finished / "preset/README.md").read_text()


def test_resuming_a_finished_run_does_no_more_steps(finished):
    before = trained_weights(finished)
    run(workdir=str(finished), resume=True, report_every=2)
    for name, value in trained_weights(finished).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.slow
def test_residual_flows_resume_exactly_and_are_scored_as_stated(tmp_path):
    arguments = {"steps": (1,), "widths": (4,), "prior_width": 4}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags = {
        "model": "residual.digits",
        "report_every": 2,
        "set": [f"{name}={json.dumps(value)}" for name, value in arguments.items()],
        "steps": 4,
        "batch_size": 16,
    }
    run(workdir=str(whole), **flags)
    with killed_at_epoch(1):
        run(workdir=str(broken), **flags)
    run(workdir=str(broken), resume=True, **flags)
    check_same_weights(broken, whole)
    run(evaluate.main, workdir=str(whole), split="test[:50]", log_det_terms=7)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert "log-det of residual layers by the unbiased estimator with 7 " in metrics["definition"]
    assert 0 < metrics["bits_per_dim"] < 20


def test_changed_arguments_and_volume(tmp_path):
    path = tmp_path / "run"
    changes = {"set": ["widths=[2,3]"], "recipe": ["optimizer=adamax", "clip=null"]}
    run(model="tiny.digits", workdir=str(path), volume=True, report_every=2, **changes)
    config = json.loads((path / "preset" / "config.json").read_text())
    assert config["arguments"]["widths"] == [2, 3]
    recipe = json.loads((path / "config.json").read_text())["recipe"]
    assert (recipe["optimizer"], recipe["clip"]) == ("adamax", None)
    lines = callbacks.read_lines(path / "volume.jsonl")
    assert [line["step"] for line in lines] == [0, 2, 4]
    names = [layer["name"] for layer in lines[0]["layers"]]
    assert "level0_step0_coupling" in names
    assert len(set(names)) == len(names)
    assert (path / "volume.png").read_bytes().startswith(b"\x89PNG")
    assert zoo.create(str(path / "preset"), pretrained=True).event_shape == (8, 8, 1)
    with pytest.raises(ValueError, match="`--set` must be name=value"):
        run(model="tiny.digits", workdir=str(tmp_path / "other"), set=["width=2"])
    with pytest.raises(ValueError, match="`--recipe` must be name=value"):
        run(model="tiny.digits", workdir=str(tmp_path / "other"), recipe=["speed=2"])
    assert not (tmp_path / "other").exists()


def test_a_run_traces_its_step_once(tmp_path):
    """Of one shape, whatever the reports; no Python in it but for the diagnosis of its failure."""
    steps = []

    def traced(self, data):
        steps.append(self)
        return original(self, data)

    original = tfflows.FlowModel.train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfflows.FlowModel, "train_step", traced)
        run(model="tiny.digits", workdir=str(tmp_path / "run"), report_every=2, check_finite=False)
    assert len(callbacks.read_lines(tmp_path / "run" / "metrics.jsonl")) == 2
    assert len(steps) == 1
    model = steps[0]
    assert model._loss_and_gradients.experimental_get_tracing_count() == 1
    for check in (False, True):
        model.check_finite = check
        step = tf.function(model.train_step, autograph=False)
        graph = step.get_concrete_function(tf.zeros([16, 8, 8, 1], tf.uint8)).graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        assert len(nodes) > 100
        assert sum("PyFunc" in node.op for node in nodes) == check


def test_steps_that_are_one_call_are_the_same_steps(finished, tmp_path):
    path, calls = tmp_path / "run", []

    class Count(callbacks.Throughput):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            calls.append(batch)

    flags = {"workdir": str(path), "report_every": 2, "steps_per_execution": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "Throughput", Count)
        run(model="tiny.digits", **flags)
    assert calls == [1, 1]
    expected = trained_weights(finished)
    for name, value in trained_weights(path).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
    reports = [callbacks.read_lines(folder / "metrics.jsonl") for folder in (path, finished)]
    for one, other in zip(*reports, strict=True):
        np.testing.assert_allclose(one["bits_per_dim"], other["bits_per_dim"], rtol=1e-5)
    flags |= {"workdir": str(tmp_path / "other"), "steps_per_execution": 3}
    with pytest.raises(ValueError, match="must divide .* Received: --steps_per_execution=3, 2"):
        run(model="tiny.digits", **flags)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_run_may_loop_over_layers_that_repeat(tmp_path):
    path, model = tmp_path / "run", ["steps=[3,3]"]
    run(model="tiny.digits", set=model, workdir=str(tmp_path / "plain"), report_every=2)
    with killed_at_epoch(1):
        run(model="tiny.digits", set=model, workdir=str(path), report_every=2, loop="on")
    run(workdir=str(path), resume=True, report_every=2)
    config = json.loads((path / "config.json").read_text())
    assert (config["loop"], config["decisions"]["loop"]) == ("on", True)
    assert not json.loads((tmp_path / "plain" / "config.json").read_text())["decisions"]["loop"]
    expected = trained_weights(tmp_path / "plain")
    for name, value in trained_weights(path).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("mode", [pytest.param("recompute", marks=pytest.mark.slow), "invert"])
def test_memory_takes_the_same_steps_and_a_resumed_run_goes_on_with_it(mode, finished, tmp_path):
    path, made = tmp_path / "run", []

    def remember(*args, **kwargs):
        made.append(kwargs["memory"])
        return original(*args, **kwargs)

    original = tfflows.FlowModel.from_builder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfflows.FlowModel, "from_builder", remember)
        with killed_at_epoch(1):
            run(model="tiny.digits", workdir=str(path), report_every=2, memory=mode)
        run(workdir=str(path), resume=True, report_every=2)
    assert made == [mode, mode]
    assert json.loads((path / "config.json").read_text())["memory"] == mode
    assert json.loads((finished / "config.json").read_text())["memory"] == "store"
    expected = trained_weights(finished)
    for name, value in trained_weights(path).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_images_of_8_bits_are_reduced_to_the_levels_of_the_model(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, [32, 8, 8, 1]).astype(np.uint8)
    np.savez(tmp_path / "images.npz", train=images, validation=images, test=images)
    run(
        model="tiny.digits",
        set=["num_levels=32"],
        dataset=str(tmp_path / "images.npz"),
        workdir=str(tmp_path / "run"),
        report_every=4,
        volume=True,
    )
    # Of 5 bits noise has 5 bits; the model has learnt little, and 8-bit images would have over 8.
    for line in callbacks.read_lines(tmp_path / "run" / "metrics.jsonl"):
        assert 4.9 < line["bits_per_dim"] < 8
        assert 4.9 < line["val_bits_per_dim"] < 8
    run(evaluate.main, workdir=str(tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 4.9 < metrics["bits_per_dim"] < 8


# Wrong flags. None leaves anything behind.


def refused(tmp_path, match, error=ValueError, **values):
    workdir = tmp_path / "new"
    with pytest.raises(error, match=match):
        run(**{"model": "tiny.digits", "workdir": str(workdir), **values})
    assert not workdir.exists()


def test_unknown_model_suggests_names(tmp_path):
    refused(tmp_path, r"nearest are .*glow\.digits(.|\n)*'glow\.digit'", model="glow.digit")


def test_model_and_workdir_must_be_given(tmp_path):
    refused(tmp_path, "--model must be given", app.UsageError, model=None)
    refused(tmp_path, "--workdir must be given", app.UsageError, workdir=None)


def test_resume_without_a_run(tmp_path):
    refused(tmp_path, r"no run to resume: .*config\.json does not exist", resume=True)


def test_report_interval_must_divide_the_steps(tmp_path):
    refused(tmp_path, "`--report_every` must divide .* 4 steps", report_every=3)


def test_data_of_another_shape(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, train=np.zeros([20, 4, 4, 3], np.uint8))
    match = (
        r"takes images \[8, 8, 1\] with 17 values\. Received: .*images \[4, 4, 3\] with 256 values"
    )
    refused(tmp_path, match, dataset=str(path))


def test_missing_data(tmp_path):
    missing = tmp_path / "missing.npz"
    refused(tmp_path, "must be a .npz file; there is none", FileNotFoundError, dataset=str(missing))
    match = r"`cifar10` must be prepared before a run(.|\n)*tfds\.load"
    refused(tmp_path, match, FileNotFoundError, dataset="cifar10", data_dir=str(tmp_path))
    refused(tmp_path, "Did you mean .*cifar10", dataset="cifar11")


def test_workdir_that_is_not_empty(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="`--workdir` is not empty: give --resume"):
        run(model="tiny.digits", workdir=str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_workdir_of_another_model(finished):
    before = (finished / "config.json").read_text()
    with pytest.raises(ValueError, match=r"run of another model: its model is 'tiny\.digits'"):
        run(model="tiny.other", workdir=str(finished), resume=True)
    with pytest.raises(ValueError, match=r"its seed is 0\. Received: 5"):
        run(model="tiny.digits", workdir=str(finished), resume=True, seed=5)
    assert (finished / "config.json").read_text() == before


def test_points_and_images_do_not_mix(tmp_path):
    match = (
        r"takes points \[2\]\. Received: --dataset=digits with images \[8, 8, 1\] with 17 values"
    )
    refused(tmp_path, match, model="realnvp.rings", dataset="digits")
    refused(
        tmp_path, "`flip` must be False for points", model="realnvp.rings", recipe=["flip=true"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("tarflow.digits", ["noise=0.4", "width=16", "num_blocks=2"]),
        ("tarflow.digits", ["mixing=conv_exponential", "width=16", "num_blocks=2"]),
        ("jet.digits", ["width=8", "num_couplings=10"]),
    ],
)
def test_transformer_flows_resume_exactly(name, sizes, tmp_path):
    flags = {"model": name, "set": sizes, "steps": 4, "report_every": 2, "recipe": ["ema=0.9"]}
    workdir = tmp_path / "run"
    run_and_copy(workdir, **flags)
    run(workdir=str(killed(workdir)), resume=True)
    check_same_weights(killed(workdir), workdir)
