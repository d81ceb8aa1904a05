"""Keras layers inside of `tf.Module`s: their variables, unseen by `tf.Module`, and their calls."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import keras
import tensorflow as tf

from tfflows import _tensorflow
from tfflows.types import TensorLike

_T = TypeVar("_T")

# By the id of each variable that a network would assign to: the variable, and the new value.
Updates: TypeAlias = dict[int, tuple[keras.Variable, tf.Tensor]]

# The same with `None` for a variable that is not the network's own.
AllUpdates: TypeAlias = dict[int, tuple[keras.Variable | None, tf.Tensor]]


class NetworkVariables(Sequence, _tensorflow.Trackable):
    """The `tf.Variable`s of Keras layers, as an attribute in which a `tf.Module` finds them.

    They are read anew at each look, and whether they are trainable with them: freezing a layer
    (`layer.trainable = False`) counts from then on in all that holds it.

    Args:
      *networks: Keras layers that are built.
    """

    def __init__(self, *networks: keras.layers.Layer) -> None:
        self.networks = networks

    def __iter__(self) -> Iterator[tf.Variable]:
        for network in self.networks:
            yield from read_variables(network)

    def __getitem__(self, index: int | slice) -> Any:
        return list(self)[index]

    def _trackable_children(self, *args, **kwargs):
        """Names what `tf.train.Checkpoint` saves, as it names the entries of a list."""
        return {str(index): variable for index, variable in enumerate(self)}

    def __len__(self) -> int:
        return sum(len(network.variables) for network in self.networks)


def read_variables(network: keras.layers.Layer) -> list[tf.Variable]:
    """Returns the `tf.Variable`s of a Keras layer; they are as trainable as it says they are."""
    trainable = {id(variable) for variable in network.trainable_variables}
    found = []
    for variable in network.variables:
        found.append(_tensorflow.tf_variable(variable))
        _tensorflow.set_trainable(found[-1], id(variable) in trainable)
    return found


def networks_of(module: tf.Module) -> list[keras.layers.Layer]:
    """Returns the Keras layers that the parts of a bijector or distribution hold."""
    return list(module._flatten(predicate=lambda part: isinstance(part, keras.layers.Layer)))


def track(owner: tf.Module, network: _T) -> _T:
    """Makes the variables of a network part of those of a `tf.Module`; returns the network.

    One that is frozen, before or after, is not among `trainable_variables`, nor are the parts of it
    that are.

    Args:
      owner: the `tf.Module`.
      network: a callable; one that is no Keras layer has variables of its own or none.

    Raises:
      ValueError: if it is a Keras layer that is not built.
    """
    if isinstance(network, keras.layers.Layer):
        if not network.built:
            raise ValueError(
                f"`{type(owner).__name__}` needs a network that is built, so that its variables "
                "are known: call `network.build(input_shape)` or apply it once. "
                f"Received: network={network!r}, network.built=False."
            )
        known: Any = getattr(owner, "_network_variables", NetworkVariables())
        owner._network_variables = NetworkVariables(*known.networks, network)
    return network


def call_stateless(
    network: keras.layers.Layer,
    args: Sequence[tf.Tensor],
    training: bool,
    values: Iterable[tuple[keras.Variable, tf.Tensor]] = (),
) -> tuple[Any, keras.StatelessScope, AllUpdates]:
    """Returns output, scope and updates of a network that changes no variable.

    Args:
      network: a Keras layer.
      args: its arguments.
      training: whether it is called as in training.
      values: pairs of a Keras variable and the value that it is to have.
    """
    scope = keras.StatelessScope(values, collect_losses=True, initialize_variables=False)
    if (outer := _tensorflow.stateless_scope()) is not None:
        scope.state_mapping = {**outer.state_mapping, **scope.state_mapping}
    before = dict(scope.state_mapping)
    with scope:
        output = network(*args, training=training)
    known = {id(v): v for v in [*network.variables, *network.metrics_variables]}
    updates = {
        key: (known.get(key), value)
        for key, value in scope.state_mapping.items()
        if value is not before.get(key)
    }
    return output, scope, updates


def weight_losses(module: tf.Module) -> list[tf.Tensor]:
    """Returns the losses of the regularizers of the networks' weights, those that are trained.

    Args:
      module: any `tfb.Bijector` or `tfd.Distribution`.
    """
    return [v.regularizer(v) for v in _trained(module) if v.regularizer is not None]


def show_regularizers(module: tf.Module) -> None:
    """Gives all variables the attribute that a `keras.Model` around them looks for in each.

    Args:
      module: any `tfb.Bijector` or `tfd.Distribution`.
    """
    for variable in module.variables:
        variable.regularizer = None
    for network in networks_of(module):
        for variable in network.variables:
            _tensorflow.tf_variable(variable).regularizer = variable.regularizer


def apply_constraints(module: tf.Module) -> None:
    """Gives the weights of networks that have a constraint the values that it makes of them."""
    for variable in _trained(module):
        if variable.constraint is not None:
            assign(variable, variable.constraint(variable))


def assign(variable: keras.Variable, value: TensorLike) -> None:
    """Gives a Keras variable a value; that which is the mean of all replicas'."""
    value = tf.cast(value, variable.dtype)
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        variable.assign(value)
        return
    context = tf.distribute.get_replica_context()
    if value.dtype.is_floating:
        value = context.all_reduce(tf.distribute.ReduceOp.MEAN, value)

    def update(strategy, value):
        whole = _tensorflow.tf_variable(variable)
        strategy.extended.update(whole, lambda part, value: part.assign(value), args=(value,))

    context.merge_call(update, args=(value,))


def _trained(module):
    """Returns the Keras variables of the networks of a model that are trained, each once."""
    variables = [v for network in networks_of(module) for v in network.trainable_variables]
    return list({id(variable): variable for variable in variables}.values())
