"""SavedModels: every architecture, used by a process that has TensorFlow and nothing else.

That process, `SERVER`, runs in another folder without PYTHONPATH, and its import system finds no
tfflows, zoo or trainers, no TensorFlow Probability and no Keras, as if they were not installed.
"""

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from absl import app
from absl.testing import flagsaver

import tfflows
import zoo
from tests.small_presets import save_small, small_arguments
from tfflows.distributions import Dequantized, standard_normal, with_temperature
from trainers import export

tfb = tfp.bijectors
tfd = tfp.distributions

IMAGES = {"image_shape": (4, 4, 1), "num_levels": 16}
GLOW = {**IMAGES, "steps": (1, 1), "widths": (4, 4)}
RESIDUAL = {**GLOW, "prior_width": 4}
PLANAR = {"num_blocks": 1, "width": 4}
FIRST = {
    "glow.digits": GLOW,
    "realnvp.two_moons": PLANAR,
}
OTHERS = {
    "images": {
        "balanced.digits": {**IMAGES, "steps": (1, 1), "width": 4},
        "convexp_balanced.digits": {**IMAGES, "steps": (1, 1), "width": 4},
        "convexp_glow.digits": GLOW,
        "emerging_glow.digits": GLOW,
        "periodic_glow.digits": GLOW,
        "realnvp.digits": {**IMAGES, "widths": (4, 4)},
        "rq_nsf.digits": GLOW,
        "woodbury_glow.digits": GLOW,
    },
    "variational dequantisation": {
        "convexp_glow.cifar10": {**IMAGES, "image_shape": (8, 8, 1), "steps": (1, 1), "growth": 2},
    },
    "residual type": {
        "coupling.digits": RESIDUAL,
        "residual.digits": RESIDUAL,
        "sylvester.digits": {**RESIDUAL, "widths": (8, 8)},
    },
    "points": {
        "balanced.two_moons": PLANAR,
        "glow.two_moons": PLANAR,
        "maf.two_moons": PLANAR,
        "rq_nsf.two_moons": PLANAR,
    },
    "sets": {
        "gnf.mog4": PLANAR,
        "gnf_convexp.mog4": PLANAR,
        "graph_coupling.mog4": PLANAR,
    },
    "tables": {
        "balanced.table": PLANAR,
        "maf.table": PLANAR,
        "realnvp.table": PLANAR,
        "rq_nsf.table": PLANAR,
        "rq_nsf_ar.table": PLANAR,
    },
    "transformers": {
        name: small_arguments(name) for name in ("jet.digits", "tarflow.digits", "tarflow.table")
    },
}
ALL = FIRST | {name: changes for group in OTHERS.values() for name, changes in group.items()}
SERVER = """
import importlib.machinery, pathlib, sys

ABSENT = {"tfflows", "zoo", "trainers", "tensorflow_probability", "tf_keras", "keras"}

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else super().find_spec(name, path, target)

usual = importlib.machinery.PathFinder
sys.meta_path = [Finder if finder is usual else finder for finder in sys.meta_path]

import numpy as np
import tensorflow as tf

for name in sys.argv[2:]:
    folder = pathlib.Path(sys.argv[1]) / name
    model = tf.saved_model.load(folder)
    assert sorted(model.signatures) == ["decode", "encode", "log_prob", "sample"]
    outputs = {}
    inputs = np.load(folder / "inputs.npz")
    for key in sorted({k.split("/")[0] for k in inputs}):  # log_prob, log_prob_one, ...
        given = {k.split("/")[1]: tf.constant(inputs[k]) for k in inputs if k.startswith(key + "/")}
        call = model.signatures[key.removesuffix("_one").removesuffix("_cool")]
        outputs |= {f"{key}/{k}": v.numpy() for k, v in call(**given).items()}
    np.savez(folder / "outputs.npz", **outputs)

loaded = {module.split(".")[0] for module in sys.modules}
assert not loaded & ABSENT, loaded & ABSENT
print("served")
"""


def small(name, arguments):
    """A model of the zoo whose weights are not those that it starts with."""
    model = zoo.find(name).build(seed=1, **arguments)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(0.05 * rng.normal(size=variable.shape))
    return model


def density_of(model):
    return model.distribution if isinstance(model, Dequantized) else model


def inputs_of(model):
    """Inputs of the signatures, by `signature/argument`; two sizes of a batch."""
    rng = np.random.default_rng(1)
    if isinstance(model, Dequantized):
        x = rng.integers(model.num_levels, size=[5, *model.event_shape]).astype(np.uint8)
    else:
        x = rng.normal(size=[5, *model.event_shape]).astype(np.float32)
    z = rng.normal(size=[5, *density_of(model).distribution.event_shape]).astype(np.float32)
    seed, inputs = np.array([3, 4], np.int32), {"decode/z": z, "decode_one/z": z[:1]}
    for key in ("log_prob", "encode"):
        inputs |= {f"{key}/x": x, f"{key}_one/x": x[:1]}
        if isinstance(model, Dequantized):
            inputs |= {f"{key}/seed": seed, f"{key}_one/seed": seed}
    for key, temperature in (("sample", 1.0), ("sample_cool", 0.5)):
        inputs |= {f"{key}/n": np.int32(4), f"{key}/seed": seed}
        inputs[f"{key}/temperature"] = np.float32(temperature)
    return inputs


