"""`ResidualFlow`: the identity plus a contraction (Behrmann et al., 2019; Chen et al., 2019)."""

import math

import tensorflow as tf

from tfflows import _tensorflow
from tfflows.bijectors.conditional import Conditional
from tfflows.evaluation import network_calls, state
from tfflows.evaluation.network_calls import call_network
from tfflows.numerics import fixed_point, linalg
from tfflows.numerics.rows import with_rows
from tfflows.types import DTypeLike, KnownShape, Network, TensorFunction, TensorLike

_MOST_EXACT = 32  # Largest event whose Jacobian is computed by default.
_NUM_TERMS = {"exact": None, "series": 10, "unbiased": 3}


class ResidualFlow(Conditional):
    """Residual flow, Chen et al. (2019); the invertible residual network of Behrmann et al. (2019).

    With a network `g` of Lipschitz constant below 1, such as `networks.LipschitzNet`, and `J(x)`
    its Jacobian,

        forward:  y = x + g(x)
        inverse:  the fixed point of x <- y - g(x)
        log-det:  log det(I + J) = sum_{k>=1} (-1)^(k+1) tr(J^k) / k

    The flow is invertible only if the Lipschitz constant is below 1, which the network has to
    ensure.

    **Log-det.** `log_det` says how it is computed:

    - `"exact"`: from the dense Jacobian, in `D` products with `J` for `D` dimensions. The default
      up to 32 of them.
    - `"series"`: the first `num_terms` terms of the series, 10 by default. Biased: the rest is left
      out, at most `D sum_{k>n} c^k / k` for a Lipschitz constant `c`.
    - `"unbiased"`: the first `num_terms` terms, 3 by default, and each further one with probability
      `1 - stop_probability` given the one before, divided by the probability that it was reached
      (Russian roulette, equation 6 of Chen et al.). The default for more than 32 dimensions. One
      draw decides for the whole batch, which costs `num_terms + 1/stop_probability` products with
      `J` on average.

    The last two replace `tr(J^k)` by `v^T J^k v` with one vector `v` of random signs an event.
    Value and gradient have no bias beyond that of the truncation of `"series"`. The gradient is
    estimated as `v^T (sum_{k>=0} (-1)^k w_k J^k) dJ v`, where the sum over `k`, with the weights
    `w_k` of the roulette, is a constant (equation 8): memory does not grow with the number of
    terms. It is an estimate of the gradient of the log-det, not the gradient of the estimate.

    **Variance.** That of `v^T J v` is `2 sum_{i != j} S_ij^2` for `S = (J + J^T) / 2`. That of the
    roulette is finite if `|J|_2^2 < 1 - stop_probability`: it is not certified to be for
    `stop_probability = 0.5` and norms near 1, though trained networks were below in the paper.
    More `num_terms` lower it; `estimating(num_terms=20)` does so for a whole model, to score it.

    **Noise** follows from the seed that `estimating` sets, as `FlowModel` and `Dequantized` do, and
    from `seed`; outside of it, it is fresh at every evaluation. Give each layer a seed of its own.

    Args:
      network: a callable that maps `[N, *event]` to `[N, *event]`, with Lipschitz constant below 1;
        for instance a Keras layer that is built. If it has a method `prepare`, as `LipschitzNet`,
        the inverse iterates with the function that this returns. With `conditional` it maps `x`
        and a context, and its Lipschitz constant in `x` is to be below 1 for each context.
      event_shape: shape of an event, fully known.
      log_det: `"exact"`, `"series"`, `"unbiased"` or `None` for the default of the size.
      num_terms: number of terms of the series that are always computed.
      stop_probability: the series of `"unbiased"` ends after each further term with this
        probability.
      seed: Python `int`, the seed of the layer's noise.
      tolerance: see `fixed_point`, for the inverse.
      max_iterations: see `fixed_point`.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, `[..., *context_event]`; its batch dimensions are those of the
        bijector.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      dtype: dtype of the events.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the network is not built or returns another shape, or an argument is out of
        range.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, networks

    network = networks.LipschitzNet(12, width=32, seed=1)
    networks.build_network(network, [8, 8, 12])
    flow = bijectors.ResidualFlow(network, [8, 8, 12])
    x = tf.ones([2, 8, 8, 12])
    y = flow.forward(x)
    flow.forward_log_det_jacobian(x).shape  # [2]: random, as there are 768 dimensions
    ```

    #### References

    Chen, Behrmann, Duvenaud, Jacobsen, *Residual Flows for Invertible Generative Modeling*, NeurIPS
    2019, arXiv:1906.02735. Behrmann, Grathwohl, Chen, Duvenaud, Jacobsen, *Invertible Residual
    Networks*, ICML 2019, arXiv:1811.00995.
    """

    is_unit = True

    def __init__(
        self,
        network: Network,
        event_shape: KnownShape,
        *,
        log_det: str | None = None,
        num_terms: int | None = None,
        stop_probability: float = 0.5,
        seed: int = 0,
        tolerance: float | None = None,
        max_iterations: int = 1000,
        conditional: bool = False,
        context: TensorLike | None = None,
        context_ndims: int | None = None,
        dtype: DTypeLike = tf.float32,
        validate_args: bool = False,
        name: str = "residual_flow",
    ) -> None:
        parameters = dict(locals())
        shape = tf.TensorShape(event_shape).as_list()
        if log_det is None:
            log_det = "exact" if math.prod(shape) <= _MOST_EXACT else "unbiased"
        if log_det not in _NUM_TERMS:
            raise ValueError(
                f"`log_det` must be None or one of {sorted(_NUM_TERMS)}. "
                f"Received: log_det={log_det!r}."
            )
        if num_terms is not None and num_terms < 1:
            raise ValueError(f"`num_terms` must be at least 1. Received: num_terms={num_terms}.")
        if not 0 < stop_probability < 1:
            raise ValueError(
                "`stop_probability` must lie between 0 and 1. "
                f"Received: stop_probability={stop_probability}."
            )
        self._log_det = log_det
        self._num_terms = _NUM_TERMS[log_det] if num_terms is None else num_terms
        self._go_on_probability = 1 - stop_probability if log_det == "unbiased" else 0.0
        self._seed = seed
        self._tolerance = tolerance
        self._max_iterations = max_iterations
        super().__init__(
            network,
            shape,
            conditional=conditional,
            context=context,
            context_ndims=context_ndims,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def network(self) -> Network:
        """The contraction `g`."""
        return self._network

    @property
    def log_det(self) -> str:
        """How the log-det is computed: `"exact"`, `"series"` or `"unbiased"`."""
        return self._log_det

    def _contraction(self, x, network, context):
        """Returns `g(x)` for any batch shape."""
        g = call_network(network, x, len(self._shape), context, self._context_ndims)
        if g.shape[-len(self._shape) :] != self._shape:
            raise ValueError(
                f"`network` of `{type(self).__name__}` must return events of shape {self._shape}. "
                f"Received: output.shape={tuple(g.shape)}."
            )
        return tf.cast(g, x.dtype)

    def _forward_and_log_det(self, x):
        x = self._broadcast_over_context(x)
        flat = tf.reshape(x, [-1, *self._shape])
        y, log_det = with_rows(self._evaluate, flat, *self._flat_context(x))
        return tf.reshape(y, tf.shape(x)), tf.reshape(log_det, tf.shape(x)[: -len(self._shape)])

    def _evaluate(self, x, context=None):
        """Returns `y` and the log-det for events `[N, *event]`."""
        flat = tf.reshape(x, [-1, math.prod(self._shape)])
        tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        with _tensorflow.let_tapes_record():
            with tape:
                tape.watch(flat)
                g = self._contraction(tf.reshape(flat, tf.shape(x)), self._network, context)
                flat_g = tf.reshape(g, tf.shape(flat))
            if self._log_det == "exact":
                eye = tf.eye(flat.shape[-1], dtype=flat.dtype)
                log_det = linalg.log_abs_det(eye + tape.batch_jacobian(flat_g, flat))
            else:
                log_det = self._estimate(flat, lambda v: tape.gradient(flat_g, flat, v, "zero"))
        return x + g, log_det

    def _estimate(self, x, pull_back):
        """Returns the estimate for events `[N, D]`; `pull_back(v)` is `J^T v`."""
        now = state.now()
        seed = now.noise_seed(self._seed)
        bits = tf.random.stateless_uniform(tf.shape(x), seed, 0, 2, tf.int32)
        v = tf.cast(2 * bits - 1, x.dtype)
        return estimate_log_det(
            pull_back, v, now.num_terms or self._num_terms, self._go_on_probability, seed
        )

    def _solve(self, y):
        """Returns the `Solution` of `x + g(x) = y`."""
        network = network_calls.prepare(
            self._network
        )  # Capped kernels, say, are the same at each step.
        context = self._bound_context()
        return fixed_point.solve(
            state.bind(lambda u: self._contraction(u, network, context)),
            self._broadcast_over_context(y),
            event_ndims=len(self._shape),
            tolerance=self._tolerance,
            max_iterations=self._max_iterations,
        )

    def _inverse_and_log_det(self, y):
        x = self._solve(y).value
        return x, -self._forward_and_log_det(x)[1]

    def inverse_iterations(self, y: TensorLike) -> tf.Tensor:
        """Returns how many iterations `inverse` takes for each event, `int32`.

        Args:
          y: `[..., *event]`, as `inverse` takes it.
        """
        return self._solve(self._as_output(y)).num_iterations


def estimate_log_det(
    pull_back: TensorFunction,
    v: tf.Tensor,
    num_terms: int,
    go_on_probability: float,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Returns an estimate of `log det(I + J)`, one an event, and of its gradient.

    Args:
      pull_back: `pull_back(v)` returns `J^T v`, differentiable by what `J` depends on.
      v: `[N, D]`, noise of mean 0 and covariance `I`.
      num_terms: number of terms that are always computed.
      go_on_probability: probability of each further term, given the one before.
      seed: stateless seed of the roulette.
    """
    go_on = tf.constant(go_on_probability, v.dtype)

    def add_term(k, term, weight, value, series, _):
        term = -pull_back(term)  # (-J^T)^k v
        value -= weight / tf.cast(k, v.dtype) * tf.reduce_sum(term * v, axis=-1)
        series += weight * term
        drawn = tf.random.stateless_uniform([], seed + tf.stack([0, k]), dtype=v.dtype)
        weight = tf.where(k < num_terms, weight, tf.math.divide_no_nan(weight, go_on))
        return k + 1, term, weight, value, series, (k < num_terms) | (drawn < go_on)

    one, zeros = tf.ones([], v.dtype), tf.zeros_like(v[:, 0])
    with _tensorflow.stop_recording():  # The loop is a constant to all tapes.
        *_, value, series, _ = tf.while_loop(
            lambda *state: state[-1], add_term, [tf.constant(1), v, one, zeros, v, True]
        )
    # The value of the first and the gradient of the second.
    surrogate = tf.reduce_sum(pull_back(tf.stop_gradient(series)) * v, axis=-1)
    return tf.stop_gradient(value) + surrogate - tf.stop_gradient(surrogate)
