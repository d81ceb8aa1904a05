"""The models of the experiment with residual layers: structure, sizes, training signal."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tfflows import bijectors
from zoo.architectures.residual_type import LAYERS

SMALL = {"image_shape": (4, 4, 1), "num_levels": 16, "steps": (1, 1), "widths": (8, 8)}
MILLIONS = {"coupling": 27.621, "residual": 30.766, "sylvester": 36.221}
layers = pytest.mark.parametrize("layer", sorted(LAYERS))


def size(model):
    return sum(v.shape.num_elements() for v in model.trainable_variables)


def images(count=4):
    return tf.constant(np.random.default_rng(0).integers(0, 16, [count, 4, 4, 1]), tf.uint8)


@layers
def test_models_score_and_sample_at_a_small_size(layer):
    model = zoo.create(f"{layer}.digits", discrete=True, **SMALL, prior_width=4)
    x = images()
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.log_prob(x, seed=1))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert np.isfinite(loss)
    assert all(g is not None and np.all(np.isfinite(g)) for g in gradients)
    assert model.sample(2, seed=[0, 1]).shape == [2, 4, 4, 1]
    flow = model.distribution.bijector.bijector
    v = tf.cast(x, tf.float32) + 0.5
    y = tf.identity(flow.forward(v))
    np.testing.assert_allclose(flow.inverse(y), v, atol=1e-3)


def test_steps_are_those_of_the_paper():
    model = zoo.create("residual.digits")
    first = model.bijector.bijector.levels[0].bijectors
    kinds = [type(part).__name__ for part in first]
    step = ["ActNorm", "ResidualFlow", "Flip"]
    assert kinds == ["NormalizeImage", "Squeeze", *step * 4, "Coupling"]
    seeds = [
        m.parameters["seed"] for m in model.submodules if isinstance(m, bijectors.ResidualFlow)
    ]
    assert len(seeds) == len(set(seeds)) == 8


@pytest.mark.parametrize("data", ["digits", pytest.param("cifar10_small", marks=pytest.mark.slow)])
def test_small_models_are_of_one_size(data):
    sizes = [size(zoo.create(f"{layer}.{data}")) for layer in sorted(LAYERS)]
    assert max(sizes) / min(sizes) < 1.02


@pytest.mark.parametrize(
    ("ablation", "kinds"),
    [
        ({"basis": False}, ["Flip", "BoundedTanh"]),
        ({"generalized": False}, ["Sequential", "ConvTriangularTanh"]),
        ({"basis": False, "generalized": False}, ["Flip", "ConvTriangularTanh"]),
    ],
    ids=str,
)
def test_ablations_leave_out_what_they_say(ablation, kinds):
    model = zoo.create("sylvester.digits", discrete=True, **SMALL, prior_width=4, **ablation)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(0.1 * rng.normal(size=variable.shape))
    layer = next(m for m in model.submodules if isinstance(m, bijectors.Sylvester))
    found = [layer.parameters[name] for name in ("basis", "autoregressive")]
    assert [type(part).__name__ for part in found] == kinds
    v = tf.cast(images(), tf.float32) + 0.5
    flow = model.distribution.bijector.bijector
    y = tf.identity(flow.forward(v))
    np.testing.assert_allclose(flow.inverse(y), v, atol=1e-3)
    whole = zoo.create("sylvester.digits", **SMALL, prior_width=4)
    assert size(model) < size(whole)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"`layer` must be one of .*layer='none'"):
        zoo.create("residual.digits", layer="none")
    with pytest.raises(ValueError, match=r"`basis` and .*layer='residual', basis=False"):
        zoo.create("residual.digits", basis=False)


@pytest.mark.slow
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_models_of_the_paper(layer):
    """The paper's sizes are not in what we have of it: these are what its equations give."""
    model = zoo.create(f"{layer}.cifar10")
    assert size(model) == pytest.approx(1e6 * MILLIONS[layer], rel=1e-4)
