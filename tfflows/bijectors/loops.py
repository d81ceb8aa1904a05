"""Layers that are alike but for their weights, as one loop over the weights, stacked."""

import contextlib
import dataclasses
import functools
import itertools
import json
import threading

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.bijectors import estimation, tape_memory
from tfflows.bijectors._conditioner import NetworkModule
from tfflows.bijectors._rebuild import rebuilt

LEAST = 3  # Repetitions that are worth a loop.


class _State(threading.local):  # The replicas of a strategy are threads.
    on = False


_state = _State()


@contextlib.contextmanager
def looping(on=True):
    """Lets graphs have one copy of layers that repeat, instead of one for each.

    Where a flow has the same layers several times in a row, with other weights (32 blocks; or 32
    times `ActNorm`, 1x1 convolution and coupling), a graph traced inside the `with` block has one
    `tf.while_loop` over the weights, stacked, in place of all the copies. Values and gradients are
    the same to rounding; the variables stay what and where they are, so weights saved one way load
    in the other. The graph, and the time and memory of tracing and compiling it, do not grow with
    the number of repetitions.

    Layers repeat if they are of the same classes and have equal parameters, but for the values of
    variables, all trainable, and for names and seeds of Keras layers. At least three repetitions
    make a loop. In eager mode, and under the eyes of `observe_layers` and of regularizers, which
    want to see each layer, nothing loops.

    What a gradient needs is kept as `memory` says, but that `"store"` keeps the input of each
    repetition: what happens inside of one is computed a second time.

    Args:
      on: `False` for no loops inside of a block that has them.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    flow = bijectors.Sequential(
        [bijectors.ConvExponential.trainable([8, 8, 4], seed=seed) for seed in range(32)])

    @tf.function(jit_compile=True)
    def forward(x):
      with bijectors.looping():
        return flow.forward(x)

    y = forward(tf.ones([2, 8, 8, 4]))
    ```
    """
    before, _state.on = _state.on, on
    try:
        yield
    finally:
        _state.on = before


def is_looping():
    """Returns whether layers that repeat are to be evaluated by a `Loop`."""
    return _state.on and not tf.executing_eagerly() and not tape_memory.is_inside()


@dataclasses.dataclass(frozen=True)
class Loop:
    """Layers that repeat.

    Attributes:
      layers: the first repetition, a list of `tape_memory.Layer`.
      stacks: for each variable of the layers, those of all repetitions.
      networks: the Keras layers of the first repetition.
    """

    layers: list[tape_memory.Layer]
    stacks: list[list[tf.Variable]]
    networks: list[keras.layers.Layer]

    def __call__(self, x):
        """Returns the output and the log-det."""
        return evaluate(self, x)


