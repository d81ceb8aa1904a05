"""Autoregressive functions for `Sylvester`, with the diagonals of their Jacobians."""

import functools
from collections.abc import Callable
from typing import Self

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.network_calls import NetworkModule, call_network, prepare
from tfflows.numerics import linalg
from tfflows.numerics.parameters import (
    as_data,
    as_event_shape,
    as_parameter,
    normal_variable,
    stateless_seed,
)
from tfflows.numerics.rows import with_rows
from tfflows.types import DTypeLike, PairFunction, Seed, Shape, TensorLike

_LARGEST = 0.999  # Of an entry on a diagonal: 1 + d stays above 0.001 when tanh is rounded to 1.


class TriangularTanh(tf.Module):
    """The autoregressive function of `Sylvester.dense`.

        f(u) = R_1 tanh(R_2 u + b),   d_i(u) = (R_1)_ii (R_2)_ii tanh'((R_2 u + b)_i)

    with `R = triu(r, 1) + 0.999 diag(tanh(diag r))`, van den Berg et al. (2018).

    Args:
      r1: `[..., M, M]`.
      r2: `[..., M, M]`.
      bias: `[..., M]`.
      num_columns: `M`.

    Raises:
      ValueError: if a shape is not the above.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows.bijectors import triangular

    function = triangular.TriangularTanh(tf.eye(4), tf.eye(4), tf.zeros([4]), num_columns=4)
    value, diagonal = function(tf.ones([2, 4]))
    ```
    """

    def __init__(self, r1: TensorLike, r2: TensorLike, bias: TensorLike, num_columns: int) -> None:
        super().__init__()
        self._r1, self._r2, self._bias = (as_parameter(p) for p in (r1, r2, bias))
        expected = {"r1": (num_columns,) * 2, "r2": (num_columns,) * 2, "bias": (num_columns,)}
        for name, tail in expected.items():
            shape = getattr(self, f"_{name}").shape
            if tuple(shape[-len(tail) :]) != tail:
                wanted = ", ".join(["...", *map(str, tail)])
                raise ValueError(
                    f"`{name}` must have shape [{wanted}]. Received: {name}.shape={tuple(shape)}."
                )
        self.dtype = self._r1.dtype
        self.batch_shape = tf.broadcast_static_shape(
            tf.broadcast_static_shape(self._r1.shape[:-2], self._r2.shape[:-2]),
            self._bias.shape[:-1],
        )

    def batch_shape_tensor(self) -> tf.Tensor:
        """Returns the batch shape of the parameters."""
        ranks = ((self._r1, 2), (self._r2, 2), (self._bias, 1))
        shapes = [tf.shape(parameter)[:-rank] for parameter, rank in ranks]
        return functools.reduce(tf.broadcast_dynamic_shape, shapes)

    def prepare(self) -> PairFunction:
        """Returns the function `u -> (f(u), d(u))`."""
        r1, r2 = _triangular_matrix(self._r1), _triangular_matrix(self._r2)
        bias = tf.convert_to_tensor(self._bias)
        slopes = tf.linalg.diag_part(r1) * tf.linalg.diag_part(r2)

        def function(u):
            u = as_data(u, self.dtype)
            h = tf.tanh(linalg.matvec(r2, u) + bias)
            return linalg.matvec(r1, h), slopes * (1 - h**2)

        return function

    def __call__(self, u: TensorLike) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `f(u)` and `d(u)`."""
        return self.prepare()(u)


class ConvTriangularTanh(tf.Module):
    """The classic Sylvester form on images, what Hoogeboom et al. (2020) generalise.

        f(u) = R_1 tanh(R_2 u + b),   d(u) = diag(R_1) diag(R_2) tanh'(R_2 u + b)

    Van den Berg et al. (2018) have triangular matrices `R`. Here they are 3x3 convolutions with
    zero padding that are triangular in the order of pixels row by row, and of the channels in a
    pixel: entries see those before them, and themselves by `0.999 tanh` of the kernel's diagonal.
    In contrast to `ConvSylvester`, nothing of the tanh's scales and shifts depends on `u`.

    For `Sylvester(basis, ConvTriangularTanh(...))`, as an ablation.

    Args:
      r1: `[3, 3, C, C]`; what a triangular map does not have is not used.
      r2: the same.
      bias: `[C]`.
      context_kernel: `[K, C]`, by which a context `[..., K]` adds to `b`; `None` for no context.

    Raises:
      ValueError: if a shape is not the above.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows.bijectors import triangular

    function = triangular.ConvTriangularTanh.trainable([8, 8, 3], seed=1)
    value, diagonal = function(tf.ones([2, 8, 8, 3]))
    ```

    #### References

    Van den Berg, Hasenclever, Tomczak, Welling, *Sylvester Normalizing Flows for Variational
    Inference*, UAI 2018, arXiv:1803.05649.
    """

    def __init__(
        self,
        r1: TensorLike,
        r2: TensorLike,
        bias: TensorLike,
        context_kernel: TensorLike | None = None,
    ) -> None:
        super().__init__()
        self._r1, self._r2, self._bias = (as_parameter(p) for p in (r1, r2, bias))
        self._context_kernel = None if context_kernel is None else as_parameter(context_kernel)
        channels = self._bias.shape[-1]
        for name in ("r1", "r2"):
            shape = tuple(getattr(self, f"_{name}").shape)
            if shape != (3, 3, channels, channels):
                raise ValueError(
                    f"`{name}` must have shape [3, 3, C, C] for `bias` of shape [C]. "
                    f"Received: {name}.shape={shape}, bias.shape={tuple(self._bias.shape)}."
                )
        self.dtype = self._bias.dtype

    @classmethod
    def trainable(
        cls,
        event_shape: Shape,
        *,
        context_size: int | None = None,
        seed: Seed = None,
        dtype: DTypeLike = tf.float32,
        name: str = "conv_triangular_tanh",
    ) -> Self:
        """Returns the function with variables: `R_1 = 0`, `R_2` with `N(0, 1)` on its diagonal.

        The rest of `R_2` is `N(0, 1) / (9 C)`.

        Args:
          event_shape: `[H, W, C]`; height and width may be `None`.
          context_size: `K`, of a context whose kernel starts as `N(0, 1) / sqrt(K)`; `None` for
            none.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the variables.
          name: prefix of their names.
        """
        num_channels = as_event_shape(event_shape)[-1]
        shape = [3, 3, num_channels, num_channels]
        spread = np.full(shape, 1 / (9 * num_channels))
        spread[1, 1] += (1 - spread[1, 1]) * np.eye(num_channels)
        r2 = normal_variable(
            shape, tf.constant(spread, dtype), stateless_seed(seed), dtype, f"{name}_r2"
        )
        r1 = tf.Variable(tf.zeros(shape, dtype), name=f"{name}_r1")
        bias = tf.Variable(tf.zeros([num_channels], dtype), name=f"{name}_bias")
        context_kernel = None
        if context_size is not None:
            _, seed = tfp.random.split_seed(stateless_seed(seed))
            shape, spread = [context_size, num_channels], context_size**-0.5
            context_kernel = normal_variable(shape, spread, seed, dtype, f"{name}_context_kernel")
        return cls(r1, r2, bias, context_kernel)

    @property
    def network(self) -> "ConvTriangularTanh":
        """What takes the context: the function itself."""
        return self

    @property
    def context_shape(self) -> tuple[int, ...] | None:
        """Shape of the context; `None` for no context."""
        kernel = self._context_kernel
        return None if kernel is None else (kernel.shape[0],)

    def prepare(self) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
        """Returns the function `u -> (f(u), d(u))`."""
        (r1, diagonal1), (r2, diagonal2) = (
            _triangular_kernel(self._r1),
            _triangular_kernel(self._r2),
        )
        bias, kernel = tf.convert_to_tensor(self._bias), self._context_kernel
        if kernel is not None:
            kernel = tf.convert_to_tensor(kernel)

        def function(u, context=None):
            u = as_data(u, self.dtype)
            flat = tf.reshape(u, [-1, *u.shape[-3:]])
            contexts = []
            if kernel is not None:
                context = tf.cast(context, u.dtype)
                contexts = [tf.reshape(context, [-1, context.shape[-1]])]
            value, diagonal = with_rows(evaluate, flat, *contexts)
            return tf.reshape(value, tf.shape(u)), tf.reshape(diagonal, tf.shape(u))

        def evaluate(u, context=None):
            shift = bias
            if context is not None:
                shift += tf.matmul(context, kernel)[:, tf.newaxis, tf.newaxis]
            h = tf.tanh(tf.nn.conv2d(u, r2, 1, "SAME") + shift)
            return tf.nn.conv2d(h, r1, 1, "SAME"), diagonal1 * diagonal2 * (1 - h**2)

        return function

    def __call__(
        self, u: TensorLike, context: TensorLike | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `f(u)` and `d(u)`."""
        return self.prepare()(u, context)


class BoundedTanh(NetworkModule):
    """The autoregressive function of `ConvSylvester`, of a slope `d` in (-1/2, 1/2).

        f(u) = s2 tanh(s1 u + t1) + t2,   s1 = tanh(h_s1),  s2 = tanh(h_s2) / 2
        d(u) = s1 s2 (1 - tanh(s1 u + t1)^2)

    Args:
      network: a callable that maps `[N, H, W, C]` to the four heads `t1`, `h_s1`, `t2`, `h_s2`, one
        after the other in `[N, H, W, 4 C]`. They must not depend on the entry itself, nor on those
        after it in some order, which is not checked. It may have a method `prepare`, see
        `Sylvester`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks
    from tfflows.bijectors import triangular

    network = networks.MaskedConvNet(num_channels=3, width=12, seed=1)
    function = triangular.BoundedTanh(networks.build_network(network, [8, 8, 3]))
    value, diagonal = function(tf.ones([2, 8, 8, 3]))
    ```
    """

    def prepare(self) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
        """Returns the function `u -> (f(u), d(u))`."""
        return self._with(prepare(self._network))

    def _with(self, network):
        def function(u, context=None):
            u = as_data(u)
            heads = tf.cast(call_network(network, u, 3, context, context_ndims=1), u.dtype)
            t1, s1, t2, s2 = tf.split(heads, 4, axis=-1)
            s1, s2 = tf.tanh(s1), tf.tanh(s2) / 2
            h = tf.tanh(s1 * u + t1)
            return s2 * h + t2, s1 * s2 * (1 - h**2)

        return function

    def __call__(
        self, u: TensorLike, context: TensorLike | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `f(u)` and `d(u)`."""
        return self._with(self._network)(u, context)


def _diagonal(matrix):
    """Returns the diagonal of a parameter, brought to (-1, 1)."""
    return _LARGEST * tf.tanh(tf.linalg.diag_part(matrix))


def _triangular_matrix(parameter):
    """Returns `R`, upper triangular, its diagonal in (-1, 1)."""
    r = tf.convert_to_tensor(parameter)
    diagonal = _diagonal(r)
    return tf.linalg.set_diag(tf.linalg.band_part(r, 0, -1), diagonal)


def _triangular_kernel(parameter):
    """Returns the kernel of `R`, masked, and its diagonal, in (-1, 1), one value a channel."""
    kernel = tf.convert_to_tensor(parameter)
    channels = kernel.shape[-1]
    mask = np.zeros(kernel.shape)
    mask[0], mask[1, 0] = 1, 1
    mask[1, 1] = np.triu(np.ones([channels, channels]), 1)  # Rows are inputs.
    diagonal = _diagonal(kernel[1, 1])
    center = tf.pad(
        tf.linalg.diag(diagonal)[tf.newaxis, tf.newaxis], [[1, 1], [1, 1], [0, 0], [0, 0]]
    )
    return kernel * tf.constant(mask, kernel.dtype) + center, diagonal
