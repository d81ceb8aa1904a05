"""What is frozen: left out of `trainable_variables` everywhere, and by `fit`."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tests.contract.table import ROWS
from tfflows import FlowModel, bijectors, condition, distributions, networks
from tfflows.bijectors import transforms
from tfflows.variables import named_variables

tfb = tfp.bijectors
tfd = tfp.distributions


def dense_network(seed=1, inputs=2):
    """Two dense layers that do not start at zero: four variables."""
    start = keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    layers = [keras.layers.Dense(n, kernel_initializer=start) for n in (3, 2)]
    return keras.Sequential([keras.Input([inputs - 1]), *layers])


def coupling(network, **kwargs):
    return bijectors.Coupling(network, [2], transforms.Affine(), **kwargs)


def density(flow, size=2):
    base = distributions.standard_normal([size])
    return tfd.TransformedDistribution(base, tfb.Invert(flow))


class Joined(keras.layers.Layer):
    """A conditioner with a context."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x, context):
        return self.dense(keras.ops.concatenate([x, context], -1))


def conditional():
    network = networks.build_network(Joined(), [1], [1])
    return network, condition(density(coupling(network, conditional=True)), tf.ones([3, 1]))


def dequantized():
    """A variational dequantiser, of whose two networks one makes the context."""
    noise = networks.build_network(networks.ConvNet(4, width=2), [2, 2, 1], [2, 2, 2])
    context = networks.build_network(networks.ConvNet(2, width=2), [2, 2, 3])
    flow = bijectors.Coupling(noise, [2, 2, 3], transforms.Affine(), conditional=True)
    base = distributions.standard_normal([2, 2, 3])
    noise_of = tfd.TransformedDistribution(base, tfb.Chain([tfb.Sigmoid(), flow]))
    image = distributions.standard_normal([2, 2, 3])
    dequantizer = distributions.FlowDequantizer(noise_of, context)
    return context, distributions.Dequantized(image, dequantizer=dequantizer)


def two_networks():
    first, second = dense_network(1), dense_network(2)
    return first, bijectors.DualAffineCoupling([first, second], [2], scale="exp")


def residual():
    network = networks.build_network(networks.LipschitzNet(2, width=3, kernel_sizes=(1, 1)), [2])
    return network, bijectors.ResidualFlow(network, [2])


def sylvester():
    network = networks.build_network(networks.MaskedConvNet(2, width=4), [2, 2, 2])
    return network, bijectors.ConvSylvester.trainable([2, 2, 2], network, seed=1)


def masked():
    network = networks.build_network(networks.MaskedMLP(2, 2, width=4), [2])
    return network, tfb.MaskedAutoregressiveFlow(networks.as_module(network))


def wrapped(wrap):
    network = dense_network()
    return network, wrap(coupling(network))


