"""`for_inference`: the same model, with its weights and what follows from them as constants.

That every bijector computes the same is in `tests/contract`.
"""

import copy

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tests.contract.table import conv_sylvester, multi_scale, vectors
from tests.tfflows.small_flows import model_of
from tests.zoo import small_models
from tfflows import bijectors, evaluation, networks
from tfflows.bijectors import transforms
from tfflows.numerics import norms

tfb = tfp.bijectors
tfd = tfp.distributions
SHAPE = [4, 4, 2]


def images(count=3, shape=SHAPE, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=[count, *shape]), tf.float32)


def scatter(module, size=0.1):
    """Gives every variable a value of its own."""
    for number, variable in enumerate(module.trainable_variables):
        noise = tf.random.stateless_normal(variable.shape, [3, number], dtype=variable.dtype)
        variable.assign_add(size * noise)
    return module


def assert_close(actual, desired, tolerance=1e-6):
    for a, d in zip(tf.nest.flatten(actual), tf.nest.flatten(desired), strict=True):
        size = max(1.0, np.max(np.abs(d)))
        np.testing.assert_allclose(a, d, rtol=0, atol=tolerance * size)


def linear_step(seed):
    return [
        bijectors.ActNorm.trainable([None, None, 2]),
        bijectors.InvertibleConv1x1.trainable([None, None, 2], seed=seed),
        bijectors.ConvExponential.trainable(SHAPE, seed=seed),
        bijectors.PeriodicConv.trainable(SHAPE, seed=seed),
        bijectors.StridedConv.trainable([None, None, 2], parameterization="dense"),
    ]


def coupling(seed, **kwargs):
    context = [3] if kwargs.get("conditional") else None
    network = networks.ConvNet(2, width=4, seed=seed)
    networks.build_network(network, [*SHAPE[:2], 1], context)
    return bijectors.Coupling(network, SHAPE, transforms.Affine(), context_ndims=1, **kwargs)


