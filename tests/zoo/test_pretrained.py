"""The weights in the package: each reaches the figure on its card."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tfflows import FlowModel
from trainers import evaluate
from trainers.data import loading
from zoo.catalogue.planar import DATASETS
from zoo.storage import files, presets

NAMES = zoo.list_models(pretrained=True)
# Their data are not on every machine.
IMAGES = [
    name for name in NAMES if zoo.find(name).recipe.dataset in ("cifar10", "mnist", "fashion_mnist")
]


def mark(*quick):
    """Returns the names, those of `IMAGES` marked as data, others but the quick ones as slow."""

    def marks(name):
        if name in IMAGES:
            return [pytest.mark.data]
        return [] if not quick or name in quick else [pytest.mark.slow]

    return [pytest.param(name, marks=marks(name)) for name in NAMES]


def test_the_promised_models_have_weights():
    promised = {
        "balanced.checkerboard",
        "balanced.cifar10_small",
        "balanced.digits",
        "balanced.two_moons",
        "gnf_convexp.mog4",
        "convexp_balanced.cifar10_small",
        "convexp_glow.cifar10_small",
        "convexp_glow.cifar10_medium",
    }
    promised |= {"convexp_glow.digits", "glow.digits", "sylvester.digits"}
    promised |= {
        "balanced.fashion_mnist",
        "balanced.mnist",
        "convexp_balanced.fashion_mnist",
        "convexp_balanced.mnist",
        "convexp_glow.fashion_mnist",
        "convexp_glow.mnist",
        "gnf_convexp.mog4_ring",
        "gnf_convexp.mog9",
    }
    promised |= {"glow.digits_by_class", "glow.mnist_by_class", "jet.digits"}
    promised |= {f"rq_nsf.{name}" for name in DATASETS}
    promised |= {"tarflow.digits", "tarflow.mnist_by_class"}
    assert promised <= set(NAMES)


@functools.cache
def scores_of(name, dataset, part):
    """The scores of a model in float32; not by XLA, which compiles for longer than they take."""
    model = zoo.open_trained(name)
    source = loading.load(dataset, part, batch_size=200, **evaluate.read_condition(model))
    return evaluate.score(model, source.dataset, source.num_examples, 1, seed=0, jit="off")


@pytest.mark.parametrize(
    "name",
    mark("convexp_glow.digits", "gnf_convexp.mog9"),
)
def test_card_states_what_the_weights_reach(name):
    metadata = files.read_json(presets.folder(name) / "metadata.json")
    metric = metadata["metric"]
    dataset, split = metric["data"].split(", ")[:2]
    assert metric["name"].startswith("test ")
    assert f"| {metric['name']} | {metric['value']:.4f} |" in presets.read_card(name)
    for file in metadata.get("pictures", {"Samples": "samples.png"}).values():
        assert (presets.folder(name) / file).read_bytes().startswith(b"\x89PNG")
    # All 400 digits, with the noise of the figure; a tenth of the points; some photographs.
    part = split if dataset == "digits" else f"{split}[:{500 if name in IMAGES else 2000}]"
    scores = scores_of(name, dataset, part)
    error = float(scores.std(ddof=1)) / math.sqrt(len(scores))
    tolerance = 1e-3 if dataset == "digits" else 4 * error
    assert scores.mean() == pytest.approx(metric["value"], abs=tolerance)


@pytest.mark.parametrize("name", mark("convexp_glow.digits"))
def test_gradients_without_activations_are_those_with_them(name):
    """`memory="invert"` finds the inputs of all layers of a trained model from its latents."""
    entry, trained = zoo.find(name), zoo.open_trained(name)
    condition = evaluate.read_condition(trained)
    data = loading.load(entry.recipe.dataset, "test", batch_size=32, **condition)
    batch = next(iter(data.dataset))
    x, y = batch if data.is_conditional else (batch, None)
    model = trained.given(y).distribution
    found = {}
    for mode in ("store", "invert"):
        trainer = FlowModel(model, units=entry.units, memory=mode)
        trainer.compile("adam")
        found[mode] = trainer._make_loss_and_gradients()(x, tf.constant([0, 1]))[2]
    # Of this one, with its steep splines, single variables differ by 5e-5 of their norm between
    # eager mode and a graph already, with everything stored: that is what float32 tells of them.
    each, whole = 3e-4 if name == "gnf_convexp.mog9" else 1e-4, 1e-4
    if name in IMAGES:  # Whose inverse is off by 1e-3 of 256 values; measured: 3.6e-3 and 3.7e-4.
        each, whole = 5e-3, 5e-4
    errors = {"all": 0.0}
    for number, (exact, inverted) in enumerate(zip(found["store"], found["invert"], strict=True)):
        errors["all"] += np.sum((inverted - exact) ** 2)
        errors[number] = np.linalg.norm(inverted - exact) / np.linalg.norm(exact)
    norm = tf.linalg.global_norm(found["store"]).numpy()
    assert math.sqrt(errors.pop("all")) < whole * norm
    assert max(errors.values()) < each


def test_networks_in_bfloat16_cost_less_than_a_hundredth_of_a_bit():
    """With the weights of a model that was trained in float32."""
    test = loading.load("digits", "test", batch_size=200)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = zoo.open_trained("convexp_glow.digits")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    scores = evaluate.score(model, test.dataset, test.num_examples, 1, seed=0)
    difference = scores - scores_of("convexp_glow.digits", "digits", "test")
    assert np.any(difference != 0)
    assert abs(difference.mean()) < 0.01
