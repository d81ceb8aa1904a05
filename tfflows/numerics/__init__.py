"""Tensors in, tensors out: exponentials of linear maps, certified bounds on their norms.

The bounds are never too small, in the arithmetic of a computer: `conv_norm_bound` for convolutions
of images of any size, `matrix_norm_bound`, `sequence_norm_bound`, `operator_norm_bound` for any
`tf.linalg.LinearOperator`, `adjacency_norm_bound` for graphs.
"""

from tfflows.numerics.graphs import adjacency_norm_bound, normalized_adjacency
from tfflows.numerics.linear_operators import operator_norm_bound
from tfflows.numerics.norms import (
    capped_kernel,
    conv_norm_bound,
    matrix_norm_bound,
    sequence_norm_bound,
)
from tfflows.numerics.power_iteration import spectral_norm_power_iteration
from tfflows.numerics.series import conv_exponential, num_terms

__all__ = [
    "adjacency_norm_bound",
    "capped_kernel",
    "conv_exponential",
    "conv_norm_bound",
    "matrix_norm_bound",
    "normalized_adjacency",
    "num_terms",
    "operator_norm_bound",
    "sequence_norm_bound",
    "spectral_norm_power_iteration",
]
