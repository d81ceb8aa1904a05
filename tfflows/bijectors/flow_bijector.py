"""`FlowBijector`, the base class of every bijector in tfflows, and how they are evaluated."""

import contextlib
import copy
import functools

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.bijectors import _private, tape_memory
from tfflows.bijectors._memo import EvaluationMemo

tfb = tfp.bijectors


class FlowBijector(tfb.Bijector):
    """A `tfb.Bijector` whose output and log-det come from one evaluation.

    A subclass writes two methods:

        _forward_and_log_det(x) -> y, log|det dy/dx|
        _inverse_and_log_det(y) -> x, log|det dx/dy|

    each log-det with one value per event, of shape `x.shape[:-forward_min_event_ndims]` or anything
    that broadcasts to it (a scalar, where the Jacobian is constant). All the public methods of
    `tfb.Bijector` follow from them. `forward` is the direction of the papers: data to latent.

    What this class adds to `tfb.Bijector`:

    - In a graph, `forward` and `forward_log_det_jacobian` of the same tensor share one evaluation,
      as do a result and its inverse. Nothing remembered outlives an `assign` to a variable.
    - Variables of Keras layers given to `_track_network` are in `variables`, hence in those of
      every `tfd.TransformedDistribution`, `tfb.Chain` or `tf.train.Checkpoint` around it.
    - A wrong shape or dtype raises an error that names the class and what was expected.
    - `context` is bound by `tfflows.condition`, see there.

    In eager mode, `tfb.Chain` keeps its own cache, keyed by tensor identity, which knows nothing of
    variables: `tfflows.bijectors.Sequential` is the composition that never returns old values.

    Args:
      forward_min_event_ndims: Python `int`, the rank of an event.
      inverse_min_event_ndims: Python `int`, the rank of an event of the output; by default the
        same.
      event_shape: expected shape of an event of `forward`, `None` where any size will do.
      inverse_event_shape: the same for `inverse`; by default `event_shape`.
      batch_shape: static batch shape, of a class whose parameters are not those of
        `_parameter_properties`; its batches can't be sliced, and if their size may be unknown it
        overrides `_batch_shape_tensor`. By default what follows from these.
      dtype: dtype of the parameters, or `None` for a bijector that has none.
      parameters: `dict(locals())` of the subclass's constructor.
      **kwargs: other arguments of `tfb.Bijector`.
    """

    _cache = EvaluationMemo()
    recomputed = False  # Whether `memory` takes it as a whole.
    is_series = False  # Whether it is no more than its `bijectors`, one after the other.
    has_levels = False  # Whether `memory` looks at its parts one by one.

    def __init__(
        self,
        *,
        forward_min_event_ndims,
        inverse_min_event_ndims=None,
        event_shape=None,
        inverse_event_shape=None,
        batch_shape=None,
        dtype=None,
        parameters,
        **kwargs,
    ):
        parameters = {k: v for k, v in parameters.items() if k not in ("self", "__class__")}
        if inverse_min_event_ndims is None:
            inverse_min_event_ndims = forward_min_event_ndims
        super().__init__(
            forward_min_event_ndims=forward_min_event_ndims,
            inverse_min_event_ndims=inverse_min_event_ndims,
            dtype=dtype,
            parameters=parameters,
            **kwargs,
        )
        self._event_shape = event_shape
        self._inverse_event_shape_expected = (
            event_shape if inverse_event_shape is None else inverse_event_shape
        )
        self._static_batch_shape = None if batch_shape is None else tf.TensorShape(batch_shape)

    def _forward_and_log_det(self, x):
        """Returns `f(x)` and `log|det f'(x)|`; the subclass's part."""
        raise NotImplementedError(f"{type(self).__name__} has no forward.")

    def _inverse_and_log_det(self, y):
        """Returns `f^-1(y)` and `log|det (f^-1)'(y)|`; the subclass's part."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse.")

    def _track_network(self, network):
        """Checks that `network` is built and makes its variables part of this bijector's."""
        if isinstance(network, keras.layers.Layer):
            if not network.built:
                raise ValueError(
                    f"`{type(self).__name__}` needs a network that is built, so that its variables "
                    "are known: call `network.build(input_shape)` or apply it once. "
                    f"Received: network={network!r}, network.built=False."
                )
            # Keras variables are invisible to `tf.Module`; the `tf.Variable`s inside are not.
            self._network_variables = [variable.value for variable in network.variables]
        return network

    def __deepcopy__(self, memo):
        # From the parameters: a copy of the attributes would have two copies of each network's
        # variables, one in the Keras layer and one in the list that `tf.Module` sees.
        return type(self)(**copy.deepcopy(self.parameters, memo))

    # Checks, ahead of TFP's own conversions so that the message can name the class.

    def _call_forward(self, x, name, **kwargs):
        self._check(x, self._event_shape, "x")
        return super()._call_forward(x, name, **kwargs)

    def _call_inverse(self, y, name, **kwargs):
        self._check(y, self._inverse_event_shape_expected, "y")
        return super()._call_inverse(y, name, **kwargs)

    def _call_forward_log_det_jacobian(self, x, event_ndims, name, **kwargs):
        self._check(x, self._event_shape, "x")
        return super()._call_forward_log_det_jacobian(x, event_ndims, name, **kwargs)

    def _call_inverse_log_det_jacobian(self, y, event_ndims, name, **kwargs):
        self._check(y, self._inverse_event_shape_expected, "y")
        return super()._call_inverse_log_det_jacobian(y, event_ndims, name, **kwargs)

    def _check(self, value, expected, argument):
        """Raises an error if the dtype or the event shape of `value` is not the expected one."""
        class_name = type(self).__name__
        if tf.is_tensor(value) and self.dtype is not None and value.dtype != self.dtype:
            raise TypeError(
                f"`{class_name}` expected `{argument}` of dtype {tf.as_dtype(self.dtype).name}. "
                f"Received: {argument}.dtype={value.dtype.name}."
            )
        if expected is None:
            return
        shape = value.shape if hasattr(value, "shape") else tf.convert_to_tensor(value).shape
        shape, rank = tf.TensorShape(shape), len(expected)
        if shape.rank is None:
            return
        event = shape[max(shape.rank - rank, 0) :]
        if event.rank != rank or not event.is_compatible_with(tf.TensorShape(expected)):
            wanted = ", ".join("any" if size is None else str(size) for size in expected)
            raise ValueError(
                f"`{class_name}` expected `{argument}` with events of shape [{wanted}] after any "
                f"batch dimensions. Received: {argument}.shape={tuple(shape)}."
            )

    def _batch_shape(self, x_event_ndims):
        if self._static_batch_shape is None:
            return super()._batch_shape(x_event_ndims)
        extra = x_event_ndims - self.forward_min_event_ndims
        return self._static_batch_shape[: max(self._static_batch_shape.rank - extra, 0)]

    def _batch_shape_tensor(self, x_event_ndims):
        if self._static_batch_shape is None:
            return super()._batch_shape_tensor(x_event_ndims)
        raise NotImplementedError(
            f"`{type(self).__name__}` needs a batch of known size. "
            f"Received: batch_shape={self._static_batch_shape}."
        )

    # TFP slices a bijector by itself, and one inside of a distribution after having broadcast it.

    def __getitem__(self, slices):
        self._check_can_be_sliced()
        return super().__getitem__(slices)

    def _broadcast_parameters_with_batch_shape(self, batch_shape, x_event_ndims):
        if self.experimental_batch_shape(x_event_ndims=x_event_ndims).rank == 0:
            return self  # Fits every batch; broadcast, its variables would become tensors.
        self._check_can_be_sliced()
        return super()._broadcast_parameters_with_batch_shape(batch_shape, x_event_ndims)

    def _check_can_be_sliced(self):
        if self._static_batch_shape is not None and self._static_batch_shape.rank != 0:
            raise NotImplementedError(
                f"A batch of `{type(self).__name__}` can't be sliced: slice what it is made of. "
                f"Received: batch_shape={self._static_batch_shape}."
            )

    @classmethod
    def _parameter_properties(cls, dtype):
        """Returns the parameters that may have batch dimensions, as TFP describes them."""
        return {}