HOLDERS = {
    "coupling": lambda: wrapped(lambda flow: flow),
    "invert": lambda: wrapped(tfb.Invert),
    "chain": lambda: wrapped(lambda flow: tfb.Chain([tfb.Shift(1.0), flow])),
    "sequential": lambda: wrapped(lambda flow: bijectors.Sequential([flow, flow])),
    "block": lambda: wrapped(lambda flow: bijectors.Block([flow])),
    "distribution": lambda: wrapped(density),
    "independent": lambda: wrapped(lambda flow: tfd.Independent(density(flow))),
    "model": lambda: wrapped(lambda flow: FlowModel(density(flow))),
    "dual": two_networks,
    "residual": residual,
    "sylvester": sylvester,
    "masked": masked,
    "conditional": conditional,
    "dequantized": dequantized,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_a_frozen_network_is_not_trainable_wherever_it_is_held(name):
    network, holder = HOLDERS[name]()
    everything, before = refs(holder.variables), refs(holder.trainable_variables)
    assert before == everything
    own = {v.value.ref() for v in network.variables}
    network.trainable = False
    assert refs(holder.trainable_variables) == before - own
    assert refs(holder.variables) == everything
    network.trainable = True
    assert refs(holder.trainable_variables) == before


def refs(variables):
    return {v.ref() for v in variables}


def test_a_network_frozen_before_the_bijector_is_made_and_one_layer_of_it():
    network = dense_network()
    network.trainable = False
    flow = density(coupling(network))
    names = list(named_variables(flow))
    assert len(flow.variables) == 4 and not flow.trainable_variables
    network.trainable = True
    network.layers[0].trainable = False
    assert refs(flow.trainable_variables) == {v.value.ref() for v in network.layers[1].variables}
    assert list(named_variables(flow)) == names
    assert len(copy.deepcopy(coupling(network)).trainable_variables) == 2


def test_variables_that_a_layer_gets_later_are_found():
    network = dense_network()
    flow = density(coupling(network))
    network.layers[0].enable_lora(1)
    assert len(flow.variables) == 6
    assert len(flow.trainable_variables) == 5  # All but the kernel.


def test_tapes_watch_what_is_trainable_now():
    network, x = dense_network(), tf.ones([3, 2])
    flow = coupling(network)
    kernel = network.layers[0].kernel.value
    for trainable in (False, True, False):
        network.trainable = trainable
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(flow.forward_log_det_jacobian(tf.identity(x)))
        assert (tape.gradient(loss, kernel) is not None) == trainable


@pytest.mark.parametrize("row", [row for row in ROWS if not row.slow], ids=lambda row: row.name)
def test_every_bijector_can_be_frozen(row):
    bijector = row.make(tf.float32)
    everything = refs(bijector.variables)
    before = refs(bijector.trainable_variables)
    tfflows.set_trainable(bijector, False)
    assert not tfb.Invert(bijector).trainable_variables
    assert refs(bijector.variables) == everything
    tfflows.set_trainable(bijector, True)
    assert refs(bijector.trainable_variables) == before


# Training.


def points(count=64):
    x = np.random.default_rng(0).normal(2.0, 3.0, [count, 2])
    return x.astype("float32")


def training_flow():
    """Two couplings and an ActNorm; returns the networks, and the flow."""
    nets = [dense_network(seed) for seed in (1, 2)]
    couplings = [coupling(net, reverse=i == 1) for i, net in enumerate(nets)]
    norm = bijectors.ActNorm.trainable([2])
    return nets, bijectors.Sequential([couplings[0], norm, couplings[1]])


def changed(variables, before):
    return [bool(np.any(v.numpy() != old)) for v, old in zip(variables, before, strict=True)]


@pytest.mark.parametrize("memory", ["store", "recompute", "invert"])
@pytest.mark.parametrize("when", ["before", "compiled", "fitted"])
def test_fit_leaves_what_is_frozen_as_it_is(memory, when):
    nets, flow = training_flow()
    if when == "before":
        nets[0].trainable = False
    model = FlowModel(density(flow), units="nats", memory=memory)
    # Weight decay would move it without any gradient.
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1))
    if when == "fitted":
        model.fit(points(), batch_size=32, verbose=0)
    nets[0].trainable = False
    frozen = [v.value for v in nets[0].variables]
    before, before_all = [v.numpy() for v in frozen], [v.numpy() for v in model.weights]
    everything = model.weights
    model.fit(points(), batch_size=32, verbose=0)
    assert not any(changed(frozen, before))
    assert sum(changed(everything, before_all)) == len(everything) - len(frozen)


def test_unfrozen_variables_are_trained_once_there_is_an_optimizer_for_them():
    nets, flow = training_flow()
    model = FlowModel(density(flow), units="nats")
    nets[0].trainable = False
    model.compile("adam")
    model.fit(points(), verbose=0)
    slots = len(model.optimizer.variables)
    nets[0].trainable = True
    with pytest.raises(ValueError, match="call `compile` again, with a new optimizer. Received"):
        model.fit(points(), verbose=0)
    model.compile("adam")
    before = [v.numpy() for v in model.trainable_weights]
    model.fit(points(), verbose=0)
    assert all(changed(model.trainable_weights, before))
    assert len(model.optimizer.variables) == slots + 2 * 4  # None was kept for what was frozen.


def test_frozen_weights_are_not_overwritten_by_their_averages():
    nets, flow = training_flow()
    model = FlowModel(density(flow), units="nats")
    model.compile(keras.optimizers.SGD(0.01, use_ema=True, ema_overwrite_frequency=1))
    model.fit(points(), verbose=0)
    nets[0].trainable = False
    with pytest.raises(ValueError, match="What is frozen has changed since the optimizer"):
        model.fit(points(), verbose=0)


