"""Remembers one evaluation of a bijector, so that its output and its log-det are computed once.

`tfd.TransformedDistribution.log_prob` asks a bijector for its output and then, in a second call,
for the log-det at the same tensor. TFP answers the second call from a cache that is keyed by tensor
identity alone, which returns old values after `variable.assign`. This memo forgets instead:

- in eager mode, when the value of any variable of the bijector has changed;
- in a graph, when an operation that may write a variable has been added since;
- in both, when another gradient tape records than did then, or more than one, and where networks
  are called, or log-dets estimated, otherwise than then.
"""

import weakref
from typing import Any, Self

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import _tensorflow
from tfflows.evaluation import state


class EvaluationMemo:
    """Takes the place of TFP's bijector cache; the `Bijector` base class calls these methods.

    Used as a class attribute, like the cache that it replaces: `__get__` binds it to an instance.
    """

    def __init__(self, bijector: tfp.bijectors.Bijector | None = None) -> None:
        self._bijector = bijector

    def __get__(self, bijector: tfp.bijectors.Bijector, bijector_class: type | None = None) -> Self:
        return type(self)(bijector)

    def forward(self, x: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        """Returns `f(x)`."""
        return self._evaluate(x, inverse=False, **kwargs)[0]

    def inverse(self, y: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        """Returns `f^-1(y)`."""
        return self._evaluate(y, inverse=True, **kwargs)[0]

    def forward_attributes(self, x: tf.Tensor, **kwargs: Any) -> dict[str, tf.Tensor]:
        """Returns the log-det at `x`, that of the inverse, as `Bijector` looks for it."""
        return {"ildj": -self._evaluate(x, inverse=False, **kwargs)[1]}

    def inverse_attributes(self, y: tf.Tensor, **kwargs: Any) -> dict[str, tf.Tensor]:
        """Returns the log-det of the inverse at `y`."""
        return {"ildj": self._evaluate(y, inverse=True, **kwargs)[1]}

    def _evaluate(self, value, inverse, **kwargs):
        store = _eager_store(self._bijector) if tf.executing_eagerly() else _graph_store()
        known = store.get(self._bijector, value, inverse)
        if known is not None:
            return known
        if inverse:
            result, log_det = self._bijector._inverse_and_log_det(value, **kwargs)
        else:
            result, log_det = self._bijector._forward_and_log_det(value, **kwargs)
        if result is not value:  # An identity needs no memory, and would keep itself alive.
            store.put(self._bijector, value, result, log_det, inverse)
        return result, log_det


def _eager_store(bijector):
    return bijector.__dict__.setdefault("_eager_memo", _EagerStore())


class _EagerStore:
    """Evaluations of one bijector, each kept as long as its output is alive."""

    def __init__(self):
        self._entries = {}

    def get(self, bijector, value, inverse):
        key = (id(value), inverse, state.now().number)
        entry = self._entries.get(key)
        if entry is None:
            return None
        get_value, get_result, log_det, recording, snapshot = entry
        result = get_result()
        if get_value() is not value or result is None:
            return None
        now = _tensorflow.Recording(value, None, [variable for _, variable in snapshot])
        if not recording.can_stand_in(now):
            return None
        if any(not _same(old, variable) for old, variable in snapshot):
            self._entries.pop(key)
            return None
        return result, log_det

    def put(self, bijector, value, result, log_det, inverse):
        # Reading shares the variable's buffer, which TensorFlow copies on the next write: the
        # snapshot costs nothing unless the variables change while the output is still alive.
        snapshot = [(v.read_value(), v) for v in bijector.variables]
        recordings = [
            _tensorflow.Recording(v, result, [variable for _, variable in snapshot])
            for v in (value, result)
        ]
        self._remember(value, weakref.ref(result), log_det, recordings[0], inverse, snapshot)
        # The output keeps its input alive, never the other way round: no cycle, no leak.
        self._remember(result, lambda: value, -log_det, recordings[1], not inverse, snapshot)

    def _remember(self, value, get_result, log_det, recording, inverse, snapshot):
        entries, key = self._entries, (id(value), inverse, state.now().number)
        get_value = weakref.ref(value, lambda _: entries.pop(key, None))
        entries[key] = (get_value, get_result, log_det, recording, snapshot)


def _same(old, variable):
    return bool(tf.reduce_all(tf.equal(old, variable.read_value())))


def _graph_store():
    graph = tf.compat.v1.get_default_graph()
    if not hasattr(graph, "_tfflows_memo"):
        graph._tfflows_memo = _GraphStore(graph)  # Lives and dies with the graph.
    return graph._tfflows_memo


class _GraphStore:
    """Evaluations of all bijectors that one graph contains."""

    def __init__(self, graph):
        self._graph = weakref.ref(graph)
        self._entries = {}
        self._operations_seen = 0

    def _forget_after_writes(self):
        """Clears the memory if an operation that may write a variable has joined the graph."""
        operations = self._graph().get_operations()
        new = operations[self._operations_seen :]
        self._operations_seen = len(operations)
        if any(map(_may_write, new)):
            self._entries.clear()

    def get(self, bijector, value, inverse):
        self._forget_after_writes()
        entry = self._entries.get((id(bijector), id(value), inverse, state.now().number))
        if entry is None:
            return None
        now = _tensorflow.Recording(value, None, bijector.variables)
        if not entry["recording"].can_stand_in(now):
            return None
        return entry["result"], entry["log_det"]

    def put(self, bijector, value, result, log_det, inverse):
        self._forget_after_writes()
        variables = bijector.variables
        recordings = [_tensorflow.Recording(v, result, variables) for v in (value, result)]
        self._remember(bijector, value, result, log_det, recordings[0], inverse)
        self._remember(bijector, result, value, -log_det, recordings[1], not inverse)

    def _remember(self, bijector, value, result, log_det, recording, inverse):
        self._entries[id(bijector), id(value), inverse, state.now().number] = {
            "recording": recording,
            "result": result,
            "log_det": log_det,
            "alive": (bijector, value),  # Held, so that no other object can take their ids.
        }


def _may_write(operation: tf.Operation) -> bool:
    if operation.type in ("ReadVariableOp", "VariableShape", "Identity", "Placeholder"):
        return False
    return any(tensor.dtype == tf.resource for tensor in operation.inputs)
