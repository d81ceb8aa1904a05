"""What goes to an accelerator is what comes back; with JAX, all of it: tools/test_jax -m jax."""

import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
import zoo
from benchmarks import accelerator, accelerator_bundle, accelerator_jax, accelerator_training
from tfflows import programs
from tfflows.variables import named_variables

ROOT = pathlib.Path(__file__).parents[2]
JAX = os.environ.get("TFFLOWS_JAX_PYTHON")


def test_convolutions_trained_as_plu_come_back_dense():
    trained = accelerator_training.build("glow.digits", "plu")
    rng = np.random.default_rng(0)
    for variable in trained.trainable_variables:
        variable.assign_add(rng.normal(0, 0.05, variable.shape).astype("float32"))
    # The program has parameters that are no variables.
    paths = ["captured/0", *named_variables(trained)]
    arrays = {f"variable{i}": v for i, v in enumerate(named_variables(trained).values(), start=1)}
    model = accelerator_training.build("glow.digits", "dense")
    source = accelerator_training.build("glow.digits", "plu")
    accelerator_training.assign(source, model, paths, arrays)
    x = tf.constant(rng.integers(0, 17, [3, 8, 8, 1]), tf.float32)
    expected = trained.distribution.log_prob(x)
    np.testing.assert_allclose(model.distribution.log_prob(x), expected, rtol=1e-5)
    convolutions = accelerator_training.convolutions(model)
    assert "dense" in {m.parameters["parameterization"] for m in convolutions}


@pytest.fixture
def on_cpu(monkeypatch):
    """Lets the file for JAX, of which it is tested here what needs none, know its device."""
    devices = [types.SimpleNamespace(device_kind="cpu")]
    fake = types.SimpleNamespace(default_backend=lambda: "cpu", devices=lambda: devices)
    monkeypatch.setattr(accelerator_jax, "jax", fake)


@pytest.fixture
def unit(tmp_path):
    """A folder with one program, of arrays large and small."""
    writer = accelerator_bundle.Writer(tmp_path / "unit", model="m", networks="float32")
    module = tf.Module()
    module.large = tf.Variable(tf.random.stateless_normal([200, 200], [1, 2], 3.0, 0.5))
    module.small = tf.Variable([1.0, 2.0])
    module.zeros = [tf.Variable(tf.zeros([200, 200])) for _ in range(2)]
    writer.randomize([module.large, module.small, *module.zeros])
    x = np.float32([0.5])
    writer.name("x", x)

    def function(x):
        return x * module.large, module.small + x

    program = programs.make_program(function, x, module=module)
    writer.add("f", ["x"], program, 1, [0])
    writer.expect(accelerator_bundle.numbered(function(tf.constant(x))))
    writer.close()
    return accelerator_jax.Unit(tmp_path / "unit"), module


def test_large_arrays_travel_as_seeds_and_are_compared_in_some_entries(unit, on_cpu):
    unit, module = unit
    [program] = unit.programs
    for path, value in zip(program.about["paths"], program.variables, strict=True):
        np.testing.assert_array_equal(value, getattr(module, path))
    assert np.abs(np.mean(module.large) - 3) < 0.02
    assert np.abs(np.std(module.large) - 0.5) < 0.01
    sizes = [np.size(v) for v in unit.arrays().values()]
    assert max(sizes) == accelerator_bundle.COMPARED
    outputs = [program.arguments()[0] * module.large, module.small + 0.5]
    [row] = program.compare(outputs)
    assert row["right"] == "yes"
    assert row["relative"] == 0
    # All off by a thousandth: so is what is compared.
    [row] = program.compare([1.001 * np.asarray(v) for v in outputs])
    np.testing.assert_allclose(row["relative"], 1e-3, rtol=1e-2)
    size = np.sqrt(sum(np.sum(np.square(v)) for v in outputs))
    np.testing.assert_allclose(row["of"], size, rtol=1e-2)
    for wrong in (1.2, np.nan):
        [row] = program.compare([wrong * np.asarray(v) for v in outputs])
        assert row["right"].startswith("NO")


