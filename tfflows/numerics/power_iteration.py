"""The operator norm of a convolution as Hoogeboom et al. (2020) estimate it: from below."""

import tensorflow as tf

from tfflows.numerics.convolution import correlate, transpose
from tfflows.types import TensorLike


def spectral_norm_power_iteration(
    kernel: TensorLike,
    u: TensorLike,
    num_iterations: int = 1,
    *,
    padding: str = "zero",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns an estimate of the operator norm of a convolution by power iteration.

    The method of Hoogeboom et al. (2020) and of Gouk et al. (2021), on images of one size:

        v = M u / |M u|,   u = M^T v / |M^T v|,   sigma = |M u|

    `sigma` is a lower bound, far off until `u` has converged. Its gradient takes the singular
    vectors as constants.

    Args:
      kernel: `[kh, kw, C, C']` with odd `kh` and `kw`.
      u: `[1, H, W, C]`, not zero; kept by the caller from call to call.
      num_iterations: Python `int`; 0 evaluates `|M u| / |u|`.
      padding: `"zero"` or `"periodic"`.

    Returns:
      `sigma`, a scalar, and the new `u`.

    #### References

    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910.

    Gouk, Frank, Pfahringer, Cree, *Regularisation of Neural Networks by Enforcing Lipschitz
    Continuity*, Machine Learning 110, 2021, arXiv:1804.04368.
    """
    kernel = tf.convert_to_tensor(kernel)
    constant = tf.stop_gradient(kernel)
    u = _normalize(tf.stop_gradient(u))
    v = _normalize(correlate(u, constant, padding))
    for _ in range(num_iterations):
        u = _normalize(correlate(v, transpose(constant), padding))
        v = _normalize(correlate(u, constant, padding))
    return tf.reduce_sum(v * correlate(u, kernel, padding)), u


def _normalize(x: tf.Tensor) -> tf.Tensor:
    """Divides by the norm; 0 stays 0, and so does the estimate for a kernel of zeros."""
    return tf.math.divide_no_nan(x, tf.norm(x))
