"""FlowBijector: one evaluation for output and log-det, no stale value, context, composition."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tfflows import analysis, bijectors, condition, distributions, evaluation, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions

SHAPE = [2, 2, 4]
CONVS = 3  # Convolutions of a ConvNet.


def coupling(seed=1, shape=SHAPE, **kwargs):
    """An affine coupling whose network is not zero."""
    network = networks.build_network(
        networks.ConvNet(shape[-1], width=4, seed=seed), [*shape[:2], shape[2] // 2]
    )
    network.layers[-1].kernel.assign(
        np.random.default_rng(seed).normal(0, 0.2, network.layers[-1].kernel.shape)
    )
    return bijectors.Coupling(network, shape, transforms.Affine(), **kwargs)


def parts():
    """ActNorm, a 1x1 convolution and two couplings: six convolutions and one matrix product."""
    return [
        bijectors.ActNorm.trainable([None, None, 4]),
        bijectors.InvertibleConv1x1.trainable([None, None, 4], seed=3),
        coupling(1),
        coupling(2, reverse=True),
    ]


def multi_scale():
    levels = [
        bijectors.Sequential([bijectors.Squeeze(), *parts()], name="first"),
        bijectors.Sequential([bijectors.Squeeze(), coupling(5, [1, 1, 8])], name="second"),
    ]
    return bijectors.MultiScale(levels, [4, 4, 1])


FLOWS = {
    "coupling": (lambda: tfb.Invert(coupling()), SHAPE, CONVS, 0),
    "inverse": (lambda: bijectors.Sequential(parts()), SHAPE, 2 * CONVS, 1),
    "sequential": (lambda: tfb.Invert(bijectors.Sequential(parts())), SHAPE, 2 * CONVS, 1),
    "chain": (lambda: tfb.Invert(tfb.Chain(parts()[::-1])), SHAPE, 2 * CONVS, 1),
    "chain of inverts": (
        lambda: tfb.Chain([tfb.Invert(b) for b in [tfb.Scale(2.0), *parts()]]),
        SHAPE,
        2 * CONVS,
        1,
    ),
    "multi-scale": (lambda: tfb.Invert(multi_scale()), [16], 3 * CONVS, 1),
}


def model_of(flow, base_shape):
    return tfd.TransformedDistribution(distributions.standard_normal(base_shape), flow)


def operations(function, *specs):
    """Counts the convolutions and matrix products of a traced function."""
    graph = tf.function(function).get_concrete_function(*specs).graph
    types = [operation.type for operation in graph.get_operations()]
    return types.count("Conv2D"), types.count("MatMul")


def images(batch=3, shape=SHAPE, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=[batch, *shape]), tf.float32)


@pytest.fixture(params=FLOWS)
def counted(request):
    make, base_shape, convs, products = FLOWS[request.param]
    return model_of(make(), base_shape), (convs, products)


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


class CountingNetwork(tf.Module):
    """Shift and scale from one weight; counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable([[0.3, -0.2, 0.5, 0.1]])
        self.calls = 0

    def __call__(self, a):
        self.calls += 1
        return tf.tanh(a[:, :1] + a[:, 1:]) * self.weight


def test_eager_log_prob_evaluates_the_network_once():
    network = CountingNetwork()
    model = model_of(tfb.Invert(bijectors.Coupling(network, [4], transforms.Affine())), [4])
    model.log_prob(images(shape=[4]))
    assert network.calls == 1


def test_forward_and_log_det_evaluates_each_part_once_in_eager_mode():
    networks_ = [CountingNetwork() for _ in range(3)]
    flow = tfb.Chain([bijectors.Coupling(n, [4], transforms.Affine()) for n in networks_])
    evaluation.forward_and_log_det(flow, images(shape=[4]))
    assert [n.calls for n in networks_] == [1, 1, 1]


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


# Context.


