"""`condition`: gives a context to every conditional part of a model; `guide`: with more weight."""

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any, Self, TypeVar

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.evaluation.network_calls import NetworkModule, apply
from tfflows.evaluation.parts import rebuild
from tfflows.numerics.parameters import as_context, is_number
from tfflows.types import Network, TensorLike

_Model = TypeVar("_Model", bound=tfb.Bijector | tfd.Distribution)


def condition(model: _Model, context: TensorLike | tf.SparseTensor) -> _Model:
    """Returns `p(x | context)`: `model` with `context` bound to each of its conditional parts.

    Binding is the one way in which tfflows passes a context. It works alike for a bijector, for a
    composition (`Sequential`, `tfb.Chain`, `tfb.Invert`, ...) and for a distribution, and what it
    returns is an ordinary TFP object that shares its variables with `model`.

    Args:
      model: a `tfb.Bijector` or `tfd.Distribution`, some part of which has a parameter `context`.
      context: a `Tensor`, array or list, whose leading dimensions become batch dimensions of the
        result, and whose trailing ones are what the networks expect.

    Returns:
      An object of the type of `model`.

    Raises:
      ValueError: if `model` has no conditional part, or its parts expect contexts of another size.

    #### Example

    ```python
    import tensorflow as tf
    import functools

    import tensorflow_probability as tfp
    import tfflows

    affine = tfflows.bijectors.transforms.Affine()
    flow = tfflows.bijectors.Coupling(
        lambda x, context: tf.concat([context, context], -1), [2], affine, conditional=True)
    base = tfp.distributions.MultivariateNormalDiag(tf.zeros([2]))
    model = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Invert(flow))
    tfflows.condition(model, tf.ones([5, 1])).sample().shape  # [5, 2]
    ```
    """
    converted = functools.cache(functools.partial(as_context, context))

    def changes(part):
        if not _is_conditional(part):
            return {}
        check_context(converted(part.dtype), part.context_shape)
        return {"context": converted(part.dtype)}

    bound = rebuild(model, changes=changes)
    if bound is model:
        raise ValueError(
            "`model` must have a conditional part, a bijector with a parameter `context`. "
            f"Received: model={model!r}."
        )
    return bound


def guide(
    model: _Model, context: TensorLike, weight: float, null: TensorLike | None = None
) -> _Model:
    """Returns `model` with a context that counts for more: guidance without a classifier.

    With `h(x, c)` what a network predicts, every coupling and autoregressive layer is given

        h(x, context) + weight (h(x, context) - h(x, null)),

    Zhai et al. (2024), after Ho and Salimans (2021). The result is a flow as any other: samples and
    `log_prob` are those of one density, whose integral is 1. It is not `p(x | context)`, and its
    likelihood of data is worse: what it is for are samples that show the context more.

    Args:
      model: as for `condition`; its conditional parts are couplings or autoregressive.
      context: as for `condition`.
      weight: a number, 0 or more: how much more; 0 is `condition`.
      null: the context that stands for none, by default zeros, if contexts are no integers. The
        model has to know it from training: see `context_dropout` of `FlowModel`.

    Returns:
      An object of the type of `model`, which shares its variables.

    Raises:
      ValueError: as `condition`; if `weight` is not a number, 0 or more; contexts are integers, of
        which 0 is a label as any other, and `null` is not given; or a conditional part is of
        another kind, such as a residual flow, which need not be invertible with other outputs.

    #### Example

    ```python
    import tensorflow as tf
    import tensorflow_probability as tfp

    import tfflows
    from tfflows import bijectors, networks

    network = networks.build_network(networks.MLP(2, seed=1), [1], [3])
    affine = bijectors.transforms.Affine()
    flow = bijectors.Coupling(network, [2], affine, conditional=True, context_ndims=1)
    model = tfp.distributions.TransformedDistribution(
        tfflows.distributions.standard_normal([2]), tfp.bijectors.Invert(flow)
    )
    tfflows.guide(model, tf.one_hot(0, 3), weight=2.0).sample(5, seed=1).shape  # [5, 2]
    ```

    #### References

    Ho, Salimans, *Classifier-Free Diffusion Guidance*, NeurIPS 2021 workshop, arXiv:2207.12598.
    Zhai et al., *Normalizing Flows are Capable Generative Models*, 2024, arXiv:2412.06329.
    """
    if not (is_number(weight) and 0 <= weight < math.inf):
        raise ValueError(f"`weight` must be a number, 0 or more. Received: weight={weight!r}.")

    if weight == 0:
        return condition(model, context)
    given = as_context(context, None)
    if null is None and given is not None and given.dtype.is_integer:
        raise ValueError(
            "`null` must be given for contexts that are integers: 0 is one of them. "
            f"Received: contexts of {given.dtype.name}."
        )

    def changes(part):
        if not _is_conditional(part):
            return {}
        if not part.guidable:
            raise ValueError(
                "`model` must be conditional in couplings and autoregressive layers alone to be "
                f"guided. Received: a conditional {type(part).__name__}, {part.name!r}."
            )
        nothing = None if null is None else as_context(null, part.dtype)
        if nothing is not None:
            check_context(nothing, part.context_shape, "`null` must have shape")

        def guided(networks):
            if isinstance(networks, (list, tuple)):
                return [guided(network) for network in networks]
            return _Guided(networks, nothing, weight)

        return {name: guided(part.parameters[name]) for name in part.guidable}

    return condition(rebuild(model, changes=changes), context)


