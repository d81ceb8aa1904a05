"""Layers that repeat as one loop: the same numbers and variables, in a graph that does not grow."""

import copy
import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
import zoo
from tests.contract.table import ROWS, inputs
from tests.tfflows.small_layers import SHAPE, conv, conv_net
from tfflows import FlowModel, bijectors, evaluation, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions


def noisy(part, size=0.03):
    """Gives every variable a value of its own."""
    for number, variable in enumerate(part.trainable_variables):
        variable.assign_add(
            size * tf.random.stateless_normal(variable.shape, [1, number], dtype=variable.dtype)
        )
    return part


def coupling(seed, context_shape=None, dtype=tf.float32):
    return bijectors.Coupling(
        conv_net(4, 10 * seed + 3, context_shape, dtype=dtype),
        SHAPE,
        transforms.Affine(),
        conditional=context_shape is not None,
        dtype=dtype,
    )


def block(seed, dtype=tf.float32):
    """A block of couplings, of convolutions, of splines, and of what TFP has."""
    hats = [conv_net(2 * 5, 10 * seed + i, dtype=dtype) for i in (1, 2)]
    options = {"dtype": dtype}
    scale = tfb.Scale(tf.Variable(2.0, dtype=dtype))
    shift = tfb.Shift(tfp.util.TransformedVariable(tf.ones([4], dtype), scale))
    rate = tfb.Scale(tfp.util.DeferredTensor(tf.Variable(tf.zeros([4], dtype)), tf.exp))
    return bijectors.Block(
        [
            bijectors.ActNorm.trainable([None, None, 4], name=f"norm{seed}", **options),
            bijectors.StridedConv.trainable([None, None, 4], stride=1, **options),
            bijectors.DualAffineCoupling(hats, SHAPE, dtype=dtype),
            bijectors.Flip([-1]),
            tfb.Chain([rate, shift, tfb.Invert(coupling(seed, dtype=dtype))]),
            bijectors.RationalQuadraticActivation.trainable([None, None, 4], num_bins=4, **options),
        ]
    )


@pytest.fixture(scope="module")
def deep():
    """A layer, three blocks that are alike, and another layer."""
    first, last = (
        bijectors.ActNorm.trainable([None, None, 4]),
        bijectors.ConvExponential.trainable(SHAPE, seed=9),
    )
    return noisy(
        bijectors.Sequential([first, bijectors.Repeat(block(seed) for seed in range(3)), last])
    )


@pytest.fixture(scope="module")
def copies(deep):
    """A function that runs `deep` layer by layer, once for each way."""
    return functools.cache(
        lambda inverse, jit: run(deep, events(), False, inverse=inverse, jit=jit)
    )


def events(count=3, dtype=tf.float32):
    return tf.random.stateless_normal([count, *SHAPE], [0, 7], dtype=dtype)


def run(part, x, loop, memory="store", inverse=False, jit=False, sources=None, event_ndims=3):
    """Returns output, log-det and the gradients of a sum of both, and the graph."""
    function = evaluation.inverse_and_log_det if inverse else evaluation.forward_and_log_det

    def evaluate(x):
        watched = [x, *part.trainable_variables] if sources is None else sources
        with (
            tf.GradientTape() as tape,
            evaluation.looping(loop),
            evaluation.memory(memory),
            evaluation.estimating(3),
        ):
            tape.watch(watched)
            y, log_det = function(part, x, event_ndims=event_ndims)
            log_det = tf.broadcast_to(log_det, tf.shape(y)[:-event_ndims])
            weights = tf.cos(tf.range(tf.size(y), dtype=y.dtype))
            loss = tf.reduce_sum(tf.reshape(y, [-1]) * weights) + 0.3 * tf.reduce_sum(log_det)
        return y, log_det, tape.gradient(loss, watched, unconnected_gradients="zero")

    step = tf.function(evaluate, jit_compile=jit, autograph=False).get_concrete_function(x)
    return step(x), step.graph.as_graph_def().node


def loops_of(nodes):
    return sum(node.op in ("While", "StatelessWhile") for node in nodes)