class ContextNetwork(tf.Module):
    """Shift and log-scale of two numbers, linear in a context of one."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable([[0.5, -1.0, 0.3, 0.2]])
        self.calls = 0

    def __call__(self, a, context):
        self.calls += 1
        return context * self.weight + 0.1 * tf.reduce_sum(a, -1, keepdims=True)


def conditional(**kwargs):
    return bijectors.Coupling(
        ContextNetwork(), [4], transforms.Affine(), conditional=True, **kwargs
    )


CONTEXT = tf.constant([[-1.0], [0.5], [2.0]])


def one_by_one(flow, x):
    """`forward` of each example with a context of its own."""
    rows = [
        condition(flow, CONTEXT[i]).forward(x[i]) if isinstance(flow, tfb.Bijector) else None
        for i in range(len(x))
    ]
    return tf.stack(rows)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: bijectors.Sequential([a, tfb.Scale(2.0), b]),
        lambda a, b: tfb.Chain([a, tfb.Scale(2.0), b]),
        lambda a, b: tfb.Invert(tfb.Chain([a, bijectors.Flip(), tfb.Invert(b)])),
        lambda a, b: bijectors.Sequential([tfb.Invert(bijectors.Sequential([a, b]))]),
    ],
    ids=["sequential", "chain", "invert", "nested"],
)
def test_condition_reaches_every_part(wrap):
    first, second = conditional(), conditional(reverse=True)
    flow = wrap(first, second)
    bound = condition(flow, CONTEXT)
    assert type(bound) is type(flow)
    assert bound.experimental_batch_shape(x_event_ndims=1) == [3]
    assert {v.ref() for v in bound.trainable_variables} == {
        v.ref() for v in flow.trainable_variables
    }
    x = images(shape=[4])
    y = bound.forward(x)
    assert first.network.calls and second.network.calls
    np.testing.assert_allclose(y, one_by_one(flow, x), rtol=1e-5)
    np.testing.assert_allclose(bound.inverse(tf.identity(y)), x, rtol=1e-4, atol=1e-5)
    other = condition(flow, CONTEXT + 1).forward(x)
    assert np.all(np.any(np.abs(other - y) > 1e-3, axis=-1))


def conditional_image_coupling(shape, context_shape):
    network = networks.ConvNet(shape[-1], width=4, seed=1)
    networks.build_network(network, [*shape[:2], shape[2] // 2], context_shape)
    network.layers[-1].kernel.assign(np.full(network.layers[-1].kernel.shape, 0.1))
    return bijectors.Coupling(network, shape, transforms.Affine(), conditional=True)


def test_condition_reaches_the_levels_of_a_multi_scale_flow():
    shape = [4, 4, 1]
    levels = [
        bijectors.Sequential([bijectors.Squeeze(), conditional_image_coupling([2, 2, 4], shape)]),
        bijectors.Sequential([bijectors.Squeeze(), conditional_image_coupling([1, 1, 8], shape)]),
    ]
    flow = bijectors.MultiScale(levels, shape)
    model = model_of(tfb.Invert(flow), [16])
    x, context = images(2, shape), images(2, shape, seed=5)
    bound = condition(model, context)
    assert bound.batch_shape == [2]
    assert bound.event_shape == shape
    log_prob = bound.log_prob(x)
    for i in range(2):
        alone = condition(model, context[i]).log_prob(x[i])
        np.testing.assert_allclose(log_prob[i], alone, rtol=1e-4)
    latents = condition(flow, context).forward(x)
    moved = np.any(latents != condition(flow, context + 1.0).forward(x), axis=0)
    # Both levels: half of the first level's four channels, half of the second's eight.
    assert moved[: flow.latent_sizes[0]].any()
    assert moved[flow.latent_sizes[0] :].any()


def test_conditioned_distribution_samples_for_every_context():
    model = model_of(bijectors.Sequential([conditional(), tfb.Shift(1.0)]), [4])
    bound = condition(model, CONTEXT)
    assert bound.batch_shape == [3]
    x = bound.sample(5, seed=1)
    assert x.shape == [5, 3, 4]
    log_prob = bound.log_prob(x)
    assert log_prob.shape == [5, 3]
    alone = condition(model, CONTEXT[1]).log_prob(x[:, 1])
    np.testing.assert_allclose(log_prob[:, 1], alone, rtol=1e-5)
    # The original is as it was: without a context.
    with pytest.raises(ValueError, match=r"has no context: bind one with `tfflows\.condition"):
        model.log_prob(x)


def test_conditional_flow_without_context_names_the_layer():
    flow = bijectors.Sequential([conditional(name="second_coupling")])
    with pytest.raises(ValueError, match="`Coupling` named 'second_coupling' is conditional"):
        flow.forward(tf.zeros([3, 4]))


def test_condition_refuses_what_takes_no_context():
    for model in (coupling(), bijectors.Sequential(parts()), tfd.Normal(0.0, 1.0)):
        with pytest.raises(ValueError, match="`model` must have a conditional part"):
            condition(model, CONTEXT)


def test_context_gets_gradients():
    flow = bijectors.Sequential([conditional()])
    context = tf.Variable(CONTEXT)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(condition(flow, tf.identity(context)).forward(x) ** 2)
        return tape.gradient(loss, [context, *flow.trainable_variables])

    for gradient in gradients(images(shape=[4])):
        assert np.any(gradient != 0)


# Looking into a flow.


def test_observers_see_parts_in_order_and_the_whole_last():
    names, inputs = [], []
    inner = tfb.Chain([tfb.Scale(2.0, name="third"), tfb.Shift(1.0, name="second")], name="chain")
    flow = bijectors.Sequential([tfb.Exp(name="first"), inner], name="whole")
    with evaluation.observe_layers(
        before=lambda b, x: inputs.append(b.name), after=lambda b, x, y, d: names.append(b.name)
    ):
        evaluation.forward_and_log_det(flow, tf.zeros([2]))
    assert [n for n in inputs if n != "chain"] == ["whole", "first", "second", "third"]
    assert [n for n in names if n != "chain"] == ["first", "second", "third", "whole"]
    evaluation.forward_and_log_det(flow, tf.zeros([2]))
    assert len([n for n in names if n != "chain"]) == 4  # Nobody watches any more.


def test_observers_see_inputs_outputs_and_log_dets():
    flow = bijectors.Sequential(parts())
    x = images()
    records = analysis.record_layers(flow, x)
    assert [r.bijector for r in records] == [*flow.bijectors, flow]
    for before, after in zip(records, records[1:-1], strict=False):
        assert after.input is before.output
    whole = records[-1]
    np.testing.assert_array_equal(whole.output, records[-2].output)
    np.testing.assert_allclose(whole.log_det, sum(r.log_det for r in records[:-1]), rtol=1e-6)


@pytest.mark.parametrize("wrap", [bijectors.Sequential, lambda p: tfb.Chain(p[::-1])])
def test_initialize_standardises_every_act_norm_in_order(wrap):
    layers = [
        bijectors.ActNorm.trainable([None, None, 4], name="first"),
        bijectors.InvertibleConv1x1.trainable([None, None, 4], seed=3),
        coupling(1),
        bijectors.ActNorm.trainable([None, None, 4], name="second"),
        coupling(2, reverse=True),
        bijectors.ActNorm.trainable([None, None, 4], name="third"),
    ]
    flow, x = wrap(layers), 5.0 + 3.0 * images(200)
    evaluation.initialize(flow, x)
    outputs = {
        r.name: r.output
        for r in analysis.record_layers(flow, x)
        if isinstance(r.bijector, bijectors.ActNorm)
    }
    assert list(outputs) == ["first", "second", "third"]
    for output in outputs.values():
        mean, variance = tf.nn.moments(output, [0, 1, 2])
        np.testing.assert_allclose(mean, 0.0, atol=1e-4)
        np.testing.assert_allclose(variance, 1.0, rtol=1e-3)


def test_first_non_finite_layer_is_found():
    layers = parts()
    flow, x = bijectors.Sequential(layers), images()
    assert analysis.first_non_finite(flow, x) is None
    layers[2].network.layers[0].bias.assign(np.full(4, np.nan))
    assert analysis.first_non_finite(flow, x).bijector is layers[2]


def test_round_trip_error_is_not_answered_from_memory():
    class Broken(bijectors.FlowBijector):
        def __init__(self):
            super().__init__(forward_min_event_ndims=1, parameters={})

        def _forward_and_log_det(self, x):
            return x + 1.0, tf.zeros([])

        def _inverse_and_log_det(self, y):
            return y, tf.zeros([])

    np.testing.assert_allclose(analysis.round_trip_error(Broken(), tf.zeros([3, 2])), tf.ones([3]))
    assert np.max(analysis.round_trip_error(coupling(), images())) < 1e-5


@pytest.mark.parametrize("jit", [False, True])
def test_round_trip_error_of_an_inverse_that_is_nan_is_nan(jit):
    x = tf.constant([[1.0, 2.0], [1.0, -1.0]])
    flow = tfb.Inline(
        forward_fn=lambda x: x,
        inverse_fn=tf.math.log,
        forward_min_event_ndims=1,
        is_constant_jacobian=True,
    )
    error = tf.function(lambda x: analysis.round_trip_error(flow, x), jit_compile=jit)(x)
    np.testing.assert_array_equal(np.isnan(error), [False, True])
    assert error[0] > 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: tfb.Chain(parts()[::-1]),
        lambda: tfb.Invert(tfb.Chain(parts())),
        lambda: tfb.Chain([tfb.Invert(coupling()), tfb.Softplus(), bijectors.Flip()]),
        lambda: tfb.Invert(bijectors.Sequential([tfb.Softsign(), tfb.Invert(coupling())])),
        lambda: tfb.Tanh(),
    ],
)
def test_forward_and_log_det_equals_the_separate_methods(make):
    flow, x = make(), 0.3 * images()
    y, log_det = evaluation.forward_and_log_det(flow, x, event_ndims=3)
    np.testing.assert_allclose(y, flow.forward(tf.identity(x)), rtol=1e-5, atol=1e-6)
    expected = flow.forward_log_det_jacobian(tf.identity(x), 3)
    np.testing.assert_allclose(
        np.broadcast_to(log_det, [3]), np.broadcast_to(expected, [3]), rtol=1e-4, atol=1e-5
    )
    back, log_det = evaluation.inverse_and_log_det(flow, tf.identity(y), event_ndims=3)
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)
    expected = flow.inverse_log_det_jacobian(tf.identity(y), 3)
    np.testing.assert_allclose(
        np.broadcast_to(log_det, [3]), np.broadcast_to(expected, [3]), rtol=1e-4, atol=1e-5
    )


# With the rest of TFP.


def test_mixture_of_conditioned_flows():
    model = model_of(tfb.Invert(conditional()), [4])
    components = condition(model, CONTEXT)
    mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=[0.2, 0.3, 0.5]), components)
    x = images(shape=[4])
    parts_ = np.stack([condition(model, c).log_prob(x) for c in CONTEXT])
    expected = np.log(np.sum(np.exp(parts_) * [[0.2], [0.3], [0.5]], axis=0))
    np.testing.assert_allclose(mixture.log_prob(x), expected, rtol=1e-5)
    assert mixture.sample(7, seed=1).shape == [7, 4]


def test_joint_and_independent_distributions():
    model = model_of(tfb.Invert(coupling()), SHAPE)
    joint = tfd.JointDistributionSequential(
        [model, lambda z: tfd.Independent(tfd.Normal(z, 1.0), 3)]
    )
    z, x = joint.sample(2, seed=[1, 2])
    expected = model.log_prob(z) + tf.reduce_sum(tfd.Normal(z, 1.0).log_prob(x), [1, 2, 3])
    np.testing.assert_allclose(joint.log_prob(z, x), expected, rtol=1e-5)
    batch = condition(model_of(conditional(), [4]), CONTEXT)
    together = tfd.Independent(batch, 1)
    y = images(shape=[4])
    np.testing.assert_allclose(together.log_prob(y), np.sum(batch.log_prob(y)), rtol=1e-5)


# Bad input.


def test_unbuilt_network_is_refused():
    with pytest.raises(ValueError, match=r"`Coupling` needs a network that is built.*False"):
        bijectors.Coupling(networks.ConvNet(4), SHAPE, transforms.Affine())


def test_wrong_shapes_of_the_inverse_name_argument_and_shape():
    flow = multi_scale()
    with pytest.raises(ValueError, match=r"`MultiScale` expected `y` .*\[16\].*\(2, 15\)"):
        flow.inverse(tf.zeros([2, 15]))
    with pytest.raises(ValueError, match=r"`MultiScale` expected `x` .*\[4, 4, 1\].*\(4, 1\)"):
        flow.forward_log_det_jacobian(tf.zeros([4, 1]), 3)
    with pytest.raises(TypeError, match=r"`MultiScale` expected `y` of dtype float32.*float64"):
        flow.inverse(tf.zeros([2, 16], tf.float64))


def test_a_bijector_without_an_inverse_says_so():
    class OneWay(bijectors.FlowBijector):
        def __init__(self):
            super().__init__(forward_min_event_ndims=0, parameters={})

        def _forward_and_log_det(self, x):
            return 2.0 * x, tf.math.log(2.0)

    np.testing.assert_allclose(OneWay().forward(1.5), 3.0)
    with pytest.raises(NotImplementedError, match="OneWay has no inverse"):
        OneWay().inverse(1.0)


def test_variables_have_names_that_follow_from_the_structure():
    flow = bijectors.Sequential([bijectors.ActNorm.trainable([None, None, 4]), coupling()])
    named = tfflows.variables.named_variables(flow)
    assert len(named) == len(flow.variables) == 8
    other = bijectors.Sequential(
        [bijectors.ActNorm.trainable([None, None, 4], name="other"), coupling(7)]
    )
    assert list(tfflows.variables.named_variables(other)) == list(named)
    assert named["bijectors/0/shift"] is flow.bijectors[0].variables[1] or (
        named["bijectors/0/shift"] is flow.bijectors[0].variables[0]
    )
