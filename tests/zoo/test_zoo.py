"""Names, descriptions, presets on disk, and what a damaged preset says."""

import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from tfflows import FlowModel, bijectors, distributions
from zoo import registry
from zoo.architectures.mixing import CHANNEL_MIXING, SPATIAL_MIXING
from zoo.storage import files, presets

tfd = tfp.distributions

# What `tfd.TransformedDistribution(...)` returns is of a base class, if it is no composite tensor.
TransformedDistribution = tfd.TransformedDistribution.__bases__[0]
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
SMALL = {
    "glow": {"image_shape": (4, 4, 1), "num_levels": 16, "steps": (1, 1), "widths": (4, 4)},
    "balanced": {
        "image_shape": (4, 4, 1),
        "num_levels": 16,
        "steps": (1, 1),
        "network": "conv_net",
        "width": 4,
    },
    "mixing_experiment": {"image_shape": (4, 4, 1), "num_levels": 16, "steps": (1,), "growth": 1},
}


def small(name="convexp_glow.digits", **kwargs):
    overrides = SMALL[registry.find(name).builder.__name__]
    return zoo.create(name, **overrides, **kwargs)


def images(count=3, shape=(4, 4, 1)):
    return tf.constant(np.random.default_rng(0).integers(0, 16, [count, *shape]), tf.uint8)


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


# Names.


def test_list_models_takes_wildcards():
    names = zoo.list_models()
    assert names == sorted(names)
    assert {"glow.digits", "convexp_glow.mnist", "convexp_glow.cifar10"} <= set(names)
    assert zoo.list_models("glow.*") == [n for n in names if n.startswith("glow.")]
    assert zoo.list_models("nothing*") == []
    assert set(zoo.list_models(pretrained=True)) <= set(names)


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_model_is_described(name):
    text = zoo.describe(name)
    assert name in text
    assert "arXiv:" in text


def test_unknown_name_suggests_near_ones():
    for function in (zoo.create, zoo.describe):
        with pytest.raises(
            ValueError, match=r"nearest are .*convexp_glow\.digits(.|\n)*'convexp_glow\.digit'"
        ):
            function("convexp_glow.digit")


def test_unknown_override_lists_the_known():
    with pytest.raises(ValueError, match=r"must be among \[.*'widths'\]\. Received: \['width'\]"):
        zoo.create("glow.digits", width=3)
    with pytest.raises(ValueError, match="`overrides` change the architecture"):
        zoo.create("glow.digits", pretrained=True, widths=(3, 3))
    with pytest.raises(ValueError, match=r"`mixing` must be .*conv1x1_plu.*mixing=\'none\'"):
        small("glow.digits", mixing="none")


def test_model_without_weights_says_which_have_some():
    name = next(n for n in zoo.list_models() if n not in zoo.list_models(pretrained=True))
    with pytest.raises(ValueError, match=f"--model={name}"):
        zoo.create(name, pretrained=True)


def test_names_are_registered_once():
    recipe = registry.find("glow.digits").recipe
    with pytest.raises(ValueError, match=r"'glow\.digits' is registered already"):
        zoo.register("glow.digits", print, kind=zoo.IMAGES, recipe=recipe, summary="", paper="")


# Architectures.


@pytest.mark.parametrize(
    "name", ["glow.digits", "convexp_glow.digits", "glow.cifar10", "emerging_glow.cifar10"]
)
def test_every_builder_at_a_small_size(name):
    model = small(name, discrete=True)
    assert model.event_shape == (4, 4, 1)
    assert model.num_levels == 16
    assert isinstance(model.distribution, TransformedDistribution)
    log_prob = model.log_prob(images(), seed=[1, 2])
    assert log_prob.shape == [3]
    assert np.all(np.isfinite(log_prob))
    draws = model.sample(2, seed=[1, 2])
    assert draws.shape == [2, 4, 4, 1]
    assert draws.dtype == tf.uint8
    assert np.max(draws) < 16


def test_create_gives_the_density_or_the_distribution_of_integers():
    assert isinstance(small("glow.digits"), TransformedDistribution)
    discrete = small("glow.digits", discrete=True)
    assert isinstance(discrete, distributions.Dequantized)
    assert discrete.dequantizer is None


