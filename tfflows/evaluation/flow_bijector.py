"""`FlowBijector`, the base class of every bijector in tfflows."""

import copy
from collections.abc import Sequence
from typing import Any, Self, TypeVar

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfflows._keras import track
from tfflows.evaluation.memo import EvaluationMemo
from tfflows.numerics.parameters import as_data
from tfflows.numerics.shapes import with_known_shape
from tfflows.types import DTypeLike, Shape

_T = TypeVar("_T")


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

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    class Twice(bijectors.FlowBijector):
        def __init__(self, name="twice"):
            super().__init__(forward_min_event_ndims=0, parameters=dict(locals()), name=name)

        def _forward_and_log_det(self, x):
            return 2 * x, tf.math.log(2.0)

        def _inverse_and_log_det(self, y):
            return y / 2, -tf.math.log(2.0)

    Twice().forward_log_det_jacobian(tf.ones([5]), event_ndims=0)  # 0.693
    ```
    """

    _cache = EvaluationMemo()
    parts: Sequence[tfb.Bijector] = ()  # What it is composed of, in the order of `forward`.
    is_series = False  # Whether it is no more than its parts, one after the other.
    is_unit = False  # Whether `memory` takes it as a whole.
    guidable: Sequence[str] = ()  # Parameters that are networks whose outputs may be anything.
    # What methods that are marked `of_weights` return, and those of sizes: of `for_inference`.
    _of_weights: dict[str, Any] | None = None
    _of_sizes: dict[tuple, Any]

    def __init__(
        self,
        *,
        forward_min_event_ndims: int,
        inverse_min_event_ndims: int | None = None,
        event_shape: Shape | None = None,
        inverse_event_shape: Shape | None = None,
        batch_shape: Shape | None = None,
        dtype: DTypeLike | None = None,
        parameters: dict[str, Any],
        **kwargs: Any,
    ) -> None:
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

    def _forward_and_log_det(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `f(x)` and `log|det f'(x)|`; the subclass's part."""
        raise NotImplementedError(f"{type(self).__name__} has no forward.")

    def _inverse_and_log_det(self, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `f^-1(y)` and `log|det (f^-1)'(y)|`; the subclass's part."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse.")

    def _track_network(self, network: _T) -> _T:
        """Checks that `network` is built and makes its variables part of this bijector's."""
        return track(self, network)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # From the parameters: a copy of the attributes would have two copies of each network's
        # variables, one in the Keras layer and one in the list that `tf.Module` sees.
        new = type(self)(**copy.deepcopy(self.parameters, memo))
        return new._keep(copy.deepcopy(self._of_weights, memo))

    def copy(self, *, of_weights: dict[str, Any] | None = None, **parameters: Any) -> Self:
        """Returns a copy with other parameters, see `tfb.Bijector.copy`.

        Args:
          of_weights: what the methods that are marked `of_weights` are to return; by default, what
            they return here if no parameter is another one, and else they compute it.
          **parameters: those that are to be others.
        """
        if of_weights is None and not parameters.keys() - {"name", "validate_args"}:
            of_weights = self._of_weights
        return super().copy(**parameters)._keep(of_weights)

    def _keep(self, of_weights):
        if of_weights is not None:
            self._of_weights = self._no_dependency(of_weights)
            self._of_sizes = self._no_dependency({})
        return self

    @property
    def context_shape(self) -> list[int | None]:
        """Shape of an event of the context of a conditional class, `None` for any size."""
        return []

    # Checks, ahead of TFP's own conversions so that the message can name the class.

    def _call_forward(self, x, name, **kwargs):
        self._check(x, self._event_shape, "x")
        call = super()._call_forward
        return self._with_known_shape(lambda x: (call(x, name, **kwargs), None), x)[0]

    def _call_inverse(self, y, name, **kwargs):
        self._check(y, self._inverse_event_shape_expected, "y")
        call = super()._call_inverse
        return self._with_known_shape(lambda y: (call(y, name, **kwargs), None), y, True)[0]

    def _call_forward_log_det_jacobian(self, x, event_ndims, name, **kwargs):
        self._check(x, self._event_shape, "x")
        call = super()._call_forward_log_det_jacobian

        def evaluate(x):
            return None, call(x, event_ndims, name, **kwargs)

        return self._with_known_shape(evaluate, x, event_ndims=event_ndims)[1]

    def _call_inverse_log_det_jacobian(self, y, event_ndims, name, **kwargs):
        self._check(y, self._inverse_event_shape_expected, "y")
        call = super()._call_inverse_log_det_jacobian

        def evaluate(y):
            return None, call(y, event_ndims, name, **kwargs)

        return self._with_known_shape(evaluate, y, True, event_ndims)[1]

    def _with_known_shape(self, function, value, inverse=False, event_ndims=None):
        """Returns `function(value)`, which sees all that is known of the shape of `value`."""
        expected, least = self._event_shape, self.forward_min_event_ndims
        if inverse:
            expected, least = self._inverse_event_shape_expected, self.inverse_min_event_ndims
        more = 0 if event_ndims is None else tf.get_static_value(event_ndims) - least
        sizes = [None] * least if expected is None else tf.TensorShape(expected).as_list()
        event_shape = (*[None] * more, *sizes)

        def batch_shape():
            return self.experimental_batch_shape(self.forward_min_event_ndims + more)

        return with_known_shape(function, value, event_shape, batch_shape)

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

    def _as_output(self, y):
        """Returns what `inverse` takes as a tensor, for methods of a class that take it, too."""
        y = as_data(y, self.dtype)
        self._check(y, self._inverse_event_shape_expected, "y")
        return y

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

    def __getitem__(self, slices: Any) -> Self:
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
    def _parameter_properties(cls, dtype: tf.DType | None) -> dict[str, Any]:
        """Returns the parameters that may have batch dimensions, as TFP describes them."""
        return {}
