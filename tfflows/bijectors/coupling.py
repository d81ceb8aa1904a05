"""`Coupling`: one part of an event moves the other."""

import numpy as np
import tensorflow as tf

from tfflows.bijectors.predicted import Predicted
from tfflows.bijectors.transforms import TransformLike
from tfflows.numerics.parameters import as_known_shape, is_integer
from tfflows.types import DTypeLike, KnownShape, Network, TensorLike


class Coupling(Predicted):
    """Coupling layer, Dinh et al. (2015).

    The event is split into `a` and `b`; with `h = network(a)`,

        forward:  (a, b) -> (a, g(b; h)),   g monotonic in every entry of b
        log-det:  sum log |g'(b; h)|

    where `g` is what `transform` makes of the parameters `h`: `transforms.Affine()` is that of NICE
    (`scale=None`), RealNVP and Glow, `transforms.RationalQuadratic()` that of neural spline flows
    (RQ-NSF), `transforms.LogisticMixture()` that of Flow++; any function from parameters to a
    scalar bijector will do.

    Args:
      network: a callable, for instance a Keras layer that is built: `network(a)`, or
        `network(a, context)` if `conditional`. It sees one batch dimension and returns the
        parameters as channels, `transform.num_parameters` for each channel of `b`.
      event_shape: shape of an event, fully known.
      transform: a `transforms.Transform`, or a function from parameters `[..., C, P]` to a scalar
        `tfb.Bijector` with batch shape `[..., C]`, see `transforms.Scalar`.
      split: `"channel"`: `a` is the first part of the last axis; `"checkerboard"`: `a` is every
        other pixel, the network sees the image with the pixels of `b` set to zero and returns
        parameters for all; `"token"`: `a` is the first tokens of events `[T, C]`, the network
        returns parameters for as many, so the parts are as large.
      split_size: number of channels of `a`, for `split="channel"`; by default half, rounded down.
      reverse: swaps the roles of `a` and `b`: the last part moves the first.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, `[..., *context_event]`; its batch dimensions are those of the
        bijector.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      dtype: dtype of the events.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the network is not built, its output has the wrong shape, or the context is
        missing.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, networks
    from tfflows.bijectors import transforms

    spline = transforms.RationalQuadratic(num_bins=8)
    network = networks.MLP(2 * spline.num_parameters, seed=1)
    networks.build_network(network, [2])
    flow = bijectors.Coupling(network, event_shape=[4], transform=spline)
    flow.forward(tf.zeros([5, 4])).shape  # [5, 4]
    ```

    #### References

    Dinh, Krueger, Bengio, *NICE: Non-linear Independent Components Estimation*, ICLR 2015 workshop,
    arXiv:1410.8516. Dinh, Sohl-Dickstein, Bengio, *Density Estimation using Real NVP*, ICLR 2017,
    arXiv:1605.08803. Durkan, Bekasov, Murray, Papamakarios, *Neural Spline Flows*, NeurIPS 2019,
    arXiv:1906.04032.
    """

    def __init__(
        self,
        network: Network,
        event_shape: KnownShape,
        transform: TransformLike,
        *,
        split: str = "channel",
        split_size: int | None = None,
        reverse: bool = False,
        conditional: bool = False,
        context: TensorLike | None = None,
        context_ndims: int | None = None,
        dtype: DTypeLike = tf.float32,
        validate_args: bool = False,
        name: str = "coupling",
    ) -> None:
        parameters = dict(locals())
        shape = as_known_shape(event_shape, "event_shape")
        self._axis = -2 if split == "token" else -1
        size = shape[self._axis] // 2 if len(shape) >= -self._axis else 0
        self._split_size = size if split_size is None else split_size
        _check_split(split, self._split_size, shape)
        self._mask = _checkerboard(shape, reverse) if split == "checkerboard" else None
        self._reverse = reverse
        super().__init__(
            network,
            shape,
            transform,
            conditional=conditional,
            context=context,
            context_ndims=context_ndims,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _parameters_of(self, a, num_moved):
        """Evaluates the network for `num_moved` channels."""
        output = self._predict(a)
        count, channels = self._transform.num_parameters, output.shape[-1]
        if channels % num_moved or channels // num_moved != (count or channels // num_moved):
            wanted = f"a multiple of {num_moved}" if count is None else num_moved * count
            raise ValueError(
                f"`network` of `{type(self).__name__}` must return {wanted} channels to move "
                f"{num_moved}. Received: output.shape={tuple(output.shape)}."
            )
        return output

    def _apply(self, x, inverse):
        """Moves `b`; returns the event and the log-det."""
        x = self._broadcast_over_context(x)
        event_axes = list(range(-len(self._shape), 0))
        if self._mask is not None:
            mask = tf.constant(self._mask, x.dtype)
            h = self._parameters_of(x * mask, self._shape[-1])
            moved, log_det = self._transform.move_channels(x, h, inverse)
            y = mask * x + (1 - mask) * moved
            return y, tf.reduce_sum((1 - mask) * log_det, event_axes)
        size, axis = self._split_size, self._axis
        if self._reverse:
            b, a = tf.split(x, [self._shape[axis] - size, size], axis=axis)
        else:
            a, b = tf.split(x, [size, self._shape[axis] - size], axis=axis)
        h = self._parameters_of(a, b.shape[-1])
        b, log_det = self._transform.move_channels(b, h, inverse)
        parts = [b, a] if self._reverse else [a, b]
        return tf.concat(parts, axis=axis), tf.reduce_sum(log_det, event_axes)

    def _forward_and_log_det(self, x):
        return self._apply(x, inverse=False)

    def _inverse_and_log_det(self, y):
        return self._apply(y, inverse=True)


def _check_split(split, size, shape):
    if split not in ("channel", "checkerboard", "token"):
        raise ValueError(
            f'`split` must be "channel", "checkerboard" or "token". Received: split={split!r}.'
        )
    if split == "token" and (len(shape) != 2 or 2 * size != shape[0]):
        raise ValueError(
            'split="token" needs events [T, C], T even, and halves them. '
            f"Received: event_shape={shape}, split_size={size}."
        )
    if split == "channel" and not (is_integer(size) and 0 < size < shape[-1]):
        raise ValueError(
            "`split_size` must be an integer that leaves a channel on both sides. "
            f"Received: split_size={size}, event_shape={shape}."
        )


def _checkerboard(shape, reverse):
    """Returns `[H, W, 1]` with 1 where row + column is even (odd if `reverse`)."""
    if len(shape) != 3:
        raise ValueError(
            f'split="checkerboard" needs events [H, W, C]. Received: event_shape={shape}.'
        )
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows + columns + reverse) % 2 == 0).astype(np.float32)[..., None]
