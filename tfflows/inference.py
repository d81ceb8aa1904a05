"""`for_inference`: a model with its weights, and what follows from them alone, as constants."""

import copy
from typing import Any, TypeVar

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflows import _tensorflow
from tfflows._keras import networks_of
from tfflows.evaluation.constant_network import ConstantNetwork
from tfflows.evaluation.constants import kept
from tfflows.evaluation.parts import rebuild
from tfflows.numerics import linear_operators

_Model = TypeVar("_Model", bound=tfb.Bijector | tfd.Distribution)


def for_inference(model: _Model) -> _Model:
    """Returns `model` as it is now, with what depends on its weights alone computed once.

    Norm bounds and scaled kernels of exponentials and of Lipschitz networks, inverses and log-dets
    of 1x1, periodic and Woodbury convolutions and the like are computed in each call of a model,
    since its weights may have changed. Here they are constants, and so are the weights: what is
    done to the variables of `model` later does not reach the result. It computes the same, to
    rounding, in eager mode, in graphs and under XLA, and has gradients with respect to its inputs.

    It has no trainable variables, and shares the memory of the weights until they change. What is
    no Keras layer, `tf.Module`, bijector or distribution, such as a Python function that uses a
    variable, is left as it is.

    Args:
      model: a `tfb.Bijector` or `tfd.Distribution`. A conditional one may be conditioned before
        or after.

    Returns:
      An object of the type of `model`.

    Raises:
      ValueError: if it is called in a graph, such as in a `tf.function`.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows
    import zoo

    model = tfflows.for_inference(zoo.create("convexp_glow.digits"))
    samples = tf.function(model.sample)(16, seed=1)
    len(model.variables)  # 0
    ```
    """
    if not tf.executing_eagerly():
        raise ValueError(
            "`for_inference` must be called in eager mode, where weights have values. "
            "Received: a call in a graph, such as in a `tf.function`."
        )
    return _Constants().of(model)


def _copy(part, **changes):
    new = part.copy(**changes)
    _tensorflow.forget_origin(new)
    return new


class _Constants:
    """Constants in place of what may change, for one and the same thing the same."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}

    def of(self, part: Any) -> Any:
        """Returns a bijector or distribution of constants, or another parameter."""
        return rebuild(part, self._leaf, self._changes, _copy)

    def _changes(self, part):
        values = kept(part) if isinstance(part, tfb.Bijector) else None
        return {} if values is None else {"of_weights": values}

    def _leaf(self, value):
        if id(value) not in self._known:
            self._known[id(value)] = value, self._constant(value)
        return self._known[id(value)][1]

    def _constant(self, value):
        if isinstance(value, tf.Variable | keras.Variable | tfp.util.DeferredTensor):
            return tf.convert_to_tensor(value)
        if isinstance(value, tf.linalg.LinearOperator) and linear_operators.is_known(value):
            return linear_operators.with_parameters(value, linear_operators.parameters(value))
        if isinstance(value, keras.layers.Layer):
            return ConstantNetwork(value)
        if isinstance(value, tf.Module):
            return self._module(value)
        return value

    def _module(self, module):
        """Returns a copy of a module, which has those of variables that nobody trains."""
        parts = module._flatten(
            recursive=False, predicate=lambda v: isinstance(v, tfb.Bijector | tfd.Distribution)
        )
        memo = {id(part): self.of(part) for part in parts}
        memo |= {id(network): self._leaf(network) for network in networks_of(module)}
        new = copy.deepcopy(module, memo)
        for variable in new.variables:
            _tensorflow.set_trainable(variable, False)
        return ConstantNetwork(new) if hasattr(new, "prepare") else new