_observers = []


@contextlib.contextmanager
def observe_layers(before=None, after=None):
    """Watches the evaluation of each bijector of a composed flow, in the order of evaluation.

    Args:
      before: called as `before(bijector, input)`, the whole of a composed bijector first.
      after: called as `after(bijector, input, output, log_det)`, the whole last.

    Yields:
      Nothing.
    """
    observer = (before or (lambda *_: None), after or (lambda *_: None))
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def _watching():
    """Returns the observers; none inside a layer whose values are not kept, see `memory`."""
    return [] if tape_memory.is_inside() else _observers


def initialize(bijector, x):
    """Runs the data-dependent initialisation of every part that has one, in order.

    Each part with a method `initialize(x)` (as `ActNorm`) sees what the parts before it, already
    initialised, make of the batch.

    Args:
      bijector: any `tfb.Bijector`.
      x: a batch of data, in eager mode.
    """
    x = tf.convert_to_tensor(x, dtype_hint=bijector.dtype)

    def initialize_part(part, value):
        if hasattr(part, "initialize"):
            part.initialize(value)

    with observe_layers(before=initialize_part):
        forward_and_log_det(bijector, x)


def forward_and_log_det(bijector, x, event_ndims=None):
    """Returns `f(x)` and `log|det f'(x)|` from one evaluation.

    Args:
      bijector: any `tfb.Bijector`. `tfb.Chain` and `tfb.Invert` are looked into.
      x: a `Tensor`.
      event_ndims: rank of the events of `x`; by default `bijector.forward_min_event_ndims`.

    Returns:
      A pair: the output, and the log-det, which broadcasts to the batch shape of `x`.
    """
    if event_ndims is None:
        event_ndims = bijector.forward_min_event_ndims
    for before, _ in _watching():
        before(bijector, x)
    if isinstance(bijector, FlowBijector):
        bijector._check(x, bijector._event_shape, "x")
        y, log_det = tape_memory.evaluate(bijector, bijector._forward_and_log_det, x)
        log_det = _sum_over_event(log_det, x, bijector.forward_min_event_ndims, event_ndims)
    elif isinstance(bijector, _private.InvertBase):
        return inverse_and_log_det(bijector.bijector, x, event_ndims)
    elif isinstance(bijector, _private.ChainBase):
        return forward_through(reversed(bijector.bijectors), x, event_ndims)
    else:
        x = tf.nest.map_structure(tf.identity, x)  # New tensors, which TFP's cache can't know.
        y, log_det = bijector.forward(x), bijector.forward_log_det_jacobian(x, event_ndims)
    for _, after in _watching():
        after(bijector, x, y, log_det)
    return y, log_det


