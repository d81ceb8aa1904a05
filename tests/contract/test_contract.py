"""What every bijector must do, whatever it computes."""

import copy

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tfflows
from tests.contract.table import ROWS, inputs, perturbed
from tfflows import bijectors, evaluation
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions

# Documented tolerances, relative to the largest input: a few hundred roundings.
TOLERANCE = {tf.float32: 3e-5, tf.float64: 1e-12}

rows = pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else []) for row in ROWS],
)
dtypes = pytest.mark.parametrize("dtype", [tf.float32, tf.float64], ids=["float32", "float64"])


def assert_close(actual, desired, tolerance):
    desired = np.asarray(desired)
    scale = max(1.0, np.max(np.abs(desired), initial=0.0))
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * scale)


def four_methods(bijector, row):
    event_ndims = len(row.event_shape)
    out_ndims = bijector.forward_event_ndims(event_ndims)

    def evaluate(x):
        y = tf.identity(bijector.forward(x))
        return (
            y,
            bijector.inverse(y),
            bijector.forward_log_det_jacobian(x, event_ndims),
            bijector.inverse_log_det_jacobian(y, out_ndims),
        )

    return evaluate


@rows
@dtypes
def test_round_trip(row, dtype):
    bijector, x = perturbed(row, dtype), inputs(row, dtype)
    y = tf.identity(bijector.forward(x))
    assert_close(bijector.inverse(y), x, TOLERANCE[dtype])
    again = tf.identity(bijector.inverse(y))
    assert_close(bijector.forward(again), y, 3 * TOLERANCE[dtype])


