"""Layers that are alike but for their weights, as one loop over the weights, stacked."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfflows.evaluation import checkpointing, network_calls, state
from tfflows.evaluation.parts import Contents, is_same, rebuild


@dataclasses.dataclass(frozen=True)
class Loop:
    """Layers that repeat.

    Attributes:
      turns: the repetitions, lists of `checkpointing.Layer`s that are alike.
      stacks: for each variable of the layers, and each tensor that is not the same in all
        repetitions, those of all repetitions.
      networks: the Keras layers of the first repetition.
    """

    turns: list[list[checkpointing.Layer]]
    stacks: list[list[tf.Variable | tf.Tensor]]
    networks: list[keras.layers.Layer]

    @classmethod
    def of(cls, turns: list[list[checkpointing.Layer]]) -> Self | None:
        """Returns a loop, or `None` if there is nothing to loop over, or part of it is frozen."""
        contents = [Contents([layer.bijector for layer in turn]) for turn in turns]
        if not all(content.can_loop for content in contents):
            return None
        if len({len(content.constants) for content in contents}) > 1:
            return None
        constants = zip(*(content.constants for content in contents), strict=True)
        others = [column for column in constants if not _is_constant(column)]
        variables = zip(*(content.variables for content in contents), strict=True)
        columns = list(map(list, [*variables, *others]))
        if not columns or not all(map(_can_stack, others)) or not _shares_alike(columns):
            return None
        return cls(turns, columns, contents[0].networks)

    def __call__(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the output and the log-det."""
        if self._keeps_shape(x):
            return _evaluate(self, x)
        total = tf.zeros([], x.dtype)
        for layer in itertools.chain(*self.turns):
            x, log_det = layer(x)
            total += log_det
        return x, total

    def _keeps_shape(self, x):
        layers = self.turns[0]
        if x.shape.rank is None:
            return False
        shape = before = x.shape[x.shape.rank - layers[0].event_ndims :]
        for layer in layers:
            bijector = layer.bijector
            after = bijector.inverse_event_shape if layer.inverse else bijector.forward_event_shape
            shape = after(shape)
        return shape.as_list() == before.as_list()


def _is_constant(column: Sequence[Any]) -> bool:
    """Returns whether something is the same in all repetitions."""
    return all(is_same(column[0], value) for value in column[1:])


def _can_stack(column: Sequence[Any]) -> bool:
    """Returns whether it is a tensor in each, of the same shape and dtype, which has a gradient."""
    if not all(tf.is_tensor(v) and not isinstance(v, tf.SparseTensor) for v in column):
        return False
    kinds = {(v.dtype, tuple(v.shape)) for v in column if v.shape.is_fully_defined()}
    return len(kinds) == 1 and all(v.dtype.is_floating for v in column)


def _shares_alike(columns: Sequence[Sequence[Any]]) -> bool:
    """Returns whether what is the same in one repetition is the same in each."""
    turns = [list(map(id, turn)) for turn in zip(*columns, strict=True)]
    return len({tuple(map(ids.index, ids)) for ids in turns}) == 1


def _evaluate(loop, x):
    """Returns the output of all repetitions and the log-det; what is kept is as `memory` says.

    Args:
      loop: a `Loop`.
      x: a `Tensor`.
    """
    x, batch = _broadcast(loop.turns[0], x)
    inverting = state.now().is_inverting
    constants = checkpointing.tensors_of(*(layer.bijector for layer in loop.turns[0]))
    step, undo = (state.bind(_Pass(loop, undoing).__call__) for undoing in (False, True))

    @tf.custom_gradient
    def run(x, stacks, constants):
        y, sums, inputs = _forward(step, x, batch, stacks, keep_inputs=not inverting)

        def gradient(upstream, *of_sums):
            def input_of(i, y, values):
                return undo(y, values)[0] if inverting else inputs[i]

            start = [y if inverting else x, upstream]
            return _backward(step, input_of, start, of_sums, stacks, constants)

        return (y, *sums), gradient

    y, log_det, *losses = run(x, [tf.stack(column) for column in loop.stacks], constants)
    network_calls.add(losses)
    return y, log_det


def _forward(step, x, batch, stacks, keep_inputs):
    """Takes all steps; returns output, sums, and the stacked inputs if they are kept.

    The sums are those of the log-dets and, inside of `calling_networks`, of the losses.

    Args:
      step: a `_Pass`: maps input and values of variables to an output and what is summed.
      x: the input of the first step.
      batch: its batch shape.
      stacks: for each variable its values in all steps.
      keep_inputs: whether to keep the input of each step.
    """
    count, arrays = stacks[0].shape[0], _arrays(stacks)

    def body(i, y, sums, inputs):
        if keep_inputs:
            inputs = inputs.write(i, y)
        y, *terms = step(y, [array.read(i) for array in arrays])
        sums = [a + term for a, term in zip(sums, terms, strict=True)]
        return i + 1, tf.ensure_shape(y, x.shape), sums, inputs

    shapes = [batch] if state.now().calls is None else [batch, []]
    sums = [tf.zeros(shape, x.dtype) for shape in shapes]
    start = [tf.constant(0), x, sums, _array(x, count if keep_inputs else 0)]
    _, y, sums, inputs = _while(count, body, start)
    return y, sums, inputs.stack() if keep_inputs else None


def _backward(step, input_of, start, of_sums, stacks, constants):
    """Goes back through all steps; returns the gradients by input, stacks and constants.

    Args:
      step: see `_forward`.
      input_of: returns the input of a step, given its number, output and values of variables.
      start: the output, or anything of its shape that `input_of` needs none of, and its gradient.
      of_sums: gradients with respect to the sums.
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
        parts = tape.gradient(outputs, sources, (upstream, *of_sums), "zero")
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

    def __call__(self, x: tf.Tensor, values: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Returns an output, a log-det of the batch shape of `x`, and the losses of networks.

        The last is left out outside of `calling_networks`.

        Args:
          x: a `Tensor`.
          values: one for each variable of the layers.
        """
        layers, total, losses = self.loop.turns[0], 0.0, [tf.zeros([], x.dtype)]
        by_id = {
            id(column[0]): value for column, value in zip(self.loop.stacks, values, strict=True)
        }
        mapping = [(v, by_id[id(v.value)]) for n in self.loop.networks for v in n.variables]
        batch = tf.shape(x)[: x.shape.rank - layers[0].event_ndims]
        for layer in layers[:: -1 if self.undoing else 1]:
            bijector = rebuild(layer.bijector, lambda leaf: by_id.get(id(leaf), leaf))
            layer = dataclasses.replace(layer, bijector=bijector)
            function = layer.undo if self.undoing else layer
            with keras.StatelessScope(mapping):
                x, log_det, *more = checkpointing.evaluate_inside(function, x)
            total += log_det
            losses += more
        losses = [] if state.now().calls is None else [tf.add_n(losses)]
        return x, tf.broadcast_to(total, batch), *losses
