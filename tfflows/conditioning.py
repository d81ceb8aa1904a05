"""`condition`: gives a context to every conditional part of a model."""

import functools
from collections.abc import Sequence
from typing import TypeVar

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.evaluation.parts import rebuild
from tfflows.numerics.parameters import as_context
from tfflows.types import TensorLike

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
