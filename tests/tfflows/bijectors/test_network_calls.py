"""How networks are called: `training`, losses, what they would assign, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, condition, distributions, evaluation, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions
K = keras.layers


def start(seed=1):
    return keras.initializers.RandomNormal(stddev=0.3, seed=seed)


def dense(units, seed=1, **kwargs):
    return K.Dense(units, kernel_initializer=start(seed), **kwargs)


@keras.saving.register_keras_serializable(package="tests")
class Doubled(K.Layer):
    """A dense layer that puts out twice as much in training, and knows how it was called."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = dense(units)

    def call(self, x, context=None, training=None):
        self.last = training
        h = self.dense(x if context is None else keras.ops.concatenate([x, context], -1))
        return 2.0 * h if training else h

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def built(layer, *shapes):
    return networks.build_network(layer, *shapes)


def coupling(network, **kwargs):
    return bijectors.Coupling(network, [2], transforms.Affine("exp"), **kwargs)


def density(flow, shape=(2,)):
    base = distributions.standard_normal(list(shape))
    return tfd.TransformedDistribution(base, tfb.Invert(flow))


def points(count=5, size=2):
    return tf.random.stateless_normal([count, size], [3, 4])


def conditional():
    network = built(Doubled(2), [1], [1])
    return network, condition(coupling(network, conditional=True), tf.ones([5, 1]))


def dual():
    first, second = built(Doubled(2), [1]), built(Doubled(2), [1])
    return first, bijectors.DualAffineCoupling([first, second], [2], scale="exp")


def residual():
    network = built(Doubled(2), [2])
    network.dense.kernel.assign(0.1 * tf.eye(2))
    return network, bijectors.ResidualFlow(network, [2])


def sylvester():
    class Both(Doubled):
        """`f(u)`, which depends on entries before, and its diagonal."""

        def call(self, x, training=None):
            value = super().call(x[..., :1], training=training)
            return value * tf.constant([0.0, 1.0]), tf.zeros_like(value)

    network = built(Both(2), [2])
    return network, bijectors.Sylvester(tf.linalg.LinearOperatorIdentity(2), network)


def masked():
    class Masked(Doubled):
        def call(self, x, training=None):
            value = super().call(x[..., :1], training=training)
            return tf.stack([tf.zeros_like(value), value], -2)

    network = built(Masked(2), [2])
    return network, tfb.Invert(tfb.MaskedAutoregressiveFlow(networks.as_module(network)))


def single(wrap):
    network = built(Doubled(2), [1])
    return network, wrap(coupling(network))


HOLDERS = {
    "coupling": lambda: single(lambda flow: flow),
    "chain": lambda: single(lambda flow: tfb.Chain([tfb.Shift(1.0), tfb.Invert(flow)])),
    "block": lambda: single(lambda flow: bijectors.Block([flow])),
    "conditional": conditional,
    "dual": dual,
    "residual": residual,
    "sylvester": sylvester,
    "masked": masked,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_training_reaches_the_networks_of_every_holder(name):
    network, flow = HOLDERS[name]()
    x = points()
    outside, _ = evaluation.forward_and_log_det(flow, x)
    assert network.last is False
    with evaluation.calling_networks():
        inside, log_det = evaluation.forward_and_log_det(flow, x)
        assert network.last is True
        back, inverse_log_det = evaluation.inverse_and_log_det(flow, tf.identity(inside))
    assert np.abs(inside - outside).max() > 1e-2
    np.testing.assert_allclose(back, x, atol=1e-5)
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-5)
    with evaluation.calling_networks(training=False):
        np.testing.assert_allclose(flow.forward(x), outside, rtol=1e-6)
    network.trainable = False  # What is frozen is as outside of training.
    if name != "dual":
        with evaluation.calling_networks():
            np.testing.assert_allclose(flow.forward(tf.identity(x)), outside, rtol=1e-6)


def test_nothing_remembered_crosses_a_block():
    _, flow = HOLDERS["coupling"]()
    x = points()

    def values():
        outside = flow.forward(x)
        with evaluation.calling_networks():
            inside = flow.forward(x)
        return outside, inside, flow.forward(x)

    for outside, inside, again in (values(), tf.function(values)()):
        assert np.abs(inside - outside).max() > 1e-2
        np.testing.assert_array_equal(outside, again)


def test_a_keras_layer_around_a_flow_hands_training_on():
    network, flow = HOLDERS["coupling"]()

    class Around(K.Layer):
        def call(self, x):
            return flow.forward(x)

    Around()(points(), training=True)
    assert network.last is True
    Around()(points())
    assert network.last is None or network.last is False


# Losses.


class Noisy(K.Layer):
    """A dense layer that adds a loss of its own, 1/2 of the mean square of its output."""

    def __init__(self, units, seed):
        super().__init__()
        self.dense = dense(units, seed)

    def call(self, x):
        y = self.dense(x)
        self.add_loss(keras.ops.mean(y**2) / 2)
        return y

    def get_config(self):
        return {"units": 1}


def loss_network(seed):
    layers = [dense(3, seed, activity_regularizer=keras.regularizers.L2(0.3)), Noisy(2, seed + 1)]
    return keras.Sequential([keras.Input([1]), *layers])


