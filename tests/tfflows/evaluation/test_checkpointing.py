"""Layers computed again for the gradient: the same numbers, less kept, and really again.

With `"invert"`, to the rounding errors of the inverses.
"""

import functools
import itertools
import re
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.python.eager import context  # What Grappler made of a graph is not public.

import tfflows
from tfflows import FlowModel, bijectors, distributions, evaluation, networks, regularizers
from tfflows.analysis.layers import record_evaluations
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions

SHAPE = [4, 4, 4]


def conv_net(outputs, seed, channels=2, context_shape=None):
    network = networks.ConvNet(outputs, width=8, seed=seed)
    return networks.build_network(network, [4, 4, channels], context_shape)


def flow(conditional=False):
    """Two blocks, one in the other, and a coupling, a spline and a TFP bijector outside of them."""
    context_shape = [4, 4, 3] if conditional else None

    def coupling(seed):
        return bijectors.Coupling(
            conv_net(4, seed, context_shape=context_shape),
            SHAPE,
            transforms.Affine(),
            conditional=conditional,
        )

    hats = [conv_net(2 * 5, seed) for seed in (4, 5)]
    inner = bijectors.Block([coupling(1), bijectors.Flip([-1])], name="inner")
    activation = bijectors.RationalQuadraticActivation.trainable
    scale = tfb.Scale(tfp.util.TransformedVariable(tf.fill([4], 1.2), tfb.Softplus()))
    result = bijectors.Sequential(
        [
            bijectors.ActNorm.trainable([None, None, 4]),
            bijectors.Block(
                [
                    bijectors.StridedConv.trainable([None, None, 4], stride=1),
                    bijectors.DualAffineCoupling(hats, SHAPE),
                    inner,
                    scale,
                    activation(4, num_bins=4),
                ],
                name="outer",
            ),
            tfb.Chain([tfb.Shift(tf.Variable(tf.ones([4]))), tfb.Invert(coupling(2))]),
            coupling(3),
            activation(4, num_bins=4),
        ]
    )
    for number, variable in enumerate(result.trainable_variables):
        noise = tf.random.stateless_normal(variable.shape, [1, number])
        variable.assign_add(0.1 * noise)
    return result


def events(count=3, channels=4):
    return tf.random.stateless_normal([count, 4, 4, channels], [0, 7])


@pytest.fixture(scope="module")
def the_flow():
    return flow()


def loss_and_gradients(part, mode, inverse=False, x=None):
    """Returns the gradients of a loss with respect to all variables and the input."""
    x = events() if x is None else x
    function = evaluation.inverse_and_log_det if inverse else evaluation.forward_and_log_det
    with tf.GradientTape() as tape, evaluation.memory(mode):
        tape.watch(x)
        y, log_det = function(part, x, event_ndims=3)
        loss = tf.reduce_mean(tf.reduce_sum(y**2, list(range(1, y.shape.rank))) - log_det)
    sources = [x, *part.trainable_variables]
    return [loss, *tape.gradient(loss, sources, unconnected_gradients="zero")]


def compiled(mode):
    """Returns what makes a function of it: eager, a graph or XLA."""
    if mode == "eager":
        return lambda function: function
    return lambda function: tf.function(function, jit_compile=mode == "xla", autograph=False)


@pytest.fixture(scope="module")
def plain(the_flow):
    """A function that computes the gradients with everything stored, once for each way."""
    return functools.cache(
        lambda how, inverse: compiled(how)(lambda: loss_and_gradients(the_flow, "store", inverse))()
    )


@pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
@pytest.mark.parametrize("how", ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["recompute", "invert"])
def test_gradients_are_those_of_the_plain_way(the_flow, plain, mode, how, inverse):
    again = compiled(how)(lambda: loss_and_gradients(the_flow, mode, inverse))()
    stored = plain(how, inverse)
    largest = max(np.max(np.abs(value)) for value in stored[1:])
    for expected, actual in zip(stored, again, strict=True):
        assert np.any(expected != 0)
        if how == "eager" and mode == "recompute":
            np.testing.assert_array_equal(actual, expected)
        else:  # Operations are fused in other places; inverses have rounding errors.
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("how", ["eager", "graph"])
def test_gradients_reach_what_a_context_comes_from(how):
    part, weight = flow(conditional=True), tf.Variable(0.7)
    features = tf.random.stateless_normal([3, 4, 4, 3], [5, 6])

    def gradient(mode):
        with tf.GradientTape() as tape:
            bound = tfflows.condition(part, tf.tanh(weight * features))
            with evaluation.memory(mode):
                y, log_det = evaluation.forward_and_log_det(bound, events(), event_ndims=3)
            loss = tf.reduce_mean(y**2) - tf.reduce_mean(log_det)
        return tape.gradient(loss, weight)

    modes = ("store", "recompute", "invert")
    plain, *others = (compiled(how)(lambda mode=mode: gradient(mode))() for mode in modes)
    assert abs(float(plain)) > 1e-4
    np.testing.assert_allclose(others, [plain, plain], rtol=1e-5)


@pytest.mark.parametrize("how", ["eager", pytest.param("xla", marks=pytest.mark.slow)])
def test_inverting_a_flow_of_levels_keeps_no_layers(how):
    """Of levels in `Invert` in a `Chain`, with noise in the log-det, and layers of XLA."""
    lipschitz = networks.LipschitzNet(8, width=8, kernel_sizes=(3, 1, 3), seed=1)
    lipschitz = networks.build_network(lipschitz, [2, 2, 8])
    levels = [
        bijectors.Sequential(
            [
                bijectors.Squeeze(),
                bijectors.ConvExponential.trainable([2, 2, 8], seed=seed),
                tfb.Invert(bijectors.ConvExponential.trainable([2, 2, 8], seed=seed + 5)),
                bijectors.ResidualFlow(lipschitz, [2, 2, 8], log_det="unbiased"),
            ]
        )
        for seed in (1,)
    ]
    part = tfb.Chain(
        [
            bijectors.MultiScale(levels, [4, 4, 2]),
            tfb.Invert(bijectors.ActNorm.trainable([None, None, 2])),
        ]
    )
    x = events(channels=2)

    def run(mode):
        with evaluation.estimating(3):
            return loss_and_gradients(part, mode, x=x)

    plain, again = (compiled(how)(lambda mode=mode: run(mode))() for mode in ("store", "invert"))
    largest = max(np.max(np.abs(value)) for value in plain[1:])
    for expected, actual in zip(plain, again, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5 * largest)