def expected_of(model, inputs, one):
    """What the model itself computes of inputs, by `signature/output`."""
    x, z = inputs[f"log_prob{one}/x"], inputs[f"decode{one}/z"]
    density, seed = density_of(model), tf.constant([3, 4])
    flow, is_image = density.bijector.bijector, isinstance(model, Dequantized)
    decoded, noisy, expected = flow.inverse(z).numpy(), x, {}
    if is_image:
        noisy, _ = model.dequantize(x, seed)
        with tfflows.evaluation.estimating(num_terms=20):
            log_prob = model.log_prob(x, seed=seed).numpy()
        expected[f"log_prob{one}/bits_per_dim"] = -log_prob / np.log(2) / x[0].size
        expected[f"decode{one}/real"] = decoded
        expected[f"decode{one}/finite"] = np.ones(len(x), bool)
        decoded = np.clip(np.floor(decoded), 0, model.num_levels - 1)
    else:
        log_prob = model.log_prob(x).numpy()
    return expected | {
        f"log_prob{one}/log_prob": log_prob,
        f"encode{one}/z": flow.forward(noisy).numpy(),
        f"decode{one}/x": decoded,
    }


@pytest.mark.parametrize(
    "models",
    [
        pytest.param(FIRST, id="few"),
        *(pytest.param(g, id=name, marks=pytest.mark.slow) for name, g in OTHERS.items()),
    ],
)
def test_signatures_compute_what_the_models_do_without_tfflows(models, tmp_path):
    served = {name: small(name, arguments) for name, arguments in models.items()}
    for name, model in served.items():
        export.export(model, tmp_path / name)
        np.savez(tmp_path / name / "inputs.npz", **inputs_of(model))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-s", "-c", SERVER, tmp_path, *served]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("served\n"), done.stderr
    for name, model in served.items():
        inputs = inputs_of(model)
        outputs = dict(np.load(tmp_path / name / "outputs.npz"))
        samples = {key: outputs.pop(key) for key in list(outputs) if key.startswith("sample")}
        expected = expected_of(model, inputs, "") | expected_of(model, inputs, "_one")
        assert sorted(outputs) == sorted(expected)
        for key, value in expected.items():
            what = f"{name} {key}"
            integers = outputs[key].dtype == np.uint8
            tolerance = 1 if integers else 2e-4 * max(1, np.abs(value).max())  # A floor may differ.
            np.testing.assert_allclose(outputs[key], value, rtol=0, atol=tolerance, err_msg=what)
            assert not integers or np.mean(outputs[key] != value) < 0.02, what
        for key, temperature in (("sample", 1.0), ("sample_cool", 0.5)):
            density = with_temperature(density_of(model), temperature)
            drawn = density.sample(4, seed=tf.constant([3, 4])).numpy()
            found = samples.get(f"{key}/real", samples[f"{key}/x"])
            scale = np.abs(drawn).max()
            np.testing.assert_allclose(found, drawn, rtol=0, atol=2e-4 * scale, err_msg=name)
            assert samples[f"{key}/x"].dtype == model.dtype.as_numpy_dtype


def test_every_architecture_of_the_zoo_is_exported_by_a_test():
    tested = {zoo.find(name).builder for name in ALL}
    assert {zoo.find(name).builder for name in zoo.list_models()} <= tested
    kinds = {name.split(".")[0] for name in ALL}
    assert {name.split(".")[0] for name in zoo.list_models()} <= kinds


def test_seeds_give_other_noise_and_the_same_again():
    model = export.make_module(small("glow.digits", GLOW))
    x = tf.zeros([2, 4, 4, 1], tf.uint8)
    first, again, other = (model.log_prob(x, [0, s])["log_prob"].numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)
    assert np.any(model.sample(2, [0, 1])["real"] != model.sample(2, [0, 2])["real"])