def expected_losses(nets, x):
    """The losses of couplings in a row, by hand; the first entry moves the second."""
    total, a = 0.0, x[:, :1]
    for net in nets:
        h = net.layers[0](a)
        total += 0.3 * tf.reduce_mean(tf.reduce_sum(h**2, -1))
        total += tf.reduce_mean(net.layers[1].dense(h) ** 2) / 2
    return total


MODES = {
    "store": {},
    "recompute": {"memory": "recompute"},
    "invert": {"memory": "invert"},
    "loop": {"looping": True},
    "loop_invert": {"memory": "invert", "looping": True},
}


@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
@pytest.mark.parametrize("mode", MODES)
def test_losses_and_their_gradients_are_those_of_every_mode(mode, jit):
    nets = [loss_network(10 * seed) for seed in range(1, 4)]
    flow = bijectors.Sequential([coupling(net) for net in nets])
    model, variables = density(flow), flow.trainable_variables
    x = points()

    def loss_and_gradients(memory="store", looping=False):
        with tf.GradientTape() as tape:
            with (
                evaluation.memory(memory),
                evaluation.looping(looping),
                evaluation.calling_networks() as calls,
            ):
                nll = -tf.reduce_mean(model.log_prob(x))
            losses = tf.add_n(calls.losses)
            total = nll + losses
        return nll, losses, *tape.gradient(total, variables)

    with tf.GradientTape() as tape:
        nll = -tf.reduce_mean(model.log_prob(x))
        losses = expected_losses(nets, x)
        total = nll + losses
    expected = [nll, losses, *tape.gradient(total, variables)]
    run = loss_and_gradients
    if jit is not None:
        run = tf.function(lambda: loss_and_gradients(**MODES[mode]), jit_compile=jit)
        results = run()
    else:
        results = run(**MODES[mode])
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-4, atol=1e-6)


def test_losses_of_residual_and_sylvester_flows_count_once_in_both_directions():
    network = built(
        networks.LipschitzNet(2, width=3, kernel_sizes=(1, 1), activity_regularizer="l2"), [2]
    )
    for variable in network.trainable_variables:
        variable.assign_add(0.1 * tf.ones(variable.shape))
    masked = built(networks.MaskedConvNet(2, width=4, activity_regularizer="l2"), [2, 2, 2])
    x = points(8, 8)
    sylvester = bijectors.ConvSylvester.trainable([2, 2, 2], masked, seed=1)
    for flow, value in (
        (bijectors.ResidualFlow(network, [2]), x[:, :2]),
        (sylvester, tf.reshape(x, [8, 2, 2, 2])),
    ):
        with evaluation.calling_networks() as there:
            y = tf.identity(evaluation.forward_and_log_det(flow, value)[0])
        with evaluation.calling_networks() as back:
            evaluation.inverse_and_log_det(flow, y)
        assert len(there.losses) == len(back.losses) == 1
        np.testing.assert_allclose(there.losses[0], back.losses[0], rtol=1e-4)
        assert there.losses[0] > 0


def test_losses_in_a_loop_of_tfp_are_an_error():
    network = built(networks.MaskedMLP(2, 2, width=4, activity_regularizer="l2"), [2])
    flow = tfb.MaskedAutoregressiveFlow(networks.as_module(network))
    with evaluation.calling_networks() as calls:
        flow.inverse(points())
        assert len(calls.losses) == 1
        with pytest.raises(ValueError, match="must not be called inside of a loop"):
            tf.function(flow.forward)(points())


# What networks assign to.


class Counting(K.Layer):
    """Counts the calls in training."""

    def __init__(self):
        super().__init__()
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=None):
        if training:
            self.count.assign_add(1.0)
        return x


@pytest.mark.parametrize("memory", ["store", "recompute", "invert"])
def test_variables_are_assigned_to_once_and_when_told(memory):
    counting = Counting()
    net = keras.Sequential([keras.Input([1]), counting, dense(2)])
    flow = bijectors.Sequential([coupling(net), tfb.Scale(2.0)])

    def step(x):
        mode = evaluation.memory(memory)
        with tf.GradientTape() as tape, mode, evaluation.calling_networks() as calls:
            loss = tf.reduce_sum(flow.forward(x))
        gradients = tape.gradient(loss, flow.trainable_variables)
        assert len(gradients) == 2
        before = counting.count.value.read_value()
        calls.assign_updates()
        return before

    assert step(points()) == 0 and tf.function(step)(points()) == 1
    assert counting.count.numpy() == 2
    flow.forward(points(3))
    assert counting.count.numpy() == 2


# What makes a flow no bijection.


class TensorFlowNoise(K.Layer):
    def call(self, x, training=None):
        return x + tf.random.normal(tf.shape(x)) if training else x


class KerasNoise(K.Layer):
    def call(self, x, training=None):
        return x * keras.random.uniform(keras.ops.shape(x)) if training else x


class AlwaysNoise(K.Layer):
    def call(self, x):
        return x * keras.random.uniform(keras.ops.shape(x))