def assert_same(actual, expected, tolerance):
    """Compares values; of those next to 0, with the largest."""
    expected = [np.asarray(value) for value in tf.nest.flatten(expected)]
    largest = max(np.max(np.abs(value), initial=0.0) for value in expected)
    assert largest > 0
    for one, other in zip(tf.nest.flatten(actual), expected, strict=True):
        np.testing.assert_allclose(one, other, tolerance, tolerance * largest / 30)


QUICK = [("store", False, True), ("invert", False, False)]
CASES = itertools.product(("store", "recompute", "invert"), (False, True), (False, True))


@pytest.mark.parametrize(
    "memory, jit, inverse",
    [pytest.param(*c, marks=[] if c in QUICK else pytest.mark.slow) for c in CASES],
)
def test_values_and_gradients_are_those_of_the_copies(deep, copies, memory, jit, inverse):
    expected, without = copies(inverse, jit)
    actual, nodes = run(deep, events(), True, memory, inverse, jit)
    assert_same(actual, expected, 1e-4)
    assert loops_of(without) == 0
    assert loops_of(nodes) == 2  # There and back.


def test_xla_compiles_loops_to_the_same_values(deep, copies):
    expected, _ = copies(False, False)
    actual, _ = run(deep, events(), True, jit=True)
    assert_same(actual, expected, 1e-4)


def test_graphs_do_not_grow_with_the_repetitions():
    """But for what reads and stacks each variable."""
    sizes = []
    for count in (4, 12):
        part = bijectors.Sequential(
            [
                bijectors.Repeat(
                    bijectors.RationalQuadraticActivation.trainable([None, None, 2], num_bins=4)
                    for _ in range(count)
                )
            ]
        )
        _, nodes = run(part, tf.ones([2, 3, 3, 2]), True)
        variables = sum(node.op in ("ReadVariableOp", "Placeholder", "Unpack") for node in nodes)
        sizes.append((len(nodes) - variables) / 1.0)
        assert loops_of(nodes) == 2
    assert sizes[1] - sizes[0] < 8 * 4 * 4  # Eight more of four variables each.


@pytest.mark.parametrize("memory", ["store", "invert"])
def test_a_series_that_repeats_may_have_parts_that_repeat(memory):
    def turn():
        norms = [bijectors.ActNorm.trainable([2]) for _ in range(3)]
        return bijectors.Sequential([bijectors.Repeat(norms), bijectors.Flip(event_ndims=1)])

    part = noisy(bijectors.Sequential([bijectors.Repeat(turn() for _ in range(3))]))
    x = tf.constant([[1.0, 2.0], [3.0, -1.0]])
    for inverse in (False, True):
        expected, _ = run(part, x, False, inverse=inverse, event_ndims=1)
        actual, nodes = run(part, x, True, memory, inverse, event_ndims=1)
        assert_same(actual, expected, 1e-4)
        assert loops_of(nodes) == 2


def test_layers_that_take_turns_repeat_together():
    """The period is two; one of three layers in the middle is not like the others."""

    def pair(seed, size):
        return [
            bijectors.ConvExponential.trainable(SHAPE, kernel_size=size, seed=seed),
            bijectors.Flip([-1]),
        ]

    first, last = ([pair(seed, 3) for seed in seeds] for seeds in (range(3), range(10, 14)))
    part = bijectors.Sequential([bijectors.Repeat(first), *pair(7, 5), bijectors.Repeat(last)])
    expected, _ = run(part, events(), False)
    actual, nodes = run(part, events(), True)
    assert_same(actual, expected, 1e-5)
    assert loops_of(nodes) == 4


def sharing():
    """The first turn has one variable where the others have two."""
    shift = tf.Variable(tf.ones([4]))
    variables = [tf.Variable(value * tf.ones([4])) for value in (2.0, 3.0)]
    return [
        [tfb.Shift(one), tfb.Invert(tfb.Shift(two))]
        for one, two in ((shift, shift), *2 * [variables])
    ]


LOOPLESS = {
    "sharing between layers": sharing,
    "not trainable": lambda: [conv(3, seed, norm="power_iteration") for seed in range(3)],
    "no variables": lambda: [bijectors.Flip([-1])] * 4,
    "two": lambda: [conv(3, seed) for seed in range(2)],
}