class _Guided(NetworkModule):
    """A network that is guided, see `guide`.

    Args:
      network: the network.
      null: the context that stands for none; `None` for zeros.
      weight: see `guide`.
    """

    def __init__(self, network: Network, null: Any, weight: float) -> None:
        super().__init__(network)
        self._null, self._weight = null, weight
        self.context_shape = getattr(network, "context_shape", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(copy.deepcopy(self.network, memo), self._null, self._weight)

    def __call__(self, *args: tf.Tensor) -> tf.Tensor:
        """Calls the network with the context and without."""
        x, context = args
        null = tf.zeros_like(context)
        if self._null is not None:
            null += tf.cast(self._null, context.dtype)
        given, free = (apply(self.network, x, c) for c in (context, null))
        return given + self._weight * (given - free)


def expected_context(model: tfb.Bijector | tfd.Distribution) -> list[int | None] | None:
    """Returns the shape of the contexts that a model expects, `None` for sizes that are not known.

    Args:
      model: a `tfb.Bijector` or `tfd.Distribution`.

    Returns:
      The shape of an event of the context; `None` if no part is conditional without a context.
    """
    shapes: list[list[int | None]] = []

    def look(part):
        if _is_conditional(part) and part.parameters.get("context") is None:
            shapes.append(part.context_shape)
        return {}

    rebuild(model, changes=look)
    # Of the parts, those whose networks `build_network` did not build know the rank alone.
    return max(shapes, key=lambda shape: (len(shape) - shape.count(None), len(shape)), default=None)


def _is_conditional(part):
    return isinstance(part, FlowBijector) and bool(part.parameters.get("conditional"))


def check_context(
    context: tf.Tensor,
    shape: Sequence[int | None],
    must: str = "`context` must have shape",
    is_batch: bool = False,
) -> None:
    """Raises a `ValueError` if a context has not the shape that is expected.

    Args:
      context: `[..., *shape]`.
      shape: of an event of the context, `None` for sizes that are not known.
      must: how the error begins.
      is_batch: whether there has to be one batch dimension.
    """
    given, rank = context.shape, len(shape)
    if given.rank is None:
        return
    one_batch = not is_batch or given.rank == rank + 1
    if one_batch and given[max(given.rank - rank, 0) :].is_compatible_with(shape):
        return
    rows = "n" if is_batch else "..."
    wanted = ", ".join([rows, *("any" if size is None else str(size) for size in shape)])
    raise ValueError(f"{must} [{wanted}]. Received: shape={tuple(given)}.")