def inverse_and_log_det(bijector, y, event_ndims=None):
    """Returns `f^-1(y)` and `log|det (f^-1)'(y)|` from one evaluation.

    Args:
      bijector: any `tfb.Bijector`. `tfb.Chain` and `tfb.Invert` are looked into.
      y: a `Tensor`.
      event_ndims: rank of the events of `y`; by default `bijector.inverse_min_event_ndims`.

    Returns:
      A pair: the preimage, and the log-det, which broadcasts to the batch shape of `y`.
    """
    if event_ndims is None:
        event_ndims = bijector.inverse_min_event_ndims
    for before, _ in _watching():
        before(bijector, y)
    if isinstance(bijector, FlowBijector):
        bijector._check(y, bijector._inverse_event_shape_expected, "y")
        x, log_det = tape_memory.evaluate(bijector, bijector._inverse_and_log_det, y)
        log_det = _sum_over_event(log_det, y, bijector.inverse_min_event_ndims, event_ndims)
    elif isinstance(bijector, _private.InvertBase):
        return forward_and_log_det(bijector.bijector, y, event_ndims)
    elif isinstance(bijector, _private.ChainBase):
        return inverse_through(bijector.bijectors, y, event_ndims)
    else:
        y = tf.nest.map_structure(tf.identity, y)
        x, log_det = bijector.inverse(y), bijector.inverse_log_det_jacobian(y, event_ndims)
    for _, after in _watching():
        after(bijector, y, x, log_det)
    return x, log_det


def forward_through(bijectors, x, event_ndims):
    """Applies `forward` of each bijector in turn; returns the output and the summed log-det."""
    return _through(bijectors, x, event_ndims, backwards=False)


def inverse_through(bijectors, y, event_ndims):
    """Applies `inverse` of each bijector in turn; returns the result and the summed log-det."""
    return _through(bijectors, y, event_ndims, backwards=True)


def _through(bijectors, x, event_ndims, backwards):
    """Evaluates bijectors in turn; a series of them as one, where `memory` says so."""
    total, series = tf.zeros([], tf.nest.flatten(x)[0].dtype), []
    steps = [(bijector, backwards) for bijector in bijectors]
    if inverting := tape_memory.is_inverting() and not _watching():
        steps = [leaf for step in steps for leaf in _leaves(*step)]

    def finish(x, total):
        if len(series) == 1:  # Its input is kept as well as its output.
            y, log_det = series[0].function(x)
        elif series:
            y, log_det = tape_memory.through(list(series), x)
        else:
            return x, total
        series.clear()
        return y, total + log_det

    for bijector, inverse in steps:
        ndims, next_ndims = bijector.forward_event_ndims, bijector.inverse_event_ndims
        there, back = forward_and_log_det, inverse_and_log_det
        if inverse:
            ndims, next_ndims, there, back = next_ndims, ndims, back, there
        after = ndims(event_ndims)
        if inverting and _is_in_series(bijector):
            layer = tape_memory.Layer(
                bijector,
                functools.partial(there, bijector, event_ndims=event_ndims),
                functools.partial(back, bijector, event_ndims=after),
            )
            series.append(layer)
        else:
            x, total = finish(x, total)
            x, log_det = there(bijector, x, event_ndims)
            total += log_det
        event_ndims = after
    return finish(x, total)


def _leaves(bijector, backwards):
    """Returns the parts of a composed bijector in order, each with whether it is inverted."""
    if isinstance(bijector, _private.InvertBase):
        return _leaves(bijector.bijector, not backwards)
    if isinstance(bijector, _private.ChainBase):
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
