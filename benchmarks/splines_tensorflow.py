"""The flows of `benchmarks.splines` by tfflows and by TFP alone, of the same weights."""

import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from benchmarks import measuring
from benchmarks.splines_serving import BOUND, LAYERS, OPERATIONS
from tfflows import bijectors
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions
MODES = {"graph": False, "XLA": True}
LEAST = 1e-3  # Of bins, relative to the box, and of slopes, in tfflows.


def configure():
    """Gives TensorFlow the same threads as the other contestants."""
    tf.config.threading.set_intra_op_parallelism_threads(measuring.num_threads())


def num_parameters(kind: str, bins: int) -> int:
    """Returns how many parameters a network gives for each entry that it moves."""
    return 2 if kind == "affine couplings" else 3 * bins - 1


def make_network(inputs, width, outputs):
    """Returns the conditioner of all contestants: two hidden layers with ReLU."""
    layers = [keras.layers.Dense(size, activation="relu") for size in (width, width)]
    network = keras.Sequential([*layers, keras.layers.Dense(outputs)])
    network.build((None, inputs))
    return network


def couplings(networks, dimension, transform):
    """Returns couplings by tfflows whose halves take turns."""
    return [
        bijectors.Coupling(network, [dimension], transform, reverse=bool(i % 2))
        for i, network in enumerate(networks)
    ]


def tfflows_layers(kind, networks, dimension, bins):
    """Returns the layers by tfflows, and their variables."""
    if kind == "spline activations":
        make = bijectors.RationalQuadraticActivation.trainable
        layers = [make([dimension], num_bins=bins, slope=0.75) for _ in networks]
    elif kind == "spline couplings":
        layers = couplings(networks, dimension, transforms.RationalQuadratic(bins, BOUND))
    else:
        layers = couplings(networks, dimension, transforms.Affine())
    return bijectors.Sequential(layers), [v for b in layers for v in b.trainable_variables]


def tfp_spline(h):
    """Returns TFP's spline for the parameters `h`, `[..., 3 I - 1]`, as tfflows reads them."""
    bins = (h.shape[-1] + 1) // 3
    widths, heights, slopes = tf.split(h, [bins, bins, bins - 1], axis=-1)
    widths, heights = (
        2 * BOUND * (LEAST + (1 - LEAST * bins) * tf.nn.softmax(v)) for v in (widths, heights)
    )
    slopes = LEAST + tf.nn.softplus(slopes + math.log(math.expm1(1 - LEAST)))
    return tfb.RationalQuadraticSpline(widths, heights, slopes, range_min=-BOUND)


def tfp_layers(kind, networks, dimension, bins):
    """Returns the layers by TFP, `tfb.RealNVP` with a `bijector_fn`, and their variables."""
    if kind == "spline activations":
        found = [tf.Variable(tf.zeros([dimension, 3 * bins - 1])) for _ in networks]
        # A bijector that reads its variables each time, as TFP has none that is trainable.
        return [lambda v=v: tfp_spline(tf.convert_to_tensor(v)) for v in found], found

    def make(network):
        def bijector_fn(a, input_depth, **kwargs):
            h = network(a)
            if kind == "affine couplings":
                shift, h = tf.split(h, 2, axis=-1)
                return tfb.Shift(shift)(tfb.Scale(log_scale=2 * tf.tanh(h / 2)))
            return tfp_spline(tf.reshape(h, [-1, input_depth, 3 * bins - 1]))

        return bijector_fn

    layers = [
        lambda network=network, sign=sign: tfb.RealNVP(
            fraction_masked=sign * 0.5, bijector_fn=make(network)
        )
        for network, sign in zip(networks, [1, -1] * LAYERS, strict=False)
    ]
    return layers, [v.value for network in networks for v in network.trainable_variables]


class Contestants:
    """Both libraries' flows of one case.

    Args:
      case: a `Case` of `benchmarks.splines`.
    """

    def __init__(self, case):
        keras.utils.set_random_seed(0)
        half = case.dimension // 2
        outputs = half * num_parameters(case.kind, case.bins)
        networks = [make_network(half, case.width, outputs) for _ in range(LAYERS)]
        self.x = tf.constant(case.data())
        arguments = case.kind, networks, case.dimension, case.bins
        flow, self._variables = tfflows_layers(*arguments)
        self._base = tfd.Sample(tfd.Normal(0.0, 1.0), [case.dimension])
        self._tfflows = lambda: tfd.TransformedDistribution(self._base, tfb.Invert(flow))
        layers, self._tfp_variables = tfp_layers(*arguments)
        self._tfp = lambda: tfd.TransformedDistribution(
            self._base, tfb.Invert(tfb.Chain([make() for make in reversed(layers)]))
        )

    def operations(self) -> dict:
        """Returns (contestant, mode, operation) -> function of no arguments."""
        return {
            (name, mode, operation): run
            for name, make, variables in (
                ("tfflows", self._tfflows, self._variables),
                ("TFP", self._tfp, self._tfp_variables),
            )
            for (mode, operation), run in self._compile(make, variables).items()
        }

    def _compile(self, make, variables):
        """Returns (mode, operation) -> function, for one library."""
        count, found = self.x.shape[0], {}

        def gradients():
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(make().log_prob(self.x))
            return tape.gradient(loss, variables)

        for mode, jit in MODES.items():
            functions = gradients, lambda: make().sample(count, seed=[0, 1])
            for operation, function in zip(OPERATIONS, functions, strict=True):
                found[mode, operation] = tf.function(function, jit_compile=jit, autograph=False)

        # Under XLA a CPU draws random numbers slowly: here the graph draws, XLA runs the flow.
        push = tf.function(lambda z: make().bijector.forward(z), jit_compile=True, autograph=False)
        found["XLA flow", OPERATIONS[1]] = tf.function(
            lambda: push(self._base.sample(count, seed=[0, 1])), autograph=False
        )
        return found

    def difference(self) -> float:
        """Returns the largest difference of the two libraries' log_prob."""
        values = [tf.function(make().log_prob)(self.x) for make in (self._tfflows, self._tfp)]
        return float(np.max(np.abs(values[0] - values[1])))
