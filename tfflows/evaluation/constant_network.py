"""`ConstantNetwork`: a network whose weights are constants, and what it makes of them, too."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfflows import _tensorflow
from tfflows.types import Network

# What bijectors ask of the networks that they take.
_ASKED = ("batch_shape", "batch_shape_tensor", "context_shape", "dtype", "name", "network")


class ConstantNetwork:
    """A network as it is now, without variables: later changes of its weights do not reach it.

    What its method `prepare` computes, if it has one, is computed here. It is called as outside of
    training.

    Args:
      network: a Keras layer that is built, or any other callable.
      values: one for each variable of a layer; by default those that they have.
    """

    def __init__(self, network: Network, values: Sequence[tf.Tensor] | None = None) -> None:
        variables, self._options = [], {}
        if isinstance(network, keras.layers.Layer):
            variables, self._options = [*network.variables], {"training": False}
        if values is None:
            values = [tf.convert_to_tensor(_tensorflow.tf_variable(v)) for v in variables]
        self.callable, self.values = network, list(values)
        self._mapping = {id(v): value for v, value in zip(variables, self.values, strict=True)}
        self._function = network
        for name in _ASKED:
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))
        if hasattr(network, "decode"):
            self.decode = self._with_values(network.decode)
        self.takes_empty_batches = getattr(network, "takes_empty_batches", False)
        if hasattr(network, "prepare"):
            self.prepare = self._prepare
            # In the body of a loop there are other values in each turn.
            if not any(map(tf.is_symbolic_tensor, self.values)):
                self._function, self._options = self._with_values(network.prepare)(), {}
                self.takes_empty_batches = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # It never changes.

    def with_values(self, values: Sequence[tf.Tensor]) -> Self:
        """Returns the network with other values."""
        return type(self)(self.callable, values)

    def _prepare(self):
        """Returns what the method `prepare` of the network does: here it may have been called."""
        if self._function is not self.callable:
            return self
        return self._with_values(self._with_values(self.callable.prepare)())

    def __call__(self, *args: tf.Tensor) -> Any:
        """Calls the network."""
        with self._scope():
            return self._function(*args, **self._options)

    def _with_values(self, function):
        def call(*args):
            with self._scope():
                return function(*args)

        return call

    @contextlib.contextmanager
    def _scope(self) -> Iterator[None]:
        if not self._mapping:
            yield
            return
        scope, outer = keras.StatelessScope(), _tensorflow.stateless_scope()
        scope.state_mapping = {**(outer.state_mapping if outer else {}), **self._mapping}
        with scope:
            yield