def test_a_frozen_model_is_frozen_in_all_its_parts():
    nets, flow = training_flow()
    still = tf.Variable(1.0, trainable=False)
    flow = bijectors.Sequential([flow, tfb.Scale(tf.Variable(2.0)), tfb.Shift(still)])
    model = FlowModel(density(flow), units="nats")
    count = len(model.trainable_variables)
    assert len(model.variables) == count + 1
    model.trainable = False
    assert model.trainable_variables == model.trainable_weights == []
    assert len(model.non_trainable_weights) == len(model.variables) == count + 1
    assert not model.distribution.trainable_variables and not flow.trainable_variables
    assert not nets[0].trainable and not nets[1].layers[0].trainable
    before = [v.numpy() for v in model.weights]
    model.compile("adam")
    with pytest.warns(UserWarning, match="all of 'flow_model' is frozen"):
        model.fit(points(), verbose=0)
    assert not any(changed(model.weights, before))
    nets[1].trainable = True
    nets[1].layers[0].trainable = False
    assert model.trainable_variables == [] and len(flow.trainable_variables) == 2
    model.trainable = True
    assert len(model.trainable_variables) == len(flow.trainable_variables) == count
    assert not still.trainable
    assert FlowModel(density(flow), trainable=False).trainable_variables == []
    assert not flow.trainable_variables


def test_loops_leave_what_is_frozen_as_it_is():
    nets = [dense_network(seed) for seed in range(1, 5)]
    model = FlowModel(
        density(bijectors.Sequential(list(map(coupling, nets)))), units="nats", loop=True
    )
    nets[0].trainable = nets[3].layers[1].trainable = False
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1))
    everything = [v.value for net in nets for v in net.variables]
    before = [v.numpy() for v in everything]
    model.fit(points(), batch_size=32, verbose=0)
    assert changed(everything, before) == [False] * 4 + [True] * 10 + [False] * 2


def test_replicas_leave_what_is_frozen_as_it_is(two_replicas):
    with two_replicas.scope():
        nets, flow = training_flow()
        model = FlowModel(density(flow), units="nats")
        model.compile(keras.optimizers.SGD(0.01))
    nets[0].trainable = False
    assert len(model.trainable_weights) == 6
    frozen = [v.value for v in nets[0].variables]
    before = [v.numpy() for v in frozen]
    model.fit(points(), batch_size=32, verbose=0)
    assert not any(changed(frozen, before))


@pytest.mark.parametrize("scope", ["one", "two"])
def test_single_variables_are_frozen_by_their_paths(scope, two_replicas):
    strategy = two_replicas if scope == "two" else tf.distribute.get_strategy()
    with strategy.scope():
        nets, flow = training_flow()
        model = FlowModel(density(flow), units="nats", loop=True)
    named = tfflows.named_variables(model.distribution)
    before = {path: v.numpy() for path, v in named.items()}
    first = next(p for p, v in named.items() if v is nets[0].variables[0].value)
    patterns = ["*log_scale", first]
    found = tfflows.freeze(model.distribution, patterns)
    assert found == sorted([first, *(path for path in named if path.endswith("log_scale"))])
    assert tfflows.freeze(model.distribution, patterns) == found
    assert len(found) == 2
    assert len(model.trainable_weights) == len(named) - 2
    assert not nets[0].variables[0].trainable and nets[0].trainable
    with strategy.scope():
        model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1))
    model.fit(points(), batch_size=32, verbose=0)
    for path, value in before.items():
        assert np.array_equal(named[path].numpy(), value) == (path in found), path
    tfflows.set_trainable(model.distribution, True)
    assert len(model.trainable_weights) == len(named)
    assert tfflows.freeze(model.distribution, "*shift") == [p for p in named if "shift" in p]


def test_patterns_that_match_nothing_freeze_nothing():
    _, flow = training_flow()
    with pytest.raises(
        ValueError, match=r"A pattern must match .*Received: 'shift', which matches"
    ):
        tfflows.freeze(flow, ["*", "shift"])
    assert len(flow.trainable_variables) == len(flow.variables)
