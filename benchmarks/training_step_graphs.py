"""The graphs that `benchmarks.training_step` times.

To be imported after `measuring.set_up_tensorflow`.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

import tfflows
from benchmarks import measuring
from benchmarks.training_step import GROUPS, STEP
from tfflows import bijectors, evaluation
from trainers.runs import schedules
from zoo import registry
from zoo.architectures import glow

MIXING = (bijectors.InvertibleConv1x1, bijectors.ConvExponential)


@dataclasses.dataclass(frozen=True)
class Part:
    """A network or a layer, at the place of the model where it was found.

    Attributes:
      function: maps `x` to a list of outputs.
      x: its input for a batch of images.
      variables: what it is differentiated by, beside `x`.
    """

    function: Callable[[tf.Tensor], list[tf.Tensor]]
    x: tf.Tensor
    variables: Sequence[tf.Variable]


def configure(shards: int):
    """Gives TensorFlow all cores, divided among the shards; before the first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(measuring.num_threads() // shards or 1)
    tf.config.threading.set_inter_op_parallelism_threads(measuring.num_threads())


def make_graphs(name: str, shards: int) -> tuple[dict[str, Callable[[], object]], int]:
    """Returns the functions to time, of no arguments, and the batch size.

    Args:
      name: a model of the zoo with the architecture of `zoo.architectures.glow.glow`.
      shards: parts of a batch that are evaluated side by side, as the trainers do.
    """
    entry = registry.find(name)
    size = entry.recipe.batch_size
    images = _random_images(entry, size)
    model = _compiled_model(entry.build(), entry.recipe, shards)
    model.initialize(images)
    _perturb(model.trainable_weights)
    networks, mixing = find_parts(model.distribution, images)
    rest = _compiled_model(without_networks_and_mixing(model.distribution), entry.recipe, shards)
    graphs = {
        STEP: _step(model, images),
        GROUPS[0]: forward_and_gradients(networks, shards),
        GROUPS[1]: forward_and_gradients(mixing, shards),
        GROUPS[2]: _step(rest, images),
    }
    return graphs, size


def _random_images(entry, count):
    """Returns noise: what a step costs does not depend on the data."""
    shape = [count, *entry.event_shape]
    return tf.constant(np.random.default_rng(0).integers(entry.num_levels, size=shape), tf.uint8)


def _perturb(variables):
    """Adds noise to weights: last layers start at zero, and so would all gradients before them."""
    for i, variable in enumerate(variables):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [0, i], stddev=0.01))


def _compiled_model(distribution, recipe, shards):
    """Returns the `FlowModel` as `trainers.train` makes it, but for a learning rate of 0.

    The two models share variables, and hundreds of steps on one batch of noise would diverge.
    """
    recipe = dataclasses.replace(recipe, learning_rate=0.0)
    model = tfflows.FlowModel(distribution, shards=shards)
    model.compile(schedules.make_optimizer(recipe, steps_per_pass=1000))
    model.optimizer.build(model.trainable_weights)
    return model


def _step(model, images):
    """Returns a function that trains on `images` once, as `fit` does."""
    step = tf.function(model.train_step, autograph=False)
    return lambda: step(images)


def find_parts(distribution, images) -> tuple[list[Part], list[Part]]:
    """Returns the coupling networks and the mixing layers, in order of evaluation, with inputs.

    Args:
      distribution: a `Dequantized` distribution of a flow.
      images: a batch.
    """
    networks, mixing = [], []

    def record(bijector, x):
        if isinstance(bijector, MIXING):
            mixing.append(_layer_part(bijector, x))
        elif isinstance(bijector, bijectors.Coupling):
            networks.append(_network_part(bijector, x))

    values, _ = distribution.dequantize(images, seed=[0, 0])
    with evaluation.observe_layers(before=record):
        evaluation.forward_and_log_det(distribution.distribution.bijector.bijector, values)
    return networks, mixing


def _layer_part(layer, x):
    """Returns output and log-det of a layer as a `Part`."""
    return Part(
        lambda x: list(evaluation.forward_and_log_det(layer, x)), x, layer.trainable_variables
    )


def _network_part(coupling, x):
    """Returns the network of a coupling as a `Part`; it sees the first half of the channels."""
    network = coupling.network
    variables = [variable.value for variable in network.trainable_variables]
    return Part(lambda x: [network(x)], x[..., : x.shape[-1] // 2], variables)


def forward_and_gradients(parts: list[Part], shards: int) -> Callable[[], object]:
    """Returns a function that runs all parts, then all their gradients in reverse order.

    Each waits for the one before in its shard, as in the model; else independent parts would share
    the cores in ways that they can't in a step. The gradient with respect to an output is the
    output itself: any `Tensor` will do that is not a constant, which the graph could fold.
    """

    def chain(inputs):
        tapes, gradients, done = [], [], []
        for part, x in zip(parts, inputs, strict=True):
            with tf.GradientTape() as tape, tf.control_dependencies(done):
                x = tf.identity(x)
                tape.watch(x)
                done = part.function(x)
            tapes.append((tape, done, [x, *part.variables]))
        for tape, outputs, sources in reversed(tapes):
            with tf.control_dependencies(done):
                weights = [tf.identity(output) for output in outputs]
                found = tape.gradient(outputs, sources, weights)
            done = found[:1]
            gradients.append(found)
        return gradients

    @tf.function(autograph=False)
    def run(inputs):
        return [chain(shard) for shard in zip(*(tf.split(x, shards) for x in inputs), strict=True)]

    inputs = [part.x for part in parts]
    return lambda: run(inputs)


class NetworkStandIn(tf.Module):
    """Has the variables of a network, for the optimiser, but only repeats its input.

    Args:
      network: a Keras layer whose output has twice as many channels as its input.
    """

    def __init__(self, network):
        super().__init__()
        self._network_variables = [variable.value for variable in network.variables]

    def __call__(self, x):
        """Maps `[N, H, W, C]` to `[N, H, W, 2 C]`."""
        return tf.concat([x, x], axis=-1)


def without_networks_and_mixing(distribution):
    """Returns the `Dequantized` distribution with networks replaced and no mixing layers."""
    flow = distribution.distribution.bijector.bijector
    levels = []
    for level in flow.levels:
        parts = [part for part in level.bijectors if not isinstance(part, MIXING)]
        levels.append(level.copy(bijectors=[_without_network(part) for part in parts]))
    return glow.image_flow(levels, distribution.event_shape, distribution.num_levels)


def _without_network(part):
    if isinstance(part, bijectors.Coupling):
        return part.copy(network=NetworkStandIn(part.network))
    return part
