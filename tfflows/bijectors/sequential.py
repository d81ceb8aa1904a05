"""`Sequential`: bijectors one after the other, in the order in which data passes them."""

import itertools
from collections.abc import Iterable

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb

from tfflows.evaluation import parts
from tfflows.evaluation.evaluate import through
from tfflows.evaluation.flow_bijector import FlowBijector


class Sequential(FlowBijector):
    """Composition of bijectors, first to last: `f(x) = f_n(... f_2(f_1(x)))`.

    The order is that of reading, the reverse of `tfb.Chain`. Each part is evaluated once for output
    and log-det together, in graphs and in eager mode, and never from a stale cache.

    Args:
      bijectors: a non-empty list of `tfb.Bijector`s, of tfflows or not, and of `Repeat`s of them.
        Between them there may be several tensors (`tfb.Split`, `tfb.JointMap`), at the ends one.
      repeats: which of the bijectors repeat, as copies are told: tuples of the number of the first,
        how many there are in a turn, and the number of turns.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    import tensorflow_probability as tfp
    import tfflows

    flow = tfflows.bijectors.Sequential([
        tfflows.bijectors.Squeeze(), tfp.bijectors.Shift(1.), tfp.bijectors.Scale(2.)])
    flow.forward(tf.zeros([5, 4, 4, 3])).shape  # [5, 2, 2, 12]
    ```
    """

    is_series = True

    def __init__(
        self,
        bijectors: Iterable["tfb.Bijector | Repeat"],
        *,
        repeats: Iterable[tuple[int, int, int]] = (),
        validate_args: bool = False,
        name: str = "sequential",
    ) -> None:
        bijectors, repeats = _flatten(bijectors, repeats)
        parameters = dict(locals())
        if not bijectors or not all(isinstance(b, tfb.Bijector) for b in bijectors):
            raise ValueError(
                "`bijectors` must be a non-empty list of `tfb.Bijector`s. "
                f"Received: bijectors={bijectors}."
            )
        shape_rules = tfb.Chain(bijectors[::-1], name="shape_rules")
        ends = [shape_rules.forward_min_event_ndims, shape_rules.inverse_min_event_ndims]
        if any(map(tf.nest.is_nested, ends)):
            raise ValueError(
                "`bijectors` must map one `Tensor` to one: put a `tfb.Split` or `tfb.JointMap` at "
                f"an end around it, in a `tfb.Chain`. Received: bijectors={bijectors}."
            )
        self._bijectors = bijectors
        self.repeats = repeats
        super().__init__(
            forward_min_event_ndims=shape_rules.forward_min_event_ndims,
            inverse_min_event_ndims=shape_rules.inverse_min_event_ndims,
            is_constant_jacobian=all(b.is_constant_jacobian for b in bijectors),
            dtype=next((b.dtype for b in bijectors if b.dtype is not None), None),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def bijectors(self) -> list[tfb.Bijector]:
        """The parts, in the order in which `forward` applies them."""
        return list(self._bijectors)

    parts = bijectors

    def _forward_and_log_det(self, x):
        return through(parts.sequence(self), x, self.forward_min_event_ndims)

    def _inverse_and_log_det(self, y):
        return through(parts.invert(parts.sequence(self)), y, self.inverse_min_event_ndims)

    def _forward_event_shape(self, shape):
        for bijector in self._bijectors:
            shape = bijector.forward_event_shape(shape)
        return shape

    def _inverse_event_shape(self, shape):
        for bijector in reversed(self._bijectors):
            shape = bijector.inverse_event_shape(shape)
        return shape

    def _forward_event_shape_tensor(self, shape):
        for bijector in self._bijectors:
            shape = bijector.forward_event_shape_tensor(shape)
        return shape

    def _inverse_event_shape_tensor(self, shape):
        for bijector in reversed(self._bijectors):
            shape = bijector.inverse_event_shape_tensor(shape)
        return shape

    @classmethod
    def _parameter_properties(cls, dtype):
        def event_ndims(self, x_event_ndims):
            ndims = [x_event_ndims]
            for bijector in self._bijectors[:-1]:
                ndims.append(bijector.forward_event_ndims(ndims[-1]))
            return ndims

        return {"bijectors": tfp.util.BatchedComponentProperties(event_ndims=event_ndims)}


class Block(Sequential):
    """A `Sequential` that is one step of a deeper flow.

    What looks at a flow step by step, such as `regularizers.transport_cost`, takes it as a whole,
    and so does `memory`.

    Args:
      bijectors: see `Sequential`.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    block = bijectors.Block([
        bijectors.ActNorm.trainable([8, 8, 4]), bijectors.InvertibleConv1x1.trainable([8, 8, 4])])
    block.forward(tf.ones([2, 8, 8, 4])).shape  # [2, 8, 8, 4]
    ```
    """

    is_unit = True
    is_series = False

    def __init__(
        self,
        bijectors: Iterable["tfb.Bijector | Repeat"],
        *,
        repeats: Iterable[tuple[int, int, int]] = (),
        validate_args: bool = False,
        name: str = "block",
    ) -> None:
        super().__init__(bijectors, repeats=repeats, validate_args=validate_args, name=name)


class Repeat(list):
    """Layers of a `Sequential` that repeat: alike, but for the values of their variables.

    It is no bijector, but a word about some: a `Sequential` that is given one has its layers, one
    after the other, and `evaluation.looping` takes them as the body of one loop.

    Args:
      turns: a list of repetitions, each a bijector or a list of them.

    Raises:
      ValueError: if the repetitions are not of the same classes, with variables of the same shapes
        and dtypes, and with the same constants.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    shape = [None, None, 4]
    flow = bijectors.Sequential([
        bijectors.Squeeze(),
        bijectors.Repeat([
            [bijectors.ActNorm.trainable(shape), bijectors.InvertibleConv1x1.trainable(shape)]
            for _ in range(8)
        ]),
    ])
    len(flow.bijectors)  # 17
    ```
    """

    def __init__(self, turns: Iterable[tfb.Bijector | Iterable[tfb.Bijector]]) -> None:
        super().__init__([turn] if isinstance(turn, tfb.Bijector) else list(turn) for turn in turns)
        contents = [parts.Contents(turn) for turn in self]
        for number, content in enumerate(contents):
            if not content.is_like(contents[0]):
                raise ValueError(
                    "The turns of a `Repeat` must be alike: of the same classes, with variables of "
                    "the same shapes and dtypes and the same constants. "
                    f"Received: turns[0]={self[0]}, turns[{number}]={self[number]}."
                )


def _flatten(
    bijectors: Iterable[tfb.Bijector | Repeat], repeats: Iterable[tuple[int, int, int]]
) -> tuple[list[tfb.Bijector], tuple[tuple[int, int, int], ...]]:
    """Returns a list without `Repeat`s, and where these were in addition to the others."""
    flat: list[tfb.Bijector] = []
    found = list(repeats)
    for item in bijectors:
        if isinstance(item, Repeat):
            found += [(len(flat), len(item[0]), len(item))] if item else []
            flat += itertools.chain(*item)
        else:
            flat.append(item)
    return flat, tuple(found)
