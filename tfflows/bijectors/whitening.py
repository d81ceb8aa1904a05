"""`Whitening`: a linear map given by eigenvectors and eigenvalues of a covariance."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import linalg
from tfflows.numerics.parameters import as_parameter
from tfflows.types import Parameter, TensorLike


class Whitening(FlowBijector):
    """Maps a Gaussian to the standard one, Liao and He (2021), appendix A.

        forward:  z = diag(lambda)^-1/2 V^T (x - mean)
        inverse:  x = mean + V diag(lambda)^1/2 z
        log-det:  -1/2 sum log lambda

    Args:
      mean: `[..., D]`.
      eigenvectors: `V` `[..., D, D]`, orthogonal, one eigenvector a column.
      eigenvalues: `lambda` `[..., D]`, positive.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the shapes do not fit each other.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    flow = bijectors.Whitening(tf.zeros([2]), tf.eye(2), eigenvalues=[4.0, 1.0])
    flow.forward(tf.constant([2.0, 1.0]))  # [1., 1.], up to signs and order
    ```

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """

    def __init__(
        self,
        mean: TensorLike,
        eigenvectors: TensorLike,
        eigenvalues: TensorLike,
        *,
        validate_args: bool = False,
        name: str = "whitening",
    ) -> None:
        parameters = dict(locals())
        self._mean = as_parameter(mean)
        self._vectors = as_parameter(eigenvectors)
        self._values = as_parameter(eigenvalues)
        size = self._mean.shape[-1]
        if self._vectors.shape[-2:] != (size, size) or self._values.shape[-1] != size:
            raise ValueError(
                "`eigenvectors` must have shape [..., D, D] and `eigenvalues` [..., D]. Received: "
                f"mean.shape={tuple(self._mean.shape)}, "
                f"eigenvectors.shape={tuple(self._vectors.shape)}, "
                f"eigenvalues.shape={tuple(self._values.shape)}."
            )
        super().__init__(
            forward_min_event_ndims=1,
            event_shape=(size,),
            is_constant_jacobian=True,
            dtype=self._mean.dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype):
        vector, matrix = (tfp.util.ParameterProperties(event_ndims=n) for n in (1, 2))
        return {"mean": vector, "eigenvectors": matrix, "eigenvalues": vector}

    @property
    def eigenvalues(self) -> Parameter:
        """`lambda`."""
        return self._values

    def _log_det(self):
        return -tf.reduce_sum(tf.math.log(self._values), axis=-1) / 2

    def _multiply(self, x, transpose):
        """Returns `V x`, or `V^T x`."""
        return linalg.matvec(tf.convert_to_tensor(self._vectors), x, transpose)

    def _forward_and_log_det(self, x):
        z = self._multiply(x - self._mean, transpose=True) * tf.math.rsqrt(self._values)
        return z, self._log_det()

    def _inverse_and_log_det(self, y):
        x = self._mean + self._multiply(y * tf.sqrt(self._values), transpose=False)
        return x, -self._log_det()
