"""Penalties that keep a flow from expanding without need, for `FlowModel(regularizers=...)`.

Each function returns a function `(records, distribution) -> penalty`, in nats an event: `records`
are the `analysis.LayerRecord`s of the evaluation of `log p(x)`, so that nothing is computed twice.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflows.analysis.layers import LayerRecord
from tfflows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfflows.evaluation.parts import is_step
from tfflows.numerics.norms import conv_norm_bound

Penalty: TypeAlias = Callable[[list[LayerRecord], tfd.Distribution], tf.Tensor]


def transport_cost(weight: float) -> Penalty:
    """Returns the L2 transport cost of the blocks, Liao and He (2021), section 6.2.

        weight * sum over blocks of E|f_l(h) - h|^2

    over the `Block`s whose output has the shape of their input.

    Args:
      weight: Python `float`.

    #### References

    Onken, Fung, Li, Ruthotto, *OT-Flow*, AAAI 2021, arXiv:2006.00104. Liao, He, *Jacobian
    Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """

    def penalty(records, distribution):
        del distribution
        costs = [
            tf.reduce_mean(
                tf.reduce_sum((r.output - r.input) ** 2, list(range(1, r.input.shape.rank)))
            )
            for r in records
            if is_step(r.bijector) and r.input.shape == r.output.shape
        ]
        return weight * tf.add_n(costs) if costs else tf.zeros([])

    return penalty


def linear_weights(weight: float) -> Penalty:
    """Returns the L2 penalty of the matrices of linear layers, Liao, He and Shu (2019).

        weight * sum over linear layers of |W|_F^2

    for `InvertibleConv1x1` and `StridedConv`, against the growth of `log|det W|`; 0.1 in the paper.

    Args:
      weight: Python `float`.

    #### References

    Liao, He, Shu, *Generative Model with Dynamic Linear Flow*, IEEE Access 7, 2019,
    arXiv:1905.03239.
    """

    def penalty(records, distribution):
        del records
        norms = [tf.reduce_sum(matrix**2) for matrix in _matrices(distribution)]
        return weight * tf.add_n(norms) if norms else tf.zeros([])

    return penalty


def spectral_cap(cap: float, weight: float = 1.0) -> Penalty:
    """Returns a penalty on matrices of linear layers whose norm exceeds `cap`.

        weight * sum over linear layers of max(0, bound(W) - cap)^2,   bound(W) >= |W|_2

    with the certified bound of `ConvExponential`.

    Args:
      cap: the largest norm that costs nothing.
      weight: Python `float`.
    """

    def penalty(records, distribution):
        del records
        bounds = [conv_norm_bound(m[tf.newaxis, tf.newaxis]) for m in _matrices(distribution)]
        excess = [tf.maximum(bound - cap, 0) ** 2 for bound in bounds]
        return weight * tf.add_n(excess) if excess else tf.zeros([])

    return penalty


def _matrices(distribution):
    """Returns the matrices `[C, C]` of all 1x1 convolutions, those of `StridedConv` included."""
    found = [m.matrix() for m in distribution.submodules if isinstance(m, InvertibleConv1x1)]
    return [matrix for matrix in found if matrix.shape.rank == 2]