@pytest.mark.parametrize("name", LOOPLESS)
def test_what_loops_could_not_express_does_not_loop(name):
    part = bijectors.Sequential([bijectors.Repeat(LOOPLESS[name]())])
    before, nodes = run(part, events(), False)
    own = loops_of(nodes)  # Some layers have loops of their own.
    expected, actual = before, run(part, events(), True)
    assert_same(actual[0], expected, 1e-5)
    assert loops_of(actual[1]) == own


def test_squeezes_in_a_row_are_alike_and_see_other_shapes():
    part = bijectors.Sequential([bijectors.Repeat([bijectors.Squeeze()] * 3)])
    y, nodes = run(part, tf.random.stateless_normal([2, 8, 8, 1], [1, 2]), True)
    assert y[0].shape == [2, 1, 1, 64]
    assert loops_of(nodes) == 0


def test_weights_that_are_shared():
    """One layer three times: its gradient is the sum over all."""
    norm = bijectors.ActNorm.trainable([None, None, 4])
    layer = noisy(bijectors.Block([norm, coupling(1)]))
    part = bijectors.Sequential([bijectors.Repeat([layer] * 3)])
    expected, _ = run(part, events(), False)
    actual, nodes = run(part, events(), True)
    assert_same(actual, expected, 1e-4)
    assert loops_of(nodes) == 2


def test_networks_wrapped_for_bijectors_of_tfp():
    def layer(seed):
        network = networks.MaskedMLP(num_dims=3, num_params=2, width=8, seed=seed)
        network = networks.build_network(network, [3])
        return tfb.MaskedAutoregressiveFlow(networks.as_module(network))

    part = noisy(bijectors.Sequential([bijectors.Repeat(layer(seed) for seed in range(3))]))
    x = tf.random.stateless_normal([5, 3], [1, 2])
    expected, without = run(part, x, False, inverse=True, event_ndims=1)
    actual, nodes = run(part, x, True, inverse=True, event_ndims=1)
    assert_same(actual, expected, 1e-5)
    assert loops_of(nodes) > loops_of(without)


@pytest.mark.parametrize("memory", [pytest.param("store", marks=pytest.mark.slow), "invert"])
def test_gradients_reach_what_a_context_comes_from(memory):
    norm, flip = bijectors.ActNorm.trainable, bijectors.Flip([-1])
    turns = [[norm(SHAPE), tfb.Invert(coupling(seed, [4, 4, 3])), flip] for seed in range(3)]
    part = noisy(bijectors.Sequential([bijectors.Repeat(turns)]))
    weight = tf.Variable(0.7)
    features = tf.random.stateless_normal([3, 4, 4, 3], [5, 6])

    def gradient(loop, x):
        @tf.function(autograph=False)
        def step():
            with tf.GradientTape() as tape:
                bound = tfflows.condition(part, tf.tanh(weight * features))
                with evaluation.looping(loop), evaluation.memory(memory):
                    y, log_det = evaluation.forward_and_log_det(bound, x, event_ndims=3)
                loss = tf.reduce_mean(y**2) - tf.reduce_mean(log_det)
            return y, tape.gradient(loss, weight)

        return step()

    for x in (events(), events(1)[0]):  # A batch of events, and one for all contexts.
        (y, expected), (again, actual) = gradient(False, x), gradient(True, x)
        assert_same(again, y, 1e-5)
        assert abs(float(expected)) > 1e-4
        np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_batches_of_unknown_size_and_double_precision():
    part = noisy(
        bijectors.Sequential([bijectors.Repeat(block(seed, dtype=tf.float64) for seed in range(3))])
    )
    expected = evaluation.forward_and_log_det(part, events(dtype=tf.float64))

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float64)], autograph=False)
    def forward(x):
        with evaluation.looping():
            return evaluation.forward_and_log_det(part, x)

    for count in (3, 5, 0):
        y, log_det = forward(events(count, tf.float64))
        assert (y.shape, log_det.shape) == ((count, *SHAPE), (count,))
    y, log_det = forward(events(dtype=tf.float64))
    assert_same([y, log_det], list(expected), 1e-12)