class Differentiating(tfb.Bijector):
    """`x + x^3` as a bijector of TFP, which asks a tape for its log-det."""

    def __init__(self):
        super().__init__(forward_min_event_ndims=0, name="differentiating")

    def _forward(self, x):
        return x + x**3

    def _forward_log_det_jacobian(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = self._forward(x)
        return tf.math.log(tape.gradient(y, x))

    def _inverse(self, y):
        x = y
        for _ in range(60):
            x -= (self._forward(x) - y) / (1 + 3 * x**2)
        return x


@pytest.mark.parametrize("how", [pytest.param("eager", marks=pytest.mark.slow), "graph"])
def test_layers_may_differentiate_something_themselves(how):
    """Their tapes record, where those outside must not."""
    layers = [tfb.Invert(tfb.Invert(Differentiating()))]
    for log_det in ("exact", "unbiased"):
        network = networks.LipschitzNet(3, width=4, kernel_sizes=(1, 1), seed=1)
        networks.build_network(network, [3])
        layers.append(bijectors.ResidualFlow(network, [3], log_det=log_det))
    part = bijectors.Sequential([bijectors.Block(layers[:2]), layers[0], layers[2]])
    for variable in part.trainable_variables:
        variable.assign_add(0.3 * tf.ones_like(variable))
    x = tf.random.stateless_normal([4, 3], [1, 2])

    def run(mode):
        with tf.GradientTape() as tape, evaluation.memory(mode), evaluation.estimating(3):
            tape.watch(x)
            y, log_det = evaluation.forward_and_log_det(part, x)
        sources = [x, *part.trainable_variables]
        return [y, log_det, *tape.gradient([y, log_det], sources)]

    modes = ("store", "recompute", "invert")
    plain, *others = (compiled(how)(lambda mode=mode: run(mode))() for mode in modes)
    assert np.min(np.abs(plain[1])) > 0.01
    for again in others:
        for expected, actual in zip(plain, again, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_series_of_layers_are_evaluated_three_times():
    """Forward, backward from the output, and forward again for the gradient."""
    first, last = Counted(), Counted()
    part = bijectors.Sequential([first, bijectors.Sequential([tfb.Shift(1.0), last])])
    x = events()
    with tf.GradientTape() as tape, evaluation.memory("invert"):
        tape.watch(x)
        y, log_det = evaluation.forward_and_log_det(part, x)
    np.testing.assert_allclose(log_det, np.full(len(x), 2 * np.log(2.0)), rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(y, x), tf.fill(x.shape, 4.0))
    assert (first.count, first.inverted) == (last.count, last.inverted) == (2, 1)


def test_a_mode_that_is_none():
    with pytest.raises(ValueError, match="one of .* Received: 'none'"), evaluation.memory("none"):
        pass
    with pytest.raises(ValueError, match="`memory` must be one of .* Received: memory=True"):
        FlowModel(discrete(), memory=True)


def test_second_derivatives(the_flow):
    """A product with the Jacobian, as `volume_report` computes it, is a gradient of a gradient."""
    x, products = events(), []
    for on in (False, True):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as tape, evaluation.memory("recompute" if on else "store"):
                tape.watch(x)
                y, _ = evaluation.forward_and_log_det(the_flow, x, event_ndims=3)
            u = tf.ones_like(y)
            outer.watch(u)
            pulled = tape.gradient(y, x, u)
        products.append(outer.gradient(pulled, u, tf.ones_like(x)))
    np.testing.assert_allclose(products[1], products[0], rtol=1e-4, atol=1e-5)


class Counted(bijectors.FlowBijector):
    """Doubles, and counts how often."""

    def __init__(self):
        self.count = self.inverted = 0
        super().__init__(forward_min_event_ndims=3, parameters={}, name="counted")

    def _forward_and_log_det(self, x):
        self.count += 1
        return 2 * x, tf.math.log(2.0) * tf.ones(x.shape[:1])

    def _inverse_and_log_det(self, y):
        self.inverted += 1
        return y / 2, -tf.math.log(2.0) * tf.ones(y.shape[:1])


def test_a_block_in_a_block_is_computed_twice_not_three_times():
    counted = Counted()
    block = bijectors.Block([bijectors.Block([counted])])
    x = events()
    with tf.GradientTape() as tape, evaluation.memory("recompute"):
        tape.watch(x)
        y, _ = evaluation.forward_and_log_det(block, x)
        assert counted.count == 1
    np.testing.assert_array_equal(tape.gradient(y, x), tf.fill(x.shape, 2.0))
    assert counted.count == 2
    with evaluation.memory("recompute"):
        evaluation.forward_and_log_det(block, x)  # No tape, nothing to compute again.
    assert counted.count == 3


def test_eager_tapes_let_go_of_what_is_inside_a_block():
    alive = []

    class Wide(Counted):
        def _forward_and_log_det(self, x):
            hidden = tf.exp(tf.tile(x, [1, 1, 1, 64]))
            alive.append(hidden.ref())
            return tf.add_n(tf.split(hidden, 64, -1)), tf.zeros(x.shape[:1])

    for on in (False, True):
        x = events()
        with tf.GradientTape() as tape, evaluation.memory("recompute" if on else "store"):
            tape.watch(x)
            evaluation.forward_and_log_det(bijectors.Block([Wide()]), x)
        reference = weakref.ref(alive.pop().deref())
        assert (reference() is None) == on
        del tape


def test_observers_see_the_blocks_and_their_penalty_is_the_same(the_flow):
    penalties, names, gradients = [], [], []
    for on in (False, True):
        with tf.GradientTape() as tape:
            with record_evaluations() as records, evaluation.memory("recompute" if on else "store"):
                evaluation.forward_and_log_det(the_flow, events(), event_ndims=3)
            penalty = regularizers.transport_cost(1.0)(
                [r for r in records if r.name != "inner"], None
            )
        names.append([record.name for record in records])
        penalties.append(penalty)
        outer = the_flow.bijectors[1]
        gradients.append(tape.gradient(penalty, outer.trainable_variables))
    assert {"outer", "inner", "strided_conv"} <= set(names[0])
    coupling, spline = "coupling", "rational_quadratic_activation"
    assert names[1] == ["act_norm", "outer", coupling, "shift", coupling, spline, "sequential"]
    assert float(penalties[0]) == float(penalties[1]) > 0
    for expected, actual in zip(*gradients, strict=True):
        np.testing.assert_array_equal(actual, expected)


def count_convolutions(step, x, mode):
    """Returns the number of convolutions forward in what runs, after all optimisations."""
    if mode == "xla":
        text = step.experimental_get_compiler_ir(x)(stage="optimized_hlo")
        return len(re.findall(r" convolution\(", text))
    context.context().enable_run_metadata()
    try:
        step(x)
        metadata = context.context().export_run_metadata()
    finally:
        context.context().disable_run_metadata()
    names = {"Conv2D", "_FusedConv2D", "_MklNativeConv2D", "_MklNativeFusedConv2D"}
    counts = [
        sum(node.op in names for node in graph.post_optimization_graph.node)
        for graph in metadata.function_graphs
    ]
    return max(counts)


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_compilers_do_not_merge_the_second_evaluation_with_the_first(mode):
    layers = [
        bijectors.Coupling(conv_net(4, seed), SHAPE, transforms.Affine(), reverse=seed % 2)
        for seed in range(3)
    ]
    part = bijectors.Sequential([bijectors.Block([layer]) for layer in layers])

    def step(on):
        return compiled(mode)(lambda x: loss_and_gradients(part, on, x=x))

    ways = ("store", "recompute", "invert")
    plain, *again = (count_convolutions(step(on), events(), mode) for on in ways)
    # Three layers of two 3x3 convolutions at least; XLA may make products of matrices of the 1x1s.
    # For what is the same in both, the inverse and the second evaluation may share a network.
    assert min(again) >= plain + 6


def discrete():
    """A small flow with a block of a coupling and a spline."""
    coupling = bijectors.Coupling(conv_net(4, 1), SHAPE, transforms.Affine())
    spline = bijectors.RationalQuadraticActivation.trainable([None, None, 4], num_bins=4)
    parts = [bijectors.NormalizeImage(16), bijectors.Block([coupling, spline])]
    base = distributions.trainable_normal(SHAPE)
    density = tfd.TransformedDistribution(base, tfb.Invert(bijectors.Sequential(parts)))
    return distributions.Dequantized(density, num_levels=16)


def fit(memory, strategy=None, regularized=True, **kwargs):
    """Returns losses and weights after two steps."""
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = FlowModel(
            discrete(),
            memory=memory,
            regularizers={"cost": regularizers.transport_cost(0.1)} if regularized else None,
            **kwargs,
        )
        model.compile(keras.optimizers.SGD(1e-3, global_clipnorm=1.0))
    images = np.random.default_rng(0).integers(0, 16, [8, *SHAPE]).astype("uint8")
    batches = tf.data.Dataset.from_tensors(images).repeat(2)
    history = model.fit(batches, verbose=0).history
    assert not regularized or history["cost"][0] > 0
    return [history["bits_per_dim"], *(tf.convert_to_tensor(v).numpy() for v in model.weights)]


QUICK = [("recompute", True, "replicas"), ("invert", False, "shards")]
TRAINED = itertools.product((("recompute", True), ("invert", False)), ("one", "shards", "replicas"))


@pytest.mark.parametrize(
    "memory, regularized, where",
    [
        pytest.param(*mode, where, marks=[] if (*mode, where) in QUICK else pytest.mark.slow)
        for mode, where in TRAINED
    ],
)
def test_training_takes_the_same_steps(memory, regularized, where, two_replicas):
    strategy = two_replicas if where == "replicas" else None
    shards = 2 if where == "shards" else 1
    plain, again = (fit(mode, strategy, regularized, shards=shards) for mode in ("store", memory))
    for expected, actual in zip(plain, again, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_it_ends_with_the_block_even_after_an_error():
    with pytest.raises(KeyError), evaluation.memory("recompute"):
        raise KeyError
    counted = Counted()
    x = events()
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, _ = evaluation.forward_and_log_det(bijectors.Block([counted]), x)
    tape.gradient(y, x)
    assert counted.count == 1