def everything(model, x):
    """Output, log-det and gradients with respect to inputs, of both directions."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = evaluation.forward_and_log_det(model, x)
        back, of_inverse = evaluation.inverse_and_log_det(model, y)
        loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(log_det * tf.reduce_mean(y))
        loss += tf.reduce_sum(back**2)
    return y, log_det, back, of_inverse, tape.gradient(loss, x)


@pytest.fixture(scope="module")
def flow():
    return scatter(bijectors.Sequential([*linear_step(1), coupling(1)]))


@pytest.mark.parametrize(
    "mode",
    ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow), "invert", "recompute"],
)
def test_values_and_gradients_in_every_mode(flow, mode):
    x, frozen = images(), tfflows.for_inference(flow)

    def evaluate(x):
        with evaluation.memory(mode if mode in ("invert", "recompute") else "store"):
            return everything(frozen, x)

    if mode in ("graph", "xla"):
        evaluate = tf.function(evaluate, jit_compile=mode == "xla")
    assert_close(evaluate(x), everything(flow, x), 3e-6)


def test_what_follows_from_weights_is_not_computed_again(flow, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("It is known.")

    frozen, x = tfflows.for_inference(flow), images()
    frozen.inverse(tf.identity(frozen.forward(x)))  # The size of images is seen.
    for name in ("capped_kernel", "conv_norm_bound"):
        monkeypatch.setattr(norms, name, refuse)
    for name in ("log_abs_det", "inverse"):
        monkeypatch.setattr(tfflows.numerics.linalg, name, refuse)
    y, _ = evaluation.forward_and_log_det(frozen, x)
    for again in (frozen, frozen.copy(name="other")):
        evaluation.inverse_and_log_det(again, y)
    with pytest.raises(AssertionError, match="It is known"):
        flow.forward(images(seed=1))


@pytest.mark.parametrize("max_norm", [0.95, None])
def test_exponentials_of_small_images_are_one_product_of_matrices(max_norm):
    layer = bijectors.ConvExponential.trainable(SHAPE, seed=1, max_norm=max_norm)
    scatter(layer, 0.5)
    frozen, large = tfflows.for_inference(layer), images(shape=[8, 8, 2])
    for method in ("forward", "inverse"):
        function = tf.function(lambda x, method=method: getattr(frozen, method)(x))
        x = images()
        assert_close(function(x), getattr(layer, method)(x))
        assert_close(function(large), getattr(layer, method)(large))
        assert function(images(0)).shape == (0, *SHAPE)
        operations = [op.type for op in function.get_concrete_function(x).graph.get_operations()]
        assert operations.count("MatMul") == 1
        assert "Conv2D" not in operations


def test_it_is_the_model_as_it_was():
    flow, x = scatter(bijectors.Sequential([*linear_step(1), coupling(1)])), images()
    before, frozen = everything(flow, x), tfflows.for_inference(flow)
    scatter(flow, 1.0)
    assert frozen.variables == ()
    # A product with a matrix rounds otherwise than a series.
    for same in (frozen, copy.deepcopy(frozen), tfflows.for_inference(frozen)):
        assert_close(everything(same, x), before, 3e-6)


def test_copies_with_other_parameters_follow_these():
    conv = bijectors.InvertibleConv1x1.trainable([None, None, 2], seed=1)
    frozen, other, x = tfflows.for_inference(conv), tf.constant([[2.0, 1.0], [0.0, 3.0]]), images()
    desired = bijectors.InvertibleConv1x1(other).forward(x)
    np.testing.assert_allclose(frozen.copy(weight=other).forward(x), desired)


def test_batches_of_weights_can_be_sliced():
    weight = tf.Variable(tf.random.stateless_normal([2, 3, 3], [0, 1]))
    conv = bijectors.InvertibleConv1x1(weight)
    frozen, x = tfflows.for_inference(conv), images(5, [2, 2, 3])
    np.testing.assert_allclose(frozen[1].forward(x), conv[1].forward(x))


@pytest.mark.parametrize("first", ["condition", "for_inference"])
def test_conditional_models(first):
    layers = [coupling(1, conditional=True), bijectors.ActNorm.trainable([None, None, 2])]
    model = model_of(tfb.Invert(scatter(bijectors.Sequential(layers))), SHAPE)
    context, x = tf.constant([[0.3, -1.0, 0.5]] * 3), images()
    desired = tfflows.condition(model, context).log_prob(x)
    if first == "condition":
        frozen = tfflows.for_inference(tfflows.condition(model, context))
        assert_close(frozen.log_prob(x), desired)
        return
    frozen = tfflows.for_inference(model)
    guided = tfflows.guide(model, context, 0.5).log_prob(x)
    scatter(model, 1.0)
    assert_close(tfflows.condition(frozen, context).log_prob(x), desired)
    assert_close(tfflows.guide(frozen, context, 0.5).log_prob(x), guided)
    assert not frozen.trainable_variables


def test_graphs_that_are_contexts():
    graph = tf.constant(np.random.default_rng(1).uniform(size=[4, 4]), tf.float32)
    flow = bijectors.GraphConvExponential.trainable([None, 3], None, conditional=True, seed=1)
    x = images(2, [4, 3])
    desired = tfflows.condition(flow, graph).forward(x)
    assert_close(tfflows.condition(tfflows.for_inference(flow), graph).forward(x), desired)


@pytest.mark.slow
def test_networks_under_a_sylvester_flow_with_a_context():
    network = networks.MaskedConvNet(2, width=4, context_size=2, seed=1)
    networks.build_network(network, [3, 4, 2], [2])
    flow = bijectors.ConvSylvester.trainable([3, 4, 2], network, conditional=True, seed=1)
    x, context = images(3, [3, 4, 2]), vectors(tf.float32)
    frozen = tfflows.for_inference(scatter(flow))
    desired = everything(tfflows.condition(flow, context), x)
    assert_close(everything(tfflows.condition(frozen, context), x), desired)


def turns(kind):
    if kind == "linear":
        return [[*linear_step(seed)[:3], coupling(seed)] for seed in range(3)]
    if kind == "tfp":
        return [tfb.Shift(tf.Variable([float(seed), 1.0])) for seed in range(3)]
    return [scatter(conv_sylvester(tf.float32), 0.1 + seed / 10) for seed in range(3)]


@pytest.mark.parametrize(
    "kind", ["linear", "tfp", pytest.param("sylvester", marks=pytest.mark.slow)]
)
def test_layers_that_repeat_are_one_loop(kind):
    flow = scatter(bijectors.Sequential([bijectors.Repeat(turns(kind))]))
    x = images(3, [3, 4, 2] if kind == "sylvester" else SHAPE)
    frozen = tfflows.for_inference(flow)

    def evaluate(x):
        with evaluation.looping():
            y, log_det = evaluation.forward_and_log_det(frozen, x, 3)
            return y, log_det, tf.gradients(y, x)[0]

    looped = tf.function(evaluate)
    loops = [op for op in looped.get_concrete_function(x).graph.get_operations()]
    has_loop = any(op.type in ("While", "StatelessWhile") for op in loops)
    assert has_loop == (kind != "sylvester")  # What such a network has prepared is not stacked.
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = evaluation.forward_and_log_det(flow, x, 3)
    assert_close(looped(x), (y, log_det, tape.gradient(y, x)), 3e-6)


@pytest.mark.slow
def test_models_of_the_zoo_with_a_dequantiser():
    model = scatter(small_models.small("periodic_glow.cifar10", discrete=True))
    x = small_models.images()
    frozen, desired = tfflows.for_inference(model), model.log_prob(x, seed=[0, 1])
    scatter(model, 1.0)
    assert type(frozen) is type(model)
    assert not frozen.variables
    assert_close(frozen.log_prob(x, seed=[0, 1]), desired)
    assert frozen.sample(2, seed=1).shape == [2, 4, 4, 1]


def test_bases_and_bijectors_of_tfp():
    base = tfflows.distributions.trainable_normal([2])
    scale = tfb.Chain([tfb.Scale(tf.Variable(2.0)), tfb.Softplus()])
    model, x = tfd.TransformedDistribution(base, scale), tf.constant([[0.5, 2.0]])
    frozen, desired = tfflows.for_inference(model), model.log_prob(x)
    scatter(model, 1.0)
    assert not frozen.variables
    assert_close(frozen.log_prob(x), desired)


def test_multi_scale_and_64_bits():
    flow = scatter(multi_scale(tf.float64))
    frozen, x = tfflows.for_inference(flow), tf.cast(images(3, [4, 4, 1]), tf.float64)
    assert_close(everything(frozen, x), everything(flow, x), 1e-14)


def test_it_is_refused_in_a_graph():
    flow = bijectors.ActNorm.trainable([2])
    with pytest.raises(ValueError, match="must be called in eager mode"):
        tf.function(lambda x: tfflows.for_inference(flow).forward(x))(tf.ones([1, 2]))
