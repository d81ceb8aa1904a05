"""`StridedConv`: an invertible convolution whose stride is its size."""

import math
from typing import Self

import numpy as np
import tensorflow as tf

from tfflows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfflows.bijectors.squeeze import Squeeze
from tfflows.evaluation.constants import kept, of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics.parameters import as_event_shape, as_parameter
from tfflows.types import DTypeLike, Shape, TensorLike


class StridedConv(FlowBijector):
    """Invertible `k x k` convolution with stride `k`, Liao and He (2021), section 4.1.

    With `x_p` the `k^2 C` entries of block `p` of `k x k` pixels, in the order
    `(k dy + dx) C + c`, and an invertible `W` `[k^2 C, k^2 C]`,

        forward:  y_p = W x_p,   [H, W, C] -> [H/k, W/k, k^2 C]
        inverse:  x_p = W^-1 y_p
        log-det:  H W / k^2 log|det W|

    that is, a squeeze and a 1x1 convolution in one; `k = 1` is the 1x1 convolution.

    Nothing in the layer keeps `log|det W|` from growing: the paper balances it with bounded scales
    and contractive activations. `weight_log_det()` and `analysis.volume_report` show it.

    Args:
      weight: `[k^2 C, k^2 C]`, in the form of `parameterization`.
      stride: `k`.
      parameterization: `"plu"`: `W = L U` with `L` unit lower triangular, the strict lower part of
        `weight`, and `U` upper triangular with diagonal `exp(diag(weight))`, so that the log-det is
        a trace and exact; `"dense"`: `W = weight`, log-det and inverse by a QR decomposition.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if `weight` does not fit `stride`, or the image no multiple of it.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    flow = bijectors.StridedConv.trainable([8, 8, 3], stride=2)
    flow.forward(tf.ones([2, 8, 8, 3])).shape  # [2, 4, 4, 12]
    ```

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """

    def __init__(
        self,
        weight: TensorLike,
        *,
        stride: int = 1,
        parameterization: str = "plu",
        validate_args: bool = False,
        name: str = "strided_conv",
    ) -> None:
        parameters = dict(locals())
        self._weight = as_parameter(weight)
        size = self._weight.shape[-1]
        if self._weight.shape.rank != 2 or self._weight.shape[0] != size or size % stride**2:
            raise ValueError(
                "`weight` must have shape [k^2 C, k^2 C] for stride k. Received: "
                f"weight.shape={tuple(self._weight.shape)}, stride={stride}."
            )
        if parameterization not in ("plu", "dense"):
            raise ValueError(
                '`parameterization` must be "plu" or "dense". '
                f"Received: parameterization={parameterization!r}."
            )
        plu = parameterization == "plu"
        self._squeeze = Squeeze(stride)  # By 1 it is the identity.
        self._conv = InvertibleConv1x1(
            self._weight,
            parameterization=parameterization,
            permutation=np.arange(size) if plu else None,
            sign=np.ones(size) if plu else None,
        )
        super().__init__(
            forward_min_event_ndims=3,
            event_shape=(None, None, size // stride**2),
            inverse_event_shape=(None, None, size),
            is_constant_jacobian=True,
            dtype=self._weight.dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def trainable(
        cls,
        event_shape: Shape,
        *,
        stride: int = 1,
        scale: float = 1.0,
        parameterization: str = "plu",
        dtype: DTypeLike = tf.float32,
        name: str = "strided_conv",
    ) -> Self:
        """Returns a convolution with a trainable weight, `scale` times the identity at first.

        Args:
          event_shape: `[H, W, C]` of the input; height and width may be `None`.
          stride: `k`.
          scale: `kappa`, positive.
          parameterization: see the class.
          dtype: dtype of the variable.
          name: name of the bijector.

        Raises:
          ValueError: if `scale` is not positive.
        """
        if not scale > 0:
            raise ValueError(f"`scale` must be positive. Received: scale={scale}.")
        value = math.log(scale) if parameterization == "plu" else scale
        weight = tf.Variable(
            value * tf.eye(as_event_shape(event_shape)[-1] * stride**2, dtype=dtype),
            name=f"{name}_weight",
        )
        return cls(weight, stride=stride, parameterization=parameterization, name=name)

    def weight_log_det(self) -> tf.Tensor:
        """Returns `log|det W|`, the log-det of one position."""
        size = self._weight.shape[-1]
        return self._conv.forward_log_det_jacobian(tf.zeros([1, 1, size], self.dtype), 3)

    @of_weights
    def _of_conv(self):
        """Returns what the 1x1 convolution computes of its weight alone."""
        return kept(self._conv)

    def _keep(self, of_weights):
        if of_weights is not None:
            self._conv._keep(of_weights["_of_conv"])
        return super()._keep(of_weights)

    def _forward_and_log_det(self, x):
        x, _ = self._squeeze._forward_and_log_det(x)
        return self._conv._forward_and_log_det(x)

    def _inverse_and_log_det(self, y):
        x, log_det = self._conv._inverse_and_log_det(y)
        x, _ = self._squeeze._inverse_and_log_det(x)
        return x, log_det

    def _forward_event_shape(self, shape):
        return self._squeeze.forward_event_shape(shape)

    def _inverse_event_shape(self, shape):
        return self._squeeze.inverse_event_shape(shape)

    def _forward_event_shape_tensor(self, shape):
        return self._squeeze.forward_event_shape_tensor(shape)

    def _inverse_event_shape_tensor(self, shape):
        return self._squeeze.inverse_event_shape_tensor(shape)