@rows
def test_log_det_is_that_of_the_dense_jacobian(row):
    bijector, x = perturbed(row, tf.float64), inputs(row, tf.float64)
    event_ndims = len(row.event_shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = bijector.forward(x)
    size = int(np.prod(row.event_shape))
    jacobian = tf.reshape(tape.batch_jacobian(y, x), [-1, size, size])
    expected = np.linalg.slogdet(jacobian)[1]
    forward = bijector.forward_log_det_jacobian(x, event_ndims)
    inverse = bijector.inverse_log_det_jacobian(
        tf.identity(y), bijector.forward_event_ndims(event_ndims)
    )
    assert_close(np.broadcast_to(forward, expected.shape), expected, 1e-10)
    assert_close(inverse, -np.asarray(forward), 1e-10)


@rows
def test_methods_agree_in_eager_mode_graph_and_xla(row):
    bijector, x = perturbed(row, tf.float32), inputs(row, tf.float32)
    evaluate = four_methods(bijector, row)
    eager = evaluate(x)
    # In graphs without XLA, the others are those of `test_data_of_unknown_shape_in_a_graph`.
    for jit in (False, True) if row.name in NEED_SIZES else (True,):
        for actual, desired in zip(tf.function(evaluate, jit_compile=jit)(x), eager, strict=True):
            assert_close(actual, desired, 3e-5)


@rows
def test_gradients_are_finite_and_complete(row):
    bijector, x = perturbed(row, tf.float32), inputs(row, tf.float32)
    variables = bijector.trainable_variables
    assert len(variables) == row.num_variables
    event_ndims = len(row.event_shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = bijector.forward(x)
        loss = tf.reduce_sum(y**2) + tf.reduce_sum(
            bijector.forward_log_det_jacobian(x, event_ndims)
        )
    assert {id(v) for v in tape.watched_variables()} == {id(v) for v in variables}
    for gradient in tape.gradient(loss, [x, *variables]):
        assert gradient is not None
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)


@rows
@pytest.mark.parametrize("mode", [pytest.param("recompute", marks=pytest.mark.slow), "invert"])
def test_values_and_gradients_do_not_depend_on_what_is_kept(row, mode):
    bijector, x = perturbed(row, tf.float64), inputs(row, tf.float64)
    flow = tfb.Chain([bijector, tfb.Invert(bijector), bijectors.Block([bijector])])
    event_ndims = len(row.event_shape)

    def run(mode):
        with tf.GradientTape() as tape, evaluation.memory(mode), evaluation.estimating(3):
            tape.watch(x)
            y, log_det = evaluation.forward_and_log_det(flow, x, event_ndims)
            loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(log_det)
        sources = [x, *bijector.trainable_variables]
        return [y, log_det, *tape.gradient(loss, sources, unconnected_gradients="zero")]

    for actual, desired in zip(run(mode), run("store"), strict=True):
        assert_close(actual, desired, 1e-8)


@pytest.mark.parametrize(
    "name",
    [
        "emerging_conv_square_3x3",  # One XLA kernel, as the splines are.
        "rational_quadratic_activation_contractive",
        "coupling_rational_quadratic",
        "coupling_logistic_mixture",  # Its inverse iterates, in such a kernel.
        "conv_exponential",
        "multi_scale",
        "periodic_conv_3x3",
        "sylvester_dense",  # Its inverse iterates.
        "matvec_exponential_dense",  # A loop whose length is not known.
        pytest.param("conv_exponential_unconstrained", marks=pytest.mark.slow),
        "graph_conv_exponential_dense",
    ],
)
def test_forward_mode_in_a_graph(name):
    (row,) = [row for row in ROWS if row.name == name]
    bijector, x = perturbed(row, tf.float64), inputs(row, tf.float64)
    y = tf.identity(bijector.forward(x))
    step = 1e-6
    for function, value in (
        (evaluation.forward_and_log_det, x),
        (evaluation.inverse_and_log_det, y),
    ):
        tangent = tf.constant(np.random.default_rng(1).normal(size=value.shape))

        @tf.function
        def product(value, tangent, function=function):
            with tf.autodiff.ForwardAccumulator(value, tangent) as accumulator:
                results = function(bijector, value)
            return [accumulator.jvp(r, unconnected_gradients="zero") for r in results]

        pairs = [function(bijector, value + s * step * tangent) for s in (1, -1)]
        differences = [(a - b) / (2 * step) for a, b in zip(*pairs, strict=True)]
        for actual, desired in zip(product(value, tangent), differences, strict=True):
            assert_close(actual, desired, 1e-5)


@rows
@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)
def test_batch_shapes(row, batch):
    bijector = perturbed(row, tf.float32)
    if row.batch_shape:
        batch = (*batch, *row.batch_shape)
    x = inputs(row, tf.float32, batch)
    y = bijector.forward(x)
    assert y.shape == (*batch, *bijector.forward_event_shape(row.event_shape))
    assert bijector.inverse(tf.identity(y)).shape == x.shape
    log_det = bijector.forward_log_det_jacobian(x, len(row.event_shape))
    assert tf.broadcast_static_shape(log_det.shape, tf.TensorShape(batch)) == batch
    # Each event is transformed by itself.
    if batch and not row.batch_shape:
        first = (0,) * len(batch)
        assert_close(y[first], bijector.forward(x[first]), 1e-5)


