"""What `FlowModel` trains beside a distribution: the network that makes a context of `y`."""

from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflows import keras_data
from tfflows.conditioning import check_context, condition, expected_context
from tfflows.evaluation.network_calls import NetworkModule, apply_encoder
from tfflows.networks import one_hot
from tfflows.types import Network


class Conditioned(tf.Module):
    """A distribution that is conditional or not, and what makes a context of `y`.

    Its variables are those of both, under `distribution/` and `context/`; those of the distribution
    alone, under their own paths, if the network has none.

    Args:
      distribution: a `tfd.Distribution`.
      context: a callable from `y` to the context, such as a Keras layer; `None` if it is `y`.

    Raises:
      ValueError: if there is a callable and no part of the distribution takes a context.
    """

    def __init__(self, distribution: tfd.Distribution, context: Network | None) -> None:
        super().__init__()
        self.distribution = distribution
        self.context: NetworkModule | None = None
        self.shape = expected_context(distribution)
        if context is None:
            return
        if self.shape is None or not callable(context):
            raise ValueError(
                "`context` must be a callable, for a distribution with a conditional part. "
                f"Received: context={context!r}, distribution={distribution!r}."
            )
        if isinstance(context, keras.layers.Embedding) and not context.built:
            context.build()  # The one layer that needs no shape.
        if not getattr(context, "built", True):
            raise ValueError(
                "`context` must be a layer that is built: give it an input shape, as in "
                "`keras.Sequential([keras.Input([5]), layer])`, or apply it once. "
                f"Received: context={context!r}."
            )
        self.context = NetworkModule(context)

    @property
    def module(self) -> tf.Module:
        """What has the variables: the distribution alone if there is no network that has any."""
        return self if self.context is not None and self.context.variables else self.distribution

    @property
    def is_conditional(self) -> bool:
        """Whether a part of the distribution takes a context that is not bound."""
        return self.shape is not None

    def check(self, x: tf.Tensor, y: Any) -> None:
        """Raises a `ValueError` if `y` is missing, in vain, or of other rows than `x`."""
        keras_data.check_given(y, self.is_conditional)
        if y is not None:
            keras_data.check_rows(x, y)

    def bind(
        self, y: Any, is_batch: bool = True, dropout: tuple[float, Any] | None = None
    ) -> tfd.Distribution:
        """Returns the distribution given `y`, as `keras_data.as_conditions` returns it.

        Args:
          y: a `Tensor`, or what structure of them the network takes; `None` if the distribution is
            not conditional.
          is_batch: whether it has to be one batch, for as many events.
          dropout: part of the rows of a batch that are given zeros, and a seed; `None` for none.

        Raises:
          ValueError: if `y` is not what network or distribution take.
        """
        if self.shape is None:
            return self.distribution
        context = self.context_of(y, is_batch)
        if dropout is not None:
            context = _drop(context, *dropout)
        return condition(self.distribution, context)

    @tf.autograph.experimental.do_not_convert
    def context_of(self, y: Any, is_batch: bool = True) -> Any:
        """Returns the context that is bound, of `y`: see `bind`; `None` if there is none."""
        if self.shape is None:
            return None
        context = y if self.context is None else self._encode(y)
        if isinstance(context, tf.SparseTensor) or not self.shape:
            return context
        if not tf.is_tensor(context):
            raise ValueError(
                "`y` must be one array, or `context` make one of it. "
                f"Received: {tf.nest.map_structure(lambda v: tuple(v.shape), context)}."
            )
        if context.shape.rank is None and is_batch:
            context = tf.ensure_shape(context, [None, *self.shape])
        must = f"`y` must have {'' if self.context is None else 'contexts of '}shape"
        check_context(context, self.shape, must, is_batch)
        return context

    def _encode(self, y):
        """Returns what the network makes of `y`; floats in the dtype of the distribution."""
        try:
            context = apply_encoder(self.context.network, y)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            shapes = tf.nest.map_structure(lambda v: tuple(v.shape), y)
            raise ValueError(
                keras_data.told(str(error))
                or one_hot.told(str(error))
                or "`y` must be what the network `context` takes. "
                f"Received: shape={shapes}; {_first_line(str(error))}"
            ) from None
        return keras_data.as_conditions(context, keras_data.real_dtype(self.distribution))


def _drop(context, rate, seed):
    """Returns contexts `[N, ...]` with zeros for some of the rows."""
    if context.dtype.is_integer:
        raise ValueError(
            "`context_dropout` must be 0 for contexts that are integers: 0 is one of them. "
            f"Received: contexts of {context.dtype.name}."
        )
    # Not the seed of the noise, which would go with what is dropped.
    seed = tf.random.experimental.stateless_fold_in(tf.convert_to_tensor(seed, tf.int32), 1)
    shape = tf.concat([tf.shape(context)[:1], tf.ones([context.shape.rank - 1], tf.int32)], axis=0)
    is_kept = tf.random.stateless_uniform(shape, seed) >= rate
    return tf.where(is_kept, context, tf.zeros_like(context))


def _first_line(message):
    """Returns the line of an error of Keras that says what is wrong."""
    lines = [line for line in message.replace("\x1b[1m", "").splitlines() if line.strip()]
    more = len(lines) > 1 and lines[0].startswith("Exception encountered")
    return lines[more].replace("\x1b[0m", "") if lines else ""
