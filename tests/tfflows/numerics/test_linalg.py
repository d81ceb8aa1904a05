"""Products of matrices: their values, and that none is one that TensorFlow 2.21 gets wrong."""

import contextlib
import itertools
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.python.ops import gen_math_ops

from tfflows import bijectors, condition, networks
from tfflows.bijectors import transforms
from tfflows.numerics import linalg

tfd, tfb = tfp.distributions, tfp.bijectors


@contextlib.contextmanager
def no_product_corrupts_the_heap():
    """Fails at a product that would write beyond its result, tensorflow#117700, before it does."""
    matmul = gen_math_ops.batch_mat_mul_v2

    def checked(x, y, *args, **kwargs):
        batch, other = tf.TensorShape(x.shape)[:-2], tf.TensorShape(y.shape)[:-2]
        is_wrong = (
            batch.rank == 2
            and batch[0] != 1
            and batch[1] in (1, None)
            and other.rank <= 2
            and all(size in (1, None) for size in other)
        )
        assert not is_wrong, f"{x.shape} times {y.shape}"
        return matmul(x, y, *args, **kwargs)

    with mock.patch.object(gen_math_ops, "batch_mat_mul_v2", checked):
        yield


def test_the_check_sees_the_fault():
    with no_product_corrupts_the_heap():
        for shape in ([4, 5], [1, 4, 5], [1, 1, 4, 5]):
            with pytest.raises(AssertionError, match="times"):
                tf.matmul(tf.ones([2, 1, 3, 4]), tf.ones(shape))


@pytest.mark.parametrize("known", [True, False])
def test_products_are_those_of_numpy(known):
    rng = np.random.default_rng(0)
    batches = [(), (1,), (3,), (2, 3), (2, 1)], [(), (1,), (3,), (1, 1), (2, 3)]
    pairs = list(itertools.product(*batches)) if known else [((2, 3), (3,)), ((2, 1), (1,))]
    for left, right in pairs:
        a, b, v = (rng.normal(size=s) for s in ([*left, 4, 5], [*right, 5, 6], [*left, 5]))
        try:
            expected = a @ b
        except ValueError:  # Batches that don't fit.
            continue
        turned = np.swapaxes(b, -1, -2)
        image = (turned @ v[..., np.newaxis])[..., 0]
        for function, arguments, desired in (
            (linalg.matmul, (a, b), expected),
            (lambda a, b: linalg.matmul(a, b, transpose_b=True), (a, turned), expected),
            (linalg.matvec, (turned, v), image),
            (lambda m, x: linalg.matvec(m, x, transpose=True), (b, v), image),
        ):
            if known:
                actual = function(*map(tf.constant, arguments))
            else:
                shapes = [[None] * (x.ndim - 2) + list(x.shape[-2:]) for x in arguments]
                specs = [tf.TensorSpec(shape, tf.float64) for shape in shapes]
                actual = tf.function(function, input_signature=specs)(*arguments)
            assert actual.shape == desired.shape
            np.testing.assert_allclose(actual, desired, atol=1e-12)


def rotation(kind):
    """A batch of one 1x1 convolution."""
    flow = bijectors.InvertibleConv1x1.trainable([None, None, 3], parameterization=kind, seed=1)
    arguments = dict(flow.parameters)
    for name in ("weight", "reflections"):
        if arguments[name] is not None:
            arguments[name] = tf.convert_to_tensor(arguments[name])[tf.newaxis]
    return bijectors.InvertibleConv1x1(**arguments), [2, 2, 3]


def kronecker():
    matrices = [tf.Variable(0.5 * tf.eye(n) + 0.1) for n in (2, 3)]
    parts = [tf.linalg.LinearOperatorFullMatrix(m) for m in matrices]
    return bijectors.MatvecExponential(tf.linalg.LinearOperatorKronecker(parts)), [6]


def sylvester():
    parts = [0.1 * tf.ones(shape) + tf.eye(*shape) for shape in ([4, 2], [2, 2], [2, 2])]
    variables = [tf.Variable(part) for part in (*parts, tf.ones([2]))]
    return bijectors.Sylvester.dense(*variables), [4]


def graph():
    adjacency = tf.ones([1, 4, 4]) - tf.eye(4)
    flow = bijectors.GraphConvExponential.trainable([None, 3], None, conditional=True, seed=1)
    return condition(flow, adjacency), [4, 3]


def graph_net():
    network = networks.GraphNet(4, width=8, num_heads=1, seed=1)
    networks.build_network(network, [4, 1])
    return bijectors.Coupling(network, [4, 3], transforms.Affine()), [4, 3]


def low_images():
    network = networks.build_network(networks.MLP(4, width=8, seed=1), [1, 5, 1])
    return bijectors.Coupling(network, [1, 5, 3], transforms.Affine()), [1, 5, 3]


def woodbury():
    flow = bijectors.WoodburyConv.trainable([2, 2, 3], rank=2, channel_rank=2, seed=1)
    return flow, [2, 2, 3]


@pytest.mark.parametrize(
    "make",
    [
        *(lambda kind=kind: rotation(kind) for kind in ("dense", "plu", "qr", "householder")),
        kronecker,
        sylvester,
        graph,
        graph_net,
        low_images,
        woodbury,
    ],
)
def test_no_bijector_has_a_product_that_corrupts_the_heap(make):
    """Batches of one, their Jacobians and those of a loop over them."""
    flow, event = make()
    base = tfd.Sample(tfd.Normal(0.0, 1.0), event)
    with no_product_corrupts_the_heap():
        model = tfd.TransformedDistribution(base, tfb.Invert(flow))
        draws = model.sample(5, seed=1)
        assert np.all(np.isfinite(model.log_prob(draws)))
        x = tf.reshape(draws, [-1, 1, *event])[:2]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = flow.forward(x)
        assert y.shape == x.shape
        assert np.all(np.isfinite(tape.gradient(y, x)))
        mapped = tf.vectorized_map(flow.forward, x)
        np.testing.assert_allclose(mapped, y, atol=1e-5)
        sources = [x[0], *flow.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(sources[0])
            y = flow.forward(sources[0])
        jacobians = tape.jacobian(y, sources, unconnected_gradients="zero")
        assert all(np.all(np.isfinite(jacobian)) for jacobian in jacobians)


def test_example_of_a_batch_of_one_graph():
    adjacency = tf.constant([[0.0, 1.0], [1.0, 0.0]])
    flow = bijectors.GraphConvExponential.trainable([None, 3], None, conditional=True)
    base = tfd.Sample(tfd.Normal(0.0, 1.0), [2, 3])
    model = tfd.TransformedDistribution(base, tfb.Invert(condition(flow, adjacency[None])))
    with no_product_corrupts_the_heap():
        assert model.sample(40).shape == (40, 1, 2, 3)


@pytest.mark.parametrize("function", [linalg.log_abs_det, linalg.inverse])
def test_gradients_have_no_custom_gradients_inside(function):
    # A SavedModel does not keep those, and warns of each when it is loaded.
    @tf.function
    def gradient(matrix):
        with tf.GradientTape() as tape:
            tape.watch(matrix)
            value = function(matrix)
        return tape.gradient(value, matrix)

    operations = gradient.get_concrete_function(tf.TensorSpec([3, 3])).graph.get_operations()
    custom = [op for op in operations if "_gradient_op_type" in op.node_def.attr]
    assert len(custom) == 1
