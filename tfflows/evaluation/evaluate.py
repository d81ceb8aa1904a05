"""How bijectors are evaluated: output and log-det together, one after the other, watched."""

import functools

import tensorflow as tf

from tfflows import _tensorflow
from tfflows.evaluation import checkpointing, loops, repetitions, state
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics.parameters import as_data, check_finite


def initialize(bijector, x):
    """Runs the data-dependent initialisation of every part that has one, in order.

    Each part with a method `initialize(x)` (as `ActNorm`) sees what the parts before it, already
    initialised, make of the batch.

    Args:
      bijector: any `tfb.Bijector`.
      x: a batch of data, in eager mode.

    Raises:
      ValueError: if a row of the batch, or of what layers make of it, is not finite.
    """
    x = _as_input(x, bijector, bijector.forward_min_event_ndims)
    for part in tf.nest.flatten(x):
        check_finite(part)

    def initialize_part(part, value):
        if hasattr(part, "initialize"):
            part.initialize(value)

    with state.observe_layers(before=initialize_part):
        forward_and_log_det(bijector, x)


def forward_and_log_det(bijector, x, event_ndims=None):
    """Returns `f(x)` and `log|det f'(x)|` from one evaluation.

    Args:
      bijector: any `tfb.Bijector`. `tfb.Chain` and `tfb.Invert` are looked into.
      x: a `Tensor`, or an array or list.
      event_ndims: rank of the events of `x`; by default `bijector.forward_min_event_ndims`.

    Returns:
      A pair: the output, and the log-det, which broadcasts to the batch shape of `x`.
    """
    x = _as_input(x, bijector, bijector.forward_min_event_ndims)
    if event_ndims is None:
        event_ndims = bijector.forward_min_event_ndims
    for before, _ in state.now().watching:
        before(bijector, x)
    if isinstance(bijector, FlowBijector):
        bijector._check(x, bijector._event_shape, "x")

        def evaluate(x):
            y, log_det = checkpointing.evaluate(bijector, bijector._forward_and_log_det, x)
            least = bijector.forward_min_event_ndims
            return y, _sum_over_event(log_det, x, least, event_ndims)

        y, log_det = bijector._with_known_shape(evaluate, x, event_ndims=event_ndims)
    elif isinstance(bijector, _tensorflow.InvertBase):
        return inverse_and_log_det(bijector.bijector, x, event_ndims)
    elif isinstance(bijector, _tensorflow.ChainBase):
        return forward_through(reversed(bijector.bijectors), x, event_ndims)
    else:
        with _tensorflow.recording():  # It may differentiate something itself.
            x = tf.nest.map_structure(tf.identity, x)  # New tensors, which TFP's cache can't know.
            y, log_det = bijector.forward(x), bijector.forward_log_det_jacobian(x, event_ndims)
    for _, after in state.now().watching:
        after(bijector, x, y, log_det)
    return y, log_det


def inverse_and_log_det(bijector, y, event_ndims=None):
    """Returns `f^-1(y)` and `log|det (f^-1)'(y)|` from one evaluation.

    Args:
      bijector: any `tfb.Bijector`. `tfb.Chain` and `tfb.Invert` are looked into.
      y: a `Tensor`, or an array or list.
      event_ndims: rank of the events of `y`; by default `bijector.inverse_min_event_ndims`.

    Returns:
      A pair: the preimage, and the log-det, which broadcasts to the batch shape of `y`.
    """
    y = _as_input(y, bijector, bijector.inverse_min_event_ndims)
    if event_ndims is None:
        event_ndims = bijector.inverse_min_event_ndims
    for before, _ in state.now().watching:
        before(bijector, y)
    if isinstance(bijector, FlowBijector):
        bijector._check(y, bijector._inverse_event_shape_expected, "y")

        def evaluate(y):
            x, log_det = checkpointing.evaluate(bijector, bijector._inverse_and_log_det, y)
            least = bijector.inverse_min_event_ndims
            return x, _sum_over_event(log_det, y, least, event_ndims)

        x, log_det = bijector._with_known_shape(evaluate, y, True, event_ndims)
    elif isinstance(bijector, _tensorflow.InvertBase):
        return forward_and_log_det(bijector.bijector, y, event_ndims)
    elif isinstance(bijector, _tensorflow.ChainBase):
        return inverse_through(bijector.bijectors, y, event_ndims)
    else:
        with _tensorflow.recording():
            y = tf.nest.map_structure(tf.identity, y)
            x, log_det = bijector.inverse(y), bijector.inverse_log_det_jacobian(y, event_ndims)
    for _, after in state.now().watching:
        after(bijector, y, x, log_det)
    return x, log_det


