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
    count = len(loop.stacks[0])
    x, batch = _broadcast(loop.layers, x)
    inverting = tape_memory.is_inverting()
    bijectors = [layer.bijector for layer in loop.layers]
    constants = tape_memory.tensors_of(*bijectors)
    step, undo = (estimation.as_now(_Pass(loop, undoing).__call__) for undoing in (False, True))

    def run_forward(x, arrays):
        kept = _array(x, 0 if inverting else count)

        def body(i, y, total, kept):
            if not inverting:
                kept = kept.write(i, y)
            y, log_det = step(y, [array.read(i) for array in arrays])
            return i + 1, tf.ensure_shape(y, x.shape), total + log_det, kept

        total = tf.zeros(batch, x.dtype)
        _, y, total, kept = _while(count, body, [0, x, total, kept])
        return y, total, y if inverting else kept.stack()

    def run_backward(kept, arrays, upstream, of_log_det):
        x = kept if inverting else kept[0]
        sums = [tf.zeros_like(c) for c in constants]

        def body(i, y, upstream, found, sums):
            values = [array.read(i) for array in arrays]
            x = undo(y, values)[0] if inverting else kept[i]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                sources = [x, *values, *constants]
                tape.watch(sources)
                outputs = step(x, values)
            upstream, *parts = tape.gradient(outputs, sources, (upstream, of_log_det), "zero")
            parts = list(map(tf.convert_to_tensor, parts))
            found = [f.write(i, part) for f, part in zip(found, parts, strict=False)]
            sums = [a + part for a, part in zip(sums, parts[len(values) :], strict=True)]
            return i - 1, x, tf.ensure_shape(upstream, y.shape), found, sums

        found = [_array(array.read(0), count) for array in arrays]
        start = [count - 1, x, upstream, found, sums]
        _, _, upstream, found, sums = _while(count, body, start)
        return upstream, [f.stack() for f in found], sums

    @tf.custom_gradient
    def run(x, stacks, constants):
        arrays = [_array(s[0], count).unstack(s) for s in stacks]
        y, log_det, kept = run_forward(x, arrays)

        def gradient(upstream, of_log_det):
            arrays = [_array(s[0], count).unstack(s) for s in stacks]
            return run_backward(kept, arrays, upstream, of_log_det)

        return (y, log_det), gradient

    stacks = [tf.stack(column) for column in loop.stacks]
    return run(x, stacks, constants)


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


def _while(count, body, start):
    start[0] = tf.constant(start[0])
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
