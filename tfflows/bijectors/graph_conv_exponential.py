"""`GraphConvExponential`: Hoogeboom et al. (2020), section 3, for the nodes of graphs."""

import math
from typing import Any, Self

import tensorflow as tf

from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import graphs, linalg, norms, series
from tfflows.numerics.parameters import as_event_shape, as_parameter, normal_variable
from tfflows.numerics.shapes import with_shape
from tfflows.types import DTypeLike, Seed, Shape, TensorLike


class GraphConvExponential(FlowBijector):
    """Graph convolution exponential, Hoogeboom et al. (2020), section 3.

    With `M(X) = X T0 + A X T1` for the features `X` `[N, F]` of the nodes of a graph,

        forward:  Y = exp(M) X = sum_{i>=0} M^i X / i!
        inverse:  X = exp(-M) Y
        log-det:  tr M = N tr T0 + tr(A) tr T1

    It is equivariant: nodes in another order, with `A` in that order, give the same output in that
    order. `A` may be of any kind: weighted, directed, with or without self loops.

    **Norm.** Both kernels are scaled by one factor so that `|M|_2 <= max_norm`: they are divided by
    `max(1, bound / max_norm)` with `bound = |T0|_2 + |A|_2 |T1|_2`, where each norm is certified
    never to be too small (`numerics.conv_norm_bound`, `numerics.adjacency_norm_bound`). Each
    graph of a batch has its own factor.

    **Accuracy.** The number of terms follows from `max_norm` and from the dtype, such that the
    truncated tail is at most `tolerance |Y|_2`. For a `max_norm` above 1, `exp(M / s)` is applied
    `s = ceil(max_norm)` times. With `max_norm=None` the kernels are used as they are and `s` is
    computed from the largest bound at every evaluation; one above 10,000 gives NaN.

    **Cost.** 9 graph convolutions in float32 for `max_norm=0.95`; with a sparse `A` each costs
    `N F^2 + E F` for `E` edges. The backward pass keeps 4 combinations of the terms, not all 9.

    **Padding.** In a batch of graphs of different sizes, `mask` says which nodes are real. The
    others are passed through and count nothing in the log-det, whatever is in `A` at their place.

    Args:
      adjacency: `A`: `[..., N, N]`, whose leading dimensions are batch dimensions of the bijector;
        a `tf.SparseTensor` `[N, N]`; or `None` if `conditional`.
      self_kernel: `T0`, `[F, F]`.
      neighbor_kernel: `T1`, `[F, F]`.
      mask: `None`, or `[..., N]`, true or 1 for real nodes; not with a sparse `A`.
      max_norm: the largest operator norm, a positive Python `float`, or `None`.
      adjacency_norm: an upper bound on `|A|_2`, such as 1.0 for one from `normalized_adjacency`; by
        default computed.
      conditional: whether the graph is a context, which `tfflows.condition` binds.
      context: the graph `[..., N, N]`, if `conditional`.
      tolerance: relative truncation error; by default 1e-6 in float32 and 1e-13 in float64.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if a matrix is not square, sizes do not fit, or a graph is missing.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    triangle = tf.ones([3, 3]) - tf.eye(3)
    flow = tfflows.bijectors.GraphConvExponential.trainable([3, 5], triangle, seed=1)
    x = tf.random.normal([8, 3, 5])
    y = flow.forward(x)
    flow.forward_log_det_jacobian(x).shape  # []: it is the same for all inputs
    ```

    #### References

    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910.
    """

    is_unit = True

    def __init__(
        self,
        adjacency: graphs.AdjacencyLike | None,
        self_kernel: TensorLike,
        neighbor_kernel: TensorLike,
        *,
        mask: TensorLike | None = None,
        max_norm: float | None = 0.95,
        adjacency_norm: TensorLike | None = None,
        conditional: bool = False,
        context: graphs.AdjacencyLike | None = None,
        tolerance: float | None = None,
        validate_args: bool = False,
        name: str = "graph_conv_exponential",
    ) -> None:
        parameters = dict(locals())
        self._self_kernel = as_parameter(self_kernel)
        self._neighbor_kernel = as_parameter(neighbor_kernel)
        dtype = self._self_kernel.dtype
        self._conditional = conditional
        graph = context if conditional else adjacency
        self._adjacency = None if graph is None else _as_tensor(graph, dtype)
        self._mask = None if mask is None else tf.cast(mask, tf.bool)
        self._max_norm = max_norm
        self._adjacency_norm = adjacency_norm
        self._tolerance = tolerance
        self._validate(adjacency)
        batch, nodes = tf.TensorShape([]), None
        if self._adjacency is not None:
            batch, nodes = self._adjacency.shape[:-2], self._adjacency.shape[-1]
        if self._mask is not None:
            batch = tf.broadcast_static_shape(batch, self._mask.shape[:-1])
        super().__init__(
            forward_min_event_ndims=2,
            event_shape=(nodes, self._self_kernel.shape[-1]),
            batch_shape=batch,
            is_constant_jacobian=True,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _validate(self, adjacency):
        shape, other = self._self_kernel.shape, self._neighbor_kernel.shape
        if shape.rank != 2 or shape[0] != shape[1] or other != shape:
            raise ValueError(
                "`self_kernel` and `neighbor_kernel` must both have shape [F, F]. Received: "
                f"self_kernel.shape={tuple(shape)}, neighbor_kernel.shape={tuple(other)}."
            )
        if (adjacency is None) != self._conditional:
            raise ValueError(
                "`adjacency` must be given, or be None with conditional=True. "
                f"Received: adjacency={adjacency!r}, conditional={self._conditional}."
            )
        graph = self._adjacency
        if graph is not None and (graph.shape.rank < 2 or graph.shape[-1] != graph.shape[-2]):
            raise ValueError(
                "`adjacency` must have shape [..., N, N]. "
                f"Received: adjacency.shape={tuple(graph.shape)}."
            )
        if graph is not None and graph.dtype != self._self_kernel.dtype:
            raise ValueError(
                f"`adjacency` must be of the kernels' dtype, {self._self_kernel.dtype.name}. "
                f"Received: adjacency.dtype={graph.dtype.name}."
            )
        if self._mask is not None and graph is not None:
            if graphs.is_sparse(graph):
                raise ValueError(
                    "`mask` must be None for a sparse `adjacency`, which needs no padding. "
                    f"Received: mask.shape={tuple(self._mask.shape)}."
                )
            if self._mask.shape[-1] != graph.shape[-1]:
                raise ValueError(
                    "`mask` must have shape [..., N]. Received: "
                    f"mask.shape={tuple(self._mask.shape)}, N={graph.shape[-1]}."
                )
        if self._max_norm is not None and not self._max_norm > 0:
            raise ValueError(
                f"`max_norm` must be positive or None. Received: max_norm={self._max_norm}."
            )

    @property
    def context_shape(self) -> list[int | None]:
        """Shape of an event of the context: any number of nodes."""
        return [None, None]

    @classmethod
    def trainable(
        cls,
        event_shape: Shape,
        adjacency: graphs.AdjacencyLike | None,
        *,
        seed: Seed = None,
        dtype: DTypeLike = tf.float32,
        name: str = "graph_conv_exponential",
        **kwargs: Any,
    ) -> Self:
        """Returns a `GraphConvExponential` with trainable kernels, `N(0, 1) / (2 F)` at first.

        Args:
          event_shape: `[N, F]`; the number of nodes may be `None`.
          adjacency: see the class.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the kernels.
          name: name of the bijector.
          **kwargs: other arguments of the class.
        """
        num_features = as_event_shape(event_shape)[-1]
        shape = [2, num_features, num_features]
        start = normal_variable(shape, 0.5 / num_features, seed, dtype, "start")
        kernels = [
            tf.Variable(value, name=f"{name}_{kind}")
            for kind, value in zip(("self_kernel", "neighbor_kernel"), start, strict=True)
        ]
        return cls(adjacency, *kernels, name=name, **kwargs)

    def norm_bound(self) -> tf.Tensor:
        """Returns the certified bound of `|M|_2` before scaling, `[...]`, one for each graph."""
        self._graph()  # An error if there is none.
        return self._norm_bound()

    def scaled_kernels(self) -> list[tf.Tensor]:
        """Returns the `T0` and `T1` that are used, `[..., F, F]`, of a `|M|_2` up to `max_norm`."""
        self._graph()
        return self._scaled_kernels()

    def _graph(self):
        """Returns `A` without the entries of padded nodes."""
        if self._adjacency is None:
            raise ValueError(
                f"`{type(self).__name__}` named {self.name!r} is conditional and has no graph: "
                "bind one with `tfflows.condition(model, adjacency)`."
            )
        if graphs.is_sparse(self._adjacency):
            return self._adjacency
        graph = tf.convert_to_tensor(self._adjacency)
        if self._mask is None:
            return graph
        mask = self._mask[..., tf.newaxis]
        return tf.where(mask & tf.linalg.matrix_transpose(mask), graph, 0)

    @of_weights
    def _kernel_bounds(self):
        """Returns `|T0|_2` and `|T1|_2`."""
        return [
            norms.conv_norm_bound(tf.convert_to_tensor(kernel)[tf.newaxis, tf.newaxis])
            for kernel in (self._self_kernel, self._neighbor_kernel)
        ]

    @of_weights
    def _adjacency_bound(self):
        """Returns `|A|_2`, if there is a graph."""
        if self._adjacency_norm is not None:
            return tf.cast(self._adjacency_norm, self.dtype)
        return None if self._adjacency is None else graphs.adjacency_norm_bound(self._graph())

    def _norm_bound(self):
        of_itself, of_neighbors = self._kernel_bounds()
        return of_itself + self._adjacency_bound() * of_neighbors

    def _scaled_kernels(self):
        kernels = [tf.convert_to_tensor(k) for k in (self._self_kernel, self._neighbor_kernel)]
        if self._max_norm is None:
            return kernels
        factor = tf.maximum(self._norm_bound() / self._max_norm, 1)
        return [kernel / factor[..., tf.newaxis, tf.newaxis] for kernel in kernels]

    def _evaluate(self, x, sign):
        graph = self._graph()
        kernels = self._scaled_kernels()
        x = self._broadcast(x)
        if self._max_norm is None:
            steps, factor = series.scaling_steps(self._norm_bound())
            kernels, norm = [factor * kernel for kernel in kernels], 1.0
        else:
            steps = max(1, math.ceil(self._max_norm))
            norm = self._max_norm / steps
        terms = series.num_terms(norm, self.dtype, self._tolerance)
        mask = None if self._mask is None else self._mask[..., tf.newaxis]
        # Padding may hold anything, even NaN, and 0 times that is no 0.
        y = x if mask is None else tf.where(mask, x, 0)
        scale = sign / tf.cast(steps, self.dtype)

        def step(u, *parameters):
            return series.parametric_action(
                lambda u, values, *k: _convolve(graphs.with_values(graph, values), u, *k),
                lambda u, values, *k: _convolve_transposed(
                    graphs.with_values(graph, values), u, *k
                ),
                u,
                parameters,
                terms,
            )

        parameters = [graphs.values_of(graph), *(scale * k for k in kernels)]
        y = series.repeat(step, y, parameters, steps)
        nodes = x.shape[-2]
        if mask is not None:
            y = tf.where(mask, y, x)
            nodes = tf.reduce_sum(tf.cast(self._mask, x.dtype), axis=-1)
        traces = [tf.linalg.trace(kernel) for kernel in kernels]
        return y, sign * (nodes * traces[0] + graphs.trace(graph) * traces[1])

    def _broadcast(self, x):
        """Gives `x` the batch dimensions of the graphs, where it has fewer."""
        batch = tf.broadcast_static_shape(x.shape[:-2], self._static_batch_shape)
        if batch == x.shape[:-2]:
            return x
        if batch.is_fully_defined():
            return tf.broadcast_to(x, batch + x.shape[-2:])
        shape = tf.shape(x)[:-2]
        if not graphs.is_sparse(self._adjacency):
            shape = tf.broadcast_dynamic_shape(shape, tf.shape(self._adjacency)[:-2])
        if self._mask is not None:
            shape = tf.broadcast_dynamic_shape(shape, tf.shape(self._mask)[:-1])
        x = tf.broadcast_to(x, tf.concat([shape, tf.shape(x)[-2:]], axis=0))
        return with_shape(x, batch + x.shape[-2:])

    def _forward_and_log_det(self, x):
        return self._evaluate(x, 1.0)

    def _inverse_and_log_det(self, y):
        return self._evaluate(y, -1.0)


def _as_tensor(graph, dtype):
    """Returns a graph as it is if TensorFlow knows it; else converts it to `dtype`."""
    if tf.is_tensor(graph) or isinstance(graph, tf.Variable):
        return graph
    return tf.convert_to_tensor(graph, dtype)


def _convolve(graph, x, self_kernel, neighbor_kernel):
    """Returns `x T0 + A x T1`."""
    of_itself = linalg.matmul(x, self_kernel)
    return of_itself + graphs.neighbor_sum(graph, linalg.matmul(x, neighbor_kernel))


def _convolve_transposed(graph, x, self_kernel, neighbor_kernel):
    """Returns the transpose of `_convolve` at `x`: `x T0^T + A^T x T1^T`."""
    kernels = map(tf.linalg.matrix_transpose, (self_kernel, neighbor_kernel))
    return _convolve(graphs.transpose(graph), x, *kernels)