def evaluate_empty_batch(bijector, row, x):
    """Returns output, preimage, both log-dets, and the gradients of all of it."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = four_methods(bijector, row)(x)
        total = tf.add_n([tf.reduce_sum(value) for value in values])
    return values, tape.gradient(total, [x, *bijector.trainable_variables])


def check_empty_batch(row, values, gradients, batch):
    y, x, *log_dets = values
    assert x.shape == (*batch, *row.event_shape)
    assert y.shape == (*batch, *row.make(tf.float32).forward_event_shape(row.event_shape))
    for log_det in log_dets:
        assert tf.broadcast_static_shape(log_det.shape, tf.TensorShape(batch)) == batch
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))


@rows
def test_empty_batch(row):
    bijector, batch = perturbed(row, tf.float32), (0, *row.batch_shape)
    x = inputs(row, tf.float32, batch)
    check_empty_batch(row, *evaluate_empty_batch(bijector, row, x), batch)


@pytest.mark.parametrize(
    "name",
    [
        "conv_exponential",
        "emerging_conv_square_3x3",
        "periodic_conv_3x3",
        "coupling_tanh",
        "residual_flow_dense",
    ],
)
def test_empty_batch_in_a_graph_that_does_not_know_the_size(name):
    (row,) = [row for row in ROWS if row.name == name]
    bijector, x = perturbed(row, tf.float32), inputs(row, tf.float32, (0,))
    spec = tf.TensorSpec([None, *row.event_shape])
    function = tf.function(lambda x: evaluate_empty_batch(bijector, row, x), input_signature=[spec])
    check_empty_batch(row, *function(x), (0,))
    (y, *_), _ = function(inputs(row, tf.float32))
    assert_close(y, bijector.forward(inputs(row, tf.float32)), 1e-5)


# Their classes take events of several sizes, and can't do so without knowing which.
NEED_SIZES = {"squeeze", "squeeze_glow", "strided_conv_plu_1", "strided_conv_plu_2"}
NEED_SIZES |= {"strided_conv_dense_2", "conv_exponential_3x5_periodic"}


@rows
@pytest.mark.parametrize("known", ["nothing", pytest.param("rank", marks=pytest.mark.slow)])
def test_data_of_unknown_shape_in_a_graph(row, known):
    bijector = perturbed(row, tf.float32)
    x = inputs(row, tf.float32, (2, *(row.batch_shape or (3,))))
    event_ndims = len(row.event_shape)
    out_ndims = bijector.forward_event_ndims(event_ndims)

    def evaluate(x, y):
        with evaluation.estimating(1):
            return (
                evaluation.forward_and_log_det(bijector, x, event_ndims),
                (bijector.forward(x), bijector.forward_log_det_jacobian(x, event_ndims)),
                (bijector.inverse(y), bijector.inverse_log_det_jacobian(y, out_ndims)),
            )

    y = tf.identity(bijector.forward(x))
    expected = evaluate(x, y)
    specs = [tf.TensorSpec(None if known == "nothing" else [None] * v.shape.rank) for v in (x, y)]
    function = tf.function(evaluate, input_signature=specs)
    if row.name in NEED_SIZES:
        with pytest.raises(ValueError, match="needs .*(static event shapes|known size).*Received"):
            function(x, y)
        return
    for part, wanted in zip(function(x, y), expected, strict=True):
        assert part[0].shape == wanted[0].shape
        assert_close(part[0], wanted[0], 1e-4)
        batch = x.shape[:-event_ndims]
        assert_close(*(np.broadcast_to(p[1], batch) for p in (part, wanted)), 1e-4)


def test_data_of_unknown_shape_are_checked_when_they_come():
    flow = bijectors.ActNorm.trainable([None, None, 3])
    forward = tf.function(flow.forward, input_signature=[tf.TensorSpec(None)])
    assert forward(tf.ones([2, 4, 4, 3])).shape == (2, 4, 4, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
        forward(tf.ones([2, 4, 4, 1]))  # Which would broadcast.


def test_data_of_unknown_shape_are_evaluated_once():
    calls = []

    def network(a):
        calls.append(a)
        return tf.concat([a, a], axis=-1)

    flow = bijectors.Coupling(network, [2], transforms.Affine())
    model = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [2]), tfb.Invert(flow))
    log_prob = tf.function(model.log_prob, input_signature=[tf.TensorSpec(None)])
    x = tf.ones([5, 4, 2])
    assert_close(log_prob(x), model.log_prob(x), 1e-6)
    assert len(calls) == 2  # One in the graph, one in eager mode.


@pytest.mark.parametrize("row", [r for r in ROWS if r.batch_shape], ids=lambda row: row.name)
def test_slices_of_a_batch(row):
    bijector, x = perturbed(row, tf.float32), inputs(row, tf.float32)
    base = tfd.Sample(tfd.Normal(0.0, 1.0), bijector.forward_event_shape(row.event_shape))
    model = tfd.TransformedDistribution(base, tfb.Invert(bijector))
    if not row.sliceable:
        for batch in (bijector, model):
            with pytest.raises(NotImplementedError, match=f"{type(bijector).__name__}. can't be"):
                batch[0]
        return
    first, last, wider = bijector[0], bijector[-1:], bijector[..., tf.newaxis]
    rank = len(row.batch_shape)
    assert first.experimental_batch_shape() == row.batch_shape[1:]
    assert last.experimental_batch_shape() == (1, *row.batch_shape[1:])
    assert wider.experimental_batch_shape() == (*row.batch_shape, 1)
    y = bijector.forward(x)
    assert_close(first.forward(x[0]), y[0], 1e-6)
    assert_close(last.forward(x[-1:]), y[-1:], 1e-6)
    assert_close(tf.squeeze(wider.forward(tf.expand_dims(x, rank)), rank), y, 1e-6)
    assert_close(model[0].log_prob(x[0]), model.log_prob(x)[0], 1e-5)


@rows
def test_inside_chain_invert_and_transformed_distribution(row):
    bijector, x = perturbed(row, tf.float32), inputs(row, tf.float32)
    event_ndims = len(row.event_shape)
    y = bijector.forward(x)
    log_det = bijector.forward_log_det_jacobian(x, event_ndims)
    chain = tfb.Chain([tfb.Scale(2.0), bijector])
    assert_close(chain.forward(tf.identity(x)), 2 * y, 1e-6)
    invert = tfb.Invert(bijector)
    assert_close(invert.inverse(tf.identity(x)), y, 1e-6)
    assert_close(invert.inverse_log_det_jacobian(tf.identity(x), event_ndims), log_det, 1e-5)
    out_shape = bijector.forward_event_shape(row.event_shape)
    base = tfd.Sample(tfd.Normal(0.0, 1.0), out_shape)
    model = tfd.TransformedDistribution(base, invert)
    assert model.event_shape == row.event_shape
    assert model.batch_shape == row.batch_shape
    assert_close(model.log_prob(x), base.log_prob(y) + log_det, 1e-5)
    if not row.onto:
        return
    assert model.sample(2, seed=1).shape == (2, *row.batch_shape, *row.event_shape)
    draws, log_prob = model.experimental_sample_and_log_prob(2, seed=1)
    assert np.all(np.isfinite(draws))
    assert_close(model.log_prob(tf.identity(draws)), log_prob, 1e-4)


@rows
def test_events_above_the_minimum_rank(row):
    """A bijector keeps the dimensions of an event that it does not know, as `tfb.Reshape` does."""
    bijector, least = perturbed(row, tf.float32), len(row.event_shape)
    leading = row.batch_shape or (5,)
    shape = (*leading, *row.event_shape)
    out_shape = (*leading, *bijector.forward_event_shape(row.event_shape))
    assert bijector.forward_event_shape(shape) == out_shape
    assert bijector.inverse_event_shape(out_shape) == shape
    np.testing.assert_array_equal(bijector.forward_event_shape_tensor(shape), out_shape)
    np.testing.assert_array_equal(bijector.inverse_event_shape_tensor(out_shape), shape)
    assert bijector.forward_event_ndims(len(shape)) == len(out_shape)
    x = inputs(row, tf.float32, (2, *leading))
    y = bijector.forward(x)
    log_det = bijector.forward_log_det_jacobian(x, least)
    log_det = np.sum(
        np.broadcast_to(log_det, (2, *leading)), axis=tuple(range(1, len(leading) + 1))
    )
    base = tfd.Sample(tfd.Normal(0.0, 1.0), out_shape)
    model = tfd.TransformedDistribution(base, tfb.Invert(bijector))
    assert model.event_shape == shape
    np.testing.assert_array_equal(model.event_shape_tensor(), shape)
    assert model.batch_shape == ()
    assert_close(model.log_prob(tf.identity(x)), base.log_prob(y) + log_det, 1e-5)
    actual = evaluation.forward_and_log_det(bijector, tf.identity(x), len(shape))[1]
    assert_close(np.broadcast_to(actual, [2]), log_det, 1e-5)
    if row.onto:
        assert model.sample(3, seed=1).shape == (3, *shape)


@rows
def test_copy_equality_hash_and_repr(row):
    bijector = row.make(tf.float32)
    twin = bijector.copy()
    assert twin is not bijector
    assert twin == bijector
    assert hash(twin) == hash(bijector)
    assert {bijector: 1}[bijector] == 1
    assert type(bijector).__name__ in repr(bijector)
    assert [v.ref() for v in twin.trainable_variables] == [
        v.ref() for v in bijector.trainable_variables
    ]
    if row.num_variables:
        assert row.make(tf.float32) != bijector


@rows
def test_checkpoint_restores_every_variable(row, tmp_path):
    bijector, other = perturbed(row, tf.float32), row.make(tf.float32)
    path = tf.train.Checkpoint(model=bijector).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    for saved, restored in zip(bijector.variables, other.variables, strict=True):
        np.testing.assert_array_equal(saved, restored)


@rows
def test_saved_model_computes_the_same(row, tmp_path):
    bijector, x = perturbed(row, tf.float32), inputs(row, tf.float32)
    module = tf.Module()
    module.bijector = bijector
    spec = tf.TensorSpec(x.shape, x.dtype)
    module.forward = tf.function(bijector.forward, input_signature=[spec])
    # Gradients, which take as long again, are saved in the tests of `trainers.export`.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(tmp_path), options=options)
    loaded = tf.saved_model.load(str(tmp_path))
    assert_close(loaded.forward(x), bijector.forward(x), 1e-6)


@rows
def test_deepcopy_and_inference_form_are_independent(row):
    bijector, x = perturbed(row, tf.float32), inputs(row, tf.float32)
    y, log_det = evaluation.forward_and_log_det(bijector, x)
    desired = [y, log_det, *evaluation.inverse_and_log_det(bijector, y)]
    twin, constant = copy.deepcopy(bijector), tfflows.for_inference(bijector)
    for variable in bijector.trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    assert_close(twin.forward(x), y, 1e-6)
    assert type(constant) is type(bijector)
    assert not constant.trainable_variables
    found = (
        *evaluation.forward_and_log_det(constant, x),
        *evaluation.inverse_and_log_det(constant, y),
    )
    for actual, value in zip(found, desired, strict=True):
        assert_close(actual, value, 1e-6)


@rows
def test_wrong_event_shape_and_dtype_name_the_class(row):
    bijector = row.make(tf.float32)
    if row.any_input:
        pytest.skip("takes any shape and dtype")
    name = type(bijector).__name__
    if row.name != "sequential_with_tfp":
        shape = [size + 1 for size in row.event_shape]
        with pytest.raises(ValueError, match=f"`{name}`"):
            bijector.forward(tf.zeros([2, *shape]))
    if bijector.dtype is not None:
        with pytest.raises(TypeError, match=f"`{name}` expected `x` of dtype float32"):
            bijector.forward(tf.zeros([3, *row.event_shape], tf.float64))


@rows
@hypothesis.settings(max_examples=4)
@hypothesis.given(data=st.data())
def test_round_trip_of_any_input(row, data):
    dtype = tf.float64
    bijector = perturbed(row, dtype)
    batch = (2, *row.batch_shape) if row.batch_shape else (5,)
    values = st.floats(row.low, row.high) if row.low == 0 else st.floats(-row.large, row.large)
    x = data.draw(hnp.arrays(np.float64, (*batch, *row.event_shape), elements=values))
    y = tf.identity(bijector.forward(tf.constant(x)))
    assert np.all(np.isfinite(y))
    assert_close(bijector.inverse(y), x, 1e-10)
