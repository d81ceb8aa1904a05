"""`estimating`: where the noise of random log-dets comes from, and how much is spent on them."""

import contextlib
import threading

import tensorflow as tf

from tfflows.numerics.parameters import stateless_seed


class _State(threading.local):  # The replicas of a strategy are threads.
    seed = None
    num_terms = None


_state = _State()


@contextlib.contextmanager
def estimating(seed=None, num_terms=None):
    """Seeds the log-dets that are estimated inside the `with` block, or changes their precision.

    Some log-dets, such as those of `ResidualFlow` in many dimensions, are estimated with random
    numbers, but TFP's `log_prob` takes no seed. Inside the block the noise of each layer follows
    from `seed` and from the seed of the layer alone; outside of all such blocks it is fresh at
    every evaluation, from TensorFlow's global generator. `FlowModel` and `Dequantized.log_prob`
    open the block themselves, with the seed they were given.

    Args:
      seed: Python `int` or a stateless seed, which may be a `Tensor`: the number of a step, for
        instance; `None` for what holds outside of the block.
      num_terms: takes the place of the layers' own `num_terms`: 20 or so to score a model, where
        training does with fewer; `None` for what holds outside of the block.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, evaluation, networks

    network = networks.LipschitzNet(4, width=8, kernel_sizes=(1, 1), seed=1)
    networks.build_network(network, [4])
    flow = bijectors.ResidualFlow(network, [4], log_det="unbiased")
    with evaluation.estimating(seed=3, num_terms=20):
        y, log_det = evaluation.forward_and_log_det(flow, tf.ones([2, 4]))
    ```
    """
    before = _state.seed, _state.num_terms
    _state.seed = before[0] if seed is None else stateless_seed(seed)
    _state.num_terms = before[1] if num_terms is None else num_terms
    try:
        yield
    finally:
        _state.seed, _state.num_terms = before


def as_now(function):
    """Returns `function`, which will be called under what `estimating` says now."""
    seed, num_terms = _state.seed, _state.num_terms

    def call(*args):
        with estimating(seed, num_terms):
            return function(*args)

    return call


def noise_seed(layer_seed):
    """Returns the stateless seed of the noise of a layer, for one evaluation."""
    if _state.seed is None:
        return tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)
    seed = tf.cast(_state.seed, tf.int32)
    return tf.random.experimental.stateless_fold_in(seed, layer_seed)


def terms(default):
    """Returns the number of terms to compute, for a layer whose own is `default`."""
    return default if _state.num_terms is None else _state.num_terms
