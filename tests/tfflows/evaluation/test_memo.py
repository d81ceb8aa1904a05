"""What bijectors remember: one evaluation for output and log-det, and no stale value."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.small_flows import (
    SHAPE,
    CountingNetwork,
    coupling,
    images,
    model_of,
    multi_scale,
    parts,
)
from tfflows import bijectors
from tfflows.bijectors import transforms

tfb = tfp.bijectors
# A maker, the shape of the base, the numbers of ConvNets and of other products of matrices.
FLOWS = {
    "coupling": (lambda: tfb.Invert(coupling()), SHAPE, 1, 0),
    "inverse": (lambda: bijectors.Sequential(parts()), SHAPE, 2, 1),
    "sequential": (lambda: tfb.Invert(bijectors.Sequential(parts())), SHAPE, 2, 1),
    "chain": (lambda: tfb.Invert(tfb.Chain(parts()[::-1])), SHAPE, 2, 1),
    "chain of inverts": (
        lambda: tfb.Chain([tfb.Invert(b) for b in [tfb.Scale(2.0), *parts()]]),
        SHAPE,
        2,
        1,
    ),
    "multi-scale": (lambda: tfb.Invert(multi_scale()), [16], 3, 1),
}


def operations(function, *specs):
    """Counts the convolutions and matrix products of a traced function."""
    graph = tf.function(function).get_concrete_function(*specs).graph
    types = [operation.type for operation in graph.get_operations()]
    return types.count("Conv2D"), types.count("MatMul")


@pytest.fixture(params=FLOWS)
def counted(request):
    make, base_shape, nets, others = FLOWS[request.param]
    # Each has two 3x3 convolutions, and a 1x1 convolution that is a product.
    return model_of(make(), base_shape), (2 * nets, nets + others)


def test_log_prob_evaluates_each_network_once(counted):
    model, expected = counted
    spec = tf.TensorSpec([3, *model.event_shape])
    assert operations(model.log_prob, spec) == expected


def test_sample_and_its_log_prob_evaluate_each_network_once(counted):
    model, expected = counted

    def both():
        x = model.sample(3, seed=[1, 2])
        return x, model.log_prob(x)

    assert operations(both) == expected


def test_gradient_of_log_prob_evaluates_each_network_once(counted):
    model, expected = counted

    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.log_prob(x))
        return tape.gradient(loss, model.trainable_variables)

    spec = tf.TensorSpec([3, *model.event_shape])
    graph = tf.function(gradients).get_concrete_function(spec).graph
    assert [o.type for o in graph.get_operations()].count("Conv2D") == expected[0]


def test_eager_log_prob_evaluates_the_network_once():
    network = CountingNetwork()
    model = model_of(tfb.Invert(bijectors.Coupling(network, [4], transforms.Affine())), [4])
    model.log_prob(images(shape=[4]))
    assert network.calls == 1


# No stale values.


def evaluate(flow, x, y, ndims=3):
    """The four methods, always of the same tensors."""
    return [
        flow.forward(x),
        flow.inverse(y),
        flow.forward_log_det_jacobian(x, ndims),
        flow.inverse_log_det_jacobian(y, ndims),
    ]


def assign_all(module):
    for variable in module.trainable_variables:
        variable.assign_add(0.1 * tf.ones_like(variable))


@pytest.mark.parametrize(
    "make",
    [
        lambda: bijectors.ActNorm.trainable([None, None, 4]),
        coupling,
        lambda: bijectors.InvertibleConv1x1.trainable(
            [None, None, 4], seed=1, parameterization="plu"
        ),
        lambda: bijectors.ConvExponential.trainable(SHAPE, seed=1),
        lambda: bijectors.Sequential(parts()),
        lambda: tfb.Invert(bijectors.Sequential(parts())),
    ],
    ids=["act_norm", "coupling", "conv1x1", "conv_exponential", "sequential", "invert"],
)
def test_assign_changes_every_method_in_eager_mode(make):
    flow, x = make(), images()
    y = flow.forward(x)
    before = evaluate(flow, x, y)
    assign_all(flow)
    after = evaluate(flow, x, y)
    fresh = evaluate(flow, tf.identity(x), tf.identity(y))
    for old, new, expected in zip(before, after, fresh, strict=True):
        assert np.any(np.abs(old - new) > 1e-4)
        np.testing.assert_allclose(new, expected, rtol=1e-6, atol=1e-6)


def test_assigning_a_keras_variable_changes_the_output():
    flow, x = coupling(), images()
    y = flow.forward(x)
    flow.network.layers[-1].bias.assign(np.ones(4))
    assert np.any(np.abs(flow.forward(x) - y) > 0.1)


def test_an_assign_that_is_undone_gives_the_old_value_again():
    norm, x = bijectors.ActNorm.trainable([None, None, 4]), images()
    y = norm.forward(x)
    norm.variables[0].assign(tf.ones([4]))
    assert np.any(np.abs(norm.forward(x) - y) > 0.5)
    norm.variables[0].assign(tf.zeros([4]))
    np.testing.assert_array_equal(norm.forward(x), y)


def test_log_prob_follows_assign():
    model = model_of(tfb.Invert(bijectors.Sequential(parts())), SHAPE)
    x = images()
    before = model.log_prob(x)
    assign_all(model)
    after = model.log_prob(x)
    assert np.all(np.abs(after - before) > 1e-4)
    np.testing.assert_allclose(after, model.log_prob(tf.identity(x)), rtol=1e-6)


def test_assign_between_two_calls_in_one_function():
    norm = bijectors.ActNorm.trainable([None, None, 4])

    @tf.function
    def twice(x):
        first = norm.forward(x), norm.forward_log_det_jacobian(x, 3)
        for variable in norm.variables:
            variable.assign_add(tf.ones([4]))
        return first, (norm.forward(x), norm.forward_log_det_jacobian(x, 3))

    x = images()
    (y0, log_det0), (y1, log_det1) = twice(x)
    np.testing.assert_allclose(y0, x)
    np.testing.assert_allclose(log_det0, 0.0)
    np.testing.assert_allclose(y1, np.e * (x + 1.0), rtol=1e-6)
    np.testing.assert_allclose(log_det1, 16.0)


def test_assign_inside_a_branch_is_seen_after_it():
    norm = bijectors.ActNorm.trainable([None, None, 4])

    @tf.function
    def step(x, flag):
        before = norm.forward(x)
        tf.cond(
            flag, lambda: norm.variables[1].assign(tf.ones([4])).read_value(), lambda: tf.ones([4])
        )
        return norm.forward(x) - before

    x = images()
    np.testing.assert_array_equal(step(x, tf.constant(False)), tf.zeros_like(x))
    assert np.any(step(x, tf.constant(True)) != 0)


# Gradient tapes.


def forward_before_tape(flow, x):
    y = flow.forward(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(flow.forward(x) ** 2)
    return y, tape.gradient(loss, [x, *flow.trainable_variables])


def first_and_second_tape(flow, x):
    with tf.GradientTape() as tape:
        y = flow.forward(x)
        loss = tf.reduce_sum(y**2)
    tape.gradient(loss, flow.trainable_variables)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(flow.forward(x) ** 2)
    return y, tape.gradient(loss, [x, *flow.trainable_variables])


def unwatched_second_tape(flow, x):
    with tf.GradientTape():
        y = flow.forward(x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(flow.forward(x) ** 2)
    return y, [tf.ones([]), *tape.gradient(loss, flow.trainable_variables)]


def tape_in_a_tape(flow, x):
    with tf.GradientTape():
        y = flow.forward(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(flow.forward(x) ** 2)
        return y, tape.gradient(loss, [x, *flow.trainable_variables])


def unwatched_tape_in_a_tape(flow, x):
    with tf.GradientTape():
        y = flow.forward(x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(flow.forward(x) ** 2)
        return y, [tf.ones([]), *tape.gradient(loss, flow.trainable_variables)]


def output_of_first_tape_into_second(flow, x):
    with tf.GradientTape():
        y = flow.forward(x)
    with tf.GradientTape() as tape:
        tape.watch(y)
        loss = tf.reduce_sum(flow.inverse(y) ** 2)
    return y, tape.gradient(loss, [y, *flow.trainable_variables])


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(
    "function",
    [
        forward_before_tape,
        first_and_second_tape,
        unwatched_second_tape,
        tape_in_a_tape,
        unwatched_tape_in_a_tape,
        output_of_first_tape_into_second,
    ],
)
def test_a_tape_sees_an_evaluation_that_was_known_before(function, graph):
    flow, x = coupling(), images()
    run = tf.function(function) if graph else function
    _, gradients = run(flow, x)
    for gradient in gradients:
        assert gradient is not None
        assert np.any(gradient != 0)


def test_gradient_through_sample_and_log_prob_is_that_of_a_fresh_evaluation():
    model = model_of(tfb.Invert(bijectors.Sequential(parts())), SHAPE)

    def gradients(copy):
        with tf.GradientTape() as tape:
            x = model.sample(3, seed=[1, 2])
            loss = tf.reduce_mean(model.log_prob(copy(x)))
        # What cancels exactly is zero in one, and not connected in the other.
        return tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")

    for graph in (False, True):
        run = tf.function(gradients) if graph else gradients
        remembered, fresh = run(lambda x: x), run(tf.identity)
        for actual, expected in zip(remembered, fresh, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


# What is remembered, and for how long.


def test_inverse_of_an_output_is_the_input_itself_in_a_graph():
    flow, same = coupling(), []

    @tf.function
    def round_trip(x):
        y = flow.forward(x)
        same.append(flow.inverse(y) is x)
        return y

    round_trip(images())
    assert same == [True]


def test_another_bijector_with_equal_tensors_is_not_confused():
    flow, other = coupling(1), coupling(2)

    @tf.function
    def both(x):
        return flow.forward(x), other.forward(x), flow.inverse(other.forward(x))

    x = images()
    y, z, mixed = both(x)
    np.testing.assert_allclose(y, flow.forward(tf.identity(x)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(z, other.forward(tf.identity(x)), rtol=1e-5, atol=1e-6)
    assert np.any(np.abs(mixed - x) > 1e-3)


@pytest.mark.parametrize("make", [coupling, lambda: bijectors.Sequential(parts())])
def test_outputs_are_freed_in_eager_mode(make):
    flow, x = make(), images()
    y = flow.forward(x)
    log_prob = model_of(tfb.Invert(flow), SHAPE).log_prob(x)
    output, value = weakref.ref(y), weakref.ref(log_prob)
    del y, log_prob
    assert output() is None
    assert value() is None


def test_inputs_are_freed_with_their_outputs_in_eager_mode():
    flow = coupling()
    x = images()
    y = flow.forward(x)
    source = weakref.ref(x)
    del x
    np.testing.assert_allclose(flow.inverse(y), images(), rtol=1e-5, atol=1e-5)
    del y
    assert source() is None


def test_a_function_graph_is_freed_with_its_memory():
    flow = coupling()
    function = tf.function(lambda x: flow.inverse(flow.forward(x)))
    graph = weakref.ref(function.get_concrete_function(tf.TensorSpec([1, *SHAPE])).graph)
    del function
    gc.collect()
    assert graph() is None


@pytest.mark.parametrize("flag", [True, False])
def test_branches_of_cond_evaluate_by_themselves(flag):
    flow = coupling()

    @tf.function
    def branches(x, flag):
        chosen = tf.cond(flag, lambda: flow.forward(x), lambda: 2.0 * flow.forward(x))
        return chosen, flow.forward(x), flow.forward_log_det_jacobian(x, 3)

    @tf.function
    def after_forward(x, flag):
        y = flow.forward(x)
        return tf.cond(flag, lambda: flow.forward(x) + y, lambda: flow.inverse(y) - x)

    x = images()
    y = flow.forward(tf.identity(x))
    chosen, again, log_det = branches(x, tf.constant(flag))
    np.testing.assert_allclose(chosen, y if flag else 2 * y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again, y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_det, flow.forward_log_det_jacobian(x, 3), rtol=1e-5, atol=1e-6)
    expected = 2 * y if flag else tf.zeros_like(y)
    np.testing.assert_allclose(after_forward(x, tf.constant(flag)), expected, rtol=1e-5, atol=1e-5)