@pytest.mark.parametrize("name", ["glow.digits", "convexp_glow.digits"])
def test_seed_decides_the_initial_weights(name):
    first, same, other = (small(name, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(first.variables, same.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        np.any(a.numpy() != b) for a, b in zip(first.variables, other.variables, strict=True)
    )


@pytest.mark.parametrize("builder", ["glow.digits", "glow.cifar10"], ids=["glow", "experiment"])
@pytest.mark.parametrize("mixing", [*CHANNEL_MIXING, *SPATIAL_MIXING])
def test_every_mixing_in_both_builders(builder, mixing):
    model = small(builder, mixing=mixing, seed=3)
    v = tf.cast(images(), tf.float32) + 0.5
    draws, log_prob = model.experimental_sample_and_log_prob(3, seed=[1, 2])
    assert np.all(np.isfinite(model.log_prob(v)))
    np.testing.assert_allclose(model.log_prob(tf.identity(draws)), log_prob, rtol=1e-4)


def layers_of(model, kind):
    return sum(isinstance(module, kind) for module in model.submodules)


def test_exponentials_counts_the_layers_of_a_level_that_mix_positions():
    shape = {**SMALL["glow"], "steps": (3, 3)}
    for number, expected in ((0, 0), (1, 2), (2, 4), (None, 6)):
        model = zoo.create("emerging_glow.digits", exponentials=number, **shape)
        assert layers_of(model, bijectors.EmergingConv) == expected
        assert layers_of(model, bijectors.InvertibleConv1x1) == 6
    # The others are in every step.
    model = zoo.create("glow.digits", exponentials=1, mixing="matrix_exponential", **shape)
    assert layers_of(model, bijectors.ConvExponential) == 6


def count(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def test_small_models_with_other_mixings_are_of_equal_size():
    names = ["glow.cifar10_small_wide"] + [
        f"{mixing}_glow.cifar10_small" for mixing in ("convexp", "emerging", "periodic", "woodbury")
    ]
    counts = [count(zoo.create(name)) for name in names]
    assert max(counts) <= 1.01 * min(counts)
    assert count(zoo.create("glow.cifar10_small")) == 716_628  # Of which there are figures.


@pytest.mark.slow
@pytest.mark.parametrize("mixing", ["convexp", "emerging", "periodic", "woodbury"])
def test_full_size_model_of_the_mixing_experiment(mixing):
    model = zoo.create(f"{mixing}_glow.cifar10")
    assert abs(count(model) - 46.8e6) < 0.1e6


# Presets.


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


def test_keras_file_rebuilds_a_model_by_name(tmp_path):
    overrides = SMALL["glow"]
    model = FlowModel.from_builder(zoo.build, {"name": "glow.digits", "seed": 3, **overrides})
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("dataset", [3, None], ["digits"]),
        ("batch_size", [0, 1.5, "8", True, None], [1]),
        ("steps", [0, 1e3], [1]),
        ("optimizer", ["sgd", 3, []], ["adam", "adamax"]),
        ("learning_rate", [-1, float("nan"), float("inf"), "a", None], [0, 0.1]),
        ("beta_2", [1, -0.1], [0, 0.99]),
        ("warmup_steps", [-1, 0.5, "a"], [0]),
        ("warmup_power", [-1, "a"], [2]),
        ("decay", ["cosine", 1.5, True], ["linear", 0.99]),
        ("decay_steps", [0, "a"], [None, 10]),
        ("final_learning_rate", [-1], [0.0]),
        ("clip", [0, -1, "a"], [None, 0.5]),
        ("flip", [1, "true", None], [True]),
        ("ema", [-0.1, 1.1, "a"], [0, 0.999]),
    ],
)
def test_a_recipe_is_one_that_a_run_can_follow(name, wrong, right):
    recipe = zoo.Recipe(dataset="digits", batch_size=16, steps=4)
    for value in right:
        assert getattr(dataclasses.replace(recipe, **{name: value}), name) == value
    for value in wrong:
        with pytest.raises(ValueError, match=f"`{name}` of a recipe must be .*Received: {name}="):
            dataclasses.replace(recipe, **{name: value})