def test_nothing_loops_in_eager_mode_or_when_watched(deep):
    names = []
    after = lambda bijector, *_: names.append(bijector.name)  # noqa: E731

    @tf.function(autograph=False)
    def forward(x):
        with evaluation.looping():
            return evaluation.forward_and_log_det(deep, x)

    with evaluation.observe_layers(after=after):
        nodes = forward.get_concrete_function(events()).graph.as_graph_def().node
    assert loops_of(nodes) == 0
    assert names.count("block") == 3
    with evaluation.looping():
        y, _ = evaluation.forward_and_log_det(deep, events())
    np.testing.assert_array_equal(y, evaluation.forward_and_log_det(deep, events())[0])


SMALL = {"image_shape": (4, 4, 1), "num_levels": 16, "steps": [3, 1], "widths": [8, 8]}


def model(loop, strategy=None, **kwargs):
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        density = zoo.build("glow.digits", **SMALL)
        flow_model = FlowModel(noisy(density, 0.02), loop=loop, **kwargs)
        flow_model.compile(keras.optimizers.SGD(1e-3, global_clipnorm=1.0))
    return flow_model


@pytest.mark.parametrize(
    "where", [*(pytest.param(w, marks=pytest.mark.slow) for w in ("one", "shards")), "replicas"]
)
def test_training_takes_the_same_steps(where, two_replicas):
    strategy = two_replicas if where == "replicas" else None
    images = np.random.default_rng(0).integers(0, 16, [8, 4, 4, 1]).astype("uint8")
    ends = []
    for loop in (False, True):
        trained = model(loop, strategy, shards=2 if where == "shards" else 1)
        data = tf.data.Dataset.from_tensors(images).repeat(2)
        losses = trained.fit(data, verbose=0).history["bits_per_dim"]
        ends.append([losses, *(tf.convert_to_tensor(v).numpy() for v in trained.weights)])
    assert_same(ends[1], ends[0], 1e-4)


def test_weights_of_either_way_load_in_the_other(tmp_path):
    looped, plain = model(True), model(False)
    plain.distribution.trainable_variables[0].assign_add(tf.ones([4]))
    plain.save_weights(tmp_path / "plain.weights.h5")
    looped.load_weights(tmp_path / "plain.weights.h5")
    x = np.ones([2, 4, 4, 1], np.uint8)
    looped_values = tf.function(looped.call, autograph=False)(x)
    np.testing.assert_allclose(looped_values, plain.call(x), rtol=1e-5)


WITH_VARIABLES = [row for row in ROWS if row.num_variables and not row.slow]
# Variables in objects that are neither bijectors nor layers of Keras, or that are not trained.
WITHOUT_LOOPS = {
    "conv_exponential_power_iteration",
    "coupling_rational_quadratic",
    "coupling_scalar",
    "coupling_vector",
    "matvec_exponential_dense",
    "matvec_exponential_kronecker",
    "sylvester_dense",
    "sylvester_householder",
    "sylvester_operator",
    "sylvester_triangular",
}

SOME = {"act_norm", "conv_exponential", "conv_exponential_power_iteration"}
SOME |= {"coupling_conditional", "coupling_vector", "residual_flow_dense"}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(r, id=r.name, marks=[] if r.name in SOME else pytest.mark.slow)
        for r in WITH_VARIABLES
    ],
)
def test_every_bijector_loops_or_stays_what_it_is(row):
    first = row.make(tf.float32)
    x = inputs(row, tf.float32)
    if first.forward_event_shape(x.shape[-len(row.event_shape) :]) != row.event_shape:
        pytest.skip("Can't follow itself.")
    parts = [noisy(copy.deepcopy(first), 0.02 * number) for number in range(1, 4)]
    part = bijectors.Sequential([bijectors.Repeat(parts)])
    expected, without = run(part, x, False, event_ndims=len(row.event_shape))
    actual, nodes = run(part, x, True, event_ndims=len(row.event_shape))
    assert_same(actual, expected, 1e-3)
    assert (loops_of(nodes) == loops_of(without)) == (row.name in WITHOUT_LOOPS)
