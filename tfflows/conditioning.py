"""`condition`: gives a context to every conditional part of a model."""

import functools
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
      ValueError: if `model` has no conditional part.

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
        conditional = isinstance(part, FlowBijector) and part.parameters.get("conditional")
        return {"context": converted(part.dtype)} if conditional else {}

    bound = rebuild(model, changes=changes)
    if bound is model:
        raise ValueError(
            "`model` must have a conditional part, a bijector with a parameter `context`. "
            f"Received: model={model!r}."
        )
    return bound
