"""The contestants of `benchmarks.sylvester` that run in TensorFlow, and the reference.

To be imported after `measuring.set_up_tensorflow`.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

import tfflows
from tfflows import bijectors, evaluation, networks
from tfflows.evaluation.network_calls import prepare
from tfflows.networks.masked_conv_net import full_kernel
from tfflows.numerics import fixed_point, series
from tfflows.numerics.norms import conv_norm_bound

OPERATIONS = ("forward + backward", "inverse")
TERMS = series.num_terms(0.95, tf.float32)
TOLERANCE = fixed_point.TOLERANCE[tf.float32]

Contestants = dict[tuple[str, str], Callable[[], list]]


def make_flow(channels: int, size: int, width: int, at_cap: bool = False, dtype="float32"):
    """Returns a `ConvSylvester` whose norms are all below their caps, and its network.

    The kernels are those at initialisation, with the heads that start at zero drawn as the others,
    or, `at_cap`, those times what makes their bounds 0.99 times the cap. PyTorch estimates norms
    from below and TensorFlow bounds them from above: only where neither scales a kernel are the
    two the same function.
    """
    network = networks.MaskedConvNet(channels, width=width, zero_heads=(), seed=1, dtype=dtype)
    shape = [size, size, channels]
    networks.build_network(network, shape)
    for variable, capped in zip(network.kernels, network.capped_kernels(), strict=True):
        scale = 0.99
        if at_cap:
            scale *= 1.5 / conv_norm_bound(full_kernel(capped))
        variable.assign(scale * capped)
    rng = np.random.default_rng(2)
    for bias in network.biases:
        bias.assign(0.1 * rng.normal(size=bias.shape))
    flow = bijectors.ConvSylvester.trainable(shape, network, seed=1, dtype=tf.as_dtype(dtype))
    return flow, network


def make_arrays(
    channels: int, size: int, batch: int, width: int, at_cap: bool = False
) -> dict[str, np.ndarray]:
    """Returns random images `x` and all parameters, the kernels `[kh, kw, inputs, outputs]`."""
    flow, network = make_flow(channels, size, width, at_cap)
    rotation, exponential_layer = flow.parameters["basis"].bijectors
    arrays = {
        "x": np.random.default_rng(0).standard_normal([batch, size, size, channels], np.float32),
        "reflections": rotation.parameters["reflections"].numpy(),
        "exponential": exponential_layer.parameters["kernel"].numpy(),
    }
    # Masked, but not scaled, since the bounds are below the cap.
    for i, (kernel, bias) in enumerate(zip(network.capped_kernels(), network.biases, strict=True)):
        arrays[f"kernel_{i}"], arrays[f"bias_{i}"] = full_kernel(kernel).numpy(), bias.numpy()
    return arrays


def contestants(arrays: dict[str, np.ndarray]) -> Contestants:
    """Returns the operations in graph mode and with XLA, as functions of no arguments.

    The gradients are those of `|y|^2 / 2 - sum log-det`. Returned are output, log-det and the
    gradients of the images and of the 1x1 kernel first; of the inverse the images, and the
    iterations of each.
    """
    flow, network = make_flow_of(arrays, "float32")
    x, constant = tf.constant(arrays["x"]), tfflows.for_inference(flow)
    y = tf.function(flow.forward)(x)
    found = {}
    for mode in ("graph", "XLA"):
        for (name, operation), function in {
            ("", "forward + backward"): lambda _: forward_and_gradients(flow, network, x),
            ("", "inverse"): lambda y: _inverse(flow, y, True),
            (", for inference", "inverse"): lambda y: _inverse(constant, y, True),
            (", plain iteration", "inverse"): lambda y: _inverse(flow, y, False),
        }.items():
            compiled = tf.function(function, autograph=False, jit_compile=mode == "XLA")
            found[f"TF {mode}{name}", operation] = lambda compiled=compiled: compiled(y)
    return found


def make_flow_of(arrays, dtype):
    """Returns a flow with given parameters, and its network."""
    _, size, _, channels = arrays["x"].shape
    flow, network = make_flow(channels, size, arrays["kernel_0"].shape[-1], dtype=dtype)
    for i, (variable, bias) in enumerate(zip(network.kernels, network.biases, strict=True)):
        taps = arrays[f"kernel_{i}"].reshape(-1, *variable.shape[1:])
        variable.assign(taps[: variable.shape[0]])
        bias.assign(arrays[f"bias_{i}"])
    rotation, exponential_layer = flow.parameters["basis"].bijectors
    rotation.parameters["reflections"].assign(arrays["reflections"])
    exponential_layer.parameters["kernel"].assign(arrays["exponential"])
    return flow, network


def forward_and_gradients(flow, network, x):
    variables = [network.kernels[1].value]
    others = [v for v in flow.trainable_variables if v is not variables[0]]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = evaluation.forward_and_log_det(flow, x)
        loss = tf.reduce_sum(y**2) / 2 - tf.reduce_sum(log_det)
    return [y, log_det, *tape.gradient(loss, [x, *variables, *others])]


def _inverse(flow, y, newton):
    """Returns the images and the iterations, by the parts of `Sylvester` in either case."""
    function = prepare(flow.parameters["autoregressive"])
    chosen = function if newton else lambda u: function(u)[0]
    from_basis, v, solution = flow._solve(y, chosen)
    return [y - from_basis(v - solution.value), solution.num_iterations]


def reference(arrays: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Returns what each operation should compute, in float64."""
    flow, network = make_flow_of(arrays, "float64")
    x = tf.constant(arrays["x"], tf.float64)
    both = tf.function(lambda: forward_and_gradients(flow, network, x)[:4])()
    return {"forward + backward": [v.numpy() for v in both], "inverse": [arrays["x"]]}
