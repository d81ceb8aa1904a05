"""`InvertibleConv1x1`: a linear map of the channels, the same at every position."""

from typing import Self

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import linalg
from tfflows.numerics.parameters import as_event_shape, as_parameter, normal_variable
from tfflows.numerics.shapes import with_shape
from tfflows.types import DTypeLike, Parameter, Seed, Shape, TensorLike

PARAMETERIZATIONS = ("dense", "plu", "qr", "householder")


class InvertibleConv1x1(FlowBijector):
    """Invertible 1x1 convolution, Kingma and Dhariwal (2018), section 3.2.

        forward:  y[h, w] = W x[h, w]
        inverse:  x[h, w] = W^-1 y[h, w]
        log-det:  H W log|det W|

    Four ways to write `W` in terms of a matrix `A = weight` `[C, C]` without constraints:

        "dense":        W = A;  log|det W| from a QR decomposition, O(C^3) an evaluation
        "plu":          W = P (I + tril(A, -1)) (diag(sign exp(diag A)) + triu(A, 1))
        "qr":           W = H_1 ... H_n (diag(exp(diag A)) + triu(A, 1))
        "householder":  W = H_1 ... H_n,  log|det W| = 0

    with `P` a fixed permutation and `H_i = I - 2 v_i v_i^T / |v_i|^2` for the rows `v_i` of
    `reflections`. In "plu" and "qr" the log-det is `sum diag A` and the inverse two triangular
    solves; these never become singular.

    Args:
      weight: `A`, `[..., C, C]`; `None` for "householder".
      parameterization: one of the above.
      permutation: for "plu", `[C]` integers: row `i` of `W` is row `permutation[i]` of `L U`.
      sign: for "plu", `[C]` of +1 and -1.
      reflections: for "qr" and "householder", `[..., n, C]`, no row zero.
      event_ndims: rank of an event, whose last dimension is the channel.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    flow = bijectors.InvertibleConv1x1.trainable([16, 16, 12], parameterization="plu", seed=1)
    flow.inverse(flow.forward(tf.ones([2, 16, 16, 12]))).shape  # [2, 16, 16, 12]
    ```

    #### References

    Kingma, Dhariwal, *Glow: Generative Flow with Invertible 1x1 Convolutions*, NeurIPS 2018,
    arXiv:1807.03039. "qr": Hoogeboom, van den Berg, Welling, *Emerging Convolutions for Generative
    Normalizing Flows*, ICML 2019, arXiv:1901.11137. "householder": Tomczak, Welling, *Improving
    Variational Auto-Encoders using Householder Flow*, 2016, arXiv:1611.09630.
    """

    def __init__(
        self,
        weight: TensorLike | None = None,
        *,
        parameterization: str = "dense",
        permutation: TensorLike | None = None,
        sign: TensorLike | None = None,
        reflections: TensorLike | None = None,
        event_ndims: int = 3,
        validate_args: bool = False,
        name: str = "invertible_conv1x1",
    ) -> None:
        parameters = dict(locals())
        needed = {
            "dense": ("weight",),
            "plu": ("weight", "permutation", "sign"),
            "qr": ("weight", "reflections"),
            "householder": ("reflections",),
        }
        if parameterization not in needed:
            raise ValueError(
                f"`parameterization` must be one of {PARAMETERIZATIONS}. "
                f"Received: parameterization={parameterization!r}."
            )
        for argument in needed[parameterization]:
            if parameters[argument] is None:
                raise ValueError(
                    f'`{argument}` must be given for parameterization="{parameterization}". '
                    f"Received: {argument}=None."
                )
        self._parameterization = parameterization
        self._weight = None if weight is None else as_parameter(weight)
        self._reflections = None if reflections is None else as_parameter(reflections)
        main: Parameter = self._reflections if self._weight is None else self._weight
        if self._weight is not None and main.shape[-1] != main.shape[-2]:
            raise ValueError(f"`weight` must be square. Received: weight.shape={main.shape}.")
        self._permutation = None if permutation is None else np.asarray(permutation)
        self._sign = None if sign is None else np.asarray(sign)
        self._channels = main.shape[-1]
        super().__init__(
            forward_min_event_ndims=event_ndims,
            event_shape=(None,) * (event_ndims - 1) + (self._channels,),
            is_constant_jacobian=True,
            dtype=main.dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def trainable(
        cls,
        event_shape: Shape,
        *,
        parameterization: str = "dense",
        num_reflections: int | None = None,
        seed: Seed = None,
        dtype: DTypeLike = tf.float32,
        name: str = "invertible_conv1x1",
    ) -> Self:
        """Returns a random rotation with trainable variables.

        Args:
          event_shape: `[..., C]`; sizes before the last may be `None`.
          parameterization: see the class.
          num_reflections: number of Householder reflections, by default `C`.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the variables.
          name: name of the bijector.
        """
        event_shape = as_event_shape(event_shape)
        num_channels = event_shape[-1]
        gaussian = normal_variable([num_channels] * 2, 1.0, seed, dtype, f"{name}_weight")
        rotation = np.linalg.qr(gaussian.numpy())[0]
        arguments = {}
        if parameterization == "dense":
            gaussian.assign(rotation)
            arguments["weight"] = gaussian
        elif parameterization == "plu":
            packed, permutation = tf.linalg.lu(rotation)  # rotation[permutation] = L U
            diagonal = tf.linalg.diag_part(packed)
            gaussian.assign(tf.linalg.set_diag(packed, tf.math.log(tf.abs(diagonal))))
            arguments["weight"] = gaussian
            arguments["permutation"] = np.argsort(permutation.numpy())
            arguments["sign"] = np.sign(diagonal.numpy())
        if parameterization in ("qr", "householder"):
            arguments["reflections"] = normal_variable(
                [num_reflections or num_channels, num_channels],
                1.0,
                seed,
                dtype,
                f"{name}_reflections",
            )
        if parameterization == "qr":
            gaussian.assign(tf.zeros_like(gaussian))
            arguments["weight"] = gaussian
        return cls(
            parameterization=parameterization, event_ndims=len(event_shape), name=name, **arguments
        )

    @classmethod
    def _parameter_properties(cls, dtype):
        matrix = tfp.util.ParameterProperties(event_ndims=2)
        return {"weight": matrix, "reflections": matrix}

    def _orthogonal(self):
        """Returns `H_1 ... H_n = I - V^T T^-1 V` with `T = triu(V V^T, 1) + diag(V V^T) / 2`.

        The compact form of a product of reflections (Joffrain et al., 2006): one triangular solve
        in place of n rank-one updates.
        """
        v = tf.convert_to_tensor(self._reflections)
        # The length of a vector does not count: none over- or underflows when it is squared.
        v /= tf.stop_gradient(tf.reduce_max(tf.abs(v), axis=-1, keepdims=True))
        gram = tf.matmul(v, v, transpose_b=True)
        diagonal = tf.linalg.diag_part(gram)
        t = tf.linalg.set_diag(tf.linalg.band_part(gram, 0, -1), diagonal / 2)
        solved = tf.linalg.triangular_solve(t, v, lower=False)
        return tf.eye(self._channels, dtype=v.dtype) - tf.matmul(v, solved, transpose_a=True)

    def _factors(self):
        """Returns unit lower triangular L and upper triangular U, or None and U."""
        a = tf.convert_to_tensor(self._weight)
        diagonal = tf.exp(tf.linalg.diag_part(a))
        if self._parameterization == "plu":
            diagonal *= tf.cast(self._sign, a.dtype)
        upper = tf.linalg.set_diag(tf.linalg.band_part(a, 0, -1), diagonal)
        lower = tf.linalg.set_diag(tf.linalg.band_part(a, -1, 0), tf.ones_like(diagonal))
        return lower, upper

    @of_weights
    def matrix(self) -> tf.Tensor:
        """Returns `W` `[..., C, C]`."""
        if self._parameterization == "dense":
            return tf.convert_to_tensor(self._weight)
        if self._parameterization == "householder":
            return self._orthogonal()
        lower, upper = self._factors()
        if self._parameterization == "qr":
            return tf.matmul(self._orthogonal(), upper)
        return tf.gather(tf.matmul(lower, upper), self._permutation, axis=-2)

    @of_weights
    def _inverse_matrix(self):
        """Returns `W^-1`."""
        eye = tf.eye(self._channels, dtype=self.dtype)
        if self._parameterization == "dense":
            return linalg.inverse(tf.convert_to_tensor(self._weight))
        if self._parameterization == "householder":
            return tf.linalg.matrix_transpose(self._orthogonal())
        lower, upper = self._factors()
        if self._parameterization == "qr":
            q_transposed = tf.linalg.matrix_transpose(self._orthogonal())
            return tf.linalg.triangular_solve(upper, q_transposed, lower=False)
        rows = tf.gather(eye, np.argsort(self._permutation), axis=0)
        rows = tf.broadcast_to(rows, tf.shape(upper))
        return tf.linalg.triangular_solve(
            upper, tf.linalg.triangular_solve(lower, rows, lower=True), lower=False
        )

    @of_weights
    def _log_det_of_matrix(self):
        """Returns `log|det W|`."""
        if self._parameterization == "householder":
            return tf.zeros([], self.dtype)
        if self._parameterization == "dense":
            return linalg.log_abs_det(tf.convert_to_tensor(self._weight))
        return tf.linalg.trace(tf.convert_to_tensor(self._weight))

    def _log_det(self, x):
        """Returns `H W log|det W|`."""
        log_det = self._log_det_of_matrix()
        if self._parameterization == "householder":
            return log_det
        shape = tf.shape(x)[-self.forward_min_event_ndims : -1]
        return tf.cast(tf.reduce_prod(shape), x.dtype) * log_det

    def _multiply(self, matrix, x):
        """Returns `matrix @ x[..., position, :]` at every position."""
        if matrix.shape.rank == 2:
            return linalg.matvec(matrix, x)
        event_ndims = self.forward_min_event_ndims
        batch, event = x.shape[:-event_ndims], x.shape[-event_ndims:]
        flat = tf.reshape(x, tf.concat([tf.shape(x)[:-event_ndims], [-1, self._channels]], axis=0))
        y = linalg.matmul(flat, matrix, transpose_b=True)
        shape = tf.concat([tf.shape(y)[:-2], tf.shape(x)[-event_ndims:]], axis=0)
        return with_shape(
            tf.reshape(y, shape), tf.broadcast_static_shape(batch, matrix.shape[:-2]) + event
        )

    def _forward_and_log_det(self, x):
        return self._multiply(self.matrix(), x), self._log_det(x)

    def _inverse_and_log_det(self, y):
        return self._multiply(self._inverse_matrix(), y), -self._log_det(y)