def test_all_that_a_looped_step_returns_has_something_to_compare_with(tmp_path):
    layers = [tfflows.bijectors.ActNorm.trainable([2]) for _ in range(3)]
    bijector = tfflows.bijectors.Sequential([tfflows.bijectors.Repeat(layers)])
    base = tfflows.distributions.trainable_normal([2])
    flow = tfp.distributions.TransformedDistribution(base, bijector)
    model = tfflows.FlowModel(flow, units="nats", loop=True)
    writer = accelerator_bundle.Writer(tmp_path / "unit", model="m", networks="float32")
    x = np.ones([5, 2], np.float32)
    evaluate = accelerator_bundle.add_loss(writer, model, x, [0])
    writer.expect(evaluate())
    writer.close()
    [program] = accelerator_jax.Unit(tmp_path / "unit").programs
    assert "penalties" in program.about["outputs"]
    assert None not in program.about["expected"]


def test_the_most_telling_is_first_and_full_size_is_chosen():
    plan = list(accelerator_bundle.plan_right(".*", accelerator.NETWORKS, False))
    names = [name for name, *_ in plan]
    assert names[0] == "convexp_glow.digits.float32"
    assert len(set(names)) == len(names)
    small = {n for n in zoo.list_models() if n.endswith((".digits", ".mog4", ".cifar10_small"))}
    assert {f"{n}.float32" for n in small} < set(names)
    assert not any("celebahq" in name for name in names)
    [*chosen] = accelerator_bundle.plan_right("balanced.celebahq1024", accelerator.NETWORKS, False)
    assert [name for name, *_ in chosen] == [
        "balanced.celebahq1024.float32",
        "balanced.celebahq1024.bfloat16",
    ]
    plan = accelerator_bundle.plan_fast(".*", accelerator.NETWORKS, False)
    turns = [
        tuple(order)
        for _, function, arguments in plan
        if function is accelerator_bundle.write_steps
        for order, *_ in arguments[2]
    ]
    assert len(set(turns)) == len(turns)


def test_results_are_in_the_file_as_soon_as_they_are_there_and_shown(tmp_path, capsys):
    results = accelerator_jax.Results(tmp_path, "right", {"device": "card"})
    row = {"model": "m", "what": "loss", "off by": 1e-7, "right": "yes"}
    results.add(row)
    assert json.loads((tmp_path / "right.json").read_text())["rows"] == [row]
    output = tmp_path / "all.json"
    flags = types.SimpleNamespace(folder=tmp_path, output=output)
    assert accelerator.show(flags)
    assert "right: card" in capsys.readouterr().out
    assert json.loads(output.read_text())["right"]["rows"] == [row]


@pytest.mark.jax
@pytest.mark.slow
@pytest.mark.skipif(JAX is None, reason="needs TFFLOWS_JAX_PYTHON: tools/test_jax")
def test_a_bundle_runs_with_jax(tmp_path):
    """Everything once: right, fast, and a training that comes back."""
    python = [sys.executable, "-m", "benchmarks.accelerator"]
    command = [*python, f"--folder={tmp_path / 'b'}", "--quick", "--burst=0.05"]
    command += ["--parts=right,fast,train", "--seconds=3", f"--jax_python={JAX}"]
    command += ["--batch_size=32", "--num_validation=100", f"--output={tmp_path / 'all.json'}"]
    subprocess.run(command, check=True, cwd=ROOT)
    results = json.loads((tmp_path / "all.json").read_text())
    assert {row["right"] for row in results["right"]["rows"]} == {"yes"}
    assert all(row["ms"] > 0 for row in results["fast"]["rows"])
    # A failure is one of the whole; other programs still run.
    path = next((tmp_path / "b" / "right").glob("*.float32")) / "program0.hlo.gz"
    path.write_bytes(path.read_bytes()[:1000])
    command = [JAX, "benchmarks/accelerator_jax.py", "right", f"--folder={tmp_path / 'b'}"]
    assert subprocess.run(command, cwd=ROOT).returncode == 1
    rows = json.loads((tmp_path / "b" / "right.json").read_text())["rows"]
    assert sum(row["right"].startswith("NO") for row in rows) == 1
    assert len(rows) == len(results["right"]["rows"]) - 1
    command = [*python, "read", f"--folder={tmp_path / 'b' / 'train'}"]
    subprocess.run([*command, f"--workdir={tmp_path / 'run'}"], check=True, cwd=ROOT)
    preset = tmp_path / "run" / "preset"
    assert zoo.open_trained(preset).entry.name == "glow.digits"
    assert (preset / "training_curve.png").read_bytes().startswith(b"\x89PNG")
