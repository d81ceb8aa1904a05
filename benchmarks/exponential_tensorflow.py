"""The contestants of `benchmarks.exponential` that run in TensorFlow, and the reference.

To be imported after `measuring.set_up_tensorflow`.
"""

from collections.abc import Callable

import numpy as np
import scipy.linalg
import tensorflow as tf

import tfflows
from benchmarks import measuring
from tfflows import bijectors, evaluation
from tfflows.numerics import series
from tfflows.numerics.norms import conv_norm_bound

MAX_NORM = 0.95
TERMS = series.num_terms(MAX_NORM, tf.float32)
_REFERENCE_TERMS = 20  # 0.95^21 / 21! is 7e-21.

Contestants = dict[tuple[str, str], Callable[[], list]]


def configure(shards: int):
    """Gives TensorFlow the threads that PyTorch has; before the first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(measuring.num_threads() // shards or 1)
    tf.config.threading.set_inter_op_parallelism_threads(measuring.num_threads())


def node_pairs() -> int:
    """Returns how many convolutions the filter gradient of the layer amounts to."""
    return series.gradient_weights(TERMS, tf.float32)[0].shape[0]


def make_arrays(channels: int, size: int, batch: int) -> dict[str, np.ndarray]:
    """Returns random images `x` and a 3x3 `kernel` of bound `MAX_NORM`."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal([3, 3, channels, channels], np.float32)
    kernel *= MAX_NORM / conv_norm_bound(kernel).numpy()
    x = rng.standard_normal([batch, size, size, channels], np.float32)
    return {"x": x, "kernel": kernel}


def contestants(x: np.ndarray, kernel: np.ndarray, shards: int) -> Contestants:
    """Returns series and layer, in graph mode and with XLA, as functions of no arguments.

    They return output and gradients alike: what is not returned, a graph does not compute. The
    gradients are those of `|y|^2 / 2`, so that, as in training, they have to wait for the output.
    """
    # The bound of the layer's kernel is twice `MAX_NORM`, so that the layer scales it to `kernel`.
    layer = bijectors.ConvExponential(tf.Variable(2 * kernel), max_norm=MAX_NORM)
    x, kernel = tf.constant(x), tf.constant(kernel)
    found = {}
    for mode in ("graph", "XLA"):
        for operation, function in _series_functions(shards, mode == "XLA").items():
            found[f"TF {mode}", operation] = _bind(function, (x, kernel))
        for operation, function in _layer_functions(layer, shards, mode == "XLA").items():
            found[f"TF {mode}, layer", operation] = _bind(function, (x,))
        constant = _layer_functions(tfflows.for_inference(layer), shards, mode == "XLA")
        for operation in ("forward", "inverse"):
            name = f"TF {mode}, layer for inference"
            found[name, operation] = _bind(constant[operation], (x,))
    return found


def _bind(function, arguments):
    return lambda: function(*arguments)


def _series_functions(shards: int, jit: bool) -> dict[str, Callable]:
    """Returns the operations of `conv_exponential` as compiled functions."""

    def evaluate(x, kernel, inverse=False):
        return [
            series.conv_exponential(part, kernel, inverse=inverse, terms=TERMS)
            for part in tf.split(x, shards)
        ]

    def both(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = evaluate(x, kernel)
        return [tf.concat(y, 0), *tape.gradient(y, [x, kernel], y)]

    return _compiled(
        {
            "forward": lambda x, kernel: [tf.concat(evaluate(x, kernel), 0)],
            "forward + backward": both,
            "inverse": lambda x, kernel: [tf.concat(evaluate(x, kernel, inverse=True), 0)],
        },
        jit,
    )


def _layer_functions(
    layer: bijectors.ConvExponential, shards: int, jit: bool
) -> dict[str, Callable]:
    """Returns the operations of `ConvExponential`, with its norm bound and log-det."""
    variables = layer.trainable_variables

    def whole(evaluate, x):
        y, log_det = zip(*[evaluate(layer, part) for part in tf.split(x, shards)], strict=True)
        return list(y), log_det[0]

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_det = whole(evaluation.forward_and_log_det, x)
        gradients = tape.gradient([*y, log_det], [x, *variables], [*y, tf.ones([])])
        return [tf.concat(y, 0), *gradients, log_det]

    def one_way(evaluate):
        def function(x):
            y, log_det = whole(evaluate, x)
            return [tf.concat(y, 0), log_det]

        return function

    return _compiled(
        {
            "forward": one_way(evaluation.forward_and_log_det),
            "forward + backward": both,
            "inverse": one_way(evaluation.inverse_and_log_det),
        },
        jit,
    )


def _compiled(functions: dict[str, Callable], jit: bool) -> dict[str, Callable]:
    return {
        name: tf.function(function, autograph=False, jit_compile=jit)
        for name, function in functions.items()
    }


def matmul(size: int) -> Callable[[], object]:
    """Returns a function that multiplies two square matrices."""
    a, b = tf.unstack(tf.random.normal([2, size, size]))
    function = tf.function(tf.matmul, autograph=False)
    return lambda: function(a, b)


def reference(x: np.ndarray, kernel: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Returns what each operation should compute: the series with autodiff, in float64."""
    x, kernel = (tf.constant(v, tf.float64) for v in (x, kernel))

    def evaluate(kernel):
        return series.exponential_action(
            lambda v: tf.nn.conv2d(v, kernel, 1, "SAME"), x, _REFERENCE_TERMS
        )

    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = evaluate(kernel)
    gradients = [v.numpy() for v in tape.gradient(y, [x, kernel], y)]
    return {
        "forward": [y.numpy()],
        "forward + backward": [y.numpy(), *gradients],
        "inverse": [evaluate(-kernel).numpy()],
    }


def dense_matrix(kernel: np.ndarray, size: int) -> np.ndarray:
    """Returns `M^T`, `[N, N]`, `N = size^2 C`: flat images are to be multiplied from the left."""
    dimension = size * size * kernel.shape[-1]
    images = tf.reshape(tf.eye(dimension), [dimension, size, size, -1])
    return tf.reshape(tf.nn.conv2d(images, kernel, 1, "SAME"), [dimension, -1]).numpy()


def dense_contestants(x: np.ndarray, kernel: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Returns functions that exponentiate the dense matrix in float32 and apply it to `x`."""
    matrix = dense_matrix(kernel, x.shape[1])
    flat, tensor = x.reshape(len(x), -1), tf.constant(matrix)
    return {
        "scipy.linalg.expm": lambda: (flat @ scipy.linalg.expm(matrix)).reshape(x.shape),
        "tf.linalg.expm": lambda: (flat @ tf.linalg.expm(tensor).numpy()).reshape(x.shape),
    }
