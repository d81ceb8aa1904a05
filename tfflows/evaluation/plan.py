"""In which steps bijectors are evaluated one after the other: as `memory` and `looping` say."""

from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf

from tfflows.evaluation import parts
from tfflows.evaluation.checkpointing import Layer, Series
from tfflows.evaluation.loops import Loop
from tfflows.evaluation.parts import Part, Turns
from tfflows.evaluation.state import Evaluation
from tfflows.types import Ndims

LEAST = 3  # Repetitions that are worth a loop.


def plan(
    sequence: Iterable[Part | Turns], event_ndims: Ndims, evaluate: Callable, now: Evaluation
) -> Iterator[Layer | Series | Loop]:
    """Yields functions of a `Tensor`, in order, each to an output and a log-det.

    Args:
      sequence: what is evaluated.
      event_ndims: rank of the events of the input.
      evaluate: evaluates a bijector or its inverse, see `checkpointing.Layer`.
      now: how flows are evaluated.
    """
    if now.is_inverting or now.is_looping:
        sequence = parts.flatten(sequence)
    series: list[Layer] = []
    for part in sequence:
        turns, event_ndims = _layers(part, event_ndims, evaluate)
        loop = len(turns) >= LEAST and now.is_looping and Loop.of(turns)
        for step in [loop] if loop else [layer for turn in turns for layer in turn]:
            if now.is_inverting and isinstance(step, Layer) and _is_invertible(step.bijector):
                series.append(step)
                continue
            yield from _joined(series)
            series = []
            yield step
    yield from _joined(series)


def _layers(part, event_ndims, evaluate):
    """Returns the layers of each turn of a part, of which there may be one, and their rank."""
    turns = []
    for turn in part.turns if isinstance(part, Turns) else [[part]]:
        layers = []
        for bijector, inverse in turn:
            ndims = bijector.inverse_event_ndims if inverse else bijector.forward_event_ndims
            after = ndims(event_ndims)
            layers.append(Layer(bijector, inverse, event_ndims, after, evaluate))
            event_ndims = after
        turns.append(layers)
    return turns, event_ndims


def _joined(series):
    """Yields layers in a row as one, of which a single one keeps its input."""
    yield from [Series(tuple(series))] if len(series) > 1 else series


def _is_invertible(bijector):
    """Returns whether a bijector maps one `Tensor` to one, and `memory` can take it as a whole."""
    ends = [bijector.forward_min_event_ndims, bijector.inverse_min_event_ndims]
    whole = not parts.parts(bijector) or parts.is_step(bijector)
    return whole and not any(map(tf.nest.is_nested, ends))
