"""How networks are called: in training or not, with what they say beside their output."""

import contextlib
import functools
import inspect
import itertools
import threading
import weakref

import keras
import tensorflow as tf

from tfflows import _tensorflow
from tfflows._keras import networks_of, read_variables
from tfflows.numerics.rows import with_rows

_MUST = "must be a function of each event alone, but"
_REMEDY = "or make it deterministic: `tfflows.networks.Deterministic(layer)`"


class _State(threading.local):  # The replicas of a strategy are threads.
    calls = None


_state = _State()
_numbers = itertools.count(1)
_checked = weakref.WeakKeyDictionary()  # What the networks that were looked at were like.


class Calls:
    """What networks called inside of a `calling_networks` block say beside their output.

    Attributes:
      training: whether they are called as in training.
      losses: their losses, scalars: activity regularizers, and what they gave to `add_loss`.
      updates: for each Keras variable that they would assign to, the variable and its new value.
    """

    def __init__(self, training):
        self.training = training
        self.losses = []
        self.updates = {}
        self.number = next(_numbers)
        self._graph = _graph()

    def total(self, dtype):
        """Returns the sum of the losses in a list, which is empty if there are none."""
        return [tf.add_n([tf.cast(loss, dtype) for loss in self.losses])] if self.losses else []

    def add(self, losses, updates=None):
        """Adds losses and updates, of the graph that the block was opened in."""
        if (losses or updates) and _graph() is not self._graph:
            raise ValueError(
                "A network that has losses, or assigns to variables, must not be called inside of "
                "a loop: what it says is not known outside. "
                f"Received: {len(losses)} losses, {len(updates or {})} variables."
            )
        self.losses += losses
        self.updates |= updates or {}

    def assign_updates(self):
        """Gives the variables their new values."""
        for variable, value in self.updates.values():
            variable.assign(value)


def _graph():
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


@contextlib.contextmanager
def calling_networks(training=True):
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
    flow = bijectors.AffineCoupling(network, [2])
    with tf.GradientTape() as tape, evaluation.calling_networks() as calls:
        y, log_det = evaluation.forward_and_log_det(flow, tf.ones([8, 2]))
        loss = tf.reduce_mean(tf.reduce_sum(y**2, -1) / 2 - log_det) + tf.add_n(calls.losses)
    gradients = tape.gradient(loss, flow.trainable_variables)
    ```
    """
    before, _state.calls = _state.calls, Calls(training)
    try:
        yield _state.calls
    finally:
        _state.calls = before


@contextlib.contextmanager
def apart():
    """Calls networks as the block around does, with what they say apart from it.

    Yields:
      A `Calls`; `None` outside of all `calling_networks` blocks.
    """
    if _state.calls is None:
        yield None
        return
    with calling_networks(_state.calls.training) as calls:
        yield calls


def as_now(function):
    """Returns `function`, which will call networks as they are called now."""
    training = None if _state.calls is None else _state.calls.training

    def call(*args):
        if training is None:
            return function(*args)
        with calling_networks(training):
            return function(*args)

    return call


def current():
    """Returns the `Calls` of the block around, or `None`."""
    return _state.calls


def number():
    """Returns the number of the block around, which no other one has, or 0."""
    return 0 if _state.calls is None else _state.calls.number


def add(losses):
    """Adds losses to the `Calls` of the block around."""
    if losses:
        _state.calls.add(losses)


def apply(network, *args):
    """Returns what a network makes of its arguments: the one call of a network in tfflows.

    Args:
      network: a callable.
      *args: tensors, with one batch dimension.
    """
    if getattr(network, "takes_empty_batches", False):
        return _apply(network, *args)
    return with_rows(functools.partial(_apply, network), *args)


def _apply(network, *args):
    calls = _state.calls
    if not isinstance(network, keras.layers.Layer):
        if calls is None or not _takes_training(network):
            return network(*args)
        return network(*args, training=calls.training)
    read_variables(network)  # Tapes are to watch what is trainable now.
    if calls is None:
        inherits = _tensorflow.is_inside_keras_call()
        return network(*args) if inherits else network(*args, training=False)
    training = calls.training and network.trainable
    if training:
        _check_function(network, args)
    output, scope, updates = _call(network, args, training)
    if training:
        _check_updates(network, updates)
    calls.add(scope.losses, updates)
    return output


def prepared(network):
    """Returns a network as a function to call again and again with the same variables.

    Args:
      network: a callable; its method `prepared`, if it has one, returns the function after having
        computed all that does not depend on the input.
    """
    if not hasattr(network, "prepared"):
        return functools.partial(apply, network)
    if isinstance(network, keras.layers.Layer):
        read_variables(network)
    return network.prepared()


def _takes_training(function):
    try:
        return "training" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _call(network, args, training, values=()):
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


# What the variables of networks ask for.


def weight_losses(module):
    """Returns the losses of the regularizers of the networks' weights, those that are trained.

    Args:
      module: any `tfb.Bijector` or `tfd.Distribution`.
    """
    return [v.regularizer(v) for v in _trained(module) if v.regularizer is not None]


def apply_constraints(module):
    """Gives the weights of networks that have a constraint the values that it makes of them."""
    for variable in _trained(module):
        if variable.constraint is not None:
            assign(variable, variable.constraint(variable))


def assign(variable, value):
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


# What makes a flow no bijection.


def _check_updates(network, updates):
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


def told(message):
    """Returns what an error that was raised in a traced function says of networks, or `None`."""
    return message[message.rindex("In training ") :].strip() if _MUST in message else None


def _check_function(network, args):
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
        output, _, _ = _call(network, events, True, values)
        rows = [tf.reshape(part, [len(events[0]), -1]) for part in tf.nest.flatten(output)]
        return tf.concat([tf.cast(part, tf.float32) for part in rows], axis=-1)

    return evaluate(events), evaluate(events), evaluate([event[:1] for event in events])
