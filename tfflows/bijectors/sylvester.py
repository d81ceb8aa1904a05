"""`Sylvester`: generalised Sylvester flows, Hoogeboom et al. (2020), and their dense forms."""

import functools
from collections.abc import Callable
from typing import Any, Self

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfflows.bijectors.columns import HouseholderColumns, OrthonormalColumns
from tfflows.bijectors.conditional import check_bound, context_shape_of
from tfflows.bijectors.flip import Flip
from tfflows.bijectors.triangular import TriangularTanh
from tfflows.evaluation import state
from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.evaluation.network_calls import apply, prepare
from tfflows.numerics import fixed_point, linalg, linear_operators
from tfflows.numerics.parameters import as_context, as_parameter
from tfflows.numerics.shapes import with_shape
from tfflows.types import Shape, TensorLike


class Sylvester(FlowBijector):
    """Generalised Sylvester flow, Hoogeboom et al. (2020), section 4.

    For an invertible linear map `W`, the basis, and a function `f` whose Jacobian is triangular
    with the diagonal `d`,

        forward:  y = x + W^-1 f(W x)
        inverse:  x = y - W^-1 f(u),  where u + f(u) = W y
        log-det:  sum_i log(1 + d_i(W x))

    The order in which `f` is triangular need not be known: only its diagonal is used.

    **Inverse.** `u` is found by `fixed_point.solve` with the diagonal Newton step. It converges if
    `|d| < 1`, since then `u_i -> u_i + f_i(u)` has a slope in (0, 2), in which the step always
    reduces the error, and one entry after the other becomes final. An event that has not converged
    after `max_iterations` comes back as NaN, with a log-det of NaN: never as a wrong value.
    Gradients are those of the implicit function theorem.

    Args:
      basis: `W`: a `tfb.Bijector` with constant Jacobian that is linear, without a shift, which
        cannot be checked; or a square `tf.linalg.LinearOperator`; or the columns `Q` of
        `Sylvester.dense`.
      autoregressive: a callable that maps `u` to `f(u)` and `d(u)`, both of the shape of `u`. A
        built Keras layer or a `tf.Module` is tracked. It may have an attribute `batch_shape`, and a
        method `prepare()` that returns the callable after having computed all that does not depend
        on `u`, for the inverse to call many times.
      tolerance: see `fixed_point.solve`.
      max_iterations: bound on the iterations of the inverse.
      conditional: whether `autoregressive` takes a context, a vector, which `tfflows.condition`
        binds: `autoregressive(u, context)`.
      context: the context itself, `[..., K]`; its batch dimensions are those of the bijector.
      event_shape: shape of an event, for checks; by default that of the basis.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the basis has no constant Jacobian or is not square.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    def previous(u):  # 0.5 tanh of the entry before: the diagonal is 0
        return 0.5 * tf.tanh(tf.pad(u[..., :-1], [[0, 0], [1, 0]])), tf.zeros_like(u)

    rotation = tf.linalg.LinearOperatorHouseholder([0.6, 0.8])
    flow = tfflows.bijectors.Sylvester(rotation, previous)
    y = flow.forward(tf.ones([3, 2]))
    flow.inverse_iterations(y)  # [3]
    ```

    #### References

    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910.

    Van den Berg, Hasenclever, Tomczak, Welling, *Sylvester Normalizing Flows for Variational
    Inference*, UAI 2018, arXiv:1803.05649: the dense forms.
    """

    # `tf.Module` takes an operator for a composite tensor, which one's own need not be. Its
    # variables are listed instead.
    _TF_MODULE_IGNORED_PROPERTIES = FlowBijector._TF_MODULE_IGNORED_PROPERTIES.union(
        ("_operator", "_parameters")
    )

    def __init__(
        self,
        basis: tfb.Bijector | tf.linalg.LinearOperator | OrthonormalColumns | HouseholderColumns,
        autoregressive: Callable[..., tuple[tf.Tensor, tf.Tensor]],
        *,
        tolerance: float | None = None,
        max_iterations: int = 1000,
        conditional: bool = False,
        context: TensorLike | None = None,
        event_shape: Shape | None = None,
        validate_args: bool = False,
        name: str = "sylvester",
    ) -> None:
        parameters = dict(locals())
        self._basis = self._operator = None
        batch_shape = tf.TensorShape(getattr(autoregressive, "batch_shape", ()))
        if isinstance(basis, tfb.Bijector):
            self._basis, event_ndims = basis, _check_bijector(basis)
            event_shape = event_shape or getattr(basis, "_event_shape", None)
            basis_batch_shape = basis.experimental_batch_shape(x_event_ndims=event_ndims)
        elif isinstance(basis, tf.linalg.LinearOperator):
            _check_square(basis)
            self._operator, self._operator_variables = basis, basis.variables
            event_shape, event_ndims = (basis.domain_dimension,), 1
            basis_batch_shape = basis.batch_shape
        else:
            self._basis, event_shape, event_ndims = basis, (basis.num_dims,), 1
            basis_batch_shape = basis.batch_shape
        self._autoregressive = self._track_network(autoregressive)
        self._tolerance, self._max_iterations = tolerance, max_iterations
        dtype = basis.dtype or getattr(autoregressive, "dtype", None)
        self._context = as_context(context, dtype)
        if self._context is not None:
            batch_shape = tf.broadcast_static_shape(batch_shape, self._context.shape[:-1])
        super().__init__(
            forward_min_event_ndims=event_ndims,
            event_shape=event_shape,
            batch_shape=tf.broadcast_static_shape(batch_shape, basis_batch_shape),
            dtype=None if dtype is None else tf.as_dtype(dtype),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def dense(
        cls,
        columns: TensorLike,
        r1: TensorLike,
        r2: TensorLike,
        bias: TensorLike,
        *,
        name: str = "sylvester",
        **kwargs: Any,
    ) -> Self:
        """Returns the flow of van den Berg et al. (2018).

            y = x + Q R_1 tanh(R_2 Q^T x + b)

        with `Q` `[D, M]`, `M <= D`, of orthonormal columns and `R_1`, `R_2` upper triangular. Their
        diagonals are `0.999 tanh(diag r)`, which keeps the product of the two above -1, as the
        invertibility needs for `|tanh'| <= 1`. All arguments may have batch dimensions, as the
        outputs of an encoder have.

        Args:
          columns: `[..., D, M]` of full rank, to which the Gram-Schmidt process is applied, in the
            place of the iteration of the paper: orthonormal columns are `Q` as they are.
          r1: `[..., M, M]`, entries under the diagonal are not used.
          r2: the same.
          bias: `b`, `[..., M]`.
          name: name of the bijector.
          **kwargs: other arguments of the class.
        """
        basis = OrthonormalColumns(columns)
        return cls(basis, TriangularTanh(r1, r2, bias, basis.num_columns), name=name, **kwargs)

    @classmethod
    def householder(
        cls,
        reflections: TensorLike,
        r1: TensorLike,
        r2: TensorLike,
        bias: TensorLike,
        *,
        name: str = "sylvester",
        **kwargs: Any,
    ) -> Self:
        """Returns `dense` with `Q` the first `M` columns of a product of reflections.

        Args:
          reflections: `[..., n, D]`, the vectors of `Q = H_1 ... H_n`, none zero.
          r1: `[..., M, M]`, see `dense`.
          r2: the same.
          bias: `[..., M]`.
          name: name of the bijector.
          **kwargs: other arguments of the class.
        """
        reflections, r1 = as_parameter(reflections), as_parameter(r1)
        basis = HouseholderColumns(reflections, num_columns=r1.shape[-1])
        return cls(basis, TriangularTanh(r1, r2, bias, basis.num_columns), name=name, **kwargs)

    @classmethod
    def triangular(
        cls,
        r1: TensorLike,
        r2: TensorLike,
        bias: TensorLike,
        *,
        reverse: bool = False,
        name: str = "sylvester",
        **kwargs: Any,
    ) -> Self:
        """Returns `dense` with `Q` the identity, or the reversal of the order of the entries.

        The paper alternates between both.

        Args:
          r1: `[..., D, D]`, see `dense`.
          r2: the same.
          bias: `[..., D]`.
          reverse: whether to reverse.
          name: name of the bijector.
          **kwargs: other arguments of the class.
        """
        r1 = as_parameter(r1)
        num_dims = r1.shape[-1]
        basis = Flip(axis=-1 if reverse else (), event_ndims=1)
        function = TriangularTanh(r1, r2, bias, num_dims)
        return cls(basis, function, event_shape=(num_dims,), name=name, **kwargs)

    def inverse_iterations(self, y: TensorLike) -> tf.Tensor:
        """Returns how many iterations `inverse` takes for each event, `int32`.

        Args:
          y: `[..., *event]`, as `inverse` takes it.
        """
        function = prepare(self._autoregressive)
        return self._solve(self._as_output(y), self._given_context(function))[-1].num_iterations

    def _batch_shape_tensor(self, x_event_ndims):
        shape = tf.zeros([0], tf.int32)
        for part in (self._operator, self._basis, self._autoregressive):
            if isinstance(part, tfb.Bijector):
                ndims = self.forward_min_event_ndims
                of_part = part.experimental_batch_shape_tensor(x_event_ndims=ndims)
            elif hasattr(part, "batch_shape_tensor"):
                of_part = part.batch_shape_tensor()
            else:
                of_part = []
            shape = tf.broadcast_dynamic_shape(shape, tf.cast(of_part, tf.int32))
        if self._context is not None:
            shape = tf.broadcast_dynamic_shape(shape, tf.shape(self._context)[:-1])
        extra = x_event_ndims - self.forward_min_event_ndims
        return shape[: tf.maximum(tf.size(shape) - extra, 0)]

    def _maps(self):
        """Returns `W` and `W^-1` as functions."""
        if self._operator is not None:
            return tuple(
                functools.partial(function, self._operator)
                for function in (linear_operators.matvec, linear_operators.solvevec)
            )
        if isinstance(self._basis, tfb.Bijector):
            return self._basis.forward, self._basis.inverse
        q = self._columns()
        return (
            lambda x: linalg.matvec(q, x, transpose=True),
            lambda u: linalg.matvec(q, u),
        )

    @of_weights
    def _columns(self):
        """Returns `Q`, if the basis is one of columns."""
        is_one = self._operator is None and not isinstance(self._basis, tfb.Bijector)
        return self._basis.matrix() if is_one else None

    def _solve(self, y, function):
        """Returns `W^-1`, `v = W y` and the `Solution` of `u + f(u) = v`."""
        to_basis, from_basis = self._maps()
        v, event_ndims = to_basis(y), self.forward_min_event_ndims
        v = self._with_whole_batch(v)
        solution = fixed_point.solve(
            state.bind(function),
            v,
            event_ndims=event_ndims,
            tolerance=self._tolerance,
            max_iterations=self._max_iterations,
        )
        return from_basis, v, solution

    def _with_whole_batch(self, v):
        """Gives `v` the batch dimensions of all parameters, where it has fewer."""
        event_ndims = self.forward_min_event_ndims
        batch, event = v.shape[:-event_ndims], v.shape[-event_ndims:]
        full = tf.broadcast_static_shape(batch, self._static_batch_shape)
        if full == batch and self._static_batch_shape.is_fully_defined():
            return v
        shape = tf.broadcast_dynamic_shape(
            tf.shape(v)[:-event_ndims], self.experimental_batch_shape_tensor()
        )
        v = tf.broadcast_to(v, tf.concat([shape, tf.shape(v)[-event_ndims:]], axis=0))
        return with_shape(v, full + event)

    def _given_context(self, function):
        """Returns a function of `u` alone, of one that takes the context too."""
        check_bound(self)
        if self._context is None:
            return function
        context, ndims = self._context, self.forward_min_event_ndims

        def given(u):
            shape = tf.concat([tf.shape(u)[:-ndims], tf.shape(context)[-1:]], axis=0)
            rows = tf.broadcast_to(context, shape)
            return function(u, with_shape(rows, [*u.shape[:-ndims], *context.shape[-1:]]))

        return given

    def _evaluate(self, *args):
        return apply(self._autoregressive, *args)

    @property
    def context_shape(self) -> list[int | None]:
        """Shape of an event of the context: a vector."""
        return context_shape_of(getattr(self._autoregressive, "network", None), 1)

    def _log_det(self, diagonal):
        return tf.reduce_sum(tf.math.log1p(diagonal), list(range(-self.forward_min_event_ndims, 0)))

    def _forward_and_log_det(self, x):
        to_basis, from_basis = self._maps()
        u = to_basis(x)
        if self._context is not None:
            x, u = self._with_whole_batch(x), self._with_whole_batch(u)
        value, diagonal = self._given_context(self._evaluate)(u)
        return x + from_basis(value), self._log_det(diagonal)

    def _inverse_and_log_det(self, y):
        function = self._given_context(prepare(self._autoregressive))
        from_basis, v, solution = self._solve(y, function)
        # v - u is f(u): without the log-det, f need not be evaluated once more.
        x = y - from_basis(v - solution.value)
        if state.now().calls is not None:  # To hear what is said at the solution.
            function = self._given_context(self._evaluate)
        _, diagonal = function(solution.value)
        return x, -self._log_det(diagonal)


def _check_bijector(basis):
    """Returns the rank of the events of a basis."""
    if not basis.is_constant_jacobian:
        raise ValueError(
            "`basis` must be a linear bijector, with `is_constant_jacobian=True`. "
            f"Received: basis={basis!r}."
        )
    if basis.forward_min_event_ndims != basis.inverse_min_event_ndims:
        raise ValueError(
            "`basis` must keep the rank of events. Received: forward_min_event_ndims="
            f"{basis.forward_min_event_ndims}, inverse_min_event_ndims="
            f"{basis.inverse_min_event_ndims}."
        )
    return basis.forward_min_event_ndims


def _check_square(operator):
    if operator.domain_dimension != operator.range_dimension:
        raise ValueError(f"`basis` must be square. Received: basis.shape={tuple(operator.shape)}.")
