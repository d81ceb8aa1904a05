"""Public functions take arrays and lists where they take tensors, and give the same results."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tests.contract import table
from tfflows import analysis, bijectors, distributions, evaluation, numerics
from tfflows.bijectors import transforms
from tfflows.numerics import fixed_point, series

tfb = tfp.bijectors
tfd = tfp.distributions


def flow(dtype):
    """Returns a flow of images `[4, 4, 1]`."""
    norm = bijectors.ActNorm.trainable([None, None, 4], dtype=dtype)
    exponential = bijectors.ConvExponential.trainable([2, 2, 4], seed=1, dtype=dtype)
    return bijectors.Sequential([bijectors.Squeeze(), norm, exponential])


def chain(dtype):
    return tfb.Chain([tfb.Scale(tf.constant(2, dtype)), flow(dtype)])


def levels(dtype):
    return bijectors.MultiScale([flow(dtype), flow(dtype)], [4, 4, 1], split_fraction=0.75)


def coupling(dtype, **kwargs):
    def network(a, context):
        return tf.concat([a, tf.cast(context, a.dtype)], axis=-1)

    return bijectors.Coupling(
        network, [2], transforms.Affine(), conditional=True, dtype=dtype, **kwargs
    )


def after_initialize(part, initialize):
    initialize(part)
    return part.variables[:2]


def records(dtype, x):
    return [(r.output, r.log_det) for r in analysis.record_layers(chain(dtype), x)]


def volumes(dtype, x):
    report = analysis.volume_report(flow(dtype), x, num_iterations=1, drift=True)
    return [(layer.log_det, layer.variance, layer.spectral_norm) for layer in report]


def resampled(dtype, x):
    base = distributions.standard_normal([16], dtype)
    model = tfd.TransformedDistribution(base, tfb.Invert(levels(dtype)))
    return analysis.resample_levels(model, x, [0], seed=[0, 1])


IMAGES, LATENTS, POINTS = [3, 4, 4, 1], [3, 16], [3, 2]
LINEAR, SMALL_IMAGES = [4, 4], [3, 2, 2, 4]
KERNEL = [3, 3, 1, 1]

# What it does with the dtype of the model and arrays, and the shapes of these.
FUNCTIONS = {
    "forward": (lambda d, x: flow(d).forward(x), IMAGES),
    "forward_and_log_det": (lambda d, x: evaluation.forward_and_log_det(chain(d), x), IMAGES),
    "inverse_and_log_det": (lambda d, y: evaluation.inverse_and_log_det(chain(d), y), SMALL_IMAGES),
    "initialize": (
        lambda d, x: after_initialize(chain(d), lambda part: evaluation.initialize(part, x)),
        IMAGES,
    ),
    "ActNorm.initialize": (
        lambda d, x: after_initialize(
            bijectors.ActNorm.trainable([None, None, 1], dtype=d), lambda part: part.initialize(x)
        ),
        IMAGES,
    ),
    "split_latents": (lambda d, z: levels(d).split_latents(z), LATENTS),
    "merge_latents": (
        lambda d, *z: levels(d).merge_latents(z),
        [3, 2, 2, 3],
        [3, 1, 1, 4],
    ),
    "condition": (
        lambda d, x, c: tfflows.condition(coupling(d), c).forward(x),
        POINTS,
        [3, 1],
    ),
    "context": (
        lambda d, c: coupling(d, context=c).inverse(tf.ones([2], d)),
        [3, 1],
    ),
    "Sylvester.inverse_iterations": (
        lambda d, y: table.sylvester(d, "dense").inverse_iterations(y),
        LINEAR,
    ),
    "ResidualFlow.inverse_iterations": (
        lambda d, y: table.residual_flow(d, [2], kernel_sizes=(1, 1)).inverse_iterations(y),
        POINTS,
    ),
    "record_layers": (records, IMAGES),
    "first_non_finite": (lambda d, x: analysis.first_non_finite(flow(d), x) is None, IMAGES),
    "round_trip_error": (lambda d, x: analysis.round_trip_error(chain(d), x) < 1e-4, IMAGES),
    "inverse_iterations": (
        lambda d, x: analysis.inverse_iterations(table.sylvester(d, "dense"), x),
        LINEAR,
    ),
    "jacobian_norm": (lambda d, x: analysis.jacobian_norm(chain(d), x, 1), IMAGES),
    "volume_report": (volumes, IMAGES),
    "resample_levels": (resampled, IMAGES),
    "quasi_linear_optimum": (lambda d, x: analysis.quasi_linear_optimum(x, 0.1), POINTS),
    "ppca_flow": (lambda d, x: analysis.ppca_flow(x).parameters["mean"], POINTS),
    "bits_per_dim": (lambda d, x: analysis.bits_per_dim(x, 2), [3]),
    "fixed_point.solve": (
        lambda d, v: fixed_point.solve(lambda u: tf.sin(u) / 3, v, event_ndims=1).value,
        POINTS,
    ),
    "conv_exponential": (
        lambda d, x, kernel: series.conv_exponential(x, kernel, terms=3),
        IMAGES,
        KERNEL,
    ),
    "normalized_adjacency": (lambda d, a: numerics.normalized_adjacency(tf.abs(a)), LINEAR),
    "adjacency_norm_bound": (lambda d, a: numerics.adjacency_norm_bound(a), LINEAR),
    "conv_norm_bound": (lambda d, kernel: numerics.conv_norm_bound(kernel), KERNEL),
    "capped_kernel": (lambda d, kernel: numerics.capped_kernel(kernel, 0.5), KERNEL),
    "matrix_norm_bound": (lambda d, matrix: numerics.matrix_norm_bound(matrix), LINEAR),
    "sequence_norm_bound": (lambda d, sequence: numerics.sequence_norm_bound(sequence), [2, 5]),
    "spectral_norm_power_iteration": (
        lambda d, kernel, u: numerics.spectral_norm_power_iteration(kernel, u),
        KERNEL,
        [1, 4, 4, 1],
    ),
    "call_network": (
        lambda d, x, c: evaluation.call_network(lambda x, c: x + tf.cast(c, x.dtype), x, 1, c),
        POINTS,
        [2],
    ),
    "TriangularTanh": (
        lambda d, r, b, u: bijectors.triangular.TriangularTanh(r, r, b, 2)(u),
        [2, 2],
        [2],
        POINTS,
    ),
    "Sylvester.householder": (
        lambda d, v, r, b: bijectors.Sylvester.householder(v, r, r, b).forward(np.ones([3])),
        [3, 3],
        [2, 2],
        [2],
    ),
    "Sylvester.triangular": (
        lambda d, r, b: bijectors.Sylvester.triangular(r, r, b).forward(np.ones([2])),
        [2, 2],
        [2],
    ),
}
KINDS = {
    "float64": lambda a: a,
    "float32": lambda a: a.astype("float32"),
    "list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64], ids=["float32", "float64"])
def test_arrays_and_lists_are_taken_as_tensors_are(name, dtype):
    function, *shapes = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) / 2 for shape in shapes]
    # What has no model computes in the dtype of the data.
    expected = function(dtype, *(tf.constant(a, dtype) for a in arrays))
    for convert in KINDS.values():
        actual = function(dtype, *map(convert, arrays))
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected
        )


def test_integer_contexts_and_graphs():
    context = np.array([[1], [2], [0]])
    bound = tfflows.condition(coupling(tf.float32), context)
    assert bound.parameters["context"].dtype == tf.int64  # Labels stay what they are.
    assert bound.forward(np.ones([3, 2])).dtype == tf.float32
    path = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    np.testing.assert_allclose(numerics.normalized_adjacency(path)[0], [0, 0.5**0.5, 0], 1e-6)
    np.testing.assert_allclose(numerics.adjacency_norm_bound(np.array(path)), 2**0.5, 1e-5)


def test_several_arrays_for_a_bijector_of_several_tensors():
    parts = [np.ones([3, 1]), np.zeros([3, 2])]
    joined, _ = evaluation.inverse_and_log_det(tfb.Split([1, 2]), parts, event_ndims=[1, 1])
    np.testing.assert_array_equal(joined, [[1, 0, 0]] * 3)
