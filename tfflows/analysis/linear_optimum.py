"""What linear and quasi-linear flows can reach: Liao and He (2021), 2.1 and appendix A."""

import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tfflows.bijectors.whitening import Whitening
from tfflows.types import TensorLike


def quasi_linear_optimum(
    data: TensorLike | Iterable[TensorLike],
    noise_variance: float,
    *,
    center: TensorLike | None = None,
) -> float:
    """Returns the largest mean log-likelihood of a quasi-linear flow, Liao and He (2021), (6).

    A quasi-linear flow is `f(x) = W(x) x` with `log|det f'| = log|det W(x)|`. If `W` may be any
    function of `x`, the best `W(x)` whitens `S = x x^T`, one event at a time:

        L = E[-1/2 {d log(2 pi) + d + sum_i log lambda_i}]

    As printed this diverges: `x x^T` has rank 1, so all `lambda_i` but one are 0. With a noise
    floor `S = x x^T + v I`, `lambda = (|x|^2 + v, v, ..., v)` and

        L(x) = -1/2 {d log(2 pi) + d + log(|x|^2 + v) + (d - 1) log v}

    which depends on the floor `v` far more than on the data.

    Args:
      data: an array `[N, *event]`, or an iterable of batches, such as a `tf.data.Dataset`, read
        once.
      noise_variance: `v`, positive, in the units of the data squared: 1/12 is that of uniform
        dequantisation of integers.
      center: subtracted from the data, of the shape of an event; by default nothing.

    Returns:
      A Python `float`, the mean of `L(x)` over the events, in nats.

    Raises:
      ValueError: if `noise_variance` is not positive, or there are no data.

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """
    if not noise_variance > 0:
        raise ValueError(
            "`noise_variance` must be positive: without a noise floor the optimum is infinite. "
            f"Received: noise_variance={noise_variance}."
        )
    total, count, size = 0.0, 0, 0
    for batch in _batches(data):
        x = batch if center is None else batch - np.reshape(center, [1, -1])
        total += np.log(np.sum(x**2, axis=1) + noise_variance).sum()
        count, size = count + len(x), x.shape[1]
    if not count:
        raise ValueError("`data` must have at least one event. Received: none.")
    fixed = size * math.log(2 * math.pi) + size + (size - 1) * math.log(noise_variance)
    return -0.5 * (fixed + total / count)


def ppca_flow(
    data: TensorLike | Iterable[TensorLike], rank: int | None = None, noise_variance: float = 0.0
) -> Whitening:
    """Returns the linear flow of largest likelihood, Liao and He (2021), appendices A.1 and A.2.

    The maximum-likelihood Gaussian of probabilistic PCA as a bijector: with mean and covariance
    `V diag(lambda) V^T` of the data,

        z = diag(lambda)^-1/2 V^T (x - mean)

    where the `d - rank` smallest eigenvalues are replaced by their mean `sigma^2`. Under it the
    data have mean log-likelihood `-1/2 {d log(2 pi) + d + sum_i log lambda_i}`, the largest that a
    linear flow with a standard normal base can give.

    Args:
      data: an array `[N, *event]`, or an iterable of batches, read once; sums are in float64.
      rank: number of principal components, less than `d`; all directions by default.
      noise_variance: added to every eigenvalue: 1/12 for integers that are to be dequantised.

    Returns:
      A `tfflows.bijectors.Whitening` of flat events `[d]` in float32, with the largest eigenvalue
      first.

    Raises:
      ValueError: if the covariance is singular and `noise_variance` is 0, `rank` is out of range,
        or there are no data.

    #### Example

    ```python
    import numpy as np
    import tensorflow_probability as tfp
    import tfflows

    x = np.random.default_rng(0).normal(size=[500, 3]) * [3., 1., .1]
    flow = tfflows.analysis.ppca_flow(x, rank=1)
    model = tfp.distributions.TransformedDistribution(
        tfflows.distributions.standard_normal([3]), tfp.bijectors.Invert(flow))
    model.log_prob(x[:2].astype("float32")).shape  # [2]
    ```

    #### References

    Tipping, Bishop, *Probabilistic Principal Component Analysis*, JRSS B 61, 1999. Liao, He,
    *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """
    mean, covariance = _moments(data)
    size = len(mean)
    if rank is not None and not 0 <= rank < size:
        raise ValueError(f"`rank` must be at least 0 and less than {size}. Received: rank={rank}.")
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1].clip(min=0) + noise_variance, vectors[:, ::-1]
    if rank is not None:
        values = np.concatenate([values[:rank], np.full(size - rank, values[rank:].mean())])
    if values[-1] <= 1e-12 * values[0]:
        raise ValueError(
            "`noise_variance` must be positive, or `rank` smaller: the covariance of the data is "
            f"singular. Received: noise_variance={noise_variance}, smallest eigenvalue "
            f"{values[-1]:.3g}, largest {values[0]:.3g}."
        )
    return Whitening(*(tf.constant(v, tf.float32) for v in (mean, vectors, values)))


def _batches(data):
    """Yields batches `[N, d]` in float64."""
    if isinstance(data, list | tuple) and data and isinstance(data[0], list | tuple):
        data = np.asarray(data)  # Events in lists of numbers.
    whole = isinstance(data, np.ndarray) or tf.is_tensor(data)
    for batch in _slices(data) if whole else data:
        batch = np.asarray(batch, np.float64)
        yield batch.reshape(len(batch), -1)


def _slices(data, size=1000):
    return (data[start : start + size] for start in range(0, len(data), size))


def _moments(data):
    """Returns mean and covariance in one pass; the first event is taken off against rounding."""
    count, shift, total, products = 0, None, 0.0, 0.0
    for x in _batches(data):
        shift = x[0] if shift is None else shift
        x = x - shift
        count, total, products = count + len(x), total + x.sum(axis=0), products + x.T @ x
    if not count:
        raise ValueError("`data` must have at least one event. Received: none.")
    mean = total / count
    return mean + shift, products / count - np.outer(mean, mean)
