"""Files for JAX, of every kind of model: `tools/test_jax` runs these, where there is JAX.

`export` itself compares values and gradients with TensorFlow's for batches of three sizes.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver

import zoo
from tests.small_presets import architectures, save_small, small_arguments
from tfflows import condition
from trainers import export, export_jax, jax_check, jax_functions

pytestmark = pytest.mark.jax
jax = pytest.importorskip("jax", reason="JAX is not installed: tools/test_jax")
ROOT = pathlib.Path(__file__).parents[2]
NAMES = {"log_prob", "encode", "decode", "sample"}


def small(name, arguments):
    """A model of the zoo whose weights are not those that it starts with."""
    model, rng = zoo.find(name).build(seed=1, **arguments), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(0.05 * rng.normal(size=variable.shape))
    return model


def load(folder):
    return {p.stem: jax.export.deserialize(p.read_bytes()) for p in folder.glob("*.jax")}


@pytest.mark.parametrize("name", ["realnvp.two_moons", "glow.digits"])
def test_files_are_used_by_jax_alone(name, tmp_path):
    model = small(name, small_arguments(name))
    export_jax.export(model, tmp_path / "model", batch_size=4)
    loaded = load(tmp_path / "model")
    is_image = name == "glow.digits"
    assert set(loaded) == NAMES | ({"density"} if is_image else set())
    described = json.loads((tmp_path / "model" / "model.json").read_text())
    for key, function in described["functions"].items():
        arguments = [tuple(a["shape"][1:]) for a in function["arguments"]]
        assert arguments == [tuple(aval.shape[1:]) for aval in loaded[key].in_avals]
        assert function["has_gradient"] == loaded[key].has_vjp()
        assert set(loaded[key].platforms) == {"cpu", "cuda", "tpu"}
    seeds = jax.random.split(jax.random.PRNGKey(0), 6)
    drawn = jax.jit(loaded["sample"].call)(seeds, 1.0)
    # A sample depends on its seed, and on nothing else of the batch.
    again = loaded["sample"].call(seeds[4:5], 1.0)
    real, one = (drawn["real"], again["real"]) if is_image else (drawn, again)
    np.testing.assert_allclose(real[4:5], one, atol=1e-3)
    assert np.abs(np.diff(real, axis=0)).max() > 0.1
    cold = loaded["sample"].call(seeds, 0.0)
    assert np.isnan(cold["real"] if is_image else cold).all()
    if is_image:
        key = jax.random.PRNGKey(1)
        x = drawn["x"]
        assert x.dtype == np.uint8
        scores, z = loaded["log_prob"].call(x, key), loaded["encode"].call(x, key)
        np.testing.assert_array_equal(loaded["decode"].call(z)["x"], x)
        assert np.any(scores != loaded["log_prob"].call(x, jax.random.PRNGKey(2)))
        strange = np.isnan(loaded["log_prob"].call(x.at[1].set(16), key))
        np.testing.assert_array_equal(strange, np.arange(6) == 1)
        of_real = loaded["density"]
    else:
        x, of_real = drawn, loaded["log_prob"]
        np.testing.assert_allclose(loaded["decode"].call(loaded["encode"].call(x)), x, atol=1e-4)
        np.testing.assert_allclose(of_real.call(x), model.log_prob(np.asarray(x)), atol=1e-4)
    gradient = jax.jit(jax.grad(lambda x: of_real.call(x).sum()))(real)
    assert gradient.shape == real.shape
    assert np.abs(gradient).max() > 0


def test_lowers_for_accelerators():
    model = small("realnvp.two_moons", small_arguments("realnvp.two_moons"))
    function = jax_functions.make_jax_functions(model)["log_prob"]
    compiled = export_jax._Compiled("log_prob", function, [1, 4], model)
    exported = compiled.export(export_jax._Constants(jax))
    for platform in ("cuda", "tpu"):
        lowered = jax.export.export(jax.jit(exported.call), platforms=[platform])
        assert "stablehlo" in lowered(jax.ShapeDtypeStruct((5, 2), np.float32)).mlir_module()


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures())
def test_every_architecture_is_exported(name, tmp_path):
    export_jax.export(small(name, small_arguments(name)), tmp_path / "model", batch_size=4)
    assert set(load(tmp_path / "model")) >= NAMES


def test_contexts_are_differentiated(tmp_path):
    model = small("maf.two_moons", {"num_blocks": 1, "width": 4, "context_size": 3})
    export_jax.export(model, tmp_path / "model", batch_size=4)
    loaded = load(tmp_path / "model")
    x, y = np.zeros([2, 2], np.float32), np.ones([2, 3], np.float32)
    gradient = jax.grad(lambda y: loaded["log_prob"].call(x, y).sum())(y)
    with tf.GradientTape() as tape:
        given = tf.constant(y)
        tape.watch(given)
        log_prob = condition(model, given).log_prob(x)
    np.testing.assert_allclose(gradient, tape.gradient(log_prob, given), atol=1e-4)
    seeds = jax.random.split(jax.random.PRNGKey(0), 2)
    assert loaded["sample"].call(y, seeds, 0.5).shape == (2, 2)


def test_labels_that_there_are_not_give_nan(tmp_path):
    model = small("glow.digits", {**small_arguments("glow.digits"), "context_size": 3})
    export_jax.export(model, tmp_path / "model", num_classes=3, batch_size=4)
    loaded = load(tmp_path / "model")
    x, y = np.zeros([3, 4, 4, 1], np.uint8), np.array([0, 2, 3], np.int32)
    scores = loaded["log_prob"].call(x, y, jax.random.PRNGKey(0))
    np.testing.assert_array_equal(np.isnan(scores), [False, False, True])
    seeds = jax.random.split(jax.random.PRNGKey(0), 3)
    assert loaded["sample"].call(y, seeds, 1.0)["x"].shape == (3, 4, 4, 1)


def test_what_differs_in_jax_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def compare(*args):
        raise ValueError("something else in JAX")

    monkeypatch.setattr(jax_check, "_compare", compare)
    model = small("realnvp.two_moons", small_arguments("realnvp.two_moons"))
    with pytest.raises(ValueError, match="something else in JAX"):
        export_jax.export(model, tmp_path / "model", batch_size=4)
    assert list(tmp_path.iterdir()) == []


def test_a_difference_is_seen():
    for found in (np.ones(3) + 0.01, np.array([1, 1, np.nan]), np.ones(2), np.ones(3, np.float32)):
        with pytest.raises(ValueError, match=r"The model can't be exported: `x` of its `decode`"):
            jax_check._compare("decode", "x", found, np.ones(3))
    jax_check._compare("decode", "x", np.array([1, np.nan]), np.array([1 + 1e-5, np.nan]))


def test_program_exports_a_preset(tmp_path, capsys):
    arguments = small_arguments("realnvp.two_moons")
    preset = save_small(tmp_path / "preset", "realnvp.two_moons", **arguments)
    output = str(tmp_path / "moons")
    with flagsaver.flagsaver(model=preset, output=output, format="jax", batch_size=3):
        export.main(["binary"])
        assert "decode.jax, encode.jax, log_prob.jax, sample.jax" in capsys.readouterr().out
        with pytest.raises(FileExistsError, match="must be a folder that does not exist"):
            export.main(["binary"])
    described = json.loads((tmp_path / "moons" / "model.json").read_text())
    assert (described["model"], described["batch_size"]) == ("realnvp.two_moons", 3)


def test_the_page_runs_where_there_is_no_tensorflow(tmp_path):
    python = os.environ.get("TFFLOWS_JAX_PYTHON")
    if python is None:
        pytest.skip("TFFLOWS_JAX_PYTHON names no Python with JAX and NumPyro alone: tools/test_jax")
    page = (ROOT / "docs" / "jax.md").read_text()
    command = re.search(r"^    python (-m trainers\.export .*)$", page, re.MULTILINE)[1].split()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, check=True)
    there = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    absent = "import importlib.util as u; assert not u.find_spec('tensorflow'), 'TensorFlow'\n"
    blocks = re.findall(r"^<!-- notebook -->\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        code = [os.path.abspath(python), "-c", absent + block]
        done = subprocess.run(code, cwd=tmp_path, env=there, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
