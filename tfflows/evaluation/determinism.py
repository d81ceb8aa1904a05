"""Whether a network is a function of each event alone, which makes a flow a bijection."""

import weakref
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfflows import _tensorflow
from tfflows._keras import AllUpdates, call_stateless

_MUST = "must be a function of each event alone, but"
_REMEDY = "or make it deterministic: `tfflows.networks.Deterministic(layer)`"
# What the networks that were looked at were like.
_checked: weakref.WeakKeyDictionary[keras.layers.Layer, tuple[Any, ...]] = (
    weakref.WeakKeyDictionary()
)


def check_updates(network: keras.layers.Layer, updates: AllUpdates) -> None:
    """Raises an error if a call of a network used random numbers or the statistics of a batch."""
    for layer in _tensorflow.layers_of(network):
        described = f"the layer {layer.name!r} ({type(layer).__name__}) of `network`"
        if any(id(state) in updates for state in _tensorflow.seed_states(layer)):
            raise _not_a_bijection(
                network, described, "draws random numbers: the inverse would use others", "Drop it"
            )
        if isinstance(layer, keras.layers.BatchNormalization) and any(
            id(variable) in updates for variable in layer.variables
        ):
            raise _not_a_bijection(
                network,
                described,
                "takes the statistics of a batch: the density of an event would depend on others",
                "Freeze it (`layer.trainable = False`), which is to use its moving averages,",
            )
    if any(variable is None for variable, _ in updates.values()):
        raise _not_a_bijection(
            network,
            "`network`",
            "draws random numbers, or assigns to a variable that is not its own",
            "Drop that",
        )


def _not_a_bijection(network, what, why, remedy):
    return ValueError(
        f"In training {what} {_MUST} {why}. {remedy} {_REMEDY}. Received: network={network!r}."
    )


def told(message: str) -> str | None:
    """Returns what an error that was raised in a traced function says of networks, or `None`."""
    return message[message.rindex("In training ") :].strip() if _MUST in message else None


def check_function(network: keras.layers.Layer, args: Sequence[tf.Tensor]) -> None:
    """Raises an error if a network with unknown layers is no function of each event alone.

    Keras's own layers show what they do by the variables that they assign to. Others are called on
    random inputs, with random weights, since last layers start at zero: twice, and on one event.
    """
    layers = _tensorflow.layers_of(network)
    if all(map(_tensorflow.is_known_layer, layers)):
        return
    frozen = tuple(getattr(layer, "trainable", None) for layer in layers)
    if _checked.get(network) == frozen:
        return
    with tf.init_scope():
        _tensorflow.make_global_seed()
        try:
            first, again, alone = _probe(network, args)
        except Exception:  # It may not take such inputs: then there is nothing to say.
            first = again = alone = tf.zeros([1])
        size = tf.reduce_max(tf.abs(first))
        tolerance = size * (0.1 if network.compute_dtype in ("float16", "bfloat16") else 0.01)
        if tf.reduce_max(tf.abs(first - again)) > 1e-3 * tolerance:
            raise _not_a_bijection(network, "`network`", "it is random", "Drop what is random")
        if tf.reduce_max(tf.abs(first[:1] - alone)) > tolerance:
            raise _not_a_bijection(
                network, "`network`", "other events of the batch change it", "Drop what mixes them"
            )
    _checked[network] = frozen


def _probe(network, args):
    """Returns outputs `[n, ...]` for random events, twice, and for the first of them alone."""

    def random(seed, shape, dtype):
        dtype = tf.as_dtype(dtype)
        if not dtype.is_floating:
            return tf.zeros(shape, dtype)
        return tf.cast(tf.random.stateless_normal(shape, [seed, 17]), dtype)

    events = [random(i, [4, *arg.shape[1:]], arg.dtype) for i, arg in enumerate(args)]
    values = []
    for i, variable in enumerate(network.trainable_variables):
        fan_in = max(1, tf.TensorShape(variable.shape[:-1]).num_elements())
        values.append((variable, random(i, variable.shape, variable.dtype) / fan_in**0.5))

    def evaluate(events):
        output, _, _ = call_stateless(network, events, True, values)
        rows = [tf.reshape(part, [len(events[0]), -1]) for part in tf.nest.flatten(output)]
        return tf.concat([tf.cast(part, tf.float32) for part in rows], axis=-1)

    return evaluate(events), evaluate(events), evaluate([event[:1] for event in events])
