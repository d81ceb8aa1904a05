"""Finds the layers of a flow that repeat, for `looping`."""

import itertools
import json

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows._keras import read_variables
from tfflows.evaluation import loops
from tfflows.evaluation.network_calls import NetworkModule

LEAST = 3  # Repetitions that are worth a loop.


def find(layers, x):
    """Returns the layers, with a `Loop` in place of those that repeat.

    Args:
      layers: a list of `checkpointing.Layer`.
      x: the input of the first.
    """
    if tf.nest.is_nested(x) or x.shape.rank is None:
        return layers
    shapes = _event_shapes(layers, x)
    descriptions = [_Description(layer) for layer in layers[: len(shapes)]]
    known, kinds = [], []
    for description, shape in zip(descriptions, shapes, strict=True):
        key = (description.key, shape)
        if key not in known:
            known.append(key)
        kinds.append(known.index(key) if description.key else -1)
    found, position = [], 0
    while position < len(kinds):
        period, count = _repetitions(kinds[position:])
        end = position + period * count
        rows = [
            list(itertools.chain(*(d.variables for d in descriptions[start : start + period])))
            for start in range(position, end, period)
        ]
        # Without variables there is nothing to loop over, and little to save.
        if count < LEAST or not rows[0] or len(set(map(_sharing, rows))) > 1:
            found.append(layers[position])
            position += 1
            continue
        first = descriptions[position : position + period]
        found.append(
            loops.Loop(
                layers[position : position + period],
                [list(column) for column in zip(*rows, strict=True)],
                list(itertools.chain(*(d.networks for d in first))),
            )
        )
        position = end
    return found + layers[position:]


def _event_shapes(layers, x):
    """Returns the shape of an event that reaches each layer, up to where there are several."""
    shapes, shape = [], None
    for layer in layers:
        if tf.nest.is_nested(layer.event_ndims):
            break
        if shape is None:
            shape = x.shape[x.shape.rank - layer.event_ndims :]
        shapes.append(shape)
        bijector = layer.bijector
        after = bijector.inverse_event_shape if layer.inverse else bijector.forward_event_shape
        shape = after(shape)
    return shapes


def _repetitions(kinds):
    """Returns period and number of the repetitions that cover most of the front of a list."""
    best = (1, 1)
    for period in range(1, len(kinds) // LEAST + 1):
        if -1 in kinds[:period]:
            break
        count = 1
        while kinds[count * period : (count + 1) * period] == kinds[:period]:
            count += 1
        if count >= LEAST and period * count > best[0] * best[1]:
            best = period, count
    return best


def _sharing(variables):
    """Returns which of the variables are the same."""
    ids = [id(variable) for variable in variables]
    return tuple(map(ids.index, ids))


class _Description:
    """What a layer is, but for the values of its variables.

    Attributes:
      key: equal for layers that are alike; `None` for one that can't be in a loop.
      variables: what differs between layers that are alike, in an order that does not.
      networks: its Keras layers.
    """

    def __init__(self, layer):
        self.variables, self.networks = [], []
        bijector = layer.bijector
        self.key = layer.inverse, str(layer.event_ndims), self._describe(bijector)
        known = {id(variable) for variable in self.variables}
        # A function may have variables that are not among the parameters.
        if any(id(v) not in known or not v.trainable for v in bijector.variables):
            self.key = None

    def _describe(self, value):
        """Returns something to compare, and collects variables and networks."""
        if isinstance(value, (tfp.bijectors.Bijector, tfp.distributions.Distribution)):
            parameters = {k: v for k, v in value.parameters.items() if k != "name"}
            return type(value), self._describe(parameters)
        if isinstance(value, dict):
            return tuple((key, self._describe(item)) for key, item in sorted(value.items()))
        if isinstance(value, (list, tuple)):
            return type(value), *map(self._describe, value)
        if isinstance(value, tf.Variable):
            return self._describe_variable(value)
        if isinstance(value, keras.layers.Layer):
            self.networks.append(value)
            config = json.dumps(_config(value), sort_keys=True, default=repr)
            variables = [self._describe_variable(v) for v in read_variables(value)]
            return type(value), config, tuple(variables), tuple(_constants(value, set()))
        if isinstance(value, NetworkModule):
            return type(value), self._describe(value.network)
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        try:
            hash(value)
        except (TypeError, ValueError):
            return type(value), id(value)
        return type(value), value

    def _describe_variable(self, variable):
        """A variable is known by where it was first met."""
        ids = [id(v) for v in self.variables]
        if id(variable) not in ids:
            self.variables.append(variable)
            ids.append(id(variable))
        return ids.index(id(variable)), tuple(variable.shape), variable.dtype, variable.trainable


def _constants(value, seen):
    """Yields what a Keras layer and its parts hold beside variables and may compute with."""
    if isinstance(value, np.ndarray):
        yield value.dtype.str, value.shape, value.tobytes()
    elif isinstance(value, float):
        yield value
    elif isinstance(value, tf.Tensor):
        yield id(value)
    elif isinstance(value, (keras.layers.Layer, list, tuple, dict)) and id(value) not in seen:
        seen.add(id(value))
        parts = vars(value) if isinstance(value, keras.layers.Layer) else value
        for part in parts.values() if isinstance(parts, dict) else parts:
            yield from _constants(part, seen)


def _config(layer):
    """Returns the configuration of a Keras layer without what does not matter to its values."""
    try:
        config = layer.get_config()
    except NotImplementedError:  # A layer that Keras can't describe is like no other.
        return {"id": id(layer)}
    if getattr(layer, "seeds_initial_values", False):
        config.pop("seed", None)
    return _nameless(config)


def _nameless(config):
    if isinstance(config, dict):
        left_out = [k for k in config if k == "name" or k.endswith("_initializer")]
        return {k: _nameless(value) for k, value in config.items() if k not in left_out}
    if isinstance(config, (list, tuple)):
        return [_nameless(value) for value in config]
    return config
