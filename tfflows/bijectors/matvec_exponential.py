"""`MatvecExponential`: the exponential of any linear operator, Hoogeboom et al. (2020)."""

import functools

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import linear_operators, series


class MatvecExponential(FlowBijector):
    """Exponential of a linear map, Hoogeboom et al. (2020), equations 3 to 5.

        forward:  y = exp(M) x = sum_{i>=0} M^i x / i!
        inverse:  x = exp(-M) y
        log-det:  tr M

    using only products of `M` with vectors: neither `M` nor its exponential need be stored, nor `M`
    be invertible.

    The series is cut where the rest is below `tolerance |y|_2` for every `M` with
    `|M|_2 <= norm_bound`; for a bound above 1, `exp(M / s)` is applied `s = ceil(norm_bound)`
    times. A bound above 10,000 or NaN gives NaN.

    Args:
      operator: square `tf.linalg.LinearOperator` of shape `[..., N, N]`; events are `[..., N]`.
      norm_bound: upper bound on the operator norm, a Python number or a scalar `Tensor`; by default
        from `numerics.operator_norm_bound(operator)`, which knows dense, diagonal, Toeplitz,
        Kronecker and composed operators, but not one's own.
      tolerance: relative truncation error; by default 1e-6 in float32 and 1e-13 in float64.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the operator is not square, or no bound is known for it.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    rotate = tf.linalg.LinearOperatorFullMatrix([[0., -1.], [1., 0.]])
    tfflows.bijectors.MatvecExponential(rotate).forward([1., 0.])  # [cos 1, sin 1]
    ```

    #### References

    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910.
    """

    is_unit = True

    # `tf.Module` takes an operator for a composite tensor, which one's own need not be. Its
    # variables are listed instead.
    _TF_MODULE_IGNORED_PROPERTIES = FlowBijector._TF_MODULE_IGNORED_PROPERTIES.union(
        ("_operator", "_parameters")
    )

    def __init__(
        self,
        operator: tf.linalg.LinearOperator,
        *,
        norm_bound: float | tf.Tensor | None = None,
        tolerance: float | None = None,
        validate_args: bool = False,
        name: str = "matvec_exponential",
    ) -> None:
        parameters = dict(locals())
        if operator.domain_dimension != operator.range_dimension:
            raise ValueError(
                f"`operator` must be square. Received: operator.shape={operator.shape}."
            )
        if norm_bound is None:
            linear_operators.operator_norm_bound(operator)  # Raises here, not at the first use.
        self._operator = operator
        self._operator_variables = operator.variables
        self._norm_bound = norm_bound
        self._tolerance = tolerance
        super().__init__(
            forward_min_event_ndims=1,
            event_shape=(operator.domain_dimension,),
            is_constant_jacobian=True,
            dtype=operator.dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {"operator": tfp.util.BatchedComponentProperties()}

    @property
    def operator(self) -> tf.linalg.LinearOperator:
        """`M`."""
        return self._operator

    @of_weights
    def _bound(self):
        return self._bound_of(self._operator)

    def _bound_of(self, operator):
        """Returns an upper bound on `|M|_2`."""
        bound = self._norm_bound
        if bound is None:
            bound = linear_operators.operator_norm_bound(operator)
        return tf.cast(bound, self.dtype)

    def _evaluate(self, x, sign):
        parameters = linear_operators.parameters(self._operator)  # Each variable is read once.
        operator = linear_operators.with_parameters(self._operator, parameters)
        is_known = self._of_weights is not None
        steps, factor = series.scaling_steps(
            self._bound() if is_known else self._bound_of(operator)
        )
        scale = sign * factor / tf.cast(steps, self.dtype)
        terms = series.num_terms(1.0, self.dtype, self._tolerance)
        x = linear_operators.broadcast(operator, x)

        def product(x, *parameters, adjoint=False):
            operator = linear_operators.with_parameters(self._operator, parameters)
            return scale * linear_operators.matvec(operator, x, adjoint)

        def step(x, *parameters):
            transposed = functools.partial(product, adjoint=True)
            return series.parametric_action(product, transposed, x, parameters, terms)

        if linear_operators.is_known(operator):
            y = series.repeat(step, x, parameters, steps)
        else:  # Of one's own, with variables that can't be replaced: its gradient is automatic.
            _, y = tf.while_loop(
                lambda i, _: i < steps,
                lambda i, v: (i + 1, series.exponential_action(product, v, terms)),
                [tf.constant(0), x],
            )
        return y, sign * factor * operator.trace()

    def _forward_and_log_det(self, x):
        return self._evaluate(x, 1.0)

    def _inverse_and_log_det(self, y):
        return self._evaluate(y, -1.0)