class BatchCentre(K.Layer):
    def call(self, x, training=None):
        return x - keras.ops.mean(x, 0, keepdims=True) if training else x


def functional_centre():
    inputs = keras.Input([1])
    h = dense(3)(inputs)
    return keras.Model(inputs, dense(2)(h - keras.ops.mean(h, 0, keepdims=True)))


def between(*layers):
    return keras.Sequential([keras.Input([1]), dense(4), *layers, K.Dense(2)])


class Nested(K.Layer):
    """Layers in a layer that does not know of `training`."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def zero_last(*layers):
    """What couplings start as: the last layer hides what is before it."""
    last = K.Dense(2, kernel_initializer="zeros")
    return keras.Sequential([keras.Input([1]), dense(4), *layers, last])


REFUSED = {
    "dropout": lambda: (zero_last(K.Dropout(0.5)), "'dropout.*Dropout.*draws random numbers"),
    "rare": lambda: (between(K.Dropout(1e-6)), "draws random numbers"),
    "gaussian_dropout": lambda: (between(K.GaussianDropout(0.5)), "draws random numbers"),
    "gaussian_noise": lambda: (between(K.GaussianNoise(0.1)), "GaussianNoise.*draws random"),
    "alpha_dropout": lambda: (between(K.AlphaDropout(0.1)), "draws random numbers"),
    "nested": lambda: (between(Nested(Nested(K.Dropout(0.5)))), "Dropout.*draws random numbers"),
    "attention": lambda: (
        between(K.Reshape([4, 1]), Attention(), K.Flatten()),
        "Dropout.*draws random numbers",
    ),
    "batch_norm": lambda: (
        zero_last(K.BatchNormalization()),
        r"BatchNormalization.*statistics of a batch.*layer\.trainable = False.*Deterministic",
    ),
    "tensorflow_noise": lambda: (zero_last(TensorFlowNoise()), "it is random"),
    "keras_noise": lambda: (zero_last(KerasNoise()), "draws random numbers|it is random"),
    "batch_centre": lambda: (zero_last(BatchCentre()), "other events of the batch change it"),
    "functional": lambda: (functional_centre(), "other events of the batch change it"),
    "lambda": lambda: (
        between(K.Lambda(lambda h: h - keras.ops.max(h, 0, keepdims=True))),
        "other events of the batch change it",
    ),
}


class Attention(K.Layer):
    def __init__(self):
        super().__init__()
        self.attention = K.MultiHeadAttention(1, 2, dropout=0.5)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return self.attention(x, x)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_a_flow_no_bijection_is_refused_in_training(name, graph):
    network, message = REFUSED[name]()
    flow = coupling(network)

    def train(x):
        with evaluation.calling_networks():
            return flow.forward(x)

    state = [v.numpy() for v in network.variables]
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            (tf.function(train) if graph else train)(points())
    for variable, value in zip(network.variables, state, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    flow.forward(points())  # Otherwise they are inert.
    with evaluation.calling_networks(training=False):
        flow.forward(points(3))
    calm = coupling(networks.Deterministic(network))
    if name not in ("functional", "lambda"):  # These are none outside of training either.
        with evaluation.calling_networks():
            y = calm.forward(points())
        np.testing.assert_allclose(y, flow.forward(points()), rtol=1e-6)


def frozen(layer):
    layer.trainable = False
    return layer


class Calm(Nested):
    """Never hands `training` on."""

    def call(self, x):
        return self.inner(x, training=False)


ACCEPTED = {
    "no_dropout": lambda: between(K.Dropout(0.0)),
    "frozen_batch_norm": lambda: between(frozen(K.BatchNormalization())),
    "deterministic": lambda: between(networks.Deterministic(K.BatchNormalization())),
    "outside_of_training": lambda: between(Calm(K.Dropout(0.5))),
    "frozen_network": lambda: frozen(between(K.Dropout(0.5))),
    "layer_norm": lambda: between(K.LayerNormalization(), K.GroupNormalization(2)),
    "spectral_norm": lambda: between(K.SpectralNormalization(dense(4))),
    "custom": lambda: between(Nested(K.Dense(4))),
    "doubled": lambda: between(Doubled(3)),
}


def test_random_numbers_of_what_is_frozen_are_no_update_of_its_own():
    flow = coupling(frozen(zero_last(AlwaysNoise())))
    with evaluation.calling_networks() as calls:
        flow.forward(points())
    calls.assign_updates()
    assert calls.updates == {}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_a_function_of_each_event_is_not_refused(name):
    flow = coupling(ACCEPTED[name]())
    with evaluation.calling_networks():
        y = flow.forward(points())
        np.testing.assert_allclose(flow.inverse(tf.identity(y)), points(), atol=1e-5)


def test_a_deterministic_layer_is_saved_with_what_it_wraps(tmp_path):
    network = between(networks.Deterministic(K.BatchNormalization()))
    path = str(tmp_path / "network.keras")
    network.save(path)
    x = tf.ones([3, 1])
    np.testing.assert_allclose(keras.models.load_model(path)(x), network(x), rtol=1e-6)
    whole = networks.Deterministic(network)
    assert [id(v) for v in whole.variables] == [id(v) for v in network.variables]
