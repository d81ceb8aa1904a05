"""Calibration by simulation: do posteriors given simulated data hold what they promise?"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflows.numerics.parameters import as_data
from tfflows.types import Seed, TensorLike


class Calibration(NamedTuple):
    """What `check_calibration` finds of `N` posteriors with events of `D` entries.

    Attributes:
      ranks: how many of `L` samples are below the true value, entry by entry, `[N, D]`, from 0 to
        `L`. The histogram of a column is flat if its marginal is calibrated, a hump if it is too
        wide, a bowl if it is too narrow, and leans if it is shifted.
      levels: the mass of the smallest region of highest density that holds the true value, `[N]`,
        in units of `1 / (L + 1)`, from there to 1. See `coverage`.
      rank_error: the largest distance of the distribution of the ranks from the uniform one, `[D]`.
      level_error: that of the levels.
      bound: what such a distance exceeds in at most one of a hundred checks of an exact posterior,
        `sqrt(log(200) / 2 N)`, by the inequality of Dvoretzky, Kiefer and Wolfowitz.
    """

    ranks: np.ndarray
    levels: np.ndarray
    rank_error: np.ndarray
    level_error: float
    bound: float


def check_calibration(
    posterior: tfd.Distribution, truth: TensorLike, num_samples: int = 99, seed: Seed = None
) -> Calibration:
    """Compares posteriors with the parameters that the data were simulated with.

        theta_i ~ p(theta),   y_i ~ p(y | theta_i),   theta_i1 .. theta_iL ~ q(theta | y_i)
        rank_i  = #{l : theta_il < theta_i}, entry by entry
        level_i = (1 + #{l : log q(theta_il | y_i) > log q(theta_i | y_i)}) / (L + 1)

    If `q` is the posterior of `p`, `theta_i` is one more of the samples, and ranks and levels are
    uniform: Talts et al. (2018), theorem 1, for the ranks, Hermans et al. (2022), section 3, for
    the levels. The reverse is not true: the prior as posterior has uniform ranks, too.

    Args:
      posterior: `q(theta | y_i)` for the batch of all `y_i`: any distribution of real numbers with
        batch shape `[N]`, such as `FlowModel.condition(y)` or `tfflows.condition(model, context)`.
      truth: the `theta_i`, `[N, ...]`, events of the posterior.
      num_samples: the `L`. With 99, levels are whole per cents. All are drawn at once.
      seed: a seed as `tfd.Distribution.sample` takes it.

    Raises:
      ValueError: if shapes do not go together, the posterior is one of integers, or there is NaN.

    #### References

    Talts, Betancourt, Simpson, Vehtari, Gelman, *Validating Bayesian Inference Algorithms with
    Simulation-Based Calibration*, 2018, arXiv:1804.06788.

    Hermans, Delaunoy, Rozet, Wehenkel, Begy, Louppe, *A Crisis In Simulation-Based Inference?*,
    2022, arXiv:2110.06581.

    #### Example

    ```python
    import tensorflow as tf
    from tensorflow_probability import distributions as tfd

    import tfflows

    truth = tfd.Normal(0.0, 1.0).sample([500, 1], seed=1)
    y = truth + tfd.Normal(0.0, 1.0).sample([500, 1], seed=2)
    exact = tfd.Independent(tfd.Normal(y / 2, 0.5**0.5), 1)
    result = tfflows.analysis.check_calibration(exact, truth, seed=3)
    print(result.rank_error, result.level_error, "below", result.bound)
    print(tfflows.analysis.coverage(result.levels, [0.5, 0.9]))  # about [0.5, 0.9]
    ```
    """
    if not posterior.dtype.is_floating:
        raise ValueError(
            "`posterior` must be a distribution of real numbers. Received: "
            f"posterior.dtype={posterior.dtype.name}."
        )
    truth = as_data(truth, posterior.dtype)
    shape = posterior.batch_shape + posterior.event_shape
    if posterior.batch_shape.rank != 1 or not shape.is_compatible_with(truth.shape):
        raise ValueError(
            "`posterior` must have a batch shape [N], and `truth` the shape [N, ...] of N of its "
            f"events. Received: posterior.batch_shape={posterior.batch_shape}, "
            f"posterior.event_shape={posterior.event_shape}, truth.shape={truth.shape}."
        )
    if num_samples < 1 or truth.shape[0] == 0:
        raise ValueError(
            "`num_samples` and the number of events must be 1 or more. Received: "
            f"num_samples={num_samples}, truth.shape={truth.shape}."
        )
    samples, densities = posterior.experimental_sample_and_log_prob(num_samples, seed=seed)
    density = posterior.log_prob(truth)
    for name, values in (
        ("`truth`", truth),
        ("the samples of `posterior`", samples),
        ("the densities of `posterior`", tf.concat([densities, density[tf.newaxis]], 0)),
    ):
        # Compared with NaN, all is false: ranks of 0 that look as if they were some.
        if tf.reduce_any(tf.math.is_nan(values)):
            raise ValueError(f"{name} must be numbers. Received: NaN.")
    below = tf.math.count_nonzero(samples < truth, axis=0)
    above = tf.math.count_nonzero(densities > density, axis=0)
    ranks = tf.reshape(below, [truth.shape[0], -1]).numpy()
    levels = (1 + above.numpy()) / (num_samples + 1)
    bound = math.sqrt(math.log(200) / (2 * len(levels)))
    grid = np.arange(1, num_samples + 1) / (num_samples + 1)
    rank_error = [np.abs(coverage((1 + r) / (num_samples + 1), grid) - grid).max() for r in ranks.T]
    level_error = float(np.abs(coverage(levels, grid) - grid).max())
    return Calibration(ranks, levels, np.array(rank_error), level_error, bound)


def coverage(levels: TensorLike, masses: TensorLike) -> np.ndarray:
    """Returns the part of the true values that regions of highest density hold.

        coverage(p) = #{i : level_i <= p} / N

    It is `p` for an exact posterior, less for one that is too sure, more for one that is too wide.

    Args:
      levels: those of `check_calibration`, `[N]`.
      masses: the `p`, from 0 to 1, `[P]` or one.

    Returns:
      The part for each `p`.
    """
    levels, masses = np.sort(np.asarray(levels)), np.asarray(masses)
    # What is equal but for rounding counts as equal.
    return np.searchsorted(levels, masses + 1e-9, side="right") / len(levels)
