"""Every architecture of the zoo takes a context, and its density depends on it."""

import numpy as np
import pytest
import tensorflow as tf

import tfflows
import zoo
from tests.small_presets import architectures, moved, save_small, small_arguments
from tfflows import evaluation
from tfflows.conditioning import expected_context
from zoo.storage import limits

ABLATIONS = {"generalized": False, "basis": False}
ROWS = [(name, {}) for name in architectures()]
ROWS += [("sylvester.cifar10", ABLATIONS), ("sylvester.cifar10", {"generalized": False})]
# The others are made of the same layers, and slow.
ALWAYS = ("balanced", "glow", "gnf", "maf", "realnvp", "residual", "sylvester")
NAMES = {name.split(".")[0] for name in zoo.list_models()}


def conditional(name, changes=(), **more):
    return moved(zoo.create(name, seed=1, context_size=3, **{**small_arguments(name), **more}))


def test_all_architectures_are_here():
    assert {name.split(".")[0] for name, _ in ROWS} == NAMES


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param(*row, marks=[] if row[0].split(".")[0] in ALWAYS else [pytest.mark.slow])
        for row in ROWS
    ],
    ids=str,
)
def test_density_depends_on_the_context(name, changes):
    model = conditional(name, **changes)
    assert expected_context(model) == [3]
    for one, other in zip(model.variables, conditional(name, **changes).variables, strict=True):
        np.testing.assert_array_equal(one, other)  # All initial values follow from the seed.
    assert {"context_size"} < set(zoo.find(name).arguments)
    x = np.random.default_rng(0).uniform(0.1, 2.0, [2, *model.event_shape]).astype("float32")
    with evaluation.estimating(seed=1, num_terms=30):
        log_prob = tfflows.condition(model, tf.one_hot([0, 1], 3)).log_prob(x)
        for i in range(2):
            alone = tfflows.condition(model, tf.one_hot(i, 3)).log_prob(x[i])
            np.testing.assert_allclose(log_prob[i], alone, rtol=1e-3)
        other = tfflows.condition(model, tf.one_hot([2, 2], 3)).log_prob(x)
    assert np.all(np.abs(log_prob - other) > 1e-4 * np.abs(log_prob))
    flow = tfflows.condition(model, tf.one_hot([0, 1], 3)).bijector.bijector
    latents = flow.forward(x)
    np.testing.assert_allclose(flow.inverse(tf.identity(latents)), x, atol=5e-3)
    with pytest.raises(ValueError, match=r"`context` must have shape \[\.\.\., 3\]"):
        tfflows.condition(model, tf.ones([2, 4]))


@pytest.mark.parametrize("name", ["sylvester.cifar10", "gnf.mog4", "maf.two_moons"])
def test_every_layer_depends_on_the_context(name):
    """Not the split priors alone: the first level, with what it passes on."""
    model = conditional(name, **({"num_blocks": 2} if name == "gnf.mog4" else {}))
    x = np.random.default_rng(0).uniform(0.1, 2.0, model.event_shape).astype("float32")
    one, other = (
        tfflows.condition(model, tf.one_hot(i, 3)).bijector.bijector.forward(x) for i in (0, 1)
    )
    assert np.mean(np.abs(one - other) > 1e-6) > 0.9


def test_without_a_context_the_model_is_as_it_was():
    model = zoo.create("glow.digits")
    assert expected_context(model) is None
    assert zoo.find("glow.digits").arguments["context_size"] is None


def test_presets_of_conditional_models(tmp_path):
    changes = {**small_arguments("glow.digits"), "context_size": 3}
    path = save_small(tmp_path / "preset", "glow.digits", **changes)
    assert expected_context(zoo.load(path)) == [3]
    entry = zoo.find("glow.digits")
    for size in (0, -1, 2.5, True, 5000, "3"):
        with pytest.raises(ValueError, match="`context_size` must"):
            limits.check_arguments(entry, {"context_size": size})
    with pytest.raises(ValueError, match="`context_size` must be positive"):
        zoo.create("glow.digits", context_size=0)
    with pytest.raises(ValueError, match="`context_size` must be None if the graph is"):
        zoo.create("gnf.mog4", conditional=True, context_size=2)
