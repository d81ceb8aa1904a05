"""`Autoregressive`: every entry of an event is moved by those before it."""

import math

import tensorflow as tf

from tfflows import _tensorflow
from tfflows.bijectors.predicted import Predicted
from tfflows.bijectors.transforms import TransformLike
from tfflows.evaluation import state
from tfflows.evaluation.network_calls import call_network
from tfflows.numerics import fixed_point
from tfflows.types import DTypeLike, KnownShape, Network, TensorLike


class Autoregressive(Predicted):
    """Masked autoregressive flow, Papamakarios et al. (2017), in the direction of densities.

    With `h = network(x)`, whose parameters `h_i` depend on the entries before `x_i` alone,

        forward:  y_i = g(x_i; h_i),   g monotonic in x_i
        log-det:  sum log |g'(x_i; h_i)|
        inverse:  x_i = g^-1(y_i; h_i(x_1, ..., x_{i-1}))

    where `g` is what `transform` makes of the parameters. `forward` evaluates the network once.
    `tfb.Invert` of it is the inverse autoregressive flow (IAF), whose samples take one evaluation.

    **Inverse.** All entries are found at once, again and again: `x <- g^-1(y; h(x))`, which is
    Newton's method with the diagonal of the Jacobian alone. After `k` evaluations of the network
    the first `k` entries, or tokens, are exact, as if they had been found one after the other, and
    as many as there are are enough. Each event is done when no entry changes by more than
    rounding, see `fixed_point.TOLERANCE`, most often much sooner; `inverse_iterations` counts. **An
    event that is not done then comes back as NaN**: its network is not autoregressive, or
    overflows. Gradients are those of the implicit function theorem, see `fixed_point.solve`.

    A network with a method `decode`, as `networks.CausalTransformer`, can find one token after the
    other with what it knows of those before. That is where the iteration starts then, which is to
    say that it looks whether the tokens are right, and mends what rounding makes of them.

    Args:
      network: a callable, for instance a `networks.MaskedMLP` that is built: `network(x)`, or
        `network(x, context)` if `conditional`, of the parameters `[N, *event_shape, P]`. It has to
        be autoregressive in the order of the entries, which is not checked.
      event_shape: shape of an event, fully known.
      transform: a `transforms.Transform`, or a function from parameters `[..., D, P]` to a scalar
        `tfb.Bijector` with batch shape `[..., D]`, see `transforms.Scalar`.
      inversion: `"parallel"`: all entries at once; `"sequential"`: one token after the other first;
        `"auto"`: the latter where the network can, in graphs, for CPUs, whatever the length and the
        batch (`benchmarks.inversions`); in eager mode and for accelerators, where many short steps
        take long, see `evaluation.for_accelerator`, the former.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, `[..., *context_event]`; its batch dimensions are those of the
        bijector.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      dtype: dtype of the events.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the network is not built, its output has the wrong shape, the context is
        missing, or `inversion` is unknown or not to be had.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, networks
    from tfflows.bijectors import transforms

    network = networks.MaskedMLP(num_dims=4, num_params=2, seed=1)
    networks.build_network(network, [4])
    flow = bijectors.Autoregressive(network, event_shape=[4], transform=transforms.Affine())
    flow.inverse(flow.forward(tf.ones([2, 3, 4]))).shape  # [2, 3, 4]
    ```

    #### References

    Papamakarios, Pavlakou, Murray, *Masked Autoregressive Flow for Density Estimation*, NeurIPS
    2017, arXiv:1705.07057. Kingma et al., *Improving Variational Inference with Inverse
    Autoregressive Flow*, NeurIPS 2016, arXiv:1606.04934. Song, Meng, Liao, Ermon, *Accelerating
    Feedforward Computation via Parallel Nonlinear Equation Solving*, ICML 2021, arXiv:2002.03629.
    """

    def __init__(
        self,
        network: Network,
        event_shape: KnownShape,
        transform: TransformLike,
        *,
        inversion: str = "auto",
        conditional: bool = False,
        context: TensorLike | None = None,
        context_ndims: int | None = None,
        dtype: DTypeLike = tf.float32,
        validate_args: bool = False,
        name: str = "autoregressive",
    ) -> None:
        parameters = dict(locals())
        _check_inversion(inversion, network)
        self._inversion = inversion
        super().__init__(
            network,
            event_shape,
            transform,
            conditional=conditional,
            context=context,
            context_ndims=context_ndims,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _parameters_of(self, x):
        output = self._predict(x)
        count = self._transform.num_parameters
        expected = [*self._shape, count]
        if not output.shape[-len(expected) :].is_compatible_with(expected):
            raise ValueError(
                f"`network` of `{type(self).__name__}` must return parameters of shape "
                f"{['...', *self._shape, count or 'any']}. "
                f"Received: output.shape={tuple(output.shape)}."
            )
        return output

    def _move(self, x, by, inverse):
        """Moves the entries of `x` by the parameters that those of `by` predict."""
        return self._transform.move(x, self._parameters_of(by), inverse)

    def _forward_and_log_det(self, x):
        x = self._broadcast_over_context(x)
        y, log_slopes = self._move(x, x, inverse=False)
        return y, tf.reduce_sum(log_slopes, list(range(-len(self._shape), 0)))

    def _inverse_and_log_det(self, y):
        y = self._broadcast_over_context(y)
        x, _ = self._solve(y)
        log_det = -self._forward_and_log_det(x)[1]
        # The parameters of the first entry depend on none, and know of no NaN.
        lost = tf.reduce_any(tf.math.is_nan(x), list(range(-len(self._shape), 0)))
        nan, zero = tf.constant(math.nan, log_det.dtype), tf.zeros([], log_det.dtype)
        return x, log_det + tf.where(lost, nan, zero)

    def _solve(self, y):
        """Returns `x = g^-1(y; h(x))`, and the evaluations of the network for each event."""
        event_ndims, size = len(self._shape), math.prod(self._shape)
        axes = list(range(-event_ndims, 0))
        update = state.bind(lambda x: self._move(y, x, inverse=True)[0])
        tolerance = fixed_point.tolerance_of(y.dtype)

        def proceed(i, x, is_moving, counts):
            # One more than there are entries, to see that the last one stays.
            return (i <= size) & tf.reduce_any(is_moving)

        def step(i, x, is_moving, counts):
            new = update(x)
            largest = tf.reduce_max(tf.abs(x), axes, keepdims=True)
            stays = tf.abs(new - x) <= tolerance * tf.maximum(largest, 1)
            # An entry that is not its own yet may overflow, which would reach those that are.
            new = tf.where(tf.math.is_finite(new), new, tf.zeros_like(new))
            counts += tf.cast(is_moving, tf.int32)
            return i + 1, new, is_moving & ~tf.reduce_all(stays, axes), counts

        batch = tf.shape(y)[: y.shape.rank - event_ndims]
        with _tensorflow.stop_recording():
            start = self._decode(y) if self._is_sequential else tf.zeros_like(y)
            _, x, is_moving, counts = tf.while_loop(
                proceed,
                step,
                (tf.constant(0), start, tf.ones(batch, tf.bool), tf.zeros(batch, tf.int32)),
            )
            lost = tf.reshape(is_moving, tf.concat([batch, [1] * event_ndims], axis=0))
            x = tf.where(lost, tf.constant(math.nan, x.dtype), x)
        return (
            fixed_point.attach_gradient(
                lambda x: -update(x), x, tf.zeros_like(y), event_ndims, max_iterations=size + 2
            ),
            counts,
        )

    @property
    def _is_sequential(self):
        if self._inversion != "auto":
            return self._inversion == "sequential"
        is_slow = tf.executing_eagerly() or state.now().is_accelerated
        return hasattr(self._network, "decode") and not is_slow

    def _decode(self, y):
        """Returns `x`, one token after the other."""

        def decode(y, *context):
            def move(token, h):
                return self._transform.move(token, h, inverse=True)[0]

            return self._network.decode(move, y, *context)

        context, ndims = self._bound_context(), len(self._shape)
        return call_network(decode, y, ndims, context, self._context_ndims)

    def inverse_iterations(self, y: TensorLike) -> tf.Tensor:
        """Returns how many evaluations of the network `inverse` takes for each event, `int32`.

        Args:
          y: `[..., *event_shape]`.
        """
        return self._solve(self._broadcast_over_context(self._as_output(y)))[1]


def _check_inversion(inversion, network):
    if inversion not in ("auto", "parallel", "sequential"):
        raise ValueError(
            '`inversion` must be "auto", "parallel" or "sequential". '
            f"Received: inversion={inversion!r}."
        )
    if inversion == "sequential" and not hasattr(network, "decode"):
        raise ValueError(
            '`inversion` must be "auto" or "parallel" if the network has no method `decode`. '
            f"Received: inversion={inversion!r}, network={network!r}."
        )
