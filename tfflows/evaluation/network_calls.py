"""How networks are called: in training or not, with what they say beside their output."""

import contextlib
import copy
import functools
import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfflows import _tensorflow
from tfflows._keras import Updates, call_stateless, read_variables, track
from tfflows.evaluation import determinism, state
from tfflows.numerics.parameters import as_context, as_data
from tfflows.numerics.rows import with_rows
from tfflows.numerics.shapes import with_shape
from tfflows.types import Network, TensorLike


class Calls:
    """What networks called inside of a `calling_networks` block say beside their output.

    Attributes:
      training: whether they are called as in training.
      losses: their losses, scalars: activity regularizers, and what they gave to `add_loss`.
      updates: for each Keras variable that they would assign to, the variable and its new value.
    """

    def __init__(self, training: bool) -> None:
        self.training = training
        self.losses: list[tf.Tensor] = []
        self.updates: Updates = {}
        self._graph = _graph()

    def total(self, dtype: tf.DType) -> list[tf.Tensor]:
        """Returns the sum of the losses in a list, which is empty if there are none."""
        return [tf.add_n([tf.cast(loss, dtype) for loss in self.losses])] if self.losses else []

    def add(self, losses: Sequence[tf.Tensor], updates: Updates | None = None) -> None:
        """Adds losses and updates, of the graph that the block was opened in."""
        if (losses or updates) and _graph() is not self._graph:
            raise ValueError(
                "A network that has losses, or assigns to variables, must not be called inside of "
                "a loop: what it says is not known outside. "
                f"Received: {len(losses)} losses, {len(updates or {})} variables."
            )
        self.losses += losses
        self.updates |= updates or {}

    def apart(self) -> "Calls":
        """Returns a `Calls` of networks that are called alike, which hears what they say alone."""
        return Calls(self.training)

    def assign_updates(self) -> None:
        """Gives the variables their new values."""
        for variable, value in self.updates.values():
            variable.assign(value)


def _graph():
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


@contextlib.contextmanager
def calling_networks(training: bool = True) -> Iterator[Calls]:
    """Calls networks as in training inside the `with` block, and collects what they say.

    Networks get `training=True`, those that are frozen (`network.trainable = False`) and
    `networks.Deterministic` ones `training=False`. Outside of all such blocks they get what a Keras
    layer around them gets, or else `training=False`. `FlowModel.fit` opens the block itself.

    A flow has to compute the same function forwards and backwards, of each event by itself: a
    network that draws random numbers or takes the statistics of a batch is an error.

    Networks assign to no variables: what they would assign is in the `updates` that the block
    yields, for `assign_updates()` after the step. The losses of weights are not in the `losses`,
    but in those of each Keras network, `network.losses`.

    Args:
      training: Python `bool`.

    Yields:
      A `Calls`.

    Raises:
      ValueError: if what a network computes in training is random, or depends on other events.

    #### Example

    ```python
    import keras
    import tensorflow as tf
    from tfflows import bijectors, evaluation

    network = keras.Sequential([keras.Input([1]), keras.layers.Dense(2, activity_regularizer="l2")])
    flow = bijectors.Coupling(network, [2], bijectors.transforms.Affine())
    with tf.GradientTape() as tape, evaluation.calling_networks() as calls:
        y, log_det = evaluation.forward_and_log_det(flow, tf.ones([8, 2]))
        loss = tf.reduce_mean(tf.reduce_sum(y**2, -1) / 2 - log_det) + tf.add_n(calls.losses)
    gradients = tape.gradient(loss, flow.trainable_variables)
    ```
    """
    calls = Calls(training)
    with state.evaluating(calls=calls, number=state.new_number()):
        yield calls


@contextlib.contextmanager
def apart() -> Iterator[Calls | None]:
    """Calls networks as the block around does, with what they say apart from it.

    Yields:
      A `Calls`; `None` outside of all `calling_networks` blocks.
    """
    with state.evaluating(**state.apart(state.now())):
        yield state.now().calls


def add(losses: Sequence[tf.Tensor]) -> None:
    """Adds losses to the `Calls` of the block around."""
    calls = state.now().calls
    if losses:
        assert calls is not None  # Outside of all blocks there are no losses.
        calls.add(losses)


