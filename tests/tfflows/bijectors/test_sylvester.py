"""Sylvester flows: the formulas, batched parameters, gradients of the inverse, errors."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, evaluation, networks

tfb = tfp.bijectors
tfd = tfp.distributions


def parameters(batch=(), num_dims=5, num_columns=3, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [num_dims, num_columns], [num_columns] * 2, [num_columns] * 2, [num_columns]
    return [rng.normal(size=[*batch, *shape]) for shape in shapes]


def upper_triangular(r):
    return np.triu(r, 1) + 0.999 * np.diag(np.tanh(np.diag(r)))


def gram_schmidt(columns):
    q = []
    for column in columns.T:
        column = column - sum((column @ u) * u for u in q)
        q.append(column / np.linalg.norm(column))
    return np.stack(q, axis=1)


def test_dense_is_the_formula_of_the_paper():
    columns, r1, r2, bias = parameters()
    x = np.random.default_rng(1).normal(size=[4, 5])
    q = gram_schmidt(columns)
    expected = x + np.tanh(x @ q @ upper_triangular(r2).T + bias) @ upper_triangular(r1).T @ q.T
    for given in (columns, q):  # Orthonormal columns are used as they are.
        flow = bijectors.Sylvester.dense(*map(tf.constant, (given, r1, r2, bias)))
        np.testing.assert_allclose(flow.forward(tf.constant(x)), expected, rtol=1e-12)


def test_householder_is_dense_with_the_product_of_reflections():
    _, r1, r2, bias = parameters()
    vectors = np.random.default_rng(1).normal(size=[4, 5])
    q = np.eye(5)
    for v in vectors:
        q = q @ (np.eye(5) - 2 * np.outer(v, v) / (v @ v))
    x = tf.ones([2, 5], tf.float64)
    rest = [tf.constant(p) for p in (r1, r2, bias)]
    flow = bijectors.Sylvester.householder(tf.constant(vectors), *rest)
    dense = bijectors.Sylvester.dense(tf.constant(q[:, :3]), *rest)
    np.testing.assert_allclose(flow.forward(x), dense.forward(x), rtol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_triangular_is_dense_with_a_permutation(reverse):
    _, r1, r2, bias = map(tf.constant, parameters(num_columns=5))
    q = tf.eye(5, dtype=tf.float64)
    x = tf.constant(np.random.default_rng(1).normal(size=[4, 5]))
    flow = bijectors.Sylvester.triangular(r1, r2, bias, reverse=reverse)
    dense = bijectors.Sylvester.dense(q[:, ::-1] if reverse else q, r1, r2, bias)
    for method in ("forward", "inverse"):
        np.testing.assert_allclose(getattr(flow, method)(x), getattr(dense, method)(x), rtol=1e-12)


def test_parameters_of_an_encoder_have_a_batch():
    arrays = parameters(batch=(3,))
    flow = bijectors.Sylvester.dense(*map(tf.constant, arrays))
    assert flow.experimental_batch_shape() == [3]
    x = tf.constant(np.random.default_rng(1).normal(size=[7, 1, 5]))
    y, log_det = evaluation.forward_and_log_det(flow, x)
    assert y.shape == [7, 3, 5]
    assert log_det.shape == [7, 3]
    again, minus = evaluation.inverse_and_log_det(flow, y)
    np.testing.assert_allclose(again, np.broadcast_to(x, [7, 3, 5]), atol=1e-12)
    np.testing.assert_allclose(minus, -log_det, atol=1e-12)
    for i in range(3):
        single = bijectors.Sylvester.dense(*[tf.constant(a[i]) for a in arrays])
        np.testing.assert_allclose(single.forward(x[:, 0]), y[:, i], rtol=1e-12)


@pytest.mark.parametrize("jit", [False, True])
def test_amortized_posterior_is_differentiable_and_needs_no_inverse(jit):
    arrays = [tf.cast(a, tf.float32) for a in parameters(batch=(3,))]

    def negative_entropy(arrays):
        base = tfd.MultivariateNormalDiag(tf.zeros([3, 5]), tf.ones([5]))
        flow = bijectors.Sylvester.dense(*arrays)
        posterior = tfd.TransformedDistribution(base, flow)
        assert posterior.batch_shape == [3]
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            flow = bijectors.Sylvester.dense(*arrays)
            posterior = tfd.TransformedDistribution(base, flow)
            z, log_prob = posterior.experimental_sample_and_log_prob(seed=[1, 2])
            loss = tf.reduce_mean(log_prob) + tf.reduce_mean(z**2)
        return tape.gradient(loss, arrays)

    function = tf.function(negative_entropy, jit_compile=jit)
    for gradient in function(arrays):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)
    # Only the inverse has a loop.
    plain = tf.function(negative_entropy).get_concrete_function(arrays)
    assert not any("While" in op.type for op in plain.graph.get_operations())


@pytest.mark.parametrize("jit", [False, True])
def test_gradients_of_the_inverse_are_finite_differences(jit):
    rng = np.random.default_rng(2)
    variables = [tf.Variable(a) for a in parameters()]
    flow = bijectors.Sylvester.dense(*variables)
    y = tf.Variable(rng.normal(size=[4, 5]))
    weights = rng.normal(size=[4, 5])

    def loss():
        x, log_det = evaluation.inverse_and_log_det(flow, tf.identity(y))
        return tf.reduce_sum(weights * x**2) + tf.reduce_sum(log_det**2)

    @tf.function(jit_compile=jit)
    def gradients():
        with tf.GradientTape() as tape:
            value = loss()
        return tape.gradient(value, [y, *variables])

    for gradient, variable in zip(gradients(), [y, *variables], strict=True):
        direction = rng.normal(size=variable.shape)
        value = variable.numpy()
        values = []
        for step in (1e-5, -1e-5):
            variable.assign(value + step * direction)
            values.append(loss())
        variable.assign(value)
        difference = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-7)


@pytest.mark.parametrize("sign", [-1, 1])
def test_inverse_at_the_edge_of_invertibility(sign):
    # Saturated diagonals, larger entries above them: a slope d + 1 may be as small as 0.002.
    rng = np.random.default_rng(3)
    r1 = np.triu(2 * rng.normal(size=[6, 6]), 1) + 20 * np.eye(6)
    r2 = np.triu(2 * rng.normal(size=[6, 6]), 1) + sign * 20 * np.eye(6)
    flow = bijectors.Sylvester.triangular(*map(tf.constant, (r1, r2, rng.normal(size=[6]))))
    x = tf.constant(10 * rng.normal(size=[200, 6]))
    y = tf.identity(flow.forward(x))
    np.testing.assert_allclose(flow.inverse(y), x, rtol=0, atol=1e-9)
    assert np.max(flow.inverse_iterations(y)) < 200


def test_no_convergence_is_nan_in_value_log_det_and_density():
    r1, r2, bias = map(tf.constant, parameters(num_columns=5)[1:])
    flow = bijectors.Sylvester.triangular(r1, r2, bias, max_iterations=2)
    y = tf.constant(np.random.default_rng(1).normal(size=[4, 5]))
    x, log_det = evaluation.inverse_and_log_det(flow, y)
    assert np.all(np.isnan(x))
    assert np.all(np.isnan(log_det))
    np.testing.assert_array_equal(flow.inverse_iterations(y), [2] * 4)
    base = tfd.MultivariateNormalDiag(tf.zeros([5], tf.float64))
    assert np.all(np.isnan(tfd.TransformedDistribution(base, flow).log_prob(y)))


def test_basis_is_a_bijector_or_an_operator():
    def function(u):
        return tf.tanh(u) / 2, (1 - tf.tanh(u) ** 2) / 2

    matrix = np.random.default_rng(1).normal(size=[3, 3])
    x = tf.constant(np.random.default_rng(2).normal(size=[4, 3]))
    expected = x + np.tanh(x @ matrix.T) / 2 @ np.linalg.inv(matrix).T
    weight = tf.constant(matrix)
    for basis in (
        tf.linalg.LinearOperatorFullMatrix(weight),
        bijectors.InvertibleConv1x1(weight, event_ndims=1),
        tfb.ScaleMatvecLinearOperator(tf.linalg.LinearOperatorFullMatrix(weight)),
    ):
        flow = bijectors.Sylvester(basis, function)
        np.testing.assert_allclose(flow.forward(x), expected, rtol=1e-10)
        np.testing.assert_allclose(flow.inverse(tf.identity(expected)), x, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bijectors.Sylvester(tfb.Softplus(), tf.tanh), "`basis` must be a linear bijector"),
        (lambda: bijectors.Sylvester(tfb.Reshape([4], [2, 2]), tf.tanh), "`basis` must keep the"),
        (
            lambda: bijectors.Sylvester(
                tf.linalg.LinearOperatorFullMatrix(np.ones([2, 3])), tf.tanh
            ),
            r"`basis` must be square. Received: basis.shape=\(2, 3\)",
        ),
        (
            lambda: bijectors.Sylvester.dense(*map(tf.ones, ([3, 4], [4, 4], [4, 4], [4]))),
            "4 columns of 3 dimensions",
        ),
        (
            lambda: bijectors.Sylvester.dense(*map(tf.ones, ([4, 3], [3, 3], [2, 3], [3]))),
            r"`r2` must have shape \[..., 3, 3\]. Received: r2.shape=\(2, 3\)",
        ),
        (
            lambda: bijectors.ConvSylvester.trainable(
                [4, 4, 2], networks.MaskedConvNet(2, width=8)
            ),
            "`BoundedTanh` needs a network that is built",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