def test_wrong_inputs_are_refused_when_they_arrive():
    model = export.make_module(small("glow.digits", GLOW))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"must be images of integers 0 \.\. 15"
    ):
        model.log_prob(tf.fill([2, 4, 4, 1], tf.constant(16, tf.uint8)), [0, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="`temperature` must be positive"):
        model.sample(2, [0, 1], 0.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`n` must not be negative"):
        model.sample(-1, [0, 1])
    assert model.sample(0, [0, 1])["x"].shape == [0, 4, 4, 1]


@functools.cache
def hidden_variable():
    """Returns a variable that no `tf.Module` knows."""
    with tf.init_scope():
        return tf.Variable(1.0)


class Doubtful(tfflows.bijectors.FlowBijector):
    """Scales by a factor, and does what the argument says."""

    def __init__(self, what, name="doubtful"):
        parameters = dict(locals())
        self._what, self._calls = what, 0
        super().__init__(forward_min_event_ndims=0, parameters=parameters, name=name)

    def _forward_and_log_det(self, x):
        self._calls += 1
        if self._what == "counts":
            return x * (1.0 + self._calls), tf.zeros([])
        if self._what == "needs a known batch":
            return tf.reshape(tf.stack(tf.unstack(x)), tf.shape(x)), tf.zeros([])
        if self._what == "hides a variable":
            return x * hidden_variable(), tf.zeros([])
        return x, tf.zeros([])

    def _inverse_and_log_det(self, y):
        if self._what == "does not converge":
            return tf.where(y > 0, y, np.nan), tf.zeros([])
        return y, tf.zeros([])


def doubtful(what, event_shape=(3,)):
    flow = Doubtful(what)
    return tfd.TransformedDistribution(standard_normal(event_shape), tfb.Invert(flow))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("counts", "as if it had a state that is not in its variables"),
        ("needs a known batch", "`log_prob` can't be traced for a batch of unknown size"),
        ("hides a variable", r"a variable or table that is not in `distribution\.variables`"),
    ],
)
def test_models_that_would_not_be_right_are_refused_and_leave_nothing(what, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.export(doubtful(what), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_models_given_graphs_of_any_size_are_refused(tmp_path):
    model = zoo.create("gnf.mog4", **PLANAR, conditional=True)
    with pytest.raises(ValueError, match=r"can't be exported: the context .*\[None, 4\]"):
        export.export(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_inverse_that_does_not_converge_is_seen():
    z = tf.constant([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]])
    points = export.make_module(doubtful("does not converge")).decode(z)["x"]
    np.testing.assert_array_equal(np.isnan(points), [[False] * 3, [False, True, False]])
    images = export.make_module(
        Dequantized(doubtful("does not converge", (1, 1, 3)), num_levels=16)
    )
    decoded = images.decode(tf.reshape(z, [2, 1, 1, 3]))
    np.testing.assert_array_equal(decoded["finite"], [True, False])
    np.testing.assert_array_equal(np.isnan(decoded["real"])[1, 0, 0], [False, True, False])
    drawn = images.sample(8, [0, 1])
    nans = np.isnan(drawn["real"]).any(axis=(1, 2, 3))
    assert nans.any()
    np.testing.assert_array_equal(drawn["finite"], ~nans)


def test_nothing_is_left_of_an_export_that_was_cut_off(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "check", fail)
    with pytest.raises(KeyboardInterrupt):
        export.export(small("realnvp.two_moons", PLANAR), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def run(**values):
    with flagsaver.flagsaver(**values):
        export.main(["binary"])


def test_program_exports_a_preset_and_does_not_overwrite(tmp_path, capsys):
    path, preset = (
        tmp_path / "moons",
        save_small(tmp_path / "preset", "realnvp.two_moons", **PLANAR),
    )
    run(model=preset, output=str(path))
    assert "realnvp.two_moons exported to" in capsys.readouterr().out
    described = json.loads((path / "assets.extra" / "model.json").read_text())
    assert described["model"] == "realnvp.two_moons"
    assert described["event_shape"] == [2]
    assert described["preset"]["licence"]
    before = {f: f.stat().st_mtime_ns for f in path.rglob("*")}
    with pytest.raises(FileExistsError, match="must be a folder that does not exist"):
        run(model=preset, output=str(path))
    assert before == {f: f.stat().st_mtime_ns for f in path.rglob("*")}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["moons", "preset"]


def test_flags_that_do_not_go_together_are_refused_first(tmp_path, monkeypatch):
    with pytest.raises(app.UsageError, match=r"--batch_size is for --format=jax.*=8\.$"):
        run(model="realnvp.digits", output=str(tmp_path / "model"), batch_size=8)
    monkeypatch.setitem(sys.modules, "jax", None)
    message = r"^JAX must be installed for --format=jax: `python -m pip install 'jax.*"
    with pytest.raises(ValueError, match=message):
        run(model="realnvp.digits", output=str(tmp_path / "model"), format="jax")
    assert list(tmp_path.iterdir()) == []


def test_a_name_without_weights_is_refused(tmp_path):
    with contextlib.chdir(tmp_path), pytest.raises(ValueError, match="no pretrained weights"):
        run(model="realnvp.digits")
    assert list(pathlib.Path(tmp_path).iterdir()) == []