def find(layers, x):
    """Returns the layers, with a `Loop` in place of those that repeat.

    Args:
      layers: a list of `tape_memory.Layer`.
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
        if count < LEAST or len(set(map(_sharing, rows))) > 1:
            found.append(layers[position])
            position += 1
            continue
        first = descriptions[position : position + period]
        found.append(
            Loop(
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
            variables = [self._describe_variable(v.value) for v in value.variables]
            return type(value), config, tuple(variables)
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


def _config(layer):
    """Returns the configuration of a Keras layer without what does not matter to its values."""
    config = layer.get_config()
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


def evaluate(loop, x):
    """Returns the output of all repetitions and the log-det; what is kept is as `memory` says.

    Args:
      loop: a `Loop`.
      x: a `Tensor`.
    """
    x, batch = _broadcast(loop.layers, x)
    inverting = tape_memory.is_inverting()
    constants = tape_memory.tensors_of(*(layer.bijector for layer in loop.layers))
    step, undo = (estimation.as_now(_Pass(loop, undoing).__call__) for undoing in (False, True))

    @tf.custom_gradient
    def run(x, stacks, constants):
        y, log_det, inputs = _forward(step, x, batch, stacks, keep_inputs=not inverting)

        def gradient(upstream, of_log_det):
            def input_of(i, y, values):
                return undo(y, values)[0] if inverting else inputs[i]

            start = [y if inverting else x, upstream]
            return _backward(step, input_of, start, of_log_det, stacks, constants)

        return (y, log_det), gradient

    return run(x, [tf.stack(column) for column in loop.stacks], constants)


def _forward(step, x, batch, stacks, keep_inputs):
    """Takes all steps; returns output, log-det, and the stacked inputs if they are kept.

    Args:
      step: a `_Pass`: maps input and values of variables to an output and a log-det.
      x: the input of the first step.
      batch: its batch shape.
      stacks: for each variable its values in all steps.
      keep_inputs: whether to keep the input of each step.
    """
    count, arrays = stacks[0].shape[0], _arrays(stacks)

    def body(i, y, total, inputs):
        if keep_inputs:
            inputs = inputs.write(i, y)
        y, log_det = step(y, [array.read(i) for array in arrays])
        return i + 1, tf.ensure_shape(y, x.shape), total + log_det, inputs

    start = [tf.constant(0), x, tf.zeros(batch, x.dtype), _array(x, count if keep_inputs else 0)]
    _, y, total, inputs = _while(count, body, start)
    return y, total, inputs.stack() if keep_inputs else None


def _backward(step, input_of, start, of_log_det, stacks, constants):
    """Goes back through all steps; returns the gradients by input, stacks and constants.

    Args:
      step: see `_forward`.
      input_of: returns the input of a step, given its number, output and values of variables.
      start: the output, or anything of its shape that `input_of` needs none of, and its gradient.
      of_log_det: gradient with respect to the log-det.
      stacks: see `_forward`.
      constants: tensors that `step` finds by itself.
    """
    count, arrays = stacks[0].shape[0], _arrays(stacks)

    def body(i, y, upstream, found, sums):
        values = [array.read(i) for array in arrays]
        x = input_of(i, y, values)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            sources = [x, *values, *constants]
            tape.watch(sources)
            outputs = step(x, values)
        parts = tape.gradient(outputs, sources, (upstream, of_log_det), "zero")
        upstream, *parts = map(tf.convert_to_tensor, parts)
        found = [f.write(i, part) for f, part in zip(found, parts, strict=False)]
        sums = [a + part for a, part in zip(sums, parts[len(values) :], strict=True)]
        return i - 1, x, tf.ensure_shape(upstream, x.shape), found, sums

    found = [_array(stack[0], count) for stack in stacks]
    sums = [tf.zeros_like(constant) for constant in constants]
    _, _, upstream, found, sums = _while(count, body, [tf.constant(count - 1), *start, found, sums])
    return upstream, [array.stack() for array in found], sums


def _broadcast(layers, x):
    """Gives `x` the batch dimensions of all layers; returns it and these."""
    ndims = x.shape.rank - layers[0].event_ndims
    batch, known, event = tf.shape(x)[:ndims], x.shape[:ndims], x.shape[ndims:]
    for layer in layers:
        options = {"y_event_ndims" if layer.inverse else "x_event_ndims": layer.event_ndims}
        own = layer.bijector.experimental_batch_shape(**options)
        if own.rank != 0:
            tensor = layer.bijector.experimental_batch_shape_tensor(**options)
            batch, known = (
                tf.broadcast_dynamic_shape(batch, tensor),
                tf.broadcast_static_shape(known, own),
            )
    shape = tf.concat([batch, tf.shape(x)[ndims:]], axis=0)
    return tf.ensure_shape(tf.broadcast_to(x, shape), known + event), batch


def _array(like, size):
    return tf.TensorArray(like.dtype, size, element_shape=like.shape, clear_after_read=False)


def _arrays(stacks):
    return [_array(stack[0], stack.shape[0]).unstack(stack) for stack in stacks]


def _while(count, body, start):
    return tf.while_loop(
        lambda i, *_: (i >= 0) & (i < count),
        body,
        start,
        parallel_iterations=1,
        maximum_iterations=count,
    )


@dataclasses.dataclass(frozen=True)
class _Pass:
    """Once through the layers that repeat, or back.

    Attributes:
      loop: the `Loop`.
      undoing: whether it goes back.
    """

    loop: Loop
    undoing: bool

    def __call__(self, x, values):
        """Returns an output and a log-det of the batch shape of `x`.

        Args:
          x: a `Tensor`.
          values: one for each variable of the layers.
        """
        layers, total = self.loop.layers, 0.0
        by_id = {
            id(column[0]): value for column, value in zip(self.loop.stacks, values, strict=True)
        }
        mapping = [(v, by_id[id(v.value)]) for n in self.loop.networks for v in n.variables]
        batch = tf.shape(x)[: x.shape.rank - layers[0].event_ndims]
        for layer in layers[:: -1 if self.undoing else 1]:
            bijector = rebuilt(layer.bijector, lambda leaf: by_id.get(id(leaf), leaf))
            function = layer.undo if self.undoing else layer.function
            with keras.StatelessScope(mapping):
                x, log_det = tape_memory.inside(functools.partial(function, bijector), x)
            total += log_det
        return x, tf.broadcast_to(total, batch)