def apply(network: Network, *args: tf.Tensor) -> Any:
    """Returns what a network makes of its arguments: the one call of a network in tfflows.

    Args:
      network: a callable.
      *args: tensors, with one batch dimension.
    """
    if getattr(network, "takes_empty_batches", False):
        return _apply(network, *args)
    return with_rows(functools.partial(_apply, network), *args)


def apply_encoder(network: Network, y: Any) -> Any:
    """Returns what a network makes of a structure of tensors, from which a context is made.

    It is called as the others are, but may be random, and mix what it sees: forwards and backwards,
    a flow gets the same context.
    """
    return _apply(network, y, is_conditioner=False)


def _apply(network, *args, is_conditioner=True):
    calls = state.now().calls
    if not isinstance(network, keras.layers.Layer):
        if calls is None or not _takes_training(network):
            return network(*args)
        return network(*args, training=calls.training)
    read_variables(network)  # Tapes are to watch what is trainable now.
    if calls is None:
        inherits = _tensorflow.is_inside_keras_call()
        return network(*args) if inherits else network(*args, training=False)
    training = calls.training and network.trainable
    if training and is_conditioner:
        determinism.check_function(network, args)
    output, scope, updates = call_stateless(network, args, training)
    if training and is_conditioner:
        determinism.check_updates(network, updates)
    # Not those of others, such as the state of Keras's random numbers, that a frozen one may draw.
    own = {
        key: (variable, value) for key, (variable, value) in updates.items() if variable is not None
    }
    calls.add(scope.losses, own)
    return output


def prepare(network: Network) -> Network:
    """Returns a network as a function to call again and again with the same variables.

    Args:
      network: a callable; its method `prepare`, if it has one, returns the function after having
        computed all that does not depend on the input.
    """
    if not hasattr(network, "prepare"):
        return functools.partial(apply, network)
    if isinstance(network, keras.layers.Layer):
        read_variables(network)
    return network.prepare()


def _takes_training(function):
    try:
        return "training" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def call_network(
    network: Network,
    x: TensorLike,
    event_ndims: int,
    context: TensorLike | None = None,
    context_ndims: int | None = None,
) -> tf.Tensor:
    """Returns `network(x)` or `network(x, context)` for any batch shape.

    Networks see exactly one batch dimension: that of `x`, flattened. The batch dimensions of the
    context broadcast against those of `x`. A Keras layer is told whether it is called in training,
    and what it says beside its output is heard, see `calling_networks`.

    Args:
      network: a callable.
      x: `[..., *event]`, with `event_ndims` event dimensions.
      event_ndims: Python `int`.
      context: `None`, or `[..., *context_event]`.
      context_ndims: number of event dimensions of the context; by default `event_ndims`.
    """
    x = as_data(x)
    batch, event = tf.shape(x)[:-event_ndims], x.shape[-event_ndims:]
    flat = tf.reshape(x, [-1, *event])
    if context is None:
        output = apply(network, flat)
    else:
        given: Any = as_context(context, x.dtype)
        ndims = event_ndims if context_ndims is None else context_ndims
        context_event = given.shape[-ndims:]
        sizes: Any = context_event
        if not context_event.is_fully_defined():
            sizes = tf.shape(given)[tf.rank(given) - ndims :]
        given = tf.broadcast_to(given, tf.concat([batch, sizes], axis=0))
        given = tf.reshape(given, tf.concat([[-1], sizes], axis=0))
        output = apply(network, flat, with_shape(given, [None, *context_event]))
    if x.shape.rank == event_ndims + 1:
        return output
    output_event = output.shape[1:]
    result = tf.reshape(output, tf.concat([batch, output_event], axis=0))
    return with_shape(result, x.shape[:-event_ndims] + output_event)


class NetworkModule(tf.Module):
    """A `tf.Module` around a network, and with no other state, whose variables it has.

    Args:
      network: a callable; a Keras layer has to be built.

    Raises:
      ValueError: if it is a layer that is not built.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(name=getattr(network, "name", None))
        self._network = track(self, network)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(copy.deepcopy(self._network, memo))

    @property
    def network(self) -> Network:
        """The network."""
        return self._network

    def __call__(self, *args: tf.Tensor) -> Any:
        """Calls the network."""
        return apply(self._network, *args)
