"""What is composed of what: the parts of bijectors, copies of them, layers that are alike."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb

from tfflows import _tensorflow
from tfflows._keras import read_variables
from tfflows.evaluation.constant_network import ConstantNetwork
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.evaluation.network_calls import NetworkModule


class Part(NamedTuple):
    """A part of a bijector.

    Attributes:
      bijector: a `tfb.Bijector`.
      inverse: whether the whole applies its inverse where it goes forward.
    """

    bijector: tfb.Bijector
    inverse: bool = False


class Turns(NamedTuple):
    """Parts that repeat: what a `Repeat` declares.

    Attributes:
      turns: for each repetition a tuple of `Part`s, in order.
    """

    turns: tuple[tuple[Part, ...], ...]


def parts(bijector: tfb.Bijector) -> tuple[Part, ...]:
    """Returns the parts of a composed bijector in the order of `forward`; of any other, none."""
    if isinstance(bijector, _tensorflow.InvertBase):
        return (Part(bijector.bijector, inverse=True),)
    if isinstance(bijector, _tensorflow.ChainBase):
        return tuple(map(Part, reversed(bijector.bijectors)))
    return tuple(map(Part, getattr(bijector, "parts", ())))


def is_series(bijector: tfb.Bijector) -> bool:
    """Returns whether a bijector is no more than its parts, one after the other."""
    of_tfp = isinstance(bijector, _tensorflow.InvertBase | _tensorflow.ChainBase)
    return of_tfp or (isinstance(bijector, FlowBijector) and bijector.is_series)


def is_step(bijector: tfb.Bijector) -> bool:
    """Returns whether a composed bijector is one step of a flow: a `Block`."""
    return bool(parts(bijector)) and getattr(bijector, "is_unit", False)


def flatten(items: Iterable[Part | Turns]) -> Iterator[Part | Turns]:
    """Yields parts in order, with the parts of series in place of these."""
    for part in items:
        if isinstance(part, Turns):
            yield Turns(tuple(tuple(_laid_out(flatten(turn))) for turn in part.turns))
        elif not is_series(part.bijector):
            yield part
        else:
            inner = sequence(part.bijector)
            yield from flatten(invert(inner) if part.inverse else inner)


def _laid_out(items: Iterable[Part | Turns]) -> Iterator[Part]:
    """Yields parts in order, those that repeat one turn after the other: of a loop in a loop."""
    for part in items:
        yield from itertools.chain(*part.turns) if isinstance(part, Turns) else [part]


def invert(items: Sequence[Part | Turns]) -> list[Part | Turns]:
    """Returns the parts of the inverse, in order."""
    return [
        Turns(tuple(tuple(_laid_out(invert(turn))) for turn in reversed(part.turns)))
        if isinstance(part, Turns)
        else Part(part.bijector, not part.inverse)
        for part in reversed(items)
    ]


def sequence(bijector: tfb.Bijector) -> list[Part | Turns]:
    """Returns the parts of a series in the order of `forward`, those that repeat as `Turns`."""
    found: list[Part | Turns] = []
    flat = list(parts(bijector))
    position = 0
    for start, period, count in getattr(bijector, "repeats", ()):
        found += flat[position:start]
        position = start + period * count
        turns = range(start, position, period)
        found.append(Turns(tuple(tuple(flat[turn : turn + period]) for turn in turns)))
    return found + flat[position:]


def dtype_of(bijector: tfb.Bijector) -> tf.DType | None:
    """Returns the dtype of a bijector or of its first part that has one, or `None`."""
    inner = parts(bijector) if not isinstance(bijector, FlowBijector) else ()
    return next(filter(None, (dtype_of(part.bijector) for part in inner)), bijector.dtype)


def rebuild(
    part: Any,
    leaf: Callable[[Any], Any] = lambda value: value,
    changes: Callable[[Any], dict[str, Any]] = lambda part: {},
    copy: Callable[..., Any] = lambda part, **changes: part.copy(**changes),
) -> Any:
    """Returns a copy of `part` with changes in it, or `part` itself where there is none.

    Args:
      part: a `tfb.Bijector` or `tfd.Distribution`, or a list, tuple or dictionary of parameters.
      leaf: returns what takes the place of a parameter that is none of these.
      changes: returns further parameters of a bijector or distribution that are to change.
      copy: returns a bijector or distribution with other parameters.
    """
    if isinstance(part, (tfb.Bijector, tfp.distributions.Distribution)):
        found = _changed(_parameters(part), leaf, changes, copy) | changes(part)
        return copy(part, **found) if found else part
    if isinstance(part, ConstantNetwork):
        values = rebuild(part.values, leaf, changes, copy)
        return part if values is part.values else part.with_values(values)
    if isinstance(part, dict):
        found = _changed(part, leaf, changes, copy)
        return type(part)({**part, **found}) if found else part
    if isinstance(part, (list, tuple)) and not hasattr(part, "_fields"):
        found = _changed(dict(enumerate(part)), leaf, changes, copy)
        return type(part)(found.get(i, item) for i, item in enumerate(part)) if found else part
    new = leaf(part)
    if new is not part or not isinstance(part, tfp.util.DeferredTensor):
        return new
    given, function = (
        rebuild(inner, leaf, changes, copy)
        for inner in (part.pretransformed_input, _transform_of(part))
    )
    if given is part.pretransformed_input and function is _transform_of(part):
        return part

    def transform(x):
        if isinstance(function, tfb.Bijector):  # Its cache would give a tape what it has not seen.
            return function.forward(tf.identity(x))
        return function(x)

    return tfp.util.DeferredTensor(
        given, transform, part.dtype, part.shape, also_track=part.also_track, name=part.name
    )


def _transform_of(part):
    """Returns the bijector of a `TransformedVariable`, the function of a `DeferredTensor`."""
    return getattr(part, "bijector", part.transform_fn)


def _parameters(part):
    """Returns what a bijector or distribution is made of, what `for_inference` keeps of it too."""
    known = part._of_weights if isinstance(part, FlowBijector) else None
    return part.parameters if known is None else {**part.parameters, "of_weights": known}


def _changed(parameters, *options):
    new = {name: rebuild(value, *options) for name, value in parameters.items()}
    return {name: value for name, value in new.items() if value is not parameters[name]}


class Contents:
    """What a list of bijectors is made of.

    Attributes:
      variables: the `tf.Variable`s among its parameters and in its networks, in a fixed order.
      networks: its Keras layers.
      constants: all that is no variable, in the same order for what is alike.
    """

    def __init__(self, bijectors: list[tfb.Bijector]) -> None:
        self.variables: list[tf.Variable] = []
        self.networks: list[keras.layers.Layer] = []
        self.constants: list[Any] = []
        self._described = [self._describe(bijector) for bijector in bijectors]
        known = set(map(id, self.variables))
        self._is_complete = all(
            id(v) in known and v.trainable for b in bijectors for v in b.variables
        )

    @property
    def can_loop(self) -> bool:
        """Whether all variables that there are can be given values."""
        return self._is_complete

    def is_like(self, other: "Contents") -> bool:
        """Returns whether classes, shapes, dtypes and all that is no variable are the same."""
        return self._described == other._described and all(
            is_same(one, two) for one, two in zip(self.constants, other.constants, strict=True)
        )

    def _describe(self, value):
        """Returns something to compare, and collects variables, networks and constants."""
        if isinstance(value, (tfb.Bijector, tfp.distributions.Distribution)):
            parameters = {k: v for k, v in _parameters(value).items() if k != "name"}
            return type(value), self._describe(parameters)
        if isinstance(value, dict):
            return tuple((key, self._describe(item)) for key, item in sorted(value.items()))
        if isinstance(value, (list, tuple)):
            return type(value), *map(self._describe, value)
        if isinstance(value, tf.Variable):
            self.variables.append(value)
            return tuple(value.shape), value.dtype
        if isinstance(value, tfp.util.DeferredTensor):
            described = self._describe([value.pretransformed_input, _transform_of(value)])
            return type(value), value.dtype, described
        if isinstance(value, NetworkModule):
            if isinstance(value.network, ConstantNetwork):
                self.constants.append(value)  # Its values can't be told it from outside.
            return type(value), self._describe(value.network)
        if isinstance(value, ConstantNetwork):
            is_layer = isinstance(value.callable, keras.layers.Layer)
            self.constants += value.values if is_layer else [value]
            return type(value), type(value.callable), len(value.values)
        if isinstance(value, keras.layers.Layer):
            self.networks.append(value)
            return type(value), *map(self._describe, read_variables(value))
        if isinstance(value, tf.Module):
            return (type(value),)
        self.constants.append(value)
        return ()


def is_same(one: Any, two: Any) -> bool:
    """Returns whether constants are equal."""
    if one is two:
        return True
    if type(one) is not type(two):
        return False
    if isinstance(one, tf.SparseTensor):
        return all(map(is_same, tf.nest.flatten(one, True), tf.nest.flatten(two, True)))
    if isinstance(one, np.ndarray) or tf.is_tensor(one):
        is_known = not any(map(tf.is_symbolic_tensor, (one, two)))
        return is_known and np.array_equal(one, two)
    return bool(one == two)