def _as_input(value, bijector, event_ndims):
    """Returns arrays and lists as `Tensor`s; a bijector of several takes a structure of them."""
    if tf.nest.is_nested(event_ndims):
        return tf.nest.map_structure(as_data, value)
    return as_data(value, dtype_of(bijector))


def dtype_of(bijector):
    """Returns the dtype of a bijector or of its first part that has one, or `None`."""
    if isinstance(bijector, _tensorflow.InvertBase):
        return dtype_of(bijector.bijector)
    if isinstance(bijector, _tensorflow.ChainBase):
        return next(filter(None, map(dtype_of, bijector.bijectors)), None)
    return bijector.dtype


def forward_through(bijectors, x, event_ndims):
    """Applies `forward` of each bijector in turn; returns the output and the summed log-det."""
    return _through(bijectors, x, event_ndims, backwards=False)


def inverse_through(bijectors, y, event_ndims):
    """Applies `inverse` of each bijector in turn; returns the result and the summed log-det."""
    return _through(bijectors, y, event_ndims, backwards=True)


def _through(bijectors, x, event_ndims, backwards):
    """Evaluates bijectors in turn; a series of them as one, where `memory` or `looping` say so."""
    steps = [(bijector, backwards) for bijector in bijectors]
    inverting, looping = state.now().is_inverting, state.now().is_looping
    if inverting or looping:
        steps = [leaf for step in steps for leaf in _leaves(*step)]
    layers = []
    for bijector, inverse in steps:
        ndims, next_ndims = bijector.forward_event_ndims, bijector.inverse_event_ndims
        there, back = forward_and_log_det, inverse_and_log_det
        if inverse:
            ndims, next_ndims, there, back = next_ndims, ndims, back, there
        after = ndims(event_ndims)
        there, back = (
            functools.partial(there, event_ndims=event_ndims),
            functools.partial(back, event_ndims=after),
        )
        layers.append(checkpointing.Layer(bijector, inverse, event_ndims, there, back))
        event_ndims = after
    if looping:
        layers = repetitions.find(layers, x)
    total, series = tf.zeros([], tf.nest.flatten(x)[0].dtype), []

    def finish(x, total):
        if len(series) == 1:  # Its input is kept as well as its output.
            y, log_det = series[0](x)
        elif series:
            y, log_det = checkpointing.through(list(series), x)
        else:
            return x, total
        series.clear()
        return y, total + log_det

    for layer in layers:
        if inverting and not isinstance(layer, loops.Loop) and _is_in_series(layer.bijector):
            series.append(layer)
        else:
            x, total = finish(x, total)
            x, log_det = layer(x)
            total += log_det
    return finish(x, total)


def _leaves(bijector, backwards):
    """Returns the parts of a composed bijector in order, each with whether it is inverted."""
    if isinstance(bijector, _tensorflow.InvertBase):
        return _leaves(bijector.bijector, not backwards)
    if isinstance(bijector, _tensorflow.ChainBase):
        parts = bijector.bijectors[::-1]
    elif isinstance(bijector, FlowBijector) and bijector.is_series:
        parts = bijector.bijectors
    else:
        return [(bijector, backwards)]
    return [leaf for part in parts[:: -1 if backwards else 1] for leaf in _leaves(part, backwards)]


def _is_in_series(bijector):
    """Returns whether a bijector maps one `Tensor` to one, and is no flow of several levels."""
    ends = [bijector.forward_min_event_ndims, bijector.inverse_min_event_ndims]
    return not any(map(tf.nest.is_nested, ends)) and not getattr(bijector, "has_levels", False)


def _sum_over_event(log_det, value, min_event_ndims, event_ndims):
    """Sums the log-det over the dimensions of an event that a smaller bijector took for a batch."""
    extra = event_ndims - min_event_ndims
    if extra == 0:
        return log_det
    shape = tf.shape(value)[: tf.rank(value) - min_event_ndims]
    return tf.reduce_sum(tf.broadcast_to(log_det, shape), axis=list(range(-extra, 0)))
